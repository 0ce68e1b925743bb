"""Products in two halves are float32's, and packing changes no value."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import tfew_jax
from tfew_jax import losses, models, optim, peft, train
from tfew_jax.models import products

CONFIG = models.T5Config(
    vocab_size=64,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
)


@pytest.fixture
def units(monkeypatch):
    """As on a CPU with bfloat16 units; one without them computes the same slowly."""
    monkeypatch.setattr(products, "has_bfloat16_units", lambda: True)


@pytest.fixture
def no_units(monkeypatch):
    monkeypatch.setattr(products, "has_bfloat16_units", lambda: False)


def rounded(tree):
    """Float32 values that bfloat16 holds."""
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32), tree)


def make(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(found, expected, tolerance=2**-16):
    expected = np.asarray(expected, np.float64)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("lead", [(1,), (7,), (3, 5), (2, 1, 9), (33, 4)])
@pytest.mark.parametrize("sizes", [(1, 8), (8, 1), (16, 24), (96, 50)])
def test_the_halves_make_float32s_product(units, lead, sizes, transposed):
    inputs, outputs = sizes
    x = make((*lead, inputs))
    stored = make((outputs, inputs) if transposed else sizes, 1).astype(jnp.bfloat16)
    kernel = np.asarray(stored.T if transposed else stored, np.float64)
    found = jax.jit(
        lambda x: products.product(x, stored, dtype="float32", transposed=transposed)
    )(x)
    assert found.dtype == jnp.float32
    exact = np.asarray(x, np.float64) @ kernel
    size = np.abs(np.asarray(x, np.float64)) @ np.abs(kernel)  # before cancellation
    assert (np.abs(found - exact) <= 2**-16 * size).all()


def test_the_lower_half_counts(units):
    x = jnp.full((1, 4), 1 + 2**-12, jnp.float32)  # bfloat16 makes 1 of it
    ones = jnp.ones((4, 1), jnp.bfloat16)
    assert products.product(x, ones, dtype="float32").item() == 4 + 2**-10
    assert products.product(
        x.astype(jnp.bfloat16), ones, dtype="bfloat16"
    ).item() == pytest.approx(4.0)


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_are_those_of_the_plain_product(units, transposed):
    x, kernel = make((3, 5, 16)), rounded(make((16, 16), 1))
    weights = make((3, 5, 16), 2)

    def halved(x, kernel):
        y = products.product(x, kernel, dtype="float32", transposed=transposed)
        return jnp.sum(weights * y)

    def plain(x, kernel):
        return jnp.sum(weights * (x @ (kernel.T if transposed else kernel)))

    stored = kernel.astype(jnp.bfloat16)
    of_x, of_kernel = jax.jit(jax.grad(halved, argnums=(0, 1)))(x, stored)
    expected = jax.grad(plain, argnums=(0, 1))(x, kernel)
    close(of_x, expected[0])
    assert of_kernel.dtype == jnp.bfloat16
    close(of_kernel.astype(jnp.float32), expected[1], tolerance=2**-8)
    close(jax.jit(jax.grad(halved))(x, stored), expected[0])  # a frozen kernel


def test_a_product_maps_over_adapters_and_is_recomputed(units):
    x, kernel = make((4, 3, 16)), make((16, 8), 1).astype(jnp.bfloat16)

    @functools.partial(jax.checkpoint)
    def total(x):
        return jnp.sum(jnp.square(products.product(x, kernel, dtype="float32")))

    found = jax.jit(jax.vmap(jax.grad(total)))(x)
    full = kernel.astype(jnp.float32)
    close(found, 2 * (x @ full) @ full.T)


def test_kernels_that_bfloat16_holds_are_packed_and_no_others(units):
    params = {
        "a": {"kernel": rounded(make((4, 6)))},
        "b": {"kernel": make((4, 6))},
        "late": {"kernel": rounded(make((3, 300))).at[2, 299].set(1 + 2**-12)},
        "norm": {"scale": jnp.ones(4)},
        "broken": {"kernel": jnp.full((4, 6), jnp.nan)},
    }
    packed = models.pack(params, dtype="float32")
    dtypes = {
        name: str(*(leaf.dtype for leaf in packed[name].values())) for name in packed
    }
    assert dtypes == dict.fromkeys(params, "float32") | {"a": "bfloat16"}
    back = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), packed)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    assert models.pack(params, dtype="bfloat16") is params


def test_nothing_is_packed_without_units(no_units):
    params = {"a": {"kernel": rounded(make((4, 6)))}}
    assert models.pack(params, dtype="float32") is params


def test_the_embedded_base_is_packed_where_it_helps(units):
    base = tfew_jax.load_base()
    flat = traverse_util.flatten_dict(dict(base.packed))
    for path, leaf in flat.items():
        is_kernel = path[-1] in ("kernel", "embedding")
        assert leaf.dtype == (jnp.bfloat16 if is_kernel else jnp.float32), path
    plain = traverse_util.flatten_dict(dict(base.params))
    assert all(leaf.dtype == jnp.float32 for leaf in plain.values())


def test_training_steps_with_packed_kernels_are_those_without(monkeypatch):
    config = dataclasses.replace(CONFIG, scan_layers=True, remat=True)
    method = peft.get("ia3")()
    model = models.T5(config, method)
    params = rounded(models.init(config, method, jax.random.key(0)))
    trainable, frozen = train.partition(params, method)
    boxed = models.boxed_abstract_params(config, method)
    axes, _ = train.partition(optim.stacked_axes(boxed), method)
    optimizer = optim.adafactor(leading_axes=axes)
    batch = {
        "encoder_input_tokens": jnp.arange(24).reshape(3, 8) % 60 + 1,
        "decoder_target_tokens": jnp.arange(24).reshape(3, 2, 4) % 50 + 2,
        "choice_mask": jnp.ones((3, 2), bool),
        "label": jnp.array([0, 1, 1]),
        "example_id": jnp.arange(3),
    }
    batch = jax.tree.map(lambda leaf: leaf[None], batch)
    found = []
    for has_units in (True, False):
        monkeypatch.setattr(products, "has_bfloat16_units", lambda h=has_units: h)
        step = train.make_train_step(
            log_probs_fn=functools.partial(models.token_log_probs, model),
            loss=losses.TFewLoss(),
            optimizer=optimizer,
            schedule=optim.linear_decay(1e-2, 3, warmup_steps=0),
            num_steps=3,
        )
        packed = models.pack(frozen, dtype=config.dtype)
        state = train.init_state(trainable, optimizer)
        for _ in range(3):
            state, metrics = step(state, packed, batch, train.adapter_keys([0]))
        found.append((state.trainable, metrics["loss"]))
    (halved, halved_loss), (plain, plain_loss) = found
    close(halved_loss, plain_loss, tolerance=1e-5)
    jax.tree.map(functools.partial(close, tolerance=2e-4), halved, plain)
