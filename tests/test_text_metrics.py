import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_line import message_of
from sklearn import metrics as peer

from tfew_jax import text_metrics


def test_an_output_that_names_no_class_is_wrong():
    assert text_metrics.accuracy([-1, 1, 0, 0], [0, 1, 0, 1]) == 0.5


def test_cb_f1_is_the_mean_over_its_three_classes_computed_by_hand():
    # class 0: 1 right of 1 and 2; class 1: 1 right of 2 and 1; class 2: none of 0 and 1
    f1 = text_metrics.mean_f1([0, 1, 1, -1], [0, 0, 1, 2], num_classes=3)
    assert f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_a_class_that_does_not_occur_counts_as_zero():
    assert text_metrics.mean_f1([0, 1], [0, 1], num_classes=3) == pytest.approx(2 / 3)


def test_binary_f1_takes_an_invalid_prediction_for_the_wrong_class():
    # predictions become 1, 0, 1, 1: two true positives, one false one, one missed
    f1 = text_metrics.binary_f1([1, -1, 7, 1], [1, 1, 0, 1])
    assert f1 == pytest.approx(2 * 2 / (3 + 3))


PAIRS = st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 2)), min_size=1)


@given(PAIRS)
def test_f1_equals_that_of_scikit_learn(pairs):
    predictions, labels = (list(column) for column in zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = peer.f1_score(
            labels, predictions, labels=range(3), average="macro", zero_division=0
        )
        is_one = [label == 1 for label in labels]
        binary = peer.f1_score(is_one, [p == 1 for p in predictions], zero_division=0)
    mean = text_metrics.mean_f1(predictions, labels, num_classes=3)
    assert mean == pytest.approx(expected)
    valid = [int(p == 1) for p in predictions]
    assert text_metrics.binary_f1(valid, [int(x) for x in is_one]) == pytest.approx(
        binary
    )


def test_a_question_is_right_where_all_its_answers_are():
    groups = ["a", "b", "a", "b", "c"]
    right = text_metrics.group_exact_match([1, 0, 0, 1, -1], [1, 0, 0, 0, 1], groups)
    assert right == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Cat, sat!", "cat sat"),
        ("an apple a day", "apple day"),
        ("Theatre of the A-Team", "theatre of ateam"),
        (" $ 5 . 50 ", "5 50"),
        ("The", ""),
        ("24–10", "24–10"),
    ],
)
def test_answers_have_the_normal_form_of_squad(text, normal):
    assert text_metrics.normalize_answer(text) == normal


def test_answers_are_scored_by_the_best_of_the_right_ones():
    scores = text_metrics.answer_scores(
        ["the Denver Broncos", "big red dog", "x"],
        [["Carolina", "Denver Broncos!"], ["red dog", "dog"], ["y"]],
    )
    # F1 of the second: 2 shared words of 3 and 2
    assert scores == pytest.approx({"em": 1 / 3, "f1": (1 + 0.8 + 0) / 3})


def test_repeated_words_count_as_often_as_they_stand():
    # one of two given words is shared with one of three known ones
    scores = text_metrics.answer_scores(["no no"], [["no yes maybe"]])
    assert scores == pytest.approx({"em": 0, "f1": 2 * 1 / (2 + 3)})


def test_rank_accuracy_takes_the_first_of_the_best_choices_in_any_order():
    scores = [-2.0, -1.0, -3.0, -1.0, -1.0]
    choices = [(0, 1), (0, 0), (1, 2), (1, 1), (1, 0)]
    correct = [True, False, False, True, False]
    assert text_metrics.rank_accuracy(scores, choices, correct) == 0.0
    correct = [False, True, False, False, True]
    assert text_metrics.rank_accuracy(scores, choices, correct) == 1.0


def test_a_task_with_two_metrics_counts_once_in_superglue_average():
    scores = {task: {"accuracy": 0.5} for task in text_metrics.SUPERGLUE}
    scores["cb"] = {"mean_3class_f1": 1.0, "accuracy": 0.8}
    scores["record"] = {"em": 0.0, "f1": 0.2}
    average = text_metrics.superglue_average(scores)
    assert average == pytest.approx((6 * 0.5 + 0.9 + 0.1) / 8)


@pytest.mark.parametrize("column, expected", [(0, 90.5), (1, 91.0), (2, 91.3)])
def test_superglue_average_of_lester_et_al_follows_from_table_3(column, expected):
    table = {  # average, best and ensemble of five prompts on T5 XXL
        "boolq": [(91.1,), (91.3,), (91.7,)],
        "cb": [(99.3, 99.0), (100.0, 100.0), (100.0, 100.0)],
        "copa": [(98.8,), (100.0,), (100.0,)],
        "multirc": [(65.7, 88.7), (66.3, 89.0), (67.1, 89.4)],
        "record": [(92.7, 93.4), (92.9, 93.5), (93.2, 93.9)],
        "rte": [(92.6,), (93.5,), (93.5,)],
        "wic": [(76.2,), (76.6,), (77.4,)],
        "wsc": [(95.8,), (96.2,), (96.2,)],
    }
    scores = {
        task: {str(n): value / 100 for n, value in enumerate(columns[column])}
        for task, columns in table.items()
    }
    average = text_metrics.superglue_average(scores)
    # The cells and the average are printed to one decimal of a percent.
    assert average == pytest.approx(expected / 100, abs=2 * 0.0005)


def test_superglue_average_needs_all_eight_tasks_and_no_other():
    scores = {task: {"accuracy": 0.5} for task in text_metrics.SUPERGLUE}
    message = message_of(text_metrics.superglue_average, {**scores, "wsc": {}})
    assert message.startswith("SuperGLUE's average without wsc; ")
    message = message_of(text_metrics.superglue_average, {**scores, "axb": {"a": 1.0}})
    assert "with the unknown axb; " in message


def test_metrics_need_rows_and_one_prediction_each():
    for metric in (text_metrics.accuracy, text_metrics.binary_f1):
        assert "1 predictions for 2 rows" in message_of(metric, [1], [1, 0])
        assert "no rows to measure" in message_of(metric, [], [])
    assert "1 predictions for 0 rows" in message_of(
        text_metrics.group_exact_match, [1], [1], []
    )
    says = "question 1 has no right answer"
    assert says in message_of(text_metrics.answer_scores, ["a", "b"], [["a"], []])
    says = "choice 1 of row 0 stands twice"
    assert says in message_of(
        text_metrics.rank_accuracy, [0.0, 1.0], [(0, 1), (0, 1)], [True, True]
    )


def test_metrics_take_numpy_labels_of_a_batch():
    labels = np.array([0, 1, 1])
    assert text_metrics.accuracy(labels, labels) == 1.0
    assert text_metrics.mean_f1(labels, labels, num_classes=2) == 1.0
    assert text_metrics.binary_f1(labels, labels) == 1.0
