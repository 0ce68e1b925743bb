r"""Score an adapter, or the frozen model alone, on the labelled rows of a task.

CHECKPOINT_PATH is an adapter's directory, the directory of a finished run, or None
for the frozen model. MIXTURE_OR_TASK_NAME is a task, or the path of a file of rows,
which the adapter's own template and choices then render. Rows that the adapter was
trained on are not scored. EVAL_OUTPUT_DIR gets predictions.csv and metrics.json.

With runs/eval_text.gin the model writes its answers to one of T5's text-to-text tasks
instead: generations.csv, and the task's metrics with the share of illegal outputs in
metrics.json.

Example:
  tfew eval --gin_file models/embedded.gin --gin_file runs/eval.gin \
    --gin.MIXTURE_OR_TASK_NAME="'test.csv'" --gin.CHECKPOINT_PATH="'out/adapter'" \
    --gin.EVAL_OUTPUT_DIR="'out/eval'"
"""

import argparse

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
    if trained_on := result.get("num_trained_on"):
        print(f"note: the adapter was trained on {trained_on} of the rows; not scored")
    names = {"macro_f1": "macro-F1"}
    shown = [
        f"{names.get(name, name)} {value:.4f}"
        for name, value in result.items()
        if isinstance(value, float)
    ]
    print("  ".join([*shown, f"rows {result['num_rows']}"]))
    return 0
