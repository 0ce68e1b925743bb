"""What was prepared for training is compared with held-out files of every format."""

import gzip
import json
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import make_base_model
from base_model import check, heldout, heldout_files, ragged, vocabulary

LONG = " ".join(f"word{number}" for number in range(30))
QUOTED = " ".join(f"quoted{number}" for number in range(14))
QUOTING = f"{LONG} {QUOTED} {LONG[::-1]}"


def fields(path: pathlib.Path) -> list[tuple[int, str, str]]:
    return [(f.row, f.name, f.text) for f in heldout_files.fields(path)]


@pytest.fixture(scope="module")
def work(tiny_base, tmp_path_factory) -> pathlib.Path:
    """A folder with a few texts in the arrays that training reads."""
    folder = tmp_path_factory.mktemp("work")
    vocabulary_file = tiny_base.root / "work/sentencepiece.model"
    shutil.copyfile(vocabulary_file, folder / "sentencepiece.model")
    texts = {
        "texts": ["The cat sat on the mat.", "A dog ran off.", LONG, QUOTING],
        "following": ["", "It was never seen again!"],
        "running": [f"{LONG} and so on.\nThe end."],
        "phrases": ["the cat sat", "a very good question"],
    }
    pieces = vocabulary.load(folder / "sentencepiece.model")
    for name, lists in texts.items():
        ragged.Ragged.from_lists(pieces.encode(lists)).save(folder, name)
    return folder


def run(work: pathlib.Path, *held_out: pathlib.Path) -> int:
    given = ["check", "--work", str(work), "--held-out", *map(str, held_out)]
    return make_base_model.main(given)


@pytest.mark.parametrize(
    ("leak", "line"),
    [
        (
            "The cat sat on the mat.",
            "texts 0: 'The cat sat on the mat.' equals {path}, row 2, text",
        ),
        (
            'the CAT, sat "on" the mat',
            "texts 0: 'The cat sat on the mat.' equals {path}, row 2, text",
        ),
        (
            "it was never seen again",
            "following 1: 'It was never seen again!' equals {path}, row 2, text",
        ),
        (
            "A very good question?",
            "phrases 1: 'a very good question' equals {path}, row 2, text",
        ),
        (f"Before it: {LONG}", "texts 2: 'word0 word1"),
        (f"Before it: {LONG}", "running 0: 'word0 word1"),
    ],
)
def test_a_leak_is_named_with_its_file_row_and_field(
    work, tmp_path, capsys, leak, line
):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "nothing"}}\n{json.dumps({"text": leak})}\n')
    assert run(work, path) == 1
    assert line.format(path=path) in capsys.readouterr().out


def test_a_majority_of_runs_overlaps_and_says_where(work, tmp_path, capsys):
    path = tmp_path / "rows.txt"
    path.write_text(f"1 first\n2 Before it: {LONG}\n")
    assert run(work, tmp_path) == 1
    out = capsys.readouterr().out
    assert "texts: 4 compared, 0 equal, 1 overlapping" in out
    assert "running: 1 compared, 0 equal, 1 overlapping" in out
    assert f"overlaps with {path}, row 2, text behind a label" in out


def test_short_equal_texts_and_long_ones_that_quote_pass(work, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": "The cat sat", "b": ["A dog ran"], "c": QUOTED}))
    assert run(work, path) == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "held-out files: 1",
        "texts: 4 compared, 0 equal, 0 overlapping",
        "following: 1 compared, 0 equal, 0 overlapping",
        "running: 1 compared, 0 equal, 0 overlapping",
        "phrases: 2 compared, 0 equal, 0 overlapping",
    ]


def test_what_prepare_wrote_holds_no_row_that_it_refused(tiny_base, tmp_path):
    held_out = tiny_base.root / "held.jsonl"
    assert run(tiny_base.root / "work", held_out) == 0
    windows = ragged.Ragged.load(tiny_base.root / "work", "running")
    pieces = vocabulary.load(tiny_base.root / "work/sentencepiece.model")
    longest = windows[int(windows.lengths.argmax())]
    leak = tmp_path / "later.jsonl"
    leak.write_text(json.dumps({"text": pieces.decode(longest.tolist())}))
    assert run(tiny_base.root / "work", leak) == 1


def test_json_lines_and_nested_json_say_where_a_text_is(tmp_path):
    nested = {"data": [{"qas": [{"question": "Who?"}], "id": 7}]}
    (tmp_path / "a.json").write_text(json.dumps(nested))
    assert fields(tmp_path / "a.json") == [(1, "data/0/qas/0/question", "Who?")]
    (tmp_path / "b.json").write_text(json.dumps(["one", {"x": "two"}]))
    assert fields(tmp_path / "b.json") == [(1, "text", "one"), (2, "x", "two")]
    (tmp_path / "c.json").write_text('{"x": "one"}\n\n{"x": "two\u2028three"}\n')
    expected = [(1, "x", "one"), (3, "x", "two\u2028three")]
    assert fields(tmp_path / "c.json") == expected
    with gzip.open(tmp_path / "d.jsonl.gz", "wt") as file:
        file.write('{"x": "one"}\r\n{"x": "two"}\r\n')
    assert fields(tmp_path / "d.jsonl.gz") == [(1, "x", "one"), (2, "x", "two")]


def test_cells_are_named_by_a_header_if_there_is_one(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"one,\ntwo",bad\n')
    assert fields(tmp_path / "a.csv") == [
        *((1, "text", "text"), (1, "label", "label")),
        *((2, "text", "one,\ntwo"), (2, "label", "bad")),
    ]
    (tmp_path / "b.csv").write_text("3,Fears for pensions\n")
    assert fields(tmp_path / "b.csv") == [
        (1, "column 1", "3"),
        (1, "column 2", "Fears for pensions"),
    ]
    (tmp_path / "c.tsv").write_text('a "quotation\tb\nc\td\n')
    assert [text for *_, text in fields(tmp_path / "c.tsv")] == [
        *('a "quotation', "b", "c", "d")
    ]


def test_labelled_lines_are_read_with_and_without_their_labels(tmp_path):
    path = tmp_path / "train_5500.label"
    path.write_bytes("ENTY:food What is a café ?\n".encode("latin-1"))
    assert fields(path) == [
        (1, "text behind a label", "What is a café ?"),
        (1, "field 1", "ENTY:food What is a café ?"),
    ]


def test_parquet_is_read_column_by_column(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"text": ["one", "two"], "choices": [["a", "b"], []]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert fields(tmp_path / "a.parquet") == [
        *((1, "text", "one"), (1, "choices/0", "a"), (1, "choices/1", "b")),
        (2, "text", "two"),
    ]


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("a.jsonl", b"", "no text can be read"),
        ("a.csv", b"\n,,\n", "no text can be read"),
        ("a.json", b"{", "cannot be read"),
        ("a.jsonl", b'{"x": "one"}\n{', "cannot be read"),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.pdf", b"text", "no .jsonl"),
    ],
)
def test_a_file_that_nothing_can_be_read_from_is_an_error(
    work, tmp_path, name, body, problem
):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ValueError, match=rf"--held-out .*{problem}"):
        run(work, tmp_path / name)


def test_a_missing_path_and_a_folder_that_was_not_prepared_are_errors(work, tmp_path):
    with pytest.raises(ValueError, match=r"--held-out .*nothing"):
        heldout.HeldOut.from_paths([tmp_path / "nothing"])
    with pytest.raises(ValueError, match="not a folder that `prepare` wrote"):
        run(tmp_path, work)


def test_an_offender_is_placed_where_it_shares_most(tmp_path):
    (tmp_path / "a.txt").write_text(f"{' '.join(LONG.split()[:14])}\n")
    (tmp_path / "b.txt").write_text(f"nothing\n{LONG}\n")
    offender = check.Offender("texts", 0, LONG, heldout.OVERLAPS)
    (place,) = check.locate([offender], heldout_files.find([tmp_path]))
    assert place is not None
    assert (place.path.name, place.row, place.name) == ("b.txt", 2, "field 1")
    assert check.locate([], []) == []
