"""Runs on T5's text-to-text tasks: a row a run and set that it was measured on.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691): the score of a set is the mean
of its metrics (Section 3), of the best step by validation; a set that is not the one of
training is a domain shift (Section 5). How soon validation was within one percent of
what the runs reach is the measure of Table 5, in steps.
"""

import csv
import dataclasses
import io
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tfew_jax.experiment import directory, text_run, text_summary
from tfew_jax.report import formats, records, tables

_MEASURED = (
    *("task", "split", "measured_as", "seed", "scores", "score", "illegal"),
    "num_scored_rows",
)
_FIELDS = {  # that the numbers are made of, by the kind of record
    text_run.VALIDATION: ("seed", "step", "score", "wall_time_s"),
    text_run.BEST: (*_MEASURED, "best_step", "last_step"),
    text_run.SHIFTED: _MEASURED,
}
KINDS = tuple(_FIELDS)
COLUMNS = (
    *("variant", "trained on", "measured on", "split", "score", "n", "illegal"),
    *("best step", "steps", "within 1 %", "trainable", "rate", "directory"),
)
NUM_LEFT = 4
CSV_COLUMNS = (
    *("variant", "trained_on", "measured_on", "split", "metric", "median", "q1", "q3"),
    *("num_values", "directory"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextExperiment:
    """What one directory of a text-to-text run holds.

    Attributes:
        path: The directory, as it was found.
        variant: What its runs are called.
        settings: Of `settings.json`; empty where there is none.
        summary: As `text_summary.summarize` makes it of the records.
        scores: Of every seed, by set and split.
        num_parameters: That were trained; None before the run is summed up.
        finished: Whether its last run was recorded and summed up.
    """

    path: pathlib.Path
    variant: str
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    scores: Mapping[tuple[str, str], Sequence[float]]
    num_parameters: int | None
    finished: bool

    @property
    def trained_on(self) -> str:
        """The task that the runs learned."""
        return str(self.settings.get("task", tables.NOTHING))

    def unfinished(self) -> str | None:
        """One sentence about what is missing, or None where nothing is."""
        if self.finished:
            return None
        seeds = self.settings.get("protocol.seeds") or ()
        done = len(self.summary["runs"])
        return f"{self.path} is not finished: {done} of {len(seeds)} seeds have scores"


def is_one(path: pathlib.Path) -> bool:
    """Whether the records of a directory are those of text-to-text runs."""
    with (path / directory.RECORDS).open("rb") as file:
        line = file.readline()
    try:
        return json.loads(line).get("kind") in KINDS
    except (ValueError, AttributeError):
        return False  # the reader of the other kind says what is wrong


def load(path: pathlib.Path, *, name: str | None = None) -> TextExperiment:
    """Reads one directory; a record that is cut off at the end is left out.

    Args:
        path: The directory.
        name: Variant, instead of that of the records.

    Raises:
        ValueError: If a file is damaged.
    """
    finished, _, lines = records.read_lines(path)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(_checked(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path / directory.RECORDS}, line {number}: not a record of a "
                f"text-to-text run ({what}); restore the file, or do the run again "
                "with --overwrite"
            ) from error
    settings = records.load_json(path / directory.SETTINGS)
    own = [record["variant"] for record in found if "variant" in record]
    return TextExperiment(
        path=path,
        variant=name or str([*own, settings.get("variant") or "tuned"][0]),
        settings=settings,
        summary=text_summary.summarize(found),
        scores=_scores(found),
        num_parameters=records.load_json(path / "summary.json").get("num_parameters"),
        finished=finished,
    )


def _scores(found: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float]]:
    scores: dict[tuple[str, str], list[float]] = {}
    for kind in (text_run.BEST, text_run.SHIFTED):
        for record in found:
            if record["kind"] == kind and record["scores"] is not None:
                of_set = scores.setdefault((record["task"], record["split"]), [])
                of_set.append(record["score"])
    return scores


def _checked(record: Any) -> dict[str, Any]:
    """A record, whose numbers can be summed up.

    Raises:
        KeyError: If it lacks a field.
        TypeError: If it is no object, or its score no number.
        ValueError: If it is of another kind.
    """
    if not isinstance(record, dict):
        raise TypeError(f"a JSON object is expected, not {type(record).__name__}")
    kind = record["kind"]
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(KINDS)}")
    fields = {field: record[field] for field in _FIELDS[kind]}
    is_measured = fields.get("scores", {}) is not None
    if is_measured and type(fields["score"]) not in (int, float):
        raise TypeError(f"the score {fields['score']!r} is no number")
    return record


def rows(experiments: Sequence[TextExperiment]) -> list[list[str]]:
    """The cells of the table below `COLUMNS`, scores and shares × 100."""
    return [
        _row(experiment, of_set)
        for experiment in experiments
        for of_set in experiment.summary["sets"]
    ]


def _row(experiment: TextExperiment, of_set: Mapping[str, Any]) -> list[str]:
    summary, settings = experiment.summary, experiment.settings
    illegal = of_set["illegal"]
    reached = summary["convergence"] or {"first_step_within_1_percent": ()}
    near = [run["step"] for run in reached["first_step_within_1_percent"]]
    near = [step for step in near if step is not None]
    return [
        experiment.variant,
        experiment.trained_on,
        of_set["task"],
        of_set["split"],
        _spread(of_set["score"]),
        str(of_set["score"]["n"]),
        tables.NOTHING if illegal is None else _spread(illegal),
        _median([run["best_step"] for run in summary["runs"]]),
        _median([run["last_step"] for run in summary["runs"]]),
        f"{_median(near)} ({len(near)})" if near else tables.NOTHING,
        tables.NOTHING
        if experiment.num_parameters is None
        else f"{experiment.num_parameters:,}",
        str(settings.get("recipe.learning_rate", tables.NOTHING)),
        str(experiment.path),
    ]


def _spread(spread: Mapping[str, Any]) -> str:
    iqr = spread["q3"] - spread["q1"]
    return f"{100 * spread['median']:.2f} ({100 * iqr:.2f})"


def _median(steps: Sequence[int | None]) -> str:
    known = [step for step in steps if step is not None]
    return f"{statistics.median(known):g}" if known else tables.NOTHING


NOTES = (
    "score × 100: the mean of the set's metrics, of the step that was best by "
    "validation; median (interquartile range, linearly interpolated) over n seeds.",
    "illegal × 100: share of the outputs that are no class of the set.",
    "best step, steps: medians over seeds. within 1 %: median of the first steps whose "
    "validation was within one percent of the mean over seeds of each one's best; in "
    "brackets how many seeds came there.",
)


def to_text(experiments: Sequence[TextExperiment]) -> str:
    """Lines for a terminal."""
    cells = [list(COLUMNS), *rows(experiments)]
    columns = [
        formats.column(column, left=number < NUM_LEFT)
        for number, column in enumerate(zip(*cells, strict=True))
    ]
    lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
    return "\n".join([*lines, *NOTES])


def to_markdown(experiments: Sequence[TextExperiment]) -> str:
    """The table and its notes as GitHub's Markdown."""
    lines = [formats.line(COLUMNS), formats.rule(COLUMNS, num_left=NUM_LEFT)]
    lines += [formats.line(cells) for cells in rows(experiments)]
    lines += ["", *(f"- {formats.escape(note)}" for note in NOTES)]
    return "\n".join(lines) + "\n"


def to_csv(experiments: Sequence[TextExperiment]) -> str:
    """One line a run, set and metric, with fractions that are not rounded."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for experiment in experiments:
        for of_set in experiment.summary["sets"]:
            spreads = {"score": of_set["score"], **of_set["metrics"]}
            if of_set["illegal"] is not None:
                spreads["illegal"] = of_set["illegal"]
            for metric, spread in spreads.items():
                numbers = [spread[key] for key in ("median", "q1", "q3", "n")]
                writer.writerow(
                    [
                        experiment.variant,
                        experiment.settings.get("task", ""),
                        *(of_set["task"], of_set["split"], metric, *numbers),
                        experiment.path,
                    ]
                )
    return text.getvalue()
