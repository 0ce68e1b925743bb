"""Rows of T0's mixtures: of P3 as exported, of raw sets in a directory or in memory.

A source gives the rows of a task, and from a row the text. Files are read when the
first row of their task is asked for.
"""

import abc
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfew_jax.data import patterns, promptsource, tables
from tfew_jax.data.p3 import MixtureTask

REPOSITORY = "bigscience/P3"
WRITINGS = ("leave_out", "tfew")
NO_INPUT, NO_LABEL = "<NO INPUT>", "<NO LABEL>"  # T-Few's words

_TEXTS = ("inputs", "targets")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A row as text.

    Attributes:
        inputs: What the model reads.
        targets: What it should write.
        choices: Answer choices; none where the target is free text.
    """

    inputs: str
    targets: str
    choices: tuple[str, ...] = ()


class Source(abc.ABC):
    """Where the rows of tasks are from.

    Attributes:
        raw: Whether rows are the sets' own, of which all official ones should be there.
    """

    raw: bool

    @abc.abstractmethod
    def rows(self, task: MixtureTask) -> tables.Rows | None:
        """The training rows of a task, or None where there are none.

        Raises:
            ValueError: A file cannot be read.
        """

    @abc.abstractmethod
    def read(self, task: MixtureTask, row: Mapping[str, Any]) -> Pair:
        """A row as text.

        Raises:
            promptsource.NotApplicableError: The row is none of the task's.
            ValueError: It is not a row of the set.
        """

    @abc.abstractmethod
    def where(self, task: MixtureTask) -> str:
        """What was looked for and not found, for messages."""


class RawSets(Source):
    """Rows of the sets themselves, as text by promptsource's templates.

    Columns need the names and types of the Hub's datasets; `-` in a name becomes `_`,
    as in promptsource.
    """

    raw = True

    def __init__(
        self,
        rows: str | os.PathLike[str] | Mapping[str, Iterable[Mapping[str, Any]]],
        *,
        not_applicable: str = "leave_out",
    ):
        """Does not read yet.

        Args:
            rows: A directory with `SET/train.jsonl` (or .parquet, .csv, .tsv, or
                several files train-*), for example `glue/mrpc/train.jsonl`; or the rows
                of each set.
            not_applicable: What becomes of rows to which a template gives no input or
                no target: left out, or written as T-Few's pre-training writes them,
                `<NO INPUT>` and `<NO LABEL>`.

        Raises:
            tables.RowsError: There is no such directory, or no such writing.
        """
        if not_applicable not in WRITINGS:
            raise tables.RowsError(
                f"not_applicable={not_applicable!r}; choose from {', '.join(WRITINGS)}"
            )
        self._writes = not_applicable == "tfew"
        self._folder = None if isinstance(rows, Mapping) else _folder(rows)
        given = rows if isinstance(rows, Mapping) else {}
        self._given = {
            name: found if isinstance(found, Sequence) else list(found)
            for name, found in given.items()
        }
        self._read: dict[str, tables.Rows | None] = {}

    def rows(self, task: MixtureTask) -> tables.Rows | None:
        name = task.set_name
        if self._folder is None:
            return self._given.get(name) or None
        if name not in self._read:
            files = tables.train_files(self._folder / name)
            self._read[name] = tables.load(files) if files else None
        return self._read[name]

    def read(self, task: MixtureTask, row: Mapping[str, Any]) -> Pair:
        columns = {column.replace("-", "_"): value for column, value in row.items()}
        template = task.template
        if template.lacks_label(columns):
            raise patterns.TemplateError(
                "the row has no label (-1), as in published test sets; give training "
                "rows"
            )
        try:
            found = template.render(columns)
        except promptsource.NotApplicableError:
            if not self._writes:
                raise
            parts = template.parts(columns)
            inputs, target = parts if len(parts) == 2 else (NO_INPUT, NO_LABEL)
            choices = template.answer_choices(columns)
            return Pair(inputs=inputs, targets=target or NO_LABEL, choices=choices)
        return Pair(
            inputs=found.inputs, targets=found.target or "", choices=found.choices
        )

    def where(self, task: MixtureTask) -> str:
        if self._folder is None:
            return "not among the rows given"
        return f"no SET/train{{{','.join(tables.SUFFIXES)}}} in {self._folder}"


class Exported(Source):
    """P3's rows, which are text already: `DIR/TASK/train*.parquet` or .jsonl.

    Rows have `inputs_pretokenized` and `targets_pretokenized`, as on the Hub, or
    `inputs` and `targets` as text. A row of a wrong choice (`is_correct` is false) is
    none to be trained on and does not apply, nor does one without input or target.
    """

    raw = False

    def __init__(self, directory: str | os.PathLike[str]):
        """Does not read yet.

        Args:
            directory: With a folder for each task, or with a folder `data` of these.

        Raises:
            tables.RowsError: There is no such directory.
        """
        self._folder = _folder(directory)
        self._read: dict[tuple[str, int | None], tables.Rows | None] = {}

    def rows(self, task: MixtureTask) -> tables.Rows | None:
        # T-Few reads the first rows alone.
        limit = task.cap if task.rule == "tfew" else None
        if (task.name, limit) not in self._read:
            files = self.files(task)
            self._read[task.name, limit] = (
                tables.load(files, columns=_text_columns, limit=limit)
                if files
                else None
            )
        return self._read[task.name, limit]

    def files(self, task: MixtureTask) -> list[pathlib.Path]:
        """The files of a task's training rows; none where it is missing."""
        folder = self._folder / task.name
        return tables.train_files(folder) or tables.train_files(
            self._folder / "data" / task.name
        )

    def read(self, task: MixtureTask, row: Mapping[str, Any]) -> Pair:
        inputs, targets = (_text(task, row, name) for name in _TEXTS)
        wrong = row.get("is_correct")
        if wrong is False or not inputs or not targets:
            problem = "has no input" if not inputs else "has no target"
            raise promptsource.NotApplicableError(
                f"{task.name}: the row {problem if wrong is not False else 'is wrong'}"
            )
        choices = row.get("answer_choices")
        choices = [] if choices is None else choices
        return Pair(inputs=inputs, targets=targets, choices=tuple(map(str, choices)))

    def where(self, task: MixtureTask) -> str:
        return f"no TASK/train* in {self._folder}"


def open_directory(
    directory: str | os.PathLike[str],
    tasks: Iterable[MixtureTask],
    *,
    not_applicable: str = "leave_out",
) -> Source:
    """The directory as P3's export if it holds a task of it, else as raw sets.

    Args:
        directory: What `Exported` or `RawSets` read.
        tasks: Of the mixture.
        not_applicable: What `RawSets` makes of rows to which a template does not apply.

    Raises:
        tables.RowsError: There is no such directory.
    """
    exported = Exported(directory)
    if any(exported.files(task) for task in tasks):
        return exported
    return RawSets(directory, not_applicable=not_applicable)


def download(
    tasks: Iterable[MixtureTask],
    directory: str | os.PathLike[str],
    *,
    revision: str | None = None,
) -> Exported:
    """Puts P3's training rows of tasks into a directory; files alone, no code.

    Args:
        tasks: Which ones.
        directory: Where to; what is there is not loaded again.
        revision: Of the repository; the newest where None.

    Raises:
        tables.RowsError: The extra `data` is not installed, or the files cannot be had.
    """
    wanted = [f"{task.name}/train*.parquet" for task in tasks]
    try:
        import huggingface_hub
    except ImportError:
        raise tables.RowsError(
            f"loading {REPOSITORY} needs huggingface_hub; install tfew-jax[data], or "
            "give a directory of its files"
        ) from None
    try:
        huggingface_hub.snapshot_download(
            REPOSITORY,
            repo_type="dataset",
            revision=revision,
            local_dir=os.fspath(directory),
            allow_patterns=[p for w in wanted for p in (w, f"data/{w}")],
        )
    except Exception as error:  # of many kinds, by library and network
        raise tables.RowsError(
            f"{REPOSITORY} cannot be loaded to {os.fspath(directory)} "
            f"({' '.join(str(error).split()) or type(error).__name__}); what has "
            "arrived stays there, try again"
        ) from None
    return Exported(directory)


def _text_columns(columns: Sequence[str]) -> list[str]:
    """Columns of P3 but for token ids."""
    ids = [name for name in _TEXTS if f"{name}_pretokenized" in columns]
    texts = (*_TEXTS, *(f"{name}_pretokenized" for name in _TEXTS))
    wanted = (*texts, "answer_choices", "is_correct")
    return [name for name in columns if name in wanted and name not in ids]


def _text(task: MixtureTask, row: Mapping[str, Any], name: str) -> str:
    found = row.get(f"{name}_pretokenized")
    found = row.get(name) if found is None else found
    if not isinstance(found, str):
        what = "nothing" if found is None else type(found).__name__
        raise patterns.TemplateError(
            f"not a row of P3's {task.name}: expected text in {name}_pretokenized or "
            f"{name}, found {what}"
        )
    return found.strip()


def _folder(directory: str | os.PathLike[str]) -> pathlib.Path:
    folder = pathlib.Path(directory).expanduser()
    if not folder.is_dir():
        raise tables.RowsError(f"{folder}: no such directory; give that of the rows")
    return folder
