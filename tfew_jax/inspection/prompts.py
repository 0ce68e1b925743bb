"""The vocabulary entries nearest to a prompt, and what they say about it.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Section 7: every position of a
prompt is compared with the rows of the frozen embedding table by cosine. Their findings
are what is counted here:

- the five nearest entries of a position form tight clusters of related words, which
  those of random vectors from the embedding space do not (`tightness`, and
  `random_vectors` as the control);
- labels that a prompt starts from stay among the nearest entries (`find_labels`), and
  labels turn up near several positions where it starts from something else;
- in long prompts several positions have the same nearest entries (`repeated`);
- the words near a prompt tell its task's domain (`frequent_words`).

Everything here is NumPy in float32; the table is read in blocks of rows, so that it may
be bfloat16, or a memory map.
"""

import collections
import dataclasses
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

_BLOCK = 4096  # rows of the table that are in float32 at once
_SPACE = "\u2581"  # SentencePiece's mark of a space


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """The nearest entries of the vocabulary to each position of a prompt.

    Attributes:
        ids: Rows of the embedding table, nearest first; of equal ones the lower id.
        cosines: With these rows. A vector of zeros has cosine 0 with everything.
        norms: L2 norm of each position.
        tightness: Mean cosine between the entries of a position, two by two; None
            where each position has one entry.
    """

    ids: Int[np.ndarray, "prompt top"]
    cosines: Float[np.ndarray, "prompt top"]
    norms: Float[np.ndarray, "prompt"]
    tightness: Float[np.ndarray, "prompt"] | None


def nearest(
    prompt: Shaped[np.ndarray, "prompt embed"],
    table: Shaped[np.ndarray, "vocab table_embed"],  # the same width, or an error
    *,
    top: int = 5,
    candidates: Bool[np.ndarray, "vocab"] | None = None,
) -> Neighbours:
    """The `top` entries with the largest cosine for each position.

    Args:
        prompt: Learned vectors, in any float dtype.
        table: The frozen embedding table, in any float dtype.
        top: Entries for each position; the paper shows five.
        candidates: Which rows of the table count; None for all.

    Raises:
        ValueError: If `top` is not from 1 to the number of candidates, the widths
            differ, or a number is not finite.
    """
    candidates = _checked_candidates(table, candidates)
    if not 1 <= top <= candidates.sum():
        raise ValueError(
            f"top must be from 1 to the {candidates.sum()} entries that count, "
            f"got {top}"
        )
    if prompt.shape[1] != table.shape[1]:
        raise ValueError(
            f"the prompt has {prompt.shape[1]} columns, the embedding table "
            f"{table.shape[1]}; give the embedding of the model it was trained on"
        )
    vectors = _finite(prompt, "the prompt")
    directions = _directions(vectors)
    cosines = np.zeros((len(vectors), 0), np.float32)
    ids = np.zeros((len(vectors), 0), np.int64)
    for rows, block in _blocks(table, candidates):
        cosines = np.concatenate([cosines, directions @ _directions(block).T], axis=1)
        ids = np.concatenate([ids, np.tile(rows, (len(vectors), 1))], axis=1)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :top]
        cosines = np.take_along_axis(cosines, best, axis=1)
        ids = np.take_along_axis(ids, best, axis=1)
    return Neighbours(
        ids=ids,
        cosines=cosines,
        norms=np.linalg.norm(vectors, axis=1),
        tightness=None if top == 1 else _tightness(ids, table),
    )


def random_vectors(
    count: int,
    table: Shaped[np.ndarray, "vocab embed"],
    *,
    candidates: Bool[np.ndarray, "vocab"] | None = None,
    seed: int = 0,
) -> Float[np.ndarray, "prompt embed"]:
    """Vectors drawn from the embedding space, the control of Section 7.

    The paper does not say how it drew them. Here every coordinate is normal, with the
    mean and the standard deviation that the table's column has over the candidates.

    Args:
        count: How many.
        table: The frozen embedding table.
        candidates: Which of its rows count; None for all.
        seed: Of NumPy's Philox generator; the same seed gives the same vectors.

    Raises:
        ValueError: If a number of the table is not finite, or no row counts.
    """
    candidates = _checked_candidates(table, candidates)
    total = np.zeros(table.shape[1], np.float64)
    for _, block in _blocks(table, candidates):
        total += block.sum(axis=0, dtype=np.float64)
    mean = total / candidates.sum()
    squares = np.zeros(table.shape[1], np.float64)
    for _, block in _blocks(table, candidates):
        squares += np.square(block - mean).sum(axis=0)
    deviation = np.sqrt(squares / candidates.sum())
    generator = np.random.Generator(np.random.Philox(seed))
    normal = generator.standard_normal((count, table.shape[1]))
    return (mean + deviation * normal).astype(np.float32)


def repeated(keys: Sequence[Hashable]) -> list[tuple[int, ...]]:
    """Groups of two or more positions with the same key, the largest first."""
    places: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        places.setdefault(key, []).append(position)
    groups = [tuple(group) for group in places.values() if len(group) > 1]
    return sorted(groups, key=lambda group: (-len(group), group))


def word_of(piece: str) -> str:
    """What a piece says, without its mark of a space and without capitals."""
    return piece.replace(_SPACE, " ").strip().casefold() or piece


def frequent_words(words: Sequence[Sequence[str]]) -> list[tuple[str, int]]:
    """Words by the number of positions that have them among their neighbours.

    Args:
        words: Those of each position. Pieces that say the same word count once for a
            position.

    Returns:
        Word and number, the most frequent first, then in alphabetical order.
    """
    counts = collections.Counter(word for some in words for word in set(some))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """Where a label of the task stands among the neighbours of a prompt.

    A label is found at a position if all its words are among the neighbours; of a
    label with more words than neighbours, as many as there are neighbours.

    Attributes:
        text: The label.
        words: Of its pieces.
        position: The first that started from it; None where none did.
        num_kept: How many of its words are found at that position.
        kept: Whether the label is found there; None without such a position.
        positions: All positions where it is found.
    """

    text: str
    words: tuple[str, ...]
    position: int | None
    num_kept: int
    kept: bool | None
    positions: tuple[int, ...]


def find_labels(
    words: Sequence[Sequence[str]],
    labels: Sequence[tuple[str, Sequence[str]]],
    *,
    start: Sequence[str] = (),
) -> list[Label]:
    """Looks for labels among the neighbours.

    Whether a label has lasted says something only where the prompt started from it.

    Args:
        words: Of each position's neighbours.
        labels: Text and words of each label.
        start: What the prompt started from: position i from the i-th text. Empty where
            it was something else, and for the prompt of a decoder.

    Raises:
        ValueError: If a label has no words.
    """
    found = []
    places = list(start)[: len(words)]
    for text, label_words in labels:
        if not label_words:
            raise ValueError(f"the vocabulary has no piece for the label {text!r}")
        wanted = set(label_words)
        matches = [len(wanted & set(some)) for some in words]
        where = tuple(
            at
            for at, (number, some) in enumerate(zip(matches, words, strict=True))
            if number >= min(len(wanted), len(some))
        )
        position = places.index(text) if text in places else None
        found.append(
            Label(
                text=text,
                words=tuple(label_words),
                position=position,
                num_kept=0 if position is None else matches[position],
                kept=None if position is None else position in where,
                positions=where,
            )
        )
    return found


def _checked_candidates(
    table: Shaped[np.ndarray, "vocab embed"],
    candidates: Bool[np.ndarray, "vocab"] | None,
) -> Bool[np.ndarray, "vocab"]:
    if candidates is None:
        candidates = np.ones(len(table), bool)
    if not candidates.any():
        raise ValueError("no row of the embedding table counts; none can be near")
    return candidates


def _blocks(
    table: Shaped[np.ndarray, "vocab embed"], candidates: Bool[np.ndarray, "vocab"]
) -> Iterator[tuple[Int[np.ndarray, "rows"], Float[np.ndarray, "rows embed"]]]:
    """The rows that count, some thousands at a time: their ids and values."""
    rows = np.flatnonzero(candidates)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        yield some, _finite(table[some], "the embedding table")


def _finite(
    array: Shaped[np.ndarray, "rows embed"], name: str
) -> Float[np.ndarray, "rows embed"]:
    array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds NaN or infinity; the file is damaged or the training that "
            "wrote it diverged"
        )
    return array


def _directions(
    vectors: Float[np.ndarray, "rows embed"],
) -> Float[np.ndarray, "rows embed"]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, np.finfo(np.float32).tiny)


def _tightness(
    ids: Int[np.ndarray, "prompt top"], table: Shaped[np.ndarray, "vocab embed"]
) -> Float[np.ndarray, "prompt"]:
    """Mean cosine of the pairs among each position's entries."""
    top = ids.shape[1]
    mean = np.zeros(len(ids), np.float32)
    for position, rows in enumerate(ids):
        directions = _directions(np.asarray(table[rows], np.float32))
        cosines = directions @ directions.T
        mean[position] = (cosines.sum() - np.trace(cosines)) / (top * (top - 1))
    return mean
