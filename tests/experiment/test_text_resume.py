"""A run on a text-to-text task that dies at any moment ends as if nothing happened."""

import json
import types

import numpy as np
import pytest
from flax import traverse_util

from tfew_jax import experiment
from tfew_jax.checkpoint import adapter as adapters
from tfew_jax.checkpoint import run as run_checkpoints
from tfew_jax.experiment import (
    directory,
    generating,
    progress,
    text_measuring,
    text_run,
)

RECIPE = experiment.Recipe(
    num_steps=6, batch_size=4, learning_rate=0.02, schedule="constant"
)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing after it runs."""


@pytest.fixture(scope="module")
def base(dropping):
    return dropping


def moved(params):
    """How far (IA)^3 is from its start, which grows with the first updates."""
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    vectors = [np.asarray(leaf) for path, leaf in flat.items() if "ia3" in path]
    return float(np.sqrt(sum(np.sum((v - 1) ** 2) for v in vectors)))


def scored(score, questions):
    generations = [
        generating.Generation(
            row=row, text=str(score), score=0.0, inputs=example["inputs"], legal=("x",)
        )
        for row, example in enumerate(questions.examples)
    ]
    return text_measuring.Measured(
        scores={"accuracy": score}, score=score, illegal=None, generations=generations
    )


def rising(base, model, params, questions, *, batch_size):
    return scored(moved(params), questions)


def falling(base, model, params, questions, *, batch_size):
    return scored(1 / (1 + moved(params)), questions)


CASES = {  # the measure, when to stop, the steps validated, the best of them
    "rising": (rising, None, [0, 2, 4, 6], 6),
    "stopping early": (falling, 1, [0, 2, 4], 2),
}


def train(base, text_data, path, patience, checkpoint_period=3):
    return experiment.train_text(
        model_dir=path,
        base=base,
        task="rte",
        data_dir=text_data,
        recipe=RECIPE,
        eval_period=2,
        patience=patience,
        eval_tasks=["cb"],
        lengths={"inputs": 48, "targets": 16},
        checkpoint_period=checkpoint_period,
        quiet=True,
    )


@pytest.fixture(scope="module", params=CASES)
def case(request, base, text_data, tmp_path_factory):
    """A case with the directory of its run that nothing stopped."""
    measure, patience, steps, best = CASES[request.param]
    path = tmp_path_factory.mktemp("whole") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_measuring, "answer", measure)
        result = train(base, text_data, path, patience)
    validated = [r["step"] for r in result.records if r["kind"] == "validation"]
    assert validated == steps
    assert result.summary["runs"][0]["best_step"] == best
    return measure, patience, path


def files_in(path, pattern):
    found = {str(f.relative_to(path)): f.read_bytes() for f in path.rglob(pattern)}
    assert found
    return found


def timeless(value):
    """Without what the clock says and where the process began."""
    if isinstance(value, dict):
        left_out = ("wall_time_s", "first_step")
        return {k: timeless(v) for k, v in value.items() if k not in left_out}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def assert_same(path, whole):
    for pattern in ("adapter.safetensors", "generations.csv", "metrics.json"):
        assert files_in(path, pattern) == files_in(whole, pattern)
    for name in ("results.jsonl", "summary.json", "settings.json"):
        found, expected = (
            [timeless(json.loads(part)) for part in text]
            for text in (_parts(path / name), _parts(whole / name))
        )
        assert found == expected


def _parts(path):
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


# Where the process dies: before or after the n-th call of a function.
MOMENTS = [
    (run_checkpoints.RunCheckpoints, "save"),
    (progress.Progress, "step"),
    (adapters.Adapter, "save"),
    (directory.Records, "append"),
    (text_measuring, "write_files"),
    (directory, "write_json"),
]


@pytest.mark.parametrize(("owner", "name"), MOMENTS, ids=lambda part: str(part)[-20:])
@pytest.mark.parametrize("after", [False, True])
def test_dying_at_any_call_of_it_changes_nothing_in_the_end(
    owner, name, after, case, base, text_data, tmp_path
):
    measure, patience, whole = case
    original, path = getattr(owner, name), tmp_path / "out"
    deaths = calls_left = 0

    def deadly(*args, **kwargs):
        nonlocal calls_left
        calls_left -= 1
        if calls_left == 0 and not after:
            raise Killed
        result = original(*args, **kwargs)
        if calls_left == 0:
            raise Killed
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_measuring, "answer", measure)
        patch.setattr(owner, name, deadly)
        for countdown in (1, 3, 2, 1, 4):
            calls_left = countdown
            try:
                train(base, text_data, path, patience)
            except Killed:
                deaths += 1
            else:
                break
        calls_left = 0  # below which it lets live
        train(base, text_data, path, patience)
    assert deaths > 0
    assert_same(path, whole)


def test_an_interrupted_run_that_had_to_stop_does_not_go_on(
    base, text_data, tmp_path, monkeypatch
):
    """It died after the checkpoint of its last step and before its record."""
    monkeypatch.setattr(text_measuring, "answer", falling)
    steps = []
    step = progress.Progress.step

    def spy(self, number, metrics):
        steps.append(number)
        step(self, number, metrics)

    def fails(*args):
        raise Killed

    monkeypatch.setattr(progress.Progress, "step", spy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_measuring, "write_files", fails)
        with pytest.raises(Killed):
            train(base, text_data, tmp_path, 1)
    assert steps == [1, 2, 3, 4]
    result = train(base, text_data, tmp_path, 1)
    assert steps == [1, 2, 3, 4]
    assert result.summary["runs"][0]["last_step"] == 4


def die_after_the_record_of_step_4(base, text_data, path, patience, period):
    append = directory.Records.append

    def deadly(self, record):
        append(self, record)
        if record.get("step") == 4:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory.Records, "append", deadly)
        with pytest.raises(Killed):
            train(base, text_data, path, patience, period)


def test_a_run_that_stops_early_ends_there_wherever_its_last_checkpoint_stands(
    base, text_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(text_measuring, "answer", falling)
    train(base, text_data, tmp_path / "whole", 1)
    for period in (2, 100):  # that of the validations, and no checkpoint before the end
        path = tmp_path / str(period)
        die_after_the_record_of_step_4(base, text_data, path, 1, period)
        train(base, text_data, path, 1, period)
        assert_same(path, tmp_path / "whole")


@pytest.mark.parametrize("period", [3, 100])
def test_what_is_done_again_after_a_stop_takes_no_time(
    base, text_data, tmp_path, monkeypatch, period
):
    seconds = 0.0
    step = progress.Progress.step

    def slow(self, number, metrics):
        nonlocal seconds
        seconds += 10
        step(self, number, metrics)

    monkeypatch.setattr(progress.Progress, "step", slow)
    monkeypatch.setattr(
        text_run, "time", types.SimpleNamespace(monotonic=lambda: seconds)
    )
    monkeypatch.setattr(text_measuring, "answer", rising)
    die_after_the_record_of_step_4(base, text_data, tmp_path, None, period)
    result = train(base, text_data, tmp_path, None, period)
    times = [r["wall_time_s"] for r in result.records if r["kind"] == "validation"]
    assert times == [0, 20, 40, 60]
