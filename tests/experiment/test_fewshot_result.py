import csv
import json

import numpy as np
import pytest

import tfew_jax
from tfew_jax import checkpoint, experiment, metrics
from tfew_jax.checkpoint import layout
from tfew_jax.experiment import tuning

TEMPLATE = "Review: {{text}} Sentiment? ||| {{answer_choices[label]}}"
CHOICES = "bad ||| good"


def arrays(adapter):
    return layout.flatten(adapter.params)


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_directory_holds_adapter_predictions_records_and_summary(tested):
    names = {path.name for path in tested.directory.iterdir()}
    assert names >= {
        "adapter",
        "predictions.csv",
        "results.jsonl",
        "summary.json",
        "log.txt",
        "tensorboard",
        "FINISHED",
    }
    assert json.loads((tested.directory / "summary.json").read_text()) == tested.summary
    lines = (tested.directory / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == tested.records


def test_every_seed_has_one_record_and_the_frozen_model_has_one(tested):
    assert {record["run"] for record in tested.records} == {
        *("zero_shot", "seed-3", "seed-1", "seed-3/majority", "seed-3/tfidf"),
        *("seed-1/majority", "seed-1/tfidf"),
    }
    assert len(tested.records) == 7
    tuned = next(r for r in tested.records if r["run"] == "seed-3")
    assert (tuned["seed"], tuned["split"], tuned["fold"]) == (3, "test", None)
    assert (tuned["num_train_rows"], tuned["num_scored_rows"]) == (16, 10)
    assert tuned["num_steps"] == 4 and tuned["wall_time_s"] > 0
    assert all(record["wall_time_s"] >= 0 for record in tested.records)
    assert tuned["config_hash"] == tested.summary["config_hash"]


def test_the_summary_is_made_of_the_records(tested):
    tuned = [record["scores"] for record in tested.records if record["kind"] == "tuned"]
    accuracies = [scores["accuracy"] for scores in tuned]
    assert tested.summary["tuned"] == metrics.summarize(accuracies)
    assert tested.summary["tuned"]["n"] == 2
    assert tested.summary["zero_shot"]["n"] == 1
    matrix = np.sum([scores["confusion_matrix"] for scores in tuned], axis=0)
    assert tested.summary["confusion_matrix"]["tuned"] == matrix.tolist()
    assert tested.summary["confusion_matrix"]["choices"] == ["bad", "good"]


def test_majority_of_balanced_test_rows_is_half(tested):
    assert tested.summary["majority"]["median"] == 0.5


def test_the_adapter_is_that_of_the_first_seed(tested):
    kept = arrays(checkpoint.load_adapter(tested.directory / "adapter"))
    first = arrays(
        checkpoint.load_adapter(tested.directory / "runs" / "seed-3" / "adapter")
    )
    other = arrays(
        checkpoint.load_adapter(tested.directory / "runs" / "seed-1" / "adapter")
    )
    for name, leaf in kept.items():
        np.testing.assert_array_equal(leaf, first[name])
    assert any(not np.array_equal(leaf, other[name]) for name, leaf in kept.items())


def test_predictions_are_of_the_rows_to_predict(tested):
    table = read_csv(tested.directory / "predictions.csv")
    assert [row["row"] for row in table] == ["0", "1", "2", "3", "4"]
    for row, prediction in zip(table, tested.predictions, strict=True):
        scores = [float(row["score:bad"]), float(row["score:good"])]
        assert row["prediction"] == ["bad", "good"][int(np.argmax(scores))]
        np.testing.assert_allclose(scores, prediction.scores, atol=1e-6)


def test_predict_gives_the_same_from_memory_and_from_the_directory(
    base, tested, test_rows
):
    unlabelled = [{"text": row["text"]} for row in test_rows]
    from_memory = tfew_jax.predict(base, tested.adapter, unlabelled)
    from_disk = tfew_jax.predict(base, tested.directory / "adapter", unlabelled)
    from_run = tfew_jax.predict(base, tested.directory, unlabelled)
    assert from_memory == from_disk == from_run
    accuracy = metrics.accuracy(
        [p.label for p in from_memory], [row["label"] for row in test_rows]
    )
    record = next(r for r in tested.records if r["run"] == "seed-3")
    assert accuracy == record["scores"]["accuracy"]


def test_cross_validation_predicts_every_row_once_by_a_run_that_did_not_see_it(
    validated, rows
):
    assert [p.row for p in validated.predictions] == list(range(len(rows)))
    folds = [r for r in validated.records if r["kind"] == "tuned" and r["scores"]]
    assert [record["fold"] for record in folds] == [0, 1, 2]
    right = sum(np.trace(record["scores"]["confusion_matrix"]) for record in folds)
    labels = [row["label"] for row in rows]
    assert right == sum(p.label == labels[p.row] for p in validated.predictions)
    assert validated.summary["tuned"]["n"] == validated.summary["zero_shot"]["n"] == 3
    for record in folds:
        assert record["num_train_rows"] <= len(rows) - record["num_scored_rows"]


def test_the_adapter_of_all_rows_has_no_accuracy_at_all(validated, rows):
    record = next(r for r in validated.records if r["run"] == "seed-0-all")
    assert record["scores"] is None and record["split"] is None
    assert record["num_train_rows"] == len(rows)
    assert validated.summary["adapter"]["run"] == "seed-0-all"


def test_the_adapter_says_what_it_was_trained_for(tested):
    assert tested.adapter.task["templates"] == [TEMPLATE]
    assert tested.adapter.task["choices"] == [CHOICES]
    assert tested.adapter.metadata["seed"] == 3
    assert tested.adapter.metadata["num_train_rows"] == 16
    weights = tested.directory / "adapter" / "adapter.safetensors"
    assert tested.summary["adapter"]["num_bytes"] == weights.stat().st_size
    assert tested.summary["adapter"]["num_parameters"] == sum(
        leaf.size for leaf in arrays(tested.adapter).values()
    )


def test_the_log_has_plain_lines_and_tensorboard_its_events(tested):
    log = (tested.directory / "log.txt").read_text()
    assert "seed-3: step 4/4  loss " in log
    assert "\x1b" not in log
    for run in ("seed-3", "seed-1"):
        assert list((tested.directory / "tensorboard" / run).glob("events.*"))


def test_a_finished_run_trains_nothing_again(
    base, rows, validated, monkeypatch, capsys
):
    def train(self, *args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(tuning.Tuner, "train", train)
    again = experiment.fewshot(
        base,
        rows,
        template=TEMPLATE,
        choices=CHOICES,
        num_folds=3,
        num_steps=4,
        out=validated.directory,
    )
    assert again.summary == validated.summary
    assert again.predictions == validated.predictions
    assert again.records == validated.records
    assert "all 4 runs of 4 steps are done already" in capsys.readouterr().err


def test_without_rows_to_predict_the_predictions_are_of_the_test_rows(
    base, rows, test_rows, tested
):
    result = experiment.fewshot(
        base,
        [*rows, test_rows[0]],
        template=TEMPLATE,
        choices=CHOICES,
        test_rows=test_rows,
        num_shots=16,
        seeds=(3,),
        num_steps=4,
        quiet=True,
    )
    assert result.directory is None
    assert [p.row for p in result.predictions] == list(range(len(test_rows)))
    in_test = {row["text"] for row in test_rows}
    copies = sum(row["text"] in in_test for row in rows) + 1
    assert result.summary["counts"]["train"]["num_also_in_test"] == copies
    assert result.predictions == tfew_jax.predict(base, result.adapter, test_rows)


def test_other_settings_in_the_same_directory_are_refused_by_name(
    base, rows, validated
):
    before = sorted(validated.directory.rglob("*"))
    with pytest.raises(ValueError, match=r"recipe\.num_steps was 4, now 5"):
        experiment.fewshot(
            base,
            rows,
            template=TEMPLATE,
            choices=CHOICES,
            num_folds=3,
            num_steps=5,
            out=validated.directory,
        )
    assert sorted(validated.directory.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "no rows"),
        ({"rows": [{"text": "dull", "label": 1}] * 9}, "all rows have the label 1"),
        ({"rows": [{"text": "dull", "label": i} for i in (0, 1)]}, "with 2 rows"),
        ({"num_shots": 6}, "seed-0-fold-0: batch_size=8, but there are 4 rows"),
        ({"rows": [{"text": "dull", "label": 2}] * 9}, "none of the choices"),
        ({"rows": [{"text": "", "label": 1}] * 9}, "text"),
        ({"template": "{{body}}"}, "body"),
        ({"choices": "bad"}, "two choices"),
        ({"choices": "bad ||| bad"}, "twice"),
        ({"choices": ["bad", "good"], "label": "stars"}, "stars"),
        ({"seeds": ()}, "no seeds"),
        ({"num_shots": 99}, "24 rows"),
        ({"num_steps": 0}, "num_steps must be a positive integer"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"method": "lorra"}, "unknown PEFT method 'lorra'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    base, rows, tmp_path, change, message
):
    arguments = {"rows": rows, "template": TEMPLATE, "choices": CHOICES} | change
    with pytest.raises(ValueError, match=message):
        experiment.fewshot(
            base, arguments.pop("rows"), out=tmp_path / "out", **arguments
        )
    assert not (tmp_path / "out").exists()


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_rows_that_an_adapter_was_trained_on_are_predicted_but_not_scored(
    tested, base, rows, test_rows, tmp_path
):
    numbers = experiment.evaluate(
        output_dir=tmp_path / "out",
        base=base,
        task=write_rows(tmp_path / "rows.jsonl", [*rows, *test_rows]),
        adapter=tested.adapter,
    )
    texts = {row["text"] for row in rows}
    unseen = sum(row["text"] not in texts for row in test_rows)
    assert numbers["num_trained_on"] >= 16
    assert numbers["num_rows"] >= unseen
    assert numbers["num_rows"] + numbers["num_trained_on"] == 34
    matrix = np.array(numbers["confusion_matrix"])
    assert matrix.sum() == numbers["num_rows"]
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert len(lines) == 35


def test_an_adapter_is_not_scored_on_nothing_but_its_own_rows(
    validated, base, rows, tmp_path
):
    with pytest.raises(ValueError, match="trained on all 24 rows"):
        experiment.evaluate(
            output_dir=tmp_path / "out",
            base=base,
            task=write_rows(tmp_path / "rows.jsonl", rows),
            adapter=validated.adapter,
        )


def test_rows_that_contradict_each_other_are_told(base, rows, tmp_path, capsys):
    text = "a film of its own"
    twice = [{"text": text, "label": label} for label in (0, 1, 1)]
    result = experiment.fewshot(
        base,
        [*rows, *twice],
        template=TEMPLATE,
        choices=CHOICES,
        num_folds=0,
        num_steps=1,
        out=tmp_path,
    )
    assert result.summary["counts"]["train"]["num_contradictory"] >= 3
    assert "have the text of another row and another label" in capsys.readouterr().err
