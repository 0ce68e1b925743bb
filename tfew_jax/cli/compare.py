r"""Compare bases and methods by gin files, with a table and a chart.

experiments/adaptation_length.gin: a model of span corruption, alone, with a sentinel
before its targets, and after LM adaptations of several lengths. experiments/size.gin:
(IA)^3, prompt tuning and model tuning on a family of models. Every line is tuned on
every condition as `tfew train` does it; besides, the adapters and the frozen models
write for the test rows, and the share of illegal outputs stands beside the accuracy.

OUT gets comparison.md, comparison.png, comparison.json, and below runs/ the single
runs, which `tfew report OUT/runs` reads. Started again, the same command does what is
missing; conditions, methods and tasks may be added.

Example:
  tfew compare --gin_file models/embedded.gin --gin_file methods/ia3.gin \
    --gin_file tasks/customer_intent.gin --gin_file experiments/adaptation_length.gin \
    --gin.SPAN_BASE="'span'" --gin.TOKEN_ARRAYS="'prefix_lm'" --gin.OUT="'out'"
"""

import argparse
import sys

from tfew_jax.cli import grids


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    grids.add_arguments(parser, "comparison")


def run(args: argparse.Namespace) -> int:
    """Parses the gin files, compares, writes table and chart."""
    found = grids.execute(args, "compare")
    from tfew_jax import report

    report.write_comparison(found)
    print(report.comparison_text(found))
    print(f"table and chart in {found.directory}", file=sys.stderr)
    return 0
