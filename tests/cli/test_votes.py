"""`tfew eval` and `tfew infer` with a list of adapters."""

import csv
import json

import numpy as np
import pytest

from tfew_jax import checkpoint
from tfew_jax.checkpoint import layout
from tfew_jax.cli import main
from tfew_jax.peft import ia3

TASK = {
    "name": "films",
    "templates": ["Review: {{text}} Sentiment? ||| {{answer_choices[label]}}"],
    "choices": ["bad ||| good"],
    "label_column": None,
    "lengths": {"inputs": 48, "targets": 8},
    "normalization": "mean",
}


@pytest.fixture(scope="module")
def folder(base_directory, tmp_path_factory):
    """Two adapters, a and b, and labelled rows."""
    folder = tmp_path_factory.mktemp("votes")
    config = checkpoint.load_model(base_directory).config
    shapes = layout.adapter_shapes(config, ia3.IA3())
    for seed, name in enumerate("ab"):
        rng = np.random.default_rng(seed)
        arrays = {
            path: rng.normal(size=shape).astype(np.float32)
            for path, shape in shapes.items()
        }
        checkpoint.Adapter(
            method=ia3.IA3(), params=layout.unflatten(arrays), config=config, task=TASK
        ).save(folder / name)
    (folder / "rows.csv").write_text("text,label\nlovely film,1\nawful plot,0\n")
    return folder


@pytest.fixture
def tfew(base_directory, folder, tmp_path, capsys):
    """Runs a command with CHECKPOINT_PATH; returns its status, output and errors."""

    def run(command, adapters):
        status = main.main(
            [
                *(command, "--gin_file=models/embedded.gin"),
                f"--gin_file=runs/{command}.gin",
                f"--gin.INITIAL_CHECKPOINT_PATH='{base_directory}'",
                f"--gin.MIXTURE_OR_TASK_NAME='{folder / 'rows.csv'}'",
                f"--gin.{command.upper()}_OUTPUT_DIR='{tmp_path}'",
                "--gin.BATCH_SIZE=4",
                f"--gin.CHECKPOINT_PATH={adapters!r}",
            ]
        )
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_a_list_of_adapters_is_scored_by_its_vote(tfew, folder, tmp_path):
    status, out, err = tfew("eval", [str(folder / "a"), str(folder / "b")])
    assert status == 0, err
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    lines = out.splitlines()
    starts = ["vote", "mean probability", "mean of members", "best of members"]
    assert [line[:16].rstrip() for line in lines[:4]] == starts
    assert f"accuracy {numbers['vote']['accuracy']:.4f}  macro-F1 " in lines[0]
    assert lines[4] == f"agreement {numbers['agreement']:.4f}  rows 2"
    assert set(numbers["members"]) == {str(folder / "a"), str(folder / "b")}
    assert (tmp_path / "config.gin").exists()


def test_a_list_of_adapters_predicts_by_its_vote(tfew, folder, tmp_path):
    status, out, err = tfew("infer", [str(folder / "a"), str(folder / "b")])
    assert status == 0, err
    assert out.strip() == str(tmp_path / "predictions.csv")
    with (tmp_path / "members.csv").open(newline="") as file:
        members = list(csv.DictReader(file))
    assert len(members) == 4
    assert list(members[0]) == [
        "row",
        "member",
        "prediction",
        "score:bad",
        "score:good",
    ]
    with (tmp_path / "predictions.csv").open(newline="") as file:
        votes = list(csv.DictReader(file))
    for vote, a, b in zip(votes, members[::2], members[1::2], strict=True):
        sums = {
            choice: sum(float(member[f"score:{choice}"]) for member in (a, b))
            for choice in ("bad", "good")
        }
        agree = a["prediction"] == b["prediction"]
        winner = a["prediction"] if agree else max(sums, key=sums.get)
        assert vote["prediction"] == winner
        assert float(vote["agreement"]) == (1.0 if agree else 0.5)


@pytest.mark.parametrize("command", ["eval", "infer"])
def test_lists_that_cannot_vote_are_refused_in_one_line(tfew, folder, command):
    a = str(folder / "a")
    for adapters, message in (
        ([], "the list of adapters is empty"),
        ([a, a], f"the adapters {a} and {a} are the same"),
        ([a, a + "x"], f"adapter {a}x: expected a directory"),
        ([a, 3], "CHECKPOINT_PATH must be"),
    ):
        status, _, err = tfew(command, adapters)
        assert status == 2
        (line,) = err.strip().splitlines()
        assert message in line
