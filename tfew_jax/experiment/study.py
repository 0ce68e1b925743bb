"""An experiment: all its runs, trained, scored and recorded in one directory.

Everything that can be wrong with rows, templates, seeds and sizes shows when a
`Study` is made, before anything compiles or is written.
"""

import dataclasses
import hashlib
import json
import pathlib
import time
from typing import Any

import numpy as np

from tfew_jax import checkpoint, evaluate, models, train
from tfew_jax.data import batching, fewshot, sources
from tfew_jax.experiment import (
    baselines,
    directory,
    plan,
    prepared,
    results,
    scoring,
    summary,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.tuning import Recipe, Tuner
from tfew_jax.peft import PeftMethod
from tfew_jax.types import Params


class Study:
    """The runs of one task on one base."""

    def __init__(
        self,
        base: Base,
        spec: fewshot.TaskSpec,
        *,
        rows: prepared.Rows,
        test_rows: prepared.Rows | None = None,
        predict_rows: prepared.Rows | None = None,
        method: PeftMethod,
        recipe: Recipe,
        protocol: plan.Protocol,
    ):
        """Prepares rows and runs.

        Raises:
            ValueError: If rows, templates, seeds or sizes cannot make an experiment.
        """
        self.base, self.spec, self.protocol = base, spec, protocol
        self.rows = rows
        self.method, self.recipe = method, recipe

        def prepare(some: prepared.Rows, **kwargs: Any) -> prepared.Split:
            return prepared.prepare(
                some, spec, base.tokenizer, lengths=protocol.lengths, **kwargs
            )

        self.splits = prepared.Splits(
            train=prepare(rows),
            test=None if test_rows is None else prepare(test_rows),
            predict=None
            if predict_rows is None
            else prepare(predict_rows, with_labels=False),
        )
        self.runs = plan.make_runs(
            self.splits.train.labels.tolist(),
            protocol=protocol,
            texts=self.splits.train.copies,
            test_texts=self.splits.test and self.splits.test.copies,
        )
        self.batches = {run.name: self._batches(run) for run in self.runs}
        self.tuner = Tuner(base, method, recipe)
        self.settings = {
            **{f"protocol.{k}": v for k, v in dataclasses.asdict(protocol).items()},
            **{f"recipe.{k}": v for k, v in recipe.to_dict().items()},
            **{f"task.{k}": v for k, v in spec.to_dict().items()},
            "rows.train": prepared.digest(rows),
            "rows.test": prepared.digest(test_rows),
            "rows.predict": prepared.digest(predict_rows),
            "method": method.to_dict(),
            "base": base.fingerprint,
            "dropout_rate": base.config.dropout_rate,
        }
        text = json.dumps(self.settings, sort_keys=True)
        self.config_hash = hashlib.sha256(text.encode()).hexdigest()[:16]

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
        for note in self.splits.notes() if todo else ():
            progress.say(f"note: {note}")
        progress.plan(len(todo) * self.recipe.num_steps)
        for run in self.runs:
            self._do_baselines(run, records, progress)
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
            raise FloatingPointError(
                self._diverged(run, error, checkpoint_period)
            ) from error
        seconds = time.monotonic() - start
        adapter = self.tuner.adapter(
            trainable, task=self._task(), metadata=self._metadata(run)
        )
        adapter.save(path / "adapter")
        numbers = None
        if run.split is not None:
            split = self._scored_split(run)
            scored = self._score(self.tuner.model, self.tuner.params(trainable), run)
            scoring.save(path / "scores.npz", scored)
            numbers = self._numbers(split, scored)
            progress.scalars(
                run.name,
                self.recipe.num_steps,
                {f"{run.split}/{k}": numbers[k] for k in ("accuracy", "macro_f1")},
            )
            progress.say(f"{run.name}: accuracy {numbers['accuracy']:.3f}")
        record = self._record(run.name, "tuned", run, numbers)
        record |= {
            "method": self.method.to_dict(),
            "num_parameters": self.method.num_parameters(self.base.config),
            "first_step": first_step,
            "wall_time_s": round(seconds, 3),
        }
        records.append(record)

    def _diverged(
        self, run: plan.Run, error: train.NonFiniteLoss, period: int | None
    ) -> str:
        places = [sources.where(self.rows[row], row) for row in error.rows[:3]]
        more = f" and {len(error.rows) - 3} more" if len(error.rows) > 3 else ""
        last = error.step - error.step % period if period else 0
        kept = f"the checkpoint of step {last} is kept" if last else "nothing was saved"
        return (
            f"{run.name}: the loss is {error.loss} in step {error.step}, with "
            f"{', '.join(places)}{more}; stopped, {kept}. Look at these rows, take a "
            "lower learning rate, or compute in float32"
        )

    def _do_baselines(
        self, run: plan.Run, records: directory.Records, progress: Progress
    ) -> None:
        """Records what frozen model, majority and TF-IDF say of a run's rows."""
        if run.split is None:
            return
        split, rows = self._scored_split(run), np.asarray(run.scored_rows)
        # The frozen model and the test rows are the same for every seed.
        zero_shot = "zero_shot" if run.split == "test" else f"{run.name}/zero_shot"
        if zero_shot not in records:
            numbers = self._numbers(split, self._score_zero_shot(run))
            records.append(self._record(zero_shot, "zero_shot", run, numbers))
            progress.say(f"{zero_shot}: accuracy {numbers['accuracy']:.3f}")
        train_rows = list(run.train_rows)
        labels = self.splits.train.labels[train_rows].tolist()
        for kind in ("majority", "tfidf"):
            name = f"{run.name}/{kind}"
            if name in records:
                continue
            if kind == "majority":
                predictions = baselines.predict_majority(labels, len(rows))
            elif self.splits.train.tokens.class_names is None:
                continue  # rows with choices of their own have no common classes
            else:
                texts = self.splits.train.texts
                predictions = baselines.predict_tfidf(
                    [texts[row] for row in train_rows],
                    labels,
                    [split.texts[row] for row in rows],
                )
            numbers = summary.scores(
                predictions, split.labels[rows], num_choices=self.splits.num_choices
            )
            records.append(self._record(name, kind, run, numbers))

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
            "protocol": "test rows" if self.splits.test else "cross-validation",
            "seeds": list(self.protocol.seeds),
            "num_shots": self.protocol.num_shots or self.splits.train.tokens.num_rows,
            "num_steps": self.recipe.num_steps,
            **summary.summarize(records.all(), choices=names),
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
        scored = [run for run in self.runs if run.split and run.seed == first]
        predictions = []
        for run in scored:
            scores, ids = scoring.load(path / "runs" / run.name / "scores.npz")
            predictions += prepared.make_predictions(
                self._scored_split(run), ids, scores, evaluate.predict(scores)
            )
        return sorted(predictions, key=lambda prediction: prediction.row)

    def _scored_split(self, run: plan.Run) -> prepared.Split:
        split = self.splits.test if run.split == "test" else self.splits.train
        assert split is not None
        return split

    def _score(self, model: models.T5, params: Params, run: plan.Run) -> scoring.Scores:
        tokens = self._scored_split(run).tokens.take(run.scored_rows)
        batches = batching.eval_batches(tokens, self.protocol.eval_batch_size)
        return evaluate.score_choices(
            model, params, batches, normalization=self.protocol.normalization
        )

    def _score_zero_shot(self, run: plan.Run) -> scoring.Scores:
        model = models.T5(self.base.config, None)
        return self._score(model, self.base.params, run)

    def _numbers(self, split: prepared.Split, scored: scoring.Scores) -> dict[str, Any]:
        scores, ids = scored
        return summary.scores(
            evaluate.predict(scores),
            split.labels[ids],
            num_choices=self.splits.num_choices,
        )

    def _record(
        self,
        name: str,
        kind: str,
        run: plan.Run,
        numbers: dict[str, Any] | None,
    ) -> dict[str, Any]:
        one_for_all = name == "zero_shot"  # of no seed and no draw
        return {
            "run": name,
            "kind": kind,
            "task": self.spec.name,
            "seed": None if one_for_all else run.seed,
            "fold": run.fold,
            "split": run.split,
            "scores": numbers,
            "num_train_rows": 0 if kind == "zero_shot" else len(run.train_rows),
            "num_scored_rows": len(run.scored_rows),
            "num_steps": self.recipe.num_steps if kind == "tuned" else 0,
            "config_hash": self.config_hash,
            "versions": results.versions(),
        }

    def _task(self) -> dict[str, Any]:
        return {
            **self.spec.to_dict(),
            "lengths": dict(self.splits.train.tokens.feature_lengths),
            "normalization": self.protocol.normalization,
        }

    def _metadata(self, run: plan.Run) -> dict[str, Any]:
        digests = self.splits.train.digests
        return {
            "base": self.base.source,
            "base_fingerprint": self.base.fingerprint,
            "seed": run.seed,
            "num_train_rows": len(run.train_rows),
            "train_rows": sorted({digests[row] for row in run.train_rows}),
            "recipe": self.recipe.to_dict(),
            "versions": results.versions(),
        }
