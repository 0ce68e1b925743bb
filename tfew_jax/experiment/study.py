"""An experiment: all its runs, trained, scored and recorded in one directory.

Everything that can be wrong with rows, templates, seeds and sizes shows when a
`Study` is made, before anything compiles or is written.
"""

import dataclasses
import pathlib
import time
from typing import Any

from tfew_jax import checkpoint, train
from tfew_jax.data import batching, sources, tasks
from tfew_jax.experiment import (
    directory,
    measuring,
    plan,
    prepared,
    results,
    scoring,
    summary,
    views,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.progress import Progress
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

        Raises:
            ValueError: If rows, templates, seeds or sizes cannot make an experiment.
        """
        spec = task.spec
        self.base, self.spec, self.protocol = base, spec, protocol
        self.rows, self.predict_rows = task.train, predict_rows
        self._notes = task.notes
        self._num_shots = num_shots_of(task, protocol)
        self.method, self.recipe = method, recipe

        self.splits = prepare_splits(base, task, predict_rows, protocol)
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
            "initial": None if initial is None else initial.fingerprint,
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
        )

    def _batches(self, run: plan.Run) -> batching.TrainBatches:
        tokens = self.splits.train.tokens.take(run.train_rows)
        try:
            return batching.TrainBatches(tokens, self.recipe.batch_size, run.seed)
        except ValueError as error:
            raise ValueError(
                f"{run.name}: {error} (copies of scored rows are not trained on)"
            ) from error

    def execute(
        self,
        path: pathlib.Path,
        progress: Progress,
        *,
        checkpoint_period: int | None,
        keep_last: int,
    ) -> results.FewshotResult:
        """Does what is not done yet of all runs, and sums up.

        Args:
            path: The directory, locked and of these settings.
            progress: Where steps are reported.
            checkpoint_period: Steps between checkpoints.
            keep_last: Checkpoints of a run that stay beside the best.
        """
        records = directory.Records(path / directory.RECORDS)
        finished = (path / directory.FINISHED).exists()
        todo = [run for run in self.runs if run.name not in records]
        if not todo:
            progress.say(
                f"{path}: all {len(self.runs)} runs of {self.recipe.num_steps} steps "
                "are done already"
            )
        labels = self.splits.train.labels.tolist()
        notes = [*self._notes, *self.splits.notes(), *plan.notes(self.runs, labels)]
        notes += self.tuner.notes
        for note in notes if todo else ():
            progress.say(f"note: {note}")
        progress.plan(len(todo) * self.recipe.num_steps)
        for run in self.runs:
            self.measurer.baselines(run, path, records, progress)
            if run.name not in records:
                self._do_run(
                    run,
                    path / "runs" / run.name,
                    records,
                    progress,
                    checkpoint_period=checkpoint_period,
                    keep_last=keep_last,
                )
        result = self._sum_up(path, records)
        if not finished:
            directory.write_text(path / directory.FINISHED, f"{self.config_hash}\n")
        return result

    def _do_run(
        self,
        run: plan.Run,
        path: pathlib.Path,
        records: directory.Records,
        progress: Progress,
        *,
        checkpoint_period: int | None,
        keep_last: int,
    ) -> None:
        """Trains, saves, scores and, as the last thing, records one run."""
        start = time.monotonic()
        path.mkdir(parents=True, exist_ok=True)
        try:
            trainable, first_step = self.tuner.train(
                self.batches[run.name].batch_at,
                seed=run.seed,
                name=run.name,
                progress=progress,
                checkpoints=path / "checkpoints" if checkpoint_period else None,
                checkpoint_period=checkpoint_period,
                keep_last=keep_last,
            )
        except train.NonFiniteLoss as error:
            places = [sources.where(self.rows[row], row) for row in error.rows]
            raise FloatingPointError(
                error.told(run.name, places, checkpoint_period)
            ) from error
        seconds = time.monotonic() - start
        adapter = self.tuner.adapter(
            trainable, task=self._task(), metadata=self._metadata(run)
        )
        adapter.save(path / "adapter")
        record = self.measurer.measure(
            run,
            self.tuner.model,
            self.tuner.params(trainable),
            path,
            records,
            {
                "method": self.method.to_dict(),
                "num_parameters": self.method.num_parameters(self.base.config),
                "first_step": first_step,
                "wall_time_s": round(seconds, 3),
            },
        )
        if numbers := record["scores"]:
            progress.scalars(
                run.name,
                self.recipe.num_steps,
                {f"{run.split}/{k}": numbers[k] for k in ("accuracy", "macro_f1")},
            )
            progress.say(f"{run.name}: accuracy {numbers['accuracy']:.3f}")
        records.append(record)

    def _sum_up(
        self, path: pathlib.Path, records: directory.Records
    ) -> results.FewshotResult:
        kept = plan.kept(self.runs)
        adapter = checkpoint.load_adapter(
            path / "runs" / kept.name / "adapter", self.base.config
        )
        adapter.save(path / "adapter")
        predictions = self._predictions(path, adapter)
        directory.write_predictions(path / "predictions.csv", predictions)
        weights = path / "adapter" / "adapter.safetensors"
        names = self.splits.train.tokens.class_names
        numbers = {
            "task": self.spec.name,
            "base": self.base.source,
            "method": self.method.name,
            "variant": self.settings["variant"],
            "protocol": "test rows" if self.splits.test else "cross-validation",
            "seeds": list(self.protocol.seeds),
            "num_shots": self._num_shots,
            "num_steps": self.recipe.num_steps,
            **summary.summarize(self.measurer.summarized(records), choices=names),
            "counts": self.splits.counts(),
            "adapter": {
                "run": kept.name,
                "num_parameters": self.method.num_parameters(self.base.config),
                "num_bytes": weights.stat().st_size,
            },
            "config_hash": self.config_hash,
            "versions": results.versions(),
        }
        directory.write_json(path / "summary.json", numbers)
        return results.FewshotResult(
            adapter=adapter,
            summary=numbers,
            predictions=predictions,
            records=records.all(),
            directory=path,
        )

    def _predictions(
        self, path: pathlib.Path, adapter: checkpoint.Adapter
    ) -> list[prepared.Prediction]:
        if self.splits.predict is not None:
            return scoring.score_split(
                self.base,
                self.splits.predict,
                adapter=adapter,
                batch_size=self.protocol.eval_batch_size,
                normalization=self.protocol.normalization,
            )
        first = self.protocol.seeds[0]
        runs = [run for run in self.runs if run.split and run.seed == first]
        return self.measurer.predictions(path, runs)

    def _task(self) -> dict[str, Any]:
        return {
            **self.spec.to_dict(),
            "lengths": dict(self.splits.train.tokens.feature_lengths),
            "normalization": self.protocol.normalization,
            "input_eos": self.protocol.input_eos,
            "target_prefix": self.protocol.target_prefix,
        }

    def _metadata(self, run: plan.Run) -> dict[str, Any]:
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
