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
"""

import argparse

from tfew_jax.cli import flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    flags.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Parses the gin files and predicts."""
    flags.check(args)
    from tfew_jax import experiment
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=(experiment.infer, experiment.write_generations),
        files=args.gin_file,
        bindings=args.gin_bindings,
        search_paths=args.gin_search_paths,
    ) as configured:
        result = configured(on_start=configuration.save)
    if isinstance(result, dict):
        print("  ".join(f"{name} {share:.4f}" for name, share in result.items()))
    else:
        print(result)
    return 0
