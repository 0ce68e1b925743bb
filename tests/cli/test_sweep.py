"""`tfew sweep` as a user types it, on a toy model."""

import json

import one_line
import pytest

from tfew_jax.cli import main

FILES = ("models/embedded.gin", "methods/ia3.gin", "tasks/csv.gin")
FILES += ("experiments/sweep.gin",)


@pytest.fixture
def given(base_directory, tmp_path):
    """Small files of rows, and what makes the sweep small."""
    rows = [
        f"{'lovely' if n % 2 else 'dull'} film {'plot ' * n},{n % 2}" for n in range(8)
    ]
    for name in ("films", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
        rows = [f"great {row}" for row in rows[:4]]
    return {
        "OUT": f"'{tmp_path / 'out'}'",
        "INITIAL_CHECKPOINT_PATH": f"'{base_directory}'",
        "TRAIN_FILE": f"'{tmp_path / 'films.csv'}'",
        "TEST_FILE": f"'{tmp_path / 'test.csv'}'",
        "TEMPLATES": "'Review: {{text}} Sentiment?'",
        "CHOICES": "'bad ||| good'",
        "LABEL": "'label'",
        "SEEDS": "(0, 1)",
        "TRAIN_STEPS": "2",
        "BATCH_SIZE": "2",
        "LEARNING_RATES": "(1e-3, 3e-3)",
        "MAX_TOGETHER": "4",
    }


def arguments(given):
    return [
        *("sweep", *(f"--gin_file={file}" for file in FILES)),
        *(f"--gin.{name}={value}" for name, value in given.items()),
    ]


def error_of(capsys, given):
    return one_line.error_of(capsys, *arguments(given))


def test_one_command_leaves_table_runs_and_configuration(given, tmp_path, capsys):
    assert main.main(arguments(given)) == 0
    out = tmp_path / "out"
    printed = capsys.readouterr()
    header, low, high = printed.out.splitlines()
    assert header.split()[:3] == ["task", "method", "rate"]
    assert [low.split()[2], high.split()[2]] == ["0.001", "0.003"]
    assert f"results in {out}" in printed.err
    assert "4 together, " in printed.err
    assert {path.name for path in out.iterdir()} >= {
        *("sweep.json", "summary.json", "log.txt", "runs"),
        *("config.gin", "operative_config.gin"),
    }
    first, _ = json.loads((out / "sweep.json").read_text())["trials"]
    settings = json.loads((out / first["run"] / "settings.json").read_text())
    assert settings["recipe.learning_rate"] == 1e-3
    # The saved configuration is the command's, and finds everything done.
    assert main.main(["sweep", f"--gin_file={out / 'operative_config.gin'}"]) == 0
    assert "all 4 runs are done already" in capsys.readouterr().err
    assert main.main(["report", str(out)]) == 0
    assert "ia3, rate 0.003" in capsys.readouterr().out
    line = error_of(capsys, given | {"LEARNING_RATES": "(1e-3,)"})
    assert "holds a run with other settings" in line and "lr-0.003" in line


def test_mistakes_are_one_line(given, tmp_path, capsys):
    line = error_of(capsys, given | {"LEARNING_RATES": "(1e-3, 1e-3)"})
    assert "learning rate 0.001 stands twice in [0.001, 0.001]" in line
    line = error_of(capsys, given | {"TASKS": "[]"})
    assert "there is no task" in line
    line = error_of(capsys, given | {"TASKS": "['flight']"})
    assert "flight" in line
    line = error_of(capsys, given | {"MAX_TOGETHER": "0"})
    assert "max_together must be positive" in line
    assert not (tmp_path / "out").exists()
