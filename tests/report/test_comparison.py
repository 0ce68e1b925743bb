"""A comparison as a table and a chart, from made-up points."""

import json
import re

import pytest

from tfew_jax import experiment, report
from tfew_jax.report import comparison as comparisons


def spread(median, q1=None, q3=None, n=5):
    q1, q3 = median if q1 is None else q1, median if q3 is None else q3
    return {"median": median, "q1": q1, "q3": q3, "n": n}


def make_point(task, line, condition, x, accuracy, illegal=0.25):
    kinds = {"empty": illegal, "sentinel": 0.0, "copied": 0.0, "other": 0.0}
    return experiment.Point(
        task=task,
        line=line,
        condition=condition,
        x=x,
        accuracy=spread(accuracy, accuracy - 0.05, accuracy + 0.05),
        macro_f1=spread(accuracy),
        zero_shot=spread(0.2, n=1),
        illegal=spread(illegal, illegal - 0.1, illegal + 0.2),
        illegal_kinds=kinds,
        frozen_illegal={"illegal": 0.9, **kinds},
        num_parameters=1000,
        num_trainable=4096,
        run=f"runs/{task}",
    )


@pytest.fixture
def lengths(tmp_path):
    """Two lines, two conditions beside the axis and three on it."""
    conditions = [("span", None), ("+ sentinel", None)]
    conditions += [(f"{n:,} steps", float(n)) for n in (100, 1000, 10000)]
    return experiment.Comparison(
        points=tuple(
            make_point("intent", line, name, x, start + 0.1 * number)
            for start, line in ((0.3, "ia3"), (0.1, "a | b"))
            for number, (name, x) in enumerate(conditions)
        ),
        x_label="steps",
        log_x=True,
        directory=tmp_path,
    )


@pytest.fixture
def sizes(tmp_path):
    """One line on two sets; the scale is linear."""
    return experiment.Comparison(
        points=tuple(
            make_point(task, "ia3", f"{x:.0f}", x, accuracy, illegal=accuracy / 2)
            for task, more in (("cb", 0.0), ("rte", 0.2))
            for x, accuracy in ((1.0, 0.4 + more), (2.0, 0.5 + more), (9.0, 0.6 + more))
        ),
        x_label="parameters",
        log_x=False,
        directory=tmp_path,
    )


def test_a_line_of_the_table_says_all_of_a_point(lengths):
    text = report.comparison_text(lengths)
    title, header, first, second, *_ = text.splitlines()
    assert title == "intent"
    assert re.split(r"\s\s+", header) == [
        *("condition", "method", "steps", "trained", "accuracy", "n", "zero-shot"),
        *("illegal", "empty", "sentinel", "copied", "other", "illegal, frozen"),
    ]
    assert re.split(r"\s\s+", first) == [
        *("span", "ia3", "–", "4,096", "30.00 (10.00)", "5", "20.00"),
        *("25.00 (30.00)", "25.00", "0.00", "0.00", "0.00", "90.00"),
    ]
    assert second.split()[:2] == ["span", "a"]  # lines of a condition stand together


def test_markdown_has_the_same_cells(lengths):
    lines = comparisons.to_markdown(lengths).splitlines()
    assert lines[0] == "## intent"
    assert lines[4].startswith("| span | ia3 | – | 4,096 | 30.00 (10.00) | 5 | 20.00 |")
    assert lines[5].startswith(r"| span | a \| b | – |")
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 10
    assert lines[-1].startswith("- illegal: ")


def test_several_sets_have_a_mean_of_their_medians(sizes):
    text = comparisons.to_markdown(sizes)
    assert [line for line in text.splitlines() if line.startswith("##")] == [
        "## cb",
        "## rte",
        "## mean of 2 sets",
    ]
    mean = text.split("## mean of 2 sets")[1].splitlines()[4]
    assert mean == (
        "| 1 | ia3 | 1 | 4,096 | 50.00 | 1 | 20.00 | 25.00 | 25.00 | 0.00 | 0.00 | "
        "0.00 | 90.00 |"
    )
    assert "mean: of the sets' medians" in text


def test_conditions_without_a_number_stand_left_of_the_axis(lengths, sizes):
    assert comparisons._places(lengths) == pytest.approx(
        {
            "span": 0,
            "+ sentinel": 1,
            "100 steps": 2,
            "1,000 steps": 3,
            "10,000 steps": 4,
        }
    )
    assert comparisons._places(sizes) == pytest.approx({"1": 0, "2": 0.25, "9": 2})


def test_the_chart_shows_medians_quartiles_and_the_frozen_model(lengths):
    figure = report.comparison_figure(lengths)
    accuracy, illegal = figure.axes
    assert [text.get_text() for text in illegal.get_xticklabels()] == [
        *("span", "+ sentinel", "100", "1k", "10k")
    ]
    assert accuracy.get_title() == "intent" and illegal.get_xlabel() == "steps"
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["ia3", "a | b", "frozen model"]
    marked = [line for line in accuracy.lines if line.get_marker() not in ("", "None")]
    assert [list(line.get_ydata()) for line in marked] == [
        pytest.approx([30, 40, 50, 60, 70]),
        pytest.approx([10, 20, 30, 40, 50]),
        pytest.approx([20] * 5),
    ]
    bars = [line for line in illegal.lines if line.get_linewidth() == 5]
    assert list(bars[0].get_ydata()) == pytest.approx([15, 45])
    assert len(bars) == 15
    # Only what stands on the axis is joined.
    joined = [line for line in illegal.lines if line.get_linewidth() == 1.2]
    assert [len(line.get_xdata()) for line in joined] == [3, 3, 3]


def test_labels_that_would_touch_are_turned(sizes, lengths):
    straight = report.comparison_figure(lengths).axes[-1].get_xticklabels()
    assert {label.get_rotation() for label in straight} == {0}
    figure = report.comparison_figure(sizes)
    assert len(figure.axes) == 6  # two panels for each set and their mean
    labels = figure.axes[-1].get_xticklabels()
    assert {label.get_rotation() for label in labels} == {40}


def test_table_and_chart_are_written_and_the_same_each_time(lengths):
    report.write_comparison(lengths)
    image = (lengths.directory / "comparison.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    markdown = (lengths.directory / "comparison.md").read_text()
    assert markdown == comparisons.to_markdown(lengths)
    report.write_comparison(lengths)
    assert (lengths.directory / "comparison.png").read_bytes() == image


def test_a_saved_comparison_is_read_as_it_was(lengths):
    lengths.save()
    assert experiment.load_comparison(lengths.directory) == lengths
    content = json.loads((lengths.directory / "comparison.json").read_text())
    assert content["points"][0]["accuracy"]["median"] == 0.3
    assert "tfew_jax" in content["versions"]


def test_there_must_be_a_finished_comparison(tmp_path):
    with pytest.raises(ValueError, match="finished comparison"):
        experiment.load_comparison(tmp_path)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.0, "1"), (999.0, "999"), (1500.0, "1.5k"), (7.1e6, "7.1M"), (11.3e9, "11.3B")],
)
def test_ticks_are_short(number, text):
    assert comparisons._short(number) == text
