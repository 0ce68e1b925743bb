"""`tfew report` as a user types it."""

import os
import subprocess
import sys

import one_line
import pytest

from tfew_jax.cli import main


@pytest.fixture
def runs(experiment, tuned):
    experiment("a", tuned("cb", (0.1, 0.2, 0.3, 0.4, 0.5)))
    return experiment("b", tuned("rte", (0.5,) * 5)).parent


def run(*argv):
    return main.main(["report", *map(str, argv)])


def error_of(capsys, *argv):
    return one_line.error_of(capsys, "report", *argv)


def test_the_table_is_printed(runs, capsys):
    assert run(runs, "--published", "off") == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()[:2]]
    assert lines[0] == ["templates", "rte", "cb", "mean", "(2", "sets)"]
    assert lines[1] == "ia3 first 50.00 (0.00) 30.00 (20.00) 40.00".split()
    assert err == ""


def test_files_are_written_and_the_table_is_printed_too(runs, tmp_path, capsys):
    paths = {name: tmp_path / f"report.{name}" for name in ("csv", "md", "html")}
    options = [part for name, path in paths.items() for part in (f"--{name}", path)]
    assert run(runs, *options) == 0
    assert "T-Few" in capsys.readouterr().out
    assert paths["csv"].read_text().startswith("kind,name,templates,split,set,")
    assert paths["md"].read_text().startswith("|  | templates | rte | cb | mean (2")
    assert paths["html"].read_text().startswith("<!DOCTYPE html>")
    assert sorted(p.name for p in tmp_path.glob("*report*")) == sorted(
        path.name for path in paths.values()
    )


def test_a_chart_is_written_beside_the_table(runs, tmp_path, capsys):
    assert run(runs, "--png", tmp_path / "chart.png") == 0
    assert "T-Few" in capsys.readouterr().out
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "flag, start", [("--md", "|  | templates"), ("--csv", "kind,"), ("--html", "<!D")]
)
def test_a_dash_is_standard_output_in_place_of_the_table(runs, capsys, flag, start):
    assert run(runs, flag, "-", "--metric", "macro_f1") == 0
    assert capsys.readouterr().out.startswith(start)


def test_variants_are_named_on_the_command_line(runs, capsys):
    assert run("--variant", f"one={runs}/a", "--variant", f"two=x={runs}/b") == 2
    assert "x=" in capsys.readouterr().err  # the first = ends the name
    assert run("--variant", f"one={runs}/a", "--variant", f"two={runs}/b") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]]
    assert names == ["one", "two"]


def test_unfinished_experiments_are_warned_about_and_counted(
    runs, experiment, tuned, capsys
):
    path = experiment("c", tuned("wsc", (0.5,), seeds=(0,)), finished=False)
    assert run(runs) == 0
    out, err = capsys.readouterr()
    assert err == (
        f"tfew report: warning: {path} is not finished: 1 of 5 seeds have scores\n"
    )
    assert "50.00 n=1" in out and "1 of 3 experiments not finished" in out


def test_a_mistake_is_one_line(runs, tmp_path, capsys):
    for argv, says in [
        ([], "DIR is missing"),
        ([tmp_path / "no"], "no does not exist"),
        ([runs, "--variant", "x"], "--variant 'x' is not NAME=DIR"),
        ([runs, "--variant", "x=a", "--variant", "y=a"], "names a twice, x and y"),
        ([runs, "--metric", "f1"], "invalid choice: 'f1'"),
        ([runs, "--md", "-", "--csv", "-"], "--csv and --md both go to -"),
        ([runs, "--md", "x", "--csv", "./x"], "--csv and --md both go to x;"),
        ([runs, "--md", tmp_path / "no" / "x.md"], "its directory does not exist"),
        ([runs, "--md", runs], f"--md {runs}: it is a directory; name a file"),
        ([runs, "--png", "-"], "--png -: an image is not for standard output"),
        ([runs, "--md", "x", "--png", "x"], "--md and --png both go to x;"),
    ]:
        assert says in error_of(capsys, *argv)


def test_a_file_that_cannot_be_written_is_one_line(runs, capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    target = runs / "table.md"
    assert error_of(capsys, runs, "--md", target) == (
        f"tfew report: error: cannot write {target} (Permission denied); name another "
        "file"
    )
    assert not list(runs.glob("*table*"))


def test_different_experiments_end_with_the_way_to_name_them(
    runs, experiment, tuned, capsys
):
    changed = {"recipe.num_steps": 300}
    path = experiment("c", tuned("cb", (0.9,) * 5, config_hash="beef"), **changed)
    line = error_of(capsys, runs)
    assert "differ in recipe.num_steps (1000, 300)" in line
    assert f"--variant NAME={path}" in line


def test_a_reader_that_has_seen_enough_is_no_error(runs):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tfew_jax.cli.main", "report", str(runs)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
