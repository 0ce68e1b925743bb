"""Scoring by the first, a random or every template, from one training."""

import numpy as np
import pytest

import tfew_jax
from tfew_jax import experiment, metrics, peft
from tfew_jax.checkpoint import layout
from tfew_jax.data import fewshot, tasks
from tfew_jax.experiment import scoring, tuning, views

TEMPLATES = ("Review: {{text}} Sentiment?", "{{text}} It was", "Film: {{text}}")
CHOICES = ("bad ||| good", "dull ||| great", "bad ||| lovely")


@pytest.fixture(scope="module")
def task(rows, test_rows):
    return tasks.Task(
        spec=fewshot.TaskSpec(
            templates=TEMPLATES,
            choices=CHOICES,
            name="films",
            template_names=("asked", "told", "bare"),
        ),
        train=rows,
        test=test_rows,
        draws={0: range(8), 5: range(8, 24)},
    )


@pytest.fixture(scope="module")
def seen_by_all(base, task, tmp_path_factory):
    return experiment.train(
        model_dir=tmp_path_factory.mktemp("views"),
        base=base,
        task=task,
        recipe=experiment.Recipe(num_steps=3),
        seeds=(0, 5),
        eval_templates=("random", "all"),
        input_eos=False,
        target_prefix="<extra_id_0>",
        variant="three steps",
        quiet=True,
    )


def record(result, name):
    return next(r for r in result.records if r["run"] == name)


def test_every_view_of_a_seed_has_its_record(seen_by_all):
    tuned = [r for r in seen_by_all.records if r["kind"] == "tuned"]
    assert {(r["seed"], r["template"], r["template_name"]) for r in tuned} == {
        *((seed, "random", None) for seed in (0, 5)),
        *(
            (seed, i, n)
            for seed in (0, 5)
            for i, n in enumerate(("asked", "told", "bare"))
        ),
    }
    assert {r["variant"] for r in seen_by_all.records} == {"three steps"}
    zero_shot = {r["run"] for r in seen_by_all.records if r["kind"] == "zero_shot"}
    assert zero_shot == {
        *("seed-0/zero_shot", "seed-5/zero_shot"),
        *(f"zero_shot/template-{i}" for i in range(3)),
    }


def test_the_random_view_takes_each_rows_scores_from_one_template(
    seen_by_all, test_rows
):
    folder = seen_by_all.directory
    labels = np.array([row["label"] for row in test_rows])
    for seed in (0, 5):
        by_template = []
        for index in range(3):
            name = f"seed-{seed}/template-{index}"
            scores, ids = scoring.load(
                folder / record(seen_by_all, name)["choice_scores"]
            )
            assert ids.tolist() == list(range(len(test_rows)))
            by_template.append(scores)
        drawn = views.View("random").draw(len(test_rows), 3, seed)
        assert set(drawn) <= {0, 1, 2} and len(set(drawn)) > 1
        chosen = np.stack(by_template)[drawn, np.arange(len(drawn))]
        own = record(seen_by_all, f"seed-{seed}")
        scores, _ = scoring.load(folder / own["choice_scores"])
        np.testing.assert_allclose(scores, chosen, rtol=1e-5)
        assert own["scores"]["accuracy"] == metrics.accuracy(scores.argmax(1), labels)


def test_the_frozen_models_scores_of_every_choice_are_kept(seen_by_all, test_rows):
    labels = np.array([row["label"] for row in test_rows])
    kept = [r for r in seen_by_all.records if r["kind"] == "zero_shot"]
    assert len({r["choice_scores"] for r in kept}) == len(kept)
    for of_frozen in kept:
        scores, ids = scoring.load(seen_by_all.directory / of_frozen["choice_scores"])
        assert scores.shape == (len(test_rows), 2)
        accuracy = metrics.accuracy(scores.argmax(1), labels[ids])
        assert of_frozen["scores"]["accuracy"] == accuracy


def test_summary_and_predictions_are_of_the_first_view_asked_for(seen_by_all):
    tuned = [
        record(seen_by_all, f"seed-{seed}")["scores"]["accuracy"] for seed in (0, 5)
    ]
    assert seen_by_all.summary["tuned"] == metrics.summarize(tuned)
    drawn = views.View("random").draw(10, 3, 0)
    for prediction in seen_by_all.predictions:
        choices = CHOICES[drawn[prediction.row]].split(" ||| ")
        assert list(prediction.choices) == choices


def test_draws_that_are_given_are_those_that_are_trained_on(
    seen_by_all, rows, test_rows
):
    in_test = {row["text"] for row in test_rows}
    kept = [row for row in rows[8:24] if row["text"] not in in_test]
    assert record(seen_by_all, "seed-5")["num_train_rows"] == len(kept)
    assert seen_by_all.summary["num_shots"] == 8


def test_an_adapter_knows_how_its_rows_were_spelled(seen_by_all, base, test_rows):
    assert seen_by_all.adapter.task["input_eos"] is False
    assert seen_by_all.adapter.task["target_prefix"] == "<extra_id_0>"
    predictions = tfew_jax.predict(base, seen_by_all.adapter, test_rows)
    scores, _ = scoring.load(
        seen_by_all.directory
        / record(seen_by_all, "seed-0/template-0")["choice_scores"]
    )
    np.testing.assert_allclose([p.scores for p in predictions], scores, rtol=1e-5)


def test_a_seed_without_rows_is_refused(base, task):
    with pytest.raises(ValueError, match=r"no rows for seed 7; seeds at hand: 0, 5"):
        experiment.train(model_dir=None, base=base, task=task, seeds=(7,))


def test_shots_beside_rows_that_are_drawn_already_are_refused(base, task):
    with pytest.raises(ValueError, match="drawn already: 8 of them"):
        experiment.train(model_dir=None, base=base, task=task, seeds=(0,), num_shots=9)


def test_modes_and_indices_may_be_mixed_and_stand_once():
    made = views.make_views(("first", "all", 1), 3)
    assert [view.name for view in made] == [
        *("first", "template-0", "template-1", "template-2")
    ]
    assert [view.in_records for view in made] == [None, 0, 1, 2]
    assert views.make_views(2, 3) == (views.View(2),)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("some", "'some'; choose from first, random, all"),
        (3, "the indices 0 to 2"),
        ((), "is empty"),
    ],
)
def test_an_unknown_view_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        views.make_views(given, 3)


def test_a_run_can_start_from_an_adapter(base, seen_by_all):
    start = seen_by_all.adapter
    tuner = tuning.Tuner(base, start.method, experiment.Recipe(), initial=start)
    state = tuner.init_state(seed=3)
    again = tuner.adapter(layout_first(state.trainable), task={}, metadata={})
    expected = layout.flatten(start.params)
    for name, leaf in layout.flatten(again.params).items():
        np.testing.assert_array_equal(leaf, expected[name])
    assert any(not np.all(leaf == 1) for leaf in expected.values())


def layout_first(trainable):
    import jax

    return jax.tree.map(lambda leaf: leaf[0], trainable)


def test_an_adapter_of_another_method_is_no_start(base, seen_by_all):
    other = peft.get("ia3")(sites=("key", "value"))
    with pytest.raises(ValueError, match="give one of the same method"):
        tuning.Tuner(base, other, experiment.Recipe(), initial=seen_by_all.adapter)
