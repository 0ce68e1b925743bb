"""Tasks with their rows: the embedded examples, and those made of files.

An embedded task is a folder `assets/tasks/<name>` with `train.csv`, `test.csv` and
`task.json`, which holds description, templates, choices and label column.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tfew_jax
from tfew_jax.data import fewshot, sources

_FOLDER = pathlib.Path(tfew_jax.__file__).parent / "assets" / "tasks"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task and its rows.

    Attributes:
        spec: Templates, choices and label column.
        train: Rows to draw from.
        test: Rows to measure accuracy on, if there are any.
        description: One sentence about it.
    """

    spec: fewshot.TaskSpec
    train: Sequence[Mapping[str, Any]]
    test: Sequence[Mapping[str, Any]] | None
    description: str = ""

    @property
    def name(self) -> str:
        return self.spec.name


def names() -> list[str]:
    """The embedded tasks."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/task.json"))


def get(name: str) -> Task:
    """An embedded task.

    Raises:
        ValueError: There is no such task.
    """
    if name not in names():
        raise ValueError(
            f"unknown task {name!r}; available: {', '.join(names())}. Rows of your own "
            "need no task: give their file with --train"
        )
    folder = _FOLDER / name
    settings = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    task = from_files(
        train=folder / "train.csv",
        test=folder / "test.csv",
        templates=settings["templates"],
        choices=settings["choices"],
        label_column=settings["label_column"],
        name=name,
    )
    return dataclasses.replace(task, description=settings["description"])


def from_files(
    *,
    train: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    templates: str | Sequence[str],
    choices: str | Sequence[str],
    label_column: str | None = None,
    name: str | None = None,
) -> Task:
    """A task from files of rows.

    Args:
        train: File of labelled rows, see `sources.load_rows`.
        test: File of more labelled rows.
        templates: See `fewshot.TaskSpec`.
        choices: See `fewshot.TaskSpec`.
        label_column: See `templates.Template`.
        name: Of the task; by default that of the training file.

    Raises:
        ValueError: A file, a template or the choices cannot be read.
    """
    spec = fewshot.TaskSpec(
        templates=templates,
        choices=choices,
        label_column=label_column,
        name=pathlib.Path(train).stem if name is None else name,
    )
    rows = sources.load_rows(train)
    return Task(
        spec=spec, train=rows, test=None if test is None else sources.load_rows(test)
    )
