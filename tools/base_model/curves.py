"""The loss curves of a run, drawn from its log.

A panel for the losses of each kind of batch, whichever phase it belongs to, and one for
what lies between 0 and 1: cosines and right answers. Phases begin at vertical lines.
"""

import io
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image  # which matplotlib writes its PNG files with

CURVES = "curves.png"
MAX_BYTES = 60_000  # beside a card, which the package may hold
_TITLES = {
    "distil": "distillation",
    "span": "span corruption",
    "prefix_lm": "prefix LM",
    "choice": "prompted rows",
}
_SHARES = {"cosine": "cosine with the teacher", "right": "right answers"}
# Okabe and Ito's colours, which the colour-blind tell apart.
_COLOURS = {
    **{"loss": "#0072b2", "lm": "#d55e00", "ranking": "#009e73", "spread": "#cc79a7"},
    **{"sentiment": "#e69f00", "cosine": "#56b4e9", "right": "#222222"},
}
_NUM_COLOURS = 256  # of the file, which a palette halves
_WIDTH, _HEIGHT, _DPI = 4.0, 2.6, 80  # inches of a panel
Metrics = dict[str, tuple[list[int], list[float]]]  # steps and values, by metric
Lines = dict[str, Metrics]  # by kind of batch
_STYLE: dict[Any, Any] = {"font.family": "DejaVu Sans", "font.size": 8.0}


def records(log: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a log, those that a resumed run wrote again only once.

    Raises:
        ValueError: A line is not a record.
    """
    found: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(log.read_text("utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            # What a stopped run wrote beyond its state was not the run that went on.
            found = {s: r for s, r in found.items() if s < record["step"]}
            found[record["step"]] = record
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{log}, line {number}: not a record ({error})") from None
    return [found[step] for step in sorted(found)]


def series(found: Sequence[dict[str, Any]]) -> Lines:
    """Steps and values of each metric, by kind of batch.

    Args:
        found: Records of a log; metrics are named KIND.METRIC.
    """
    lines: Lines = {}
    for record in found:
        for name, value in record.items():
            kind, dot, metric = name.partition(".")
            if dot:
                steps, values = lines.setdefault(kind, {}).setdefault(metric, ([], []))
                steps.append(record["step"])
                values.append(value)
    order = [kind for kind in _TITLES if kind in lines]
    return {kind: lines[kind] for kind in order}


def draw(found: Sequence[dict[str, Any]]) -> Figure:
    """The figure of a run's records.

    Raises:
        ValueError: They hold no metric.
    """
    panels = list(_panels(series(found)))
    if not panels:
        raise ValueError("the log holds no metric, so there is no curve to draw")
    starts = _phase_starts(found)
    num_columns = min(2, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    with matplotlib.rc_context(_STYLE):
        size = (_WIDTH * num_columns, _HEIGHT * num_rows)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(num_rows, num_columns, sharex=True, squeeze=False)
        places = list(grid.flat)
        for axes, (title, metrics) in zip(places, panels, strict=False):
            _draw_panel(axes, title, metrics, starts)
        for axes in places[len(panels) :]:
            axes.remove()
        for axes in places[max(0, len(panels) - num_columns) : len(panels)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("step")
    return figure


def write(run: pathlib.Path) -> pathlib.Path:
    """Draw RUN/curves.png from RUN/log.jsonl and return its path."""
    path = run / CURVES
    buffer = io.BytesIO()
    draw(records(run / "log.jsonl")).savefig(buffer, dpi=_DPI, format="png")
    image = Image.open(buffer).convert("RGB").quantize(_NUM_COLOURS)
    image.save(path, optimize=True)
    return path


def _panels(lines: Lines) -> Iterator[tuple[str, Metrics]]:
    """Title and metrics of each panel."""
    for kind, metrics in lines.items():
        groups: dict[bool, Metrics] = {False: {}, True: {}}
        for name, line in metrics.items():
            groups[name in _SHARES][name] = line
        if groups[False]:
            yield _TITLES[kind], groups[False]
        if groups[True]:
            yield f"{_TITLES[kind]}: agreement", groups[True]


def _draw_panel(
    axes: Axes, title: str, metrics: Metrics, starts: Mapping[str, int]
) -> None:
    for name, (steps, values) in metrics.items():
        mark = "." if len(steps) == 1 else ""
        colour, label = _COLOURS.get(name, "#999999"), _SHARES.get(name, name)
        axes.plot(steps, values, color=colour, label=label, linewidth=1.0, marker=mark)
    for start in starts.values():
        axes.axvline(start, color="#999999", linewidth=0.6, linestyle=":")
    axes.set_title(title, loc="left")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)
    axes.legend(frameon=False, ncols=min(3, len(metrics)), fontsize="small")


def _phase_starts(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    """The step at which each phase but the first begins."""
    starts: dict[str, int] = {}
    before = 0
    for record in found:
        starts.setdefault(record.get("phase", ""), before)
        before = record["step"]
    return {name: step for name, step in starts.items() if step}
