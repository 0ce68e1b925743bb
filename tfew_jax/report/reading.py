"""Directories of both kinds, and each kind's table in one text.

Few-shot experiments are rows and columns of one table; runs on text-to-text tasks have
their own below it.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from tfew_jax.report import charts, formats, page, records, tables, text_tables
from tfew_jax.report.records import Experiment, PathLike
from tfew_jax.report.text_tables import TextExperiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """What was read.

    Attributes:
        experiments: Few-shot ones.
        text_experiments: On text-to-text tasks.
        metric: Of the few-shot table; see `tables.table`.
        with_published: Published rows of the few-shot table.
    """

    experiments: Sequence[Experiment] = ()
    text_experiments: Sequence[TextExperiment] = ()
    metric: str = "accuracy"
    with_published: str = "on"

    def warnings(self) -> list[str]:
        """A sentence about each experiment that is not finished."""
        every = (*self.experiments, *self.text_experiments)
        return [text for one in every if (text := one.unfinished())]

    def to_text(self, *, width: int | None = None) -> str:
        """Lines for a terminal of that width."""
        parts = []
        if self.experiments:
            parts.append(formats.to_text(self._table(), width=width))
        if self.text_experiments:
            parts.append(text_tables.to_text(self.text_experiments))
        return "\n\n".join(parts)

    def to_markdown(self) -> str:
        """Tables, notes and what was run, as GitHub's Markdown."""
        parts = []
        if self.experiments:
            parts.append(formats.to_markdown(self._table()))
        if self.text_experiments:
            parts.append(text_tables.to_markdown(self.text_experiments))
        return "\n".join(parts)

    def to_csv(self) -> str:
        """One line a number.

        Raises:
            ValueError: If both kinds were read, whose columns differ.
        """
        self._check_kinds("their CSV has other columns")
        if self.experiments:
            return formats.to_csv(self._table())
        return text_tables.to_csv(self.text_experiments)

    def to_html(self) -> str:
        """One page."""
        few_shot = self._table() if self.experiments else None
        return page.to_html(few_shot, text_experiments=self.text_experiments)

    def to_png(self) -> bytes:
        """One chart: every seed a dot, the quartiles a bar, the median a mark.

        Raises:
            ValueError: If both kinds were read, or nothing has a score yet.
        """
        self._check_kinds("a chart shows one kind of score")
        if self.experiments:
            return charts.to_png(charts.scores(self._table()))
        if not any(experiment.scores for experiment in self.text_experiments):
            raise ValueError(
                f"{self.text_experiments[0].path} has no scores yet to draw; let a run "
                "end first"
            )
        return charts.to_png(charts.text_scores(self.text_experiments))

    def _check_kinds(self, reason: str) -> None:
        if self.experiments and self.text_experiments:
            raise ValueError(
                f"{self.text_experiments[0].path} is a run on a text-to-text task, "
                f"{self.experiments[0].path} is not, and {reason}; report on them one "
                "after the other"
            )

    def _table(self) -> tables.Table:
        return tables.table(
            self.experiments, metric=self.metric, with_published=self.with_published
        )


def read(
    paths: PathLike | Sequence[PathLike],
    *,
    variants: Mapping[str, str] | Mapping[pathlib.Path, str] | None = None,
    metric: str = "accuracy",
    with_published: str = "on",
) -> Results:
    """Reads all experiments in some directories and below them, of both kinds.

    Args:
        paths: As in `records.load_records`.
        variants: As in `records.load_records`.
        metric: Of the few-shot table.
        with_published: "on", "all" or "off".

    Raises:
        ValueError: As `records.load_records`.
    """
    found = records.directories(paths, variants=variants)
    texts = {path: name for path, name in found.items() if text_tables.is_one(path)}
    return Results(
        experiments=[
            records.load_experiment(path, name=name)
            for path, name in found.items()
            if path not in texts
        ],
        text_experiments=[text_tables.load(p, name=n) for p, n in texts.items()],
        metric=metric,
        with_published=with_published,
    )
