"""The label of a row: which of its choices is the right one.

A label column may hold an index (T-Few's form), the text of a choice (what people
have in their tables), or nothing. -1 means "no label", as in published test sets.
"""

import re
from collections.abc import Sequence
from typing import Any

_INTEGER = re.compile(r"([+-]?\d+)(\.0*)?", re.ASCII)
_MAX_SHOWN = 12


class Label(int):
    """An index that prints as the cell it was read from.

    Inside a template, `answer_choices[label]` and `label == 1` need the index while
    `{{label}}` should print what stands in the table.
    """

    text: str

    def __new__(cls, index: int, text: str) -> "Label":
        label = super().__new__(cls, index)
        label.text = text
        return label

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return self.text == other if isinstance(other, str) else int(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(int(self))


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, blank text, an empty list or object."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list | tuple | dict):
        return not value
    return value is None or (isinstance(value, float) and value != value)


def label_index(cell: Any, choices: Sequence[str]) -> int | None:
    """The index of the choice that a label cell means; None where it means no label.

    The exact text of a choice comes first, then an index from 0, then the text
    without regard to case and spaces. Where a choice is itself an integer, as in
    `1 ||| 2 ||| 3`, cells are read as texts only: an index would be ambiguous.
    A boolean is 0 or 1 of two choices.

    Raises:
        ValueError: The cell is none of the choices.
    """
    if is_empty(cell):
        return None
    text = str(cell).strip()
    if text in choices:
        return choices.index(text)
    integer = _INTEGER.fullmatch(text)
    if integer and int(integer[1]) == -1:
        return None
    if integer and not any(_INTEGER.fullmatch(choice) for choice in choices):
        index = int(integer[1])
        if 0 <= index < len(choices):
            return index
    folded = [_fold(choice) for choice in choices]
    if folded.count(_fold(text)) == 1:
        return folded.index(_fold(text))
    if isinstance(cell, bool) and len(choices) == 2:
        return int(cell)
    raise ValueError(
        f"label {cell!r} is none of the choices {show(choices)}; expected one of these "
        f"texts or an index from 0 to {len(choices) - 1}"
    )


def show(names: Sequence[str]) -> str:
    """Names in quotes for a message, at most a dozen of them."""
    shown = ", ".join(repr(name) for name in names[:_MAX_SHOWN])
    rest = len(names) - _MAX_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def _fold(text: str) -> str:
    return " ".join(text.split()).casefold()
