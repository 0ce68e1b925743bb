"""Choices that are decoded together have the scores that they have apart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import models
from tfew_jax.models import choices
from tfew_jax.peft import ia3, prompt

CONFIG = models.T5Config(
    vocab_size=37,
    emb_dim=16,
    num_heads=3,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=2,
    relpos_buckets=8,
    relpos_max_distance=12,
)
METHODS = {
    "ia3": ia3.IA3(),
    "bank": ia3.IA3(num_adapters=3),
    "prompts": prompt.Prompt(length=2, decoder_length=3),
}

token_log_probs = jax.jit(models.token_log_probs, static_argnums=0)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    targets = rng.integers(1, 37, (3, 4, 5))
    targets[:, 1, 2:] = targets[:, 2, 4:] = 0
    inputs = rng.integers(1, 37, (3, 7))
    inputs[1, 4:] = 0
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


def perturbed(config, method, key):
    """Parameters off their initial values, so that ones and zeros are told apart."""
    leaves, tree = jax.tree.flatten(models.init(config, method, key))
    keys = jax.random.split(key, len(leaves))
    moved = [
        x + 0.3 * jax.random.normal(k, x.shape)
        for x, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


def test_two_choices_share_their_start_and_see_nothing_of_each_other():
    assert choices.positions(2, 3).tolist() == [0, 1, 2, 1, 2]
    seen = choices.mask(2, 3)
    assert ["".join("x" if s else "." for s in row) for row in seen] == [
        "x....",
        "xx...",
        "xxx..",
        "x..x.",
        "x..xx",
    ]


def test_what_a_method_puts_in_front_is_shared_as_well():
    assert choices.positions(2, 2, num_in_front=2).tolist() == [0, 1, 2, 3, 3]
    seen = choices.mask(2, 2, num_in_front=2)
    assert seen[:3, :3].tolist() == np.tril(np.ones((3, 3), bool)).tolist()
    assert seen[3:].tolist() == [[True] * 4 + [False], [True] * 3 + [False, True]]


@pytest.mark.parametrize("scan", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_choices_together_have_the_log_probabilities_of_choices_apart(
    name, scan, batch, key
):
    method = METHODS[name]
    config = dataclasses.replace(CONFIG, scan_layers=scan)
    params = perturbed(config, method, key)
    if method.num_adapters:
        batch["adapter_index"] = np.array([2, 0, 1])
    together = token_log_probs(models.T5(config, method), params, batch)
    for choice in range(4):
        alone = batch["decoder_target_tokens"][:, choice : choice + 1]
        apart = token_log_probs(
            models.T5(config, method), params, {**batch, "decoder_target_tokens": alone}
        )
        np.testing.assert_allclose(together[:, choice], apart[:, 0], atol=2e-5)


def test_gradients_are_those_of_choices_apart(batch, key):
    method = METHODS["ia3"]
    params = perturbed(CONFIG, method, key)
    targets = jnp.asarray(batch["decoder_target_tokens"])
    given = {**batch, "decoder_input_tokens": models.shift_right(targets)}

    def total(params, batch):
        log_probs = token_log_probs(models.T5(CONFIG, method), params, batch)
        return (log_probs * jnp.arange(1, 5)[None, :, None]).sum()

    together, apart = (jax.grad(total)(params, b) for b in (batch, given))
    norm = jnp.sqrt(sum((g**2).sum() for g in jax.tree.leaves(apart)))
    for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * float(norm))


def test_a_table_a_layer_keeps_choices_apart(batch, key):
    config = dataclasses.replace(CONFIG, relpos_per_layer=True)
    params = perturbed(config, METHODS["ia3"], key)
    model = models.T5(config, METHODS["ia3"])
    log_probs = token_log_probs(model, params, batch)
    for choice in range(4):
        alone = batch["decoder_target_tokens"][:, choice : choice + 1]
        apart = token_log_probs(
            model, params, {**batch, "decoder_target_tokens": alone}
        )
        np.testing.assert_allclose(log_probs[:, choice], apart[:, 0], atol=2e-5)
