"""Runs that train nothing: rows in front of rows, in the same files as tuned runs."""

import json

import numpy as np
import pytest

from tfew_jax import experiment, metrics, report
from tfew_jax.data import demonstrations, fewshot, tasks
from tfew_jax.experiment import directory, measuring, plan, prompting, scoring

TEMPLATE = "Review: {{text}} Sentiment? ||| {{answer_choices[label]}}"
CHOICES = "bad ||| good"
SHOWN = 4


def make_task(rows, test_rows=None, *, templates=TEMPLATE):
    spec = fewshot.TaskSpec(templates=templates, choices=CHOICES)
    return tasks.Task(spec=spec, train=rows, test=test_rows)


@pytest.fixture(scope="module")
def shown(base, rows, test_rows, tmp_path_factory):
    """The seeds and rows of the fixture `tested`, four of each draw shown."""
    return experiment.text_prompt(
        model_dir=tmp_path_factory.mktemp("shown"),
        base=base,
        task=make_task(rows, test_rows),
        num_demonstrations=SHOWN,
        num_shots=16,
        seeds=(3, 1),
        quiet=True,
    )


@pytest.fixture(scope="module")
def folds(base, rows):
    """Three folds in memory."""
    return experiment.text_prompt(
        model_dir=None,
        base=base,
        task=make_task(rows),
        num_demonstrations=2,
        num_folds=3,
        quiet=True,
    )


def of_kind(result, kind):
    return {r["run"]: r for r in result.records if r["kind"] == kind}


def texts(rows):
    return [f"Review: {row['text']} Sentiment?" for row in rows]


def test_the_directory_holds_what_a_tuned_run_leaves_but_an_adapter(shown, tested):
    names = {path.name for path in shown.directory.iterdir()}
    beside = {path.name for path in tested.directory.iterdir()}
    assert beside - names == {"adapter", "tensorboard"} and names <= beside
    assert json.loads((shown.directory / "summary.json").read_text()) == shown.summary
    lines = (shown.directory / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == shown.records


def test_records_say_what_was_shown(shown, rows):
    found = of_kind(shown, "text_prompt")
    assert sorted(found) == ["seed-1", "seed-3"]
    for record in found.values():
        drawn = fewshot.draw_shots([r["label"] for r in rows], 16, record["seed"])
        assert record["variant"] == "text prompt, 4 examples"
        assert len(record["demonstrations"]) == record["num_train_rows"] == SHOWN
        assert set(record["demonstrations"]) <= set(drawn.tolist())
        shown_labels = [rows[row]["label"] for row in record["demonstrations"]]
        assert sorted(shown_labels) == [0, 0, 1, 1]
        assert (record["num_steps"], record["num_scored_rows"]) == (0, 10)
        assert record["num_dropped"] == {} and record["split"] == "test"


def test_the_summary_is_made_of_the_records(shown):
    scores = [r["scores"] for r in of_kind(shown, "text_prompt").values()]
    accuracies = [numbers["accuracy"] for numbers in scores]
    assert shown.summary["text_prompt"] == metrics.summarize(accuracies)
    assert "tuned" not in shown.summary and shown.summary["zero_shot"]["n"] == 1
    assert shown.summary["num_demonstrations"] == SHOWN
    assert "text prompt" in experiment.summary_table(shown.summary)


def test_a_row_stands_behind_the_rendered_demonstrations(shown, rows, test_rows):
    for name, record in of_kind(shown, "text_prompt").items():
        answers = [CHOICES.split(" ||| ")[row["label"]] for row in rows]
        parts = [f"{texts(rows)[i]} {answers[i]}" for i in record["demonstrations"]]
        text = (shown.directory / "runs" / name / "first_input.txt").read_text()
        assert text == "\n\n".join([*parts, texts(test_rows)[0]])


def test_scores_are_those_of_the_whole_text_as_an_input(base, shown, rows, test_rows):
    """The demonstrations written into the rows by hand, scored without any."""
    first = (shown.directory / "runs" / "seed-3" / "first_input.txt").read_text()
    front = first.removesuffix(texts(test_rows)[0])
    by_hand = experiment.text_prompt(
        model_dir=None,
        base=base,
        task=make_task(
            rows,
            [
                {**row, "text": front + text}
                for row, text in zip(test_rows, texts(test_rows), strict=True)
            ],
            templates="{{text}}",
        ),
        num_demonstrations=0,
        quiet=True,
    )
    for written, made in zip(by_hand.predictions, shown.predictions, strict=True):
        np.testing.assert_allclose(written.scores, made.scores, rtol=1e-5)


def test_demonstrations_change_the_scores(shown):
    scores, _ = scoring.load(shown.directory / "zero_shot" / "zero_shot.npz")
    for name in ("seed-3", "seed-1"):
        behind, _ = scoring.load(shown.directory / "runs" / name / "scores.npz")
        assert np.abs(behind - scores).min() > 1e-4


def test_baselines_are_those_of_a_tuned_run_on_the_same_rows(shown, tested):
    for kind in ("zero_shot", "majority", "tfidf"):
        ours, theirs = of_kind(shown, kind), of_kind(tested, kind)
        assert ours.keys() == theirs.keys()
        assert all(ours[run]["scores"] == theirs[run]["scores"] for run in ours)


def test_no_demonstrations_are_the_zero_shot_of_a_tuned_run_to_the_bit(
    base, rows, test_rows, tested, tmp_path
):
    result = experiment.text_prompt(
        model_dir=tmp_path,
        base=base,
        task=make_task(rows, test_rows),
        num_demonstrations=0,
        num_shots=16,
        seeds=(3,),
        quiet=True,
    )
    zero_shot, ids = scoring.load(tested.directory / "zero_shot" / "zero_shot.npz")
    scores, rows_of_scores = scoring.load(tmp_path / "runs" / "seed-3" / "scores.npz")
    np.testing.assert_array_equal(scores, zero_shot)
    np.testing.assert_array_equal(rows_of_scores, ids)
    assert result.summary["text_prompt"] == tested.summary["zero_shot"]
    text = (tmp_path / "runs" / "seed-3" / "first_input.txt").read_text()
    assert text == texts(test_rows)[0]


def test_no_row_is_shown_where_it_or_its_copy_is_scored(base, rows):
    copied = [*rows, *rows[:8]]
    study = prompting.PromptStudy(
        base,
        make_task(copied),
        prompt=demonstrations.TextPrompt(num_demonstrations=8),
        protocol=plan.Protocol(seeds=(0, 1), num_folds=3),
    )
    assert len(study.prompted) == 6
    for run in study.runs:
        seen = {copied[row]["text"] for row in study.shown[run.name]}
        assert len(study.shown[run.name]) == 8
        assert seen.isdisjoint(copied[row]["text"] for row in run.scored_rows)


def test_test_rows_are_never_shown(base, rows, test_rows):
    study = prompting.PromptStudy(
        base,
        make_task([*test_rows, *rows], test_rows),
        prompt=demonstrations.TextPrompt(num_demonstrations=6),
        protocol=plan.Protocol(seeds=tuple(range(9))),
    )
    tested = {row["text"] for row in test_rows}
    every = [*test_rows, *rows]
    for numbers in study.shown.values():
        assert tested.isdisjoint(every[row]["text"] for row in numbers)


def test_folds_score_every_row_once(folds, rows):
    assert [p.row for p in folds.predictions] == list(range(len(rows)))
    found = of_kind(folds, "text_prompt")
    assert [found[f"seed-0-fold-{n}"]["fold"] for n in range(3)] == [0, 1, 2]
    assert found["seed-0-all"]["scores"] is None
    right = sum(
        np.trace(r["scores"]["confusion_matrix"]) for r in found.values() if r["scores"]
    )
    assert right == sum(p.label == rows[p.row]["label"] for p in folds.predictions)
    assert folds.summary["text_prompt"]["n"] == folds.summary["zero_shot"]["n"] == 3
    assert folds.directory is None


def test_rows_that_lose_demonstrations_are_counted_and_told(
    base, rows, test_rows, tmp_path, capsys
):
    lengths = [len(base.tokenizer.encode(text)) for text in texts(test_rows)]
    result = experiment.text_prompt(
        model_dir=tmp_path,
        base=base,
        task=make_task(rows, test_rows),
        num_demonstrations=SHOWN,
        lengths={"inputs": max(lengths) + 24, "targets": 8},
        eval_templates="first",
    )
    [record] = of_kind(result, "text_prompt").values()
    lost = record["num_dropped"]
    assert lost and set(lost) <= {"1", "2", "3", "4"}
    assert result.summary["counts"]["num_dropped"] == {"seed-0": lost}
    assert result.summary["counts"]["test"]["num_cut_inputs"] == 0
    said = capsys.readouterr().err
    assert f"{sum(lost.values())} of 10 scored rows, over all runs, do not hold" in said
    number = min(lost)
    assert f"{lost[number]} lost {number}" in said
    assert f"{lost[number]} lost {number}" in (tmp_path / "log.txt").read_text()


def test_rows_to_predict_stand_behind_the_first_seeds_demonstrations(
    base, rows, test_rows, shown
):
    result = experiment.text_prompt(
        model_dir=None,
        base=base,
        task=make_task(rows, test_rows),
        predict_rows=[{"text": row["text"]} for row in test_rows],
        num_demonstrations=SHOWN,
        num_shots=16,
        seeds=(3, 1),
        quiet=True,
    )
    for predicted, scored in zip(result.predictions, shown.predictions, strict=True):
        assert predicted.label == scored.label
        np.testing.assert_allclose(predicted.scores, scored.scores, rtol=1e-5)


def test_every_template_has_its_record_and_a_row_its_own_templates_demonstrations(
    base, rows, test_rows, tmp_path
):
    result = experiment.text_prompt(
        model_dir=tmp_path,
        base=base,
        task=make_task(rows, test_rows, templates=[TEMPLATE, "Film: {{text}}"]),
        num_demonstrations=1,
        eval_templates=(1, "random"),
        quiet=True,
    )
    found = of_kind(result, "text_prompt")
    assert {run: r["template"] for run, r in found.items()} == {
        "seed-0": 1,
        "seed-0/random": "random",
    }
    assert all("num_dropped" in record for record in found.values())
    [row] = found["seed-0"]["demonstrations"]
    text = (tmp_path / "runs" / "seed-0" / "first_input.txt").read_text()
    answer = CHOICES.split(" ||| ")[rows[row]["label"]]
    assert text == f"Film: {rows[row]['text']} {answer}\n\nFilm: {test_rows[0]['text']}"
    accuracy = found["seed-0"]["scores"]["accuracy"]
    assert result.summary["text_prompt"]["median"] == accuracy


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing after it runs."""


@pytest.mark.parametrize(
    ("owner", "name"),
    [(directory.Records, "append"), (scoring, "save"), (directory, "write_json")],
    ids=["append", "save", "write_json"],
)
def test_dying_anywhere_changes_nothing_in_the_end(
    owner, name, base, rows, test_rows, shown, tmp_path
):
    original, calls_left, deaths = getattr(owner, name), 0, 0

    def deadly(*args, **kwargs):
        nonlocal calls_left
        calls_left -= 1
        if not calls_left:
            raise Killed
        return original(*args, **kwargs)

    def start():
        experiment.text_prompt(
            model_dir=tmp_path / "out",
            base=base,
            task=make_task(rows, test_rows),
            num_demonstrations=SHOWN,
            num_shots=16,
            seeds=(3, 1),
            quiet=True,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, deadly)
        for countdown in (1, 2, 3):
            calls_left = countdown
            try:
                start()
            except Killed:
                deaths += 1
    assert deaths
    start()
    for file in ("summary.json", "predictions.csv", "FINISHED"):
        assert (tmp_path / "out" / file).read_bytes() == (
            shown.directory / file
        ).read_bytes()
    kept = [
        [
            {k: v for k, v in json.loads(line).items() if k != "wall_time_s"}
            for line in (path / "results.jsonl").read_text().splitlines()
        ]
        for path in (tmp_path / "out", shown.directory)
    ]
    assert kept[0] == kept[1]


def test_a_finished_run_scores_nothing_again(
    base, rows, test_rows, shown, monkeypatch, capsys
):
    def score(*args, **kwargs):
        raise AssertionError("scored again")

    monkeypatch.setattr(measuring.evaluate, "score_choices", score)
    again = experiment.text_prompt(
        model_dir=shown.directory,
        base=base,
        task=make_task(rows, test_rows),
        num_demonstrations=SHOWN,
        num_shots=16,
        seeds=(3, 1),
    )
    assert again == shown
    assert "all 2 runs are done already" in capsys.readouterr().err


def test_another_number_of_demonstrations_is_refused_in_the_same_directory(
    base, rows, test_rows, shown
):
    with pytest.raises(ValueError, match=r"text_prompt\.num_demonstrations was 4"):
        experiment.text_prompt(
            model_dir=shown.directory,
            base=base,
            task=make_task(rows, test_rows),
            num_demonstrations=2,
            num_shots=16,
            seeds=(3, 1),
        )


def test_a_report_has_it_as_a_row_of_its_own(shown, tested):
    table = report.table(report.load_records([tested.directory, shown.directory]))
    names = [row.name for row in table.own_rows]
    assert names == [
        *("ia3", "text prompt, 4 examples"),
        *("zero-shot", "majority class", "TF-IDF"),
    ]
    row = table.own_rows[1]
    assert row.cells["task"].median == shown.summary["text_prompt"]["median"]
    assert table.num_seeds == 2 and row.cells["task"].seeds == {1, 3}
    page = report.to_html(table)
    assert "text prompt, 4 examples" in page and "<th>method</th>" not in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_demonstrations": -1}, "num_demonstrations must be 0 or more, got -1"),
        (
            {"num_demonstrations": 17},
            r"seed-0-fold-0: num_demonstrations=17, but there are 16 rows to draw them",
        ),
        ({"num_demonstrations": 5, "num_shots": 4, "num_folds": 2}, "there are 2 rows"),
        ({"joiner": ""}, "the joiner of demonstrations is empty"),
        ({"seeds": ()}, "no seeds"),
        ({"lengths": {"inputs": 1}}, "TASK_FEATURE_LENGTHS"),
        ({"eval_templates": "best"}, "eval_templates holds 'best'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    base, rows, tmp_path, change, message
):
    arguments = {"num_demonstrations": 2, "num_folds": 3} | change
    with pytest.raises(ValueError, match=message):
        experiment.text_prompt(
            model_dir=tmp_path / "out", base=base, task=make_task(rows), **arguments
        )
    assert not (tmp_path / "out").exists()


def test_rows_without_a_label_are_refused(base, rows):
    unlabelled = [{"text": row["text"]} for row in rows]
    spec = fewshot.TaskSpec(templates="{{text}}", choices=CHOICES)
    with pytest.raises(ValueError, match="row 0: the row has no label"):
        experiment.text_prompt(
            model_dir=None,
            base=base,
            task=tasks.Task(spec=spec, train=unlabelled),
            num_demonstrations=2,
        )
