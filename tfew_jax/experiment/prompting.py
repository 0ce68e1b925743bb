"""Text prompts on the frozen model: rows shown in the input, nothing trained.

The runs are those of a tuned experiment on the same task: every seed draws its rows,
and of these some are shown in front of each row that is scored. A row is never shown
where it, or a copy of it, is scored: the plan keeps such rows out of a run's training
rows, and demonstrations are drawn from nowhere else.
"""

import collections
import dataclasses
import pathlib
import time

import numpy as np

from tfew_jax import models
from tfew_jax.data import demonstrations, tasks
from tfew_jax.experiment import (
    directory,
    measuring,
    plan,
    prepared,
    results,
    scoring,
    study,
    summary,
    views,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.progress import Progress

KIND = "text_prompt"


class PromptStudy:
    """The runs of one task by text prompts on one base."""

    def __init__(
        self,
        base: Base,
        task: tasks.Task,
        *,
        predict_rows: prepared.Rows | None = None,
        prompt: demonstrations.TextPrompt,
        protocol: plan.Protocol,
        variant: str | None = None,
    ):
        """Prepares rows and runs, and puts demonstrations in front of the rows.

        Args:
            base: The frozen model.
            task: Templates, rows to show, rows to score.
            predict_rows: Rows to predict.
            prompt: How many rows are shown, and how.
            protocol: Which runs, and how rows are scored.
            variant: What reports call these runs; None for "text prompt, N examples".

        Raises:
            ValueError: If rows, templates, seeds or numbers cannot make an experiment.
        """
        prompt.check(base.tokenizer)
        self.base, self.spec, self.protocol = base, task.spec, protocol
        self.prompt, self.predict_rows = prompt, predict_rows
        self._num_shots = study.num_shots_of(task, protocol)
        self.splits = study.prepare_splits(base, task, predict_rows, protocol)
        self.runs = study.runs_of(self.splits, task, protocol)
        self.shown = {run.name: self._draw(run) for run in self.runs}
        variant = variant or _variant(prompt.num_demonstrations)
        self.settings = {
            **study.common_settings(base, task, predict_rows, protocol),
            **{f"{KIND}.{k}": v for k, v in dataclasses.asdict(prompt).items()},
            "variant": variant,
        }
        self.config_hash = directory.settings_hash(self.settings)
        self.measurer = measuring.Measurer(
            base=base,
            spec=task.spec,
            splits=self.splits,
            protocol=protocol,
            views=views.make_views(protocol.eval_templates, len(task.spec.templates)),
            common={
                "variant": variant,
                "num_steps": 0,
                "config_hash": self.config_hash,
            },
        )
        scored = [run for run in self.runs if run.split]
        prompted = demonstrations.share_lengths([self._prompted(run) for run in scored])
        self.prompted = {
            run.name: rows for run, rows in zip(scored, prompted, strict=True)
        }
        self._notes = [*task.notes, *self.splits.notes(), *self._dropped_notes()]

    def _draw(self, run: plan.Run) -> tuple[int, ...]:
        """The training rows that a run shows, in their order."""
        labels = self.splits.train.labels[list(run.train_rows)]
        try:
            drawn = self.prompt.draw(labels, run.seed)
        except ValueError as error:
            raise ValueError(
                f"{run.name}: {error} (copies of scored rows are not shown)"
            ) from error
        return tuple(run.train_rows[index] for index in drawn)

    def _prompted(self, run: plan.Run) -> demonstrations.PromptedRows:
        """The scored rows of a run behind its demonstrations."""
        return self._behind(
            run,
            self.measurer.split_of(run),
            np.asarray(run.scored_rows),
            [self.measurer.templates(run, view) for view in self.measurer.views],
        )

    def _behind(
        self,
        run: plan.Run,
        split: prepared.Split,
        rows: np.ndarray,
        by_view: list[np.ndarray],
    ) -> demonstrations.PromptedRows:
        train = self.splits.train.rendered
        return demonstrations.put_in_front(
            self.prompt,
            [[texts[row] for row in self.shown[run.name]] for texts in train],
            [[texts[row] for row in rows] for texts in split.rendered],
            split.tokens.take(rows),
            self.base.tokenizer,
            views=by_view,
            input_eos=self.protocol.input_eos,
        )

    def losses(self) -> dict[str, dict[str, int]]:
        """Rows by the number of demonstrations they lost, of each run that has some.

        They are those of the first view.
        """
        first = self.measurer.views[0]
        found = {
            run.name: self.prompted[run.name].losses(
                self.measurer.templates(run, first)
            )
            for run in self.runs
            if run.split
        }
        return {name: losses for name, losses in found.items() if losses}

    def _dropped_notes(self) -> list[str]:
        """How many rows do not hold all demonstrations, in one line for all runs."""
        lost: collections.Counter[int] = collections.Counter()
        for losses in self.losses().values():
            lost += collections.Counter({int(n): c for n, c in losses.items()})
        if not lost:
            return []
        total = sum(len(run.scored_rows) for run in self.runs)
        limit = self.splits.train.tokens.feature_lengths["inputs"]
        each = ", ".join(
            f"{count} lost {number}" for number, count in sorted(lost.items())
        )
        return [
            f"{lost.total()} of {total} scored rows, over all runs, do not hold all "
            f"{self.prompt.num_demonstrations} demonstrations within {limit} tokens: "
            f"{each}; TASK_FEATURE_LENGTHS['inputs'] is the limit"
        ]

    def execute(self, path: pathlib.Path, progress: Progress) -> results.Result:
        """Does what is not done yet of all runs, and sums up.

        Args:
            path: The directory, locked and of these settings.
            progress: Where notes and accuracies are reported.
        """
        records = directory.Records(path / directory.RECORDS)
        finished = (path / directory.FINISHED).exists()
        todo = [run for run in self.runs if run.name not in records]
        if not todo:
            progress.say(f"{path}: all {len(self.runs)} runs are done already")
        for note in self._notes if todo else ():
            progress.say(f"note: {note}")
        for run in self.runs:
            self.measurer.baselines(run, path, records, progress)
            if run.name not in records:
                self._do_run(run, path / "runs" / run.name, records, progress)
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
    ) -> None:
        """Scores and, as the last thing, records one run."""
        start = time.monotonic()
        path.mkdir(parents=True, exist_ok=True)
        if run.split:
            directory.write_text(path / "first_input.txt", self._first_input(run))
        record = self.measurer.measure(
            run,
            models.T5(self.base.config, None),
            self.base.packed,
            path,
            records,
            {
                "num_train_rows": self.prompt.num_demonstrations,
                "demonstrations": list(self.shown[run.name]),
            },
            kind=KIND,
            prompted=self.prompted.get(run.name),
        )
        record["wall_time_s"] = round(time.monotonic() - start, 3)
        if numbers := record["scores"]:
            progress.say(f"{run.name}: accuracy {numbers['accuracy']:.3f}")
        records.append(record)

    def _first_input(self, run: plan.Run) -> str:
        """What the model reads of a run's first row, as text."""
        template = self.measurer.templates(run, self.measurer.views[0])[0]
        num_dropped = self.prompted[run.name].num_dropped[template, 0]
        train = self.splits.train.rendered[template]
        rendered = self.measurer.split_of(run).rendered[template]
        shown = [train[row] for row in self.shown[run.name][num_dropped:]]
        return self.prompt.render(shown, rendered[run.scored_rows[0]].inputs)

    def _sum_up(self, path: pathlib.Path, records: directory.Records) -> results.Result:
        predictions = self._predictions(path)
        directory.write_predictions(path / "predictions.csv", predictions)
        numbers = {
            "task": self.spec.name,
            "base": self.base.source,
            "variant": self.settings["variant"],
            "protocol": "test rows" if self.splits.test else "cross-validation",
            "seeds": list(self.protocol.seeds),
            "num_shots": self._num_shots,
            "num_demonstrations": self.prompt.num_demonstrations,
            **summary.summarize(
                self.measurer.summarized(records),
                choices=self.splits.train.tokens.class_names,
                kinds=summary.TEXT_PROMPT_KINDS,
            ),
            "counts": {**self.splits.counts(), "num_dropped": self.losses()},
            "config_hash": self.config_hash,
            "versions": results.versions(),
        }
        directory.write_json(path / "summary.json", numbers)
        return results.Result(
            summary=numbers,
            predictions=predictions,
            records=records.all(),
            directory=path,
        )

    def _predictions(self, path: pathlib.Path) -> list[prepared.Prediction]:
        """Of the rows to predict, by the kept run's prompt, else of those scored."""
        split = self.splits.predict
        if split is None:
            first = self.protocol.seeds[0]
            runs = [run for run in self.runs if run.split and run.seed == first]
            return self.measurer.predictions(path, runs)
        rows = np.arange(split.tokens.num_rows)
        kept = plan.kept(self.runs)
        prompted = self._behind(kept, split, rows, [np.zeros(len(rows), int)])
        return scoring.score_split(
            self.base,
            dataclasses.replace(split, tokens=prompted.tokens),
            adapter=None,
            batch_size=self.protocol.eval_batch_size,
            normalization=self.protocol.normalization,
        )


def _variant(num_demonstrations: int) -> str:
    plural = "" if num_demonstrations == 1 else "s"
    return f"text prompt, {num_demonstrations} example{plural}"
