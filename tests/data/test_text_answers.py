import pytest
from one_line import message_of

from tfew_jax.data import text_answers, text_to_text


def test_an_output_is_a_class_to_the_letter_or_invalid():
    labels = text_to_text.get("rte").labels
    assert text_answers.label_of("not_entailment", labels) == 1
    for output in ("Entailment", "entailment.", "", "not"):
        assert text_answers.label_of(output, labels) == -1


@pytest.mark.parametrize(
    "output, referent, names",
    [
        ("bunny", "the fuzzy bunny", 1),
        ("The fuzzy bunny", "bunny", 1),
        ("His Bunny ", "bunny", 1),
        ("hare", "bunny", 0),
        ("fuzzy hare", "fuzzy bunny", 0),
        ("Bob", "Bob's hat", 0),
        ("Bob's", "Bob's hat", 1),
        ("", "bunny", -1),
        ("the", "bunny", -1),
    ],
)
def test_a_referent_is_matched_by_its_words(output, referent, names):
    assert text_answers.names_referent(output, referent) == names


def labelled(*labels):
    return [{"label": label} for label in labels]


def test_classes_are_measured_by_accuracy():
    outputs = ["True", "False", "true"]
    assert text_answers.measure("boolq", outputs, labelled(1, 1, 1)) == {
        "accuracy": pytest.approx(1 / 3)
    }


def test_cb_is_measured_by_mean_f1_and_accuracy():
    outputs = ["entailment", "contradiction", "neutral", "neutral"]
    scores = text_answers.measure("cb", outputs, labelled(0, 1, 2, 1))
    # F1: 1; 2/3; 2/3
    assert scores == pytest.approx({"mean_3class_f1": 7 / 9, "accuracy": 3 / 4})


def test_paraphrases_are_measured_by_f1_and_accuracy():
    outputs = ["equivalent", "equivalent", "not_equivalent", "nonsense"]
    scores = text_answers.measure("mrpc", outputs, labelled(1, 0, 0, 1))
    # one right positive; one wrong one; the invalid output counts as a missed one
    assert scores == pytest.approx({"f1": 2 / 4, "accuracy": 2 / 4})


def test_a_model_of_qqp_is_measured_on_mrpc_in_its_own_words():
    outputs = ["duplicate", "not_duplicate", "equivalent"]
    labels = text_to_text.get("qqp").labels
    scores = text_answers.measure("mrpc", outputs, labelled(1, 0, 1), labels=labels)
    assert scores["accuracy"] == pytest.approx(2 / 3)


def test_multirc_is_measured_over_answers_and_over_questions():
    def answer(paragraph, question, label):
        indices = {"idx/paragraph": paragraph, "idx/question": question}
        return {**indices, "idx/answer": 0, "label": label}

    examples = [answer(0, 0, 1), answer(0, 0, 0), answer(0, 1, 1), answer(1, 1, 1)]
    scores = text_answers.measure(
        "multirc", ["True", "False", "False", "True"], examples
    )
    # two of three true answers found; both wholly right are two of three questions
    assert scores == pytest.approx({"f1": 2 * 2 / (2 + 3), "exact_match": 2 / 3})


def test_record_is_measured_once_a_query():
    first = {"idx/passage": 0, "idx/query": 0, "answers": ["The Cat", "dog"]}
    second = {"idx/passage": 0, "idx/query": 1, "answers": ["x y"]}
    outputs = ["cat", "bird", "x"]
    scores = text_answers.measure("record", outputs, [first, first, second])
    assert scores == pytest.approx({"em": 1 / 2, "f1": (1 + 2 / 3) / 2})


def test_answers_to_questions_are_measured_as_in_squad():
    examples = [{"answers": ["Denver Broncos"]}, {"answers": [" $ 5"]}]
    scores = text_answers.measure("squad", ["the broncos", "$5"], examples)
    assert scores == pytest.approx({"em": 1 / 2, "f1": (2 / 3 + 1) / 2})
    assert text_answers.measure("mrqa", ["x", "5"], examples)["em"] == 0.5


def test_wsc_is_measured_by_whether_the_referent_is_named():
    examples = [
        {"targets": "the dog", "label": 1},
        {"targets": "Bob", "label": 0},
        {"targets": "Bob", "label": 0},
    ]
    scores = text_answers.measure("wsc", ["dog", "Tom", "the"], examples)
    assert scores == {"accuracy": pytest.approx(2 / 3)}  # the empty one is wrong


def test_what_cannot_be_measured_is_one_line():
    says = "rte: 1 outputs for 2 examples"
    assert says in message_of(text_answers.measure, "rte", ["x"], labelled(0, 1))
    says = "rte: example 1 has no label"
    assert says in message_of(text_answers.measure, "rte", ["x"] * 2, labelled(0, -1))
    says = "no rows to measure"
    assert says in message_of(text_answers.measure, "rte", [], [])
    says = "question 0 has no right answer"
    assert says in message_of(text_answers.measure, "squad", ["x"], [{"answers": []}])
    assert "unknown text-to-text task" in message_of(text_answers.value, "nli", "x", {})


def test_the_targets_of_real_rows_score_one(shared):
    from tfew_jax.data import text_rows

    folder = shared / "data" / "superglue_32shot_and_dev"
    for name in ("cb", "rte", "wic"):
        task = text_to_text.get(name)
        examples = [
            example
            for row in text_rows.load(name, "validation", folder)
            for example in task.examples(row)
        ]
        outputs = [example["targets"] for example in examples]
        scores = text_answers.measure(name, outputs, examples)
        assert set(scores.values()) == {1.0}
