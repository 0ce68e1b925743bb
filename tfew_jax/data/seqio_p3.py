"""T0's mixtures as SeqIO's, on demand.

Each task is a SeqIO task under P3's name with one split, `train`, and the features
`inputs` and `targets`; the mixture's rates are the caps. Importing this module needs
SeqIO and TensorFlow and registers nothing.
"""

import functools
from collections.abc import Iterator
from typing import Any

import seqio
import tensorflow as tf

from tfew_jax.data import p3, p3_mixture, promptsource

SPLIT = "train"
_SIGNATURE = {name: tf.TensorSpec((), tf.string) for name in ("inputs", "targets")}


def register(
    mixture: p3_mixture.Mixture,
    *,
    vocabulary: seqio.Vocabulary,
    prefix: str = "",
    add_eos_to_inputs: bool = False,
) -> str:
    """Registers a mixture and its tasks.

    Rows to which a template does not apply are left out, so a task may have fewer
    examples than rows.

    Args:
        mixture: With its rows.
        vocabulary: Of inputs and targets.
        prefix: Of all names; mixtures that share tasks each need one.
        add_eos_to_inputs: As T-Few does; T0 was trained without it.

    Returns:
        The mixture's name in SeqIO.

    Raises:
        ValueError: A name is taken; then nothing is registered.
    """
    features = {
        "inputs": seqio.Feature(vocabulary, add_eos=add_eos_to_inputs, dtype=tf.int32),
        "targets": seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32),
    }
    name = f"{prefix}{mixture.definition.name}"
    rates = [(f"{prefix}{task.name}", float(task.cap)) for task in mixture.tasks]
    taken = [n for n, _ in rates if n in seqio.TaskRegistry.names()]
    if name in seqio.MixtureRegistry.names():
        taken.insert(0, name)
    if taken:
        raise ValueError(
            f"SeqIO already has {taken[0]!r} ({len(taken)} of the names that "
            f"{mixture.definition.name} needs); register it with another prefix"
        )
    for task, (task_name, _) in zip(mixture.tasks, rates, strict=True):
        source: Any = seqio.FunctionDataSource(
            functools.partial(_dataset, mixture=mixture, task=task),
            splits=[SPLIT],
            num_input_examples={SPLIT: mixture.num_rows(task)},
        )
        seqio.TaskRegistry.add(
            task_name,
            source=source,
            preprocessors=[
                seqio.preprocessors.tokenize,
                seqio.CacheDatasetPlaceholder(),
                seqio.preprocessors.append_eos_after_trim,
            ],
            output_features=features,
        )
    seqio.MixtureRegistry.add(name, rates)
    return name


def _dataset(
    split: str,
    shuffle_files: bool,
    seed: int | None = None,
    *,
    mixture: p3_mixture.Mixture,
    task: p3.MixtureTask,
) -> tf.data.Dataset:
    """The rows of a task as text, in their order or shuffled as a whole."""
    del split  # there is one
    rows = functools.partial(
        _rows, mixture, task, (seed or 0) if shuffle_files else None
    )
    return tf.data.Dataset.from_generator(rows, output_signature=_SIGNATURE)


def _rows(
    mixture: p3_mixture.Mixture, task: p3.MixtureTask, seed: int | None
) -> Iterator[dict[str, str]]:
    size = mixture.num_rows(task)
    for index in range(size):
        row = index
        if seed is not None:
            row = p3_mixture.permute(index, size, (seed, task.name))
        try:
            pair = mixture.read(task, row)
        except promptsource.NotApplicableError:
            continue
        yield {"inputs": pair.inputs, "targets": pair.targets}
