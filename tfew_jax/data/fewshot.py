"""What a few-shot task is, and which of its rows a run sees.

Draws are T-Few's (https://arxiv.org/abs/2205.05638): a seeded shuffle of all rows,
of which the first `num_shots` are taken; they reproduce its published splits. They
are not balanced, so a class may be missing from a draw; `Report.notes` says so.
"""

import collections
import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax.data import labels as label_texts
from tfew_jax.data import patterns, promptsource, sources
from tfew_jax.data.templates import Rendered, Template, TemplateError

DIALECTS = ("own", "uncut", "promptsource")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """How rows become inputs, choices and labels.

    Attributes:
        templates: One template or several, of which each visit of a row takes one.
        choices: `bad ||| good` for all templates, a list of choices for all templates,
            or one `bad ||| good` for each template. Kept as the last of these.
        label_column: See `templates.Template`.
        name: For messages and records.
        dialect: How templates are read: "own" as `templates` says, "uncut" the same
            without cutting what is printed to 2,048 characters, "promptsource" as
            `promptsource` does, for the templates of its sets.
        template_names: For messages and records; None for numbers.
    """

    templates: str | Sequence[str]
    choices: str | Sequence[str]
    label_column: str | None = None
    name: str = "task"
    dialect: str = "own"
    template_names: Sequence[str] | None = None

    def __post_init__(self):
        texts = self.templates
        texts = (texts,) if isinstance(texts, str) else tuple(texts)
        if not texts:
            raise ValueError(f"{self.name}: there are no templates; give at least one")
        if self.dialect not in DIALECTS:
            raise ValueError(
                f"{self.name}: dialect {self.dialect!r} is none of {list(DIALECTS)}"
            )
        names = self.template_names
        if names is not None and len(names) != len(texts):
            raise ValueError(
                f"{self.name}: {len(names)} template_names for {len(texts)} templates"
            )
        object.__setattr__(self, "templates", texts)
        object.__setattr__(self, "template_names", None if names is None else (*names,))
        object.__setattr__(self, "choices", _per_template(self.choices, len(texts)))
        for template in self.compiled:  # mistakes show now
            if isinstance(template, Template) and not template.reads_row:
                raise ValueError(
                    f"{template.name}: reads no column, so that all rows would be the "
                    "same text; a column is written {{column}}"
                )

    @functools.cached_property
    def compiled(self) -> tuple[Template | promptsource.Template, ...]:
        """The templates, ready to render."""
        texts = zip(self.templates, self.choices, strict=True)
        if self.dialect == "promptsource":
            return tuple(
                promptsource.Template(
                    set_name=self.name,
                    index=index,
                    name=self.template_name(index) or "",
                    text=text,
                    choices=choices,
                )
                for index, (text, choices) in enumerate(texts)
            )
        many = len(self.templates) > 1
        return tuple(
            Template(
                text,
                choices,
                label_column=self.label_column,
                name=f"template {number} of {len(self.templates)}" if many else "",
                truncate=self.dialect == "own",
            )
            for number, (text, choices) in enumerate(texts, start=1)
        )

    def template_name(self, index: int) -> str | None:
        """The name of a template, where it has one."""
        return None if self.template_names is None else self.template_names[index]

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values, for `from_dict`."""
        values: dict[str, Any] = {
            "name": self.name,
            "templates": list(self.templates),
            "choices": list(self.choices),
            "label_column": self.label_column,
        }
        if self.dialect != "own":
            values["dialect"] = self.dialect
        if self.template_names is not None:
            values["template_names"] = list(self.template_names)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TaskSpec":
        """The spec that `to_dict` wrote.

        Raises:
            ValueError: A field is unknown or missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown, missing = set(values) - known, {"templates", "choices"} - set(values)
        if unknown or missing:
            raise ValueError(
                f"a task has the fields {sorted(known)}; unknown: {sorted(unknown)}, "
                f"missing: {sorted(missing)}"
            )
        return cls(**values)


def _per_template(choices: str | Sequence[str], num_templates: int) -> tuple[str, ...]:
    """Choices in the form `bad ||| good`, one for each template."""
    if isinstance(choices, str):
        return (choices,) * num_templates
    choices = tuple(choices)
    joined = sum(patterns.SEPARATOR in text for text in choices)
    if joined == 0:
        if "" in choices:
            raise ValueError(f"choice {choices.index('')} is empty: {list(choices)}")
        return (f" {patterns.SEPARATOR} ".join(choices),) * num_templates
    if joined != len(choices) or len(choices) != num_templates:
        raise ValueError(
            f"choices {list(choices)} are neither a list of choices (none of them with "
            f"'|||') nor one 'a ||| b' for each of the {num_templates} templates"
        )
    return choices


def render_rows(
    rows: Sequence[Mapping[str, Any]], spec: TaskSpec, *, with_labels: bool = True
) -> list[list[Rendered]]:
    """Renders all rows with all templates.

    Args:
        rows: From `sources.load_rows`, or any mappings from column to value.
        spec: The task.
        with_labels: True makes a row without label an error; False leaves labels
            alone, for rows to be predicted.

    Returns:
        For each template, the rendered rows.

    Raises:
        ValueError: There are no rows, or one cannot be rendered or has no label; the
            message names file and line.
    """
    if not rows:
        raise ValueError(f"{spec.name}: there are no rows; give at least one")
    rendered: list[list[Rendered]] = [[] for _ in spec.compiled]
    for index, row in enumerate(rows):
        place = sources.where(row, index)
        for template, column in zip(spec.compiled, rendered, strict=True):
            try:
                column.append(_render(template, row, with_labels))
                _check_characters(column[-1])
            except TemplateError as error:
                raise TemplateError(f"{place}: {error}") from None
            except RecursionError:
                raise TemplateError(
                    f"{place}: nested too deeply; flatten the row"
                ) from None
        labels = {column[-1].label for column in rendered}
        if with_labels and None in labels:
            raise ValueError(
                f"{place}: {_no_label(row, spec, rendered[0][-1].choices)}"
            )
        if len(labels) > 1:
            raise ValueError(
                f"{place}: the templates do not agree on the label "
                f"({sorted(map(str, labels))}); give an index in the label column, or "
                "choices in the same order"
            )
    return rendered


def num_cut(rows: Sequence[Mapping[str, Any]], spec: TaskSpec) -> int:
    """Rows with a text of more than 2,048 characters, of which templates use no more.

    Those that a filter of the template shortens anyway are counted as well.
    """
    columns = frozenset[str]().union(*(t.columns_cut for t in spec.compiled))
    longest = patterns.MAX_VARIABLE_LENGTH
    return sum(
        any(
            isinstance(text := row.get(name), str) and len(text) > longest
            for name in columns
        )
        for row in rows
    )


def _render(
    template: Template | promptsource.Template, row: Mapping[str, Any], labelled: bool
) -> Rendered:
    rendered = template.render(row, with_label=labelled)
    if isinstance(rendered, promptsource.Rendered):
        if not rendered.choices:
            raise TemplateError(f"{template}: it has no answer choices to rank")
        if str(row.get("label", "")).strip() == "-1":  # would index the last choice
            return Rendered(rendered.inputs, rendered.choices, None)
        if labelled and rendered.label is None:
            raise TemplateError(
                f"{template}: its target {rendered.target!r} is none of the choices "
                f"{label_texts.show(rendered.choices)}"
            )
    return Rendered(rendered.inputs, rendered.choices, rendered.label)


def _check_characters(rendered: Rendered) -> None:
    for text in (rendered.inputs, *rendered.choices):
        if half := sources.half_of_a_pair(text):
            raise TemplateError(half)


def _no_label(row: Mapping[str, Any], spec: TaskSpec, choices: tuple[str, ...]) -> str:
    column = spec.label_column or "label"
    if column in row:
        return (
            f"column {column!r} has no label; fill in an index or one of "
            f"{label_texts.show(choices)}"
        )
    return (
        f"the row has no label: no column {column!r} among "
        f"{label_texts.show(list(row))}; name the column of the labels (--label), or "
        "end the template with '||| {{column}}' of the right answer"
    )


def draw_shots(
    labels: Sequence[int] | Int[np.ndarray, " rows"], num_shots: int, seed: int
) -> Int[np.ndarray, " shots"]:
    """Indices of the rows that a run is trained on, in the order of the draw.

    Raises:
        ValueError: There are fewer rows, or the draw has a single class.
    """
    if not 1 <= num_shots <= len(labels):
        raise ValueError(
            f"num_shots={num_shots}, but there are {len(labels)} rows; draw between 1 "
            "and all of them"
        )
    indices = np.arange(len(labels))
    np.random.RandomState(check_seed(seed)).shuffle(indices)
    drawn = indices[:num_shots]
    check_classes(
        np.asarray(labels)[drawn], f"the draw of {num_shots} rows, seed {seed}"
    )
    return drawn


def stratified_folds(
    labels: Sequence[int] | Int[np.ndarray, " rows"], num_folds: int, seed: int
) -> list[tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]]:
    """(Rows to train on, rows to test on) of each fold, in ascending order.

    Every row is tested once. Classes are spread evenly; where every class has fewer
    rows than there are folds, the rows are. Of two classes of which one has a single
    row, as in RAFT's systematic_review_inclusion, one fold is trained on the other.

    Raises:
        ValueError: There are fewer rows than folds, or a single class.
    """
    from sklearn import model_selection  # slow to import, and used once a run

    labels = np.asarray(labels, int)
    if not 2 <= num_folds <= len(labels):
        raise ValueError(
            f"num_folds={num_folds} with {len(labels)} rows; cross-validation needs "
            "two folds or more, and a row for each"
        )
    check_classes(labels, f"the {len(labels)} rows")
    most = max(collections.Counter(labels.tolist()).values())
    kind = (
        model_selection.StratifiedKFold if most >= num_folds else model_selection.KFold
    )
    splitter = kind(num_folds, shuffle=True, random_state=check_seed(seed))
    with warnings.catch_warnings():  # of a class with fewer rows than folds: no harm
        warnings.simplefilter("ignore", UserWarning)
        return list(splitter.split(labels, labels))


def check_classes(labels: Sequence[int] | Int[np.ndarray, " rows"], what: str) -> None:
    """Raises unless there are two classes, which training needs.

    Raises:
        ValueError: All labels are the same.
    """
    found = np.unique(np.asarray(labels, int)).tolist()
    if len(found) < 2:
        raise ValueError(
            f"{what}: all rows have the label {found[0] if found else None}, so "
            "nothing can be learned; take more rows, or rows of the other choices"
        )


def check_seed(seed: int | float) -> int:
    """The seed, if numpy takes it.

    Raises:
        ValueError: It is no whole number, negative, or has more than 32 bits.
    """
    if not isinstance(seed, int | np.integer):
        raise ValueError(f"seed {seed} is not a whole number; take one such as 0")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed} is not between 0 and 2**32 - 1; take another")
    return int(seed)
