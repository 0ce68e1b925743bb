"""Several examples in one row of fixed length, with segment ids and positions.

T5X's names and conventions: segments are numbered from 1 in each row, 0 is padding,
positions count from 0 within a segment, and a segment's decoder input starts with the
start token, never with the last target of its neighbour. Attention stays within a
segment, so that no example sees another; targets without inputs would have nothing to
attend to and see all of the row, so that no example without tokens on a side is packed.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from jaxtyping import Int

from tfew_jax import types
from tfew_jax.data.objectives import TokenPair

OPEN_ROWS = 16  # rows that an example may still join


@dataclasses.dataclass
class _Row:
    """A row that is being filled."""

    pairs: list[TokenPair] = dataclasses.field(default_factory=list)
    num_inputs: int = 0
    num_targets: int = 0

    def add(self, pair: TokenPair) -> None:
        self.pairs.append(pair)
        self.num_inputs += len(pair.inputs)
        self.num_targets += len(pair.targets)

    def has_room(self, pair: TokenPair, lengths: Mapping[str, int]) -> bool:
        return (
            self.num_inputs + len(pair.inputs) <= lengths["inputs"]
            and self.num_targets + len(pair.targets) <= lengths["targets"]
        )


class Complete:
    """Pairs with tokens on both sides; the others are left out and counted.

    Attributes:
        num_left_out: Pairs left out so far.
    """

    def __init__(self, pairs: Iterable[TokenPair]):
        self._pairs, self.num_left_out = pairs, 0

    def __iter__(self) -> Iterator[TokenPair]:
        for pair in self._pairs:
            if pair.inputs.any() and pair.targets.any():
                yield pair
            else:
                self.num_left_out += 1


def pack(
    pairs: Iterable[TokenPair],
    lengths: Mapping[str, int],
    *,
    open_rows: int = OPEN_ROWS,
) -> Iterator[list[TokenPair]]:
    """Puts pairs into rows, in the order in which they come.

    A pair joins the oldest open row that has room for it; where none has, it opens a
    row, and the oldest one is given out if too many are open.

    Args:
        pairs: Inputs and targets that each fit a row of their own and hold a token
            that is no pad, see `Complete`.
        lengths: Most tokens of a row's "inputs" and "targets".
        open_rows: Rows that are open at most; 1 keeps neighbours together, 0 gives
            each pair its own row.

    Yields:
        The pairs of a row.

    Raises:
        ValueError: A pair is longer than a row, or has a side without tokens.
    """
    waiting: list[_Row] = []
    for number, pair in enumerate(pairs):
        if not (pair.inputs.any() and pair.targets.any()):
            side = "targets" if pair.inputs.any() else "inputs"
            raise ValueError(
                f"example {number} has no {side}; leave out such examples, as "
                "packing.Complete does"
            )
        if not _Row().has_room(pair, lengths):
            raise ValueError(
                f"example {number} has {len(pair.inputs)} input and "
                f"{len(pair.targets)} target tokens, a row holds {lengths['inputs']} "
                f"and {lengths['targets']}; cut it first"
            )
        if open_rows == 0:
            yield [pair]
            continue
        row = next((row for row in waiting if row.has_room(pair, lengths)), None)
        if row is None:
            if len(waiting) == open_rows:
                yield waiting.pop(0).pairs
            row = _Row()
            waiting.append(row)
        row.add(pair)
    for row in waiting:
        yield row.pairs


def to_arrays(
    rows: Iterable[Iterable[TokenPair]], lengths: Mapping[str, int]
) -> dict[str, Int[np.ndarray, "rows length"]]:
    """Packed rows as arrays.

    Args:
        rows: The pairs of each row, see `pack`.
        lengths: Tokens of a row's "inputs" and "targets".

    Returns:
        `encoder_input_tokens` and `encoder_segment_ids` [rows, length],
        `decoder_target_tokens` and `decoder_segment_ids` [rows, target_length], int32.
    """
    sides = (
        ("inputs", "encoder_input_tokens", "encoder_segment_ids"),
        ("targets", "decoder_target_tokens", "decoder_segment_ids"),
    )
    filled = [list(row) for row in rows]
    arrays: dict[str, Int[np.ndarray, "rows length"]] = {}
    for side, tokens_name, segments_name in sides:
        tokens = np.zeros((len(filled), lengths[side]), np.int32)
        segments = np.zeros_like(tokens)
        for row, pairs in enumerate(filled):
            start = 0
            for number, pair in enumerate(pairs, start=1):
                ids = getattr(pair, side)
                tokens[row, start : start + len(ids)] = ids
                segments[row, start : start + len(ids)] = number
                start += len(ids)
        arrays |= {tokens_name: tokens, segments_name: segments}
    return arrays


def to_batch(
    arrays: Mapping[str, Int[np.ndarray, "batch length"]],
    *,
    example_id: Int[np.ndarray, "batch"],
) -> types.Batch:
    """The batch of packed rows, with one answer "choice" a row: its targets."""
    targets = arrays["decoder_target_tokens"][:, None]
    segments = arrays["decoder_segment_ids"][:, None]
    num_rows = len(targets)
    return {
        "encoder_input_tokens": arrays["encoder_input_tokens"],
        "encoder_segment_ids": arrays["encoder_segment_ids"],
        "encoder_positions": positions(arrays["encoder_segment_ids"]),
        "decoder_target_tokens": targets,
        "decoder_input_tokens": decoder_inputs(targets, segments),
        "decoder_segment_ids": segments,
        "decoder_positions": positions(segments),
        "decoder_loss_weights": (targets > 0).astype(np.float32),
        "choice_mask": np.ones((num_rows, 1), bool),
        "label": np.zeros(num_rows, np.int32),
        "example_id": np.asarray(example_id, np.int32),
    }


def positions(
    segments: Int[np.ndarray, "*batch length"],
) -> Int[np.ndarray, "*batch length"]:
    """Place of each token within its segment, 0 at padding."""
    places = np.broadcast_to(np.arange(segments.shape[-1]), segments.shape)
    starts = np.where(_is_first(segments), places, 0)
    found = places - np.maximum.accumulate(starts, axis=-1)
    return np.where(segments > 0, found, 0).astype(np.int32)


def decoder_inputs(
    targets: Int[np.ndarray, "*batch target_length"],
    segments: Int[np.ndarray, "*batch target_length"],
) -> Int[np.ndarray, "*batch target_length"]:
    """Targets moved by one place within each segment, behind the start token."""
    shifted = np.roll(targets, 1, axis=-1)
    is_inside = (segments > 0) & ~_is_first(segments)
    return np.where(is_inside, shifted, types.DECODER_START_ID).astype(np.int32)


def _is_first(segments: Int[np.ndarray, "*batch length"]) -> np.ndarray:
    """Where a segment, or padding, begins."""
    before = np.roll(segments, 1, axis=-1)
    before[..., 0] = -1
    return segments != before
