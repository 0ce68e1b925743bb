"""`tfew train` on text-to-text tasks."""

import json

import pytest

from tfew_jax import checkpoint
from tfew_jax.cli import main

FILES = ("models/embedded.gin", "methods/ia3.gin", "runs/text.gin")


@pytest.fixture
def data(tmp_path):
    for name, labels in (
        ("RTE", ("entailment", "not_entailment")),
        ("CB", ("entailment", "neutral")),
    ):
        (tmp_path / name).mkdir()
        rows = [
            {"premise": "good", "hypothesis": "film", "idx": n, "label": labels[n % 2]}
            for n in range(4)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        for file in ("train", "val"):
            (tmp_path / name / f"{file}.jsonl").write_text(text)
    return tmp_path


def train(data, *arguments, files=FILES, **macros):
    return main.main(
        [
            "train",
            *(f"--gin_file={name}" for name in files),
            f"--gin.DATA_DIR={str(data)!r}",
            f"--gin.MODEL_DIR={str(data / 'out')!r}",
            *(f"--gin.{name}={value!r}" for name, value in macros.items()),
        ]
    )


def test_a_domain_shift_is_trained_and_its_scores_are_shown(
    data, base_directory, capsys
):
    status = train(
        data,
        files=[*FILES, "domain_shift/rte_to_cb.gin"],
        INITIAL_CHECKPOINT_PATH=str(base_directory),
        TRAIN_STEPS=2,
        EVAL_PERIOD=2,
        BATCH_SIZE=4,
        TASK_FEATURE_LENGTHS={"inputs": 32, "targets": 8},
    )
    shown = capsys.readouterr()
    assert status == 0, shown.err
    lines = shown.out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:3]] == [
        *("rte, validation", "cb, validation")
    ]
    assert lines[-1] == "best steps: 2 of 2"
    out = data / "out"
    assert (out / "FINISHED").exists() and (out / "operative_config.gin").exists()
    assert (out / "adapter" / "adapter.safetensors").exists()
    summary = json.loads((out / "summary.json").read_text())
    assert [of_set["task"] for of_set in summary["sets"]] == ["rte", "cb"]


def test_prompt_tuning_has_its_own_file(data, base_directory, capsys):
    status = train(
        data,
        files=["models/embedded.gin", "methods/prompt.gin", "runs/prompt_tuning.gin"],
        MIXTURE_OR_TASK_NAME="rte",
        INITIAL_CHECKPOINT_PATH=str(base_directory),
        TRAIN_STEPS=2,
        BATCH_SIZE=4,
        SEEDS=(0,),
        PROMPT_LENGTH=3,
        PROMPT_VOCABULARY=None,
        TASK_FEATURE_LENGTHS={"inputs": 32, "targets": 8},
    )
    shown = capsys.readouterr()
    assert status == 0, shown.err
    assert shown.out.splitlines()[1].startswith("rte, validation")
    adapter = checkpoint.load_adapter(data / "out" / "adapter")
    assert adapter.method.name == "prompt"
    assert adapter.metadata["text_task"]["task_word"] is False


def test_what_cannot_work_is_one_line(data, capsys):
    assert train(data, MIXTURE_OR_TASK_NAME="mrpc") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no train split of mrpc" in line
    assert train(data, MIXTURE_OR_TASK_NAME="rte", PATIENCE=1, EVAL_SPLIT=None) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "patience=1 counts validations" in line
    files = [*FILES[:2], "domain_shift/rte_to_cb.gin", FILES[2]]
    assert train(data, files=files) == 2
    assert "stands before runs/text.gin" in capsys.readouterr().err
