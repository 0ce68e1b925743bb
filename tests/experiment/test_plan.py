import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfew_jax.data import fewshot
from tfew_jax.experiment import plan

LABELS = [0, 1] * 15


TEXTS = list(range(len(LABELS)))


def make_runs(*, num_test_rows=None, texts=TEXTS, labels=LABELS, **protocol):
    return plan.make_runs(
        labels,
        protocol=plan.Protocol(**({"seeds": (0, 1)} | protocol)),
        texts=texts,
        test_texts=None
        if num_test_rows is None
        else [-1 - i for i in range(num_test_rows)],
    )


def test_every_seed_draws_its_own_rows_and_is_scored_on_all_test_rows():
    runs = make_runs(seeds=(0, 32), num_shots=10, num_test_rows=7)
    assert [run.name for run in runs] == ["seed-0", "seed-32"]
    for run in runs:
        drawn = fewshot.draw_shots(LABELS, 10, run.seed).tolist()
        assert list(run.train_rows) == drawn
        assert (run.split, run.scored_rows) == ("test", tuple(range(7)))


@given(
    num_shots=st.none() | st.integers(12, 30),
    num_folds=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_folds_score_every_drawn_row_once_and_none_that_they_train_on(
    num_shots, num_folds, seed
):
    runs = make_runs(seeds=(seed,), num_shots=num_shots, num_folds=num_folds)
    *folds, last = runs
    drawn = set(last.train_rows)
    assert len(drawn) == (num_shots or 30)
    assert sorted(r for run in folds for r in run.scored_rows) == sorted(drawn)
    for run in folds:
        assert set(run.train_rows) == drawn - set(run.scored_rows)


def test_the_run_on_all_rows_is_kept_and_has_no_score():
    runs = make_runs()
    kept = plan.kept(runs)
    assert kept.name == "seed-0-all"
    assert sorted(kept.train_rows) == list(range(30))
    assert kept.split is None and kept.scored_rows == ()


def test_with_test_rows_the_first_seed_is_kept_whatever_the_scores():
    assert plan.kept(make_runs(seeds=(42, 0), num_test_rows=3)).seed == 42


def test_without_test_rows_and_folds_every_seed_trains_on_all_rows():
    runs = make_runs(seeds=(4, 5), num_folds=0)
    assert [(run.name, run.split) for run in runs] == [
        ("seed-5", None),
        ("seed-4-all", None),
    ]


def test_a_run_that_would_score_its_training_rows_cannot_be_made():
    with pytest.raises(AssertionError, match="scored on rows it is trained on"):
        plan.Run(name="x", seed=0, train_rows=(0, 1), split="fold", scored_rows=(1,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": ()}, "there are no seeds"),
        ({"seeds": (1, 2, 1)}, "seed 1 stands twice"),
        ({"seeds": (-1,)}, "seed -1"),
        ({"num_folds": 1}, "num_folds must be 0 or at least 2"),
        ({"num_shots": 31}, "there are 30 rows"),
        ({"num_shots": 0}, "num_shots=0"),
        ({"num_folds": 31}, "num_folds=31 with 30 rows"),
    ],
)
def test_plans_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_runs(**settings)


def test_rows_of_a_single_class_are_refused():
    with pytest.raises(ValueError, match="all rows have the label 1"):
        make_runs(labels=[1] * 9, texts=TEXTS[:9], num_test_rows=3)


def test_a_fold_without_the_lone_row_of_a_class_is_noted():
    labels = [0] * 9 + [1]
    runs = make_runs(labels=labels, texts=TEXTS[:10], num_folds=5, seeds=(0,))
    [alone] = [run for run in runs if run.scored_rows and 9 in run.scored_rows]
    [note] = plan.notes(runs, labels)
    assert note.startswith(f"{alone.name}: trained on rows of a single class")
    assert plan.notes([run for run in runs if run != alone], labels) == []


def test_a_training_row_that_is_a_test_row_as_well_is_never_drawn():
    texts = [*TEXTS[:-4], -1, -2, -3, -1]
    for num_shots in (None, 20, 26):
        runs = make_runs(texts=texts, num_test_rows=3, num_shots=num_shots)
        for run in runs:
            assert set(run.train_rows) <= set(range(26))
            assert len(run.train_rows) == (num_shots or 26)
    with pytest.raises(ValueError, match="there are 26 rows"):
        make_runs(texts=texts, num_test_rows=3, num_shots=27)
    with pytest.raises(ValueError, match="every row to train on stands among the test"):
        make_runs(texts=[-1] * 30, num_test_rows=1)


@given(copies=st.lists(st.integers(0, 12), min_size=30, max_size=30))
def test_no_fold_is_scored_on_a_copy_of_a_row_it_was_trained_on(copies):
    *folds, last = make_runs(texts=copies, seeds=(0,))
    for run in folds:
        trained = {copies[row] for row in run.train_rows}
        assert trained.isdisjoint(copies[row] for row in run.scored_rows)
    assert sorted(row for run in folds for row in run.scored_rows) == TEXTS
    assert len(last.train_rows) == 30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_batch_size": 0}, "eval_batch_size must be positive"),
        ({"normalization": "max"}, "normalization must be mean or sum, got 'max'"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        plan.Protocol(seeds=(0,), **settings)
