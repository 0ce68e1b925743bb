"""The eleven held-out sets of T-Few, and BoolQ, from a directory of official files.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3: few-shot rows are drawn
from the training split (StoryCloze: from validation), accuracy is on the validation
split (StoryCloze and ANLI: on test). Rows have the field names that promptsource's
templates and T-Few's published subsets use, with `label` as an index and `idx`.
"""

import os
import pathlib

from tfew_jax.data import fewshot, sources
from tfew_jax.data.official import BENCHMARKS, Benchmark


class BenchmarkError(ValueError):
    """A set, split or file that is not there or not the official one."""


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
    """The rows of a split, in the order of its file.

    Args:
        name: One of `names()`.
        split: One of the set's splits.
        data_dir: Directory with the official files of one set or of many.

    Returns:
        Rows that remember file and line.

    Raises:
        BenchmarkError: The set, the split or its file is not there, or a row lacks a
            field of the official format.
        sources.SourceError: The file cannot be read.
    """
    benchmark = get(name)
    if split not in benchmark.splits:
        raise BenchmarkError(
            f"{name} has no split {split!r}; available: {', '.join(benchmark.splits)}"
        )
    path = _find(benchmark, split, pathlib.Path(data_dir))
    rows = []
    for number, row in enumerate(sources.load_rows(path)):
        try:
            fields = benchmark.convert(row, number)
        except (KeyError, ValueError, TypeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise BenchmarkError(
                f"{sources.where(row, number)}: not a row of {name} ({what}); expected "
                f"the file as distributed: {benchmark.source}"
            ) from None
        rows.append(sources.Row(fields, where=sources.where(row, number)))
    return rows


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
        allow_partial_train: Draw from a file with another number of rows than the
            official one, which gives other rows than T-Few's.

    Raises:
        BenchmarkError: The training file is not the official one, or see `load`.
        ValueError: There are fewer rows than shots, or the draw has a single class.
    """
    benchmark = get(name)
    rows = load(name, benchmark.train, data_dir)
    official = benchmark.splits[benchmark.train].num_rows
    if len(rows) != official and not allow_partial_train:
        raise BenchmarkError(
            f"{name}: {len(rows)} rows to draw from, the official {benchmark.train} "
            f"split has {official}; draws from another file are not T-Few's. Fetch it "
            f"({benchmark.source}), or allow this one with --allow_partial_train"
        )
    shots = benchmark.num_shots if num_shots is None else num_shots
    drawn = fewshot.draw_shots([row["label"] for row in rows], shots, seed)
    return [rows[index] for index in drawn]


def published(
    name: str, directory: str | os.PathLike[str], *, seed: int
) -> list[sources.Row]:
    """A subset that T-Few published: `<name>/<N>_shot/<seed>_seed.jsonl`.

    Args:
        name: One of `names()`.
        directory: Holds a directory for each set.
        seed: Number of the file.

    Raises:
        BenchmarkError: There is no such file; the seeds at hand are listed.
        sources.SourceError: The file cannot be read.
    """
    benchmark = get(name)
    folder = pathlib.Path(directory) / name / f"{benchmark.num_shots}_shot"
    path = folder / f"{seed}_seed.jsonl"
    if not path.is_file():
        stems = [
            p.name.removesuffix("_seed.jsonl") for p in folder.glob("*_seed.jsonl")
        ]
        found = ", ".join(sorted(stems, key=lambda stem: (len(stem), stem)))
        raise BenchmarkError(
            f"{path}: no such subset; seeds at hand: {found or 'none'}"
        )
    return sources.load_rows(path)


def _find(benchmark: Benchmark, split: str, data_dir: pathlib.Path) -> pathlib.Path:
    candidates = [data_dir / path for path in benchmark.splits[split].paths]
    for path in candidates:
        if path.is_file():
            return path
    looked = ", ".join(benchmark.splits[split].paths)
    raise BenchmarkError(
        f"{data_dir}: no {split} file of {benchmark.name} (looked for {looked}); "
        f"{benchmark.source}"
    )
