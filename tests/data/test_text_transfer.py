"""Answers in one task's words as answers to another."""

import pytest

from tfew_jax.data import text_answers, text_to_text, text_transfer


def labelled(*labels):
    return [{"label": label} for label in labels]


@pytest.mark.parametrize(
    "source, target, same",
    [("qqp", "mrpc", "equivalent"), ("mrpc", "qqp", "duplicate")],
)
def test_paraphrases_are_read_in_the_words_of_the_other_set(source, target, same):
    reading = text_transfer.reading(target, source)
    negative, positive = text_to_text.get(source).labels
    assert reading.read(positive) == same
    assert reading.read(negative) == f"not_{same}"
    outputs = [positive, negative, same, "nonsense"]
    scores = reading.measure(outputs, labelled(1, 1, 1, 0))
    # As QQP's code does, a word of the target itself is read, too.
    assert scores == pytest.approx({"f1": 4 / 6, "accuracy": 2 / 4})
    assert reading.score(scores) == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert set(reading.legal) == {positive, negative, same, f"not_{same}"}


def test_a_model_of_rte_is_measured_on_cb_as_entailment_against_the_rest():
    reading = text_transfer.reading("cb", "rte")
    # CB's classes: entailment, contradiction, neutral
    outputs = ["entailment", "not_entailment", "not_entailment", "entailment", "xyz"]
    scores = reading.measure(outputs, labelled(0, 1, 2, 2, 1))
    assert scores == {"accuracy": 3 / 5}


def test_a_model_of_cb_is_measured_on_rte_as_entailment_against_the_rest():
    reading = text_transfer.reading("rte", "cb")
    outputs = ["entailment", "contradiction", "neutral", "neutral", ""]
    assert reading.measure(outputs, labelled(0, 1, 1, 0, 1)) == {"accuracy": 3 / 5}
    assert set(reading.legal) == {
        *("entailment", "not_entailment", "contradiction", "neutral")
    }


def test_a_task_reads_its_own_answers_and_those_of_the_same_words():
    for task, source in (("cb", None), ("wic", "boolq"), ("mrqa", "squad")):
        reading = text_transfer.reading(task, source)
        assert (reading.measured_as, dict(reading.words)) == (task, {})
        assert reading.legal == text_to_text.get(task).labels


def test_answers_that_say_nothing_about_a_task_are_refused():
    with pytest.raises(ValueError, match="a model of rte say nothing about sst2"):
        text_transfer.reading("sst2", "rte")
    with pytest.raises(ValueError, match="unknown text-to-text task 'xyz'"):
        text_transfer.reading("xyz")


def test_every_task_says_which_metrics_select():
    assert list(text_answers.MAIN_METRICS) == text_to_text.names()
    two = {"mean_3class_f1": 0.5, "accuracy": 1.0}
    assert text_answers.main_score("cb", two) == 0.75
    assert text_answers.main_score("squad", {"em": 0.1, "f1": 0.3}) == 0.3
