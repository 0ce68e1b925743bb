"""Files of T5's text-to-text sets, in each set's official form."""

import gzip
import json

import pytest
from one_line import message_of

from tfew_jax.data import text_rows, text_to_text


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_tables_of_glue_are_read_without_quoting(tmp_path):
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    write(
        tmp_path / "QQP" / "dev.tsv",
        head + '7\t1\t2\t"a"\tb\t1\n8\tcut\n9\t3\t4\tc\td\t0',
    )
    rows = text_rows.load("qqp", "validation", tmp_path)
    assert rows == [
        {"question1": '"a"', "question2": "b", "label": 1, "idx": 0},
        {"question1": "c", "question2": "d", "label": 0, "idx": 2},
    ]
    write(tmp_path / "SST-2" / "test.tsv", "index\tsentence\n0\ta film\n")
    rows = text_rows.load("sst2", "test", tmp_path)
    assert rows == [{"sentence": "a film", "label": -1, "idx": 0}]


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("SST-2/train.tsv", "sentence\tlabel\na\t1\nb\n", "line 3: 1 cells where"),
        ("MRPC/train.tsv", "Quality\t#1 String\n1\n", "line 2: 1 cells where the"),
        ("QQP/train.tsv", "a,b\n", "holds no rows of qqp"),
        ("MRPC/train.tsv", "", "holds no rows of mrpc"),
        ("ReCoRD/train.jsonl", "", "holds no rows of record"),
    ],
)
def test_rows_that_are_cut_or_missing_are_never_left_out(
    tmp_path, file, text, expected
):
    write(tmp_path / file, text)
    name = {"SST-2": "sst2"}.get(file.split("/")[0], file.split("/")[0].lower())
    assert expected in message_of(text_rows.load, name, "train", tmp_path)


def test_answers_are_a_list_of_texts(tmp_path):
    question = {"qid": "a", "question": "A?", "answers": "one"}
    line = json.dumps({"context": "C.", "qas": [question]}).encode()
    (tmp_path / "DROP.jsonl.gz").write_bytes(gzip.compress(line))
    message = message_of(text_rows.load, "mrqa/drop", "validation", tmp_path)
    assert "answers are 'one', expected a list of texts" in message


def test_mrqa_has_a_row_for_every_question_of_a_passage(tmp_path):
    lines = [
        {"header": {"dataset": "BioASQ"}},
        {
            "context": "C.",
            "qas": [
                {"qid": "a", "question": "A?", "answers": ["1"]},
                {"qid": "b", "question": "B?", "answers": ["2", "3"]},
            ],
        },
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    (tmp_path / "BioASQ.jsonl.gz").write_bytes(gzip.compress(data))
    rows = text_rows.load("mrqa/bio_asq", "validation", tmp_path)
    assert [row["answers"] for row in rows] == [["1"], ["2", "3"]]
    assert rows[1].where.endswith("BioASQ.jsonl.gz, line 2")


def test_multirc_has_a_row_for_every_answer(tmp_path):
    passage = {
        "idx": 4,
        "passage": {
            "text": "T.",
            "questions": [
                {
                    "question": "Q?",
                    "idx": 5,
                    "answers": [
                        {"text": "A", "idx": 6, "label": 1},
                        {"text": "B", "idx": 7},
                    ],
                }
            ],
        },
    }
    write(tmp_path / "MultiRC" / "val.jsonl", json.dumps(passage))
    rows = text_rows.load("multirc", "validation", tmp_path)
    assert [row["label"] for row in rows] == [1, -1]
    assert rows[0]["idx"] == {"paragraph": 4, "question": 5, "answer": 6}


def test_files_that_are_missing_or_of_another_form_are_named(tmp_path):
    message = message_of(text_rows.load, "record", "train", tmp_path)
    assert message.startswith(
        f"{tmp_path}: no train split of record (looked for official files: ReCoRD/"
    )
    message = message_of(text_rows.load, "squad", "test", tmp_path)
    assert message == "squad has no split 'test'; available: train, validation"
    message = message_of(text_rows.load, "squadd", "test", tmp_path)
    assert message.startswith("unknown set 'squadd'; available: copa, h-swag, ")
    write(tmp_path / "MultiRC" / "val.jsonl", '{"idx": 1}\n')
    message = message_of(text_rows.load, "multirc", "validation", tmp_path)
    assert message.endswith(
        "val.jsonl, line 1: not of multirc (no field 'passage'); expected the file as "
        "distributed"
    )
    write(tmp_path / "MultiRC" / "val.jsonl", "{\n")
    message = message_of(text_rows.load, "multirc", "validation", tmp_path)
    assert "val.jsonl, line 1: not JSON" in message
    write(tmp_path / "squad" / "dev-v1.1.json", "[]")
    message = message_of(text_rows.load, "squad", "validation", tmp_path)
    assert message.endswith("not of SQuAD; expected an object with 'data'")
    (tmp_path / "RACE.jsonl.gz").write_bytes(b"no archive")
    message = message_of(text_rows.load, "mrqa/race", "validation", tmp_path)
    assert "RACE.jsonl.gz: cannot be read" in message


def test_every_set_says_its_splits():
    assert text_rows.splits("rte") == ["train", "validation", "test"]
    assert text_rows.splits("mrqa/drop") == ["validation"]
    assert set(text_to_text.names()) - {"mrqa"} <= set(text_rows.names())
