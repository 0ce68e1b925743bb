"""`tfew params` as a user types it."""

import csv
import io
import json

import one_line
import pytest

from tfew_jax.cli import main


def run(*argv):
    return main.main(["params", *map(str, argv)])


def error_of(capsys, *argv):
    return one_line.error_of(capsys, "params", *argv)


def test_without_arguments_it_is_table_4_and_the_methods(capsys):
    assert run() == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:2] == ["Prompt", "tuning"]
    assert ["100", "xl", "204,800", "2,849,961,984", "0.00719"] in lines
    assert "10,240      76,971,392     0.01330  the paper prints 10,420" in out
    (ia3,) = [line for line in lines if line and line[0] == "(IA)^3"]
    assert ia3[-6:] == ["xl", "is", "T0-3B,", "xxl", "is", "T0-11B"]
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_sizes_methods_and_lengths_are_chosen(capsys):
    assert run("--model", "xl", "--method", "prompt", "--length", 20, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    (row,) = rows
    assert (row["model"], row["length"], row["number"]) == ("xl", "20", "40960")


def test_a_models_directory_is_counted_by_its_own_sizes(base_directory, capsys):
    assert run("--model", base_directory, "small", "--method", "ia3", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["number"]) for row in rows] == [
        ("base", 2 * (6 * 16 + 2 * 32)),
        ("small", 34_816),
    ]


def test_models_of_one_name_have_a_row_each(base_directory, tmp_path, capsys):
    for run_name in ("a", "b"):
        (tmp_path / run_name).mkdir()
        (tmp_path / run_name / "final_model").symlink_to(base_directory)
    (tmp_path / "small").symlink_to(base_directory)
    paths = [tmp_path / "a/final_model", tmp_path / "b/final_model"]
    assert models_of(capsys, *paths) == ["a", "b"]
    twice = [tmp_path / "small", "small"]
    assert models_of(capsys, *twice) == [str(tmp_path / "small"), "small"]


def models_of(capsys, *given):
    assert run("--model", *given, "--method", "ia3", "--json") == 0
    return [row["model"] for row in json.loads(capsys.readouterr().out)]


def test_files_are_written_and_the_tables_are_printed_too(tmp_path, capsys):
    paths = {kind: tmp_path / f"counts.{kind}" for kind in ("md", "csv", "json", "png")}
    flags = [word for kind, path in paths.items() for word in (f"--{kind}", path)]
    assert run("--model", "small", *flags) == 0
    assert capsys.readouterr().out.startswith("Prompt tuning")
    assert paths["md"].read_text().startswith("Prompt tuning (Lester")
    assert paths["csv"].read_text().startswith("model,method,length,number,unit,")
    assert len(json.loads(paths["json"].read_text())) == 13
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in paths.values()
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "huge"], "--model 'huge' is neither a size (tiny, small, base"),
        (["--model", "no/where"], "model no/where is not a directory"),
        (["--method", "lorra"], "unknown method 'lorra'; available: full"),
        (["--length", "0"], "a length must be 1 or more, got 0"),
        (["--length", "ten"], "invalid int value: 'ten'"),
        (["--md", "--csv"], "--md and --csv both go to -"),
        (["--png", "no/where.png"], "--png no/where.png: its directory does not exist"),
        (["--png", "."], "--png .: it is a directory; name a file"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(
    argv, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(capsys, *argv)
    assert list(tmp_path.iterdir()) == []
