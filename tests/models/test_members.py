"""All adapters of a bank on the same rows, in one batch."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from tfew_jax import models
from tfew_jax.peft import ia3, prompt

CONFIG = models.T5Config(
    vocab_size=37,
    emb_dim=16,
    num_heads=3,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=2,
)
METHODS = {
    "ia3": ia3.IA3(num_adapters=4),
    "encoder": prompt.Prompt(length=3, num_adapters=4),
    "decoder": prompt.Prompt(length=0, decoder_length=2, num_adapters=4),
}
MEMBERS = np.array([2, 0, 3])


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture
def params(method):
    rng = np.random.default_rng(0)

    def drawn(leaf):  # a prompt's length is a number of its rows
        if leaf.dtype == np.int32:
            return rng.integers(1, 3, leaf.shape, np.int32)
        return 0.5 * rng.standard_normal(leaf.shape).astype(np.float32)

    return jax.tree.map(drawn, models.abstract_params(CONFIG, method))


def batch_of(num_choices):
    rng = np.random.default_rng(1)
    inputs = rng.integers(1, 37, (2, 7))
    inputs[1, 4:] = 0
    targets = rng.integers(1, 37, (2, num_choices, 4))
    targets[0, -1, 2:] = 0
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


@pytest.mark.parametrize("num_choices", [1, 3])
def test_members_in_one_batch_are_the_members_one_at_a_time(
    method, params, num_choices
):
    model, batch = models.T5(CONFIG, method), batch_of(num_choices)
    together = jax.jit(functools.partial(models.member_log_probs, model))
    found = together(params, batch, MEMBERS)
    assert found.shape == (3, *batch["decoder_target_tokens"].shape)
    alone = jax.jit(functools.partial(models.token_log_probs, model))
    for member, own in zip(MEMBERS, found, strict=True):
        index = np.full(2, member)
        expected = alone(params, {**batch, "adapter_index": index})
        np.testing.assert_allclose(
            own, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )
    assert np.abs(found[0] - found[1]).max() > 0.01


def encoded_rows(method, params):
    """Most rows that an encoder layer sees in the program of three members."""
    model = models.T5(CONFIG, method)
    rows = []

    def note(next_function, args, kwargs, context):
        if context.method_name == "__call__" and context.module.path == ("encoder",):
            rows.append(args[0].shape[0])
        return next_function(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(
            functools.partial(models.member_log_probs, model),
            params,
            batch_of(3),
            MEMBERS,
        )
    return max(rows)


def test_rows_are_encoded_once_where_no_adapter_acts_in_the_encoder(method, params):
    shares = method == METHODS["decoder"]
    assert method.acts_in_encoder != shares
    assert encoded_rows(method, params) == (2 if shares else 6)
