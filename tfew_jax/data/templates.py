"""Rows to text: templates in promptsource's form, `input ||| target`, with choices.

A template is jinja2 text. Its variables are the columns of a row, `answer_choices`
(the rendered choices) and `row`, for columns whose name is no identifier:
`{{ row["review text"] }}`. Answer choices are jinja2 text too, `bad ||| good`, so
that each row may bring its own: `{{choice1}} ||| {{choice2}}`. Promptsource's
filters `choice`, `most_frequent` and `highlight` and its `zip` are there.

As in promptsource (and so in T-Few, https://arxiv.org/abs/2205.05638), `|||` inside a
column does not split, both parts are stripped, and every printed variable is cut to
2,048 characters at a word. Different from it:

- templates run in a sandbox, since they travel with adapters;
- a missing column, and an empty one that no `if` or `default` provides for, is an
  error instead of nothing;
- `choice` depends on the row alone, so that a row always renders to the same text;
- the label may be the text of a choice as well as its index, and the input and the
  choices cannot see it.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2.nodes as nodes

from tfew_jax.data import labels, patterns

TemplateError = patterns.TemplateError


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A row as text.

    Attributes:
        inputs: What the model reads.
        choices: The candidate answers, in the template's order.
        label: Index of the right choice, or None where the row has no label.
    """

    inputs: str
    choices: tuple[str, ...]
    label: int | None


@dataclasses.dataclass(frozen=True)
class Template:
    """A text pattern with answer choices.

    Attributes:
        text: `input ||| target`, or only the input. A target must render to the right
            choice; it gives the label where no column does.
        choices: Two or more choices, separated by `|||`.
        label_column: Column that holds the index or the text of the right choice;
            None means "label" where a row has such a column.
        name: How messages name the template; by default its first words.
        truncate: Whether printed variables are cut, see above.
    """

    text: str
    choices: str
    label_column: str | None = None
    name: str = ""
    truncate: bool = True

    def __post_init__(self):
        if not self.name:
            shown = " ".join(self.text.split())
            shown = shown if len(shown) <= 40 else shown[:37] + "..."
            object.__setattr__(self, "name", f"template {shown!r}")
        if not self.text.strip():
            raise TemplateError(f"{self.name}: the template is empty")
        if not self.choices.strip():
            raise TemplateError(
                f"{self.name}: there are no answer choices; give them as 'bad ||| good'"
            )
        _ = self._patterns, self._choices  # parsed now: mistakes show at once

    @property
    def columns_cut(self) -> frozenset[str]:
        """Columns whose values are cut where they are longer than 2,048 characters."""
        return self._patterns.names if self.truncate else frozenset()

    @property
    def reads_row(self) -> bool:
        """Whether the input or the choices depend on a row at all."""
        names = self._patterns.inputs.names | self._choices.names
        return bool(names - {"answer_choices"})

    def render(self, row: Mapping[str, Any], *, with_label: bool = True) -> Rendered:
        """Renders one row.

        Args:
            row: Columns and their values.
            with_label: False leaves the label alone, for rows to be predicted.

        Raises:
            TemplateError: The row lacks a column, a column or a choice is empty, two
                choices are equal, an expression fails or is unsafe, the input shows
                the label, or the label is none of the choices.
        """
        if "answer_choices" in row:
            raise TemplateError(
                f"{self.name}: the column 'answer_choices' hides the choices; rename it"
            )
        label_column = self._label_column(row)
        visible = {k: patterns.protect(v) for k, v in row.items() if k != label_column}
        view = _View(visible, label_column, patterns.seed_of(visible))
        choices = self._render_choices(view)
        visible["answer_choices"] = patterns.protect(choices)
        cell = row.get(label_column) if label_column and with_label else None
        label = self._label_of(cell, choices)
        if self._patterns.whole is not None:
            inputs, target = self._render_whole(view, choices, cell, label)
        else:
            inputs = self._render_input(view)
            target = self._render_target(view, cell, label) if with_label else None
        if not inputs:
            raise TemplateError(f"{self.name}: the input renders to no text at all")
        if with_label and target is not None:
            label = self._check_target(target, choices, label, label_column)
        return Rendered(inputs, tuple(choices), label)

    def _label_column(self, row: Mapping[str, Any]) -> str | None:
        return self.label_column or ("label" if "label" in row else None)

    @functools.cached_property
    def _choices(self) -> patterns.Pattern:
        name = f"{self.name}, choices"
        tree = patterns.parse(self.choices, name=name, truncate=False)
        return patterns.Pattern(tree, name=name, truncate=False)

    @functools.cached_property
    def _patterns(self) -> "_Patterns":
        return _Patterns.parse(self.text, self.name, self.truncate)

    def _render_choices(self, view: "_View") -> list[str]:
        view.check_hidden(self._choices)
        text = self._choices.render(view.columns, seed=view.seed)
        choices = patterns.split(text)
        if len(choices) < 2:
            raise TemplateError(
                f"{self._choices.name}: expected two choices or more separated by "
                f"'|||', found {labels.show(choices)}"
            )
        for position, choice in enumerate(choices):
            if not choice:
                raise TemplateError(
                    f"{self._choices.name}: choice {position} is empty; the choices "
                    f"are {labels.show(choices)}"
                )
            if choices.index(choice) != position:
                raise TemplateError(
                    f"{self._choices.name}: choice {choice!r} stands twice; every "
                    "choice must differ from the others"
                )
        return choices

    def _label_of(self, cell: Any, choices: Sequence[str]) -> int | None:
        try:
            return labels.label_index(cell, choices)
        except ValueError as error:
            raise TemplateError(f"{self.name}: {error}") from None

    def _render_input(self, view: "_View") -> str:
        pattern = self._patterns.inputs
        view.check_hidden(pattern)
        [inputs] = patterns.split(pattern.render(view.columns, seed=view.seed))
        return inputs

    def _render_target(self, view: "_View", cell: Any, label: int | None) -> str | None:
        """The target; None where there is none or the row has no label for it."""
        pattern = self._patterns.target
        if pattern is None or (label is None and view.label_column is not None):
            return None
        columns = view.columns
        if label is None and not view.has_all(pattern):
            return None  # a row to be predicted lacks the answer's column
        if label is not None:
            columns = view.with_label(labels.Label(label, str(cell)))
        [target] = patterns.split(pattern.render(columns, seed=view.seed))
        return target

    def _render_whole(
        self, view: "_View", choices: Sequence[str], cell: Any, label: int | None
    ) -> tuple[str, str | None]:
        """Input and target of a template whose `|||` stands inside a block.

        The label must be there to render the target, so that the input could show it.
        That is found out by rendering with two labels: the inputs must be equal.
        """
        by_target = view.label_column is None and "label" not in self._patterns.names
        if label is None and by_target:
            return self._split_whole(view.columns, view.seed)
        true = label or 0
        text = str(cell) if label is not None else str(true)
        columns = view.with_label(labels.Label(true, text))
        inputs, target = self._split_whole(columns, view.seed)
        other = (true + 1) % len(choices)
        columns = view.with_label(labels.Label(other, choices[other]))
        if self._split_whole(columns, view.seed)[0] != inputs:
            raise self._shown(view)
        return inputs, target if label is not None else None

    def _split_whole(
        self, columns: Mapping[str, Any], seed: int
    ) -> tuple[str, str | None]:
        pattern = self._patterns.whole
        assert pattern is not None
        parts = patterns.split(pattern.render(columns, seed=seed))
        if len(parts) > 2:
            raise TemplateError(
                f"{self.name}: renders '|||' {len(parts) - 1} times; it separates the "
                "input from the target and may stand once"
            )
        return parts[0], parts[1] if len(parts) == 2 else None

    def _shown(self, view: "_View") -> TemplateError:
        return TemplateError(
            f"{self.name}: the input depends on the label column "
            f"{view.label_column or 'label'!r}, so that it would tell the answer; use "
            "the label only after '|||'"
        )

    def _check_target(
        self,
        target: str,
        choices: Sequence[str],
        label: int | None,
        label_column: str | None,
    ) -> int | None:
        """The label, given the target it must agree with."""
        try:
            meant = labels.label_index(target, choices)
        except ValueError:
            raise TemplateError(
                f"{self.name}: the target renders to {target!r}, which is none of the "
                f"choices {labels.show(choices)}"
            ) from None
        if label is not None and meant != label:
            raise TemplateError(
                f"{self.name}: the target renders to {target!r}, but column "
                f"{label_column!r} means choice {label}, {choices[label]!r}; check the "
                "order of the choices"
            )
        return meant


@dataclasses.dataclass(frozen=True)
class _View:
    """What a template may see of a row: all but the label, unless it is given."""

    columns: dict[str, Any]
    label_column: str | None
    seed: int

    def with_label(self, label: labels.Label) -> dict[str, Any]:
        """The columns with the label under its column's name and as `label`."""
        named = {} if self.label_column is None else {self.label_column: label}
        return {"label": label, **self.columns, **named}

    def has_all(self, pattern: patterns.Pattern) -> bool:
        names = pattern.names - {"row"}
        return all(not labels.is_empty(self.columns.get(name)) for name in names)

    def check_hidden(self, pattern: patterns.Pattern) -> None:
        """Raises where a pattern reads the label column outside the target."""
        if self.label_column in pattern.names:
            raise TemplateError(
                f"{pattern.name}: uses the label column {self.label_column!r} outside "
                "the target, so that it would tell the answer; use it only after '|||'"
            )


@dataclasses.dataclass(frozen=True)
class _Patterns:
    """A template text, taken apart at its `|||` where that stands outside blocks."""

    inputs: patterns.Pattern
    target: patterns.Pattern | None
    whole: patterns.Pattern | None  # where it cannot be taken apart

    @property
    def names(self) -> frozenset[str]:
        """Variables that any part reads."""
        return self.inputs.names | (self.target.names if self.target else frozenset())

    @classmethod
    def parse(cls, text: str, name: str, truncate: bool) -> "_Patterns":
        def pattern(tree: nodes.Template) -> patterns.Pattern:
            return patterns.Pattern(tree, name=name, truncate=truncate)

        tree = patterns.parse(text, name=name, truncate=truncate)
        if not any(_has_separator(node) for node in _texts(tree)):
            return cls(pattern(tree), None, None)
        halves = _halves(tree)
        if halves is None:
            whole = pattern(tree)
            return cls(whole, None, whole)
        return cls(pattern(halves[0]), pattern(halves[1]), None)


def input_half(tree: nodes.Template) -> nodes.Template | None:
    """What stands before the only `|||`; None where it is not one outside blocks."""
    if not any(_has_separator(node) for node in _texts(tree)):
        return None
    halves = _halves(tree)
    return None if halves is None else halves[0]


def _texts(node: nodes.Node) -> Iterable[nodes.TemplateData | nodes.Const]:
    if isinstance(node, nodes.TemplateData | nodes.Const):
        return [node]
    return node.find_all((nodes.TemplateData, nodes.Const))


def _has_separator(node: nodes.TemplateData | nodes.Const) -> bool:
    value = node.data if isinstance(node, nodes.TemplateData) else node.value
    return isinstance(value, str) and patterns.SEPARATOR in value


def _halves(tree: nodes.Template) -> tuple[nodes.Template, nodes.Template] | None:
    """Both sides of the only `|||`, or None where it stands inside a block.

    What the first side defines is known to the second.
    """
    first: list[nodes.Node] = []
    second: list[nodes.Node] | None = None
    for statement in tree.body:
        pieces = statement.nodes if isinstance(statement, nodes.Output) else [statement]
        for piece in pieces:
            if not any(map(_has_separator, _texts(piece))):
                (first if second is None else second).append(_statement(piece))
                continue
            if second is not None or not isinstance(piece, nodes.TemplateData):
                return None
            before, *after = piece.data.split(patterns.SEPARATOR)
            if len(after) != 1:
                return None
            first.append(_data(before, piece.lineno))
            definitions = (nodes.Assign, nodes.AssignBlock, nodes.Macro)
            second = [node for node in first if isinstance(node, definitions)]
            second.append(_data(after[0], piece.lineno))
    assert second is not None
    return nodes.Template(first, lineno=1), nodes.Template(second, lineno=1)


def _statement(piece: nodes.Node) -> nodes.Node:
    if isinstance(piece, nodes.Expr):
        return nodes.Output([piece], lineno=piece.lineno)
    return piece


def _data(text: str, line: int) -> nodes.Node:
    return nodes.Output([nodes.TemplateData(text, lineno=line)], lineno=line)
