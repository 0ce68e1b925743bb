"""T5X's gin flags, read without importing gin."""

import argparse
import sys
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags; `join` turns `--gin.NAME=VALUE` into `--gin_bindings`."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="a gin file, in the search paths or packaged; later ones win",
    )
    parser.add_argument(
        "--gin_search_paths",
        action="append",
        default=[],
        metavar="DIR[,DIR]",
        help="where gin files are looked for after the current directory",
    )
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="the same as --gin.NAME=VALUE: a macro or parameter, written as in gin",
    )


def check(args: argparse.Namespace) -> None:
    """Refuses a command without a gin file.

    Raises:
        ValueError: If there is none.
    """
    if not args.gin_file:
        raise ValueError("--gin_file is missing; see --help for an example")


def join(argv: Sequence[str] | None) -> list[str]:
    """T5X's `--gin.NAME=VALUE` as `--gin_bindings=NAME=VALUE`.

    Args:
        argv: Arguments after the program's name; those of the process if None.
    """
    argv = sys.argv[1:] if argv is None else argv
    prefix = "--gin."
    return [
        f"--gin_bindings={arg[len(prefix) :]}" if arg.startswith(prefix) else arg
        for arg in argv
    ]
