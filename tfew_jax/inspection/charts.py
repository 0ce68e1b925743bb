"""Figures of what an adapter learned, in the style of the report's."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tfew_jax.inspection import units
from tfew_jax.inspection.reports import PromptReport
from tfew_jax.inspection.units import Vector
from tfew_jax.report import charts

_WIDTH = 10.0  # inches
_COLUMNS = (  # of the heat map: block of encoder or decoder, and site
    (("attention", "self_attention"), "key"),
    (("attention", "self_attention"), "value"),
    (("encoder_decoder_attention",), "key"),
    (("encoder_decoder_attention",), "value"),
    (("mlp",), "mlp_hidden"),
)
_HALVES = ("encoder", "decoder")
_SHOWN = 0.995  # share of the units whose colours are told apart
_LEAST = 0.01  # half of the colours' range, where hardly anything has moved
_LINE = 0.075  # inches of a layer
_COLOURS = "RdBu_r"  # white in the middle
_CONTROL = "#888888"


def heat_map(vectors: Sequence[Vector]) -> Figure:
    """(IA)^3's vectors: a panel for each place in a layer, a line for each layer.

    The units of a line are sorted by value, so that inhibited ones stand on the left
    and amplified ones on the right. White is one.

    Args:
        vectors: All of an adapter.
    """
    moved = np.concatenate([np.abs(vector.values - 1) for vector in vectors])
    limit = max(float(np.quantile(moved, _SHOWN)), _LEAST)
    norm = CenteredNorm(vcenter=1.0, halfrange=limit)
    halves = [half for half in _HALVES if any(v.half == half for v in vectors)]
    columns = [c for c in _COLUMNS if any(_panel(vectors, h, c) for h in halves)]
    num_layers = 1 + max(vector.layer for vector in vectors)
    height = len(halves) * (1.2 + max(num_layers * _LINE, 0.6)) + 0.3
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        grid = figure.subplots(len(halves), len(columns), squeeze=False)
        for half, line in zip(halves, grid, strict=True):
            for column, axes in zip(columns, line, strict=True):
                some = _panel(vectors, half, column)
                if not some:
                    axes.set_visible(False)
                    continue
                _draw_layers(axes, some, norm)
        figure.suptitle(
            "(IA)$^3$: factors of the units, sorted in each layer",
            parse_math=True,
            fontsize=11,
        )
        figure.colorbar(
            ScalarMappable(norm, _COLOURS),
            ax=grid.ravel().tolist(),
            extend="both",
            shrink=0.8,
            aspect=30,
            label="inhibited   <   1   <   amplified",
        )
    return figure


def _panel(
    vectors: Sequence[Vector], half: str, column: tuple[tuple[str, ...], str]
) -> list[Vector]:
    blocks, site = column
    return [
        vector
        for vector in vectors
        if vector.half == half and vector.block in blocks and vector.site == site
    ]


def _draw_layers(axes: Axes, vectors: Sequence[Vector], norm: CenteredNorm) -> None:
    """One panel; layers without the vector stay grey."""
    num_layers = 1 + max(vector.layer for vector in vectors)
    values = np.full((num_layers, vectors[0].values.size), np.nan, np.float32)
    for vector in vectors:
        values[vector.layer] = np.sort(vector.values)
    axes.set_facecolor("#cccccc")
    axes.imshow(
        values,
        norm=norm,
        cmap=_COLOURS,
        aspect="auto",
        interpolation="nearest",
        extent=(0, 100, num_layers - 0.5, -0.5),
    )
    half, _, place = vectors[0].place.partition(" ")
    share = units.summary(vectors)["share_near_one"]
    axes.set_title(
        f"{half}\n{place}\n{share:.0%} within 0.001 of one", fontsize="small"
    )
    axes.set_xticks([0, 50, 100], ["0 %", f"of {values.shape[1]:,}", "100 %"])
    axes.tick_params(labelsize="x-small", length=2)
    step = max(1, num_layers // 6)
    axes.set_yticks(range(0, num_layers, step))
    axes.set_ylabel("layer", fontsize="x-small")


def prompt_chart(reports: Sequence[PromptReport]) -> Figure:
    """Each position of a prompt beside as many random vectors.

    One column of panels a prompt: the cosine with the nearest entry, the cosine among
    the entries, the norm. Grey is the control: its values as a band, their mean as a
    line. Hollow positions share their nearest entry with another.

    Args:
        reports: Of the prompts of an adapter, with their controls.
    """
    with matplotlib.rc_context(charts.STYLE):
        figure = Figure(figsize=(_WIDTH, 6.5), layout="constrained")
        grid = figure.subplots(3, len(reports), squeeze=False, sharex="col")
        for column, report in enumerate(reports):
            top = report.neighbours.ids.shape[1]
            shared = np.zeros(len(report.pieces), bool)
            shared[[at for group in report.same_nearest for at in group]] = True
            names = (
                "cosine with\nnearest entry",
                f"cosine among\n{top} entries",
                "norm",
            )
            learned, drawn = _measures(report), _measures(report.control or report)
            for axes, name, some, control in zip(
                grid[:, column], names, learned, drawn, strict=True
            ):
                _draw_positions(axes, some, control, shared)
                axes.set_ylabel(name)
            where = report.name.partition("_")[0]
            grid[0, column].set_title(
                f"prompt of the {where}: {len(shared)} positions", fontsize=11
            )
            grid[-1, column].set_xlabel("position")
            grid[-1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=4, frameon=False
        )
    return figure


def _measures(report: PromptReport) -> list[Float[np.ndarray, "prompt"] | None]:
    found = report.neighbours
    return [found.cosines[:, 0], found.tightness, found.norms]


def _draw_positions(
    axes: Axes,
    learned: Float[np.ndarray, "prompt"] | None,
    control: Float[np.ndarray, "prompt"] | None,
    shared: np.ndarray,
) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["right", "top"]].set_visible(False)
    if learned is None or control is None:  # one entry has no pairs
        axes.set_visible(False)
        return
    axes.axhspan(
        float(control.min()),
        float(control.max()),
        color=_CONTROL,
        alpha=0.25,
        linewidth=0,
        label="random vectors, lowest to highest",
    )
    axes.axhline(float(control.mean()), color=_CONTROL, linewidth=1, label="their mean")
    positions = np.arange(len(learned))
    for mask, face, label in (
        (~shared, charts.COLOURS[0], "learned"),
        (shared, "white", "learned, nearest entry shared"),
    ):
        axes.plot(
            positions[mask],
            learned[mask],
            linestyle="",
            marker="o",
            markersize=4,
            color=charts.COLOURS[0],
            markerfacecolor=face,
            label=label,
        )
