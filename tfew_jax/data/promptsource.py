"""promptsource's templates, read and rendered as T-Few and T0 read them.

Bach et al., 2022 (https://arxiv.org/abs/2202.01279); `promptsource_sets` loads them.
Rows must have the columns of the dataset that the templates were written for, with its
types: in most sets `label` is an index from 0, in the dataset's order.

The same text as promptsource gives, but for this:

- templates run in a sandbox, and a missing column is an error instead of nothing;
- `choice` depends on the row and a seed, so that a row can be rendered again;
- `|||` does not split inside nested columns and choices either;
- a template that does not give an input and a target, as COPA's last four do not for
  half of the rows, does not apply to the row; T-Few's reader stops there, and in its
  pre-training writes "<NO INPUT>" and "<NO LABEL>".
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

from tfew_jax.data import labels, patterns, templates

_INTEGER = re.compile(r"\s*-?\d+\s*", re.ASCII)


class NotApplicableError(patterns.TemplateError):
    """A template that gives no input and target for a row."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What promptsource says about a template.

    Attributes:
        original_task: Whether it asks for what the dataset was made for.
        choices_in_prompt: Whether the input shows the choices; None where not stated.
        metrics: Names of the metrics to score it with.
        languages: Codes of the input's languages; version 0.2.3 has none.
    """

    original_task: bool = False
    choices_in_prompt: bool | None = None
    metrics: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Rendered(templates.Rendered):
    """A row as text.

    Attributes:
        target: The text after `|||`; None for a row to be predicted.
    """

    target: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    """A template of a set.

    Attributes:
        set_name: For example "super_glue/cb".
        index: Its place among the names of the set in alphabetical order.
        name: Unique in its set.
        text: jinja2 text, `input ||| target`.
        choices: jinja2 text, `Yes ||| No`; None where the target is free text.
        reference: Where its words are from.
        metadata: What promptsource says about it.
    """

    set_name: str
    index: int
    name: str
    text: str
    choices: str | None = None
    reference: str = ""
    metadata: Metadata = Metadata()

    def __str__(self) -> str:
        return f"template {self.index} of {self.set_name}, {self.name!r}"

    def render(
        self, row: Mapping[str, Any], *, with_label: bool = True, seed: int = 0
    ) -> Rendered:
        """Renders one row.

        The label is the choice that equals the target, None where none does.

        Args:
            row: Columns and their values, as the dataset has them. A label that is the
                text of an integer, as in CSV files, is that integer, too.
            with_label: False for rows to be predicted: the label is not looked at, and
                there is no target.
            seed: Of the filter `choice`, together with the row.

        Raises:
            NotApplicableError: The template gives no input, or no target.
            patterns.TemplateError: The row lacks a column, an expression fails or is
                unsafe, or the input needs a label that is not to be looked at.
        """
        if with_label:
            parts = self.parts(row, seed=seed)
            if len(parts) != 2 or not all(parts):
                raise self._not_applicable(parts, row.get("label"))
            choices = self.answer_choices(row, seed=seed)
            label = _label(parts[1], choices, row.get("label"))
            return Rendered(parts[0], choices, label, parts[1])
        pattern = self._inputs or self._whole
        if "label" in pattern.names and pattern is self._inputs:
            raise patterns.TemplateError(f"{self}: the input itself shows the label")
        columns = {**row, "label": -1}  # as in test sets that are published
        parts = self._render(pattern, columns, seed)
        if not parts[0]:
            raise self._not_applicable(parts, None)
        return Rendered(parts[0], self.answer_choices(columns, seed=seed), None)

    def applies(self, row: Mapping[str, Any], *, with_label: bool = True) -> bool:
        """Whether the template gives an input and a target for this row.

        Raises:
            patterns.TemplateError: See `render`.
        """
        try:
            self.render(row, with_label=with_label)
        except NotApplicableError:
            return False
        return True

    def parts(self, row: Mapping[str, Any], *, seed: int = 0) -> list[str]:
        """What promptsource's `apply` gives: the text between separators, stripped.

        Raises:
            patterns.TemplateError: The row lacks a column, or an expression fails or is
                unsafe.
        """
        return self._render(self._whole, row, seed)

    def answer_choices(
        self, row: Mapping[str, Any], *, seed: int = 0
    ) -> tuple[str, ...]:
        """The choices of a row in the template's order; none where it has none.

        Raises:
            patterns.TemplateError: See `parts`.
        """
        if self._choices is None:
            return ()
        columns = {k: patterns.protect(v) for k, v in _with_label(row).items()}
        text = self._choices.render(columns, seed=_seed(row, seed))
        return tuple(patterns.split(text))

    @functools.cached_property
    def fixed_choices(self) -> tuple[str, ...] | None:
        """The choices, where they are the same for all rows; else None."""
        if self._choices is None or self._choices.names:
            return None
        return self.answer_choices({})

    @property
    def columns(self) -> frozenset[str]:
        """The columns of a row that it reads, its choices included."""
        names = self._whole.names | (self._choices.names if self._choices else set())
        return frozenset(names - {"answer_choices"})

    @property
    def columns_cut(self) -> frozenset[str]:
        """Columns whose values are cut where they are longer than 2,048 characters."""
        return self._whole.names

    def lacks_label(self, row: Mapping[str, Any]) -> bool:
        """Whether it reads a label that the row hides: -1 would be the last choice."""
        return "label" in self._whole.names and str(row.get("label")).strip() == "-1"

    @functools.cached_property
    def _whole(self) -> patterns.Pattern:
        return self._pattern(self._parse())

    @functools.cached_property
    def _inputs(self) -> patterns.Pattern | None:
        """The part before `|||`; None where that stands inside a block."""
        tree = templates.input_half(self._parse())
        return None if tree is None else self._pattern(tree)

    @functools.cached_property
    def _choices(self) -> patterns.Pattern | None:
        if self.choices is None:
            return None
        name = f"{self}, choices"
        tree = patterns.parse(self.choices, name=name, truncate=False, strict=False)
        return patterns.Pattern(tree, name=name, truncate=False, strict=False)

    def _parse(self) -> templates.nodes.Template:
        return patterns.parse(self.text, name=str(self), truncate=True, strict=False)

    def _pattern(self, tree: templates.nodes.Template) -> patterns.Pattern:
        return patterns.Pattern(tree, name=str(self), truncate=True, strict=False)

    def _render(
        self, pattern: patterns.Pattern, row: Mapping[str, Any], seed: int
    ) -> list[str]:
        if "answer_choices" in row:
            raise patterns.TemplateError(
                f"{self}: the column 'answer_choices' hides the choices; rename it"
            )
        choices = self.answer_choices(row, seed=seed) if self._choices else None
        columns = {**_with_label(row), "answer_choices": choices}
        columns = {k: patterns.protect(v) for k, v in columns.items()}
        return patterns.split(pattern.render(columns, seed=_seed(row, seed)))

    def _not_applicable(self, parts: list[str], label: Any) -> NotApplicableError:
        if len(parts) > 2:
            problem = f"it gives {len(parts)} parts instead of an input and a target"
        elif not parts[0]:
            problem = "it gives no input"
        else:
            problem = "it gives no target"
            if isinstance(label, str) and not _INTEGER.fullmatch(label):
                problem += f" for the label {label!r} (most sets need its index there)"
        columns = sorted(self._whole.names - {"answer_choices"})
        return NotApplicableError(
            f"{self}: does not apply to this row: {problem}; it reads "
            f"{labels.show(columns)}"
        )


def _with_label(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row, with a label that is the text of an integer as that integer."""
    cell = row.get("label")
    if isinstance(cell, str) and _INTEGER.fullmatch(cell):
        return {**row, "label": labels.Label(int(cell), cell)}
    return dict(row)


def _seed(row: Mapping[str, Any], seed: int) -> int:
    """The same for a row with its label and without."""
    visible = {column: value for column, value in row.items() if column != "label"}
    return patterns.seed_of({"row": visible, "seed": seed})


def _label(target: str, choices: tuple[str, ...], cell: Any) -> int | None:
    """The choice that equals the target; the label decides between equal choices."""
    equal = [index for index, choice in enumerate(choices) if choice == target]
    if len(equal) > 1 and str(cell).strip() in map(str, equal):
        return int(cell)
    return equal[0] if equal else None
