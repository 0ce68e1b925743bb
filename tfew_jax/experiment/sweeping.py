"""A grid of runs: every method at every rate on every task, with several seeds.

    runs/TASK/LINE/lr-RATE/    an ordinary run of `train`
    sweep.json                 the scores of all, written last, with summary.json

Runs of whatever point of the grid train in one program where they can: see `together`.
Started again, a sweep does what is not done yet.
"""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfew_jax.data import tasks as tasks_lib
from tfew_jax.experiment import (
    conditions,
    execution,
    jobs,
    opening,
    plan,
    study,
    together,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.conditions import Line, PathLike, folder
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.trials import Sweep, Trial

RUNS = "runs"


def sweep(
    *,
    out: PathLike,
    base: Base,
    tasks: Sequence[tasks_lib.Task | tasks_lib.MakeTask | str],
    lines: Sequence[Line],
    learning_rates: Sequence[float] | None = None,
    seeds: Sequence[int] = jobs.SEEDS,
    num_shots: int | None = None,
    num_folds: int = 0,
    lengths: Mapping[str, int] | None = None,
    eval_batch_size: int = 32,
    normalization: str = "mean",
    eval_templates: str | int | Sequence[str | int] = "first",
    input_eos: bool = True,
    target_prefix: str = "",
    checkpoint_period: int = 200,
    keep_last: int = 2,
    max_together: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    on_start: opening.OnStart | None = None,
) -> Sweep:
    """Trains and scores every line at every rate on every task with every seed.

    A run whose loss is not finite, as a high rate makes it, is told; the others are
    done all the same.

    Args:
        out: Directory of the sweep; one that was stopped goes on.
        base: The frozen model.
        tasks: Tasks, what makes them for a vocabulary, or names of embedded ones.
        lines: What is tuned; prompts of several starts are several lines.
        learning_rates: Peak rates; None for that of each line's recipe.
        seeds: One run, or one cross-validation, each.
        num_shots: See `train`, as of the following ones.
        num_folds: Folds where a task has no test rows.
        lengths: Most tokens of "inputs" and "targets".
        eval_batch_size: Rows that are scored at once.
        normalization: "mean" or "sum" over a choice's tokens.
        eval_templates: By which templates rows are scored.
        input_eos: Whether inputs end with the end of sequence.
        target_prefix: Before every choice.
        checkpoint_period: Steps between checkpoints of a run.
        keep_last: Checkpoints that stay beside the best.
        max_together: Runs that train at once, of whatever experiments.
        overwrite: Replace an earlier sweep instead of continuing it.
        quiet: Show no progress.
        on_start: Called with the directory once it is ours.

    Raises:
        ValueError: If something given cannot work, or the directory holds another
            sweep. All rows are prepared before anything compiles.
    """
    if checkpoint_period < 1:
        raise ValueError(f"checkpoint_period must be positive, got {checkpoint_period}")
    together.check_most(max_together)
    protocol = plan.Protocol(
        seeds=tuple(seeds),
        num_shots=num_shots,
        num_folds=num_folds,
        lengths=lengths,
        eval_batch_size=eval_batch_size,
        normalization=normalization,
        eval_templates=eval_templates,
        input_eos=input_eos,
        target_prefix=target_prefix,
    )
    made = [jobs.make_task(task, base, lengths) for task in tasks]
    points = _points(base, made, _at_rates(lines, learning_rates), protocol)
    settings = {
        "kind": "sweep",
        **{f"point.{point.place}": point.study.config_hash for point in points},
    }
    with opening.open_run(
        out, settings=settings, overwrite=overwrite, quiet=quiet, on_start=on_start
    ) as (path, progress):
        trials = _execute(
            points,
            path,
            progress,
            checkpoint_period=checkpoint_period,
            keep_last=keep_last,
            max_together=max_together,
        )
        found = Sweep(trials=tuple(trials), directory=path)
        found.save()
        return found


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Point:
    """One experiment of the grid."""

    task: str
    line: Line
    study: study.Study

    @property
    def rate(self) -> float:
        return self.line.recipe.learning_rate

    @property
    def place(self) -> str:
        """Its directory in that of the sweep."""
        return "/".join((RUNS, folder(self.task), folder(self.line.name), self._rate))

    @property
    def title(self) -> str:
        return f"{self.task}, {self.line.name}, {self._rate}: "

    @property
    def _rate(self) -> str:
        return f"lr-{float(self.rate)!r}"


def _at_rates(lines: Sequence[Line], rates: Sequence[float] | None) -> list[Line]:
    """Every line at every rate.

    Raises:
        ValueError: If there is no line or rate, or one stands twice.
    """
    conditions.check_names("line", [line.name for line in lines])
    if rates is None:
        return list(lines)
    if not rates:
        raise ValueError("there is no learning rate to sweep over; give at least one")
    rates = [float(rate) for rate in rates]
    if twice := sorted({rate for rate in rates if rates.count(rate) > 1}):
        raise ValueError(f"learning rate {twice[0]} stands twice in {rates}")
    return [
        dataclasses.replace(
            line, recipe=dataclasses.replace(line.recipe, learning_rate=rate)
        )
        for line, rate in itertools.product(lines, rates)
    ]


def _points(
    base: Base,
    made: Sequence[tasks_lib.Task],
    lines: Sequence[Line],
    protocol: plan.Protocol,
) -> list[_Point]:
    """The grid; what experiments on one task have in common is made once.

    Raises:
        ValueError: If there is no task, one cannot be scored, or rows, templates,
            seeds or sizes cannot make an experiment.
    """
    conditions.check_names("task", [task.name for task in made])
    points = []
    for task in made:
        if task.test is None and not protocol.num_folds:
            raise ValueError(
                f"task {task.name} has no test rows to score; give some, or num_folds"
            )
        splits = study.prepare_splits(base, task, task.predict, protocol)
        frozen_scores: dict[str, Any] = {}
        for line in lines:
            of_line = study.Study(
                base,
                task,
                predict_rows=task.predict,
                method=line.made,
                recipe=line.recipe,
                protocol=protocol,
                variant=f"{line.name}, rate {line.recipe.learning_rate:g}",
                splits=splits,
                frozen_scores=frozen_scores,
            )
            points.append(_Point(task=task.name, line=line, study=of_line))
    return points


def _execute(
    points: Sequence[_Point],
    path: pathlib.Path,
    progress: Progress,
    **settings: Any,
) -> list[Trial]:
    """Does what is not done yet, and sums up each point."""
    with contextlib.ExitStack() as stack:
        executions = []
        for point in points:
            own, log = stack.enter_context(
                opening.open_run(
                    path / point.place,
                    settings=point.study.settings,
                    overwrite=False,
                    quiet=True,
                    on_start=None,
                )
            )
            executions.append(
                execution.Execution(point.study, own, log, title=point.title)
            )
        _tell(executions, path, progress)
        failures = execution.execute(executions, progress, goes_on=True, **settings)
        return [
            _trial(
                point,
                some,
                {
                    name.removeprefix(point.title): why
                    for name, why in failures.items()
                    if name.startswith(point.title)
                },
            )
            for point, some in zip(points, executions, strict=True)
        ]


def _tell(
    executions: Sequence[execution.Execution], path: pathlib.Path, progress: Progress
) -> None:
    """Says what a user should know before the runs."""
    if all(some.is_done for some in executions):
        number = sum(len(some.study.runs) for some in executions)
        progress.say(f"{path}: all {number} runs are done already")
        return
    for note in dict.fromkeys(n for some in executions for n in some.study.notes()):
        progress.say(f"note: {note}")


def _trial(
    point: _Point, some: execution.Execution, failures: Mapping[str, str]
) -> Trial:
    numbers = {} if failures else some.finish().summary
    return Trial(
        task=point.task,
        line=point.line.name,
        learning_rate=point.rate,
        accuracy=numbers.get("tuned"),
        macro_f1=numbers["macro_f1"]["tuned"] if numbers else None,
        zero_shot=numbers.get("zero_shot"),
        num_trainable=point.line.made.num_parameters(point.study.base.config),
        failures=dict(failures),
        run=point.place,
    )
