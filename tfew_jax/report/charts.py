"""The measured rows as figures: every seed a dot, median and quartiles beside them.

Sets and templates stand one below the other, so that names of any length fit and a
figure grows with what it shows. Figures are matplotlib's, to be saved in any format.
"""

import dataclasses
import io
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tfew_jax import metrics
from tfew_jax.report import tables
from tfew_jax.report.cells import Value
from tfew_jax.report.tables import Row, Table
from tfew_jax.report.text_tables import TextExperiment

# Okabe and Ito's colours, which the colour-blind tell apart; baselines are grey.
COLOURS = "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9 #6a3d9a #8c510a".split()
GREYS = {"zero_shot": "#222222", "majority": "#999999", "tfidf": "#666666"}
MARKS = {"zero_shot": "D", "majority": "s", "tfidf": "^"}
TUNED_MARKS = "ovPX*"
_WIDTH, _LINE, _GAP, _FRAME = 8.0, 0.15, 0.15, 0.75  # inches
_LEGEND_LINE = 0.22
_DPI = 150
_LEGEND_CHARACTERS = 95  # of a line of the legend
_NAME_LENGTH = 44
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "text.parse_math": False,  # names are shown as they are
    "svg.fonttype": "path",
}


def scores(table: Table) -> Figure:
    """All measured rows on all sets."""
    rows = table.own_rows
    groups = {
        task: {
            number: _fractions(row.cells[task].values)
            for number, row in enumerate(rows)
            if task in row.cells
        }
        for task in table.tasks
    }
    return _table_figure(groups, rows, table.metric)


def templates(table: Table, task: str) -> Figure | None:
    """The rows of a set by template, or None where none has several."""
    rows = [row for row in table.own_rows if has_templates(row, task)]
    if not rows:
        return None
    groups: dict[str, dict[int, list[float]]] = {}
    found = {
        (value.template, value.template_name)
        for row in rows
        for value in row.cells[task].values
    }
    for index, name in sorted(found, key=lambda pair: (int(pair[0] or 0), str(pair))):
        label = str(index) if name is None else f"{index}: {name}"
        groups[label] = {
            number: _fractions(some)
            for number, row in enumerate(rows)
            if (some := [v for v in row.cells[task].values if v.template == index])
        }
    return _table_figure(groups, rows, table.metric)


def text_scores(experiments: Sequence[TextExperiment]) -> Figure:
    """Runs on text-to-text tasks: for each set one line a variant.

    Runs of one variant that were measured on the same set are told apart by their
    directories.
    """
    labels: dict[str, int] = {}
    groups: dict[str, dict[int, Sequence[float]]] = {}
    for experiment in experiments:
        for (task, split), values in experiment.scores.items():
            group = groups.setdefault(f"{experiment.trained_on} → {task}, {split}", {})
            places = ("", f", {experiment.path.name}", f", {experiment.path}")
            names = (f"{experiment.variant}{place}" for place in places)
            label = next(name for name in names if labels.get(name) not in group)
            group[labels.setdefault(label, len(labels))] = values
    lines = [
        _Line(label, *style)
        for label, style in zip(labels, _tuned_styles(), strict=False)
    ]
    return _figure(groups, lines, "score")


def has_templates(row: Row, task: str) -> bool:
    """Whether a row has values of several templates on a set."""
    cell = row.cells.get(task)
    return cell is not None and len(cell.templates) > 1


def to_svg(figure: Figure) -> bytes:
    """An SVG whose bytes depend on the figure alone."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "tfew_jax"}):
        with warnings.catch_warnings():  # of characters that the font lacks
            warnings.simplefilter("ignore", UserWarning)
            figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """A PNG whose bytes depend on the figure alone."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of characters the font lacks
        figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class _Line:
    """What the legend says about the values of one kind."""

    label: str
    colour: str
    mark: str


def _fractions(values: Sequence[Value]) -> list[float]:
    return [value.value for value in values]


def _table_figure(
    groups: Mapping[str, Mapping[int, Sequence[float]]],
    rows: Sequence[Row],
    metric: str,
) -> Figure:
    lines = [
        _Line(_label(row), *style)
        for row, style in zip(rows, _styles(rows), strict=True)
    ]
    return _figure(groups, lines, tables.METRIC_NAMES[metric])


def _figure(
    groups: Mapping[str, Mapping[int, Sequence[float]]],
    lines: Sequence[_Line],
    metric: str,
) -> Figure:
    """One group of lines below the other.

    Args:
        groups: By name; their values, fractions, by the number of the line.
        lines: What the legend names.
        metric: What the values are.
    """
    sizes = [max(len(group), 1) * _LINE + _GAP for group in groups.values()]
    labels = [line.label for line in lines]
    num_columns = max(1, _LEGEND_CHARACTERS // (max(map(len, labels)) + 6))
    legend = math.ceil(len(labels) / num_columns) * _LEGEND_LINE
    height = sum(sizes) + legend + _FRAME
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        edges = np.cumsum([0.0, *sizes])
        handles: dict[int, Any] = {}
        for top, size, group in zip(edges, sizes, groups.values(), strict=False):
            for index, (number, values) in enumerate(group.items()):
                place = top + _GAP / 2 + (index + 0.5) * _LINE
                handles[number] = _draw(axes, place, values, lines[number])
            axes.axhline(top + size, color="#dddddd", linewidth=0.6, zorder=0)
        axes.set_yticks(
            (edges[:-1] + edges[1:]) / 2, [_shortened(name) for name in groups]
        )
        axes.set_ylim(edges[-1], 0)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{metric} × 100")
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["left", "right", "top"]].set_visible(False)
        figure.legend(
            [handles[number] for number in sorted(handles)],
            [labels[number] for number in sorted(handles)],
            loc="outside upper left",
            ncols=num_columns,
            frameon=False,
        )
    return figure


def _draw(axes: Axes, place: float, values: Sequence[float], line: _Line) -> Any:
    """Draws the values of one line and returns what stands for it in the legend."""
    percents = 100 * np.asarray(values)
    spread = metrics.summarize(percents.tolist())
    axes.plot(
        [spread["q1"], spread["q3"]],
        [place, place],
        color=line.colour,
        linewidth=5,
        alpha=0.3,
        solid_capstyle="butt",
    )
    if len(percents) > 1:
        axes.plot(
            percents,
            np.full(len(percents), place),
            linestyle="",
            marker=".",
            markersize=5,
            markeredgewidth=0,
            color=line.colour,
            alpha=0.7,
        )
    (median,) = axes.plot(
        [spread["median"]],
        [place],
        linestyle="",
        marker=line.mark,
        markersize=5,
        color=line.colour,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=3,
    )
    return median


def _styles(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """A colour and a mark for each row."""
    tuned = _tuned_styles()
    for row in rows:
        if row.kind in GREYS:
            yield GREYS[row.kind], MARKS[row.kind]
        else:
            yield next(tuned)


def _tuned_styles() -> Iterator[tuple[str, str]]:
    """Colours, which come again with another mark."""
    for mark in itertools.cycle(TUNED_MARKS):
        for colour in COLOURS:
            yield colour, mark


def _label(row: Row) -> str:
    name = _shortened(row.name)
    if row.templates == tables.NOTHING:
        return name
    noun = "templates" if row.templates in ("all", "random") else "template"
    return f"{name}, {row.templates} {noun}"


def _shortened(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
