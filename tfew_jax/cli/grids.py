"""Many experiments by gin files: what `tfew sweep` and `tfew compare` share."""

import argparse
from typing import Any

from tfew_jax.cli import flags, memory


def add_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds the arguments of a command that makes a sweep, or whatever it is called."""
    flags.add_arguments(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help=f"replace an earlier {what} in OUT"
    )


def execute(args: argparse.Namespace, entry: str) -> Any:
    """Parses the gin files and calls a function of `experiment` by its name."""
    flags.check(args)
    memory.keep_freed_memory()
    from tfew_jax import experiment
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=getattr(experiment, entry),
        files=args.gin_file,
        bindings=args.gin_bindings,
        search_paths=args.gin_search_paths,
        kind="experiments",
    ) as configured:
        return configured(overwrite=args.overwrite, on_start=configuration.save)
