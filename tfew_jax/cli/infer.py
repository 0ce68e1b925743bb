r"""Predict rows with an adapter, or with the frozen model alone; needs no labels.

CHECKPOINT_PATH is an adapter's directory, the directory of a finished run, or None
for the frozen model. MIXTURE_OR_TASK_NAME is a task, or the path of a file of rows,
which the adapter's own template and choices then render. INFER_OUTPUT_DIR gets
predictions.csv: row, prediction, score of every choice.

A list of adapters votes: predictions.csv has the vote, the share of adapters that agree
and the mean probability of every choice, members.csv what each adapter says.

With runs/generate.gin the model writes a text for each row instead:
generations.csv, and the share of texts that are no choice in metrics.json.

Example:
  tfew infer --gin_file models/embedded.gin --gin_file runs/infer.gin \
    --gin.MIXTURE_OR_TASK_NAME="'new.csv'" --gin.CHECKPOINT_PATH="'out/adapter'" \
    --gin.INFER_OUTPUT_DIR="'out/new'"

With --adapters every row has an adapter of its own, which it names in its field
`adapter` (in JSONL also by its slot, a number from 1) and whose template and choices
render it: one forward pass, whatever the mix. Rows of `__base__`, the frozen model
alone, bring their own fields `template` and `choices`. The same by gin files:
runs/infer_bank.gin.

Example:
  tfew infer --adapters DIR --input rows.jsonl --output predictions.jsonl
"""

import argparse
import inspect
import json
from collections.abc import Callable
from typing import Any

from tfew_jax.cli import flags, included, printing

_FLAGS = {
    "adapters": "ADAPTERS",
    "input": "INPUT_FILE",
    "output": "OUTPUT_FILE",
    "adapter_field": "ADAPTER_FIELD",
    "base": "INITIAL_CHECKPOINT_PATH",
    "batch_size": "BATCH_SIZE",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    flags.add_arguments(parser)
    mixed = parser.add_argument_group("rows that name their adapters")
    mixed.add_argument(
        "--adapters",
        type=included.absolute,
        metavar="DIR",
        help="its sub-directories are adapters",
    )
    mixed.add_argument(
        "--input",
        type=included.absolute,
        metavar="FILE",
        help="rows: CSV, TSV or JSONL",
    )
    mixed.add_argument(
        "--output",
        type=included.absolute,
        metavar="FILE",
        help=".jsonl or .csv; default JSON on standard output, a row a line",
    )
    mixed.add_argument(
        "--adapter-field",
        metavar="NAME",
        help="where a row names its adapter; default adapter",
    )
    mixed.add_argument(
        "--base",
        type=included.absolute,
        metavar="DIR",
        help="model; default the embedded base",
    )
    mixed.add_argument("--batch-size", type=int, metavar="N", help="default 32")


def run(args: argparse.Namespace) -> int:
    """Parses the gin files and predicts."""
    sources = _sources(args)
    from tfew_jax import experiment
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=(experiment.infer, experiment.write_generations, experiment.infer_bank),
        **sources,
    ) as configured:
        if inspect.unwrap(configured) is inspect.unwrap(experiment.infer_bank):
            return _predict_mixed(configured, args.output)
        result = configured(on_start=configuration.save)
    if isinstance(result, dict):
        print("  ".join(f"{name} {share:.4f}" for name, share in result.items()))
    else:
        print(result)
    return 0


def _sources(args: argparse.Namespace) -> dict[str, Any]:
    """The gin files and bindings that the arguments stand for.

    Raises:
        ValueError: If arguments are missing or exclude each other.
    """
    if args.adapters is None:
        if given := [name for name in _FLAGS if getattr(args, name) is not None]:
            flag = given[0].replace("_", "-")
            raise ValueError(
                f"--{flag} is for rows that name their adapters; give --adapters DIR "
                "as well"
            )
        flags.check(args)
        return {
            "files": args.gin_file,
            "bindings": args.gin_bindings,
            "search_paths": args.gin_search_paths,
        }
    if args.input is None:
        raise ValueError("--input is missing: the file of rows that name their adapter")
    return included.sources("infer_bank", _FLAGS, args)


def _predict_mixed(configured: Callable[..., Any], output: str | None) -> int:
    from tfew_jax.experiment import mixed

    predictions = configured()
    if output is not None:
        print(output)
        return 0
    lines = (json.dumps(mixed.to_dict(p), ensure_ascii=False) for p in predictions)
    printing.show("\n".join(lines))
    return 0
