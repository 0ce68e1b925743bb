"""T5's formats: the examples of its documentation, and real rows beside them."""

import pytest
from one_line import message_of

from tfew_jax.data import text_rows, text_to_text

IDX = {"idx": 3}
# Task: a row, its inputs without the word, targets.
GOLDEN = {
    "boolq": (
        {"question": "is it", "passage": "It is .", "label": 1, **IDX},
        "passage: It is . question: is it",
        "True",
    ),
    "cb": (
        {"premise": "P", "hypothesis": "H", "label": 2, **IDX},
        "hypothesis: H premise: P",
        "neutral",
    ),
    "copa": (
        {
            "premise": "My body cast a shadow.",
            "choice1": "The sun was rising.",
            "choice2": "The grass was cut.",
            "question": "cause",
            "label": 0,
            **IDX,
        },
        "choice1: The sun was rising. choice2: The grass was cut. "
        "premise: My body cast a shadow. question: cause",
        "choice1",
    ),
    "multirc": (
        {
            "paragraph": "<b>Sent 1: </b>One.<br><b>Sent 2: </b>Two.<br>",
            "question": "How many?",
            "answer": "Two",
            "label": 1,
            "idx": {"paragraph": 1, "question": 2, "answer": 3},
        },
        "question: How many? answer: Two paragraph: Sent 1: One. Sent 2: Two. ",
        "True",
    ),
    "record": (
        {
            "passage": "One.\n@highlight\nTwo\n@highlight\nThree",
            "query": "A @placeholder is a bird.",
            "entities": ["penguin", "potato", "pigeon"],
            "answers": ["penguin", "pigeon"],
            "idx": {"passage": 1, "query": 2},
        },
        "query: A @placeholder is a bird. entities: penguin, potato, pigeon "
        "passage: One. Two. Three",
        "penguin",
    ),
    "rte": (
        {"premise": "P", "hypothesis": "H", "label": 1, **IDX},
        "hypothesis: H premise: P",
        "not_entailment",
    ),
    "wic": (
        {
            "word": "class",
            "sentence1": "A class.",
            "sentence2": "Real class.",
            "start1": 2,
            "end1": 7,
            "start2": 5,
            "end2": 10,
            "label": 0,
            **IDX,
        },
        "sentence1: A class. sentence2: Real class. word: class",
        "False",
    ),
    "wsc": (
        {
            "text": "Mitchell asked Tom if he could lend some money.",
            "span1_text": "Tom",
            "span1_index": 2,
            "span2_text": "he",
            "span2_index": 4,
            "label": 1,
            **IDX,
        },
        "Mitchell asked Tom if *he* could lend some money.",
        "Tom",
    ),
    "mrpc": (
        {"sentence1": "A b.", "sentence2": "B a.", "label": 1, **IDX},
        "sentence1: A b. sentence2: B a.",
        "equivalent",
    ),
    "qqp": (
        {
            "question1": "Why do I easily get bored of my friends?",
            "question2": "Why do I get bored of friends so quickly?",
            "label": 1,
            "idx": 10,
        },
        "question1: Why do I easily get bored of my friends? "
        "question2: Why do I get bored of friends so quickly?",
        "duplicate",
    ),
    "sst2": (
        {"sentence": "a fine film", "label": 1, **IDX},
        "sentence: a fine film",
        "positive",
    ),
    "squad": (
        {
            "id": "56be4db0",
            "title": "Super_Bowl_50",
            "context": "It cost $5–6 in São\tPaulo.",
            "question": "How much?",
            "answers": {"text": ["$5–6", "5"], "answer_start": [8, 9]},
        },
        "question: How much ? context: It cost $ 5 – 6 in S ã o Paulo . ",
        " $ 5 – 6",
    ),
    "mrqa": (
        {"qid": "q1", "context": "A, b.", "question": "A?", "answers": ["b", "B."]},
        "question: A ? context: A , b . ",
        "b",
    ),
}
WORDS = {"wsc": "wsc: ", "squad": "", "mrqa": ""}


def test_every_task_has_a_golden_example():
    assert list(GOLDEN) == text_to_text.names()
    superglue = "boolq cb copa multirc record rte wic wsc".split()
    assert text_to_text.names("super_glue") == superglue
    assert text_to_text.names("glue") == ["mrpc", "qqp", "sst2"]


@pytest.mark.parametrize("name", GOLDEN)
def test_rows_have_the_text_of_t5_with_the_task_word_and_without(name):
    row, inputs, targets = GOLDEN[name]
    task = text_to_text.get(name)
    (example,) = task.examples(row)
    assert example["inputs"] == WORDS.get(name, f"{name} ") + inputs
    assert example["targets"] == targets
    (taskless,) = task.examples(row, task_word=False)
    assert taskless == {**example, "inputs": inputs}


def test_examples_keep_what_metrics_need():
    kept = {}
    for name, (row, _, _) in GOLDEN.items():
        (example,) = text_to_text.get(name).examples(row)
        kept[name] = {
            k: v for k, v in example.items() if k not in ("inputs", "targets")
        }
    assert kept["rte"] == {"label": 1, "idx": 3}
    assert kept["wsc"] == {"label": 1, "idx": 3}
    assert kept["multirc"] == {
        "label": 1,
        "idx/paragraph": 1,
        "idx/question": 2,
        "idx/answer": 3,
    }
    assert kept["record"] == {
        "answers": ["penguin", "pigeon"],
        "idx/passage": 1,
        "idx/query": 2,
    }
    assert kept["squad"] == {"answers": [" $ 5 – 6", "5"], "id": "56be4db0"}
    assert kept["mrqa"] == {"answers": ["b", "B . "], "id": "q1"}


def test_record_is_trained_on_each_answer_and_measured_once():
    row = GOLDEN["record"][0]
    task = text_to_text.get("record")
    trained = task.examples(row, train=True)
    assert [e["targets"] for e in trained] == ["penguin", "pigeon"]
    assert len({e["inputs"] for e in trained}) == 1
    (unknown,) = task.examples({**row, "answers": []}, train=True)
    assert unknown["targets"] == "<unk>"


def test_wsc_is_trained_only_on_right_referents_and_measured_on_all():
    row = {**GOLDEN["wsc"][0], "label": 0, "span1_text": "Mitchell"}
    task = text_to_text.get("wsc")
    assert task.examples(row, train=True) == []
    (example,) = task.examples(row)
    assert example["targets"] == "Mitchell"  # whether or not it is the right one
    assert example["label"] == 0


def test_rows_without_a_label_have_an_unknown_target():
    for name in ("rte", "multirc", "sst2"):
        for missing in ({"label": -1}, {"label": None}):
            (example,) = text_to_text.get(name).examples({**GOLDEN[name][0], **missing})
            assert (example["targets"], example["label"]) == ("<unk>", -1)
    row = {**GOLDEN["squad"][0], "answers": {"text": []}}
    assert text_to_text.get("squad").examples(row)[0]["targets"] == "<unk>"


def test_prompts_of_free_targets_start_from_the_papers_words():
    words = {task: text_to_text.get(task).class_labels for task in ("record", "wsc")}
    assert words == {  # Lester et al., footnote 7
        "record": ("commonsense", "reasoning", "reading", "comprehension"),
        "wsc": ("commonsense", "pronoun", "resolution"),
    }
    assert text_to_text.get("rte").class_labels == ("entailment", "not_entailment")
    assert text_to_text.get("squad").class_labels == ()


def test_official_labels_are_texts_and_truth_values():
    (example,) = text_to_text.get("rte").examples(
        {**GOLDEN["rte"][0], "label": "entailment"}
    )
    assert (example["targets"], example["label"]) == ("entailment", 0)
    (example,) = text_to_text.get("boolq").examples(
        {**GOLDEN["boolq"][0], "label": False}
    )
    assert (example["targets"], example["label"]) == ("False", 0)


def wsc_inputs(text, pronoun, index):
    row = {"text": text, "span1_text": "He", "span1_index": 0, "label": 1, "idx": 0}
    row |= {"span2_text": pronoun, "span2_index": index}
    return text_to_text.get("wsc").examples(row, task_word=False)[0]["inputs"]


def test_a_pronoun_is_marked_nearest_to_its_index():
    # The two kinds of rows that T5 patches by their text.
    text = 'He threw him over. "Good for him," he said.'
    expected = 'He threw him over. "Good for *him* ," he said.'
    assert wsc_inputs(text, "him", 6) == expected
    assert wsc_inputs("so it may use it , now", "it", 3) == "so it may use *it* , now"
    says = "wsc: the pronoun 'it' is not in the text 'quite without'"
    assert says in message_of(wsc_inputs, "quite without", "it", 0)


def test_a_referent_is_spelled_as_in_the_text():
    row = {**GOLDEN["wsc"][0], "text": "In it the tree fell and he laughed ."}
    row |= {"span1_text": "The tree", "span1_index": 2, "span2_index": 6}
    assert text_to_text.get("wsc").examples(row)[0]["targets"] == "the tree"


@pytest.mark.parametrize(
    "name, change, says",
    [
        ("rte", {"premise": None}, "rte: a field has a wrong type: premise is None"),
        (
            "rte",
            {"label": 2},
            "rte: the label 2 is neither an index below 2 nor one of",
        ),
        ("cb", {"label": "maybe"}, "'entailment', 'contradiction', 'neutral'"),
        ("wsc", {"text": 5}, "wsc: a field has a wrong type: text is 5"),
        ("multirc", {"idx": 5}, "multirc: a field has a wrong type"),
    ],
)
def test_a_wrong_field_is_one_line_that_names_it(name, change, says):
    row = {**GOLDEN[name][0], **change}
    assert says in message_of(text_to_text.get(name).examples, row)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_missing_field_is_named(name):
    row = dict(GOLDEN[name][0])
    for field in set(row) - {"label", "start1", "end1", "start2", "end2", "title"}:
        rest = {k: v for k, v in row.items() if k != field}
        message = message_of(text_to_text.get(name).examples, rest)
        assert message.startswith(f"{name}: the row has no field {field!r}; ")


def test_an_unknown_task_is_an_error_that_lists_all():
    message = message_of(text_to_text.get, "rtee")
    assert message.startswith("unknown text-to-text task 'rtee'; available: boolq, cb")


# Number of dev rows; a digest of all is not needed, since the text is that of a row.
SIZES = {
    "boolq": 3270,
    "cb": 56,
    "copa": 100,
    "multirc": 4848,
    "rte": 277,
    "wic": 638,
    "wsc": 104,
}


@pytest.mark.parametrize("name", SIZES)
def test_all_official_dev_rows_are_converted(shared, name):
    folder = shared / "data" / "superglue_32shot_and_dev"
    rows = text_rows.load(name, "validation", folder)
    task = text_to_text.get(name)
    examples = [example for row in rows for example in task.examples(row)]
    assert len(examples) == SIZES[name]
    assert {e["targets"] for e in examples} <= set(task.labels) or name == "wsc"
    assert all(e["inputs"].startswith(WORDS.get(name, f"{name} ")) for e in examples)
    assert all(e["label"] >= 0 for e in examples)
    if name == "wsc":
        assert all(e["inputs"].count("*") == 2 for e in examples)
        assert all(e["targets"] in e["inputs"].replace("*", "") for e in examples)


def test_record_rows_of_the_official_file_have_their_entities(shared):
    folder = shared / "data" / "superglue_32shot_and_dev"
    first = text_rows.load("record", "train", folder)[0]
    assert first["entities"][:2] == ["Blues", "Branislav Ivanovic"]
    assert first["answers"] == ["Olimpija Ljubljana"]  # twice in the passage
    (example,) = text_to_text.get("record").examples(first)
    assert (example["idx/passage"], example["idx/query"]) == (3088, 4756)
    assert "first half scare. Jose" in example["inputs"]
    assert "@highlight" not in example["inputs"]
    assert "a Fernando Torres horror miss. Chelsea come" in example["inputs"]


def test_squad_rows_of_the_official_file_have_all_answers(shared, tmp_path):
    data = (shared / "data" / "squad" / "squaddev_v1.1.json.gz").read_bytes()
    (tmp_path / "dev-v1.1.json.gz").write_bytes(data)
    rows = text_rows.load("squad", "validation", tmp_path)
    assert len(rows) == 10_565
    (example,) = text_to_text.get("squad").examples(rows[0])
    assert example["answers"] == ["Denver Broncos"] * 3
    assert "( NFL )" in example["inputs"]
    assert "24 – 10" in example["inputs"]


def test_mrpc_keeps_quotes_and_byte_order_marks_do_not_count(shared, tmp_path):
    folder = shared / "data" / "paraphrase" / "mrpc"
    (tmp_path / "MRPC").mkdir()
    data = (folder / "msr_paraphrase_train.txt").read_bytes()
    (tmp_path / "MRPC" / "train.tsv").write_bytes(data)
    rows = text_rows.load("mrpc", "train", tmp_path)
    assert len(rows) == 4076
    assert (rows[0]["label"], rows[0]["idx"]) == (1, 0)
    assert rows[0]["sentence1"].startswith(
        'Amrozi accused his brother, whom he called "'
    )
    assert sum(row["label"] for row in rows) == 2753
