"""From records to the values of one cell, never of two experiments at once.

A value is the score of one seed with one choice of templates. The folds of a seed are
pooled first: accuracy is weighted by scored rows, macro-F1 comes from the sum of the
folds' confusion matrices.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfew_jax import metrics
from tfew_jax.report import records
from tfew_jax.report.records import Experiment, Record

METRICS = ("accuracy", "macro_f1")
# Settings that may differ between the experiments of one cell: which seeds, what else
# is predicted, how many rows at once.
_FREE = frozenset(("protocol.seeds", "protocol.eval_batch_size", "rows.predict"))
# With test rows every seed may bring a file of its own rows, as T-Few's subsets do.
_FREE_WITH_TEST = frozenset(("rows.train", "protocol.num_folds"))


@dataclasses.dataclass(frozen=True, order=True)
class RowKey:
    """What makes a row of the table.

    Attributes:
        kind: See `records.KINDS`.
        name: The variant; of baselines only where variants differ in them.
        templates: "first", "random" or "all".
        split: "test" or "fold".
    """

    kind: str
    name: str
    templates: str
    split: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Value:
    """The score of one seed with one choice of templates, as a fraction."""

    seed: int | None
    template: int | str | None
    template_name: str | None
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """The values of a row on one set, and their spread as fractions.

    Attributes:
        median: Of the values.
        iqr: Third quartile less the first, linearly interpolated; None for a single
            value.
        quartiles: First and third; None where they are not known.
        values: By seed and template; none for published numbers.
        confusion: Confusion matrices of all its records summed, labels as rows; None
            where they differ in size or are not there.
        printed: The text of a published number.
    """

    median: float
    iqr: float | None
    quartiles: tuple[float, float] | None = None
    values: tuple[Value, ...] = ()
    confusion: list[list[int]] | None = None
    printed: str | None = None

    @property
    def seeds(self) -> set[int | None]:
        return {value.seed for value in self.values}

    @property
    def templates(self) -> set[int | str | None]:
        return {value.template for value in self.values}

    @property
    def complete(self) -> bool:
        """Whether every seed has every template."""
        return len(self.values) == len(self.seeds) * len(self.templates)


Sources = list[tuple[Experiment, Record]]


def collect(
    experiments: Sequence[Experiment], *, metric: str
) -> dict[RowKey, dict[str, Cell]]:
    """The cells of all rows by set, rows in the order in which they first stand.

    Zero-shot, majority class and TF-IDF do not depend on what is tuned, so that the
    same of them in several directories counts once. Where they differ, because of
    another base or other rows, each variant has its own.

    Args:
        experiments: From `records.load_records`.
        metric: One of `METRICS`.

    Raises:
        ValueError: If a cell would mix different experiments.
    """
    differing = {kind for kind in records.BASELINES if _differ(experiments, kind)}
    found: dict[RowKey, dict[str, Sources]] = {}
    scored = list(records.scored(experiments))
    # What experiments are of first: its mistakes say more than those of baselines.
    for experiment, record in sorted(
        scored, key=lambda pair: pair[1].kind not in records.SUBJECTS
    ):
        name = record.variant if record.kind in records.SUBJECTS else ""
        if record.kind in differing:
            name = experiment.variant
        key = RowKey(record.kind, name, _templates(record), record.split or "test")
        row = found.setdefault(key, {})
        row.setdefault(record.task, []).append((experiment, record))
    return {
        key: {
            task: _cell(_checked(key, task, sources), metric)
            for task, sources in row.items()
        }
        for key, row in found.items()
    }


def _templates(record: Record) -> str:
    if record.template is None:
        return "first"
    return "random" if record.template == records.RANDOM else "all"


def _differ(experiments: Sequence[Experiment], kind: str) -> bool:
    """Whether directories disagree about a baseline."""
    scores: dict[tuple[Any, ...], Any] = {}
    made_of: dict[Any, Any] = {}
    setting = "base" if kind == "zero_shot" else "protocol.num_shots"
    for experiment, record in records.scored(experiments):
        if record.kind != kind:
            continue
        key = (record.task, record.split, *record.key)
        if scores.setdefault(key, _facts(record)) != _facts(record):
            return True
        # One base for all sets; sets have numbers of rows of their own.
        place = None if kind == "zero_shot" else record.task
        value = experiment.settings.get(setting)
        if made_of.setdefault(place, value) != value:
            return True
    return False


def _facts(record: Record) -> tuple[Any, ...]:
    scores = record.scores or {}
    return (record.num_scored_rows, *(scores.get(metric) for metric in METRICS))


def _checked(key: RowKey, task: str, sources: Sources) -> list[Record]:
    """The records of a cell, each once.

    Raises:
        ValueError: If they are of experiments that differ.
    """
    unique: dict[tuple[Any, ...], tuple[Experiment, Record]] = {}
    first = sources[0][0]
    for experiment, record in sources:
        other, same = unique.setdefault(record.key, (experiment, record))
        if same is not record and experiment is other:
            raise ValueError(
                f"{record.where}: the run of {same.where.rpartition(', ')[2]} again; "
                "remove one of the two lines"
            )
        if _facts(same) != _facts(record):
            place = _place(key, task, record)
            raise _mixed(place, other, experiment, key, "have other scores")
        if key.kind in records.SUBJECTS and differences(
            first.settings, experiment.settings, split=key.split
        ):
            place = _place(key, task, None if same is record else record)
            raise _mixed(place, first, experiment, key, "are different runs")
    return [record for _, record in unique.values()]


def _place(key: RowKey, task: str, record: Record | None) -> str:
    kind = "" if key.kind in records.SUBJECTS else key.kind
    name = " ".join(part for part in (kind, key.name) if part)
    place = f"{name} on {task}"
    if record is None:
        return f"{place}, {key.templates} templates"
    if record.seed is not None:
        place += f", seed {record.seed}"
    if record.fold is not None:
        place += f", fold {record.fold}"
    return (
        f"{place}, template {'first' if record.template is None else record.template}"
    )


def _mixed(
    place: str, first: Experiment, other: Experiment, key: RowKey, what: str
) -> ValueError:
    reasons = differences(first.settings, other.settings, split=key.split)
    hashes = [_config_hash(experiment) for experiment in (first, other)]
    if not reasons and hashes[0] != hashes[1]:
        reasons = [f"config_hash ({hashes[0]}, {hashes[1]})"]
    why = f"they differ in {'; '.join(reasons)}" if reasons else "of equal settings"
    return ValueError(
        f"{first.path} and {other.path} both hold {place}, and {what}: {why}. Name the "
        f"variants apart, as with --variant NAME={other.path}, or leave one of the two "
        "out"
    )


def _config_hash(experiment: Experiment) -> str:
    return str(experiment.records[0].fields.get("config_hash"))


def differences(
    first: Mapping[str, Any], other: Mapping[str, Any], *, split: str
) -> list[str]:
    """The settings in which two experiments differ that a cell must not mix.

    Args:
        first: Settings of an experiment; none are like all others.
        other: Settings of another one.
        split: "test" or "fold".
    """
    if not first or not other:
        return []
    free = _FREE | _FREE_WITH_TEST if split == "test" else _FREE
    return [
        f"{name} ({_short(first.get(name))}, {_short(other.get(name))})"
        for name in sorted({*first, *other} - free)
        if first.get(name) != other.get(name)
    ]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _cell(parts: Sequence[Record], metric: str) -> Cell:
    groups: dict[tuple[Any, Any], list[Record]] = {}
    for record in parts:
        groups.setdefault((record.seed, record.template), []).append(record)
    values = tuple(
        Value(
            seed=group[0].seed,
            template=group[0].template,
            template_name=group[0].template_name,
            value=pooled(group, metric),
        )
        for _, group in sorted(groups.items(), key=lambda item: _order(*item[0]))
    )
    summary = metrics.summarize([value.value for value in values])
    q1, q3 = summary["q1"], summary["q3"]
    return Cell(
        median=summary["median"],
        iqr=q3 - q1 if len(values) > 1 else None,
        quartiles=(q1, q3),
        values=values,
        confusion=_confusion(parts),
    )


def _order(seed: int | None, template: int | str | None) -> tuple[int, int]:
    return (
        -1 if seed is None else seed,
        template if isinstance(template, int) else -1,
    )


def pooled(folds: Sequence[Record], metric: str) -> float:
    """One score of the folds of a seed, which together are its scored rows.

    Raises:
        ValueError: If a record does not hold the metric, or no confusion matrix
            where several folds need it.
    """
    if len(folds) == 1:
        return folds[0].score(metric)
    if metric == "accuracy":
        weights = [record.num_scored_rows for record in folds]
        return float(np.average([r.score(metric) for r in folds], weights=weights))
    summed = _confusion(folds)
    if summed is None:
        raise ValueError(
            f"{folds[0].where}: the scores of its folds hold no confusion matrices of "
            f"one size, which pooling the {metric} needs; report accuracy instead"
        )
    matrix = np.asarray(summed)
    rows = np.repeat(np.arange(matrix.size), matrix.ravel())  # each in its cell
    return metrics.macro_f1(rows % len(matrix), rows // len(matrix))


def _confusion(parts: Sequence[Record]) -> list[list[int]] | None:
    found = [(record.scores or {}).get("confusion_matrix") for record in parts]
    if any(matrix is None for matrix in found):
        return None
    arrays = [np.asarray(matrix, int) for matrix in found]
    size = len(arrays[0])
    if not size or any(array.shape != (size, size) for array in arrays):
        return None
    return np.sum(arrays, axis=0).tolist()
