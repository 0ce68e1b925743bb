"""Token lists of different lengths: two flat arrays on disk, padded ones in a batch."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


@dataclasses.dataclass(frozen=True)
class Ragged:
    """Token lists of different lengths: list i is tokens[offsets[i]:offsets[i + 1]]."""

    tokens: Int[np.ndarray, "tokens"]
    offsets: Int[np.ndarray, "lists_plus_one"]

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> "Ragged":
        """Pack token lists; every id must be below 65,536."""
        lengths = [len(ids) for ids in lists]
        flat = np.fromiter((i for ids in lists for i in ids), np.uint16, sum(lengths))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Int[np.ndarray, "length"]:
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> Int[np.ndarray, "lists"]:
        """Length of every list."""
        return np.diff(self.offsets)

    def save(self, folder: pathlib.Path, name: str) -> None:
        """Write NAME.tokens.npy and NAME.offsets.npy."""
        np.save(folder / f"{name}.tokens.npy", self.tokens)
        np.save(folder / f"{name}.offsets.npy", self.offsets)

    @classmethod
    def load(cls, folder: pathlib.Path, name: str) -> "Ragged":
        """Read what `save` wrote."""
        return cls(
            np.load(folder / f"{name}.tokens.npy"),
            np.load(folder / f"{name}.offsets.npy"),
        )


def pad(rows: Sequence[np.ndarray], length: int) -> Int[np.ndarray, "rows length"]:
    """Rows as one array, cut at `length`, zeros behind."""
    out = np.zeros((len(rows), length), np.int32)
    for number, row in enumerate(rows):
        out[number, : min(len(row), length)] = row[:length]
    return out
