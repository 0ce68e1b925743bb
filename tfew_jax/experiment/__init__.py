"""One run or many: rows, method, training, scores and records in one directory.

What the command line and Python users call. `fewshot` takes rows and a template;
`train` is the same in full, and `text_prompt` shows rows in the input instead.
`evaluate` and `infer` use an adapter on more rows, or let several `vote`; `predict`
and `infer_bank` also take many, each row its own; `generate` and `write_generations`
let one write; `evaluate_text` measures what it writes for T5's text-to-text tasks.
`train_text` trains on these, `pretrain` on token arrays. `compare` puts bases and
methods side by side, `sweep` trains a grid in few programs.
"""

from tfew_jax.experiment.banks import load_bank
from tfew_jax.experiment.base import Base, load_base, make_base
from tfew_jax.experiment.comparing import compare
from tfew_jax.experiment.comparison import Comparison, Point, load_comparison
from tfew_jax.experiment.conditions import (
    Adaptation,
    Condition,
    Line,
    adaptation_lengths,
    model_family,
    prompt_lengths,
)
from tfew_jax.experiment.generating import (
    Generation,
    generate,
    illegal_outputs,
    write_generations,
)
from tfew_jax.experiment.jobs import fewshot, text_prompt, train
from tfew_jax.experiment.mixed import infer_bank, predict
from tfew_jax.experiment.prepared import Prediction
from tfew_jax.experiment.pretraining import PretrainResult, new_base, pretrain
from tfew_jax.experiment.results import FewshotResult, Result
from tfew_jax.experiment.summary import table as summary_table
from tfew_jax.experiment.sweeping import sweep
from tfew_jax.experiment.text_summary import table as text_table
from tfew_jax.experiment.text_tasks import evaluate_text
from tfew_jax.experiment.text_training import TextResult, train_text
from tfew_jax.experiment.training import Interrupted
from tfew_jax.experiment.trials import Sweep, Trial, load_sweep
from tfew_jax.experiment.tuning import Recipe
from tfew_jax.experiment.voting import Vote, vote
from tfew_jax.experiment.voting import predict_rows as infer
from tfew_jax.experiment.voting import score_rows as evaluate

__all__ = [
    "Adaptation",
    "Base",
    "Comparison",
    "Condition",
    "FewshotResult",
    "Generation",
    "Interrupted",
    "Line",
    "Point",
    "Prediction",
    "PretrainResult",
    "Recipe",
    "Result",
    "Sweep",
    "TextResult",
    "Trial",
    "Vote",
    "adaptation_lengths",
    "compare",
    "evaluate",
    "evaluate_text",
    "fewshot",
    "generate",
    "illegal_outputs",
    "infer",
    "infer_bank",
    "load_bank",
    "load_base",
    "load_comparison",
    "load_sweep",
    "make_base",
    "model_family",
    "new_base",
    "predict",
    "pretrain",
    "prompt_lengths",
    "summary_table",
    "sweep",
    "text_prompt",
    "text_table",
    "train",
    "train_text",
    "vote",
    "write_generations",
]
