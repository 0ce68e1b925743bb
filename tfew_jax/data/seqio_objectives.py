"""Objectives of pre-training as SeqIO tasks, on demand.

A task reads texts from files, or from any SeqIO source with the feature `text` (TFDS's
`c4/en`, say), and asks of them what `objectives` asks; the random choices are
TensorFlow's, stateless and by the task's seed. `register_c4` makes T5's tasks on C4 of
them, by T5's names. Importing this module needs SeqIO and TensorFlow and registers
nothing.
"""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from tfew_jax.data import (
    objectives,
    seqio_source,
    seqio_tasks,
    seqio_tfds,
    sources,
    texts,
    tokenizer,
)

C4_TASKS = ("c4_v220_span_corruption", "c4_v220_prefix_lm")
_C4, _C4_VERSION = "c4/en", "2.2.0"  # T5's
_SHUFFLED = 10_000  # texts that are in memory at once
Example = Mapping[str, tf.Tensor]


class TextSource(seqio_source.ShardedSource):
    """Texts of files; every host reads each n-th one."""

    def __init__(
        self,
        files: Mapping[str, Sequence[str]],
        *,
        unit: str = "paragraph",
        field: str = "text",
    ):
        """Reads nothing yet.

        Args:
            files: Of each split; see `texts.find`.
            unit: See `texts.read`.
            field: See `texts.read`.
        """
        super().__init__(list(files), performs_internal_shuffling=True)
        self._files, self._unit, self._field = dict(files), unit, field

    def num_input_examples(self, split: str) -> int | None:
        """Not known before all files are read."""
        del split
        return None

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """The texts of a split, or of a host's shard of it, as the feature `text`.

        Raises:
            ValueError: There is no such split, or a file is missing.
        """
        self.check_split(split)
        paths = texts.find(self._files[split])
        shard = (
            (0, 1) if shard_info is None else (shard_info.index, shard_info.num_shards)
        )

        def rows() -> Iterator[dict[str, str]]:
            found = texts.read(paths, unit=self._unit, field=self._field, shard=shard)
            return ({"text": text} for text in found)

        dataset = tf.data.Dataset.from_generator(
            rows, output_signature={"text": tf.TensorSpec((), tf.string)}
        )
        return dataset.shuffle(_SHUFFLED, seed=seed) if shuffle else dataset


def register(
    name: str,
    *,
    source: seqio.DataSource,
    objective: objectives.Objective,
    vocabulary: seqio.Vocabulary,
    join: bool = True,
    text: str = "text",
) -> str:
    """Registers a task of an objective.

    Args:
        name: Of the task.
        source: Of texts: `TextSource`, `seqio.TfdsDataSource`, ...
        objective: What is asked of each piece of text; its length follows from the
            lengths of inputs and targets that the task is read with.
        vocabulary: Of inputs and targets; that of the objective's tokenizer.
        join: Whether texts follow one another within a piece, as T5 was trained;
            otherwise a piece is of one text.
        text: Feature of the source that holds the text.

    Returns:
        The name.

    Raises:
        ValueError: The name is taken.
    """
    if name in seqio.TaskRegistry.names():
        raise ValueError(f"SeqIO already has {name!r}; give the task another name")
    feature = seqio.Feature(vocabulary, add_eos=True, dtype=tf.int32)
    interface: Any = source
    seqio.TaskRegistry.add(
        name,
        source=interface,
        preprocessors=[
            functools.partial(seqio.preprocessors.rekey, key_map={"targets": text}),
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            functools.partial(cut, objective=objective, join=join),
            functools.partial(ask, objective=objective),
        ],
        output_features={"inputs": feature, "targets": feature},
    )
    return name


def register_c4(
    data_dir: str | os.PathLike[str], words: tokenizer.Tokenizer
) -> list[str]:
    """Registers T5's pre-training tasks on C4, by the names that they have there.

    As in T5, span corruption sees texts joined to pieces of one length, and prefix LM
    pieces of one text. Other than there all of a long text is used, not a random part.

    Args:
        data_dir: TFDS's directory with `c4/en`, prepared beforehand: version 2.2.0, or
            the newest where that is not there. Nothing is downloaded.
        words: Vocabulary of inputs and targets.

    Returns:
        The names.

    Raises:
        ValueError: There is no such dataset, or one of the names is taken.
    """
    find = functools.partial(seqio_tfds.find, data_dir, _C4, "train")
    folder = find(version=_C4_VERSION) or find()
    if folder is None:
        raise sources.SourceError(
            f"{data_dir}: no {_C4} with a split train; give the directory in which "
            f"TFDS prepared it ({_C4}:{_C4_VERSION})"
        )
    source = seqio.TfdsDataSource(
        tfds_data_dir=str(folder), splits=seqio_tfds.splits(folder), read_only=True
    )
    span = objectives.SpanCorruption(tokenizer=words)
    kinds = ((span, True), (objectives.PrefixLM(), False))
    vocabulary = seqio_tasks.load_vocabulary(words.model_file)
    return [
        register(
            name, source=source, objective=objective, vocabulary=vocabulary, join=join
        )
        for name, (objective, join) in zip(C4_TASKS, kinds, strict=True)
    ]


def cut(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int],
    *,
    objective: objectives.Objective,
    join: bool,
) -> tf.data.Dataset:
    """Tokens of texts as pieces that are as long as the objective allows."""
    size = objective.num_tokens(sequence_length)
    tokens = dataset.map(lambda example: example["targets"])
    if join:
        pieces = tokens.unbatch().batch(size)
    else:
        pieces = tokens.flat_map(
            lambda ids: tf.data.Dataset.from_tensors(ids).unbatch().batch(size)
        )
    return pieces.map(lambda piece: {"targets": piece})


def ask(
    dataset: tf.data.Dataset, *, objective: objectives.Objective
) -> tf.data.Dataset:
    """Inputs and targets of pieces; those of one token are left out.

    Raises:
        TypeError: The objective has no form in TensorFlow.
    """
    if isinstance(objective, objectives.SpanCorruption):
        make_pair = _span_corruption(objective)
    elif isinstance(objective, objectives.PrefixLM):
        make_pair = _prefix_lm
    else:
        raise TypeError(f"{type(objective).__name__} has no form in TensorFlow")

    @seqio.map_over_dataset(num_seeds=1)
    @tf.autograph.experimental.do_not_convert  # there is nothing to convert in it
    def pairs(example: Example, seed: Sequence[tf.Tensor]) -> Example:
        return make_pair(tf.cast(example["targets"], tf.int32), tf.stack(seed))

    over_dataset: Any = pairs  # seqio gives the seeds
    return over_dataset(dataset.filter(lambda example: tf.size(example["targets"]) > 1))


def _prefix_lm(tokens: tf.Tensor, seed: tf.Tensor) -> Example:
    size = tf.size(tokens)
    place = tf.random.stateless_uniform((), seed, 1, size, tf.int32)
    return {"inputs": _ended(tokens[:place]), "targets": _ended(tokens[place:])}


def _span_corruption(
    objective: objectives.SpanCorruption,
) -> Callable[[tf.Tensor, tf.Tensor], Example]:
    """T5's span corruption; see `objectives.SpanCorruption`."""
    marks = [objective.tokenizer.sentinel(n) for n in range(tokenizer.NUM_SENTINELS)]
    sentinels = tf.constant([*marks, 0], tf.int32)

    def with_sentinels(tokens: tf.Tensor, is_hidden: tf.Tensor) -> tf.Tensor:
        before = tf.concat([[False], is_hidden[:-1]], axis=0)
        is_first = is_hidden & tf.logical_not(before)
        numbers = tf.cumsum(tf.cast(is_first, tf.int32)) - 1
        # -1, before the first mark, is read nowhere.
        marked = tf.where(
            is_first, tf.gather(sentinels, tf.maximum(numbers, 0)), tokens
        )
        is_kept = is_first | tf.logical_not(is_hidden)
        return _ended(tf.boolean_mask(marked, is_kept))

    def make_pair(tokens: tf.Tensor, seed: tf.Tensor) -> Example:
        size = tf.size(tokens)
        share = tf.cast(size, tf.float64) * objective.noise_density
        num_noise = tf.clip_by_value(tf.cast(tf.round(share), tf.int32), 1, size - 1)
        spans = tf.cast(num_noise, tf.float64) / objective.mean_span_length
        num_spans = tf.maximum(tf.cast(tf.round(spans), tf.int32), 1)
        num_spans = tf.minimum(num_spans, size - num_noise)
        num_spans = tf.minimum(num_spans, tokenizer.NUM_SENTINELS)
        kept_seed, removed_seed = tf.unstack(tf.random.split(seed, 2))
        kept = _cut(size - num_noise, num_spans, kept_seed)
        removed = _cut(num_noise, num_spans, removed_seed)
        runs = tf.reshape(tf.stack([kept, removed], axis=1), [-1])
        is_noise = tf.repeat(tf.range(2 * num_spans) % 2 == 1, runs)
        return {
            "inputs": with_sentinels(tokens, is_noise),
            "targets": with_sentinels(tokens, tf.logical_not(is_noise)),
        }

    return make_pair


def _cut(size: tf.Tensor, num_parts: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Lengths of the parts of a random cut of `size` things."""
    shape = tf.reshape(size - 1, [1])
    order = tf.argsort(tf.random.stateless_uniform(shape, seed))
    places = tf.sort(order[: num_parts - 1]) + 1
    return tf.concat([places, [size]], 0) - tf.concat([[0], places], 0)


def _ended(tokens: tf.Tensor) -> tf.Tensor:
    return tf.concat([tokens, [1]], axis=0)
