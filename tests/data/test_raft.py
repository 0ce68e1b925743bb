"""RAFT's prompts, labels and submissions, on a tiny copy in its own layout."""

import csv
import dataclasses
import functools
import io
import json

import one_line
import pytest

from tfew_jax.data import raft, tokenizer
from tfew_jax.experiment import base as base_lib

LABELS = ["company", "university"]
FIELDS = {"semiconductor_org_types": ["Organization name", "Paper title"]}
TASK = "semiconductor_org_types"
INSTRUCTION = "Say what kind of institution it is."


@pytest.fixture(scope="module")
def words() -> tokenizer.Tokenizer:
    return tokenizer.Tokenizer(base_lib.EMBEDDED / "sentencepiece.model")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, TASK, LABELS, FIELDS[TASK])
    return tmp_path


def write(root, name, labels, shown, *, title="Faster adders"):
    settings = [{name: shown}, {name: f"{INSTRUCTION}\n"}]
    lines = "".join(json.dumps(line) + "\n" for line in settings)
    (root / "prompt_construction_settings.jsonl").write_text(lines)
    task = root / name
    task.mkdir()
    (task / "task.json").write_text(
        json.dumps({"name": name, "label_columns": {"Label": labels}}, indent=1)
    )
    with (task / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Paper title", "Organization name", "Label", "ID"])
        table.writerow([title, "Adder Ltd", labels[0], 0])
        table.writerow(["", "Univ. of Sums", labels[1], 1])
    with (task / "test_unlabeled.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Paper title", "Organization name", "ID"])
        table.writerow(["Slow adders", "Sum Inc", 50])
        table.writerow(["Old adders", "Add & Co", 51])


message_of = functools.partial(one_line.message_of, error=raft.RaftError)


def test_a_prompt_is_instruction_fields_in_column_order_and_label(folder, words):
    rows = raft.make_rows(raft.load(TASK, folder), "train", words)
    assert rows[0] == {
        "inputs": f"{INSTRUCTION}\nPaper title: Faster adders\n"
        "Organization name: Adder Ltd\nLabel:",
        "ID": 0,
        "label": 0,
    }


def test_empty_fields_are_left_out(folder, words):
    rows = raft.make_rows(raft.load(TASK, folder), "train", words)
    assert (
        rows[1]["inputs"] == f"{INSTRUCTION}\nOrganization name: Univ. of Sums\nLabel:"
    )
    assert rows[1]["label"] == 1


def test_test_rows_have_no_label(folder, words):
    rows = raft.make_rows(raft.load(TASK, folder), "test", words)
    assert [sorted(row) for row in rows] == [["ID", "inputs"]] * 2
    assert [row["ID"] for row in rows] == [50, 51]


@pytest.mark.parametrize(
    "labels, expected",
    [
        ("paper", INSTRUCTION),
        ("none", INSTRUCTION),
        ("comma", f"{INSTRUCTION} Possible labels: company, university"),
        ("numbered", f"{INSTRUCTION} Possible labels:\n1. company\n2. university"),
    ],
)
def test_the_policy_says_whether_the_prompt_names_the_labels(
    folder, words, labels, expected
):
    rows = raft.make_rows(raft.load(TASK, folder), "train", words, labels=labels)
    assert rows[0]["inputs"].startswith(f"{expected}\nPaper title")


def test_banking77_names_clean_labels_and_submits_the_official_ones(tmp_path, words):
    write(tmp_path, "banking_77", ["age_limit", "card_swallowed"], ["Paper title"])
    task = raft.load("banking_77", tmp_path)
    assert task.choices == ("age limit", "card swallowed")
    prompt = raft.make_rows(task, "train", words)[0]["inputs"]
    assert "Possible labels: age limit, card swallowed\n" in prompt
    assert raft.predictions_csv(task, {50: 1, 51: 0}) == (
        "ID,Label\n50,card_swallowed\n51,age_limit\n"
    )


@pytest.mark.parametrize("max_length", [64, 200])
def test_a_long_field_is_cut_and_the_label_line_stays(tmp_path, words, max_length):
    write(tmp_path, TASK, LABELS, FIELDS[TASK], title="a long story about adders " * 90)
    task = raft.load(TASK, tmp_path)
    prompt = raft.make_rows(task, "train", words, max_length=max_length)[0]["inputs"]
    assert prompt.endswith("\nOrganization name: Adder Ltd\nLabel:")
    length = len(words.encode(prompt))
    assert max_length - 3 <= length <= max_length
    assert prompt.startswith(INSTRUCTION)


def test_two_long_parts_share_the_cut(folder, words):
    task = raft.load(TASK, folder)
    task = dataclasses.replace(task, instruction="Please judge this. " * 50)
    row = {**task.train[0], "Paper title": "adders are fast " * 50}
    prompt = raft._prompt(task, row, words, "none", 60)
    assert prompt.count("judge") >= 3
    assert prompt.count("fast") >= 3
    assert prompt.endswith("\nLabel:")


def test_a_text_that_is_spelled_in_bytes_is_cut_between_characters(folder, words):
    task = raft.load(TASK, folder)
    row = {**task.train[0], "Paper title": "東京" * 60}
    for max_length in range(60, 66):
        prompt = raft._prompt(task, row, words, "none", max_length)
        assert len(words.encode(prompt)) <= max_length
        assert "\ufffd" not in prompt
        assert prompt.count("東") >= 3


def test_names_that_leave_no_room_are_an_error(folder, words):
    task = raft.load(TASK, folder)
    message = message_of(raft.make_rows, task, "train", words, max_length=5)
    assert "more than 5 tokens" in message


def test_a_submission_has_every_test_row_once(folder):
    task = raft.load(TASK, folder)
    rows = list(csv.reader(io.StringIO(raft.predictions_csv(task, {51: 0, 50: 1}))))
    assert rows == [["ID", "Label"], ["50", "university"], ["51", "company"]]
    assert "ID 51" in message_of(raft.predictions_csv, task, {50: 0})
    assert "ID 7" in message_of(raft.predictions_csv, task, {50: 0, 51: 1, 7: 1})


def test_bad_input_is_named(folder, words):
    assert "overruling" in message_of(raft.load, "overrulings", folder)
    assert "no such file" in message_of(raft.load, TASK, folder / "nowhere")
    task = raft.load(TASK, folder)
    assert "'all'" in message_of(raft.make_rows, task, "train", words, labels="all")
    assert "'dev'" in message_of(raft.make_rows, task, "dev", words)
    train = folder / TASK / "train.csv"
    train.write_text(train.read_text().replace(",company,", ",firm,"))
    assert "label 'firm'" in message_of(raft.load, TASK, folder)
    (folder / TASK / "task.json").write_text("{}")
    assert "fetch" in message_of(raft.load, TASK, folder)
    (folder / TASK / "task.json").write_text("{")
    assert "not JSON" in message_of(raft.load, TASK, folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("train.csv", "Paper title", "Title", "line 2: no column 'Paper title'"),
        ("train.csv", "company,0", "company,0.5", "line 2: ID '0.5' is no whole"),
        ("train.csv", ",ID", ",Number", "line 2: ID None is no whole number"),
        ("test_unlabeled.csv", ",51", ",50", "line 3: ID 50 stands in"),
        ("test_unlabeled.csv", ",ID", ",Number", "line 2: ID None"),
    ],
)
def test_files_without_the_columns_are_named(folder, file, old, new, expected):
    path = folder / TASK / file
    path.write_text(path.read_text().replace(old, new))
    assert expected in message_of(raft.load, TASK, folder)


def test_settings_that_are_no_text_are_named(folder):
    path = folder / TASK / "task.json"
    path.write_bytes(b"\xff")
    assert "task.json: cannot be read" in message_of(raft.load, TASK, folder)


NUM_LABELS = {"banking_77": 77, "one_stop_english": 3, "semiconductor_org_types": 3}


@pytest.mark.parametrize("name", raft.NAMES)
def test_the_real_tasks_have_fifty_rows_and_prompts_that_end_with_label(
    shared, words, name
):
    task = raft.load(name, shared / "data" / "raft")
    rows = raft.make_rows(task, "train", words)
    assert len(rows) == 50
    limit = 512 if name == "banking_77" else 256
    for row in rows:
        assert row["inputs"].endswith("\nLabel:")
        assert len(words.encode(row["inputs"])) <= limit
    assert len(task.labels) == NUM_LABELS.get(name, 2)
