"""SeqIO tasks and mixtures as token pairs, for token arrays; on demand.

Importing this module needs SeqIO and TensorFlow.
"""

import importlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import seqio

from tfew_jax.data import objectives, seqio_objectives, seqio_tasks, tokenizer


def make_pairs(
    name: str,
    *,
    vocabulary: tokenizer.Tokenizer,
    lengths: Mapping[str, int],
    module: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    split: str = "train",
    seed: int = 0,
    limit: int | None = None,
) -> Iterator[objectives.TokenPair]:
    """Inputs and targets of a task, once through, or of a mixture, without end.

    Args:
        name: Of the task or mixture.
        vocabulary: Of the model that will be trained.
        lengths: Most tokens of "inputs" and "targets".
        module: What to import first: it registers the task, as T5X's
            MIXTURE_OR_TASK_MODULE.
        data_dir: Where the rows of `seqio_tasks` are, or TFDS's directory with C4; the
            tasks, with this split, or those of `seqio_objectives.register_c4`, are
            registered unless the name is known already.
        split: Of the task.
        seed: Of the order, and of what preprocessors draw.
        limit: Examples at most.

    Raises:
        ValueError: The module cannot be imported, there is no such task or split, its
            data are not there, it has no inputs and targets, or they are tokens of
            another vocabulary.
    """
    if module is not None:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"the module {module} cannot be imported ({error}); it must be on "
                "PYTHONPATH"
            ) from None
    if name not in _known():
        _register(name, vocabulary, data_dir, split)
    if name not in _known():
        raise ValueError(
            f"SeqIO has no task or mixture {name!r}; name the module that registers it"
        )
    task = seqio.get_mixture_or_task(name)
    _check(task, name, split, vocabulary)
    is_mixture = isinstance(task, seqio.Mixture)
    if is_mixture and limit is None:
        raise ValueError(f"{name} is a mixture, and a mixture has no end; give --limit")
    dataset = task.get_dataset(
        lengths,
        split=split,
        shuffle=True,
        seed=seed,
        num_epochs=None if is_mixture else 1,  # its rates hold to the end
    )
    return (
        objectives.TokenPair(
            inputs=np.asarray(example["inputs"], np.int32),
            targets=np.asarray(example["targets"], np.int32),
        )
        for example in itertools.islice(dataset.as_numpy_iterator(), limit)
    )


def _register(
    name: str,
    vocabulary: tokenizer.Tokenizer,
    data_dir: str | os.PathLike[str] | None,
    split: str,
) -> None:
    """Registers the task with those of its kind, if it is one of ours."""
    if name in seqio_objectives.C4_TASKS:
        if data_dir is None:
            raise ValueError(
                f"{name} reads C4 as TFDS prepared it; give TFDS's directory with "
                "--data-dir"
            )
        seqio_objectives.register_c4(data_dir, vocabulary)
    elif data_dir is not None:
        own = seqio_tasks.load_vocabulary(vocabulary.model_file)
        seqio_tasks.register(data_dir, own, splits=[split])


def _known() -> set[str]:
    return {*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()}


def _check(
    task: seqio.Task | seqio.Mixture,
    name: str,
    split: str,
    vocabulary: tokenizer.Tokenizer,
) -> None:
    missing = {"inputs", "targets"} - set(task.output_features)
    if missing:
        raise ValueError(f"{name} has no feature {' and no '.join(sorted(missing))}")
    if split not in task.splits:
        raise ValueError(
            f"{name} has no split {split!r}; available: {', '.join(task.splits)}"
        )
    expected = vocabulary.model_file.read_bytes()
    for feature in ("inputs", "targets"):
        own = task.output_features[feature].vocabulary
        file = getattr(own, "sentencepiece_model_file", None)
        if file is None or pathlib.Path(file).read_bytes() != expected:
            raise ValueError(
                f"{name} has tokens of {file or type(own).__name__}, the model has "
                f"{vocabulary.model_file}; give the vocabulary of the task"
            )
