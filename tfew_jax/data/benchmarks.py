"""The eleven held-out sets of T-Few, and BoolQ: official files, TFDS, or the Hub.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3: few-shot rows are drawn
from the training split (StoryCloze: from validation), accuracy is on the validation
split (StoryCloze and ANLI: on test). Rows have the field names that promptsource's
templates and T-Few's published subsets use, with `label` as an index and `idx`. How a
source is written: `distributions`.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfew_jax.data import distributions, fewshot, official, sources
from tfew_jax.data.mirrors import MIRRORS
from tfew_jax.data.official import BENCHMARKS, Benchmark, Fields

BenchmarkError = distributions.SetError
NoSplitError = distributions.NoSplitError


def names() -> list[str]:
    """All sets, in the order of the paper's tables."""
    return list(BENCHMARKS)


def get(name: str) -> Benchmark:
    """A set by T-Few's name.

    Raises:
        BenchmarkError: There is no such set.
    """
    if name not in BENCHMARKS:
        raise BenchmarkError(
            f"unknown set {name!r}; available: {', '.join(BENCHMARKS)}"
        )
    return BENCHMARKS[name]


def load(name: str, split: str, data_dir: str | os.PathLike[str]) -> list[sources.Row]:
    """The rows of a split, in the order of its file or its records.

    Args:
        name: One of `names()`.
        split: One of the set's splits.
        data_dir: A source of one set or of many: `DIR`, `tfds:DIR` or `hub:DIR`.

    Returns:
        Rows that remember where they were read. SuperGLUE's rows of TFDS are put in the
        order of the official file.

    Raises:
        NoSplitError: None of the source's forms of the split is there.
        BenchmarkError: There is no such set or split, or a row lacks a field of the
            source's format or has another type there.
        sources.SourceError: What is there cannot be read, a package of the extra `data`
            is missing, or the Hub cannot be reached.
    """
    benchmark = get(name)
    if split not in benchmark.splits:
        raise BenchmarkError(
            f"{name} has no split {split!r}; available: {', '.join(benchmark.splits)}"
        )
    return _read(benchmark, split, data_dir)[0]


def draw(
    name: str,
    data_dir: str | os.PathLike[str],
    *,
    seed: int,
    num_shots: int | None = None,
    allow_partial_train: bool = False,
) -> list[sources.Row]:
    """The few-shot rows of a seed, drawn as T-Few drew its published subsets.

    Args:
        name: One of `names()`.
        data_dir: See `load`.
        seed: T-Few has 0, 1, 32, 42 and 1024.
        num_shots: T-Few's number where None.
        allow_partial_train: Draw also from another number or order of rows than the
            official one, which gives other rows than T-Few's.

    Raises:
        BenchmarkError: The training rows are not the official ones, or TFDS keeps them
            in another order, or see `load`.
        ValueError: There are fewer rows than shots, or the draw has a single class.
    """
    benchmark = get(name)
    rows, in_order = _read(benchmark, benchmark.train, data_dir)
    num_rows = benchmark.splits[benchmark.train].num_rows
    if len(rows) != num_rows and not allow_partial_train:
        raise BenchmarkError(
            f"{name}: {len(rows)} rows to draw from, the official {benchmark.train} "
            f"split has {num_rows}; draws from another file are not T-Few's. Fetch it "
            f"({benchmark.source}), or allow this one with --allow_partial_train"
        )
    if not in_order and not allow_partial_train:
        raise BenchmarkError(
            f"{name}: TFDS keeps its rows in another order than the official file, so "
            "that draws from them are not T-Few's; draw from the official files "
            f"({benchmark.source}) or the Hub's, or allow it with --allow_partial_train"
        )
    moved = [place for place, row in enumerate(rows) if row["idx"] != place]
    if moved and not allow_partial_train:
        raise BenchmarkError(
            f"{name}: {rows[moved[0]].where} has the number {rows[moved[0]]['idx']}, "
            f"expected {moved[0]}; draws from rows in another order are not T-Few's. "
            f"Fetch the file again ({benchmark.source}), or allow this one with "
            "--allow_partial_train"
        )
    shots = benchmark.num_shots if num_shots is None else num_shots
    drawn = fewshot.draw_shots([row["label"] for row in rows], shots, seed)
    return [rows[index] for index in drawn]


def published(
    name: str,
    directory: str | os.PathLike[str],
    *,
    seed: int,
    num_shots: int | None = None,
) -> list[sources.Row]:
    """A subset that T-Few published: `<name>/<N>_shot/<seed>_seed.jsonl`.

    Args:
        name: One of `names()`.
        directory: Holds a directory for each set.
        seed: Number of the file.
        num_shots: N; T-Few's number where None.

    Raises:
        BenchmarkError: There is no such file (the seeds at hand are listed), it has
            another number of rows, or a row has no index as its label or another type.
        sources.SourceError: The file cannot be read.
        ValueError: All rows have the same label.
    """
    shots = get(name).num_shots if num_shots is None else num_shots
    folder = pathlib.Path(directory).expanduser() / name / f"{shots}_shot"
    path = folder / f"{seed}_seed.jsonl"
    if not path.is_file():
        stems = [
            p.name.removesuffix("_seed.jsonl") for p in folder.glob("*_seed.jsonl")
        ]
        found = ", ".join(sorted(stems, key=lambda stem: (len(stem), stem)))
        raise BenchmarkError(
            f"{path}: no such subset; seeds at hand: {found or 'none'}"
        )
    rows = sources.load_rows(path)
    if len(rows) != shots:
        raise BenchmarkError(
            f"{path}: {len(rows)} rows, expected {shots}; fetch it again"
        )
    for row in rows:
        try:
            official.check(row)
            _check_label(row)
        except ValueError as error:
            raise BenchmarkError(
                f"{row.where}: not a row of {name} ({error}); expected T-Few's file"
            ) from None
    fewshot.check_classes([row["label"] for row in rows], str(path))
    return rows


def _check_label(row: Mapping[str, Any]) -> None:
    if row.get("label", -1) < 0:
        raise ValueError("no label, an index is expected")


def _read(
    benchmark: Benchmark, split: str, source: str | os.PathLike[str]
) -> distributions.Found:
    """The rows of a split, and whether they stand in the official order."""

    def convert(row: Mapping[str, Any], number: int) -> Fields:
        fields = benchmark.convert(row, number)
        official.check(fields)
        return fields

    forms = distributions.Forms(
        name=benchmark.name,
        split=split,
        paths=benchmark.splits[split].paths,
        read=sources.load_rows,
        convert=convert,
        mirror=MIRRORS[benchmark.name],
        source=benchmark.source,
    )
    return distributions.read(forms, source)
