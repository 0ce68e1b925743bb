r"""Train by gin files: adapters, scores, predictions, records; or on token arrays.

T5X's flags: --gin_file (several), --gin_search_paths, --gin.NAME=VALUE. The
packaged files are found from any folder; later files and flags win. The parsed
configuration is saved beside the run as config.gin, what was used of it, defaults
included, as operative_config.gin. Started again, a run goes on where it was.

With runs/text_prompt.gin nothing is trained: the frozen model reads labelled rows in
front of each row that is scored, and MODEL_DIR gets the same files but no adapter.

With runs/prompt_tuning.gin, runs/text_model_tuning.gin or runs/text.gin it trains on
one of T5's text-to-text tasks: the model writes for the validation rows every so many
steps, and the best step is kept. The files of domain_shift/ name other sets to measure
it on.

With runs/pretrain.gin, runs/lm_adapt.gin, runs/multitask.gin, runs/pretrain_ia3.gin or
runs/arrays.gin it trains on what `tfew prepare` made of texts, and MODEL_DIR gets
final_model/, or adapter/ where only an adapter was trained.

Example:
  tfew train --gin_file models/embedded.gin --gin_file methods/ia3.gin \
    --gin_file tasks/customer_intent.gin --gin_file runs/train.gin \
    --gin.MODEL_DIR="'/tmp/intent'" --gin.TRAIN_STEPS=200
"""

import argparse
import pathlib
import sys
from typing import Any

from tfew_jax.cli import flags, memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    flags.add_arguments(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier run in MODEL_DIR"
    )


def run(args: argparse.Namespace) -> int:
    """Parses the gin files and trains."""
    flags.check(args)
    return _train(
        overwrite=args.overwrite,
        files=args.gin_file,
        bindings=args.gin_bindings,
        search_paths=args.gin_search_paths,
    )


def run_text(text: str, *, overwrite: bool) -> int:
    """Trains by a configuration that is given as text."""
    return _train(overwrite=overwrite, text=text)


def _train(*, overwrite: bool, text: str = "", **sources: Any) -> int:
    memory.keep_freed_memory()
    from tfew_jax import experiment
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=(
            experiment.train,
            experiment.text_prompt,
            experiment.train_text,
            experiment.pretrain,
        ),
        text=text,
        **sources,
    ) as configured:

        def save_config(directory: pathlib.Path) -> None:
            configuration.save(directory, text=text)

        result = configured(overwrite=overwrite, on_start=save_config)
    if isinstance(result, experiment.PretrainResult):
        loss = result.summary["validation_loss"]
        measured = "" if loss is None else f", validation loss {loss:.4f}"
        print(f"{result.summary['num_steps']} steps done{measured}: {result.path}")
        return 0
    is_text = isinstance(result, experiment.TextResult)
    table = experiment.text_table if is_text else experiment.summary_table
    print(table(result.summary))
    print(f"results in {result.directory}", file=sys.stderr)
    return 0
