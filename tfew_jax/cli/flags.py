"""T5X's gin flags, read without importing gin."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds T5X's flags; `main` turns `--gin.NAME=VALUE` into `--gin_bindings`."""
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
