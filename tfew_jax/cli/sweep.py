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
import sys

from tfew_jax.cli import grids


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    grids.add_arguments(parser, "sweep")


def run(args: argparse.Namespace) -> int:
    """Parses the gin files, sweeps, prints the table."""
    found = grids.execute(args, "sweep")
    print(found.table())
    print(f"results in {found.directory}", file=sys.stderr)
    return 0
