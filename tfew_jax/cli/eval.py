r"""Score an adapter, or the frozen model alone, on the labelled rows of a task.

CHECKPOINT_PATH is an adapter's directory, the directory of a finished run, or None
for the frozen model. MIXTURE_OR_TASK_NAME is a task, or the path of a file of rows,
which the adapter's own template and choices then render. Rows that the adapter was
trained on are not scored. EVAL_OUTPUT_DIR gets predictions.csv and metrics.json.

A list of adapters votes: predictions.csv has the vote, the share of adapters that agree
and the mean probability of every choice, members.csv what each adapter says, and
metrics.json the scores of the vote, of the mean probability and of each adapter.

With runs/eval_text.gin the model writes its answers to one of T5's text-to-text tasks
instead: generations.csv, and the task's metrics with the share of illegal outputs in
metrics.json. There a list of adapters votes on the texts.

Example:
  tfew eval --gin_file models/embedded.gin --gin_file runs/eval.gin \
    --gin.MIXTURE_OR_TASK_NAME="'test.csv'" --gin.CHECKPOINT_PATH="'out/adapter'" \
    --gin.EVAL_OUTPUT_DIR="'out/eval'"
"""

import argparse
from collections.abc import Mapping
from typing import Any

from tfew_jax.cli import flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    flags.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Parses the gin files and scores."""
    flags.check(args)
    from tfew_jax import experiment
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=(experiment.evaluate, experiment.evaluate_text),
        files=args.gin_file,
        bindings=args.gin_bindings,
        search_paths=args.gin_search_paths,
    ) as configured:
        result = configured(on_start=configuration.save)
    who = "an adapter was" if "members" in result else "the adapter was"
    if trained_on := result.get("num_trained_on"):
        print(f"note: {who} trained on {trained_on} of the rows; not scored")
    for line in _lines(result):
        print(line)
    return 0


_NAMES = {"macro_f1": "macro-F1"}
_VOTES = ("vote", "mean_probability", "mean_of_members", "best_of_members")


def _lines(result: Mapping[str, Any]) -> list[str]:
    """The numbers as a person reads them; those of a vote on a line each."""
    lines = [
        "  ".join([f"{name.replace('_', ' '):16}", *_shown(result[name])])
        for name in _VOTES
        if name in result
    ]
    return [*lines, "  ".join([*_shown(result), f"rows {result['num_rows']}"])]


def _shown(numbers: Mapping[str, Any]) -> list[str]:
    return [
        f"{_NAMES.get(name, name)} {value:.4f}"
        for name, value in numbers.items()
        if isinstance(value, float)
    ]
