"""A comparison of bases and methods as a table and a chart.

The chart is that of Figures 1 and 3 of the prompt tuning paper (Lester et al., 2021,
https://arxiv.org/abs/2104.08691): accuracy against the adaptation or the size of the
frozen model, a line a method; and below it the share of illegal outputs, which tells
why a model that has seen nothing but span corruption fails.
"""

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfew_jax import metrics
from tfew_jax.experiment import directory
from tfew_jax.experiment.comparison import Comparison, Point
from tfew_jax.report import charts, formats, tables

_FROZEN = "frozen model"
_NUM_LEFT = 2  # columns of text
_WIDTH, _LEFT, _HEIGHT = 5.2, 0.8, 5.6  # inches: of a set's panels, beside them, of all
_DODGE = 0.07  # between lines at one place, so that their bars do not overlap
_TICK_CHARACTERS = 11
_CLOSE = 0.35  # places nearer than this get labels that are turned


def write(comparison: Comparison) -> None:
    """Writes comparison.md and comparison.png to its directory."""
    folder = comparison.directory
    directory.write_text(folder / "comparison.md", to_markdown(comparison))
    image = charts.to_png(figure(comparison))
    directory.write_bytes(folder / "comparison.png", image)


def to_text(comparison: Comparison) -> str:
    """The tables as lines for a terminal."""
    blocks = []
    for title, header, lines in _tables(comparison):
        columns = [
            formats.column([name, *(line[i] for line in lines)], left=i < _NUM_LEFT)
            for i, name in enumerate(header)
        ]
        rows = ("  ".join(line).rstrip() for line in zip(*columns, strict=True))
        blocks.append("\n".join([title, *rows]))
    return "\n\n".join([*blocks, "\n".join(_notes(comparison))])


def to_markdown(comparison: Comparison) -> str:
    """The tables and their notes as GitHub's Markdown."""
    parts = []
    for title, header, lines in _tables(comparison):
        parts += [f"## {formats.escape(title)}", "", formats.line(header)]
        parts += [
            formats.rule(header, num_left=_NUM_LEFT),
            *map(formats.line, lines),
            "",
        ]
    return "\n".join([*parts, *(f"- {note}" for note in _notes(comparison))]) + "\n"


def _tables(
    comparison: Comparison,
) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, header and lines of the table of each set, and of their mean."""
    kinds = metrics.ILLEGAL_KINDS
    header = ["condition", "method", comparison.x_label or "x", "trained", "accuracy"]
    header += ["n", "zero-shot", "illegal", *kinds, "illegal, frozen"]
    for task, points in _by_task(comparison).items():
        lines = []
        for point in _by_condition(points):
            kind_shares = (tables.percent(point.illegal_kinds[kind]) for kind in kinds)
            cells = [
                *(point.condition, point.line),
                tables.NOTHING if point.x is None else f"{point.x:,.10g}",
                f"{point.num_trainable:,}",
                _spread(point.accuracy),
                str(point.accuracy["n"]),
                _spread(point.zero_shot),
                _spread(point.illegal),
                *kind_shares,
                tables.percent(point.frozen_illegal["illegal"]),
            ]
            lines.append(cells)
        yield task, header, lines


def _spread(numbers: Mapping[str, Any]) -> str:
    """Median × 100 and interquartile range, where there are several values."""
    text = tables.percent(numbers["median"])
    if numbers["n"] > 1:
        text += f" ({tables.percent(numbers['q3'] - numbers['q1'])})"
    return text


def _notes(comparison: Comparison) -> list[str]:
    notes = [
        "shares × 100; accuracy and illegal: median (interquartile range, linearly "
        "interpolated) over n seeds; zero-shot: the accuracy of the frozen model, the "
        "same for all seeds unless their templates are drawn.",
        "illegal: share of the texts written for the test rows, by the first "
        f"template, that are no choice; {', '.join(metrics.ILLEGAL_KINDS)}: means over "
        "the seeds; illegal, frozen: the same of the frozen model.",
    ]
    if len(_by_task(comparison)) > 1:
        notes.append("mean: of the sets' medians, so that n is 1.")
    return notes


def _by_task(comparison: Comparison) -> dict[str, list[Point]]:
    """The points of every set, and the means over the sets where there are several."""
    found: dict[str, list[Point]] = {}
    for point in comparison.points:
        found.setdefault(point.task, []).append(point)
    if len(found) > 1:
        name = f"mean of {len(found)} sets"
        found[name] = [_mean(name, some) for some in zip(*found.values(), strict=True)]
    return found


def _mean(name: str, points: Sequence[Point]) -> Point:
    """The mean of the medians of the points of one line and condition."""

    def mean(field: str) -> dict[str, float]:
        medians = [getattr(point, field)["median"] for point in points]
        value = float(np.mean(medians))
        return {"median": value, "q1": value, "q3": value, "n": 1}

    def means(field: str) -> dict[str, float]:
        shares = [getattr(point, field) for point in points]
        return {k: float(np.mean([share[k] for share in shares])) for k in shares[0]}

    spreads = ("accuracy", "macro_f1", "zero_shot", "illegal")
    kinds = ("illegal_kinds", "frozen_illegal")
    return dataclasses.replace(
        points[0],
        task=name,
        run="",
        **{field: mean(field) for field in spreads},
        **{field: means(field) for field in kinds},
    )


def _by_condition(points: Sequence[Point]) -> list[Point]:
    """All lines of a condition next to each other."""
    order = list(dict.fromkeys(point.condition for point in points))
    return sorted(points, key=lambda point: order.index(point.condition))


def figure(comparison: Comparison) -> Figure:
    """Accuracy, and below it illegal outputs, of each set and of their mean.

    Conditions with a number stand on the axis and are joined by lines; the others have
    places of their own left of it.
    """
    groups = _by_task(comparison)
    places = _places(comparison)
    with matplotlib.rc_context(charts.STYLE):
        width = _LEFT + _WIDTH * len(groups)
        chart = Figure(figsize=(width, _HEIGHT), layout="constrained")
        panels = chart.subplots(
            2, len(groups), sharex=True, sharey="row", squeeze=False
        )
        handles: dict[str, Any] = {}
        for column, (task, points) in enumerate(groups.items()):
            handles = _draw(list(panels[:, column]), points, places)
            panels[0, column].set_title(task, fontsize=10)
            panels[1, column].set_xlabel(comparison.x_label)
        panels[0, 0].set_ylabel("accuracy × 100")
        panels[1, 0].set_ylabel("illegal outputs × 100")
        panels[1, 0].set_ylim(-4, 104)
        for axes in panels.flat:
            _frame(axes, comparison, places)
        chart.legend(
            list(handles.values()),
            list(handles),
            loc="outside upper left",
            ncols=max(1, min(len(handles), int(width / 1.8))),
            frameon=False,
        )
    return chart


def _places(comparison: Comparison) -> dict[str, float]:
    """Where each condition stands: beside the axis at 0, 1 …, then by its number."""
    numbers = {point.condition: point.x for point in comparison.points}
    places: dict[str, float] = {}
    for name in [name for name, x in numbers.items() if x is None]:
        places[name] = float(len(places))
    start = len(places)
    scale = math.log10 if comparison.log_x else float
    scaled = {name: scale(x) for name, x in numbers.items() if x is not None}
    if scaled:
        low, high = min(scaled.values()), max(scaled.values())
        width = max(len(set(scaled.values())) - 1, 1) / ((high - low) or 1.0)
        for name, value in scaled.items():
            places[name] = start + (value - low) * width
    return places


def _frame(axes: Axes, comparison: Comparison, places: Mapping[str, float]) -> None:
    """Ticks, grid, and a line between the places beside the axis and those on it."""
    numbers = {point.condition: point.x for point in comparison.points}
    labels = [
        textwrap.fill(name, _TICK_CHARACTERS) if x is None else _short(x)
        for name, x in numbers.items()
    ]
    ticks = [places[name] for name in numbers]
    gaps = np.diff(sorted(set(ticks)))
    turned = {"rotation": 40, "ha": "right"} if min(gaps, default=1) < _CLOSE else {}
    axes.set_xticks(ticks, labels, **turned)
    axes.set_xlim(min(ticks) - 0.5, max(ticks) + 0.5)
    num_beside = sum(x is None for x in numbers.values())
    if 0 < num_beside < len(numbers):
        axes.axvline(num_beside - 0.5, color="#bbbbbb", linewidth=0.8, linestyle=":")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)


def _short(number: float) -> str:
    """A number as a tick shows it: 500, 10k, 7.1M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:,.6g}"


def _draw(
    panels: Sequence[Axes], points: Sequence[Point], places: Mapping[str, float]
) -> dict[str, Any]:
    """Draws a set's lines in its two panels; what stands for them in the legend."""
    lines = list(dict.fromkeys(point.line for point in points))
    handles: dict[str, Any] = {}
    for number, line in enumerate(lines):
        own = [point for point in points if point.line == line]
        colour = charts.COLOURS[number % len(charts.COLOURS)]
        mark = charts.TUNED_MARKS[number % len(charts.TUNED_MARKS)]
        shift = (number - (len(lines) - 1) / 2) * _DODGE
        for axes, field in zip(panels, ("accuracy", "illegal"), strict=True):
            values = {p.condition: getattr(p, field) for p in own}
            handles[line] = _series(axes, own, values, places, shift, colour, mark)
    own = [point for point in points if point.line == lines[0]]
    grey, mark = charts.GREYS["zero_shot"], charts.MARKS["zero_shot"]
    for axes, frozen in (
        (panels[0], {p.condition: p.zero_shot for p in own}),
        (panels[1], {p.condition: _single(p.frozen_illegal["illegal"]) for p in own}),
    ):
        handles[_FROZEN] = _series(axes, own, frozen, places, 0.0, grey, mark, "--")
    return handles


def _single(value: float) -> dict[str, float]:
    return {"median": value, "q1": value, "q3": value}


def _series(
    axes: Axes,
    points: Sequence[Point],
    values: Mapping[str, Mapping[str, float]],
    places: Mapping[str, float],
    shift: float,
    colour: str,
    mark: str,
    style: str = "-",
) -> Any:
    """Draws medians and quartiles, those on the axis joined; returns both."""
    for point in points:
        numbers, place = values[point.condition], places[point.condition] + shift
        axes.plot(
            [place, place],
            [100 * numbers["q1"], 100 * numbers["q3"]],
            color=colour,
            linewidth=5,
            alpha=0.3,
            solid_capstyle="butt",
        )
    on_axis = sorted((p for p in points if p.x is not None), key=lambda p: p.x or 0.0)
    (joined,) = axes.plot(
        [places[p.condition] + shift for p in on_axis],
        [100 * values[p.condition]["median"] for p in on_axis],
        color=colour,
        linewidth=1.2,
        linestyle=style,
    )
    (medians,) = axes.plot(
        [places[p.condition] + shift for p in points],
        [100 * values[p.condition]["median"] for p in points],
        linestyle="",
        marker=mark,
        markersize=5,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=3,
    )
    return joined, medians
