"""Several adapters on the same rows: their predictions, their vote, their files."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from one_line import message_of

from tfew_jax import checkpoint, evaluate, experiment, metrics, peft
from tfew_jax.checkpoint import layout
from tfew_jax.experiment import ensembles, generating, scoring, voting

TASK = {
    "name": "films",
    "templates": ["Review: {{text}} Sentiment? ||| {{answer_choices[label]}}"],
    "choices": ["bad ||| lovely ||| dull plot"],
    "label_column": None,
    "lengths": {"inputs": 48, "targets": 8},
    "normalization": "mean",
}
NAMES = ("1", "2", "3")  # of adapters without a path
TEXTS = ("lovely film", "awful plot", "film maybe", "great", "no dull", "yes film")
ROWS = [{"text": text, "label": n % 3} for n, text in enumerate(TEXTS)]


def make_adapter(base, seed, *, task=TASK, name="prompt", **settings):
    if name == "prompt":
        settings = {"length": 2 + seed % 2, **settings}
    method = peft.get(name)(**settings)
    rng = np.random.default_rng(seed)
    arrays = {
        path: 3 * rng.standard_normal(shape).astype(np.float32)
        for path, shape in layout.adapter_shapes(base.config, method).items()
    }
    return checkpoint.Adapter(
        method=method, params=layout.unflatten(arrays), config=base.config, task=task
    )


@pytest.fixture(scope="module")
def adapters(base):
    return [make_adapter(base, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def alone(base, adapters):
    """What each adapter predicts by itself."""
    return [experiment.predict(base, a, ROWS, batch_size=6) for a in adapters]


@pytest.fixture(scope="module")
def votes(base, adapters):
    return experiment.vote(base, adapters, ROWS, batch_size=6)  # two rows at once


def scores_of(predictions):
    return np.array([p.scores for p in predictions])


def assert_alone(votes, alone):
    for name, own in zip(NAMES, alone, strict=True):
        expected = scores_of(own)
        found = [v.members[name] for v in votes]
        np.testing.assert_allclose(
            scores_of(found), expected, rtol=0, atol=1e-5 * np.abs(expected).max()
        )
        assert [p.prediction for p in found] == [p.prediction for p in own]


def test_each_member_says_what_it_says_alone(votes, alone):
    assert [v.row for v in votes] == [*range(6)]
    assert_alone(votes, alone)
    assert len({p.prediction for own in alone for p in own}) > 1


def test_more_adapters_than_a_batch_holds_go_in_groups(base, adapters, alone):
    bank = ensembles.load(adapters, base)
    assert bank.names == NAMES
    groups = {size: scoring.member_groups(bank, size) for size in (1, 2, 3, 7)}
    assert groups == {
        1: ([[1], [2], [3]], 1),
        2: ([[1, 2], [3]], 1),
        3: ([[1, 2, 3]], 1),
        7: ([[1, 2, 3]], 2),
    }
    assert_alone(experiment.vote(base, adapters, ROWS, batch_size=1), alone)


def test_the_vote_and_the_mean_are_those_of_the_members(votes, alone):
    scores = np.stack([scores_of(own) for own in alone])
    winners, agreement = metrics.majority_vote(scores)
    assert [v.label for v in votes] == winners.tolist()
    assert [v.prediction for v in votes] == [v.choices[v.label] for v in votes]
    np.testing.assert_allclose([v.agreement for v in votes], agreement)
    expected = metrics.mean_probability(scores)
    np.testing.assert_allclose([v.probabilities for v in votes], expected, atol=1e-5)
    assert [v.likeliest for v in votes] == expected.argmax(axis=1).tolist()


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def scored(base, adapters, tmp_path_factory):
    """Files of an ensemble of which one member has seen the first row."""
    folder = tmp_path_factory.mktemp("scored")
    rows = folder / "rows.csv"
    with rows.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(ROWS)
    split = experiment.applying.prepare_rows(
        base, rows, adapters[0], None, None, with_labels=True
    )[0]
    seen = dataclasses.replace(adapters[1], metadata={"train_rows": split.digests[:1]})
    paths = [folder / name for name in "abc"]
    for path, adapter in zip(paths, [adapters[0], seen, adapters[2]], strict=True):
        adapter.save(path)
    numbers = experiment.evaluate(
        output_dir=folder / "out", base=base, task=rows, adapter=paths, batch_size=6
    )
    return folder, paths, numbers


def test_files_say_what_the_ensemble_and_its_members_say(scored, votes):
    folder, paths, numbers = scored
    assert json.loads((folder / "out" / "metrics.json").read_text()) == numbers
    found = table(folder / "out" / "predictions.csv")
    assert list(found[0]) == [
        *("row", "prediction", "agreement"),
        *(f"probability:{name}" for name in votes[0].choices),
    ]
    assert [row["prediction"] for row in found] == [v.prediction for v in votes]
    np.testing.assert_allclose(
        [
            [float(row[f"probability:{c}"]) for c in v.choices]
            for row, v in zip(found, votes, strict=True)
        ],
        [v.probabilities for v in votes],
        atol=1e-5,
    )
    members = table(folder / "out" / "members.csv")
    assert [(row["row"], row["member"]) for row in members] == [
        (str(v.row), str(path)) for v in votes for path in paths
    ]
    assert [row["prediction"] for row in members] == [
        v.members[name].prediction for v in votes for name in NAMES
    ]
    assert list(members[0])[3:] == [f"score:{name}" for name in votes[0].choices]


def test_rows_that_a_member_was_trained_on_are_not_scored(scored, alone, votes):
    _, paths, numbers = scored
    assert (numbers["num_rows"], numbers["num_trained_on"]) == (5, 1)
    labels = [row["label"] for row in ROWS[1:]]

    def accuracy(predictions):
        return metrics.accuracy(predictions[1:], labels)

    single = [accuracy([p.label for p in own]) for own in alone]
    assert [numbers["members"][str(p)]["accuracy"] for p in paths] == single
    assert numbers["mean_of_members"]["accuracy"] == pytest.approx(np.mean(single))
    assert numbers["best_of_members"]["accuracy"] == max(single)
    assert numbers["vote"]["accuracy"] == accuracy([v.label for v in votes])
    assert numbers["mean_probability"]["accuracy"] == accuracy(
        [v.likeliest for v in votes]
    )
    assert numbers["agreement"] == pytest.approx(
        np.mean([v.agreement for v in votes[1:]])
    )


def test_prediction_needs_no_labels_and_writes_no_metrics(
    base, adapters, votes, tmp_path
):
    rows = tmp_path / "new.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    bank = checkpoint.Bank(adapters=dict(zip("xyz", adapters, strict=True)))
    path = experiment.infer(
        output_dir=tmp_path, base=base, task=rows, adapter=bank, batch_size=6
    )
    assert [row["prediction"] for row in table(path)] == [v.prediction for v in votes]
    assert [row["member"] for row in table(tmp_path / "members.csv")] == [*"xyz"] * 6
    assert not (tmp_path / "metrics.json").exists()


def test_a_used_directory_keeps_nothing_of_another_call(base, scored, tmp_path):
    folder, paths, _ = scored
    rows = folder / "rows.csv"
    for name in ("notes.txt", "generations.csv"):
        (tmp_path / name).write_text("not ours")
    settings = {"output_dir": tmp_path, "base": base, "task": rows, "batch_size": 6}

    def files():
        return {path.name for path in tmp_path.iterdir()}

    theirs = {"notes.txt", "generations.csv"}
    experiment.evaluate(**settings, adapter=paths)
    assert files() == theirs | {"predictions.csv", "members.csv", "metrics.json"}
    experiment.evaluate(**settings, adapter=paths[0])
    assert files() == theirs | {"predictions.csv", "metrics.json"}
    experiment.infer(**settings, adapter=paths[0])
    assert files() == theirs | {"predictions.csv"}


def test_scores_that_are_nan_name_the_row_and_the_member(base, adapters, monkeypatch):
    def score_members(base, split, bank, **settings):
        scores = np.zeros((3, 6, 3), np.float32)
        scores[1, 4, 2] = np.nan
        return scores, np.arange(6)

    monkeypatch.setattr(scoring, "score_members", score_members)
    error = message_of(voting.vote, base, adapters, ROWS)
    assert error.startswith("row 4: the scores of adapter 2 hold NaN; it or the model")


def test_a_member_whose_texts_have_nan_scores_is_named(base, adapters, monkeypatch):
    def generate_tokens(*args, **settings):
        raise evaluate.NaNScores(8)

    monkeypatch.setattr(evaluate, "generate_tokens", generate_tokens)
    error = message_of(
        generating.write_members,
        *(base, ensembles.load(adapters, base), lambda num_rows: []),
        **{"num_rows": 6, "max_length": 4, "num_beams": None, "alpha": 0.6},
        batch_size=6,
    )
    assert error.startswith("row 2: the scores of adapter 2 hold NaN")


def test_rows_that_the_members_together_have_all_seen_are_refused(
    base, adapters, scored, tmp_path, monkeypatch
):
    folder, _, _ = scored
    split = experiment.applying.prepare_rows(
        base, folder / "rows.csv", adapters[0], None, None, with_labels=True
    )[0]
    parts = (split.digests[:4], split.digests[4:], [])
    seen = [
        dataclasses.replace(a, metadata={"train_rows": part})
        for a, part in zip(adapters, parts, strict=True)
    ]
    with pytest.raises(ValueError, match="of all 6 rows some adapter was trained on"):
        experiment.evaluate(
            output_dir=tmp_path,
            base=base,
            task=folder / "rows.csv",
            adapter=seen,
            batch_size=6,
        )


def test_members_that_cannot_vote_together_are_refused(base, adapters, tmp_path):
    def refused(message, *members):
        with pytest.raises(ValueError, match=message) as error:
            voting.vote(base, members, ROWS)
        assert "\n" not in str(error.value)

    refused("the list of adapters is empty; give at least one")
    refused("adapters 1 and 2 are the same, whose vote", adapters[0], adapters[0])
    saved = tmp_path / "one"
    adapters[0].save(saved)
    refused(f"adapters {saved} and {saved} are the same", saved, saved)
    refused(f"adapter {tmp_path / 'none'}: expected a dir", saved, tmp_path / "none")
    other = make_adapter(base, 7, name="ia3")
    refused("2: an adapter is of the method 'ia3', not 'prompt'", adapters[0], other)


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"templates": ["{{text}}"]}, r"templates of 2 is \['\{\{text\}\}'\], of 1"),
        ({"choices": ["no ||| yes"]}, r"choices of 2 is \['no \|\|\| yes'\]"),
        ({"lengths": {"inputs": 64}}, r"lengths of 2 is \{'inputs': 64\}, of 1"),
        ({"normalization": "sum"}, "normalization of 2 is 'sum', of 1 'mean'"),
        ({"input_eos": False}, "input_eos of 2 is False, of 1 True"),
        ({"dialect": "uncut"}, "dialect of 2 is 'uncut', of 1 None"),
    ],
)
def test_members_of_different_tasks_are_refused(base, adapters, change, setting):
    other = dataclasses.replace(adapters[1], task={**TASK, **change})
    with pytest.raises(ValueError, match=f"rows alike, but {setting}"):
        voting.vote(base, [adapters[0], other], ROWS)


def test_a_name_and_settings_that_are_given_may_differ(base, adapters):
    task = {**TASK, "name": "others", "normalization": "sum"}
    other = dataclasses.replace(adapters[1], task=task)
    bank = ensembles.load([adapters[0], other], base)
    assert ensembles.check_tasks(bank, given=["normalization"]) is bank["1"]


def test_a_vote_needs_a_task_and_room_for_a_row(base, adapters):
    without = [dataclasses.replace(a, task=None) for a in adapters]
    with pytest.raises(ValueError, match="carries no template and choices"):
        voting.vote(base, without, ROWS)
    with pytest.raises(ValueError, match="choices of 2 is None, of 1"):
        ensembles.check_tasks(ensembles.load([adapters[0], without[1]], base))
    with pytest.raises(ValueError, match="batch_size=0; expected 1 or more"):
        voting.vote(base, adapters, ROWS, batch_size=0)
