"""An experiment: the runs of one task on one base, and what they are made of.

Everything that can be wrong with rows, templates, seeds and sizes shows when a
`Study` is made, before anything compiles or is written. `execution` does its runs.
"""

import dataclasses
from typing import Any

from tfew_jax import checkpoint
from tfew_jax.data import batching, tasks
from tfew_jax.experiment import (
    directory,
    measuring,
    plan,
    prepared,
    results,
    scoring,
    views,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.tuning import Recipe, Tuner
from tfew_jax.peft import PeftMethod


def prepare_splits(
    base: Base,
    task: tasks.Task,
    predict_rows: prepared.Rows | None,
    protocol: plan.Protocol,
) -> prepared.Splits:
    """All rows of a task, ready for every run.

    Raises:
        ValueError: If a row cannot be rendered, spelled, or lacks its label.
    """

    def prepare(rows: prepared.Rows, *, with_labels: bool = True) -> prepared.Split:
        return prepared.prepare(
            rows,
            task.spec,
            base.tokenizer,
            lengths=protocol.lengths,
            with_labels=with_labels,
            input_eos=protocol.input_eos,
            target_prefix=protocol.target_prefix,
        )

    return prepared.Splits(
        train=prepare(task.train),
        test=None if task.test is None else prepare(task.test),
        predict=None
        if predict_rows is None
        else prepare(predict_rows, with_labels=False),
    )


def runs_of(
    splits: prepared.Splits, task: tasks.Task, protocol: plan.Protocol
) -> list[plan.Run]:
    """The runs of a task's rows.

    Raises:
        ValueError: If seeds, rows and classes cannot make them; see `plan.make_runs`.
    """
    return plan.make_runs(
        splits.train.labels.tolist(),
        protocol=protocol,
        texts=splits.train.copies,
        test_texts=splits.test and splits.test.copies,
        draws=task.draws,
    )


def num_shots_of(task: tasks.Task, protocol: plan.Protocol) -> int:
    """Rows that every seed draws."""
    draw = None if task.draws is None else next(iter(task.draws.values()), ())
    return protocol.num_shots or len(task.train if draw is None else draw)


def common_settings(
    base: Base,
    task: tasks.Task,
    predict_rows: prepared.Rows | None,
    protocol: plan.Protocol,
) -> dict[str, Any]:
    """What determines any result on a task's rows, as JSON values."""
    return {
        **{f"protocol.{k}": v for k, v in dataclasses.asdict(protocol).items()},
        **{f"task.{k}": v for k, v in task.spec.to_dict().items()},
        "rows.train": prepared.digest(task.train),
        "rows.test": prepared.digest(task.test),
        "rows.predict": prepared.digest(predict_rows),
        "base": base.fingerprint,
    }


class Study:
    """The runs of one task on one base."""

    def __init__(
        self,
        base: Base,
        task: tasks.Task,
        *,
        predict_rows: prepared.Rows | None = None,
        method: PeftMethod,
        recipe: Recipe,
        protocol: plan.Protocol,
        initial: checkpoint.Adapter | None = None,
        variant: str | None = None,
        splits: prepared.Splits | None = None,
        frozen_scores: dict[str, scoring.Scores] | None = None,
    ):
        """Prepares rows and runs.

        Args:
            base: The frozen model.
            task: Templates, rows to train on, rows to score.
            predict_rows: Rows to predict.
            method: What is trained.
            recipe: How.
            protocol: Which runs, and how rows are scored.
            initial: Adapter of the method that every run starts from.
            variant: What reports call these runs; None for the method's name.
            splits: What `prepare_splits` made of the same base, task and protocol.
            frozen_scores: See `Measurer`; of the same as well.

        Raises:
            ValueError: If rows, templates, seeds or sizes cannot make an experiment.
        """
        spec = task.spec
        self.base, self.spec, self.protocol = base, spec, protocol
        self.rows, self.predict_rows = task.train, predict_rows
        self._task_notes = task.notes
        self.num_shots = num_shots_of(task, protocol)
        self.method, self.recipe = method, recipe

        self.splits = splits or prepare_splits(base, task, predict_rows, protocol)
        self.runs = runs_of(self.splits, task, protocol)
        self.batches = {run.name: self._batches(run) for run in self.runs}
        self.tuner = Tuner(
            base,
            method,
            recipe,
            initial=initial,
            class_labels=self.splits.train.tokens.class_names or (),
        )
        variant = variant or method.name
        self.settings = {
            **common_settings(base, task, predict_rows, protocol),
            **{f"recipe.{k}": v for k, v in recipe.to_dict().items()},
            "method": method.to_dict(),
            **self.tuner.start_settings,
            "dropout_rate": base.config.dropout_rate,
            "variant": variant,
        }
        self.config_hash = directory.settings_hash(self.settings)
        self.measurer = measuring.Measurer(
            base=base,
            spec=spec,
            splits=self.splits,
            protocol=protocol,
            views=views.make_views(protocol.eval_templates, len(spec.templates)),
            common={
                "variant": variant,
                "num_steps": recipe.num_steps,
                "config_hash": self.config_hash,
            },
            frozen_scores={} if frozen_scores is None else frozen_scores,
        )

    def _batches(self, run: plan.Run) -> batching.TrainBatches:
        tokens = self.splits.train.tokens.take(run.train_rows)
        try:
            return batching.TrainBatches(tokens, self.recipe.batch_size, run.seed)
        except ValueError as error:
            raise ValueError(
                f"{run.name}: {error} (copies of scored rows are not trained on)"
            ) from error

    def notes(self) -> list[str]:
        """What a user should know before the runs, a line each."""
        labels = self.splits.train.labels.tolist()
        notes = [*self._task_notes, *self.splits.notes()]
        return [*notes, *plan.notes(self.runs, labels), *self.tuner.notes]

    def task_fields(self) -> dict[str, Any]:
        """What an adapter says of its task."""
        return {
            **self.spec.to_dict(),
            "lengths": dict(self.splits.train.tokens.feature_lengths),
            "normalization": self.protocol.normalization,
            "input_eos": self.protocol.input_eos,
            "target_prefix": self.protocol.target_prefix,
        }

    def metadata(self, run: plan.Run) -> dict[str, Any]:
        """What the adapter of a run says of how it was made."""
        digests = self.splits.train.digests
        return {
            "base": self.base.source,
            "base_fingerprint": self.base.weights_fingerprint,
            "seed": run.seed,
            "num_train_rows": len(run.train_rows),
            "train_rows": sorted({digests[row] for row in run.train_rows}),
            "recipe": self.recipe.to_dict(),
            "versions": results.versions(),
        }
