"""Adapters that clients with a token add and replace, from one directory alone."""

import pathlib
import re
from typing import Any

from starlette.exceptions import HTTPException

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def directory_of(content: dict[str, Any], name: str) -> str:
    """Where a body says that an adapter lies; by default at its name.

    Raises:
        HTTPException: If the name is unfit, or the body has other fields.
    """
    if not _NAME.fullmatch(name):
        raise HTTPException(
            422,
            f"{name!r} cannot name an adapter here; names have letters, digits, '.', "
            "'_' and '-', at most 128, and begin with a letter or digit",
        )
    place = content.get("directory", name)
    if set(content) - {"directory"} or not isinstance(place, str) or not place:
        raise HTTPException(400, "the body may hold 'directory' alone, as text")
    return place


def path_below(root: pathlib.Path | None, place: str) -> pathlib.Path:
    """The path of a place below a directory, links followed.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is not below the directory, or there is no directory.
    """
    if root is None:
        raise ValueError("the server has no directory to load adapters from")
    top = root.resolve()
    refused = ValueError(f"{place!r} does not lie below the directory of adapters")
    if "\0" in place:
        raise refused
    try:
        path = (top / place).resolve()
        is_there = path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, links in a ring, no text
        raise ValueError(f"{place!r} cannot be the path of a directory") from None
    if top not in path.parents:
        raise refused
    if not is_there:
        raise FileNotFoundError(
            f"there is no {place!r} below the directory of adapters"
        )
    return path
