"""Rows of a Hub dataset's split from its parquet files, on disk or downloaded.

Two layouts are known: a repository's own (`CONFIG/SPLIT-00000-of-00001.parquet`, under
`data` for the default configuration) and that of the Hub's automatic conversion, branch
`refs/convert/parquet` (`CONFIG/SPLIT/0000.parquet`). Only parquet files are read: no
code of a repository ever runs. Values keep their types; class labels are integers.
"""

import os
import pathlib
import re
from collections.abc import Sequence

from tfew_jax.data import sources

REVISION = "refs/convert/parquet"
_INSTALL = "install the extra `data`: pip install 'tfew-jax[data]'"
_LFS = b"version https://git-lfs"


def layouts(config: str, split: str) -> tuple[str, ...]:
    """Patterns of a split's files below a snapshot of its repository."""
    found = (f"{config}/{split}-*.parquet", f"{config}/{split}/*.parquet")
    return (*found, f"data/{split}-*.parquet") if config == "default" else found


def find(
    directory: str | os.PathLike[str], repository: str, config: str, split: str
) -> list[pathlib.Path]:
    """The files of a split, in their order; empty where there are none.

    Args:
        directory: A snapshot of the repository, or a folder that holds one under the
            repository's name, with or without the owner, or as the Hub's cache does.
        repository: `owner/name`.
        config: Configuration of the dataset; "default" where it has a single one.
        split: As the Hub calls it.

    Raises:
        sources.SourceError: One of several files is missing.
    """
    top = pathlib.Path(directory).expanduser()
    cached = top / f"datasets--{repository.replace('/', '--')}" / "snapshots"
    snapshots = sorted(cached.glob("*"), key=lambda path: path.stat().st_mtime)
    name = repository.rsplit("/", 1)[-1]
    for root in (top / repository, top / name, *reversed(snapshots), top):
        for pattern in layouts(config, split):
            if paths := sorted(root.glob(pattern)):
                check_complete(paths)
                return paths
    return []


def download(repository: str, config: str, split: str) -> pathlib.Path:
    """Fetches the parquet files of a split, and only these, into the Hub's cache.

    Returns:
        The snapshot, for `find`.

    Raises:
        sources.SourceError: huggingface_hub is not installed, or the files are neither
            in the cache nor to be had.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise sources.SourceError(
            f"downloading {repository} needs huggingface_hub; {_INSTALL}"
        ) from None
    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            repo_type="dataset",
            revision=REVISION,
            allow_patterns=[f"{config}/{split}/*.parquet"],
        )
    # The client's errors, its transport's and the system's have no base in common.
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise sources.SourceError(
            f"{repository} cannot be downloaded from the Hub ({lines[0]}); check the "
            "network, or give a directory that holds its files"
        ) from error
    return pathlib.Path(folder)


def load_rows(paths: Sequence[str | os.PathLike[str]]) -> list[sources.Row]:
    """Reads the rows of parquet files, one file after the other.

    Returns:
        Rows that remember their file and their number in it, from 0.

    Raises:
        sources.SourceError: pyarrow is not installed, a file is not parquet, or there
            are no rows.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise sources.SourceError(f"{paths[0]}: needs pyarrow; {_INSTALL}") from None
    rows = []
    for path in map(pathlib.Path, paths):
        try:
            with path.open("rb") as file:
                if file.read(len(_LFS)) == _LFS:
                    raise sources.SourceError(
                        f"{path}: is a pointer of Git LFS; fetch the file with `git "
                        "lfs pull`"
                    )
            # Not read_table: it would take folders named key=value for columns.
            table = parquet.ParquetFile(path).read()
        except (OSError, pyarrow.ArrowException) as error:
            raise sources.SourceError(
                f"{path}: not a readable parquet file ({str(error).splitlines()[0]}); "
                "fetch it again"
            ) from error
        rows += [
            sources.Row(values, where=f"{path}, row {number}")
            for number, values in enumerate(table.to_pylist())
        ]
    if not rows:
        raise sources.SourceError(f"{paths[0]}: has no rows; fetch it again")
    return rows


def check_complete(paths: Sequence[pathlib.Path]) -> None:
    """Refuses files of which some are missing by the numbers in their names.

    Args:
        paths: All files of a split.

    Raises:
        sources.SourceError: The numbers have gaps.
    """
    names = {path.name for path in paths}
    matches = [re.fullmatch(r"(.*-)\d{5}-of-(\d{5})\.parquet", name) for name in names]
    if any(matches):
        total, stem = max((int(m[2]), m[1]) for m in matches if m)
        expected = {f"{stem}{n:05}-of-{total:05}.parquet" for n in range(total)}
    elif all(re.fullmatch(r"\d{4}\.parquet", name) for name in names):
        expected = {f"{n:04}.parquet" for n in range(int(max(names)[:4]) + 1)}
    else:
        return
    if names != expected:
        wrong = ", ".join(sorted(names ^ expected))
        raise sources.SourceError(
            f"{paths[0].parent}: the split's files should be {len(expected)}, but "
            f"missing or too many: {wrong}; fetch them again"
        )
