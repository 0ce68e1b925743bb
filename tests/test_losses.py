import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfew_jax import losses
from tfew_jax.data import batching

COMPONENTS = ("lm", "unlikelihood", "length_normalized")
# Two rows of three choices; probabilities of the tokens, 1 where there is padding.
PROBS = np.array(
    [[[0.5, 1, 1], [0.25, 0.5, 1], [1, 1, 1]], [[0.5, 1, 1], [0.1, 1, 1], [0.9, 1, 1]]]
)
BATCH = {
    "encoder_input_tokens": np.array([[3, 1], [4, 1]]),
    "decoder_target_tokens": np.array(
        [[[1, 0, 0], [5, 1, 0], [0, 0, 0]], [[1, 0, 0], [1, 0, 0], [1, 0, 0]]]
    ),
    "choice_mask": np.array([[True, True, False], [True, True, True]]),
    "label": np.array([1, 0]),
    "example_id": np.array([7, 8]),
}
LOG_PROBS = jnp.log(PROBS)
MASK = losses.target_mask(BATCH)
LABEL = jnp.asarray(BATCH["label"])


def log_probs_of(logits, tokens):
    log_probs = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32))
    picked = jnp.take_along_axis(log_probs, jnp.asarray(tokens)[..., None], axis=-1)
    return picked[..., 0]


def total(log_probs, batch, **settings):
    loss = losses.TFewLoss(**settings)
    return loss(log_probs, batch, loss.counts(batch))


def random_batch(seed, *, rows=4, choices=4, target_length=5):
    """Rows of one to `choices` choices of one to `target_length` tokens each."""
    rng = np.random.default_rng(seed)
    num_choices = rng.integers(1, choices + 1, rows)
    lengths = rng.integers(1, target_length + 1, (rows, choices))
    choice_mask = np.arange(choices) < num_choices[:, None]
    is_token = np.arange(target_length) < (lengths * choice_mask)[..., None]
    tokens = rng.integers(1, 9, is_token.shape) * is_token
    log_probs = -rng.gamma(1.0, 2.0, is_token.shape) * is_token
    batch = {
        "decoder_target_tokens": tokens,
        "choice_mask": choice_mask,
        "label": rng.integers(0, num_choices),
    }
    return jnp.asarray(log_probs, jnp.float32), batch


def permuted(batch, log_probs, order):
    return log_probs[order], {name: array[order] for name, array in batch.items()}


def test_lm_loss_is_the_sum_over_the_tokens_of_the_right_choice():
    loss = losses.lm_loss(LOG_PROBS, MASK, LABEL)
    np.testing.assert_allclose(loss, [np.log(8), np.log(2)], rtol=1e-6)


def test_unlikelihood_loss_is_the_sum_over_the_tokens_of_the_wrong_choices():
    loss = losses.unlikelihood_loss(LOG_PROBS, MASK, LABEL)
    expected = [-np.log(0.51), -np.log(0.91) - np.log(0.11)]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_unlikelihood_loss_without_epsilon_is_the_formula_of_the_paper():
    loss = losses.unlikelihood_loss(LOG_PROBS, MASK, LABEL, epsilon=0.0)
    expected = [-np.log(0.5), -np.log(0.9) - np.log(0.1)]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_masked_offset_adds_a_constant_for_every_position_that_is_not_wrong():
    clean = losses.unlikelihood_loss(LOG_PROBS, MASK, LABEL)
    offset = losses.unlikelihood_loss(LOG_PROBS, MASK, LABEL, masked_offset=True)
    np.testing.assert_allclose(
        offset - clean, [-8 * np.log(1.01), -7 * np.log(1.01)], rtol=1e-5
    )


def test_length_normalized_loss_matches_hand_computed_value():
    # Means of the first row: log .5 and log sqrt(1/8); of the second: .5, .1, .9.
    loss = losses.length_normalized_loss(LOG_PROBS, MASK, LABEL)
    expected = [np.log((0.5 + 8**-0.5) / 8**-0.5), np.log(1.5 / 0.5)]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_length_exponent_zero_is_a_cross_entropy_of_sums():
    loss = losses.length_normalized_loss(LOG_PROBS, MASK, LABEL, exponent=0.0)
    expected = [np.log((0.5 + 0.125) / 0.125), np.log(1.5 / 0.5)]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize(("normalization", "second"), [("mean", -1.5), ("sum", -3.0)])
def test_scores_are_means_or_sums_and_padding_is_never_the_best(normalization, second):
    scores = losses.choice_scores(LOG_PROBS, MASK, normalization=normalization)
    expected = [np.log(0.5), second * np.log(2), -np.inf]
    np.testing.assert_allclose(scores[0], expected, rtol=1e-6)


def test_unknown_normalization_is_an_error():
    with pytest.raises(ValueError, match="unknown normalization 'max'; available"):
        losses.choice_scores(LOG_PROBS, MASK, normalization="max")


def test_counts_are_tokens_of_right_choices_of_wrong_choices_and_rows():
    counts = losses.TFewLoss().counts(BATCH)
    assert counts == {"lm": 3, "unlikelihood": 3, "length_normalized": 2}


def test_total_is_the_weighted_sum_of_means_over_the_batch():
    loss, metrics = total(LOG_PROBS, BATCH, lm=2.0, unlikelihood=0.5)
    lm = np.log(16) / 3
    unlikelihood = -np.log(0.51 * 0.91 * 0.11) / 3
    length_normalized = (np.log((0.5 + 8**-0.5) / 8**-0.5) + np.log(3)) / 2
    expected = 2 * lm + 0.5 * unlikelihood + length_normalized
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["lm_loss"], lm, rtol=1e-6)
    np.testing.assert_allclose(metrics["unlikelihood_loss"], unlikelihood, rtol=1e-6)
    np.testing.assert_allclose(
        metrics["length_normalized_loss"], length_normalized, rtol=1e-6
    )


@pytest.mark.parametrize(("suffix", "epsilon"), [("", 0.01), ("_paper", 0.0)])
def test_losses_and_gradient_equal_the_token_wise_reference(
    repository, suffix, epsilon
):
    golden = np.load(repository / "tests/golden/losses.npz")
    batch = {k: golden[k] for k in ("decoder_target_tokens", "choice_mask", "label")}

    def objective(logits):
        log_probs = log_probs_of(logits, batch["decoder_target_tokens"])
        return total(log_probs, batch, epsilon=epsilon)

    (loss, metrics), gradient = jax.value_and_grad(objective, has_aux=True)(
        jnp.asarray(golden["logits"])
    )
    expected = [golden[f"{name}{suffix}"] for name in COMPONENTS]
    for name, value in zip(COMPONENTS, expected, strict=True):
        np.testing.assert_allclose(metrics[f"{name}_loss"], value, rtol=1e-6)
    np.testing.assert_allclose(loss, sum(expected), rtol=1e-6)
    np.testing.assert_allclose(gradient, golden[f"gradient{suffix}"], atol=2e-7)


def test_losses_and_gradient_equal_the_reference_code(shared):
    golden = json.loads((shared / "fixtures/tfew/loss_golden.json").read_text())
    tokens = np.array(golden["choice_ids"])
    n = np.arange(tokens.size * golden["V"])
    logits = (2 * np.sin(0.7 * n + 0.3 * (n % 5))).reshape(*tokens.shape, golden["V"])
    batch = {
        "decoder_target_tokens": tokens,
        "choice_mask": np.ones(tokens.shape[:2], bool),
        "label": np.array(golden["labels"]),
    }

    def objective(logits, **settings):
        return total(log_probs_of(logits, tokens), batch, **settings)

    logits = jnp.asarray(logits, jnp.float32)
    (loss, metrics), gradient = jax.value_and_grad(objective, has_aux=True)(logits)
    _, code = objective(logits, masked_offset=True)
    _, paper = objective(logits, epsilon=0.0)
    counts = losses.TFewLoss().counts(batch)
    for value, name in (
        (metrics["lm_loss"], "lm_loss"),
        (metrics["length_normalized_loss"], "mc_loss"),
        (metrics["unlikelihood_loss"], "unlikely_without_masked_constant"),
        (code["unlikelihood_loss"], "unlikely_loss_code"),
        (paper["unlikelihood_loss"], "unlikely_paper_no_eps"),
        (counts["unlikelihood"], "ul_denominator"),
    ):
        np.testing.assert_allclose(value, golden[name], rtol=1e-6, err_msg=name)
    # The golden total is the code's, with its constant for masked positions.
    clean = golden["total"] - golden["ul_constant_from_masked_positions"]
    np.testing.assert_allclose(loss, clean, rtol=1e-6)
    with_offset = objective(logits, masked_offset=True)[0]
    np.testing.assert_allclose(with_offset, golden["total"], rtol=1e-6)
    norm = jnp.linalg.norm(gradient.reshape(-1))
    np.testing.assert_allclose(norm, golden["grad_logits_l2"], rtol=1e-6)
    np.testing.assert_allclose(
        gradient.reshape(-1)[:8], golden["grad_logits_first8"], rtol=3e-6
    )


def test_certain_wrong_token_costs_minus_log_epsilon_and_has_a_finite_gradient():
    tokens = np.ones((1, 2, 1), np.int32)
    batch = {
        "decoder_target_tokens": tokens,
        "choice_mask": np.ones((1, 2), bool),
        "label": np.array([0]),
    }

    def unlikelihood(log_prob):
        log_probs = jnp.stack([jnp.float32(-1), log_prob]).reshape(1, 2, 1)
        return total(log_probs, batch, lm=0.0, length_normalized=0.0)[0]

    value, gradient = jax.value_and_grad(unlikelihood)(jnp.float32(0))
    np.testing.assert_allclose(value, -np.log(0.01), rtol=1e-5)
    np.testing.assert_allclose(gradient, 100, rtol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 5.0])
def test_whatever_stands_at_padding_changes_neither_loss_nor_gradient(garbage):
    dirty = jnp.where(MASK, LOG_PROBS, garbage)
    for settings in ({}, {"epsilon": 0.0}, {"masked_offset": True}):
        (loss, _), gradient = jax.value_and_grad(
            lambda x, settings=settings: total(x, BATCH, **settings), has_aux=True
        )(dirty)
        assert loss == total(LOG_PROBS, BATCH, **settings)[0]
        np.testing.assert_array_equal(gradient[~MASK], 0)
        assert np.all(gradient[MASK] != 0)
        assert np.all(np.isfinite(gradient))


def test_one_choice_has_only_the_lm_loss():
    batch = {
        "decoder_target_tokens": np.array([[[5, 6, 1]], [[5, 1, 0]]]),
        "choice_mask": np.ones((2, 1), bool),
        "label": np.zeros(2, int),
    }
    log_probs = jnp.log(jnp.array([[[0.5, 0.5, 0.5]], [[0.25, 0.25, 1.0]]]))
    (loss, metrics), gradient = jax.value_and_grad(
        lambda x: total(x, batch), has_aux=True
    )(log_probs)
    np.testing.assert_allclose(loss, 7 * np.log(2) / 5, rtol=1e-6)
    assert metrics["unlikelihood_loss"] == 0
    assert metrics["length_normalized_loss"] == 0
    np.testing.assert_allclose(
        gradient, -losses.target_mask(batch).astype(float) / 5, rtol=1e-6
    )


def test_the_likelihood_alone_is_the_same_without_wrong_choices():
    log_probs, batch = random_batch(3)
    likelihood = {"unlikelihood": 0.0, "length_normalized": 0.0}
    assert losses.TFewLoss().reads_wrong_choices
    assert not losses.TFewLoss(**likelihood).reads_wrong_choices
    rows = np.arange(len(batch["label"]))
    alone = batching.right_choices(batch)
    right = log_probs[rows, batch["label"]][:, None]
    found, _ = total(right, alone, **likelihood)
    expected, _ = total(log_probs, batch, **likelihood)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_rows_that_are_padding_add_nothing():
    empty = {name: np.zeros_like(array[:1]) for name, array in BATCH.items()}
    batch = {name: np.concatenate([BATCH[name], empty[name]]) for name in BATCH}
    log_probs = jnp.concatenate([LOG_PROBS, jnp.zeros((1, 3, 3))])
    (loss, _), gradient = jax.value_and_grad(lambda x: total(x, batch), has_aux=True)(
        log_probs
    )
    assert loss == total(LOG_PROBS, BATCH)[0]
    np.testing.assert_array_equal(gradient[2], 0)


def test_a_loss_with_weight_zero_is_left_out():
    log_probs = jnp.zeros((1, 2, 1))  # the wrong token is certain: infinite
    batch = {
        "decoder_target_tokens": np.ones((1, 2, 1), int),
        "choice_mask": np.ones((1, 2), bool),
        "label": np.array([0]),
    }
    assert np.isinf(total(log_probs, batch, epsilon=0.0)[0])
    loss, metrics = total(log_probs, batch, epsilon=0.0, unlikelihood=0.0)
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
    assert set(metrics) == {"lm_loss", "length_normalized_loss"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lm": -1.0}, "lm=-1.0; it must be 0 or a positive number"),
        ({"epsilon": float("nan")}, "epsilon=nan; it must be 0 or a positive"),
        (dict.fromkeys(COMPONENTS, 0.0), "nothing would be trained"),
    ],
)
def test_bad_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        losses.TFewLoss(**settings)


@given(seed=st.integers(0, 2**16), pad=st.integers(0, 4), extra=st.integers(0, 3))
def test_padding_of_targets_and_of_choices_changes_nothing(seed, pad, extra):
    log_probs, batch = random_batch(seed)
    widths = ((0, 0), (0, extra), (0, pad))
    padded = {
        "decoder_target_tokens": np.pad(batch["decoder_target_tokens"], widths),
        "choice_mask": np.pad(batch["choice_mask"], widths[:2]),
        "label": batch["label"],
    }
    value = total(log_probs, batch)
    longer = total(jnp.pad(log_probs, widths), padded)
    jax.tree.map(
        np.testing.assert_array_equal,
        losses.TFewLoss().counts(padded),
        (losses.TFewLoss().counts(batch)),
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), value, longer
    )
    scores = losses.choice_scores(log_probs, losses.target_mask(batch))
    longer_scores = losses.choice_scores(
        jnp.pad(log_probs, widths), losses.target_mask(padded)
    )
    np.testing.assert_allclose(longer_scores[:, : scores.shape[1]], scores, rtol=1e-6)
    assert np.all(np.isneginf(longer_scores[:, scores.shape[1] :]))


@given(seed=st.integers(0, 2**16))
def test_the_order_of_choices_changes_nothing(seed):
    log_probs, batch = random_batch(seed)
    order = np.random.default_rng(seed).permutation(log_probs.shape[1])
    reordered = {
        "decoder_target_tokens": batch["decoder_target_tokens"][:, order],
        "choice_mask": batch["choice_mask"][:, order],
        "label": np.argsort(order)[batch["label"]],
    }
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6),
        total(log_probs[:, order], reordered),
        total(log_probs, batch),
    )


@given(seed=st.integers(0, 2**16))
def test_the_order_of_rows_changes_nothing(seed):
    log_probs, batch = random_batch(seed)
    order = np.random.default_rng(seed).permutation(len(log_probs))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6),
        total(*permuted(batch, log_probs, order)),
        total(log_probs, batch),
    )


@given(seed=st.integers(0, 2**16), cut=st.integers(1, 3))
def test_the_parts_of_a_batch_add_up_to_the_batch(seed, cut):
    log_probs, batch = random_batch(seed)
    loss = losses.TFewLoss()
    counts = loss.counts(batch)
    parts = [
        loss(log_probs[rows], {k: v[rows] for k, v in batch.items()}, counts)
        for rows in (slice(cut), slice(cut, None))
    ]
    jax.tree.map(
        lambda a, b, whole: np.testing.assert_allclose(a + b, whole, rtol=2e-6),
        *parts,
        loss(log_probs, batch, counts),
    )


@given(seed=st.integers(0, 2**16))
def test_the_losses_of_the_rows_add_up_to_the_batch(seed):
    log_probs, batch = random_batch(seed)
    loss = losses.TFewLoss(lm=0.5)
    rows = loss.row_losses(log_probs, batch, loss.counts(batch))
    value, metrics = loss(log_probs, batch, loss.counts(batch))
    weighted = [getattr(loss, name) * rows[name].sum() for name in COMPONENTS]
    np.testing.assert_allclose(sum(weighted), value, rtol=2e-6)
    for name in COMPONENTS:
        np.testing.assert_allclose(rows[name].sum(), metrics[f"{name}_loss"], rtol=2e-6)


def test_settings_can_be_hashed_so_that_a_compiled_step_may_hold_them():
    assert len({losses.TFewLoss(), dataclasses.replace(losses.TFewLoss())}) == 1
