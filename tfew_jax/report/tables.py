"""The table of T-Few's papers: a row a variant, a column a set, the mean of medians.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638): a cell is the median over seeds, or
over seeds and all templates, with the interquartile range beside it; the last column is
the mean of the medians.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tfew_jax.report import cells, published, records
from tfew_jax.report.cells import Cell, RowKey

# T-Few's order; other sets follow by name.
ELEVEN = tuple(
    "copa h-swag storycloze winogrande wsc wic rte cb anli-r1 anli-r2 anli-r3".split()
)
METRIC_NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
_NAMES = {"zero_shot": "zero-shot", "majority": "majority class", "tfidf": "TF-IDF"}
NOTHING = "–"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        kind: One of `records.KINDS`, or "published".
        name: What stands in the first column.
        templates: What the values are over: "first", "random", "all", "index N" or
            "one" template, or `NOTHING`.
        split: "test", "fold", or empty for published rows.
        cells: By set.
        mean: Mean of the medians over `Table.mean_tasks`, as a fraction; None where
            the row lacks one of them.
        note: What one should know of a published row.
    """

    kind: str
    name: str
    templates: str
    split: str
    cells: Mapping[str, Cell]
    mean: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """All rows, and what they stand on.

    Attributes:
        metric: One of `cells.METRICS`.
        tasks: The columns.
        mean_tasks: The sets that the means are over.
        num_seeds: Seeds that a cell of a variant usually has.
        rows: Tuned variants, text prompts, then baselines, then published rows.
        experiments: What was read.
        notes: Sentences to print below.
    """

    metric: str
    tasks: tuple[str, ...]
    mean_tasks: tuple[str, ...]
    num_seeds: int
    rows: tuple[Row, ...]
    experiments: tuple[records.Experiment, ...]
    notes: tuple[str, ...]

    @property
    def own_rows(self) -> tuple[Row, ...]:
        """The rows that were measured here."""
        return tuple(row for row in self.rows if row.kind != "published")

    @property
    def mean_header(self) -> str:
        """The header of the last column."""
        count = len(self.mean_tasks)
        return f"mean ({count} set{'' if count == 1 else 's'})"

    def text(self, row: Row, task: str) -> str:
        """A cell as it is printed: median and interquartile range, times 100."""
        cell = row.cells.get(task)
        if cell is None:
            return NOTHING
        if cell.printed is not None:
            return cell.printed
        text = percent(cell.median)
        if cell.iqr is not None:
            text += f" ({percent(cell.iqr)})"
        of_no_seed = row.kind == "zero_shot" and cell.seeds == {None}
        usual = of_no_seed or len(cell.seeds) == self.num_seeds
        if not usual or not cell.complete:
            text += f" n={len(cell.values)}"
        return text


def percent(fraction: float | None) -> str:
    """A fraction times 100 with two decimals, as in T-Few's tables."""
    return NOTHING if fraction is None else f"{100 * fraction:.2f}"


def table(
    experiments: Sequence[records.Experiment],
    *,
    metric: str = "accuracy",
    with_published: str = "on",
) -> Table:
    """Sums experiments up, beside what the paper prints for the same sets.

    Args:
        experiments: From `records.load_records`.
        metric: "accuracy" or "macro_f1".
        with_published: Which published rows; see `published.load`.

    Raises:
        ValueError: If an option is unknown, there are no scores, or a cell would mix
            different experiments.
    """
    if metric not in cells.METRICS:
        raise ValueError(f"metric must be {' or '.join(cells.METRICS)}, got {metric!r}")
    printed = published.load(with_published)
    found = cells.collect(experiments, metric=metric)
    if not found:
        paths = ", ".join(str(experiment.path) for experiment in experiments)
        raise ValueError(
            f"no scores to report: {paths} hold no record of scored rows; give the "
            "runs test rows or folds, or wait for the first"
        )
    own = [_own_row(key, row) for key, row in _in_order(found)]
    tasks = _columns({task for row in own for task in row.cells})
    rows = [*own, *_published_rows(printed, tasks, metric)]
    mean_tasks = _mean_tasks(own, tasks)
    rows = [dataclasses.replace(row, mean=_mean(row, mean_tasks)) for row in rows]
    result = Table(
        metric=metric,
        tasks=tasks,
        mean_tasks=mean_tasks,
        num_seeds=_usual_num_seeds(own),
        rows=tuple(rows),
        experiments=tuple(experiments),
        notes=(),
    )
    return dataclasses.replace(result, notes=_notes(result))


def _in_order(
    found: Mapping[RowKey, Mapping[str, Cell]],
) -> list[tuple[RowKey, Mapping[str, Cell]]]:
    """Kinds in their order, variants as they came, first, random and all templates."""
    names = list(dict.fromkeys(key.name for key in found))
    templates = ("first", "random", "all")

    def place(item: tuple[RowKey, Mapping[str, Cell]]) -> tuple[int, ...]:
        key = item[0]
        return (
            records.KINDS.index(key.kind),
            names.index(key.name),
            templates.index(key.templates),
            int(key.split == "fold"),
        )

    return sorted(found.items(), key=place)


def _own_row(key: RowKey, row: Mapping[str, Cell]) -> Row:
    name = _NAMES.get(key.kind, key.name)
    if key.kind in records.BASELINES and key.name:
        name += f" ({key.name})"
    if key.split == "fold":
        name += ", cross-validation"
    templates = key.templates
    if templates == "all" and all(len(cell.templates) == 1 for cell in row.values()):
        indices = {index for cell in row.values() for index in cell.templates}
        templates = f"index {indices.pop()}" if len(indices) == 1 else "one"
    if key.kind in ("majority", "tfidf") and templates == "first":
        templates = NOTHING
    return Row(
        kind=key.kind, name=name, templates=templates, split=key.split, cells=row
    )


def _columns(tasks: set[str]) -> tuple[str, ...]:
    others = sorted(tasks.difference(ELEVEN))
    return (*(task for task in ELEVEN if task in tasks), *others)


def _published_rows(
    printed: Sequence[published.PublishedRow], tasks: Sequence[str], metric: str
) -> list[Row]:
    rows = []
    for row in printed:
        shown = {task: row.cells[task] for task in tasks if task in row.cells}
        if not shown or row.metric != metric:
            continue
        facts = ", ".join(fact for fact in (row.base, row.source) if fact)
        rows.append(
            Row(
                kind="published",
                name=f"{row.name} ({facts})",
                templates=row.templates or NOTHING,
                split="",
                note=row.note,
                cells={
                    task: Cell(median=median, iqr=iqr, printed=text)
                    for task, (text, median, iqr) in shown.items()
                },
            )
        )
    return rows


def _mean_tasks(own: Sequence[Row], tasks: Sequence[str]) -> tuple[str, ...]:
    """The sets that all rows have; TF-IDF cannot have those without common classes."""
    decisive = [row for row in own if row.kind != "tfidf"] or own
    return tuple(task for task in tasks if all(task in row.cells for row in decisive))


def _mean(row: Row, tasks: Sequence[str]) -> float | None:
    if not tasks or any(task not in row.cells for task in tasks):
        return None
    return float(np.mean([row.cells[task].median for task in tasks]))


def _usual_num_seeds(own: Sequence[Row]) -> int:
    subjects = [row for row in own if row.kind in records.SUBJECTS] or own
    counts = collections.Counter(
        len(cell.seeds) for row in subjects for cell in row.cells.values()
    )
    return max(counts, key=lambda number: (counts[number], number))


def _notes(result: Table) -> tuple[str, ...]:
    own, metric = result.own_rows, METRIC_NAMES[result.metric]
    seeds = f"{result.num_seeds} seed{'' if result.num_seeds == 1 else 's'}"
    notes = [
        f"{metric} × 100: median (interquartile range) over {seeds}, quartiles "
        "linearly interpolated; n = number of values, where there are not "
        f"{seeds} or templates are missing."
    ]
    if any(row.templates == "all" for row in own):
        notes.append("all: the values of every seed and every template together.")
    if any(row.split == "fold" for row in own):
        how = (
            "accuracy weighted by scored rows"
            if result.metric == "accuracy"
            else "macro-F1 of the summed confusion matrices"
        )
        notes.append(f"cross-validation: the folds of a seed are one value, {how}.")
    names = ", ".join(result.mean_tasks) or "there is none"
    notes.append(f"mean: of the medians over the sets that all rows have ({names}).")
    if len(own) < len(result.rows):
        notes.append(
            f"tables: {published.SOURCE}, as printed; their means are computed here "
            "over the same sets as the others."
        )
    about: dict[str, list[str]] = {}
    for row in result.rows:
        if row.note:
            about.setdefault(row.note, []).append(row.name)
    notes += [f"{', '.join(names)}: {note}." for note, names in about.items()]
    unfinished = [text for e in result.experiments if (text := e.unfinished())]
    if unfinished:
        total = len(result.experiments)
        notes.append(
            f"{len(unfinished)} of {total} experiments not finished, and counted with "
            "the scores they have."
        )
    return (*notes, *_mixed_recipes(result))


def _mixed_recipes(result: Table) -> list[str]:
    """What differs between the sets of a variant, which a mean hides."""
    values: dict[str, dict[str, dict[str, None]]] = {}
    for experiment in result.experiments:
        for name, value in experiment.settings.items():
            if name in ("base", "method") or name.startswith("recipe."):
                of_variant = values.setdefault(experiment.variant, {})
                of_variant.setdefault(name, {})[str(value)] = None
    return [
        f"{variant}: its sets differ in {', '.join(differing)}."
        for variant, settings in values.items()
        if (differing := [name for name in sorted(settings) if len(settings[name]) > 1])
    ]
