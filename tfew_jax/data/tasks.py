"""Tasks with their rows: the embedded examples, files, the papers' sets, RAFT.

An embedded task is a folder `assets/tasks/<name>` with `train.csv`, `test.csv` and
`task.json`, which holds description, templates, choices and label column.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tfew_jax
from tfew_jax.data import (
    benchmarks,
    fewshot,
    patterns,
    promptsource,
    promptsource_sets,
    raft,
    sources,
    tokenizer,
)

_FOLDER = pathlib.Path(tfew_jax.__file__).parent / "assets" / "tasks"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A task and its rows.

    Attributes:
        spec: Templates, choices and label column.
        train: Rows to draw from.
        test: Rows to measure accuracy on, if there are any.
        predict: Rows to predict, if the task brings them.
        draws: Indices of the rows of each seed, where they are drawn already.
        submission: From the predicted labels of `predict` to the text of a
            predictions.csv that the task's authors take.
        notes: What a user should know of it, a line each.
        description: One sentence about it.
    """

    spec: fewshot.TaskSpec
    train: Sequence[Mapping[str, Any]]
    test: Sequence[Mapping[str, Any]] | None = None
    predict: Sequence[Mapping[str, Any]] | None = None
    draws: Mapping[int, Sequence[int]] | None = None
    submission: Callable[[Sequence[int]], str] | None = None
    notes: tuple[str, ...] = ()
    description: str = ""

    @property
    def name(self) -> str:
        return self.spec.name


# For rows that are cut to so many tokens.
MakeTask = Callable[[tokenizer.Tokenizer, int], Task]
SEEDS = (0, 1, 32, 42, 1024)  # T-Few's


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


def benchmark(
    name: str,
    *,
    data_dir: str | os.PathLike[str],
    shots_dir: str | os.PathLike[str] | None = None,
    templates_dir: str | os.PathLike[str] | None = None,
    templates: Sequence[str | int] | None = None,
    seeds: Sequence[int] = SEEDS,
    num_shots: int | None = None,
    allow_partial_train: bool = False,
) -> Task:
    """One of the papers' sets with T-Few's rows and promptsource's templates.

    Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3: the templates are
    those that ask for the set's own task; ones that do not apply to every row, as four
    of COPA's, are left out with a note.

    Args:
        name: One of `benchmarks.names()`.
        data_dir: Where the set's rows are, see `benchmarks.load`.
        shots_dir: T-Few's published subsets, instead of drawing from the training rows.
        templates_dir: See `promptsource_sets.names`.
        templates: Names or indices of promptsource's templates of the set.
        seeds: Of the draws; none where nothing is trained.
        num_shots: Rows of a draw or of a published subset; None for T-Few's number.
        allow_partial_train: See `benchmarks.draw`.

    Raises:
        ValueError: Rows or templates cannot be had, or do not fit together.
    """
    described = benchmarks.get(name)
    test = benchmarks.load(name, described.evaluation, data_dir)
    train, draws = [], {}
    for seed in seeds:
        if shots_dir is not None:
            rows = benchmarks.published(name, shots_dir, seed=seed, num_shots=num_shots)
        else:
            rows = benchmarks.draw(
                name,
                data_dir,
                seed=seed,
                num_shots=num_shots,
                allow_partial_train=allow_partial_train,
            )
        draws[seed] = range(len(train), len(train) + len(rows))
        train += rows
    _check_labels([*train, *test])
    notes = _size_notes(described, test)
    chosen = _templates(described.template_set, templates_dir, templates)
    if templates is None:
        fitting = _fitting(chosen, [*train, *test])
        if left := [repr(t.name) for t in chosen if t not in fitting]:
            notes.append(
                f"{len(left)} templates do not apply to every row and are left out: "
                f"{', '.join(left)}"
            )
        chosen = fitting
    spec = promptsource_spec(chosen, name=name)
    return Task(spec=spec, train=train, test=test, draws=draws, notes=tuple(notes))


def _size_notes(
    described: benchmarks.Benchmark, test: Sequence[sources.Row]
) -> list[str]:
    official = described.splits[described.evaluation].num_rows
    if len(test) == official:
        return []
    return [
        f"accuracy is on {len(test):,} rows, the official {described.evaluation} "
        f"split of {described.name} has {official:,}"
    ]


def _check_labels(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuses rows that can neither be trained on nor measured by."""
    for index, row in enumerate(rows):
        if row["label"] < 0:
            raise ValueError(
                f"{sources.where(row, index)}: the row has no label, as in published "
                "test sets; give rows that have one"
            )


def _fitting(
    chosen: Sequence[promptsource.Template], rows: Sequence[Mapping[str, Any]]
) -> list[promptsource.Template]:
    """The templates that apply to every row.

    Raises:
        ValueError: There is none, or a row lacks a column.
    """
    fitting = []
    problems: list[tuple[int, str]] = []  # of the first row that does not fit
    for template in chosen:
        for index, row in enumerate(rows):
            place = sources.where(row, index)
            try:
                template.render(row)
            except promptsource.NotApplicableError as error:
                problems.append((index, f"{place}: {error}"))
                break
            except patterns.TemplateError as error:
                raise ValueError(f"{place}: {error}") from None
        else:
            fitting.append(template)
    if not fitting:
        raise ValueError(f"no template applies to every row; {max(problems)[1]}")
    return fitting


def promptsource_spec(
    chosen: Sequence[promptsource.Template], *, name: str
) -> fewshot.TaskSpec:
    """What renders rows by templates of promptsource.

    Raises:
        ValueError: There are no templates, or one has no answer choices to rank.
    """
    if without := [str(template) for template in chosen if template.choices is None]:
        raise ValueError(f"{without[0]} has no answer choices to rank")
    return fewshot.TaskSpec(
        templates=[template.text for template in chosen],
        choices=[template.choices or "" for template in chosen],
        template_names=[template.name for template in chosen],
        label_column="label",
        name=name,
        dialect="promptsource",
    )


def _templates(
    set_name: str,
    directory: str | os.PathLike[str] | None,
    wanted: Sequence[str | int] | None,
) -> list[promptsource.Template]:
    """Templates of a set that have answer choices: those named, or the original."""
    found = promptsource_sets.load(set_name, directory)
    if wanted is not None:
        return [found.at(w) if isinstance(w, int) else found.named(w) for w in wanted]
    chosen = [t for t in found.original_task if t.choices is not None]
    if not chosen:
        raise ValueError(f"{set_name} has no template for its own task with choices")
    return chosen


def raft_task(
    name: str, *, data_dir: str | os.PathLike[str], labels: str = "paper"
) -> MakeTask:
    """A RAFT task: fifty labelled rows, rows to predict, and a submission of them.

    Args:
        name: One of `raft.NAMES`.
        data_dir: See `raft.load`.
        labels: Whether prompts name the labels, see `raft.make_rows`.

    Returns:
        What makes the task for a vocabulary and the most tokens of a prompt.

    Raises:
        ValueError: The task's files cannot be read.
    """
    task = raft.load(name, data_dir)

    def make(vocabulary: tokenizer.Tokenizer, max_length: int) -> Task:
        def rows(split: str) -> list[sources.Row]:
            return raft.make_rows(
                task, split, vocabulary, labels=labels, max_length=max_length
            )

        ids = [int(row["ID"]) for row in task.test]
        notes = ()
        if len(task.train) != raft.NUM_TRAIN:
            notes = (
                f"{name} has {len(task.train)} labelled rows here, RAFT's tasks have "
                f"{raft.NUM_TRAIN}",
            )
        return Task(
            spec=fewshot.TaskSpec(
                templates=raft.TEMPLATE,
                choices=task.choices,
                label_column="label",
                name=name,
                dialect="uncut",
            ),
            train=rows("train"),
            predict=rows("test"),
            submission=lambda found: raft.predictions_csv(
                task, dict(zip(ids, found, strict=True))
            ),
            notes=notes,
        )

    return make
