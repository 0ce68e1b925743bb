"""Runs that train in one program end as single runs, and do not see each other."""

import dataclasses

import jax
import numpy as np
import pytest

from tfew_jax import train
from tfew_jax.data import fewshot, tasks
from tfew_jax.experiment import plan, progress, study, together, tuning
from tfew_jax.peft import ia3

RECIPE = tuning.Recipe(num_steps=5, batch_size=4, learning_rate=0.02)
SHORT = fewshot.TaskSpec(templates="{{text}}", choices="bad ||| good", name="short")
LONG = fewshot.TaskSpec(
    templates="Review: {{text}} Is it lovely?",
    choices="not a good film ||| good ||| maybe",
    name="long",
)


def make_study(base, rows, spec=SHORT, recipe=RECIPE, method=None, seeds=(0, 1)):
    return study.Study(
        base,
        tasks.Task(spec=spec, train=rows),
        method=method or ia3.IA3(),
        recipe=recipe,
        protocol=plan.Protocol(seeds=seeds, num_folds=0),
    )


@pytest.fixture(scope="module")
def short(base, rows):
    return make_study(base, rows)


@pytest.fixture(scope="module")
def fast(base, rows):
    recipe = dataclasses.replace(RECIPE, learning_rate=0.05)
    return make_study(base, rows, recipe=recipe)


@pytest.fixture(scope="module")
def long(base, rows):
    return make_study(base, rows, LONG)


def job(made, run=0, *, rate=None, checkpoints=None, seed=None):
    """A run of a study; of another rate or seed if one is given."""
    found = made.runs[run]
    member = made.tuner.member(
        found.seed if seed is None else seed,
        f"{made.spec.name} {made.recipe.learning_rate} {found.name}",
        checkpoints=checkpoints,
    )
    if rate is not None:
        member = dataclasses.replace(member, peak_rate=rate)
    return together.Job(
        tuner=made.tuner,
        batches=made.batches[found.name],
        member=member,
        row_tokens=together.row_tokens(made.tuner, made.splits.train.tokens),
    )


def train_jobs(jobs, **settings):
    shown = settings.pop("progress", None) or progress.Progress(quiet=True)
    return together.train_group(jobs, progress=shown, **settings)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def trained(short, fast, long):
    """Other seed, rate and task beside each other."""
    return train_jobs([job(short), job(fast, 1), job(long)])


def test_runs_together_equal_their_single_runs_whatever_stands_beside_them(
    short, fast, long, trained
):
    for made, run, beside in ((short, 0, 0), (fast, 1, 1), (long, 0, 2)):
        (alone,) = train_jobs([job(made, run)])
        start = train.adapter_params(made.tuner.init_state(0))
        for a, b, before in zip(
            jax.tree.leaves(trained[beside].trainable),
            jax.tree.leaves(alone.trainable),
            jax.tree.leaves(start),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5)
            assert np.abs(np.asarray(b) - before).max() > 1e-2


def test_a_rate_compiles_nothing_again(short, fast, long, trained):
    assert short.tuner._programs is fast.tuner._programs
    before = short.tuner._programs.step._cache_size()
    train_jobs([job(short, rate=0.001), job(fast, 1), job(long)])
    assert short.tuner._programs.step._cache_size() == before


def test_replacing_the_others_leaves_a_run_bit_identical(short, fast, long, trained):
    others = [job(short), job(short, 0, rate=0.07, seed=9), job(long, 1)]
    changed = train_jobs(others)
    assert_equal(changed[0].trainable, trained[0].trainable)
    assert not np.array_equal(
        *(jax.tree.leaves(some[1].trainable)[0] for some in (changed, trained))
    )


def test_a_run_that_fails_is_told_with_its_rows_and_the_others_finish(
    short, fast, long, trained
):
    bad = job(fast, 1, rate=1e38)
    member = dataclasses.replace(bad.member, place="rows.csv, line {}".format)
    found = train_jobs([job(short), dataclasses.replace(bad, member=member), job(long)])
    assert found[1].trainable is None and found[1].failure is not None
    assert "short 0.05 seed-1" in found[1].message or "all" in found[1].message
    assert "the loss is nan in step" in found[1].message
    assert "rows.csv, line " in found[1].message
    for place in (0, 2):
        assert_equal(found[place].trainable, trained[place].trainable)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("kept", [1, 2])
def test_a_group_killed_between_two_checkpoints_goes_on_to_the_same_bits(
    short, fast, long, trained, tmp_path, monkeypatch, kept
):
    from tfew_jax.checkpoint import run as run_checkpoints

    def jobs():
        return [
            job(made, run, checkpoints=tmp_path / str(place))
            for place, (made, run) in enumerate(((short, 0), (fast, 1), (long, 0)))
        ]

    save = run_checkpoints.RunCheckpoints.save
    for deadly_call in (
        5,
        2,
        1,
    ):  # the second of step 4, then of the same, then its 1st
        calls = 0

        def deadly(self, *args, limit=deadly_call, **kwargs):
            nonlocal calls
            calls += 1
            if calls == limit:
                raise Killed
            save(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(run_checkpoints.RunCheckpoints, "save", deadly)
            with pytest.raises(Killed):
                train_jobs(jobs(), checkpoint_period=2, keep_last=kept)
    again = train_jobs(jobs(), checkpoint_period=2, keep_last=kept)
    for mine, whole in zip(again, trained, strict=True):
        assert_equal(mine.trainable, whole.trainable)
    assert [one.first_step for one in again] == [4, 4, 2]
    manager = run_checkpoints.RunCheckpoints(tmp_path / "1")
    single = manager.restore(short.tuner.init_state(0))  # as that of a single run
    assert_equal(train.adapter_params(single), trained[1].trainable)
    manager.close()
