"""What the command line and Python users call with an adapter: predict and score."""

import logging
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfew_jax import checkpoint, interop
from tfew_jax.data import fewshot, sources, tasks, tokenized
from tfew_jax.experiment import base as base_lib
from tfew_jax.experiment import directory, prepared, results, scoring, summary
from tfew_jax.experiment.base import Base

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
OnStart = Callable[[pathlib.Path], None]


def predict(
    base: Base,
    adapter: checkpoint.Adapter | PathLike,
    rows: prepared.Rows,
    *,
    batch_size: int = 32,
) -> list[prepared.Prediction]:
    """Predicts rows with the template and choices that the adapter was trained for.

    Args:
        base: The model that the adapter belongs to.
        adapter: The adapter or its directory.
        rows: Mappings from column to value; labels are not read.
        batch_size: Rows at once.

    Raises:
        ValueError: If the adapter does not fit the model, carries no task, or a row
            cannot be rendered.
    """
    adapter = load_adapter(adapter, base)
    carried = adapter_task(adapter)
    split = prepared.prepare(
        rows,
        carried.spec,
        base.tokenizer,
        lengths=carried.lengths,
        with_labels=False,
        input_eos=carried.input_eos,
        target_prefix=carried.target_prefix,
    )
    return scoring.score_split(
        base,
        split,
        adapter=adapter,
        batch_size=batch_size,
        normalization=carried.normalization,
    )


def score_rows(
    *,
    output_dir: PathLike,
    base: Base,
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapter: checkpoint.Adapter | PathLike | None = None,
    lengths: Mapping[str, int] | None = None,
    batch_size: int = 32,
    normalization: str | None = None,
    on_start: OnStart | None = None,
) -> dict[str, Any]:
    """Scores labelled rows; writes predictions.csv and metrics.json.

    Rows that the adapter was trained on are predicted but not scored; their number is
    `num_trained_on`.

    Args:
        output_dir: Where the files go; not the directory of a run.
        base: The model.
        task: A task with test rows, the name of an embedded one, or a file of
            labelled rows, which the adapter's template renders.
        adapter: The adapter, its directory, or that of a finished run; None for the
            frozen model alone.
        lengths: Most tokens of "inputs" and "targets"; None for the adapter's.
        batch_size: Rows at once.
        normalization: "mean" or "sum" over tokens; None for the adapter's.
        on_start: Called with the directory before anything compiles.

    Raises:
        ValueError: If adapter, model and rows do not fit together, or the adapter was
            trained on all rows.
    """
    adapter = None if adapter is None else load_adapter(adapter, base)
    path, predictions, split = _predict(
        base,
        task,
        adapter,
        lengths,
        batch_size,
        normalization,
        with_labels=True,
        output_dir=output_dir,
        on_start=on_start,
    )
    trained = set() if adapter is None else set(adapter.metadata.get("train_rows", ()))
    digests = split.digests
    scored = [p for p in predictions if digests[p.row] not in trained]
    if not scored:
        raise ValueError(
            f"the adapter was trained on all {len(predictions)} rows, so that their "
            "accuracy says nothing; give rows it has not seen"
        )
    labels = split.labels[[p.row for p in scored]]
    best = np.array([p.label for p in scored])
    numbers = {
        **summary.scores(best, labels, num_choices=split.tokens.num_choices),
        "num_rows": len(scored),
        "num_trained_on": len(predictions) - len(scored),
        "versions": results.versions(),
    }
    directory.write_json(path / "metrics.json", numbers)
    return numbers


def predict_rows(
    *,
    output_dir: PathLike,
    base: Base,
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapter: checkpoint.Adapter | PathLike | None = None,
    lengths: Mapping[str, int] | None = None,
    batch_size: int = 32,
    normalization: str | None = None,
    on_start: OnStart | None = None,
) -> pathlib.Path:
    """Predicts rows, with labels or without; writes predictions.csv.

    The arguments are those of `score_rows`.

    Returns:
        The path of predictions.csv.

    Raises:
        ValueError: If adapter, model and rows do not fit together.
    """
    path, _, _ = _predict(
        base,
        task,
        None if adapter is None else load_adapter(adapter, base),
        lengths,
        batch_size,
        normalization,
        with_labels=False,
        output_dir=output_dir,
        on_start=on_start,
    )
    return path / "predictions.csv"


def _predict(
    base: Base,
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapter: checkpoint.Adapter | None,
    lengths: Mapping[str, int] | None,
    batch_size: int,
    normalization: str | None,
    *,
    with_labels: bool,
    output_dir: PathLike,
    on_start: OnStart | None,
) -> tuple[pathlib.Path, list[prepared.Prediction], prepared.Split]:
    split, normalization = prepare_rows(
        base, task, adapter, lengths, normalization, with_labels=with_labels
    )
    path = output_directory(output_dir, on_start)
    predictions = scoring.score_split(
        base,
        split,
        adapter=adapter,
        batch_size=batch_size,
        normalization=normalization,
    )
    directory.write_predictions(path / "predictions.csv", predictions)
    return path, predictions, split


def prepare_rows(
    base: Base,
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapter: checkpoint.Adapter | None,
    lengths: Mapping[str, int] | None,
    normalization: str | None,
    *,
    with_labels: bool,
) -> tuple[prepared.Split, str]:
    """The rows to apply an adapter to, spelled, and how their scores are normalized.

    Raises:
        ValueError: See `task_rows`; or a row cannot be rendered, spelled, or lacks its
            label.
    """
    input_eos, target_prefix = True, ""
    if adapter is not None and adapter.task is not None:
        carried = adapter_task(adapter)
        lengths = lengths or carried.lengths
        normalization = normalization or carried.normalization
        input_eos, target_prefix = carried.input_eos, carried.target_prefix
    spec, rows = task_rows(task, adapter, base, lengths, with_labels=with_labels)
    split = prepared.prepare(
        rows,
        spec,
        base.tokenizer,
        lengths=lengths,
        with_labels=with_labels,
        input_eos=input_eos,
        target_prefix=target_prefix,
    )
    return split, normalization or "mean"


def output_directory(path: PathLike, on_start: OnStart | None) -> pathlib.Path:
    """The directory for what an adapter says of rows, made if it is not there.

    What an earlier call said there is removed: it may be of another adapter.

    Raises:
        ValueError: If it holds a run.
    """
    made = directory.make(path)
    if (made / directory.SETTINGS).exists():
        raise ValueError(
            f"{made} holds a run, whose predictions.csv and config.gin would be "
            f"replaced; name another directory, such as {made / 'eval'}"
        )
    directory.remove_answers(made)
    if on_start is not None:
        on_start(made)
    return made


def task_rows(
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapter: checkpoint.Adapter | None,
    base: Base,
    lengths: Mapping[str, int] | None,
    *,
    with_labels: bool = False,
) -> tuple[fewshot.TaskSpec, prepared.Rows]:
    """The rows to apply an adapter to, and what renders them.

    Raises:
        ValueError: If the task has no such rows, or nothing renders them.
    """
    if callable(task):
        task = task(base.tokenizer, tokenized.limits_of(lengths)["inputs"])
    if isinstance(task, str) and task in tasks.names():
        task = tasks.get(task)
    if isinstance(task, tasks.Task):
        if task.predict is not None and not with_labels:
            return task.spec, task.predict
        if task.test is None:
            raise ValueError(
                f"task {task.name} has no test rows; give a file of rows instead"
            )
        return task.spec, task.test
    if not pathlib.Path(task).suffix:
        tasks.get(str(task))  # raises, and lists the tasks there are
    rows = sources.load_rows(task)
    if adapter is None:
        raise ValueError(
            f"{task} is a file of rows without a template; give an adapter, which "
            "carries one, or a task"
        )
    return adapter_task(adapter).spec, rows


def load_adapter(
    adapter: checkpoint.Adapter | PathLike, base: Base, *, name: str = "the adapter"
) -> checkpoint.Adapter:
    """The adapter, read from its directory or that of a finished run.

    Args:
        adapter: The adapter or where it lies.
        base: The model it is for.
        name: What messages call an adapter that is in memory already.

    Raises:
        ValueError: If there is none, or it does not fit the base.
    """
    if isinstance(adapter, checkpoint.Adapter):
        adapter.check(base.config, source=f"{name}, for the given base")
        _note_another_base(adapter, base, name)
        return adapter
    path = adapter_path(adapter)
    adapter = interop.load_adapter(path, base.config)
    _note_another_base(adapter, base, str(path))
    return adapter


def adapter_path(path: PathLike) -> pathlib.Path:
    """Where an adapter lies, given its path or the directory of a finished run.

    "embedded" are the (IA)^3 vectors that were pre-trained for the embedded base.

    Raises:
        ValueError: If the run is not finished.
    """
    if str(path) == "embedded":
        return base_lib.PRETRAINED_IA3
    path = pathlib.Path(path).expanduser()
    if not (path / directory.SETTINGS).exists():
        return path
    if not (path / directory.FINISHED).exists():
        raise ValueError(f"the run in {path} is not finished; start it again")
    return path / "adapter"


def _note_another_base(adapter: checkpoint.Adapter, base: Base, source: str) -> None:
    """Says where an adapter of the right sizes was trained on other weights."""
    trained_on = adapter.metadata.get("base_fingerprint")
    if trained_on not in (None, base.weights_fingerprint):
        log.warning(
            "note: %s was trained on another model (%s) than %s; "
            "its predictions may be worth nothing",
            source,
            adapter.metadata.get("base", trained_on),
            base.source,
        )


class CarriedTask(NamedTuple):
    """What an adapter says about the rows it was trained for."""

    spec: fewshot.TaskSpec
    lengths: dict[str, int] | None
    normalization: str
    input_eos: bool
    target_prefix: str


def adapter_task(adapter: checkpoint.Adapter) -> CarriedTask:
    """Templates, lengths and the rest that an adapter carries.

    Raises:
        ValueError: If it carries none, as adapters of other programs.
    """
    if adapter.task is None:
        raise ValueError(
            "the adapter carries no template and choices; give a task that has them"
        )
    settings = dict(adapter.task)
    lengths = settings.pop("lengths", None)
    normalization = settings.pop("normalization", "mean")
    input_eos = settings.pop("input_eos", True)
    target_prefix = settings.pop("target_prefix", "")
    spec = fewshot.TaskSpec.from_dict(settings)
    return CarriedTask(spec, lengths, normalization, input_eos, target_prefix)
