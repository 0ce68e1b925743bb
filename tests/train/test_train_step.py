import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfew_jax import losses, optim, train


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_trees_close(a, b, rtol):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol), a, b)


def adapter_of(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def test_the_step_is_gradient_clip_adafactor_and_schedule(stand_in):
    """Three updates written out by hand for one adapter, without vmap or the state."""
    infos = stand_in.run([0], num_steps=3, rate=0.02)
    trainable, frozen = train.partition(stand_in.make_params(0), stand_in.Scales())
    optimizer = optim.adafactor(
        leading_axes=jax.tree.map(lambda _: 0, trainable), max_grad_norm=1.0
    )
    opt_state = optimizer.init(trainable)
    loss = losses.TFewLoss()
    for step, info in enumerate(infos):
        batch = jax.tree.map(jnp.asarray, stand_in.make_batch(step))
        keys = train.row_keys(train.adapter_keys([0])[0], jnp.int32(step), 4)

        def objective(trainable, batch=batch, keys=keys):
            params = train.combine(trainable, frozen)
            log_probs = stand_in.log_probs_fn(params, batch, dropout_keys=keys)
            return loss(log_probs, batch, loss.counts(batch))[0]

        value, grads = jax.value_and_grad(objective)(trainable)
        updates, opt_state = optimizer.update(
            grads, opt_state, trainable, learning_rate=0.02
        )
        trainable = optax.apply_updates(trainable, updates)
        np.testing.assert_allclose(info.metrics["loss"], [value], rtol=1e-5)
        np.testing.assert_allclose(
            info.metrics["grad_norm"], [optax.tree.norm(grads)], rtol=1e-5
        )
        assert_trees_close(adapter_of(info.state.trainable, 0), trainable, rtol=1e-5)


def test_metrics_are_the_losses_the_gradient_norm_and_the_rate(stand_in):
    (info,) = stand_in.run([0, 1], num_steps=1, rate=0.25)
    assert set(info.metrics) == {
        *("loss", "lm_loss", "unlikelihood_loss", "length_normalized_loss"),
        *("grad_norm", "learning_rate"),
    }
    parts = [v for k, v in info.metrics.items() if k.endswith("_loss")]
    np.testing.assert_allclose(sum(parts), info.metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(info.metrics["learning_rate"], 0.25)
    assert {value.shape for value in info.metrics.values()} == {(2,)}


def test_each_adapter_can_have_its_own_learning_rate(stand_in):
    schedule = optim.constant(np.array([0.0, 0.1]))
    _, optimizer = stand_in.make_step()
    made = train.make_train_step(
        log_probs_fn=stand_in.log_probs_fn,
        loss=losses.TFewLoss(),
        optimizer=optimizer,
        schedule=schedule,
        num_steps=2,
    )
    infos = stand_in.run([0, 1], num_steps=2, made=(made, optimizer))
    for index, moves in enumerate([False, True]):
        before, _ = train.partition(stand_in.make_params(index), stand_in.Scales())
        after = adapter_of(infos[-1].state.trainable, index)
        equal = [
            np.array_equal(a, b)
            for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True)
        ]
        assert equal == [not moves] * 2


def test_replacing_every_other_adapter_leaves_an_adapter_bit_identical(stand_in):
    made = stand_in.make_step()
    for slot in (0, 1, 2):
        others = [[1, 2], [8, 9]]
        for pair in others:
            pair.insert(slot, 5)
        first, second = (stand_in.run(seeds, made=made) for seeds in others)
        for a, b in zip(first, second, strict=True):
            assert_trees_equal(adapter_of(a.state, slot), adapter_of(b.state, slot))
            neighbour = (slot + 1) % 3
            moved = [adapter_of(x.state.trainable, neighbour) for x in (a, b)]
            assert not np.array_equal(*(m["mlp"]["out"]["scale"] for m in moved))


def test_adapters_trained_together_equal_adapters_trained_apart(stand_in):
    together = stand_in.run([3, 4, 5])
    for index, seed in enumerate((3, 4, 5)):
        alone = stand_in.run([seed])
        for a, b in zip(together, alone, strict=True):
            assert_trees_close(
                adapter_of(a.state.trainable, index),
                adapter_of(b.state.trainable, 0),
                rtol=1e-5,
            )


def test_gradients_are_clipped_for_each_adapter_by_itself(stand_in):
    """A neighbour with a huge gradient does not shrink an adapter's own."""

    def loud(params, batch, *, dropout_keys):
        log_probs = stand_in.log_probs_fn(params, batch, dropout_keys=dropout_keys)
        return (
            log_probs * jnp.where(batch["example_id"] >= 1000, 1e4, 1.0)[:, None, None]
        )

    def batch_at(seeds):
        return lambda step: train.stack_batches(
            [stand_in.make_batch(seed + step) for seed in seeds]
        )

    made = stand_in.make_step(log_probs_fn=loud)
    seeds = [0, 1]
    calm = stand_in.run(seeds, made=made, batch_at=batch_at([0, 5]))
    noisy = stand_in.run(seeds, made=made, batch_at=batch_at([0, 50]))
    assert noisy[0].metrics["grad_norm"][1] > 1000 * calm[0].metrics["grad_norm"][1]
    assert_trees_equal(adapter_of(noisy[-1].state, 0), adapter_of(calm[-1].state, 0))


@pytest.mark.parametrize("num_micro_batches", [2, 4])
def test_micro_batches_change_nothing_also_with_dropout(stand_in, num_micro_batches):
    whole = stand_in.run([0, 1])
    cut = stand_in.run([0, 1], num_micro_batches=num_micro_batches)
    for a, b in zip(whole, cut, strict=True):
        assert_trees_close(a.state.trainable, b.state.trainable, rtol=1e-5)
        assert_trees_close(a.metrics, b.metrics, rtol=1e-5)


def test_micro_batches_that_do_not_divide_the_batch_are_an_error(stand_in):
    with pytest.raises(ValueError, match="4 rows cannot be cut into 3 micro-batches"):
        stand_in.run([0], num_micro_batches=3)


@pytest.mark.parametrize("name", ["num_steps", "num_micro_batches"])
def test_numbers_that_are_not_positive_are_errors(stand_in, name):
    with pytest.raises(ValueError, match=f"{name}=0; it must be at least 1"):
        stand_in.make_step(**{name: 0})


@pytest.fixture(scope="module")
def without_dropout(stand_in):
    """Trains one adapter for one update on a given batch, without dropout."""

    def log_probs_fn(params, batch, *, dropout_keys):
        del dropout_keys
        return stand_in.log_probs_fn(params, batch, dropout_keys=None)

    made = stand_in.make_step(log_probs_fn=log_probs_fn)

    def update(batch):
        (info,) = stand_in.run([0], num_steps=1, made=made, batch_at=lambda _: batch)
        return info

    return update


@given(seed=st.integers(0, 2**16))
def test_the_order_of_rows_changes_nothing_without_dropout(
    stand_in, without_dropout, seed
):
    batch = stand_in.make_batch(seed)
    order = np.random.default_rng(seed).permutation(4)
    shuffled = {name: array[order] for name, array in batch.items()}
    a, b = without_dropout(batch), without_dropout(shuffled)
    assert_trees_close(a.metrics, b.metrics, rtol=1e-5)
    # The first update is the sign of the gradient, the second moment its square.
    assert_moments_close(a, b)


@given(seed=st.integers(0, 2**16))
def test_the_order_of_choices_changes_nothing(stand_in, without_dropout, seed):
    batch = stand_in.make_batch(seed)
    order = np.random.default_rng(seed).permutation(3)
    reordered = {
        **batch,
        "decoder_target_tokens": batch["decoder_target_tokens"][:, order],
        "choice_mask": batch["choice_mask"][:, order],
        "label": np.argsort(order)[batch["label"]].astype(np.int32),
    }
    a, b = without_dropout(batch), without_dropout(reordered)
    assert_trees_close(a.metrics, b.metrics, rtol=1e-5)
    assert_moments_close(a, b)


@pytest.mark.parametrize(("length", "choices", "target"), [(3, 0, 0), (0, 2, 3)])
def test_padding_changes_nothing(stand_in, without_dropout, length, choices, target):
    batch = stand_in.make_batch(5)
    widths = ((0, 0), (0, choices), (0, target))
    padded = {
        **batch,
        "encoder_input_tokens": np.pad(
            batch["encoder_input_tokens"], ((0, 0), (0, length))
        ),
        "decoder_target_tokens": np.pad(batch["decoder_target_tokens"], widths),
        "choice_mask": np.pad(batch["choice_mask"], widths[:2]),
    }
    a, b = without_dropout(batch), without_dropout(padded)
    assert_trees_close(a.metrics, b.metrics, rtol=1e-5)
    assert_moments_close(a, b)


def test_a_batch_with_one_choice_trains_on_the_likelihood_alone(
    stand_in, without_dropout
):
    batch = stand_in.make_batch(0)
    single = {
        **batch,
        "decoder_target_tokens": batch["decoder_target_tokens"][:, :1],
        "choice_mask": batch["choice_mask"][:, :1],
        "label": np.zeros(4, np.int32),
    }
    metrics = without_dropout(single).metrics
    np.testing.assert_array_equal(metrics["loss"], metrics["lm_loss"])
    assert metrics["grad_norm"] > 0


def assert_moments_close(a, b):
    """Second moments after one update, the squared clipped gradients, are close."""
    leaves = (jax.tree.leaves(info.state.opt_state) for info in (a, b))
    for x, y in zip(*leaves, strict=True):
        x, y = np.sqrt(x), np.sqrt(y)  # a gradient, whose norm is at most one
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


def test_an_adapter_that_is_done_stays_bit_identical_while_others_go_on(stand_in):
    step_fn, optimizer = stand_in.make_step(num_steps=3)
    halves = [
        train.partition(stand_in.make_params(seed), stand_in.Scales())
        for seed in (0, 1)
    ]
    state = train.init_state([trainable for trainable, _ in halves], optimizer)
    state = dataclasses.replace(state, step=jnp.array([3, 1], jnp.int32))
    before = jax.tree.map(np.array, state)
    batch = train.stack_batches([stand_in.make_batch(seed) for seed in (0, 1)])
    for expected_step in (2, 3, 3):
        state, _ = step_fn(state, halves[0][1], batch, train.adapter_keys([0, 1]))
        after = jax.tree.map(np.array, state)
        assert_trees_equal(adapter_of(after, 0), adapter_of(before, 0))
        np.testing.assert_array_equal(after.step, [3, expected_step])
    assert not np.array_equal(
        after.trainable["mlp"]["out"]["scale"][1],
        before.trainable["mlp"]["out"]["scale"][1],
    )


def test_the_step_compiles_once_and_takes_over_the_buffers_of_the_state(stand_in):
    step_fn, optimizer = stand_in.make_step.__wrapped__()
    trainable, frozen = train.partition(stand_in.make_params(0), stand_in.Scales())
    state = train.init_state(trainable, optimizer)
    first = state
    for step in range(3):
        batch = train.stack_batches([stand_in.make_batch(step)])
        state, _ = step_fn(state, frozen, batch, train.adapter_keys([0]))
    assert step_fn._cache_size() == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((trainable, frozen)))
