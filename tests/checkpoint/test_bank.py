"""A bank: every row of a batch has its own adapter, or none."""

import functools

import jax
import numpy as np
import pytest

from tfew_jax import checkpoint, models, peft
from tfew_jax.checkpoint import layout

CONFIG = models.T5Config(
    vocab_size=61,
    emb_dim=16,
    num_heads=3,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
)
KINDS = {
    "ia3": [{}, {"sites": ("key",)}, {}],
    "prompt": [{"length": 3}, {"length": 7}, {"length": 1}],
    "prompts of both halves": [
        {"length": 2, "decoder_length": 3},
        {"length": 0, "decoder_length": 1},
        {"length": 4},
    ],
}
kinds = pytest.mark.parametrize("kind", KINDS)


def make_adapter(kind, number):
    method = peft.get(kind.split()[0].removesuffix("s"))(**KINDS[kind][number])
    rng = np.random.default_rng(number)
    arrays = {
        path: rng.uniform(0.3, 1.7, shape).astype(np.float32)
        for path, shape in layout.adapter_shapes(CONFIG, method).items()
    }
    return checkpoint.Adapter(
        method=method, params=layout.unflatten(arrays), config=CONFIG
    )


def make_bank(kind, **settings):
    return checkpoint.Bank(
        adapters={name: make_adapter(kind, i) for i, name in enumerate("abc")},
        **settings,
    )


@pytest.fixture(scope="module")
def base():
    return models.init(CONFIG, None, jax.random.key(1))


def batch_of(num_rows):
    rng = np.random.default_rng(5)
    inputs = rng.integers(2, 61, (num_rows, 9))
    for row in range(num_rows):
        inputs[row, 4 + row % 6 :] = 0
    targets = rng.integers(2, 61, (num_rows, 3, 4))
    targets[:, 1, 2:] = 0
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


def arrays_of(adapter):
    return models.stack_layers(adapter.params)


def log_probs(adapter, base, batch):
    method = None if adapter is None else adapter.method
    own = {} if adapter is None else arrays_of(adapter)
    run = jax.jit(functools.partial(models.token_log_probs, models.T5(CONFIG, method)))
    return run(layout.merge(base, own), batch)


@kinds
def test_each_row_computes_what_its_adapter_computes_alone(kind, base):
    bank, rows = make_bank(kind), ["c", "a", "b", "a", "__base__"]
    batch = batch_of(len(rows))
    mixed = log_probs(bank, base, {**batch, "adapter_index": bank.index(rows)})
    for row, name in enumerate(rows):
        alone = log_probs(bank.get(name), base, batch)[row]
        np.testing.assert_allclose(mixed[row], alone, rtol=0, atol=2e-6)


@kinds
def test_each_row_writes_what_its_adapter_writes_alone(kind, base):
    bank, rows = make_bank(kind, capacity=5), ["c", "a", "__base__", "b"]
    batch = batch_of(len(rows))

    def write(adapter, batch):
        model = models.T5(CONFIG, None if adapter is None else adapter.method)
        own = {} if adapter is None else arrays_of(adapter)
        run = jax.jit(functools.partial(models.greedy_decode, model, max_length=5))
        return run(layout.merge(base, own), batch)

    tokens, scores = write(bank, {**batch, "adapter_index": bank.index(rows)})
    for row, name in enumerate(rows):
        alone, score = write(bank.get(name), batch)
        np.testing.assert_array_equal(tokens[row], alone[row])
        np.testing.assert_allclose(scores[row], score[row], rtol=0, atol=1e-5)


@kinds
def test_adapters_that_come_and_go_leave_the_shapes_as_they_are(kind):
    bank = make_bank(kind, capacity=4)
    other = bank.remove("c").add("d", make_adapter(kind, 0)).rename("a", "z")
    assert other.names == ("z", "b", "d") and other.capacity == 4
    more = bank.add("d", make_adapter(kind, 2))
    assert more.method == bank.method and more.capacity == 4
    assert layout.shapes_of(more.params) == layout.shapes_of(bank.params)
    assert more.add("e", make_adapter(kind, 1)).capacity == 8
    assert bank.select(["c", "a"]).index(["a", "c"]).tolist() == [2, 1]
