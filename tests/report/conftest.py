"""Directories of experiments, as runs leave them but without training."""

import json

import pytest

SEEDS = (0, 1, 32, 42, 1024)
SETTINGS = {
    "protocol.seeds": list(SEEDS),
    "protocol.num_shots": 32,
    "protocol.num_folds": 2,
    "protocol.eval_batch_size": 32,
    "recipe.num_steps": 1000,
    "recipe.batch_size": 8,
    "recipe.learning_rate": 0.003,
    "rows.train": "400 rows, sha256 aaaa",
    "rows.test": "100 rows, sha256 bbbb",
    "rows.predict": None,
    "method": {"name": "ia3"},
    "base": "0123456789abcdef",
}


def make_record(kind, accuracy, *, task, seed=None, **more):
    """A record as `Study` writes it; `more` replaces fields."""
    fields = {
        "run": f"{kind}-{seed}-{more.get('fold')}-{more.get('template')}",
        "kind": kind,
        "task": task,
        "seed": seed,
        "fold": None,
        "split": "test",
        "scores": None if accuracy is None else {"accuracy": accuracy, "macro_f1": 0.5},
        "num_train_rows": 0 if kind == "zero_shot" else 32,
        "num_scored_rows": 100,
        "num_steps": 1000 if kind == "tuned" else 0,
        "config_hash": "c0ffee",
        "versions": {"tfew_jax": "0.1.0", "device": "cpu"},
    }
    if kind == "tuned":
        fields |= {
            "method": {"name": "ia3"},
            "num_parameters": 540672,
            "wall_time_s": 12.6,
        }
    return fields | more


@pytest.fixture
def record():
    return make_record


@pytest.fixture
def tuned():
    """Records of one tuned run a seed."""

    def make(task, accuracies, *, seeds=SEEDS, **more):
        return [
            make_record("tuned", accuracy, task=task, seed=seed, **more)
            for seed, accuracy in zip(seeds, accuracies, strict=True)
        ]

    return make


@pytest.fixture
def experiment(tmp_path):
    """Writes a directory and returns its path."""

    def write(name, records, *, finished=True, settings=SETTINGS, tail="", **changed):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        lines = [json.dumps(fields) + "\n" for fields in records]
        (folder / "results.jsonl").write_text("".join(lines) + tail)
        if settings is not None:
            (folder / "settings.json").write_text(json.dumps(settings | changed))
        if finished:
            (folder / "summary.json").write_text(json.dumps({"base": "models/t0"}))
            (folder / "FINISHED").write_text("c0ffee\n")
        return folder

    return write
