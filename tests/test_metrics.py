import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as peer

from tfew_jax import metrics

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1)


def test_accuracy_counts_the_right_rows():
    assert metrics.accuracy([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75


def test_confusion_matrix_has_labels_as_rows_and_predictions_as_columns():
    matrix = metrics.confusion_matrix([1, 1, 0], [0, 1, 0], num_choices=3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_macro_f1_is_the_mean_over_classes_computed_by_hand():
    # class 0: precision 1, recall 1/2, F1 2/3; class 1: precision 1/2, recall 1, 2/3
    assert metrics.macro_f1([1, 1, 0], [0, 1, 0]) == pytest.approx(2 / 3)
    # class 2 is predicted once and never right: it counts as 0
    assert metrics.macro_f1([2, 1, 0], [0, 1, 0]) == pytest.approx((2 / 3 + 1 + 0) / 3)


@settings(deadline=None)
@given(PAIRS)
def test_metrics_equal_those_of_scikit_learn(pairs):
    predictions, labels = (list(column) for column in zip(*pairs, strict=True))
    assert metrics.accuracy(predictions, labels) == pytest.approx(
        peer.accuracy_score(labels, predictions)
    )
    assert metrics.macro_f1(predictions, labels) == pytest.approx(
        peer.f1_score(labels, predictions, average="macro", zero_division=0)
    )
    np.testing.assert_array_equal(
        metrics.confusion_matrix(predictions, labels, num_choices=5),
        peer.confusion_matrix(labels, predictions, labels=range(5)),
    )


def test_quartiles_of_five_seeds_are_the_second_and_the_fourth_value():
    summary = metrics.summarize([0.5, 0.1, 0.4, 0.2, 0.3])
    assert summary == pytest.approx({"median": 0.3, "q1": 0.2, "q3": 0.4, "n": 5})


SOURCE = "Review: the  dull film, again. Is it bad?"


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("not good", "legal"),
        (" not\tgood ", "legal"),
        ("Not good", "other"),
        ("", "empty"),
        (" ", "empty"),
        ("<extra_id_0> not good", "sentinel"),
        ("<extra_id_0>", "sentinel"),
        ("<extra_id_>", "other"),
        ("the dull film", "copied"),
        ("the dull film, ag", "copied"),  # cut in the middle of a word
        ("bad", "copied"),
        ("ba", "other"),
        ("ull film", "other"),
        ("Review: the  dull film, again. Is it bad?", "copied"),
        ("film the dull", "other"),
        ("good (", "other"),
    ],
)
def test_an_output_is_legal_or_of_one_illegal_kind(output, kind):
    legal = ["good", "not good"]
    assert metrics.output_kind(output, source=SOURCE, legal=legal) == kind


def test_shares_of_illegal_outputs_are_of_all_rows_and_sum_up():
    shares = metrics.illegal_outputs(
        ["yes", "", "a b", "no", "<extra_id_3>", "a", "yes", "yes"],
        inputs=["a b c"] * 8,
        legal=[["yes", "no"]] * 7 + [["no"]],
    )
    assert shares == {
        "illegal": 5 / 8,
        "empty": 1 / 8,
        "sentinel": 1 / 8,
        "copied": 2 / 8,
        "other": 1 / 8,
    }


@given(
    st.lists(st.text(alphabet="ab <", max_size=4), min_size=1), st.text(alphabet="ab ")
)
def test_the_kinds_share_out_what_is_illegal(outputs, source):
    shares = metrics.illegal_outputs(
        outputs, inputs=[source] * len(outputs), legal=[["a", "b b"]] * len(outputs)
    )
    assert list(shares) == ["illegal", *metrics.ILLEGAL_KINDS]
    total = sum(shares[kind] for kind in metrics.ILLEGAL_KINDS)
    assert total == pytest.approx(shares["illegal"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.summarize([]), "no values"),
        (lambda: metrics.accuracy([], []), "no rows"),
        (lambda: metrics.accuracy([1], [1, 0]), "1 predictions for 2 labels"),
        (
            lambda: metrics.confusion_matrix([0], [3], num_choices=3),
            "label 3 is not the index of one of 3 choices",
        ),
        (
            lambda: metrics.illegal_outputs(["a"], inputs=[], legal=[["a"]]),
            "1 outputs, 0 inputs and legal outputs for 1 rows; give one each",
        ),
        (
            lambda: metrics.illegal_outputs([], inputs=[], legal=[]),
            "no outputs to measure",
        ),
        (
            lambda: metrics.illegal_outputs(["a"], inputs=["b"], legal=[[]]),
            "row 0 has no legal output",
        ),
    ],
)
def test_input_that_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


NONE = -np.inf  # a choice that a row does not have
SCORES = np.array(  # by member, row and choice
    [
        [[-1.0, -2.0, NONE], [-1.0, -9.0, -8.0], [-5.0, -1.0, -2.0]],
        [[-1.0, -3.0, NONE], [-4.0, -2.0, -9.0], [-5.0, -1.5, -2.0]],
        [[-9.0, -1.0, NONE], [-4.0, -9.0, -3.0], [-4.0, -2.0, -1.0]],
    ],
    np.float32,
)


def test_most_votes_win_whatever_the_scores():
    winners, agreement = metrics.majority_vote(SCORES[:, [0, 2]])
    # The third member is surer of the second choice than the two others of the first.
    assert winners.tolist() == [0, 1]
    np.testing.assert_allclose(agreement, [2 / 3, 2 / 3])


def test_a_tie_goes_to_the_higher_mean_score_among_the_choices_that_tie():
    winners, agreement = metrics.majority_vote(SCORES[:, 1:2])
    assert winners.tolist() == [0]  # means: -3, -20/3, -20/3
    np.testing.assert_allclose(agreement, [1 / 3])
    two = np.array([[[-3.0, -4.0, -3.1]], [[-9.0, -5.0, -5.1]]])
    # Choice 2 has the highest mean but no vote; of the others choice 1 is higher.
    winners, agreement = metrics.majority_vote(two)
    assert (winners.tolist(), agreement.tolist()) == ([1], [0.5])
    same = np.array([[[-1.0, -2.0]], [[-2.0, -1.0]]])
    assert metrics.majority_vote(same)[0].tolist() == [0]


def test_the_mean_probability_is_that_of_the_softmaxes_over_real_choices():
    scores = np.log(np.array([[[0.2, 0.6, 0.0]], [[0.3, 0.1, 0.0]]]) + 1e-300)
    scores[..., 2] = NONE
    # Of the two real choices 1/4 and 3/4, and 3/4 and 1/4.
    np.testing.assert_allclose(
        metrics.mean_probability(scores), [[0.5, 0.5, 0.0]], rtol=1e-12
    )
    np.testing.assert_allclose(
        metrics.mean_probability(SCORES).sum(axis=-1), 1.0, rtol=1e-12
    )


def test_one_member_votes_for_its_own_prediction():
    winners, agreement = metrics.majority_vote(SCORES[:1])
    assert winners.tolist() == SCORES[0].argmax(axis=-1).tolist()
    assert agreement.tolist() == [1, 1, 1]


def test_votes_that_nobody_can_count_are_refused():
    for vote in (metrics.majority_vote, metrics.mean_probability):
        with pytest.raises(ValueError, match="no members to vote"):
            vote(SCORES[:0])
        wrong = SCORES.copy()
        wrong[2, 1, 0] = np.nan
        with pytest.raises(ValueError, match="scores of member 2 hold NaN in row 1"):
            vote(wrong)


def test_the_text_that_most_members_write_wins():
    texts = [["a b", "x", "p"], ["a  b", "y", "q"], ["c", "z", "q"]]
    scores = [[-3.0, -2.0, -1.0], [-5.0, -1.0, -9.0], [-1.0, -2.0, -9.0]]
    found = metrics.vote_on_texts(texts, scores)
    assert [text for text, _, _ in found] == ["a b", "y", "q"]
    assert [score for _, score, _ in found] == [-4.0, -1.0, -9.0]
    np.testing.assert_allclose([share for *_, share in found], [2 / 3, 1 / 3, 2 / 3])
    assert metrics.vote_on_texts([["x"], ["y"]], [[-1.0], [-1.0]])[0][0] == "x"


def test_texts_of_different_rows_are_refused():
    with pytest.raises(ValueError, match="no members to vote"):
        metrics.vote_on_texts([], [])
    with pytest.raises(ValueError, match="have not the same rows"):
        metrics.vote_on_texts([["a"], ["a", "b"]], [[0.0], [0.0, 0.0]])
