"""A sweep is its single experiments, trained in few programs, each done once."""

import json

import jax
import numpy as np
import pytest

from tfew_jax import checkpoint, experiment, report
from tfew_jax.data import fewshot, tasks
from tfew_jax.experiment import directory, together

RECIPE = experiment.Recipe(num_steps=3, batch_size=4)
RATES = (0.02, 0.05)


@pytest.fixture(scope="module")
def films(rows, test_rows):
    """Two tasks of the same rows, which differ in their templates."""
    return [
        tasks.Task(
            spec=fewshot.TaskSpec(
                templates=template, choices="bad ||| good", name=template[:4]
            ),
            train=rows,
            test=test_rows,
        )
        for template in ("Film {{text}}", "Plot {{text}}")
    ]


@pytest.fixture(scope="module")
def sweep(base, films):
    def run(out, **changed):
        given = {
            "base": base,
            "tasks": films,
            "lines": [experiment.Line(recipe=RECIPE)],
            "learning_rates": RATES,
            "seeds": (3, 1),
            "num_shots": 16,
            "checkpoint_period": 2,
            "max_together": 8,
            "quiet": True,
        }
        return experiment.sweep(out=out, **(given | changed))

    return run


@pytest.fixture(scope="module")
def swept(sweep, tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("swept") / "out")


def records_of(path):
    """Every record below a directory without what the clock says."""
    found = {}
    for file in sorted(path.rglob("results.jsonl")):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        for record in records:
            record.pop("wall_time_s", None)
            record.pop("first_step", None)
        found[str(file.relative_to(path))] = records
    return found


def adapters_of(path):
    files = sorted(path.rglob("adapter.safetensors"))
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_there_is_a_trial_for_each_task_and_rate_and_all_trained_together(swept):
    places = [(t.task, t.line, t.learning_rate, t.run) for t in swept.trials]
    assert places == [
        (task, "ia3", rate, f"runs/{task}/ia3/lr-{rate}")
        for task in ("Film", "Plot")
        for rate in RATES
    ]
    for trial in swept.trials:
        records = directory.Records(swept.directory / trial.run / "results.jsonl")
        tuned = [record for record in records.all() if record["kind"] == "tuned"]
        assert [record["run"] for record in tuned] == ["seed-3", "seed-1"]
        assert {record["num_together"] for record in tuned} == {8}
        summary = json.loads((swept.directory / trial.run / "summary.json").read_text())
        assert trial.accuracy == summary["tuned"]
        assert trial.zero_shot == summary["zero_shot"]
        assert summary["variant"] == f"ia3, rate {trial.learning_rate}"
        assert not trial.failures


def test_a_trial_is_an_experiment_of_train(swept, base, films, tmp_path):
    alone = experiment.train(
        model_dir=tmp_path,
        base=base,
        task=films[1],
        recipe=experiment.Recipe(num_steps=3, batch_size=4, learning_rate=0.05),
        seeds=(3, 1),
        num_shots=16,
        variant="ia3, rate 0.05",
        quiet=True,
    )
    path = swept.directory / "runs/Plot/ia3/lr-0.05"
    assert alone.directory is not None
    for name in (directory.SETTINGS, directory.FINISHED):
        assert (path / name).read_bytes() == (alone.directory / name).read_bytes()
    mine, single = (
        {
            record["run"]: record
            for record in directory.Records(p / "results.jsonl").all()
        }
        for p in (path, alone.directory)
    )
    assert mine.keys() == single.keys()
    assert {k: set(v) for k, v in mine.items()} == {
        k: set(v) for k, v in single.items()
    }
    for name in ("zero_shot", "seed-3/majority"):
        assert mine[name]["scores"] == single[name]["scores"]
    for seed in (3, 1):
        one, other = (
            checkpoint.load_adapter(p / f"runs/seed-{seed}/adapter", base.config)
            for p in (path, alone.directory)
        )
        assert one.metadata == other.metadata
        for a, b in zip(*map(jax.tree.leaves, (one.params, other.params)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_reports_read_a_sweep_and_so_do_we(swept):
    found = report.load_records(swept.directory)
    assert [e.variant for e in found] == [f"ia3, rate {r}" for r in RATES] * 2
    assert experiment.load_sweep(swept.directory) == swept
    summary = json.loads((swept.directory / "summary.json").read_text())
    assert summary["num_trials"] == 4 and summary["num_failed_runs"] == 0
    header, *lines = swept.table().splitlines()
    assert header.split() == [
        "task",
        "method",
        "rate",
        "zero-shot",
        "accuracy",
        "[q1,",
        "q3]",
    ]
    assert [line.split()[:3] for line in lines] == [
        [task, "ia3", str(rate)] for task in ("Film", "Plot") for rate in RATES
    ]
    with pytest.raises(ValueError, match="give the directory of a finished sweep"):
        experiment.load_sweep(swept.directory / "runs")


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_a_killed_sweep_goes_on_to_the_same_bits_and_trains_nothing_twice(
    sweep, swept, tmp_path, monkeypatch
):
    append, train_group = directory.Records.append, together.train_group
    for limit in (7, 9, 14):  # records: of baselines, then also of trained runs
        calls = 0

        def deadly(self, record, limit=limit):
            nonlocal calls
            calls += 1
            if calls == limit:
                raise Killed
            append(self, record)

        with monkeypatch.context() as patch:
            patch.setattr(directory.Records, "append", deadly)
            with pytest.raises(Killed):
                sweep(tmp_path / "out")
    assert not (tmp_path / "out" / "sweep.json").exists()
    groups = []

    def counted(jobs, **settings):
        groups.append([job.member.name for job in jobs])
        return train_group(jobs, **settings)

    monkeypatch.setattr(together, "train_group", counted)
    found = sweep(tmp_path / "out")
    assert found.trials == swept.trials
    assert adapters_of(found.directory) == adapters_of(swept.directory)
    assert len(adapters_of(swept.directory)) == 4 * (2 + 1)
    assert len(groups) == 1 and len(groups[0]) < 8  # what was recorded is not among it
    assert sweep(tmp_path / "out").trials == swept.trials
    assert len(groups) == 1
    for records in records_of(found.directory).values():
        names = [record["run"] for record in records]
        assert len(set(names)) == len(names) == 2 + 1 + 2 * 2


def test_a_rate_that_fails_is_told_and_the_others_are_those_without_it(
    sweep, swept, tmp_path, capsys
):
    found = sweep(tmp_path / "out", learning_rates=(0.02, 1e38), quiet=False)
    told = capsys.readouterr().err
    assert "Plot, ia3, lr-1e+38: seed-1: the norm of the gradient is nan" in told
    for trial, other in zip(found.trials[::2], swept.trials[::2], strict=True):
        assert trial == other
        mine, whole = (adapters_of(s.directory / trial.run) for s in (found, swept))
        assert mine == whole
    for trial in found.trials[1::2]:
        assert trial.accuracy is None
        assert set(trial.failures) == {"seed-3", "seed-1"}
        assert "row " in trial.failures["seed-3"]
    assert "2 runs failed" in found.table()
    assert (
        json.loads((tmp_path / "out/summary.json").read_text())["num_failed_runs"] == 4
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tasks": []}, "there is no task"),
        ({"tasks": ["flight"]}, "flight"),
        ({"lines": []}, "there is no line"),
        ({"learning_rates": ()}, "there is no learning rate to sweep over"),
        ({"learning_rates": (0.1, 0.01, 0.1)}, "learning rate 0.1 stands twice"),
        ({"learning_rates": (0.1, -1.0)}, "learning_rate must be positive"),
        ({"seeds": ()}, "there are no seeds"),
        ({"seeds": (1, 1)}, "seed 1 stands twice"),
        ({"max_together": 0}, "max_together must be positive"),
        ({"checkpoint_period": 0}, "checkpoint_period must be positive"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_written(
    sweep, tmp_path, changed, message
):
    with pytest.raises(ValueError, match=message):
        sweep(tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()


def test_a_task_that_cannot_be_scored_and_two_of_one_name_are_refused(
    sweep, films, rows, tmp_path
):
    unscored = tasks.Task(spec=films[0].spec, train=rows)
    with pytest.raises(ValueError, match="task Film has no test rows to score"):
        sweep(tmp_path / "out", tasks=[unscored])
    with pytest.raises(ValueError, match="two tasks, 'Film' and 'Film'"):
        sweep(tmp_path / "out", tasks=films[:1] * 2)


def test_a_directory_of_another_sweep_or_of_something_else_is_refused(
    sweep, swept, tmp_path
):
    with pytest.raises(ValueError, match=r"other settings: .*lr-0.05 was .*\(absent\)"):
        sweep(swept.directory, learning_rates=(0.02,))
    with (
        directory.open_directory(
            swept.directory / "runs/Film/ia3/lr-0.02",
            settings=json.loads(
                (swept.directory / "runs/Film/ia3/lr-0.02/settings.json").read_text()
            ),
        ),
        pytest.raises(directory.DirectoryInUse),
    ):
        sweep(swept.directory)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds summary\.json but no settings\.json"):
        sweep(tmp_path)
