"""Rows of text-to-text tasks, with flat fields: official files, TFDS, or the Hub.

MultiRC, ReCoRD, SQuAD and MRQA are distributed as passages that hold questions;
TensorFlow Datasets and the Hub give a row for each question or answer, and so does
this. The other sets of SuperGLUE are those of `benchmarks`, the rest those of
`text_sets`. How a source is written: `distributions`; MRQA, the parts of SQuAD's
development file and SQuADShifts are read from official files only.
"""

import functools
import os
import pathlib

from tfew_jax.data import benchmarks, distributions, sources, text_sets
from tfew_jax.data.mirrors import TEXT_MIRRORS
from tfew_jax.data.text_sets import MRQA, SETS

__all__ = ["MRQA", "load", "names", "sizes", "source", "splits"]


def names() -> list[str]:
    """All sets that `load` knows."""
    return list(dict.fromkeys([*benchmarks.names(), *SETS]))


def splits(name: str) -> list[str]:
    """The splits of a set.

    Raises:
        ValueError: There is no such set.
    """
    if name in benchmarks.names():
        return list(benchmarks.get(name).splits)
    return list(_set(name).splits)


def sizes(name: str) -> dict[str, int]:
    """Official number of rows of each split of a set.

    Raises:
        ValueError: There is no such set.
    """
    known = benchmarks.get(name) if name in benchmarks.names() else _set(name)
    return {split: files.num_rows for split, files in known.splits.items()}


def source(name: str) -> str:
    """Where the official files of a set are to be had.

    Raises:
        ValueError: There is no such set.
    """
    known = benchmarks.get(name) if name in benchmarks.names() else _set(name)
    return known.source


def load(name: str, split: str, data_dir: str | os.PathLike[str]) -> list[sources.Row]:
    """The rows of a split, in the order of its file.

    Args:
        name: One of `names()`.
        split: One of `splits(name)`.
        data_dir: A source of one set or of many: `DIR`, `tfds:DIR` or `hub:DIR`.

    Returns:
        The same rows whatever the source. TFDS's are put in the order of the official
        file, except those of SQuAD and of what `mirrors` names, which stand in TFDS's.

    Raises:
        distributions.NoSplitError: None of the source's forms of the split is there.
        ValueError: There is no such set or split, a row is not of the source's format,
            or what is there cannot be read.
    """
    if name in benchmarks.names():
        return benchmarks.load(name, split, data_dir)
    known = _set(name)
    if split not in known.splits:
        raise ValueError(
            f"{name} has no split {split!r}; available: {', '.join(known.splits)}"
        )
    forms = distributions.Forms(
        name=name,
        split=split,
        paths=known.splits[split].paths,
        read=functools.partial(_read_file, name, known, split),
        convert=lambda row, number: dict(row),
        mirror=TEXT_MIRRORS.get(name),
        source=known.source,
    )
    rows = distributions.read(forms, data_dir)[0]
    if not known.numbers_anew:
        return rows
    return [
        sources.Row({**row, "idx": number}, where=row.where)
        for number, row in enumerate(rows)
    ]


def _read_file(
    name: str, known: text_sets.TextSet, split: str, path: pathlib.Path
) -> list[sources.Row]:
    rows: list[sources.Row] = []
    pieces = known.read(path)
    for place, value in pieces if known.part is None else known.part(split, pieces):
        try:
            rows += [sources.Row(row, where=place) for row in known.flatten(value)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{place}: not of {name} ({what}); expected the file as distributed"
            ) from None
    if not rows:
        raise ValueError(f"{path}: holds no rows of {name}; fetch it again")
    return rows


def _set(name: str) -> text_sets.TextSet:
    if name not in SETS:
        raise ValueError(f"unknown set {name!r}; available: {', '.join(names())}")
    return SETS[name]
