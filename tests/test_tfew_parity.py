"""Losses, scores and gradients of the T-Few code itself, on a tiny random T5."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from tfew_jax import interop, losses, models, train
from tfew_jax.checkpoint import layout
from tfew_jax.interop import ia3_sites


@pytest.fixture(scope="module", params=[True, False], ids=["scanned", "unrolled"])
def reference(shared, request):
    """The model with its vectors, the batch, and what the T-Few code computed."""
    folder = shared / "fixtures" / "peft"
    base = interop.load_model(folder / "base", scan_layers=request.param)
    adapter = interop.load_adapter(folder / "ia3/tfew/finish.pt", base.config)
    inputs = safetensors.load_file(folder / "base" / "inputs.safetensors")
    expected = safetensors.load_file(folder / "ia3/tfew/losses.safetensors")
    choices = expected["answer_choices_ids"].astype(np.int32)
    batch = {
        "encoder_input_tokens": (inputs["input_ids"] * inputs["attention_mask"]).astype(
            np.int32
        ),
        "decoder_target_tokens": choices,
        "choice_mask": np.ones(choices.shape[:2], bool),
        "label": expected["labels"].astype(np.int32),
        "example_id": np.arange(len(choices), dtype=np.int32),
    }
    form = models.stack_layers if request.param else models.unstack_layers
    log_probs_fn = functools.partial(
        models.token_log_probs, models.T5(base.config, adapter.method)
    )
    halves = jax.tree.map(jnp.asarray, (form(adapter.params), form(base.params)))
    return log_probs_fn, halves, batch, expected


# Tests compile without optimization (see conftest.py), which rounds more often; and the
# compiler's algebraic rewriting costs this ill-conditioned model a digit on some CPUs.
PRECISE = {"xla_backend_optimization_level": 3, "xla_disable_hlo_passes": "algsimp"}


@pytest.fixture(scope="module")
def computed(reference):
    """Losses, gradients and log-probabilities by this library."""
    log_probs_fn, (trainable, frozen), batch, _ = reference

    def objective(trainable, *, masked_offset):
        loss = losses.TFewLoss(masked_offset=masked_offset)
        log_probs = log_probs_fn(
            train.combine(trainable, frozen), batch, dropout_keys=None
        )
        value, metrics = loss(log_probs, batch, loss.counts(batch))
        return value, (metrics, log_probs)

    return {
        offset: jax.jit(
            jax.value_and_grad(
                functools.partial(objective, masked_offset=offset), has_aux=True
            ),
            compiler_options=PRECISE,
        )(trainable)
        for offset in (True, False)
    }


def test_the_three_losses_equal_those_of_the_reference_code(reference, computed):
    (total, (metrics, _)), _ = computed[True]
    expected = reference[-1]
    for value, name in (
        (metrics["lm_loss"], "lm_loss"),
        (metrics["length_normalized_loss"], "mc_loss"),
        (total, "loss"),
    ):
        np.testing.assert_allclose(value, expected[name][0], rtol=1e-5, err_msg=name)
    # A difference of numbers near 0.3, and so equal only as they are.
    np.testing.assert_allclose(
        metrics["unlikelihood_loss"], expected["unlikely_loss"][0], atol=1e-6
    )


def test_scores_equal_those_of_the_reference_code(reference, computed):
    *_, batch, expected = reference
    (_, (_, log_probs)), _ = computed[True]
    mask = losses.target_mask(batch)
    scores = losses.choice_scores(log_probs, mask)
    np.testing.assert_allclose(-scores, expected["choices_scores"], rtol=1e-5)
    sums = losses.choice_scores(log_probs, mask, normalization="sum")
    np.testing.assert_allclose(sums, scores * mask.sum(axis=-1), rtol=1e-6)


@pytest.mark.parametrize("masked_offset", [True, False])
def test_every_gradient_equals_that_of_the_reference_code(
    reference, computed, masked_offset
):
    """Also without the constant offset, which has no gradient."""
    _, grads = computed[masked_offset]
    flat = layout.flatten(models.unstack_layers(grads))
    expected = {
        name.removeprefix("grad."): array[:, 0]
        for name, array in reference[-1].items()
        if name.startswith("grad.")
    }
    ours = {
        ia3_sites.module_of(path, hidden="wi_1") + ".multi_lora_b": np.asarray(leaf)
        for path, leaf in flat.items()
    }
    assert ours.keys() == expected.keys()
    norm = np.sqrt(sum(np.sum(np.square(array)) for array in expected.values()))
    for name, array in expected.items():
        np.testing.assert_allclose(
            ours[name], array, rtol=0, atol=1e-5 * norm, err_msg=name
        )
