"""What an adapter says beside its arrays: the task it was trained for, and metadata.

Both are JSON objects that people edit. Fields of a task that this library reads are
checked by their types alone; what templates mean shows where they render rows.
"""

from collections.abc import Callable, Mapping
from typing import Any


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    several = isinstance(value, list | tuple) and all(map(_is_text, value))
    return _is_text(value) or several


def _are_lengths(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(isinstance(n, int) and not isinstance(n, bool) for n in value.values())


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (_is_text, "text"),
    "templates": (_are_texts, "text or a list of texts"),
    "choices": (_are_texts, "text or a list of texts"),
    "label_column": (_is_text, "text"),
    "dialect": (_is_text, "text"),
    "template_names": (_are_texts, "a list of texts"),
    "lengths": (_are_lengths, "an object of whole numbers"),
    "normalization": (lambda value: value in ("mean", "sum"), "'mean' or 'sum'"),
    "input_eos": (lambda value: isinstance(value, bool), "true or false"),
    "target_prefix": (_is_text, "text"),
}
_MAY_BE_NULL = ("label_column", "template_names", "lengths")


def check(task: Any, metadata: Any, *, source: str) -> None:
    """Refuses what cannot be read as a task or as metadata.

    Args:
        task: The task, or None.
        metadata: The metadata.
        source: Name for errors.

    Raises:
        ValueError: If one is no object, or a field of the task has another type.
    """
    task = {} if task is None else task
    for what, value in (("task", task), ("metadata", metadata)):
        if not isinstance(value, Mapping):
            raise ValueError(
                f"{source}: {what} must be an object with fields, found {value!r}"
            )
    for field, value in task.items():
        if field not in _FIELDS or (value is None and field in _MAY_BE_NULL):
            continue
        fits, expected = _FIELDS[field]
        if not fits(value):
            raise ValueError(
                f"{source}: {field} of the task must be {expected}, found {value!r}"
            )


def read(settings: Mapping[str, Any], *, source: str) -> dict[str, Any]:
    """Task and metadata in the JSON of an adapter, as arguments of `Adapter`.

    Raises:
        ValueError: As `check`.
    """
    task, metadata = settings.get("task"), settings.get("metadata")
    metadata = {} if metadata is None else metadata
    check(task, metadata, source=source)
    return {"task": task, "metadata": metadata}
