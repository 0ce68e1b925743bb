r"""Sweep over tasks, methods, learning rates and seeds by gin files, with a table.

experiments/sweep.gin: every line is tuned at every rate on every task with every seed.
On an accelerator as many runs as memory allows train in one program, whatever their
task, rate, seed and initial values; MAX_TOGETHER sets how many.

OUT gets sweep.json with the scores of all, summary.json, and below runs/ the single
experiments, which are those of `tfew train` and which `tfew report OUT` reads. None is
chosen: the scores are of test rows. Started again, the same command does what is
missing.

Example:
  tfew sweep --gin_file models/embedded.gin --gin_file methods/ia3.gin \
    --gin_file tasks/customer_intent.gin --gin_file experiments/sweep.gin \
    --gin.LEARNING_RATES="(1e-3, 3e-3, 1e-2)" --gin.OUT="'out'"
"""

import argparse
import pathlib
import sys

from tfew_jax.cli import flags, memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    flags.add_arguments(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier sweep in OUT"
    )


def run(args: argparse.Namespace) -> int:
    """Parses the gin files, sweeps, prints the table."""
    flags.check(args)
    memory.keep_freed_memory()
    from tfew_jax import experiment
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=experiment.sweep,
        files=args.gin_file,
        bindings=args.gin_bindings,
        search_paths=args.gin_search_paths,
        kind="experiments",
    ) as configured:

        def save_config(directory: pathlib.Path) -> None:
            configuration.save(directory)

        found = configured(overwrite=args.overwrite, on_start=save_config)
    print(found.table())
    print(f"results in {found.directory}", file=sys.stderr)
    return 0
