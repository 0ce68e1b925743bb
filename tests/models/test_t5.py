"""The encoder-decoder: one function however it is laid out."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import models, peft, sharding
from tfew_jax.models import layers
from tfew_jax.peft import ia3

CONFIG = models.T5Config(
    vocab_size=61,
    emb_dim=16,
    num_heads=3,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relpos_buckets=8,
    relpos_max_distance=12,
)
UNROLLED = dataclasses.replace(CONFIG, scan_layers=False)
METHOD = ia3.IA3()


def make_batch(rows=3, length=9, choices=4, target_length=5, seed=0):
    rng = np.random.default_rng(seed)
    inputs = rng.integers(1, CONFIG.vocab_size, (rows, length))
    targets = rng.integers(1, CONFIG.vocab_size, (rows, choices, target_length))
    for row in range(rows):
        inputs[row, length - row :] = 0
        for choice in range(choices):
            targets[row, choice, target_length - choice % 3 :] = 0
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


def perturb(params, key):
    """Moves every leaf off its initial value, so that ones and zeros are told apart."""
    flat, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(flat))
    moved = [
        x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(flat, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="module")
def params():
    key = jax.random.key(1)
    return perturb(models.init(CONFIG, METHOD, key), key)


@functools.partial(jax.jit, static_argnums=0)
def log_probs(config, params, batch, keys=None):
    model = models.T5(config, METHOD)
    return models.token_log_probs(model, params, batch, dropout_keys=keys)


def assert_close(a, b, tolerance=1e-5):
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(b))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * scale),
        a,
        b,
    )


def test_scanned_unrolled_and_rematerialised_layers_have_equal_gradients(params, key):
    batch = make_batch()
    keys = jax.random.split(key, 3)

    def loss(config):
        return lambda params: jnp.sum(jnp.sin(log_probs(config, params, batch, keys)))

    scanned = jax.jit(jax.value_and_grad(loss(CONFIG)))(params)
    remat = dataclasses.replace(CONFIG, remat=True)
    assert_close(jax.jit(jax.value_and_grad(loss(remat)))(params), scanned)
    unstacked = models.unstack_layers(params)
    value, grads = jax.jit(jax.value_and_grad(loss(UNROLLED)))(unstacked)
    assert_close((value, models.stack_layers(grads)), scanned)


def test_a_scanned_model_has_the_parameters_of_the_unrolled_one():
    stacked = models.abstract_params(CONFIG, METHOD)
    unrolled = models.init(UNROLLED, METHOD, jax.random.key(0))
    restacked = models.stack_layers(unrolled)
    assert jax.tree.structure(stacked) == jax.tree.structure(restacked)
    assert [x.shape for x in jax.tree.leaves(stacked)] == [
        x.shape for x in jax.tree.leaves(restacked)
    ]


def test_choices_of_one_row_equal_rows_of_one_choice(params):
    batch = make_batch()
    together = log_probs(CONFIG, params, batch)
    apart = {
        "encoder_input_tokens": np.repeat(batch["encoder_input_tokens"], 4, axis=0),
        "decoder_target_tokens": batch["decoder_target_tokens"].reshape(12, 1, 5),
    }
    assert_close(together.reshape(12, 1, 5), log_probs(CONFIG, params, apart))


def test_padding_of_inputs_targets_and_choices_changes_no_score(params):
    batch = make_batch()
    padded = {
        "encoder_input_tokens": np.pad(batch["encoder_input_tokens"], ((0, 0), (0, 6))),
        "decoder_target_tokens": np.pad(
            batch["decoder_target_tokens"], ((0, 0), (0, 2), (0, 3))
        ),
    }
    scores = log_probs(CONFIG, params, padded)
    assert_close(scores[:, :4, :5], log_probs(CONFIG, params, batch))
    assert float(jnp.abs(scores[:, 4:]).max()) == 0.0


def test_a_target_sees_no_later_target(params):
    batch = make_batch()
    changed = {k: v.copy() for k, v in batch.items()}
    changed["decoder_target_tokens"][:, 0, 3] += 1
    changed["decoder_target_tokens"] %= CONFIG.vocab_size
    before, after = (log_probs(CONFIG, params, b)[:, 0] for b in (batch, changed))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert float(jnp.abs(before[:, 4] - after[:, 4]).min()) > 1e-4


def test_a_packed_example_sees_only_itself(params):
    first, second = make_batch(rows=1, seed=1), make_batch(rows=1, seed=2)
    packed = {
        "encoder_input_tokens": np.concatenate(
            [first["encoder_input_tokens"], second["encoder_input_tokens"]], axis=1
        ),
        "encoder_segment_ids": np.repeat([[1, 2]], 9, axis=1),
        "decoder_segment_ids": np.repeat([[[1, 2]]], 5, axis=2),
    }
    for name in ("decoder_input_tokens", "decoder_target_tokens"):
        packed[name] = np.concatenate(
            [
                np.asarray(
                    models.shift_right(b["decoder_target_tokens"][:, :1])
                    if name == "decoder_input_tokens"
                    else b["decoder_target_tokens"][:, :1]
                )
                for b in (first, second)
            ],
            axis=2,
        )
    scores = log_probs(CONFIG, params, packed)
    for i, alone in enumerate((first, second)):
        alone = alone | {"decoder_target_tokens": alone["decoder_target_tokens"][:, :1]}
        assert_close(scores[:, :, 5 * i : 5 * i + 5], log_probs(CONFIG, params, alone))


@pytest.mark.parametrize(
    "change",
    [
        {"mlp_activations": ("relu",)},
        {"logits_via_embedding": True, "scale_decoder_outputs": True},
        {"relpos_per_layer": True},
    ],
)
def test_variants_have_their_own_parameters_and_run_scanned_and_unrolled(change, key):
    config = dataclasses.replace(CONFIG, **change)
    params = models.init(config, METHOD, key)
    names = {
        "/".join(str(k.key) for k in p) for p, _ in jax.tree.leaves_with_path(params)
    }
    assert ("encoder/layers/mlp/wi/kernel" in names) == ("mlp_activations" in change)
    tied = "logits_via_embedding" in change
    assert ("decoder/logits_dense/kernel" in names) != tied
    per_layer = "relpos_per_layer" in change
    assert ("encoder/layers/relpos_bias/rel_embedding" in names) == per_layer
    assert ("encoder/relpos_bias/rel_embedding" in names) != per_layer
    unrolled = dataclasses.replace(config, scan_layers=False)
    assert_close(
        log_probs(config, params, make_batch()),
        log_probs(unrolled, models.unstack_layers(params), make_batch()),
    )


def test_bfloat16_computes_in_bfloat16_and_gives_float32_logits(params):
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    batch = make_batch()
    logits, encoded = models.forward(
        models.T5(config, METHOD),
        jax.tree.map(lambda x: x.astype(jnp.bfloat16), params),
        encoder_input_tokens=batch["encoder_input_tokens"],
        decoder_input_tokens=batch["decoder_target_tokens"],
    )
    assert (logits.dtype, encoded.dtype) == (jnp.float32, jnp.bfloat16)


def test_a_token_beyond_the_table_is_not_read_as_another(params):
    batch = make_batch()
    batch["encoder_input_tokens"][0, 0] = CONFIG.vocab_size
    scores = log_probs(CONFIG, params, batch)
    assert np.isnan(scores[0]).any()
    assert np.isfinite(scores[1:]).all()


def test_bidirectional_buckets_are_the_published_ones():
    # Seen from query 20, by T5's rule with 8 buckets up to distance 12: two exact
    # distances and two logarithmic ones a direction, keys behind in 4 ... 7.
    buckets = layers.relative_position_buckets(
        41, 41, bidirectional=True, num_buckets=8, max_distance=12
    )[20]
    distances = [0, 1, 2, 4, 5, 12, 20]
    assert [int(buckets[20 - d]) for d in distances] == [0, 1, 2, 2, 3, 3, 3]
    assert [int(buckets[20 + d]) for d in distances[1:]] == [5, 6, 6, 7, 7, 7]


def test_causal_buckets_put_all_later_keys_together():
    buckets = layers.relative_position_buckets(
        6, 6, bidirectional=False, num_buckets=8, max_distance=12
    )
    np.testing.assert_array_equal(buckets[0], np.zeros(6))
    np.testing.assert_array_equal(buckets[5][::-1], [0, 1, 2, 3, 4, 4])


def test_every_parameter_is_boxed_with_a_name_a_dimension():
    boxed = models.boxed_abstract_params(CONFIG, METHOD)
    is_box = lambda x: isinstance(x, nn.LogicallyPartitioned)  # noqa: E731
    known = {name for name, _ in sharding.LOGICAL_AXIS_RULES}
    for leaf in jax.tree.leaves(boxed, is_leaf=is_box):
        assert is_box(leaf)
        assert len(leaf.names) == len(leaf.value.shape)
        assert set(leaf.names) <= known


@pytest.mark.parametrize("shape", [(8, 1, 1), (2, 2, 2)])
def test_a_mesh_of_eight_devices_computes_what_one_device_computes(shape, key):
    data, fsdp, model_shards = shape
    config = dataclasses.replace(CONFIG, num_heads=4, vocab_size=64)
    params = perturb(models.init(config, METHOD, key), key)
    batch, keys = make_batch(rows=8, length=12), jax.random.split(key, 8)
    model = models.T5(config, METHOD)

    def loss(params, batch):
        return models.token_log_probs(model, params, batch, dropout_keys=keys).sum()

    expected = jax.jit(jax.value_and_grad(loss))(params, batch)
    mesh = sharding.make_mesh(
        num_data_shards=data, num_fsdp_shards=fsdp, num_model_shards=model_shards
    )
    boxed = models.boxed_abstract_params(config, METHOD)
    with jax.set_mesh(mesh), nn.logical_axis_rules(sharding.LOGICAL_AXIS_RULES):
        placed = jax.device_put(params, sharding.param_shardings(boxed, mesh))
        rows = jax.device_put(batch, sharding.batch_sharding(mesh))
        value, grads = jax.jit(jax.value_and_grad(loss))(placed, rows)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(expected[1])))
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * norm)


def test_a_mesh_that_does_not_fit_the_devices_is_refused():
    with pytest.raises(ValueError, match="3 does not divide the 8 available devices"):
        sharding.make_mesh(num_model_shards=3)
    with pytest.raises(ValueError, match="needs 4 devices; 8 are available"):
        sharding.make_mesh(num_data_shards=2, num_model_shards=2)


class Shift(nn.Module):
    """A stand-in for methods of the other two kinds of site."""

    lengthens: bool = False

    @nn.compact
    def __call__(self, x, y_or_mask, adapter_index):
        del adapter_index
        if not self.lengthens:
            return y_or_mask + 1.0
        return jnp.pad(x, ((0, 0), (2, 0), (0, 0))), jnp.pad(
            y_or_mask, ((0, 0), (2, 0)), constant_values=True
        )


class ShiftMethod(peft.PeftMethod):
    """Acts at the lengthening and at the dense sites."""

    def module_at(self, site):
        if site == peft.Site.ENCODER_INPUT:
            return Shift(lengthens=True)
        return Shift() if site == peft.Site.DENSE else None


def test_methods_may_lengthen_the_input_and_see_every_kernel(key):
    params = models.init(CONFIG, None, key)
    tokens = jnp.asarray(make_batch()["encoder_input_tokens"])
    encoded, mask = models.T5(CONFIG, ShiftMethod()).apply(
        {"params": params}, tokens, method="encode"
    )
    assert encoded.shape == (3, 11, 16)
    np.testing.assert_array_equal(mask[2], [True] * 9 + [False] * 2)
    plain, _ = models.T5(CONFIG).apply({"params": params}, tokens, method="encode")
    assert float(jnp.abs(encoded[:, 2:] - plain).max()) > 0.1


def test_a_method_sees_every_kernel_of_attention_and_feed_forward(key):
    params, seen = models.init(UNROLLED, None, key), set()

    def note(next_function, args, kwargs, context):
        module = context.module
        if isinstance(module, Shift) and not module.lengthens:
            seen.add(module.path[:-1])
        return next_function(*args, **kwargs)

    model = models.T5(UNROLLED, ShiftMethod())
    with nn.intercept_methods(note):
        jax.eval_shape(
            functools.partial(models.token_log_probs, model), params, make_batch()
        )
    paths = [
        tuple(str(part.key) for part in path)
        for path, _ in jax.tree.leaves_with_path(params)
    ]
    kernels = {path[:-1] for path in paths if path[-1] == "kernel"}
    assert seen == kernels - {("decoder", "logits_dense")}
