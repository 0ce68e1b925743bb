"""Runs on text-to-text tasks in reports."""

import csv
import io
import json
import statistics

import numpy as np
import one_line
import pytest

from tfew_jax import report
from tfew_jax.cli import main
from tfew_jax.report import charts

SETTINGS = {
    "task": "rte",
    "protocol.seeds": [0, 1],
    "recipe.learning_rate": 0.3,
    "method": {"name": "prompt"},
}


def make_record(kind, seed, score, **more):
    return {
        "run": f"{kind}-{seed}-{more.get('step')}",
        "kind": kind,
        "variant": "prompt",
        "task": "rte",
        "trained_on": "rte",
        "split": "validation",
        "measured_as": "rte",
        "seed": seed,
        "fold": None,
        "scores": {"accuracy": score},
        "score": score,
        "illegal": {"illegal": 0.25},
        "num_scored_rows": 277,
    } | more


@pytest.fixture
def text_run(experiment):
    """Two seeds: validated at 10, 20 and 30 steps, then measured on RTE and on CB."""

    def make(name="rte", *, num_seeds=2, **more):
        records = []
        for seed, scores in enumerate([(0.5, 0.6, 0.5), (0.5, 0.55, 0.7)][:num_seeds]):
            records += [
                make_record("validation", seed, s, step=10 * i, wall_time_s=i)
                for i, s in enumerate(scores, 1)
            ]
            best = {"best_step": 10 * scores.index(max(scores)) + 10, "last_step": 30}
            records.append(make_record("text", seed, max(scores), **best))
            shifted = {"task": "cb", "measured_as": "cb", "illegal": None}
            records.append(make_record("shifted_text", seed, 0.4, **shifted))
        return experiment(name, records, settings=SETTINGS, **more)

    return make


def test_every_set_of_a_run_is_a_row(text_run):
    results = report.read(text_run())
    (lines, rte, cb) = (line.split() for line in results.to_text().splitlines()[:3])
    assert lines[:6] == ["variant", "trained", "on", "measured", "on", "split"]
    assert rte[:5] == ["prompt", "rte", "rte", "validation", "65.00"]
    assert cb[:5] == ["prompt", "rte", "cb", "validation", "40.00"]


def test_steps_and_shares_stand_beside_the_score(text_run):
    (row, shifted) = report.read(text_run()).to_markdown().splitlines()[2:4]
    # Of the mean of 0.6 and 0.7 only the second seed's 30 steps came within 1 %.
    assert "| 65.00 (5.00) | 2 | 25.00 (0.00) | 25 | 30 | 30 (1) |" in row
    assert "| 40.00 (0.00) | 2 | – |" in shifted


def test_numbers_are_fractions_in_csv(text_run):
    rows = list(csv.DictReader(io.StringIO(report.read(text_run()).to_csv())))
    assert [(r["measured_on"], r["metric"], float(r["median"])) for r in rows] == [
        ("rte", "score", pytest.approx(0.65)),
        ("rte", "accuracy", pytest.approx(0.65)),
        ("rte", "illegal", 0.25),
        ("cb", "score", 0.4),
        ("cb", "accuracy", 0.4),
    ]


def test_few_shot_experiments_have_their_own_table(text_run, experiment, tuned, capsys):
    path = text_run()
    experiment("b", tuned("cb", (0.5,) * 5))
    assert main.main(["report", str(path.parent), "--published", "off"]) == 0
    out = capsys.readouterr().out
    assert "mean (1 set)" in out and "trained on" in out
    results = report.read(path.parent)
    assert "Text-to-text tasks" in results.to_html()
    assert results.to_markdown().count("What was run:") == 1
    with pytest.raises(ValueError, match="their CSV has other columns"):
        results.to_csv()


def test_each_set_is_a_group_of_the_chart_and_each_variant_a_line_of_it(text_run):
    paths = [text_run("one"), text_run("two"), text_run("three")]
    variants = {paths[0]: "prompt", paths[1]: "prompt", paths[2]: "model"}
    results = report.read([], variants=variants)
    figure = charts.text_scores(results.text_experiments)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "rte → rte, validation",
        "rte → cb, validation",
    ]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["prompt", "prompt, two", "model"]
    medians = [100 * statistics.median(s) for s in ([0.6, 0.7], [0.4, 0.4])]
    drawn = [
        line.get_xdata()[0]
        for line in figure.axes[0].get_lines()
        if line.get_marker() in charts.TUNED_MARKS
    ]
    np.testing.assert_allclose(drawn, np.repeat(medians, 3))
    assert results.to_png().startswith(b"\x89PNG")
    assert "data:image/svg+xml" in results.to_html()


def test_no_run_of_a_chart_stands_in_the_place_of_another(text_run):
    paths = [text_run(name) for name in ("one", "a/prompt", "b/prompt")]
    results = report.read([], variants=dict.fromkeys(paths, "prompt"))
    figure = charts.text_scores(results.text_experiments)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["prompt", "prompt, prompt", f"prompt, {paths[2]}"]


def test_a_chart_of_nothing_or_of_both_kinds_is_refused(text_run, experiment, tuned):
    begun = [make_record("validation", 0, 0.5, step=10, wall_time_s=1)]
    path = experiment("new", begun, settings=SETTINGS, finished=False)
    message = one_line.message_of(report.read(path).to_png)
    assert message == f"{path} has no scores yet to draw; let a run end first"
    both = report.read([text_run(), experiment("a", tuned("cb", (0.5,), seeds=(0,)))])
    message = one_line.message_of(both.to_png)
    assert "a chart shows one kind of score; report on them one after" in message


def test_a_run_that_is_not_finished_is_told(text_run):
    path = text_run(num_seeds=1, finished=False, tail='{"kind": "valid')
    results = report.read(path)
    assert results.warnings() == [f"{path} is not finished: 1 of 2 seeds have scores"]


def test_a_name_stands_for_the_variant(text_run):
    path = text_run()
    results = report.read([], variants={str(path): "twenty rows"})
    assert results.to_text().splitlines()[1].startswith("twenty rows")


def test_the_last_record_of_a_finished_run_may_lack_its_line_end(text_run):
    path = text_run()
    file = path / "results.jsonl"
    before = report.read(path).to_csv()
    file.write_text(file.read_text().removesuffix("\n"))
    assert report.read(path).to_csv() == before


def test_a_run_whose_only_record_is_being_written_has_no_rows(experiment):
    tail = json.dumps(make_record("validation", 0, 0.5, step=0, wall_time_s=0))
    path = experiment("rte", [], settings=SETTINGS, finished=False, tail=tail)
    results = report.read(path)
    assert results.warnings() == [f"{path} is not finished: 0 of 2 seeds have scores"]
    assert results.text_experiments[0].variant == "tuned"
    assert results.to_csv().count("\n") == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score": ...}, "line 11: not a record of a text-to-text run (no 'score')"),
        ({"score": "0.5"}, "(the score '0.5' is no number)"),
        ({"score": None}, "(the score None is no number)"),
        ({"wall_time_s": ...}, "(no 'wall_time_s')"),
        ({"kind": "text"}, "(no 'best_step')"),
    ],
)
def test_a_record_that_lacks_what_is_summed_up_names_file_and_line(
    text_run, changed, message
):
    path = text_run()
    fields = make_record("validation", 0, 0.5, step=40, wall_time_s=4) | changed
    fields = {name: value for name, value in fields.items() if value is not ...}
    with (path / "results.jsonl").open("a") as file:
        file.write(json.dumps(fields) + "\n")
    assert message in one_line.message_of(report.read, path)


@pytest.mark.parametrize("name", ["settings.json", "summary.json"])
def test_a_damaged_file_is_named(text_run, name):
    path = text_run()
    (path / name).write_text('{"task": ')
    assert f"{path / name} is not JSON" in one_line.message_of(report.read, path)


def test_what_is_no_record_names_file_and_line(text_run):
    path = text_run()
    file = path / "results.jsonl"
    file.write_text(file.read_text() + '{"kind": "tuned"}\n')
    with pytest.raises(ValueError, match="line 11: not a record of a text-to-text run"):
        report.read(path)
