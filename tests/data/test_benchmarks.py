"""The held-out sets, from tiny copies in each set's official form."""

import functools

import one_line
import pytest
from official_rows import write_file

from tfew_jax.data import benchmarks

NLI = {"premise": "It rained all day.", "hypothesis": "It was wet."}
SPANS = {"span1_index": 0, "span1_text": "Ann", "span2_index": 3, "span2_text": "she"}
ENDINGS = ["sat.", "ran.", "flew.", "sang."]
STORY = {
    "InputStoryid": "s-1",
    **{f"InputSentence{n}": f"Sentence {n}." for n in range(1, 5)},
    "RandomFifthSentenceQuiz1": "Wrong end.",
    "RandomFifthSentenceQuiz2": "Right, and happy.",
    "AnswerRightEnding": "2",
}
VAL = "cloze_test_val__spring2016 - cloze_test_ALL_val.csv"

# set, split, file, row as distributed, row as templates see it
OFFICIAL = [
    (
        "copa",
        "validation",
        "COPA/val.jsonl",
        {
            "premise": "P.",
            "choice1": "A.",
            "choice2": "B.",
            "question": "effect",
            "label": 1,
            "idx": 7,
        },
        {
            "premise": "P.",
            "choice1": "A.",
            "choice2": "B.",
            "question": "effect",
            "idx": 7,
            "label": 1,
        },
    ),
    (
        "h-swag",
        "train",
        "hellaswag/hellaswag_train.jsonl",
        {
            "ind": 4,
            "activity_label": "Archery",
            "ctx_a": "A man",
            "ctx_b": "he",
            "ctx": "A man he",
            "split": "train",
            "split_type": "indomain",
            "label": 3,
            "endings": ENDINGS,
            "source_id": "v_1",
        },
        {
            "ind": 4,
            "activity_label": "Archery",
            "ctx_a": "A man",
            "ctx_b": "he",
            "ctx": "A man he",
            "endings": ENDINGS,
            "source_id": "v_1",
            "split": "train",
            "split_type": "indomain",
            "label": 3,
            "idx": 0,
        },
    ),
    (
        "storycloze",
        "validation",
        f"storycloze/{VAL}",
        STORY,
        {
            "story_id": "s-1",
            **{f"input_sentence_{n}": f"Sentence {n}." for n in range(1, 5)},
            "sentence_quiz1": "Wrong end.",
            "sentence_quiz2": "Right, and happy.",
            "answer_right_ending": 2,
            "label": 1,
            "idx": 0,
        },
    ),
    (
        "winogrande",
        "train",
        "winogrande_1.1/train_xl.jsonl",
        {
            "qID": "q",
            "sentence": "The _ won.",
            "option1": "a",
            "option2": "b",
            "answer": "1",
        },
        {
            "sentence": "The _ won.",
            "option1": "a",
            "option2": "b",
            "answer": "1",
            "label": 0,
            "idx": 0,
        },
    ),
    (
        "wsc",
        "train",
        "WSC/train.jsonl",
        {"text": "Ann said that she left.", "target": SPANS, "idx": 2, "label": True},
        {"text": "Ann said that she left.", **SPANS, "idx": 2, "label": 1},
    ),
    (
        "wic",
        "validation",
        "WiC/val.jsonl",
        {
            "word": "run",
            "sentence1": "A run.",
            "sentence2": "I run.",
            "idx": 1,
            "label": False,
            **dict.fromkeys(("start1", "start2", "end1", "end2"), 2),
            "version": 1.1,
        },
        {
            "word": "run",
            "sentence1": "A run.",
            "sentence2": "I run.",
            **dict.fromkeys(("start1", "start2", "end1", "end2"), 2),
            "idx": 1,
            "label": 0,
        },
    ),
    (
        "rte",
        "train",
        "RTE/train.jsonl",
        {**NLI, "label": "not_entailment", "idx": 5},
        {**NLI, "idx": 5, "label": 1},
    ),
    (
        "cb",
        "validation",
        "CB/val.jsonl",
        {**NLI, "label": "neutral", "idx": 5},
        {**NLI, "idx": 5, "label": 2},
    ),
    *(
        (
            f"anli-r{n}",
            "test",
            f"anli_v1.0/R{n}/test.jsonl",
            {
                "uid": "u",
                "context": NLI["premise"],
                "hypothesis": NLI["hypothesis"],
                "label": "c",
                "reason": "why",
                "model_label": "e",
            },
            {"uid": "u", **NLI, "label": 2, "reason": "why", "idx": 0},
        )
        for n in (1, 2, 3)
    ),
    (
        "boolq",
        "validation",
        "BoolQ/val.jsonl",
        {"question": "is it", "passage": "It is.", "idx": 0, "label": True},
        {"question": "is it", "passage": "It is.", "idx": 0, "label": 1},
    ),
]


message_of = functools.partial(one_line.message_of, error=benchmarks.BenchmarkError)


def test_every_set_has_an_official_copy_here():
    assert {name for name, *_ in OFFICIAL} == set(benchmarks.names())


@pytest.mark.parametrize(
    "name, split, file, row, expected", OFFICIAL, ids=[case[0] for case in OFFICIAL]
)
def test_official_rows_become_the_fields_of_templates(
    tmp_path, name, split, file, row, expected
):
    write_file(tmp_path / file, [row])
    (found,) = benchmarks.load(name, split, tmp_path)
    assert dict(found) == expected
    assert found.where.endswith(("line 1", "line 2"))


def test_the_protocol_is_the_papers():
    shots = {name: benchmarks.get(name).num_shots for name in benchmarks.names()}
    assert sum(shots.values()) - shots["boolq"] == 450  # 41 on average
    splits = {
        name: (benchmarks.get(name).train, benchmarks.get(name).evaluation)
        for name in benchmarks.names()
    }
    assert splits.pop("storycloze") == ("validation", "test")
    assert {splits.pop(f"anli-r{n}") for n in (1, 2, 3)} == {("train", "test")}
    assert set(splits.values()) == {("train", "validation")}


def test_unlabelled_test_rows_have_the_label_minus_one(tmp_path):
    write_file(tmp_path / "RTE/test.jsonl", [{**NLI, "idx": 0}])
    assert benchmarks.load("rte", "test", tmp_path)[0]["label"] == -1


@pytest.mark.parametrize("name", ["copa", "wsc", "wic", "rte", "cb", "boolq"])
def test_development_sets_have_the_official_size_and_the_fields_of_the_shots(
    shared, name
):
    rows = benchmarks.load(
        name, "validation", shared / "data" / "superglue_32shot_and_dev"
    )
    assert len(rows) == benchmarks.get(name).splits["validation"].num_rows
    shots = benchmarks.published(name, shared / "data" / "tfew_splits", seed=0)
    assert {tuple(sorted(row)) for row in [*rows, *shots]} == {tuple(sorted(rows[0]))}


def test_what_is_not_there_is_said_with_where_to_get_it(tmp_path):
    message = message_of(benchmarks.load, "storycloze", "test", tmp_path)
    assert "on request" in message and "ALL_test.csv" in message
    assert "rte" in message_of(benchmarks.load, "rtee", "test", tmp_path)
    assert "no split 'dev'" in message_of(benchmarks.load, "rte", "dev", tmp_path)
    (tmp_path / "cb" / "32_shot").mkdir(parents=True)
    assert "seeds at hand: none" in message_of(
        benchmarks.published, "cb", tmp_path, seed=3
    )
    (tmp_path / "cb" / "32_shot" / "10_seed.jsonl").write_text("{}\n")
    (tmp_path / "cb" / "32_shot" / "9_seed.jsonl").write_text("{}\n")
    assert "9, 10" in message_of(benchmarks.published, "cb", tmp_path, seed=3)


@pytest.mark.parametrize(
    "row, expected",
    [
        ({"premise": "P.", "label": "entailment", "idx": 0}, "no field 'hypothesis'"),
        ({**NLI, "label": "maybe", "idx": 0}, "label 'maybe'"),
    ],
)
def test_a_row_of_another_form_is_named_with_its_line(tmp_path, row, expected):
    good = {**NLI, "label": "entailment", "idx": 0}
    write_file(tmp_path / "rte/val.jsonl", [good, row])
    message = message_of(benchmarks.load, "rte", "validation", tmp_path)
    assert expected in message and "line 2" in message


def test_labels_of_hellaswag_may_be_the_hubs_texts(tmp_path):
    case = next(case for case in OFFICIAL if case[0] == "h-swag")
    write_file(
        tmp_path / case[2], [{**case[3], "label": n} for n in ("2", 3, "", None)]
    )
    rows = benchmarks.load("h-swag", "train", tmp_path)
    assert [row["label"] for row in rows] == [2, 3, -1, -1]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("rte", {"premise": None}, "premise is None, expected text"),
        ("rte", {"hypothesis": 3}, "hypothesis is 3, expected text"),
        ("rte", {"idx": "0"}, "idx is '0', expected a whole number"),
        ("copa", {"question": "Cause"}, "question 'Cause', expected 'cause' or"),
        ("h-swag", {"label": 7}, "label '7', expected one of ['0', '1', '2', '3']"),
        ("h-swag", {"label": -5}, "label '-5'"),
        ("h-swag", {"endings": "abcd"}, "endings is 'abcd', expected a list of texts"),
        ("h-swag", {"ctx_b": None}, "ctx_b is None"),
        ("winogrande", {"option1": None}, "option1 is None"),
        ("storycloze", {"AnswerRightEnding": ""}, "label '', expected one of"),
    ],
)
def test_a_field_of_another_type_is_named_with_its_line(
    tmp_path, name, change, expected
):
    case = next(case for case in OFFICIAL if case[0] == name)
    write_file(tmp_path / case[2], [case[3], {**case[3], **change}])
    message = message_of(benchmarks.load, name, case[1], tmp_path)
    assert expected in message and ("line 2" in message or "line 3" in message)


def test_an_empty_name_of_a_directory_is_no_source():
    message = message_of(benchmarks.load, "rte", "train", "")
    assert "the name is empty" in message


def test_hellaswag_rows_need_four_endings(tmp_path):
    case = next(case for case in OFFICIAL if case[0] == "h-swag")
    write_file(tmp_path / case[2], [{**case[3], "endings": ENDINGS[:3]}])
    assert "3 endings" in message_of(benchmarks.load, "h-swag", "train", tmp_path)


def test_spans_of_wsc_stand_in_the_text_as_they_do_in_wsc_fixed(tmp_path):
    spans = [
        ("The bag of\nflour.", 4),
        ("The bag of flour", 4),
        ("he", 0),
        ("Kim, Lu", 0),
    ]
    text = "Ann and Ben took the bag of flour. Then he left with Kim and Lu."
    rows = [
        {
            "text": text,
            "target": {**SPANS, "span1_text": span, "span1_index": index},
            "idx": n,
            "label": True,
        }
        for n, (span, index) in enumerate(spans)
    ]
    write_file(tmp_path / "WSC/train.jsonl", rows)
    found = [row["span1_text"] for row in benchmarks.load("wsc", "train", tmp_path)]
    assert found == ["the bag of flour", "the bag of flour", "he", "Kim, Lu"]


def test_the_spans_of_the_official_dev_rows_stand_in_their_texts(shared):
    folder = shared / "data" / "superglue_32shot_and_dev"
    for row in benchmarks.load("wsc", "validation", folder):
        assert row["span1_text"] in row["text"] and row["span2_text"] in row["text"]
