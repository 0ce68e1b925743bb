"""Token arrays on disk: packed examples to train on, with nothing but numpy.

Preparing reads texts or a mixture once; training reads a row by its number, so that a
batch follows from its step alone and a stopped run goes on where it was. A directory
holds `arrays.json` (lengths, counts, vocabulary, what the rows were made of), which is
written last, and for each part of at most `ROWS_PER_PART` rows four arrays:

    encoder_input_tokens-00000.npy    [rows, length], unsigned 16 or 32 bits
    encoder_segment_ids-00000.npy     [rows, length], unsigned 8 or 16 bits
    decoder_target_tokens-00000.npy   [rows, target_length]
    decoder_segment_ids-00000.npy     [rows, target_length]
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax import types
from tfew_jax.data import objectives, packing, tokenizer

FORMAT = "tfew_jax token arrays"
VERSION = 1
MANIFEST = "arrays.json"
ROWS_PER_PART = 65_536
_NAMES = (
    "encoder_input_tokens",
    "encoder_segment_ids",
    "decoder_target_tokens",
    "decoder_segment_ids",
)


class TokenArraysError(ValueError):
    """A directory that holds no token arrays, or ones that do not fit."""


def make_pairs(
    texts: Iterable[str],
    *,
    tokenizer: tokenizer.Tokenizer,
    objective: objectives.Objective,
    lengths: Mapping[str, int],
    seed: int = 0,
    join: bool = False,
) -> Iterator[objectives.TokenPair]:
    """Inputs and targets of texts: cut where they are too long, then asked about.

    Args:
        texts: The texts.
        tokenizer: Of the model that will be trained.
        objective: What is asked.
        lengths: Most tokens of "inputs" and "targets".
        seed: Of what the objective draws; a piece draws by its number.
        join: Whether texts follow one another without a break, so that all pieces but
            the last are equally long, as T5 was trained; otherwise a piece is of one
            text.
    """
    size = objective.num_tokens(lengths)
    encoded = (tokenizer.encode(text, add_eos=False) for text in texts)
    streams = [itertools.chain.from_iterable(encoded)] if join else encoded
    number = 0
    for stream in streams:
        tokens = iter(stream)
        while piece := list(itertools.islice(tokens, size)):
            generator = np.random.default_rng((seed, number))
            number += 1
            pair = objective.make_pair(np.array(piece, np.int32), generator)
            if pair is not None:
                yield pair


def encode_pairs(
    examples: Iterable[tuple[str, str]],
    *,
    tokenizer: tokenizer.Tokenizer,
    lengths: Mapping[str, int],
    input_eos: bool = True,
) -> Iterator[objectives.TokenPair]:
    """Prompted examples as tokens, cut where they are too long.

    Args:
        examples: Texts of inputs and targets.
        tokenizer: Of the model that will be trained.
        lengths: Most tokens of "inputs" and "targets".
        input_eos: Whether inputs end with the end of sequence, as T-Few's do and T0's
            do not; targets always do.
    """
    for inputs, targets in examples:
        sides = (inputs, "inputs", input_eos), (targets, "targets", True)
        encoded = [
            tokenizer.encode(text, add_eos=add_eos, max_length=lengths[side])
            for text, side, add_eos in sides
        ]
        yield objectives.TokenPair(*(np.array(ids, np.int32) for ids in encoded))


def write(
    directory: str | os.PathLike[str],
    rows: Iterable[Sequence[objectives.TokenPair]],
    *,
    lengths: Mapping[str, int],
    vocabulary: tokenizer.Tokenizer,
    description: Mapping[str, Any] | None = None,
) -> "TokenArrays":
    """Writes packed rows, see `packing.pack`.

    Args:
        directory: New, or holding arrays whose writing was not finished.
        rows: The pairs of each row.
        lengths: Tokens of a row's "inputs" and "targets".
        vocabulary: What the tokens are of.
        description: Anything worth keeping about what the rows were made of, as JSON.

    Raises:
        TokenArraysError: The directory has no name or holds finished arrays, or there
            are no rows.
    """
    if not os.fspath(directory):
        raise TokenArraysError("the directory of the arrays has no name; give one")
    folder = pathlib.Path(directory).expanduser()
    if (folder / MANIFEST).exists():
        raise TokenArraysError(
            f"{folder} holds token arrays already; remove it or give another directory"
        )
    folder.mkdir(parents=True, exist_ok=True)
    rows, counts = iter(rows), []
    num_examples, num_tokens = 0, dict.fromkeys(lengths, 0)
    while part := list(itertools.islice(rows, ROWS_PER_PART)):
        arrays = packing.to_arrays(part, lengths)
        for name, array in arrays.items():
            np.save(_file(folder, name, len(counts)), _small(array))
        counts.append(len(part))
        num_examples += sum(map(len, part))
        num_tokens["inputs"] += int((arrays["encoder_segment_ids"] > 0).sum())
        num_tokens["targets"] += int((arrays["decoder_segment_ids"] > 0).sum())
    if not counts:
        raise TokenArraysError(
            f"there is nothing to write to {folder}: the texts gave no example"
        )
    content = {
        "format": FORMAT,
        "version": VERSION,
        "lengths": dict(lengths),
        "rows_of_parts": counts,
        "num_examples": num_examples,
        "num_tokens": num_tokens,
        "vocabulary": _fingerprint(vocabulary),
        "description": dict(description or {}),
    }
    temporary = folder / f".{MANIFEST}.tmp"
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MANIFEST)
    return load(folder)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenArrays:
    """Packed rows, read from disk when they are asked for.

    Attributes:
        folder: Where they are.
        lengths: Tokens of a row's "inputs" and "targets".
        num_rows: Rows.
        num_examples: Examples in them.
        num_tokens: Real tokens of all "inputs" and "targets".
        description: What they were made of.
        vocabulary: Fingerprint of the vocabulary.
    """

    folder: pathlib.Path
    lengths: Mapping[str, int]
    num_rows: int
    num_examples: int
    num_tokens: Mapping[str, int]
    description: Mapping[str, Any]
    vocabulary: str
    _parts: Sequence[Mapping[str, np.ndarray]]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells arrays apart, by their manifest and some of their rows."""
        digest = hashlib.sha256((self.folder / MANIFEST).read_bytes())
        chosen = np.linspace(0, self.num_rows - 1, 16).astype(np.int64)
        for array in self.rows(chosen).values():
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def check_vocabulary(self, vocabulary: tokenizer.Tokenizer) -> None:
        """Compares the vocabulary with a model's.

        Raises:
            TokenArraysError: They differ.
        """
        if self.vocabulary != _fingerprint(vocabulary):
            raise TokenArraysError(
                f"{self.folder} holds tokens of another vocabulary than "
                f"{vocabulary.model_file}; prepare the texts with that one"
            )

    def rows(
        self, numbers: Int[np.ndarray, " batch"]
    ) -> dict[str, Int[np.ndarray, "batch length"]]:
        """Rows by their numbers, int32; names as in `packing.to_arrays`."""
        size = len(self._parts[0][_NAMES[0]])  # of all parts but the last
        parts, places = np.divmod(np.asarray(numbers), size)
        found = {}
        for name in _NAMES:
            length = self._parts[0][name].shape[1]
            rows = np.empty((len(places), length), np.int32)
            for part in np.unique(parts).tolist():
                is_there = parts == part
                rows[is_there] = self._parts[part][name][places[is_there]]
            found[name] = rows
        return found

    def batch(self, numbers: Int[np.ndarray, " batch"]) -> types.Batch:
        """The batch of these rows."""
        return packing.to_batch(self.rows(numbers), example_id=np.asarray(numbers))


class PackedBatches:
    """Batches of packed rows in a seeded order, each found by its step alone.

    The order is that of one permutation of the rows after the other.

    Attributes:
        arrays: The rows.
        batch_size: Rows a batch.
        seed: Of the order.
    """

    def __init__(self, arrays: TokenArrays, batch_size: int, seed: int = 0):
        """Reads nothing yet.

        Raises:
            ValueError: The batch size is not positive.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}; a batch takes at least one row")
        self.arrays, self.batch_size, self.seed = arrays, batch_size, seed
        # A batch touches few epochs, and the next batch the same ones.
        self._order = functools.lru_cache(maxsize=2)(self._make_order)

    def _make_order(self, epoch: int) -> Int[np.ndarray, " rows"]:
        generator = np.random.default_rng((self.seed, epoch))
        return generator.permutation(self.arrays.num_rows)

    def batch_at(self, step: int) -> types.Batch:
        """The batch of the update that follows `step` updates."""
        if step < 0:
            raise ValueError(f"step is {step}; steps are counted from 0")
        first = step * self.batch_size
        places = np.arange(first, first + self.batch_size)
        epochs, places = np.divmod(places, self.arrays.num_rows)
        numbers = np.array(
            [self._order(e)[p] for e, p in zip(epochs.tolist(), places, strict=True)]
        )
        return self.arrays.batch(numbers)


def load(directory: str | os.PathLike[str]) -> TokenArrays:
    """Opens a directory that `write` filled.

    Raises:
        TokenArraysError: It holds no arrays, unfinished, newer or damaged ones.
    """
    folder = pathlib.Path(directory).expanduser()
    path = folder / MANIFEST
    if not path.is_file():
        raise TokenArraysError(
            f"{folder} holds no token arrays, or ones whose writing was not finished "
            f"(no {MANIFEST}); prepare them again"
        )
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT or content["version"] > VERSION:
            raise TokenArraysError(
                f"{path}: expected {FORMAT}, version {VERSION} at most, found "
                f"{content['format']!r}, version {content['version']}"
            )
        counts, lengths = content["rows_of_parts"], content["lengths"]
        parts = [_open_part(folder, n, c, lengths) for n, c in enumerate(counts)]
        return TokenArrays(
            folder=folder,
            lengths=lengths,
            num_rows=sum(counts),
            num_examples=content["num_examples"],
            num_tokens=content["num_tokens"],
            description=content["description"],
            vocabulary=content["vocabulary"],
            _parts=parts,
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise TokenArraysError(
            f"{path}: damaged ({type(error).__name__}: {error}); prepare the arrays "
            "again"
        ) from None


def _open_part(
    folder: pathlib.Path, part: int, num_rows: int, lengths: Mapping[str, int]
) -> dict[str, np.ndarray]:
    arrays = {}
    for name in _NAMES:
        path = _file(folder, name, part)
        side = "inputs" if name.startswith("encoder") else "targets"
        expected = (num_rows, lengths[side])
        try:
            array = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise TokenArraysError(
                f"{path}: missing or damaged ({reason}); prepare the arrays again"
            ) from None
        if array.shape != expected:
            raise TokenArraysError(
                f"{path}: has the shape {array.shape}, expected {expected}; prepare "
                "the arrays again"
            )
        arrays[name] = array
    return arrays


def _file(folder: pathlib.Path, name: str, part: int) -> pathlib.Path:
    return folder / f"{name}-{part:05d}.npy"


def _small(array: Int[np.ndarray, "rows length"]) -> np.ndarray:
    """The same numbers in as few bytes as hold them."""
    return array.astype(np.min_scalar_type(int(array.max(initial=0))))


def _fingerprint(vocabulary: tokenizer.Tokenizer) -> str:
    return hashlib.sha256(vocabulary.model_file.read_bytes()).hexdigest()[:16]
