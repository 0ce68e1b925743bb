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
import pathlib
import sys

from tfew_jax.cli import flags, memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    flags.add_arguments(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier comparison in OUT"
    )


def run(args: argparse.Namespace) -> int:
    """Parses the gin files, compares, writes table and chart."""
    flags.check(args)
    memory.keep_freed_memory()
    from tfew_jax import experiment, report
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=experiment.compare,
        files=args.gin_file,
        bindings=args.gin_bindings,
        search_paths=args.gin_search_paths,
        kind="experiments",
    ) as configured:

        def save_config(directory: pathlib.Path) -> None:
            configuration.save(directory)

        found = configured(overwrite=args.overwrite, on_start=save_config)
    report.write_comparison(found)
    print(report.comparison_text(found))
    print(f"table and chart in {found.directory}", file=sys.stderr)
    return 0
