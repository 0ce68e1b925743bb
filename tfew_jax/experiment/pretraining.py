"""Training on token arrays: pre-training, LM adaptation, multi-task training.

The directory of a run is that of an experiment (see `directory`): validation losses are
its records, and in the end it holds the trained model in `final_model/`, or an adapter
in `adapter/` where the method adds parameters, as T-Few's pre-training of (IA)^3 does.
A run goes on to the bit after it was stopped: batches follow from the step.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from tfew_jax import checkpoint, evaluate, models, peft, train
from tfew_jax.data import fewshot, token_arrays
from tfew_jax.data import tokenizer as tokenizers
from tfew_jax.experiment import base as bases
from tfew_jax.experiment import directory, opening, results
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.tuning import Recipe, Tuner

PathLike = str | os.PathLike[str]
FINAL_MODEL = "final_model"
_RUN = "training"
CHECKPOINTS = pathlib.PurePath("runs", _RUN, "checkpoints")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """What a run left.

    Attributes:
        path: The trained model's directory, or the adapter's.
        losses: Validation loss by the number of updates, in nats a token.
        summary: What `summary.json` holds.
        directory: Of the run.
    """

    path: pathlib.Path
    losses: dict[int, float]
    summary: dict[str, Any]
    directory: pathlib.Path


def new_base(
    config: models.T5Config | None,
    *,
    vocabulary: PathLike | None,
    seed: int = 0,
    dtype: str | None = None,
    **flags: Any,
) -> Base:
    """A model of random weights, to pre-train.

    Args:
        config: Its sizes.
        vocabulary: Its SentencePiece file.
        seed: Of the weights.
        dtype: Of the computation; None for float32 on a CPU and bfloat16 on an
            accelerator.
        **flags: Other fields of the config to override.

    Raises:
        ValueError: If there are no sizes, or the vocabulary is not given, cannot be
            read or is larger than the embedding.
    """
    if config is None or vocabulary is None:
        missing = "MODEL, the sizes" if config is None else "VOCABULARY, a file"
        raise ValueError(
            f"a new model needs {missing}; give models/small.gin, say, "
            "and --gin.VOCABULARY"
        )
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    config = dataclasses.replace(config, dtype=dtype, **flags)
    params = models.unstack_layers(models.init(config, None, jax.random.key(seed)))
    model = checkpoint.Model(
        config=config,
        params=params,
        vocabulary=pathlib.Path(vocabulary),
        path=None,
    )
    return bases.make_base(model)


def pretrain(
    *,
    model_dir: PathLike,
    base: Base,
    arrays: token_arrays.TokenArrays | PathLike,
    validation: token_arrays.TokenArrays | PathLike | None = None,
    method: peft.PeftMethod | str = "full",
    recipe: Recipe | None = None,
    seed: int = 0,
    eval_period: int = 1000,
    eval_batches: int = 20,
    checkpoint_period: int = 1000,
    keep_last: int = 2,
    overwrite: bool = False,
    quiet: bool = False,
    on_start: opening.OnStart | None = None,
) -> PretrainResult:
    """Trains on packed examples with the likelihood of their targets.

    Args:
        model_dir: Directory of the run; one that was stopped there goes on.
        base: Where it starts, from `load_base` or `new_base`.
        arrays: Token arrays, or their directory.
        validation: More of them, whose loss is measured.
        method: What is trained; "full" for all parameters.
        recipe: How; its `loss` is the likelihood alone, whatever it says.
        seed: Of the order of the rows and of dropout.
        eval_period: Updates between validation losses; the first is before any.
        eval_batches: Batches of each validation loss, always the same; fewer where
            there are not as many.
        checkpoint_period: Updates between checkpoints.
        keep_last: Checkpoints that stay beside the best.
        overwrite: Replace an earlier run instead of continuing it.
        quiet: Show no progress.
        on_start: Called with the directory once it is ours.

    Raises:
        ValueError: If something given cannot work; before anything compiles.
    """
    for name, value in (
        ("eval_period", eval_period),
        ("eval_batches", eval_batches),
        ("checkpoint_period", checkpoint_period),
        ("keep_last", keep_last),
    ):
        if value < 1:
            raise ValueError(f"{name} must be positive, got {value}")
    seed = fewshot.check_seed(seed)
    recipe = (recipe or Recipe()).by_likelihood()
    method = peft.get(method)() if isinstance(method, str) else method
    if method.lengthens:
        raise ValueError(
            f"the method {method.name!r} puts positions in front of a row, so that it "
            "cannot train on packed examples; give full or ia3"
        )
    run = _Run(
        base=base,
        arrays=_opened(arrays, base.tokenizer),
        validation=None if validation is None else _opened(validation, base.tokenizer),
        tuner=Tuner(base, method, recipe),
        recipe=recipe,
        seed=seed,
        eval_period=eval_period,
        eval_batches=eval_batches,
    )
    with opening.open_run(
        model_dir,
        settings=run.settings(),
        overwrite=overwrite,
        quiet=quiet,
        on_start=on_start,
        tokens_per_step=run.tokens_per_step,
    ) as (path, progress):
        return run.execute(path, progress, checkpoint_period, keep_last)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Run:
    """What determines the result."""

    base: Base
    arrays: token_arrays.TokenArrays
    validation: token_arrays.TokenArrays | None
    tuner: Tuner
    recipe: Recipe
    seed: int
    eval_period: int
    eval_batches: int

    @property
    def tokens_per_step(self) -> float:
        """Real tokens of inputs and targets, on average."""
        total = sum(self.arrays.num_tokens.values())
        return self.recipe.batch_size * total / self.arrays.num_rows

    def settings(self) -> dict[str, Any]:
        """As JSON values."""
        checked = self.validation
        return {
            **{f"recipe.{k}": v for k, v in self.recipe.to_dict().items()},
            "arrays": self.arrays.fingerprint,
            "validation": None if checked is None else checked.fingerprint,
            "method": self.tuner.method.to_dict(),
            "base": self.base.fingerprint,
            "dropout_rate": self.base.config.dropout_rate,
            "seed": self.seed,
            "eval_period": self.eval_period,
            "eval_batches": self.eval_batches,
        }

    def execute(
        self,
        path: pathlib.Path,
        progress: Progress,
        checkpoint_period: int,
        keep_last: int,
    ) -> PretrainResult:
        """Trains what is left, and saves."""
        records = directory.Records(path / directory.RECORDS)
        trains_model = not self.tuner.method.adds_parameters
        final = path / (FINAL_MODEL if trains_model else "adapter")
        if (path / directory.FINISHED).exists():
            progress.say(f"{path}: all {self.recipe.num_steps} steps are done already")
            summary = json.loads((path / "summary.json").read_text("utf-8"))
            return self._result(path, final, records, summary)
        progress.plan(self.recipe.num_steps)
        batches = token_arrays.PackedBatches(
            self.arrays, self.recipe.batch_size, self.seed
        )
        trained, _ = self.tuner.train(
            batches.batch_at,
            seed=self.seed,
            name=_RUN,
            progress=progress,
            checkpoints=path / CHECKPOINTS,
            checkpoint_period=checkpoint_period,
            keep_last=keep_last,
            watch=lambda step, state: self._measure(step, state, records, progress),
        )
        self._save(final, trained)
        losses_ = _losses(records)
        summary = {
            "method": self.tuner.method.name,
            "num_steps": self.recipe.num_steps,
            "num_parameters": self.tuner.method.num_parameters(self.base.config),
            "examples": self.arrays.num_examples,
            "epochs": self.recipe.num_steps
            * self.recipe.batch_size
            / self.arrays.num_rows,
            "validation_loss": list(losses_.values())[-1] if losses_ else None,
            "base": self.base.source,
            "arrays": dict(self.arrays.description),
            "versions": results.versions(),
        }
        directory.write_json(path / "summary.json", summary)
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode())
        directory.write_text(path / directory.FINISHED, f"{digest.hexdigest()[:16]}\n")
        return self._result(path, final, records, summary)

    def _result(
        self,
        path: pathlib.Path,
        final: pathlib.Path,
        records: directory.Records,
        summary: dict[str, Any],
    ) -> PretrainResult:
        return PretrainResult(
            path=final, losses=_losses(records), summary=summary, directory=path
        )

    def _measure(
        self,
        step: int,
        state: train.TrainState,
        records: directory.Records,
        progress: Progress,
    ) -> None:
        """Records the validation loss where it is due and not known yet."""
        is_due = step % self.eval_period == 0 or step == self.recipe.num_steps
        name = f"validation-{step}"
        if self.validation is None or not is_due or name in records:
            return
        size = min(self.recipe.batch_size, self.validation.num_rows)
        most = self.validation.num_rows // size
        numbers = np.arange(size * min(self.eval_batches, most)).reshape(-1, size)
        loss = evaluate.mean_loss(
            self.tuner.model,
            self.tuner.params(train.adapter_params(state)),
            (self.validation.batch(part) for part in numbers),
        )
        records.append({"run": name, "kind": "validation", "step": step, "loss": loss})
        progress.scalars(_RUN, step, {"validation/loss": loss})
        progress.say(f"{_RUN}: step {step}  validation loss {loss:.4f}")

    def _save(self, path: pathlib.Path, trained: Any) -> None:
        method, source = self.tuner.method, self.base
        if method.adds_parameters:
            metadata = {"base_fingerprint": source.weights_fingerprint}
            adapter = self.tuner.adapter(trained, task={}, metadata=metadata)
            dataclasses.replace(adapter, task=None).save(path)
            return
        params = jax.tree.map(
            np.asarray, models.unstack_layers(self.tuner.params(trained))
        )
        checkpoint.save_model(
            path,
            config=source.config,
            params=params,
            vocabulary=source.tokenizer.model_file,
        )


def _losses(records: directory.Records) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in records.all()}


def _opened(
    arrays: token_arrays.TokenArrays | PathLike, vocabulary: tokenizers.Tokenizer
) -> token_arrays.TokenArrays:
    """The arrays, if they are of this vocabulary."""
    if not isinstance(arrays, token_arrays.TokenArrays):
        arrays = token_arrays.load(arrays)
    arrays.check_vocabulary(vocabulary)
    return arrays
