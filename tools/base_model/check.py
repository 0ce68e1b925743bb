"""Compares what was prepared for training with held-out files, given now or then.

`prepare` refuses held-out texts before it writes them. This reads back what it wrote:
every text, the sentence that follows it, every window of running text and every phrase,
decoded from its tokens.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from base_model import heldout, heldout_files, ragged, vocabulary

ARRAYS = ("texts", "following", "running", "phrases")
_SHOWN = 10  # offenders of an array that are named
_BLOCK = 4_096
_LENGTH = 100  # characters of an offender that are shown


@dataclasses.dataclass(frozen=True)
class Offender:
    """A training text that meets a held-out one.

    Attributes:
        array: Which of the arrays it is in.
        number: Its number there.
        text: As it was trained on.
        how: "equals" or "overlaps with".
    """

    array: str
    number: int
    text: str
    how: str


def run(*, work: pathlib.Path, held_out: Sequence[pathlib.Path]) -> int:
    """Print what of a work folder meets held-out rows.

    Args:
        work: Folder that `prepare` wrote.
        held_out: Files and folders with rows that must not be trained on.

    Returns:
        The number of offending texts.

    Raises:
        ValueError: The folder holds no arrays, or a held-out path cannot be read.
    """
    if not (work / "sentencepiece.model").is_file():
        raise ValueError(f"--work {work}: not a folder that `prepare` wrote")
    files = heldout_files.find(held_out)
    print(f"held-out files: {len(files)}")
    checker = heldout.HeldOut.from_paths(files)
    shown: list[Offender] = []
    total = 0
    for array in ARRAYS:
        offenders, count = [], 0
        for number, text in _texts(work, array):
            count += 1
            if how := checker.match(text):
                offenders.append(Offender(array, number, text, how))
        equal = sum(offender.how == heldout.EQUAL for offender in offenders)
        print(
            f"{array}: {count:,} compared, {equal} equal, "
            f"{len(offenders) - equal} overlapping"
        )
        shown += offenders[:_SHOWN]
        total += len(offenders)
    places = locate(shown, files)
    for offender, place in zip(shown, places, strict=True):
        text = " ".join(offender.text.split())
        text = text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"
        name = f"{offender.array} {offender.number}"
        print(f"{name}: {text!r} {offender.how} {place or '?'}")
    return total


def _texts(work: pathlib.Path, array: str) -> Iterator[tuple[int, str]]:
    """Number and text of every list of tokens that is not empty."""
    pieces = vocabulary.load(work / "sentencepiece.model")
    tokens = ragged.Ragged.load(work, array)
    filled = np.flatnonzero(tokens.lengths)
    for start in range(0, len(filled), _BLOCK):
        numbers = filled[start : start + _BLOCK].tolist()
        texts = pieces.decode([tokens[number].tolist() for number in numbers])
        yield from zip(numbers, texts, strict=True)


def locate(
    offenders: Sequence[Offender], files: Sequence[pathlib.Path]
) -> list[heldout_files.Field | None]:
    """The held-out field that each offender shares most with.

    The files are read again for it: a place for every run of words in them would take
    several times the memory of the runs.
    """
    keys = [" ".join(heldout.words(offender.text)) for offender in offenders]
    wanted = [set(heldout.runs(key.split())) for key in keys]
    best: list[tuple[float, heldout_files.Field | None]] = [(0, None)] * len(offenders)
    if not offenders:
        return []
    for field in (f for file in files for f in heldout_files.fields(file)):
        tokens = heldout.words(field.text)
        key, found = " ".join(tokens), set(heldout.runs(tokens))
        for number, runs in enumerate(wanted):
            shared = float("inf") if key == keys[number] else len(runs & found)
            if shared > best[number][0]:
                best[number] = shared, field
    return [field for _, field in best]
