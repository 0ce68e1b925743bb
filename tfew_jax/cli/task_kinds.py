"""What `tfew tasks` says of each kind of task, as lines; `text_kind` has another."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tfew_jax
from tfew_jax.data import (
    benchmarks,
    p3,
    p3_mixture,
    p3_rows,
    patterns,
    promptsource,
    promptsource_archive,
    promptsource_sets,
    raft,
    sources,
    tables,
    tasks,
    tokenizer,
)

_VOCABULARY = "assets/base/sentencepiece.model"
_ANY_LENGTH = 2**20  # so that an example is shown whole


@dataclasses.dataclass(frozen=True)
class Tally:
    """What a template makes of rows.

    Attributes:
        num_rows: How many there are.
        num_rendered: How many it applies to.
        reason: Why it does not apply to the first of the others.
    """

    num_rows: int
    num_rendered: int
    reason: str = ""

    @classmethod
    def of(
        cls,
        num_rows: int,
        read: Callable[[int], Any],
        where: Callable[[int], str],
    ) -> "Tally":
        """Reads all rows by their index.

        Raises:
            ValueError: A row cannot be read or rendered; the message names it.
        """
        rendered, reason = 0, ""
        for index in range(num_rows):
            try:
                read(index)
                rendered += 1
            except promptsource.NotApplicableError as error:
                reason = reason or f"{where(index)}: {error}"
            except patterns.TemplateError as error:
                raise ValueError(f"{where(index)}: {error}") from None
        return cls(num_rows, rendered, reason)


def show_embedded(name: str) -> Iterator[str]:
    """A task of the package."""
    task = tasks.get(name)
    yield f"== {name}: {task.description}"
    test = 0 if task.test is None else len(task.test)
    yield f"-- rows: train {len(task.train):,}, test {test:,}"
    yield f"-- label: {task.spec.label_column}"
    for number, (text, choices) in enumerate(
        zip(task.spec.templates, task.spec.choices, strict=True)
    ):
        yield f"-- template {number}, choices {choices}"
        yield text
    found = task.spec.compiled[0].render(task.train[0])
    label = "" if found.label is None else found.choices[found.label]
    yield from example_lines(sources.where(task.train[0], 0), found.inputs, label)


def count_embedded(name: str) -> Iterator[str]:
    """Rows of a task of the package, and those that its templates render."""
    task = tasks.get(name)
    splits = {"train": task.train, "test": task.test or ()}
    tallies = {
        str(number): [
            Tally.of(len(rows), _reader(template.render, rows), _places(rows))
            for rows in splits.values()
        ]
        for number, template in enumerate(task.spec.compiled)
    }
    yield from _table("template", splits, tallies)


def show_benchmark(name: str, data_dir: str | None) -> Iterator[str]:
    """One of T-Few's held-out sets."""
    known = benchmarks.get(name)
    yield (
        f"== {name}: {known.num_shots} shots from {known.train}, accuracy on "
        f"{known.evaluation}"
    )
    sizes = [f"{split} {known.splits[split].num_rows:,}" for split in known.splits]
    yield f"-- official rows: {', '.join(sizes)}"
    yield f"-- source: {known.source}"
    if known.choices:
        yield f"-- labels: {' ||| '.join(known.choices)}"
    found = _templates(known.template_set)
    if found is None:
        yield _no_templates(known.template_set)
    else:
        original = len(found.original_task)
        yield (
            f"-- templates of {found.name}: {len(found.templates)}, of the original "
            f"task {original}"
        )
        yield from (f"{t.index:5}  {t.name}" for t in found.templates)
    if data_dir is None:
        return
    rows = benchmarks.load(name, known.train, data_dir)
    template = None if found is None else found.original_task[0]
    if template is None:
        yield f"-- {rows[0].where}"
        yield from (f"{column}: {value}" for column, value in rows[0].items())
        return
    render = _render(template)
    for row in rows:
        if template.applies(row, with_label=row["label"] != -1):
            rendered = render(row)
            yield from example_lines(
                row.where, rendered.inputs, rendered.target or "", rendered.choices
            )
            return
    yield f"-- {template.name!r} applies to none of the {len(rows):,} rows"


def count_benchmark(name: str, data_dir: str | None) -> Iterator[str]:
    """Rows of a held-out set, and what each template makes of them.

    Raises:
        ValueError: There is no directory, no file in it, or no templates.
    """
    known = benchmarks.get(name)
    place = needed(name, data_dir)
    splits: dict[str, Sequence[sources.Row]] = {}
    absent: dict[str, benchmarks.NoSplitError] = {}
    for split in known.splits:
        try:
            splits[split] = benchmarks.load(name, split, place)
        except benchmarks.NoSplitError as error:
            absent[split] = error
    if not splits:
        raise absent[known.train]
    for split, rows in splits.items():
        official = known.splits[split].num_rows
        note = "" if len(rows) == official else f", officially {official:,}"
        yield f"{split}: {len(rows):,} rows{note}"
    if absent:
        yield f"without {', '.join(absent)}: no such split in {place}"
    found = _templates(known.template_set)
    if found is None:
        yield _no_templates(known.template_set)
        return
    tallies = {
        f"{template.index} {template.name}": [
            Tally.of(len(rows), _reader(_render(template), rows), _places(rows))
            for rows in splits.values()
        ]
        for template in found.templates
    }
    yield from _table("template", splits, tallies)


def show_raft(name: str, data_dir: str | None) -> Iterator[str]:
    """One of RAFT's tasks."""
    yield f"== {name}: a task of RAFT, 50 labelled rows"
    if data_dir is None:
        yield "-- its instruction, fields and labels are in its files: give --data-dir"
        return
    task = raft.load(name, data_dir)
    yield f"-- rows: train {len(task.train):,}, test {len(task.test):,}"
    yield f"-- labels: {' ||| '.join(task.labels)}"
    yield f"-- fields: {', '.join(task.fields)}"
    vocabulary = pathlib.Path(tfew_jax.__file__).parent / _VOCABULARY
    if not vocabulary.is_file():
        yield f"-- instruction: {task.instruction}"
        return
    first = dataclasses.replace(task, train=task.train[:1])
    words = tokenizer.Tokenizer(vocabulary)
    [row] = raft.make_rows(first, "train", words, max_length=_ANY_LENGTH)
    yield from example_lines(row.where, row["inputs"], task.choices[row["label"]])


def count_raft(name: str, data_dir: str | None) -> Iterator[str]:
    """Rows of a RAFT task; its one prompt renders all of them.

    Raises:
        ValueError: There is no directory, or its files are not as distributed.
    """
    task = raft.load(name, needed(name, data_dir))
    yield f"train: {len(task.train):,} rows"
    for label in task.labels:
        count = sum(row["Label"] == label for row in task.train)
        yield f"  {label}: {count}"
    yield f"test: {len(task.test):,} rows without labels"


def show_mixture(name: str, data_dir: str | None, rule: str) -> Iterator[str]:
    """A mixture of T0's with its tasks and their caps."""
    definition = p3.get(name)
    found, missing = p3.tasks(definition, rule=rule, allow_missing=_all(definition))
    total = sum(task.cap for task in found)
    yield f"== {definition.name}: {definition.description}"
    yield (
        f"-- {len(definition.members)} sets, {len(found)} tasks, {total:,} examples by "
        f"the rule {rule}"
    )
    yield "      cap  task"
    yield from (f"{task.cap:9,}  {task.name}" for task in found)
    yield from (f"-- without {item}" for item in missing)
    if data_dir is None:
        return
    mixture = _load(definition, data_dir, rule)
    yield from (f"-- {line}" for line in mixture.report())
    example = mixture.example(0, seed=0)
    place = f"row {example.row} of {example.task}"
    yield from example_lines(place, example.inputs, example.targets, example.choices)


def count_mixture(name: str, data_dir: str | None, rule: str) -> Iterator[str]:
    """Examples of a mixture's sets; with rows, those that each task applies to."""
    definition = p3.get(name)
    if data_dir is not None:
        yield from _count_rows(_load(definition, data_dir, rule))
        return
    found, missing = p3.tasks(definition, rule=rule, allow_missing=_all(definition))
    yield "training rows  templates        cap    examples  set"
    for member in definition.members:
        caps = [task.cap for task in found if task.member == member]
        if caps:
            yield (
                f"{member.train_size:13,}  {len(caps):9}  {caps[0]:9,}  "
                f"{sum(caps):10,}  {member.set_name}"
            )
    total = sum(task.cap for task in found)
    yield f"{len(found)} tasks, {total:,} examples by the rule {rule}"
    yield from (f"without {item}" for item in missing)


def _count_rows(mixture: p3_mixture.Mixture) -> Iterator[str]:
    yield "     rows   rendered        cap  task"
    reasons = []
    for task in mixture.tasks:
        rows = mixture.rows[task.name]
        read, size = _mixture_reader(mixture, task), mixture.num_rows(task)
        tally = Tally.of(size, read, _places(rows))
        yield f"{size:9,}  {tally.num_rendered:9,}  {task.cap:9,}  {task.name}"
        if tally.reason:
            rest = tally.num_rows - tally.num_rendered
            reasons.append(f"{task.name}: not for {rest:,} rows: {tally.reason}")
    yield from mixture.report()
    yield from reasons


def _mixture_reader(
    mixture: p3_mixture.Mixture, task: p3.MixtureTask
) -> Callable[[int], p3_rows.Pair]:
    return lambda index: mixture.read(task, index)


def _load(definition: p3.Definition, data_dir: str, rule: str) -> p3_mixture.Mixture:
    """The mixture as far as the rows go; its report says what is missing."""
    allowed = _all(definition)
    found, _ = p3.tasks(definition, rule=rule, allow_missing=allowed)
    return p3_mixture.load(
        definition,
        p3_rows.open_directory(data_dir, found),
        rule=rule,
        allow_missing=[*allowed, *(task.name for task in found)],
        allow_partial=True,
    )


def _all(definition: p3.Definition) -> list[str]:
    return [member.set_name for member in definition.members]


def _templates(name: str) -> promptsource_sets.TemplateSet | None:
    """A set of templates; None before they are fetched."""
    if not promptsource_archive.directory().is_dir():
        return None
    return promptsource_sets.load(name)


def _no_templates(name: str) -> str:
    return f"-- templates: those of {name}, once `tfew templates fetch` has run"


def needed(name: str, data_dir: str | None) -> str:
    """The directory of a task's rows.

    Raises:
        ValueError: None is given.
    """
    if data_dir is None:
        raise ValueError(
            f"the rows of {name} are not in the package; say where they are with "
            "--data-dir"
        )
    return data_dir


def _render(template: promptsource.Template) -> Callable[[Mapping[str, Any]], Any]:
    """Renders rows; those without a label, as in some test splits, to be predicted."""
    return lambda row: template.render(row, with_label=row.get("label") != -1)


def _reader(
    render: Callable[[Mapping[str, Any]], Any], rows: tables.Rows
) -> Callable[[int], Any]:
    return lambda index: render(rows[index])


def _places(rows: tables.Rows) -> Callable[[int], str]:
    return lambda index: sources.where(rows[index], index)


def example_lines(
    place: str, inputs: str, target: str, choices: Iterable[str] = ()
) -> Iterator[str]:
    """Lines with the texts of an example, of the row that is at this place."""
    yield f"-- input of {place}"
    yield inputs
    yield f"-- target of {place}"
    yield target
    if shown := " ||| ".join(choices):
        yield f"-- choices of {place}"
        yield shown


def _table(
    first: str, columns: Iterable[str], tallies: Mapping[str, Sequence[Tally]]
) -> Iterator[str]:
    """Rendered rows of each template and split, and why others are not."""
    names = list(columns)
    yield "  ".join([*(f"{name:>10}" for name in names), f"{first} (rendered rows)"])
    for name, found in tallies.items():
        yield "  ".join([*(f"{tally.num_rendered:10,}" for tally in found), name])
    for name, found in tallies.items():
        for split, tally in zip(names, found, strict=True):
            if rest := tally.num_rows - tally.num_rendered:
                yield f"{name}: not for {rest:,} rows of {split}: {tally.reason}"
