"""A SeqIO source over examples that are made in Python.

Its order is the file's; shuffled, it is a permutation that depends on the seed alone.
A host's shard is every n-th example, shuffled within: whatever the seed, the shards of
all hosts hold each example once. `tf.data` sees constants and no Python function, so
that iterators can be saved and restored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

Example = Mapping[str, Any]


class ShardedSource(seqio.DataSource):
    """A source of which a host can read any shard."""

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    def check_split(self, split: str) -> None:
        """Refuses a split that is not there.

        Raises:
            ValueError: There is no such split.
        """
        if split not in self.splits:
            raise ValueError(f"no split {split!r}; available: {', '.join(self.splits)}")


class ExampleSource(ShardedSource):
    """Examples by split.

    Attributes:
        features: Shape and dtype of each feature: a scalar, or one dimension, whose
            size is None where examples differ in it.
    """

    def __init__(
        self,
        load: Callable[[str], Sequence[Example]],
        *,
        splits: Sequence[str],
        features: Mapping[str, tf.TensorSpec],
    ):
        """Reads nothing before a dataset or a number of examples is asked for.

        Args:
            load: From a split to its examples, always the same.
            splits: Names of the splits.
            features: See the class.
        """
        super().__init__(splits, performs_internal_shuffling=True)
        self.features = dict(features)
        self._load = load
        self._sizes: dict[str, int] = {}

    def num_input_examples(self, split: str) -> int:
        if split not in self._sizes:
            self._examples(split)
        return self._sizes[split]

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
        """The examples of a split, or of a host's shard of it.

        Raises:
            ValueError: There is no such split, or its files cannot be read.
        """
        examples = self._examples(split)
        order = np.arange(len(examples))
        if shard_info is not None:
            order = order[shard_info.index :: shard_info.num_shards]
        if shuffle:
            generator = np.random.default_rng(None if seed is None else int(seed))
            order = generator.permutation(order)
        kept = [examples[index] for index in order.tolist()]
        return _dataset(kept, self.features)

    def _examples(self, split: str) -> Sequence[Example]:
        self.check_split(split)
        examples = self._load(split)
        self._sizes[split] = len(examples)
        return examples


def _dataset(
    examples: Sequence[Example], features: Mapping[str, tf.TensorSpec]
) -> tf.data.Dataset:
    """A dataset of examples in their order, without a Python function."""
    columns = {name: [e[name] for e in examples] for name in features}
    tensors: dict[str, tf.Tensor] = {}
    starts: dict[str, tf.Tensor] = {}
    for name, spec in features.items():
        if spec.shape.rank and spec.shape[0] is None:
            sizes = [len(values) for values in columns[name]]
            starts[name] = tf.constant(np.cumsum([0, *sizes]), tf.int64)
            flat = [value for values in columns[name] for value in values]
            tensors[name] = tf.constant(flat, spec.dtype, shape=[len(flat)])
        else:
            shape = [len(examples), *spec.shape]
            tensors[name] = tf.constant(columns[name], spec.dtype, shape=shape)

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert in it
    def pick(index: tf.Tensor) -> dict[str, tf.Tensor]:
        example = {}
        for name, tensor in tensors.items():
            if name in starts:
                begin, end = starts[name][index], starts[name][index + 1]
                example[name] = tensor[begin:end]
            else:
                example[name] = tensor[index]
        return example

    return tf.data.Dataset.range(len(examples)).map(pick)
