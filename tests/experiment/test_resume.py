"""A run killed at any moment and started again ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tfew_jax import peft
from tfew_jax.checkpoint import adapter as adapters
from tfew_jax.checkpoint import run as run_checkpoints
from tfew_jax.data import fewshot, tasks
from tfew_jax.experiment import directory, execution, plan, progress, study, tuning

NUM_STEPS = 6


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing after it runs."""


@pytest.fixture(scope="module")
def base(dropping):
    return dropping


@pytest.fixture(scope="module")
def experiment_of_two_folds(base, rows):
    return study.Study(
        base,
        tasks.Task(
            spec=fewshot.TaskSpec(
                templates=["{{text}}", "Film: {{text}}"], choices="bad ||| good"
            ),
            train=rows,
        ),
        method=peft.get("ia3")(),
        recipe=tuning.Recipe(num_steps=NUM_STEPS),
        protocol=plan.Protocol(seeds=(0,), num_folds=2),
    )


def execute(made, path, **settings):
    with directory.open_directory(path, settings=made.settings) as opened:
        return execution.execute_study(
            made,
            opened,
            progress.Progress(quiet=True),
            **({"checkpoint_period": 2, "keep_last": 2} | settings),
        )


@pytest.fixture(scope="module")
def uninterrupted(experiment_of_two_folds, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "out"
    execute(experiment_of_two_folds, path)
    return path


def adapters_in(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("adapter.safetensors"))
    }


def records_in(path):
    """The records without what the clock says and where the process began."""
    lines = (path / "results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        record.pop("wall_time_s", None)
        record.pop("first_step", None)
    return records


def assert_same(path, whole):
    assert adapters_in(path) == adapters_in(whole)
    assert len(adapters_in(path)) == 4  # two folds, all rows, and the one kept
    assert records_in(path) == records_in(whole)
    for name in ("predictions.csv", "summary.json"):
        assert (path / name).read_bytes() == (whole / name).read_bytes()


# Where the process dies: before or after the n-th call of a function.
MOMENTS = [
    (run_checkpoints.RunCheckpoints, "save"),
    (progress.Progress, "step"),
    (adapters.Adapter, "save"),
    (directory.Records, "append"),
    (study.scoring, "save"),
    (directory, "write_predictions"),
    (directory, "write_json"),
]


@pytest.mark.parametrize(("owner", "name"), MOMENTS, ids=lambda part: str(part)[-20:])
@pytest.mark.parametrize("after", [False, True])
def test_dying_at_any_call_of_it_changes_nothing_in_the_end(
    owner, name, after, experiment_of_two_folds, uninterrupted, tmp_path
):
    original = getattr(owner, name)
    deaths = 0
    calls_left = 0

    def deadly(*args, **kwargs):
        nonlocal calls_left
        calls_left -= 1
        if calls_left == 0 and not after:
            raise Killed
        result = original(*args, **kwargs)
        if calls_left == 0:
            raise Killed
        return result

    path = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, deadly)
        for countdown in (1, 2, 3, 1, 4, 2):
            calls_left = countdown
            try:
                execute(experiment_of_two_folds, path)
            except Killed:
                deaths += 1
            else:
                break
    assert deaths > 0
    execute(experiment_of_two_folds, path)
    assert_same(path, uninterrupted)


def test_a_torn_record_is_made_again(experiment_of_two_folds, uninterrupted, tmp_path):
    path = tmp_path / "out"
    execute(experiment_of_two_folds, path)
    results = path / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-25])
    (path / directory.FINISHED).unlink()
    execute(experiment_of_two_folds, path)
    assert_same(path, uninterrupted)


def test_the_finished_marker_is_written_last(
    experiment_of_two_folds, tmp_path, monkeypatch
):
    written = []
    write = directory.write_bytes

    def spy(path, data):
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(directory, "write_bytes", spy)
    execute(experiment_of_two_folds, tmp_path / "out")
    assert written[-1] == directory.FINISHED
    assert written.count(directory.FINISHED) == 1


def test_the_last_checkpoints_and_the_best_are_kept(
    experiment_of_two_folds, tmp_path, monkeypatch
):
    saved, save = {}, run_checkpoints.RunCheckpoints.save

    def spy(self, step, state, metric=None):
        saved.setdefault(self.directory, {})[step] = metric
        save(self, step, state, metric=metric)

    monkeypatch.setattr(run_checkpoints.RunCheckpoints, "save", spy)
    execute(experiment_of_two_folds, tmp_path / "out", checkpoint_period=1)
    assert len(saved) == 3
    for path, metrics in saved.items():
        assert list(metrics) == [1, 2, 3, 4, 5, 6]
        kept = run_checkpoints.RunCheckpoints(path)
        best = max(metrics, key=lambda step: (metrics[step], step))
        assert set(kept.steps()) == {5, 6, best}
        kept.close()


def command(base_directory, rows_file, out):
    macros = {
        "MODEL_DIR": str(out),
        "INITIAL_CHECKPOINT_PATH": str(base_directory),
        "TRAIN_FILE": str(rows_file),
        "TEMPLATES": ["Review: {{text}}"],
        "CHOICES": "bad ||| good",
        "SEEDS": (0,),
        "NUM_FOLDS": 2,
        "DROPOUT_RATE": 0.1,
        "TRAIN_STEPS": 120,
        "CHECKPOINT_PERIOD": 5,
    }
    files = (
        "models/embedded.gin",
        "methods/ia3.gin",
        "tasks/csv.gin",
        "runs/fewshot.gin",
    )
    return [
        *(sys.executable, "-m", "tfew_jax.cli.main", "train"),
        *(f"--gin_file={name}" for name in files),
        *(f"--gin.{name}={value!r}" for name, value in macros.items()),
    ]


def num_checkpoints(out):
    """How far all runs of a directory have come: the sum of their last steps."""
    steps = out.glob("runs/*/checkpoints/*")
    last = {}
    for step in steps:
        if step.name.isdigit():
            last[step.parent] = max(last.get(step.parent, 0), int(step.name))
    return sum(last.values()) // 5


def kill_after(process, out, *, count, delay):
    """Kills a process some time after it has written so many more checkpoints."""
    start = num_checkpoints(out)
    while process.poll() is None:
        if num_checkpoints(out) >= start + count:
            time.sleep(delay)
            process.kill()
            break
        time.sleep(0.01)
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_a_process_killed_at_random_moments_ends_with_the_same_bits(
    base_directory, rows, tmp_path
):
    rows_file = tmp_path / "rows.jsonl"
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}

    def start(out):
        return subprocess.Popen(
            command(base_directory, rows_file, out),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    generator = random.Random(0)
    num_killed = 0
    for _ in range(4):
        count, delay = generator.randint(1, 15), generator.uniform(0, 0.2)
        num_killed += kill_after(start(killed), killed, count=count, delay=delay)
    assert num_killed >= 2
    assert start(killed).wait() == 0
    for path in (whole, killed):
        assert (path / "FINISHED").exists()
    assert adapters_in(killed) == adapters_in(whole)
    assert records_in(killed) == records_in(whole)
