"""Flags of a command that stand for packaged gin files and their macros."""

import argparse
import pathlib
from collections.abc import Mapping
from typing import Any


def sources(
    run: str, macros: Mapping[str, str], args: argparse.Namespace
) -> dict[str, Any]:
    """Files and bindings for `configuration.parsed`; gin's own flags come later.

    Args:
        run: Name of the file in `runs/`.
        macros: By the name of the argument, the macro it stands for.
        args: The arguments; those that are None, and so not given, are left out.
    """
    values = {macro: getattr(args, name) for name, macro in macros.items()}
    given = [
        f"{macro}={value!r}" for macro, value in values.items() if value is not None
    ]
    return {
        "files": ["models/embedded.gin", f"runs/{run}.gin", *args.gin_file],
        "bindings": [*given, *args.gin_bindings],
        "search_paths": args.gin_search_paths,
    }


def absolute(path: str) -> str:
    """A path as it is from every directory."""
    return str(pathlib.Path(path).expanduser().absolute())
