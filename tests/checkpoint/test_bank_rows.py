"""Every row of a batch computes, writes and learns what its adapter does alone.

Programs are compiled once for all tests: one of the bank, one of each shape of adapter
alone and one of the frozen model.
"""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfew_jax import checkpoint, models, peft, train
from tfew_jax.checkpoint import layout

CONFIG = models.T5Config(
    vocab_size=31,
    emb_dim=8,
    num_heads=2,
    head_dim=4,
    mlp_dim=12,
    num_encoder_layers=2,
    num_decoder_layers=1,
)
NUM_ROWS, CAPACITY = 6, 64
KINDS = {  # the first has all that the others have, so that it gives a bank its shapes
    "ia3": [{}, {"sites": ("key",)}],
    "prompt": [
        {"length": 5, "decoder_length": 2},
        {"length": 2},
        {"length": 0, "decoder_length": 1},
    ],
}

score = jax.jit(models.token_log_probs, static_argnums=0)
greedy = jax.jit(
    functools.partial(models.greedy_decode, max_length=5), static_argnums=0
)
beam = jax.jit(
    functools.partial(models.beam_decode, max_length=4, num_beams=3), static_argnums=0
)


@functools.partial(jax.jit, static_argnums=0)
@functools.partial(jax.grad, argnums=1)
def gradient(model, trainable, frozen, batch):
    log_probs = models.token_log_probs(model, train.combine(trainable, frozen), batch)
    return -log_probs.sum()


@pytest.fixture(scope="module")
def base():
    return models.init(CONFIG, None, jax.random.key(1))


@pytest.fixture(scope="module", params=KINDS)
def full(request, make_adapter):
    """64 adapters of all shapes of a method in one bank."""
    kinds = KINDS[request.param]
    return checkpoint.Bank(
        adapters={
            f"n{i}": make_adapter(
                CONFIG, request.param, seed=i, **kinds[i % len(kinds)]
            )
            for i in range(CAPACITY)
        }
    )


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(5)
    inputs = rng.integers(2, 31, (NUM_ROWS, 7)).astype(np.int32)
    for row in range(NUM_ROWS):
        inputs[row, 3 + row % 5 :] = 0
    targets = rng.integers(2, 31, (NUM_ROWS, 3, 4)).astype(np.int32)
    targets[:, 1, 2:] = 0
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


def bound(base, adapter, config=CONFIG):
    """The model of a bank, an adapter or neither, and its parameters."""
    stack = models.stack_layers if config.scan_layers else models.unstack_layers
    if adapter is None:
        return models.T5(config, None), stack(base)
    params = layout.merge(stack(base), stack(adapter.params))
    return models.T5(config, adapter.method), params


def of_size(full, num_adapters):
    """A bank of the first adapters, in the shapes of the full one."""
    kept = dict(list(full.items())[:num_adapters])
    return dataclasses.replace(full, adapters=kept, capacity=CAPACITY)


def assert_rows_agree(program, bank, names, base, batch, *, config=CONFIG):
    mixed_batch = {**batch, "adapter_index": bank.index(names)}
    mixed = jax.tree.leaves(program(*bound(base, bank, config), mixed_batch))
    for name in sorted(set(names)):
        alone = program(*bound(base, bank.get(name)), batch)
        for actual, expected in zip(mixed, jax.tree.leaves(alone), strict=True):
            rows = [row for row, other in enumerate(names) if other == name]
            actual, expected = np.asarray(actual)[rows], np.asarray(expected)[rows]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-6)


# With repeats; slot 0 is the frozen model.
slots_of_rows = st.lists(st.integers(0, CAPACITY), min_size=NUM_ROWS, max_size=NUM_ROWS)


@settings(max_examples=6)
@given(size=st.integers(1, CAPACITY), slots=slots_of_rows)
def test_rows_score_as_their_adapters_alone_whatever_the_mix(
    size, slots, full, base, batch
):
    bank = of_size(full, size)
    names = [("__base__", *bank.names)[slot % (size + 1)] for slot in slots]
    assert_rows_agree(score, bank, names, base, batch)


def test_unrolled_layers_score_rows_as_scanned_ones(full, base, batch):
    unrolled = dataclasses.replace(CONFIG, scan_layers=False)
    names = ["n63", "n1", "__base__", "n2", "n1", "n0"]
    assert_rows_agree(score, full, names, base, batch, config=unrolled)


@pytest.mark.parametrize("program", [greedy, beam], ids=["greedy", "beam"])
def test_rows_write_what_their_adapters_write_alone(program, full, base, batch):
    one, two = "n1", f"n{1 + len(KINDS[full.method.name])}"  # of the same shapes
    names = [two, "__base__", one, one, two, one]
    assert_rows_agree(program, full, names, base, batch)


def gradients(bank, base, batch, names):
    """Of the sum of all rows' losses, by path: [adapters, ...]."""
    model, params = bound(base, bank)
    trainable, frozen = train.partition(params, bank.method)
    batch = {**batch, "adapter_index": bank.index(names)}
    grads = gradient(model, trainable, frozen, batch)
    return layout.flatten(models.unstack_layers(jax.tree.map(np.asarray, grads)))


def test_a_slot_learns_from_its_rows_what_its_adapter_learns_alone(full, base, batch):
    one, two = "n1", f"n{1 + len(KINDS[full.method.name])}"
    names = [two, "__base__", one, "n0", two, one]
    grads = gradients(full, base, batch, names)
    for name in (one, two):
        mine = np.array([other == name for other in names])[:, None, None]
        targets = np.where(mine, batch["decoder_target_tokens"], 0)
        model, params = bound(base, full[name])
        trainable, frozen = train.partition(params, full[name].method)
        own = {**batch, "decoder_target_tokens": targets}
        alone = gradient(model, trainable, frozen, own)
        alone = layout.flatten(models.unstack_layers(alone))
        largest = max(np.abs(leaf).max() for leaf in alone.values())
        assert largest > 0.01
        for path, expected in alone.items():
            slot = grads[path][full.index([name])[0]]
            slot = slot[len(slot) - len(expected) :]  # rows of a prompt stand last
            np.testing.assert_allclose(slot, expected, rtol=0, atol=1e-5 * largest)
    absent = np.delete(np.arange(CAPACITY + 1), full.index(names))
    for path, leaf in grads.items():
        np.testing.assert_array_equal(leaf[absent], 0, err_msg=path)
        own_rows = full[one].params.get("encoder_input")  # a prompt's, or nothing
        if own_rows is not None and path.startswith("encoder_input"):
            np.testing.assert_array_equal(leaf[full.index([one])[0], :-2], 0)


def replaced(bank, kept):
    """The bank with other arrays and another order in all slots but one."""
    return dataclasses.replace(
        bank,
        adapters={
            name: adapter
            if name == kept
            else dataclasses.replace(
                adapter,
                params=jax.tree.map(lambda leaf: 1.5 - 3 * leaf, adapter.params),
            )
            for name, adapter in bank.items()
        },
    )


def test_a_row_and_its_gradient_do_not_depend_on_any_other_to_the_bit(
    full, base, batch
):
    names, others = ["n1", "n0", "n1", "n2", "n4", "n5"], ["n1", "n7", "n1", "n8"]
    others += ["__base__", "n8"]
    other_bank = replaced(full, "n1")
    mine = np.array([name == "n1" for name in names])
    other_batch = {
        key: np.where(
            mine.reshape(-1, *(1,) * (value.ndim - 1)), value, np.roll(value, 1, axis=0)
        )
        for key, value in batch.items()
    }
    before = score(*bound(base, full), {**batch, "adapter_index": full.index(names)})
    programs = score._cache_size()
    index = other_bank.index(others)
    after = score(*bound(base, other_bank), {**other_batch, "adapter_index": index})
    np.testing.assert_array_equal(np.asarray(before)[mine], np.asarray(after)[mine])
    assert np.all(np.any(np.asarray(before) != np.asarray(after), axis=(1, 2)) != mine)
    first = gradients(full, base, batch, names)
    compiled = gradient._cache_size()
    second = gradients(other_bank, base, other_batch, others)
    slot = full.index(["n1"])[0]
    for path, leaf in first.items():
        np.testing.assert_array_equal(leaf[slot], second[path][slot], err_msg=path)
    # Other adapters and rows in the same shapes compile nothing.
    assert score._cache_size() == programs
    assert gradient._cache_size() == compiled


def test_adapters_that_come_and_go_compile_nothing(full, base, batch):
    bank = of_size(full, 3)
    score(*bound(base, bank), {**batch, "adapter_index": bank.index(["n1"] * NUM_ROWS)})
    compiled = score._cache_size()
    for other in (
        bank.remove("n1"),
        bank.add("new", full["n9"]).rename("n0", "renamed"),
        of_size(full, 50),
    ):
        names = [other.names[-1]] * NUM_ROWS
        score(*bound(base, other), {**batch, "adapter_index": other.index(names)})
    assert score._cache_size() == compiled


def test_a_bank_costs_the_operations_of_one_adapter():
    config = dataclasses.replace(CONFIG, emb_dim=64, head_dim=32, mlp_dim=128)
    single = peft.get("ia3")()
    flops = []
    for adapted in (single, single.bank([], 33)):
        shapes = models.abstract_params(config, adapted)
        batch = {
            "encoder_input_tokens": jax.ShapeDtypeStruct((32, 16), np.int32),
            "decoder_target_tokens": jax.ShapeDtypeStruct((32, 1, 4), np.int32),
        }
        if adapted.num_adapters is not None:
            batch["adapter_index"] = jax.ShapeDtypeStruct((32,), np.int32)
        lowered = score.lower(models.T5(config, adapted), shapes, batch)
        flops.append(lowered.compile().cost_analysis()["flops"])
    assert flops[0] > 1e6
    assert flops[1] <= 1.05 * flops[0]
