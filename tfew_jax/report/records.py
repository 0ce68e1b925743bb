"""The records of experiments, read from the directories that hold them.

Nothing is written there: an experiment may still be running. Fields that records of
earlier versions lack are filled in: the variant is the method's name, the template
the task's first one.
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfew_jax.experiment import directory

PathLike = str | os.PathLike[str]
SUBJECTS = ("tuned", "text_prompt")  # what an experiment is of
BASELINES = ("zero_shot", "majority", "tfidf")
KINDS = (*SUBJECTS, *BASELINES)
RANDOM = "random"  # a template drawn for every row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The scores of one run on one split with one choice of templates.

    Attributes:
        kind: One of `KINDS`.
        variant: Name of the row in reports.
        task: Name of the set.
        seed: None for what no seed changes.
        fold: Number of the fold in cross-validation.
        split: "test" or "fold"; None where nothing was scored.
        template: None for the task's first template, `RANDOM`, or the index of one.
        template_name: Its name, where it has one.
        scores: Fractions by the name of the metric; None where nothing was scored.
        num_scored_rows: Rows that the scores are of.
        fields: The whole record.
        where: File and line.
    """

    kind: str
    variant: str
    task: str
    seed: int | None
    fold: int | None
    split: str | None
    template: int | str | None
    template_name: str | None
    scores: Mapping[str, Any] | None
    num_scored_rows: int
    fields: Mapping[str, Any]
    where: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two records of one cell of a table share."""
        return (self.seed, self.template, self.fold)

    def score(self, metric: str) -> float:
        """A score as a fraction.

        Raises:
            ValueError: If the record has none of that name.
        """
        value = (self.scores or {}).get(metric)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.where}: its scores hold no {metric}")
        return float(value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """What one directory holds.

    Attributes:
        path: The directory, as it was found.
        name: Variant that the reader gave it, instead of its own.
        settings: Of `settings.json`; empty where there is none.
        summary: Of `summary.json`; empty where there is none yet.
        finished: Whether its last run was recorded and summed up.
        torn: Whether a record at the end is cut off.
        records: In the order of the file.
    """

    path: pathlib.Path
    name: str | None
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    finished: bool
    torn: bool
    records: tuple[Record, ...]

    @functools.cached_property
    def variant(self) -> str:
        """The variant of what was tuned or shown here."""
        own = [record.variant for record in self.records if record.kind in SUBJECTS]
        if self.name or own:
            return self.name or own[0]
        given = self.settings.get("variant") or _method_name(self.settings)
        return str(given or "tuned")

    def unfinished(self) -> str | None:
        """One sentence about what is missing, or None where nothing is."""
        if self.finished:
            return None
        counts: dict[int | None, int] = {}
        counts |= dict.fromkeys(self.settings.get("protocol.seeds") or (), 0)
        folds: dict[int | None, set[int]] = {}
        for record in self.records:
            if record.kind in SUBJECTS and record.scores is not None:
                counts[record.seed] = 1
                if record.fold is not None:
                    folds.setdefault(record.seed, set()).add(record.fold)
        parts = [f"{sum(counts.values())} of {len(counts)} seeds have scores"]
        total = self.settings.get("protocol.num_folds")
        parts += [
            f"seed {seed} has {len(done)} of {total} folds"
            for seed, done in folds.items()
            if len(done) != total
        ]
        if self.torn:
            parts.append("the record at the end is cut off and left out")
        return f"{self.path} is not finished: {', '.join(parts)}"


def load_records(
    paths: PathLike | Sequence[PathLike],
    *,
    variants: Mapping[str, str] | Mapping[pathlib.Path, str] | None = None,
) -> list[Experiment]:
    """Reads all experiments in some directories and below them.

    Args:
        paths: Directories of experiments, or folders that hold some at any depth.
        variants: Names, by directory, for what was tuned there; they stand for those
            in the records. The directories are read as well.

    Returns:
        One experiment a directory, each once: in the order of the paths, below each
        of them by name, those of `variants` that no path leads to last.

    Raises:
        ValueError: If a path holds no experiment, a file is damaged, or two names
            are given to one directory.
    """
    found = directories(paths, variants=variants)
    return [load_experiment(path, name=name) for path, name in found.items()]


def directories(
    paths: PathLike | Sequence[PathLike],
    *,
    variants: Mapping[str, str] | Mapping[pathlib.Path, str] | None = None,
) -> dict[pathlib.Path, str | None]:
    """The directories of all experiments, each once, and the variant it is given.

    Arguments and errors are those of `load_records`.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    names: dict[pathlib.Path, str] = {}
    for path, name in (variants or {}).items():
        for found in find(path):
            if (other := names.setdefault(found.resolve(), name)) != name:
                raise ValueError(
                    f"{found} is given two variants, {other} and {name}; give it one"
                )
    places: dict[pathlib.Path, pathlib.Path] = {}
    for path in [*paths, *(variants or {})]:
        for found in find(path):
            places.setdefault(found.resolve(), found)
    if not places:
        raise ValueError("no directory to report on; give at least one")
    return {found: names.get(place) for place, found in places.items()}


def find(path: PathLike) -> list[pathlib.Path]:
    """The directories of experiments in a directory or below it, by name.

    Raises:
        ValueError: If there is none.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise ValueError(f"{root} {what}; give the directory of an experiment")
    found = []
    for folder, folders, files in os.walk(root):
        if directory.RECORDS in files:
            found.append(pathlib.Path(folder))
            folders.clear()  # what an experiment holds are no experiments
    if not found:
        raise ValueError(
            f"{root}: no experiment, as neither it nor a folder below it holds a file "
            f"{directory.RECORDS}; give the directory that a run wrote to"
        )
    return sorted(found)


def load_experiment(path: pathlib.Path, *, name: str | None = None) -> Experiment:
    """Reads one directory.

    Args:
        path: The directory.
        name: Variant of what was tuned there, instead of that of the records.

    Raises:
        ValueError: If a file is damaged.
    """
    settings = load_json(path / directory.SETTINGS)
    finished, torn, lines = read_lines(path)
    records = []
    for number, line in enumerate(lines, 1):
        where = f"{path / directory.RECORDS}, line {number}"
        try:
            record = _make_record(json.loads(line), where, settings)
        except (ValueError, TypeError, KeyError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{where}: not a record ({what}); restore the file, or do the "
                "experiment again with --overwrite"
            ) from error
        if name is not None and record.kind in SUBJECTS:
            record = dataclasses.replace(record, variant=name)
        records.append(record)
    return Experiment(
        path=path,
        name=name,
        settings=settings,
        summary=load_json(path / "summary.json"),
        finished=finished,
        torn=torn,
        records=tuple(records),
    )


def scored(experiments: Sequence[Experiment]) -> Iterator[tuple[Experiment, Record]]:
    """Every record with scores, beside its experiment."""
    for experiment in experiments:
        for record in experiment.records:
            if record.scores is not None:
                yield experiment, record


def _make_record(fields: Any, where: str, settings: Mapping[str, Any]) -> Record:
    if not isinstance(fields, dict):
        raise TypeError(f"a JSON object is expected, not {type(fields).__name__}")
    if fields["kind"] not in KINDS:
        raise ValueError(f"kind {fields['kind']!r} is none of {', '.join(KINDS)}")
    scores, template = fields["scores"], fields.get("template")
    if not isinstance(scores, dict | None):
        raise TypeError("scores are neither an object nor null")
    for name in ("accuracy", "macro_f1"):
        value = (scores or {}).get(name, 0)
        if isinstance(value, int | float) and not 0 <= value <= 1:
            raise ValueError(f"{name} {value} is no fraction between 0 and 1")
    is_index = isinstance(template, int) and not isinstance(template, bool)
    if not (template in (None, RANDOM) or (is_index and template >= 0)):
        raise ValueError(f"template {template!r} is no index, '{RANDOM}' or null")
    method = _method_name(fields) or _method_name(settings) or "tuned"
    return Record(
        kind=fields["kind"],
        variant=str(fields.get("variant") or method),
        task=str(fields["task"]),
        seed=fields["seed"],
        fold=fields["fold"],
        split=fields["split"],
        template=template,
        template_name=fields.get("template_name"),
        scores=scores,
        num_scored_rows=int(fields["num_scored_rows"]),
        fields=fields,
        where=where,
    )


def _method_name(holder: Mapping[str, Any]) -> str | None:
    method = holder.get("method")
    return method.get("name") if isinstance(method, dict) else None


def read_lines(path: pathlib.Path) -> tuple[bool, bool, list[bytes]]:
    """The records of a directory as they are written.

    Returns:
        Whether the experiment is finished, whether a line at the end is cut off, and
        the whole lines.
    """
    finished = (path / directory.FINISHED).exists()
    # Read after the marker, so that what is finished is complete.
    *lines, rest = (path / directory.RECORDS).read_bytes().split(b"\n")
    if finished and rest:  # an editor may have taken the last line end
        lines, rest = [*lines, rest], b""
    return finished, bool(rest), lines


def load_json(path: pathlib.Path) -> dict[str, Any]:
    """An object of a file; empty where there is no file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object; restore it")
    return value
