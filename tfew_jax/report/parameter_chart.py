"""Parameters of a task over the model's, as Figure 4 of Lester et al., 2021."""

from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullFormatter

from tfew_jax.report import charts
from tfew_jax.report.parameter_counts import TOKEN_IDS, Count

# WARP has two vectors more than a prompt, so that its line lies on the prompt's.
_LINES = {"prefix_training": "--", "warp": (0, (1, 2))}
_FACES = {"warp": "white"}
_MAIN_LENGTH = 100


def draw(counts: Sequence[Count]) -> Figure:
    """A line a method over the models; both axes are logarithmic.

    A method with several lengths is a band from the shortest to the longest, with a
    line at 100 positions or at the longest.

    Args:
        counts: What `parameter_counts.count` returned.

    Raises:
        ValueError: If there is nothing to draw.
    """
    if not counts:
        raise ValueError("there are no counts to draw")
    methods = dict.fromkeys(one.method for one in counts)
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(8.0, 5.5), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(EngFormatter())
            axis.set_minor_formatter(NullFormatter())
        for number, method in enumerate(methods):
            some = [one for one in counts if one.method == method]
            _draw_method(axes, some, charts.COLOURS[number % len(charts.COLOURS)])
        models = {one.model: one.model_parameters for one in counts}
        for name, size in models.items():
            axes.annotate(
                name,
                (size, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color="#555555",
            )
            axes.axvline(size, color="#dddddd", linewidth=0.6, zorder=0)
        axes.set_xlabel("parameters of the model")
        axes.set_ylabel("parameters or token ids of a task")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["right", "top"]].set_visible(False)
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def _draw_method(axes: Axes, counts: Sequence[Count], colour: str) -> None:
    by_length: dict[int | None, list[Count]] = {}
    for one in counts:
        by_length.setdefault(one.length, []).append(one)
    lengths = [length for length in by_length if length is not None]
    shown = _MAIN_LENGTH if _MAIN_LENGTH in by_length else max(lengths, default=None)
    line = sorted(by_length[shown], key=_model_size)
    sizes = [one.model_parameters for one in line]
    name = line[0].title
    unit = "ids" if line[0].unit == TOKEN_IDS else "positions"
    if len(lengths) > 1:
        name += f",\n{min(lengths):,} to {max(lengths):,} {unit}"
        low, high = (
            [one.number for one in sorted(by_length[end], key=_model_size)]
            for end in (min(lengths), max(lengths))
        )
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
    elif lengths:
        name += f",\n{shown:,} {unit}"
    axes.plot(
        sizes,
        [one.number for one in line],
        color=colour,
        linestyle=_LINES.get(line[0].method, "-"),
        marker="o",
        markersize=4,
        markerfacecolor=_FACES.get(line[0].method, colour),
        zorder=3 if line[0].method in _LINES else 2,
        label=name,
    )


def _model_size(one: Count) -> int:
    return one.model_parameters
