import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import evaluate, models

CONFIG = models.T5Config(
    vocab_size=32,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
)
MODEL = models.T5(CONFIG, None)
INPUTS = np.array([[5, 6, 7, 1, 0], [8, 9, 1, 0, 0], [3, 1, 0, 0, 0]], np.int32)
TARGETS = np.array(
    [
        [[4, 1, 0], [5, 6, 1], [7, 1, 0]],
        [[4, 1, 0], [5, 6, 1], [7, 1, 0]],
        [[9, 1, 0], [8, 1, 0], [0, 0, 0]],
    ],
    np.int32,
)


@pytest.fixture(scope="module")
def params():
    return models.init(CONFIG, None, jax.random.key(1))


def batch_of(rows, *, ids=None, padding=0, length=5, target_length=3):
    inputs = np.zeros((len(rows) + padding, length), np.int32)
    targets = np.zeros((len(rows) + padding, 3, target_length), np.int32)
    inputs[: len(rows), :5], targets[: len(rows), :, :3] = INPUTS[rows], TARGETS[rows]
    return {
        "encoder_input_tokens": inputs,
        "decoder_target_tokens": targets,
        "choice_mask": (targets > 0).any(-1),
        "label": np.zeros(len(inputs), np.int32),
        "example_id": np.array([*(ids or rows), *[-1] * padding], np.int32),
    }


def test_the_mean_loss_counts_tokens_not_batches(params):
    single = {**batch_of([0]), "decoder_target_tokens": TARGETS[:1, 1:2]}
    single["choice_mask"] = np.ones((1, 1), bool)
    other = {**single, "decoder_target_tokens": TARGETS[:1, :1]}
    losses = [evaluate.mean_loss(MODEL, params, [batch]) for batch in (single, other)]
    together = evaluate.mean_loss(MODEL, params, [single, other])
    # Three tokens and two.
    np.testing.assert_allclose(together, (3 * losses[0] + 2 * losses[1]) / 5, rtol=1e-6)
    with pytest.raises(ValueError, match="there is no target token"):
        evaluate.mean_loss(MODEL, params, [])


def test_a_score_is_the_mean_log_probability_of_the_tokens_with_the_last(params):
    scores, _ = evaluate.score_choices(MODEL, params, [batch_of([0])])
    logits, _ = models.forward(
        MODEL,
        params,
        encoder_input_tokens=INPUTS[:1],
        decoder_input_tokens=jnp.array([[[0, 5, 6]]]),
    )
    log_probs = jax.nn.log_softmax(logits[0, 0])
    by_hand = (log_probs[0, 5] + log_probs[1, 6] + log_probs[2, 1]) / 3
    np.testing.assert_allclose(scores[0, 1], by_hand, rtol=1e-5)
    sums, _ = evaluate.score_choices(
        MODEL, params, [batch_of([0])], normalization="sum"
    )
    np.testing.assert_allclose(sums[0, 1], 3 * by_hand, rtol=1e-5)


def test_a_choice_that_a_row_does_not_have_is_never_predicted(params):
    scores, _ = evaluate.score_choices(MODEL, params, [batch_of([2])])
    assert scores[0, 2] == -np.inf
    assert evaluate.predict(scores)[0] in (0, 1)


@pytest.mark.parametrize(
    ("padding", "longer", "wider"), [(3, 0, 0), (0, 4, 0), (0, 0, 2), (2, 3, 1)]
)
def test_padding_of_rows_inputs_and_choices_changes_no_score(
    params, padding, longer, wider
):
    plain, _ = evaluate.score_choices(MODEL, params, [batch_of([0, 1, 2])])
    padded, ids = evaluate.score_choices(
        MODEL,
        params,
        [
            batch_of(
                [0, 1, 2], padding=padding, length=5 + longer, target_length=3 + wider
            )
        ],
    )
    assert ids.tolist() == [0, 1, 2]
    np.testing.assert_allclose(padded, plain, rtol=1e-5)


def test_rows_come_back_in_the_order_of_their_ids(params):
    whole, _ = evaluate.score_choices(MODEL, params, [batch_of([0, 1, 2])])
    parts, ids = evaluate.score_choices(
        MODEL, params, [batch_of([2, 0], padding=1), batch_of([1], padding=2)]
    )
    assert ids.tolist() == [0, 1, 2]
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_of_equal_scores_the_first_choice_is_predicted():
    scores = np.array([[-2.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    assert evaluate.predict(scores).tolist() == [1, 0]


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="row 1 hold NaN"):
        evaluate.predict(np.array([[0.0, 1.0], [np.nan, 1.0]]))


def test_an_id_that_occurs_twice_and_no_rows_at_all_are_refused(params):
    with pytest.raises(ValueError, match="twice"):
        evaluate.score_choices(MODEL, params, [batch_of([0, 1], ids=[4, 4])])
    with pytest.raises(ValueError, match="no rows"):
        evaluate.score_choices(MODEL, params, [])


def test_other_parameters_and_an_equal_model_do_not_compile_again(params):
    evaluate.score_choices(MODEL, params, [batch_of([0, 1])])
    compiled = evaluate._scores._cache_size()
    other = jax.tree.map(lambda leaf: leaf * 2, params)
    equal = models.T5(dataclasses.replace(CONFIG), None)
    evaluate.score_choices(equal, other, [batch_of([1, 2]), batch_of([0], padding=1)])
    assert evaluate._scores._cache_size() == compiled


def generate(params, batches, **settings):
    return evaluate.generate_tokens(MODEL, params, batches, max_length=4, **settings)


def test_generated_rows_come_back_in_the_order_of_their_ids(params):
    whole = generate(params, [batch_of([0, 1, 2])])
    parts = generate(
        params, [batch_of([2, 0], padding=1), batch_of([1], padding=2, target_length=5)]
    )
    assert parts[2].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-5)
    decode = jax.jit(functools.partial(models.greedy_decode, MODEL, max_length=4))
    tokens, scores = decode(params, {"encoder_input_tokens": INPUTS})
    np.testing.assert_array_equal(whole[0], tokens)
    np.testing.assert_allclose(whole[1], scores, rtol=1e-5)


def test_choices_do_not_compile_generation_again(params):
    generate(params, [batch_of([0, 1, 2])])
    compiled = evaluate._outputs._cache_size()
    other = jax.tree.map(lambda leaf: leaf * 2, params)
    generate(other, [batch_of([0, 1, 2], target_length=7)])
    assert evaluate._outputs._cache_size() == compiled


def test_of_beams_the_best_one_is_returned(params):
    tokens, scores, _ = generate(params, [batch_of([0, 1, 2])], num_beams=2, alpha=1.0)
    settings = {"max_length": 4, "num_beams": 2, "alpha": 1.0}
    decode = jax.jit(functools.partial(models.beam_decode, MODEL, **settings))
    beams, beam_scores = decode(params, {"encoder_input_tokens": INPUTS})
    np.testing.assert_array_equal(tokens, beams[:, -1])
    np.testing.assert_allclose(scores, beam_scores.max(axis=1), rtol=1e-5)


def test_what_cannot_be_generated_is_refused(params):
    with pytest.raises(ValueError, match="no rows"):
        generate(params, [])
    packed = batch_of([0, 1, 2]) | {"encoder_segment_ids": np.ones_like(INPUTS)}
    with pytest.raises(ValueError, match="packed examples cannot be decoded"):
        generate(params, [packed])
    diverged = jax.tree.map(lambda leaf: leaf * np.nan, params)
    with pytest.raises(ValueError, match="row 0 hold NaN"):
        generate(diverged, [batch_of([0, 1, 2])])
