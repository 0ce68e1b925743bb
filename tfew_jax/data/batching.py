"""Batches of few shapes: random access for training, in order of length for scoring.

Inputs are padded to one of at most three lengths, so that a run compiles at most three
programs for training and three for scoring. Targets have one length.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np
from jaxtyping import Int

from tfew_jax import types
from tfew_jax.data import fewshot
from tfew_jax.data.tokenized import NO_LABEL, TokenizedRows

MAX_BUCKETS = 3
_MULTIPLE = 8  # bucket lengths are multiples of this
_LEAST_SAVING = 0.1  # of the expected padded tokens, for one more bucket


def choose_buckets(
    lengths: Int[np.ndarray, " inputs"],
    *,
    max_length: int,
    batch_size: int = 1,
    max_buckets: int = MAX_BUCKETS,
) -> tuple[int, ...]:
    """Input lengths to pad to, ascending; the last one holds every input.

    A batch is as long as its longest input. The buckets make the expected padded
    length of a batch of independent rows least; one more is taken where it saves a
    tenth or more, since each costs a compilation.

    Args:
        lengths: Lengths of the inputs that batches will hold.
        max_length: No bucket is longer.
        batch_size: Inputs a batch.
        max_buckets: Most buckets.
    """
    rounded = np.minimum(-(-lengths // _MULTIPLE) * _MULTIPLE, max_length)
    sizes, counts = np.unique(rounded, return_counts=True)
    # Chance that the longest of `batch_size` inputs is at most each size.
    below = (np.cumsum(counts) / counts.sum()) ** batch_size
    chosen = (int(sizes[-1]),)
    costs, paths = sizes * below, [(size,) for size in sizes.tolist()]
    least = costs[-1]
    for _ in range(min(max_buckets, len(sizes)) - 1):
        # Best list of buckets that ends with each size, with one bucket more.
        steps = costs[:, None] + sizes[None, :] * (below[None, :] - below[:, None])
        steps[np.tril_indices(len(sizes))] = np.inf
        before = np.argmin(steps, axis=0)
        costs = np.min(steps, axis=0)
        paths = [(*paths[b], s) for b, s in zip(before, sizes.tolist(), strict=True)]
        if costs[-1] > least * (1 - _LEAST_SAVING):
            break
        chosen, least = paths[-1], costs[-1]
    return chosen


def right_choices(batch: types.Batch) -> types.Batch:
    """The batch with each row's right choice alone, for losses that read no other."""
    if np.shape(batch["decoder_target_tokens"])[1] == 1:
        return batch
    rows = np.arange(len(batch["label"]))
    targets = np.asarray(batch["decoder_target_tokens"])[rows, batch["label"]]
    return cast(
        types.Batch,
        {
            **batch,
            "decoder_target_tokens": targets[:, None],
            "choice_mask": np.ones((len(rows), 1), bool),
            "label": np.zeros(len(rows), np.int32),
        },
    )


class TrainBatches:
    """Full training batches in a seeded order, each found by its step alone.

    The order is that of one permutation of the rows after the other; a batch may hold
    the end of one and the beginning of the next. Each visit of a row takes one of the
    templates at random, as in T-Few.

    Attributes:
        tokenized: The rows.
        batch_size: Rows a batch.
        seed: Of the order and of the templates.
        buckets: Input lengths that batches are padded to.
    """

    def __init__(
        self,
        tokenized: TokenizedRows,
        batch_size: int,
        seed: int,
        buckets: Sequence[int] | None = None,
    ):
        """Checks the rows.

        Args:
            tokenized: The rows.
            batch_size: Rows a batch.
            seed: Of the order and of the templates.
            buckets: Input lengths to pad to; None for those that suit the rows.

        Raises:
            ValueError: There are fewer rows than a batch takes, or a row has no label.
        """
        if not 1 <= batch_size <= tokenized.num_rows:
            raise ValueError(
                f"batch_size={batch_size}, but there are {tokenized.num_rows} rows to "
                "train on; a batch takes between 1 and all of them"
            )
        unlabelled = np.flatnonzero(tokenized.label == NO_LABEL)
        if len(unlabelled):
            ids = tokenized.example_id[unlabelled[:5]].tolist()
            raise ValueError(
                f"{len(unlabelled)} rows to train on have no label, first rows {ids}; "
                "label them or leave them out"
            )
        self.tokenized = tokenized
        self.batch_size = batch_size
        self.seed = fewshot.check_seed(seed)
        self.buckets = tuple(buckets or ()) or choose_buckets(
            tokenized.all_lengths,
            max_length=tokenized.feature_lengths["inputs"],
            batch_size=batch_size,
        )
        # A batch touches few epochs, and the next batch the same ones.
        self._epoch = functools.lru_cache(maxsize=4)(self._make_epoch)

    def padded_to(self, buckets: Sequence[int]) -> "TrainBatches":
        """The same batches at other lengths, the last of which holds every input."""
        return TrainBatches(self.tokenized, self.batch_size, self.seed, buckets)

    def _make_epoch(self, epoch: int) -> Int[np.ndarray, "2 rows"]:
        """The rows in the order of an epoch, and the template of each."""
        random = np.random.RandomState([self.seed, epoch])
        num_rows = self.tokenized.num_rows
        order = random.permutation(num_rows)
        templates = random.randint(self.tokenized.num_templates, size=num_rows)
        return np.stack([order, templates])

    def batch_at(self, step: int) -> types.Batch:
        """The batch of the update that follows `step` updates."""
        if step < 0:
            raise ValueError(f"step is {step}; steps are counted from 0")
        first = step * self.batch_size
        positions = np.arange(first, first + self.batch_size)
        epochs, places = np.divmod(positions, self.tokenized.num_rows)
        visits = np.stack(
            [self._epoch(e)[:, p] for e, p in zip(epochs.tolist(), places, strict=True)]
        )
        return _pad_batch(self.tokenized, visits[:, 0], visits[:, 1], self.buckets)


def eval_batches(
    tokenized: TokenizedRows,
    batch_size: int,
    *,
    template: int | Int[np.ndarray, " rows"] = 0,
) -> Iterator[types.Batch]:
    """Every row once, the longest inputs first.

    Batches have at most three shapes. The last one is filled up with rows of
    `example_id` -1 whose `choice_mask` is all False.

    Args:
        tokenized: The rows, with labels or without.
        batch_size: Rows a batch.
        template: Which template, for all rows or for each.

    Raises:
        ValueError: The batch size or a template is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected 1 or more")
    templates = np.broadcast_to(template, (tokenized.num_rows,))
    if set(np.unique(templates)) - set(range(tokenized.num_templates)):
        raise ValueError(
            f"template {template} is not one of the {tokenized.num_templates} "
            "templates, which are counted from 0"
        )
    return _eval_batches(tokenized, batch_size, templates)


def input_batches(
    inputs: Sequence[Int[np.ndarray, " _"]], batch_size: int, *, max_length: int
) -> Iterator[types.Batch]:
    """Inputs without targets, to generate from; the longest first.

    Args:
        inputs: Token ids of each input, none longer than `max_length`.
        batch_size: Inputs a batch; the last one is filled up with `example_id` -1.
        max_length: No batch is longer.

    Raises:
        ValueError: There are no inputs, or the batch size is out of range.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected 1 or more")
    if not len(inputs):
        raise ValueError("there are no inputs; give at least one")
    lengths = np.asarray([len(ids) for ids in inputs])
    buckets = choose_buckets(lengths, max_length=max_length)
    return _input_batches(inputs, batch_size, lengths, buckets)


def for_members(
    batches: Iterable[types.Batch], members: Sequence[int], *, num_rows: int
) -> Iterator[types.Batch]:
    """Batches in which every row stands once for each of several adapters of a bank.

    Args:
        batches: With `example_id` below `num_rows`; rows with -1 are padding.
        members: Slots of the adapters.
        num_rows: Rows in all: the n-th adapter's begin with the id n * `num_rows`.
    """
    for batch in batches:
        ids = np.asarray(batch["example_id"])
        rows = {
            name: np.concatenate([np.asarray(value)] * len(members))
            for name, value in cast(dict[str, types.Array], batch).items()
        }
        rows["adapter_index"] = np.repeat(np.asarray(members, np.int32), len(ids))
        rows["example_id"] = np.concatenate(
            [np.where(ids < 0, ids, ids + n * num_rows) for n in range(len(members))]
        )
        yield cast(types.Batch, rows)


def _input_batches(
    inputs: Sequence[Int[np.ndarray, " _"]],
    batch_size: int,
    lengths: Int[np.ndarray, " inputs"],
    buckets: Sequence[int],
) -> Iterator[types.Batch]:
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        length = next(size for size in buckets if size >= lengths[rows].max())
        tokens = np.full((batch_size, length), types.PAD_ID, np.int32)
        tokens[:, 0] = types.EOS_ID  # of rows that fill up: something to look at
        ids = np.full(batch_size, -1, np.int32)
        ids[: len(rows)] = rows
        for row, number in enumerate(rows):
            tokens[row, : lengths[number]] = inputs[number]
        batch = {"encoder_input_tokens": tokens, "example_id": ids}
        yield cast(types.Batch, batch)  # decoding reads no more


def _eval_batches(
    tokenized: TokenizedRows, batch_size: int, templates: Int[np.ndarray, " rows"]
) -> Iterator[types.Batch]:
    buckets = choose_buckets(
        tokenized.all_lengths, max_length=tokenized.feature_lengths["inputs"]
    )
    lengths = [len(tokenized.inputs[t][r]) for r, t in enumerate(templates)]
    order = np.argsort(-np.asarray(lengths, int), kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = _pad_batch(tokenized, rows, templates[rows], buckets)
        yield _fill_up(batch, batch_size)


def _pad_batch(
    tokenized: TokenizedRows,
    rows: Int[np.ndarray, " batch"],
    templates: Int[np.ndarray, " batch"],
    buckets: Sequence[int],
) -> types.Batch:
    """The rows, padded to the shortest bucket that holds all of them."""
    inputs = [tokenized.inputs[t][r] for t, r in zip(templates, rows, strict=True)]
    longest = max(len(ids) for ids in inputs)
    length = next(bucket for bucket in buckets if bucket >= longest)
    tokens = np.full((len(inputs), length), types.PAD_ID, np.int32)
    for row, ids in enumerate(inputs):
        tokens[row, : len(ids)] = ids
    choice_set = tokenized.choice_set[templates, rows]
    return {
        "encoder_input_tokens": tokens,
        "decoder_target_tokens": tokenized.choice_sets[choice_set],
        "choice_mask": tokenized.choice_masks[choice_set],
        "label": tokenized.label[rows],
        "example_id": tokenized.example_id[rows],
    }


def _fill_up(batch: types.Batch, batch_size: int) -> types.Batch:
    missing = batch_size - len(batch["label"])
    if not missing:
        return batch

    def extend(array: types.Array, fill: int) -> np.ndarray:
        array = np.asarray(array)
        rows = np.full((missing, *array.shape[1:]), fill, array.dtype)
        return np.concatenate([array, rows])

    tokens = extend(batch["encoder_input_tokens"], types.PAD_ID)
    # One real token, so that attention has something to look at.
    tokens[-missing:, 0] = types.EOS_ID
    return {
        "encoder_input_tokens": tokens,
        "decoder_target_tokens": extend(batch["decoder_target_tokens"], types.PAD_ID),
        "choice_mask": extend(batch["choice_mask"], False),
        "label": extend(batch["label"], NO_LABEL),
        "example_id": extend(batch["example_id"], -1),
    }
