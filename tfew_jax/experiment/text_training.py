"""Training on T5's text-to-text tasks by the likelihood of their targets.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Section 3: prompt tuning, or
model tuning, of one task; a validation every so many steps, by which the best one is
kept; and Section 5, other sets that the best one is measured on as it is.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfew_jax import checkpoint, peft
from tfew_jax.data import batching, text_to_text
from tfew_jax.experiment import (
    applying,
    directory,
    opening,
    results,
    text_measuring,
    text_run,
    text_summary,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.text_measuring import Questions
from tfew_jax.experiment.tuning import Recipe, Tuner

PathLike = str | os.PathLike[str]
EvalTask = str | Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextResult:
    """What training on a text-to-text task leaves.

    Attributes:
        adapter: The best one of the first seed, as in `adapter/`.
        summary: As in `summary.json`.
        records: As in `results.jsonl`: the validations and the best adapters' scores.
        directory: Where all this lies, or None.
    """

    adapter: checkpoint.Adapter
    summary: dict[str, Any]
    records: list[dict[str, Any]]
    directory: pathlib.Path | None


def train_text(
    *,
    model_dir: PathLike | None,
    base: Base,
    task: str,
    data_dir: PathLike,
    method: peft.PeftMethod | str = "ia3",
    recipe: Recipe | None = None,
    seeds: Sequence[int] = (0,),
    validation: str | None = "validation",
    eval_period: int = 1000,
    patience: int | None = None,
    max_eval_rows: int | None = None,
    eval_batch_size: int = 32,
    eval_tasks: Sequence[EvalTask] = (),
    task_word: bool = True,
    lengths: Mapping[str, int] | None = None,
    input_eos: bool = True,
    target_prefix: str = "",
    initial_adapter: checkpoint.Adapter | PathLike | None = None,
    variant: str | None = None,
    checkpoint_period: int = 1000,
    keep_last: int = 2,
    overwrite: bool = False,
    quiet: bool = False,
    on_start: opening.OnStart | None = None,
) -> TextResult:
    """Trains on the `train` split of a task and keeps the best step of each run.

    A validation lets the model write, the likeliest token each time, and takes the mean
    of the task's main metrics (`text_answers.MAIN_METRICS`); of equal ones the first is
    the best. One before any update is recorded for comparison, and never kept.

    Args:
        model_dir: Directory of the runs; ones that were stopped there go on. None keeps
            nothing on the disk.
        base: The frozen model.
        task: A name of `text_to_text.names()`, or of `text_rows.names()` with a slash.
        data_dir: A source of its rows, see `text_rows.load`.
        method: A PEFT method or its name; "full" for model tuning.
        recipe: How; its `loss` is the likelihood alone, whatever it says.
        seeds: One run each.
        validation: Split that is validated on; None for none, and the last step kept.
        eval_period: Updates between validations; the last update has one, too.
        patience: Validations without improvement after which a run stops; None for
            none, as in the paper.
        max_eval_rows: Examples of a validation, a fixed draw, or a few more, as those
            of a question stay together; None for all. The best adapter is always
            measured on all.
        eval_batch_size: Rows that are answered at once.
        eval_tasks: What the best adapter is measured on besides: a set, for its
            validation split, or set and split, or these and the source of its rows.
            Answers are read as `text_transfer` says.
        task_word: Whether inputs begin with the word that names the task; the paper's
            have none for a prompt.
        lengths: Most tokens of "inputs" and of "targets", which are the outputs.
        input_eos: Whether inputs end with the end of sequence.
        target_prefix: Before every target, and taken off outputs; "<extra_id_0>" for a
            model that has seen nothing but span corruption.
        initial_adapter: Adapter that all runs start from.
        variant: What reports call these runs; None for the method's name.
        checkpoint_period: Updates between checkpoints, from which a run goes on.
        keep_last: Checkpoints that stay.
        overwrite: Replace an earlier run instead of continuing it.
        quiet: Show no progress.
        on_start: Called with the directory once it is ours.

    Raises:
        ValueError: If something given cannot work; before anything compiles.
    """
    if checkpoint_period < 1:
        raise ValueError(f"checkpoint_period must be positive, got {checkpoint_period}")
    if validation is None:
        _check_without_validation(patience, eval_tasks)
    protocol = text_run.TextProtocol(
        seeds=tuple(seeds),
        eval_period=eval_period,
        patience=patience,
        max_eval_rows=max_eval_rows,
        eval_batch_size=eval_batch_size,
    )
    form = text_measuring.Format(
        task_word=task_word,
        lengths=lengths,
        input_eos=input_eos,
        target_prefix=target_prefix,
    )
    method = peft.get(method)() if isinstance(method, str) else method
    recipe = (recipe or Recipe.for_method(method)).by_likelihood()
    if initial_adapter is not None:
        initial_adapter = applying.load_adapter(initial_adapter, base)
    labels = text_to_text.get(task.partition("/")[0]).class_labels
    tuner = Tuner(base, method, recipe, initial=initial_adapter, class_labels=labels)
    examples = text_measuring.load_examples(
        task, "train", os.fspath(data_dir), task_word=task_word, train=True
    )
    asked = [] if validation is None else [(task, validation)]
    questions = _load_questions(base, task, [*asked, *eval_tasks], data_dir, form)
    setup = text_run.Setup(
        task=task,
        examples=examples,
        validation=questions[0] if asked else None,
        others=questions[len(asked) :],
        form=form,
        tuner=tuner,
        protocol=protocol,
        variant=variant or method.name,
    )
    batches = _make_batches(setup)
    kept = model_dir is not None
    with opening.open_run(
        model_dir,
        settings=setup.settings,
        overwrite=overwrite,
        quiet=quiet,
        on_start=on_start,
    ) as (path, progress):
        result = _execute(
            setup,
            batches,
            path,
            progress,
            checkpoint_period=checkpoint_period if kept else None,
            keep_last=keep_last,
        )
    return result if kept else dataclasses.replace(result, directory=None)


def _check_without_validation(
    patience: int | None, eval_tasks: Sequence[EvalTask]
) -> None:
    if patience is not None:
        raise ValueError(
            f"patience={patience} counts validations, and there are none without a "
            "split to validate on; name one, or leave patience None"
        )
    if not eval_tasks:
        raise ValueError(
            "nothing would be measured: give a split to validate on, or eval_tasks"
        )


def _parts(given: EvalTask, data_dir: str) -> tuple[str, str, str]:
    """Set, split and source of what is to be measured.

    Raises:
        ValueError: If it is none of the three forms.
    """
    parts = [given] if isinstance(given, str) else [*given]
    if not 1 <= len(parts) <= 3 or not all(isinstance(part, str) for part in parts):
        raise ValueError(
            f"eval_tasks hold {given!r}; each is a set, a set and a split, or these "
            "and a directory"
        )
    name, split, place = [*parts, *("", "validation", data_dir)[len(parts) :]]
    return name, split, place


def _load_questions(
    base: Base,
    task: str,
    asked: Sequence[EvalTask],
    data_dir: PathLike,
    form: text_measuring.Format,
) -> list[Questions]:
    """What a model of the task is measured on.

    Raises:
        ValueError: If something asked for is not there, has no labels, cannot be read
            from such a model, or is named twice.
    """
    questions = [
        text_measuring.load_questions(
            base, *_parts(given, os.fspath(data_dir)), form=form, trained_on=task
        )
        for given in asked
    ]
    labels = [each.label for each in questions]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{label} is to be measured twice; name each split once")
    return questions


def _make_batches(setup: text_run.Setup) -> dict[int, batching.TrainBatches]:
    """What the run of each seed is trained on.

    Raises:
        ValueError: If there are fewer examples than a batch takes, or the vocabulary
            cannot spell a target.
    """
    base, size = setup.tuner.base, setup.tuner.recipe.batch_size
    tokens = text_measuring.training_tokens(base, setup.examples, setup.form)
    return {
        seed: batching.TrainBatches(tokens, size, seed) for seed in setup.protocol.seeds
    }


def _execute(
    setup: text_run.Setup,
    batches: Mapping[int, batching.TrainBatches],
    path: pathlib.Path,
    progress: Progress,
    *,
    checkpoint_period: int | None,
    keep_last: int,
) -> TextResult:
    """Does what is not done yet of all runs, and sums up."""
    records = directory.Records(path / directory.RECORDS)
    recipe, method, base = setup.tuner.recipe, setup.tuner.method, setup.tuner.base
    names = {seed: f"seed-{seed}" for seed in setup.protocol.seeds}
    todo = [seed for seed, name in names.items() if name not in records]
    if not todo:
        progress.say(f"{path}: all {len(names)} runs are done already")
    if todo:
        notes = batches[todo[0]].tokenized.report().notes()
        for note in [*setup.tuner.notes, *notes]:
            progress.say(f"note: {note}")
    for number, seed in enumerate(todo):
        progress.plan((len(todo) - number) * recipe.num_steps)
        run = text_run.TextRun(
            setup,
            seed,
            path / "runs" / names[seed],
            records=records,
            progress=progress,
        )
        run.do(batches[seed], checkpoint_period=checkpoint_period, keep_last=keep_last)
    first = path / "runs" / names[setup.protocol.seeds[0]]
    adapter = checkpoint.load_adapter(first / "adapter", base.config)
    adapter.save(path / "adapter")
    summary = {
        "task": setup.task,
        "base": base.source,
        "method": method.name,
        "variant": setup.variant,
        "seeds": list(setup.protocol.seeds),
        "num_steps": recipe.num_steps,
        "num_parameters": method.num_parameters(base.config),
        "num_train_examples": len(setup.examples),
        "epochs": recipe.num_steps * recipe.batch_size / len(setup.examples),
        **text_summary.summarize(records.all()),
        "config_hash": setup.config_hash,
        "versions": results.versions(),
    }
    directory.write_json(path / "summary.json", summary)
    if not (path / directory.FINISHED).exists():
        directory.write_text(path / directory.FINISHED, f"{setup.config_hash}\n")
    return TextResult(
        adapter=adapter,
        summary=json.loads(json.dumps(summary)),
        records=records.all(),
        directory=path,
    )
