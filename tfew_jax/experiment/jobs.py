"""What the command line and Python users call: `fewshot`, `train`, `text_prompt`."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from tfew_jax import checkpoint, peft
from tfew_jax.data import demonstrations, sources, tasks, tokenized
from tfew_jax.data import fewshot as fewshot_data
from tfew_jax.experiment import (
    applying,
    directory,
    execution,
    opening,
    plan,
    prepared,
    results,
    together,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.prompting import PromptStudy
from tfew_jax.experiment.study import Study
from tfew_jax.experiment.tuning import Recipe

SEEDS = tasks.SEEDS
PathLike = str | os.PathLike[str]
OnStart = opening.OnStart
_Result = TypeVar("_Result", bound=results.Result)


def fewshot(
    base: Base,
    rows: prepared.Rows,
    *,
    template: str | Sequence[str],
    choices: str | Sequence[str],
    label: str | None = None,
    test_rows: prepared.Rows | None = None,
    predict_rows: prepared.Rows | None = None,
    num_shots: int | None = None,
    seeds: Sequence[int] | None = None,
    num_folds: int = 5,
    method: str | peft.PeftMethod = "ia3",
    num_steps: int = 1000,
    batch_size: int = 8,
    learning_rate: float | None = None,
    recipe: Recipe | None = None,
    out: PathLike | None = None,
    max_together: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> results.FewshotResult:
    """Tunes a frozen model on a few labelled rows and measures it honestly.

    With `test_rows`, every seed draws its own rows and is scored on them. Without,
    stratified cross-validation gives the accuracy, and a last adapter is trained on
    all rows. Rows that an adapter was trained on never count for it.

    Args:
        base: From `load_base`.
        rows: Labelled rows: mappings from column to value.
        template: `input ||| target` or the input alone, as jinja2; of several a
            random one renders each visit of a row, the first one scores.
        choices: `bad ||| good`, or a list of them.
        label: Column with the index or the text of the right choice.
        test_rows: Labelled rows to score.
        predict_rows: Rows to predict.
        num_shots: Rows to draw for each seed; None takes all.
        seeds: T-Few's five with `test_rows`, else 0, unless given.
        num_folds: Of cross-validation; 0 scores nothing.
        method: A PEFT method or its name.
        num_steps: Updates of each run.
        batch_size: Inputs a step.
        learning_rate: Peak rate; None for the method's, 3e-3 for (IA)^3.
        recipe: Everything about training, instead of the three arguments before it;
            None for the method's.
        out: Directory for adapter, predictions and records; a run stopped there is
            continued. None keeps the result in memory only.
        max_together: See `train`.
        overwrite: Replace an earlier run in `out`.
        quiet: Show no progress.

    Returns:
        Adapter, summary, predictions and records.

    Raises:
        ValueError: If something given cannot work; before anything compiles.
    """
    if seeds is None:
        seeds = (0,) if test_rows is None else SEEDS
    method = peft.get(method)() if isinstance(method, str) else method
    recipe = recipe or Recipe.for_method(
        method,
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    task = tasks.Task(
        spec=fewshot_data.TaskSpec(
            templates=template, choices=choices, label_column=label
        ),
        train=rows,
        test=test_rows,
    )
    return train(
        model_dir=out,
        base=base,
        task=task,
        predict_rows=predict_rows,
        method=method,
        recipe=recipe,
        seeds=seeds,
        num_shots=num_shots,
        num_folds=num_folds,
        max_together=max_together,
        overwrite=overwrite,
        quiet=quiet,
    )


def train(
    *,
    model_dir: PathLike | None,
    base: Base,
    task: tasks.Task | tasks.MakeTask | str,
    predict_rows: prepared.Rows | PathLike | None = None,
    method: peft.PeftMethod | str = "ia3",
    recipe: Recipe | None = None,
    seeds: Sequence[int] = (0,),
    num_shots: int | None = None,
    num_folds: int = 0,
    lengths: Mapping[str, int] | None = None,
    eval_batch_size: int = 32,
    normalization: str = "mean",
    eval_templates: str | int | Sequence[str | int] = "first",
    input_eos: bool = True,
    target_prefix: str = "",
    initial_adapter: checkpoint.Adapter | PathLike | None = None,
    variant: str | None = None,
    checkpoint_period: int = 200,
    keep_last: int = 2,
    max_together: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    on_start: OnStart | None = None,
) -> results.FewshotResult:
    """Trains and scores all runs of an experiment; `fewshot` in full.

    Args:
        model_dir: Directory of the experiment; None keeps nothing on the disk.
        base: The frozen model.
        task: A task, what makes it for a vocabulary, or the name of an embedded one.
        predict_rows: Rows to predict, or their file.
        method: A PEFT method or its name.
        recipe: How an adapter is trained; None for the method's.
        seeds: One run, or one cross-validation, each.
        num_shots: Rows to draw for each seed; None takes all.
        num_folds: Folds where the task has no test rows; 0 for no scores.
        lengths: Most tokens of "inputs" and "targets".
        eval_batch_size: Rows that are scored at once.
        normalization: "mean" or "sum" over a choice's tokens.
        eval_templates: By which templates rows are scored: "first", "random" for each
            row, "all", the index of one, or several of these, each trained run being
            scored by all; summaries and predictions are of the first that is named.
        input_eos: Whether inputs end with the end of sequence.
        target_prefix: Before every choice; "<extra_id_0>" for a model that has seen
            nothing but span corruption.
        initial_adapter: Adapter that all runs start from, as T-Few's pre-trained
            vectors.
        variant: What reports call these runs; None for the method's name.
        checkpoint_period: Steps between checkpoints of a run.
        keep_last: Checkpoints that stay beside the best.
        max_together: Runs that train at once; None for as many as memory allows on an
            accelerator, and one on a CPU.
        overwrite: Replace an earlier run instead of continuing it.
        quiet: Show no progress.
        on_start: Called with the directory once it is ours.

    Raises:
        ValueError: If something given cannot work; before anything compiles.
    """
    if checkpoint_period < 1:
        raise ValueError(f"checkpoint_period must be positive, got {checkpoint_period}")
    together.check_most(max_together)
    task, predict_rows = _task_and_rows(task, predict_rows, base, lengths)
    if initial_adapter is not None:
        initial_adapter = applying.load_adapter(initial_adapter, base)
    method = peft.get(method)() if isinstance(method, str) else method
    study = Study(
        base,
        task,
        predict_rows=predict_rows,
        method=method,
        recipe=recipe or Recipe.for_method(method),
        initial=initial_adapter,
        variant=variant,
        protocol=plan.Protocol(
            seeds=tuple(seeds),
            num_shots=num_shots,
            num_folds=num_folds,
            lengths=lengths,
            eval_batch_size=eval_batch_size,
            normalization=normalization,
            eval_templates=eval_templates,
            input_eos=input_eos,
            target_prefix=target_prefix,
        ),
    )
    execute = functools.partial(
        execution.execute_study,
        study,
        checkpoint_period=None if model_dir is None else checkpoint_period,
        keep_last=keep_last,
        max_together=max_together,
    )
    return _execute(
        study,
        execute,
        task,
        model_dir,
        overwrite=overwrite,
        quiet=quiet,
        on_start=on_start,
    )


def text_prompt(
    *,
    model_dir: PathLike | None,
    base: Base,
    task: tasks.Task | tasks.MakeTask | str,
    num_demonstrations: int,
    separator: str = " ",
    joiner: str = "\n\n",
    predict_rows: prepared.Rows | PathLike | None = None,
    seeds: Sequence[int] = (0,),
    num_shots: int | None = None,
    num_folds: int = 0,
    lengths: Mapping[str, int] | None = None,
    eval_batch_size: int = 32,
    normalization: str = "mean",
    eval_templates: str | int | Sequence[str | int] = "first",
    input_eos: bool = True,
    target_prefix: str = "",
    variant: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    on_start: OnStart | None = None,
) -> results.Result:
    """Scores the frozen model behind labelled rows in its input; trains nothing.

    Every seed draws its rows as `train` does, and of these the ones that are shown:
    as many of each class as can be. Rows that are scored, and their copies, are never
    shown. Where an input would be too long, the demonstrations in front are left out.

    Args:
        model_dir: Directory of the experiment; None keeps nothing on the disk.
        base: The frozen model.
        task: As in `train`.
        num_demonstrations: Rows that are shown; 0 for none.
        separator: Between the input of a demonstration and its right choice.
        joiner: Behind each demonstration.
        predict_rows: Rows to predict, or their file.
        seeds: One run, or one cross-validation, each.
        num_shots: Rows that each seed draws, to show some of them; None takes all.
        num_folds: Folds where the task has no test rows; 0 for no scores.
        lengths: Most tokens of "inputs", demonstrations included, and of "targets".
        eval_batch_size: Rows that are scored at once.
        normalization: "mean" or "sum" over a choice's tokens.
        eval_templates: As in `train`; demonstrations have the template of the row.
        input_eos: Whether inputs end with the end of sequence.
        target_prefix: Before every choice, but not in demonstrations.
        variant: What reports call these runs; None for "text prompt, N examples".
        overwrite: Replace an earlier run instead of continuing it.
        quiet: Show no progress.
        on_start: Called with the directory once it is ours.

    Raises:
        ValueError: If something given cannot work; before anything compiles.
    """
    task, predict_rows = _task_and_rows(task, predict_rows, base, lengths)
    study = PromptStudy(
        base,
        task,
        predict_rows=predict_rows,
        prompt=demonstrations.TextPrompt(
            num_demonstrations=num_demonstrations, separator=separator, joiner=joiner
        ),
        protocol=plan.Protocol(
            seeds=tuple(seeds),
            num_shots=num_shots,
            num_folds=num_folds,
            lengths=lengths,
            eval_batch_size=eval_batch_size,
            normalization=normalization,
            eval_templates=eval_templates,
            input_eos=input_eos,
            target_prefix=target_prefix,
        ),
        variant=variant,
    )
    return _execute(
        study,
        study.execute,
        task,
        model_dir,
        overwrite=overwrite,
        quiet=quiet,
        on_start=on_start,
    )


def make_task(
    task: tasks.Task | tasks.MakeTask | str,
    base: Base,
    lengths: Mapping[str, int] | None,
) -> tasks.Task:
    """The task itself, of a name or of what makes it for a vocabulary.

    Raises:
        ValueError: If no task has that name, or its rows cannot be read.
    """
    if isinstance(task, str):
        return tasks.get(task)
    if callable(task):
        return task(base.tokenizer, tokenized.limits_of(lengths)["inputs"])
    return task


def _task_and_rows(
    task: tasks.Task | tasks.MakeTask | str,
    predict_rows: prepared.Rows | PathLike | None,
    base: Base,
    lengths: Mapping[str, int] | None,
) -> tuple[tasks.Task, prepared.Rows | None]:
    """The task, made if need be, and the rows to predict, read if need be."""
    task = make_task(task, base, lengths)
    if isinstance(predict_rows, str | os.PathLike):
        predict_rows = sources.load_rows(predict_rows)
    return task, task.predict if predict_rows is None else predict_rows


def _execute(
    study: Study | PromptStudy,
    execute: Callable[[pathlib.Path, Progress], _Result],
    task: tasks.Task,
    model_dir: PathLike | None,
    *,
    overwrite: bool,
    quiet: bool,
    on_start: OnStart | None,
) -> _Result:
    """Runs a study in its directory, or in one that is gone afterwards."""
    kept = model_dir is not None
    with opening.open_run(
        model_dir,
        settings=study.settings,
        overwrite=overwrite,
        quiet=quiet,
        on_start=on_start,
    ) as (path, progress):
        result = execute(path, progress)
        if task.submission is not None and task.predict is study.predict_rows:
            labels = [prediction.label for prediction in result.predictions]
            (path / "submission").mkdir(exist_ok=True)
            directory.write_text(
                path / "submission" / "predictions.csv", task.submission(labels)
            )
    return result if kept else dataclasses.replace(result, directory=None)
