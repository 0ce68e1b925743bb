"""The runs of experiments: trained together, saved, scored, recorded, summed up.

Whatever the runs of a group share, each experiment has its directory and each run its
checkpoints, adapter and record there, as if it had been trained alone.
"""

import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from tfew_jax import checkpoint
from tfew_jax.data import sources
from tfew_jax.experiment import (
    directory,
    plan,
    prepared,
    results,
    scoring,
    summary,
    together,
    training,
)
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.study import Study


class Execution:
    """An experiment in its directory.

    Attributes:
        study: The experiment.
        path: The directory, locked and of its settings.
        records: What is done of it.
    """

    def __init__(
        self,
        study: Study,
        path: pathlib.Path,
        progress: Progress,
        *,
        title: str = "",
        has_checkpoints: bool = True,
    ):
        """Reads the records.

        Args:
            study: The experiment.
            path: The directory, locked and of its settings.
            progress: Its own: where the numbers of its runs are shown.
            title: What the names of its runs begin with in messages, where there are
                other experiments.
            has_checkpoints: Whether its runs keep some.
        """
        self.study, self.path, self._progress = study, path, progress
        self._title, self._has_checkpoints = title, has_checkpoints
        self.records = directory.Records(path / directory.RECORDS)
        self._was_finished = (path / directory.FINISHED).exists()

    @property
    def is_done(self) -> bool:
        """Whether all runs are recorded."""
        return all(run.name in self.records for run in self.study.runs)

    def notes(self) -> None:
        """Says what a user should know before the runs."""
        if self.is_done:
            self._progress.say(
                f"{self.path}: all {len(self.study.runs)} runs of "
                f"{self.study.recipe.num_steps} steps are done already"
            )
            return
        for note in self.study.notes():
            self._progress.say(f"note: {note}")

    def job(self, run: plan.Run) -> together.Job:
        """A run as it is trained."""
        study, path = self.study, self.path / "runs" / run.name
        tuner = study.tuner
        return together.Job(
            tuner=tuner,
            batches=study.batches[run.name],
            member=tuner.member(
                run.seed,
                f"{self._title}{run.name}",
                checkpoints=path / "checkpoints" if self._has_checkpoints else None,
                events=self._progress.events_of(run.name),
                place=functools.partial(_place, study.rows),
            ),
            row_tokens=together.row_tokens(tuner, study.splits.train.tokens),
            is_done=run.name in self.records,
        )

    def baselines(self, run: plan.Run) -> None:
        """Records what the frozen model and plain baselines say of a run's rows."""
        self.study.measurer.baselines(run, self.path, self.records, self._progress)

    def record(
        self, run: plan.Run, trained: training.Trained, more: dict[str, Any]
    ) -> str:
        """Saves, scores and, as the last thing, records a trained run.

        Returns:
            How good it is, as a line; empty where it was not scored.
        """
        study, path = self.study, self.path / "runs" / run.name
        assert trained.trainable is not None
        adapter = study.tuner.adapter(
            trained.trainable, task=study.task_fields(), metadata=study.metadata(run)
        )
        adapter.save(path / "adapter")
        record = study.measurer.measure(
            run,
            study.tuner.model,
            study.tuner.params(trained.trainable),
            path,
            self.records,
            {
                "method": study.method.to_dict(),
                "num_parameters": study.method.num_parameters(study.base.config),
                "first_step": trained.first_step,
                **more,
            },
        )
        line = ""
        if numbers := record["scores"]:
            self._progress.scalars(
                run.name,
                study.recipe.num_steps,
                {f"{run.split}/{k}": numbers[k] for k in ("accuracy", "macro_f1")},
            )
            line = f"{self._title}{run.name}: accuracy {numbers['accuracy']:.3f}"
        self.records.append(record)
        return line

    def finish(self) -> results.FewshotResult:
        """Sums up when all runs are recorded, and marks the directory as finished."""
        result = self._sum_up()
        if not self._was_finished:
            marker = self.path / directory.FINISHED
            directory.write_text(marker, f"{self.study.config_hash}\n")
        return result

    def _sum_up(self) -> results.FewshotResult:
        study, path, records = self.study, self.path, self.records
        kept = plan.kept(study.runs)
        adapter = checkpoint.load_adapter(
            path / "runs" / kept.name / "adapter", study.base.config
        )
        adapter.save(path / "adapter")
        predictions = self._predictions(adapter)
        directory.write_predictions(path / "predictions.csv", predictions)
        weights = path / "adapter" / "adapter.safetensors"
        names = study.splits.train.tokens.class_names
        numbers = {
            "task": study.spec.name,
            "base": study.base.source,
            "method": study.method.name,
            "variant": study.settings["variant"],
            "protocol": "test rows" if study.splits.test else "cross-validation",
            "seeds": list(study.protocol.seeds),
            "num_shots": study.num_shots,
            "num_steps": study.recipe.num_steps,
            **summary.summarize(study.measurer.summarized(records), choices=names),
            "counts": study.splits.counts(),
            "adapter": {
                "run": kept.name,
                "num_parameters": study.method.num_parameters(study.base.config),
                "num_bytes": weights.stat().st_size,
            },
            "config_hash": study.config_hash,
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

    def _predictions(self, adapter: checkpoint.Adapter) -> list[prepared.Prediction]:
        study = self.study
        if study.splits.predict is not None:
            return scoring.score_split(
                study.base,
                study.splits.predict,
                adapter=adapter,
                batch_size=study.protocol.eval_batch_size,
                normalization=study.protocol.normalization,
            )
        first = study.protocol.seeds[0]
        runs = [run for run in study.runs if run.split and run.seed == first]
        return study.measurer.predictions(self.path, runs)


def execute(
    executions: Sequence[Execution],
    progress: Progress,
    *,
    checkpoint_period: int | None,
    keep_last: int,
    max_together: int | None,
    goes_on: bool,
) -> dict[str, str]:
    """Trains and records what is not done yet of all experiments.

    Args:
        executions: The experiments.
        progress: Where steps are shown.
        checkpoint_period: Steps between checkpoints; None keeps none.
        keep_last: Checkpoints of a run that stay beside the best.
        max_together: Runs that train at once; see `together.make_groups`.
        goes_on: Whether the others are trained even if all runs of a group failed.

    Returns:
        By the name of each run that failed, why; empty if all is done.
    """
    owners = {
        job: (execution, run)
        for execution in executions
        for run in execution.study.runs
        for job in [execution.job(run)]
    }
    groups = together.make_groups(
        list(owners), max_together=max_together, say=progress.say
    )
    left = [group for group in groups if not all(job.is_done for job in group)]
    progress.plan(sum(group[0].tuner.recipe.num_steps for group in left))
    failures: dict[str, str] = {}
    for group in groups:
        for job in group:
            execution, run = owners[job]
            execution.baselines(run)
        todo = [job for job in group if not job.is_done]
        if not todo:
            continue
        start = time.monotonic()
        all_trained = together.train_group(
            todo,
            progress=progress,
            checkpoint_period=checkpoint_period,
            keep_last=keep_last,
        )
        seconds = (time.monotonic() - start) / len(todo)
        more = {"wall_time_s": round(seconds, 3), "num_together": len(todo)}
        for job, trained in zip(todo, all_trained, strict=True):
            execution, run = owners[job]
            if trained.failure is None:
                if line := execution.record(run, trained, more):
                    progress.say(line)
                continue
            failures[job.member.name] = trained.message
            if len(todo) > 1 or goes_on:
                progress.say(trained.message)
        if all(trained.failure for trained in all_trained) and not goes_on:
            break
    return failures


def execute_study(
    study: Study,
    path: pathlib.Path,
    progress: Progress,
    *,
    checkpoint_period: int | None,
    keep_last: int,
    max_together: int | None = None,
) -> results.FewshotResult:
    """Does what is not done yet of all runs of an experiment, and sums up.

    Args:
        study: The experiment.
        path: The directory, locked and of its settings.
        progress: Where steps are reported.
        checkpoint_period: Steps between checkpoints; None keeps none.
        keep_last: Checkpoints of a run that stay beside the best.
        max_together: Runs that train at once; see `together.make_groups`.

    Raises:
        FloatingPointError: If the loss of a run is not finite. Runs beside which it
            was trained are finished before, others if one of these did not fail.
    """
    execution = Execution(
        study, path, progress, has_checkpoints=checkpoint_period is not None
    )
    execution.notes()
    failures = execute(
        [execution],
        progress,
        checkpoint_period=checkpoint_period,
        keep_last=keep_last,
        max_together=max_together,
        goes_on=False,
    )
    if failures:
        first, *others = failures.values()
        names = ", ".join(list(failures)[1:])
        raise FloatingPointError(
            first + (f"; {len(others)} more failed: {names}" if others else "")
        )
    return execution.finish()


def _place(rows: prepared.Rows, row: int) -> str:
    return sources.where(rows[row], row)
