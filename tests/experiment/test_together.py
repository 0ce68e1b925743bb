"""Runs that train in one program end as single runs, and do not see each other."""

import dataclasses
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import experiment, train
from tfew_jax.data import fewshot, tasks
from tfew_jax.experiment import memory, plan, progress, study, together, tuning
from tfew_jax.peft import ia3, prompt

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
def base(dropping):
    return dropping


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
    start = "short 0.05 seed-0-all: the loss is nan in step "
    assert found[1].message.startswith(start)
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


def test_a_group_with_a_failed_run_goes_on_after_a_kill_to_the_same_bits(
    short, fast, long, trained, tmp_path, monkeypatch
):
    """When it fails again, the others stand ahead, and one of them is at its end."""
    from tfew_jax.checkpoint import run as run_checkpoints

    def go():
        jobs = [
            job(short, checkpoints=tmp_path / "short"),
            job(fast, 1, rate=np.inf, checkpoints=tmp_path / "bad"),
            job(long, checkpoints=tmp_path / "long"),
        ]
        return train_jobs(jobs, checkpoint_period=2)

    save, last = run_checkpoints.RunCheckpoints.save, []

    def deadly(self, step, *args, **kwargs):
        last.extend([step] * (step == 5))
        if len(last) == 2:  # that of the long one
            raise Killed
        save(self, step, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(run_checkpoints.RunCheckpoints, "save", deadly)
        with pytest.raises(Killed):
            go()
    again = go()
    assert [one.first_step for one in again] == [5, 0, 4]
    assert again[1].failure is not None and again[1].failure.step < 3
    for place in (0, 2):
        assert_equal(again[place].trainable, trained[place].trainable)


def run_names(groups):
    return [[job.member.name.split()[-1] for job in group] for group in groups]


def grouped(jobs, most=10):
    return together.make_groups(jobs, max_together=most, say=lambda line: None)


def test_runs_of_other_seed_rate_task_and_start_go_together(base, rows):
    made = [
        make_study(base, rows, method=method, recipe=recipe)
        for method in (
            prompt.Prompt(length=2, init="uniform"),
            prompt.Prompt(length=2, init="sampled_vocabulary", init_vocabulary=100),
        )
        for recipe in (RECIPE, dataclasses.replace(RECIPE, learning_rate=0.3))
    ]
    (group,) = grouped([job(some, run) for some in made for run in (0, 1)])
    assert len(group) == 8


@pytest.mark.parametrize(
    "changed",
    [
        {"method": prompt.Prompt(length=3, init="uniform")},
        {"method": ia3.IA3()},
        {"recipe": dataclasses.replace(RECIPE, num_steps=6)},
        {"recipe": dataclasses.replace(RECIPE, batch_size=8)},
        {"recipe": dataclasses.replace(RECIPE, schedule="constant")},
    ],
    ids=["length", "arrays", "steps", "batch", "recipe"],
)
def test_runs_of_another_program_go_apart(base, rows, changed):
    method = prompt.Prompt(length=2, init="uniform")
    made = make_study(base, rows, method=method)
    other = make_study(base, rows, **({"method": method} | changed))
    assert [len(g) for g in grouped([job(made), job(other), job(made, 1)])] == [2, 1]


def test_runs_whose_rows_are_much_longer_go_apart(short, long):
    jobs = [job(short), job(long), job(short, 1), job(long, 1)]
    tokens = {some.row_tokens for some in jobs}
    assert len(tokens) == 2 and max(tokens) > 1.6 * min(tokens)
    assert [[j.row_tokens for j in g] for g in grouped(jobs)] == [
        [some] * 2 for some in sorted(tokens)
    ]
    nearly = [dataclasses.replace(j, row_tokens=9 + n) for n, j in enumerate(jobs)]
    assert [len(group) for group in grouped(nearly)] == [4]


def test_groups_are_even_and_no_larger_than_allowed(short):
    jobs = [job(short, n % 2) for n in range(11)]
    assert [len(group) for group in grouped(jobs, 5)] == [3, 4, 4]
    assert [len(group) for group in grouped(jobs, 1)] == [1] * 11
    done = [dataclasses.replace(some, is_done=n < 3) for n, some in enumerate(jobs)]
    assert [len(group) for group in grouped(done, 5)] == [3, 4, 4]


def test_memory_decides_how_many_go_together_and_is_told(short, monkeypatch):
    jobs = [job(short, n % 2) for n in range(6)]
    each = 5 * 2**20
    monkeypatch.setattr(tuning.Tuner, "step_bytes", lambda self, batch: each)
    monkeypatch.setattr(memory, "limits", lambda params: (2**34, 4 * each + 1))
    said = []
    assert together.as_many_as_fit(jobs, said.append) == 4
    assert said == ["4 members at once, about 5 MiB each, of 16 GiB"]
    monkeypatch.setattr(memory, "limits", lambda params: (2**34, 0))
    assert together.as_many_as_fit(jobs, said.append) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(memory, "limits", lambda params: (2**34, 3 * each))
    groups = together.make_groups(jobs, max_together=None, say=said.append)
    assert [len(group) for group in groups] == [3, 3]
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    groups = together.make_groups(jobs, max_together=None, say=said.append)
    assert [len(group) for group in groups] == [1] * 6


def test_the_step_of_one_adapter_is_what_is_counted(short, long, monkeypatch):
    seen = []

    def step_bytes(self, batch):
        seen.append({name: array.shape for name, array in batch.items()})
        return 1

    monkeypatch.setattr(tuning.Tuner, "step_bytes", step_bytes)
    jobs = [job(short), job(long)]
    together.as_many_as_fit(jobs, lambda line: None)
    longest = max(some.batches.tokenized.all_lengths.max() for some in jobs)
    assert seen[0]["label"] == (1, 4)
    assert seen[0]["encoder_input_tokens"][-1] >= longest
    assert seen[0]["decoder_target_tokens"][:3] == (1, 4, 3)


def test_the_machines_memory_has_a_limit(base):
    limit, free = memory.limits(base.params)
    assert 2**28 < free < limit


@pytest.mark.parametrize("name", ["rbg", "unsafe_rbg"])
def test_keys_whose_numbers_depend_on_the_others_are_refused(short, name):
    jobs = [job(short), job(short, 1)]
    with (
        jax.default_prng_impl(name),
        pytest.raises(ValueError, match=f"jax_default_prng_impl is {name}"),
    ):
        train_jobs(jobs)
    keys = jnp.stack([jax.random.key(seed, impl=name) for seed in (0, 1)])
    with pytest.raises(ValueError, match=r"2 adapters cannot be trained together"):
        train.check_keys(keys)
    train.check_keys(keys[:1])  # one alone may have them


def test_a_number_of_runs_that_is_not_positive_is_refused(base, rows):
    with pytest.raises(ValueError, match="max_together must be positive, or None"):
        experiment.fewshot(
            base, rows, template="{{text}}", choices="bad ||| good", max_together=0
        )


def test_batches_of_several_have_at_most_three_lengths(short, long):
    batch_at, buckets = together.batches_of([job(short), job(long)])
    assert len(buckets) <= 3
    shapes = {batch_at(step)["encoder_input_tokens"].shape[-1] for step in range(9)}
    assert shapes <= set(buckets)


def test_one_bar_is_shown_and_each_run_has_its_numbers(short, fast, long, tmp_path):
    log = io.StringIO()
    shown = progress.Progress(log_file=log, tensorboard=tmp_path, quiet=True)
    train_jobs([job(short), job(fast, 1), job(long)], progress=shown)
    name = "3 together, short 0.02 seed-1 to long 0.02 seed-1"
    assert f"{name}: steps 0 to 5" in log.getvalue()
    assert len(list(tmp_path.glob("*/events*"))) == 3


def test_numbers_of_a_run_stand_in_its_own_place_also_where_it_trains_alone(
    short, long, tmp_path
):
    for beside in ([], [job(long)]):
        own = tmp_path / str(len(beside))
        member = dataclasses.replace(job(short).member, events=own)
        alone = dataclasses.replace(job(short), member=member)
        shown = progress.Progress(tensorboard=tmp_path / "common", quiet=True)
        train_jobs([alone, *beside], progress=shown)
        assert len(list(own.glob("events*"))) == 1
    others = [path.name for path in (tmp_path / "common").iterdir()]
    assert others == [job(long).member.name]
