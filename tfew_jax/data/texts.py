"""Texts to pre-train on, from files or the Hub, read as they are asked for.

A text file holds a text in each paragraph, in each line, or as a whole; a JSONL or
Parquet file, as C4's, holds one in a field of each row. `.gz` and `.xz` behind a name
are undone. `hub:OWNER/NAME:CONFIG:SPLIT` stands for the Parquet files of a dataset on
the Hub, as `hub:allenai/c4:en:train`.
"""

import contextlib
import gzip
import json
import lzma
import os
import pathlib
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

from tfew_jax.data import hub, sources

_OPENERS = {".gz": gzip.open, ".xz": lzma.open}
_JSON = (".jsonl", ".json")  # rows in lines, as the Hub's .json.gz too
_TEXT = (".txt", ".text", ".md")
UNITS = ("paragraph", "line", "file")
_PARQUET = ".parquet"
_HUB = "hub:"
SUFFIXES = (
    *(kind + packed for kind in (*_TEXT, *_JSON) for packed in ("", *_OPENERS)),
    _PARQUET,
)


class TextsError(ValueError):
    """Files that cannot be read as texts."""


def find(paths: Sequence[str | os.PathLike[str]]) -> list[pathlib.Path]:
    """The files themselves, and of folders all files of a known kind, by name.

    Files of the Hub are put into its cache first.

    Raises:
        TextsError: A path does not exist, is of no known kind, or a folder holds no
            such file.
        sources.SourceError: Files of the Hub are not to be had.
    """
    found: list[pathlib.Path] = []
    for given in paths:
        path = pathlib.Path(given).expanduser()
        if str(given).startswith(_HUB):
            found += _from_hub(str(given))
        elif path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and _is_known(p))
            if not files:
                raise TextsError(
                    f"{path}: holds no texts; expected files that end in "
                    f"{', '.join(SUFFIXES)}"
                )
            found += files
        elif not path.is_file():
            raise TextsError(f"{path}: no such file or folder; check the path")
        elif not _is_known(path):
            raise TextsError(
                f"{path}: expected a file that ends in {', '.join(SUFFIXES)}; rename "
                "or convert it"
            )
        else:
            found.append(path)
    if not found:
        raise TextsError("no files of texts are given; give files or folders")
    return found


def read(
    paths: Sequence[str | os.PathLike[str]],
    *,
    unit: str = "paragraph",
    field: str = "text",
    shard: tuple[int, int] = (0, 1),
) -> Iterator[str]:
    """The texts of files, one file after the other.

    Args:
        paths: Files or folders of them, see `find`.
        unit: What of a text file is a text: "paragraph" (blank lines between them,
            line ends within become spaces), "line", or "file".
        field: Of the rows of JSONL and Parquet files.
        shard: This host's number and the number of hosts: of all texts it reads every
            n-th, so that all hosts together read each one once.

    Yields:
        Texts that are not empty.

    Raises:
        TextsError: A file is missing, damaged, or not UTF-8; a row is no JSON object
            or has no such field. The message names the file and the line.
    """
    if unit not in UNITS:
        raise TextsError(f"unit is {unit!r}; choose from {', '.join(UNITS)}")
    index, num_shards = shard
    if not 0 <= index < num_shards:
        raise TextsError(
            f"shard {index} of {num_shards} does not exist; shards are counted from 0"
        )
    number = 0
    for path in find(paths):
        kind = _kind(path)
        if kind == _PARQUET:
            found = _columns(path, field)
        else:
            found = _rows(path, field) if kind in _JSON else _units(path, unit)
        for text in found:
            if number % num_shards == index:
                yield text
            number += 1


def _from_hub(given: str) -> list[pathlib.Path]:
    parts = given.removeprefix(_HUB).split(":")
    if len(parts) != 3 or not all(parts) or parts[0].count("/") != 1:
        raise TextsError(
            f"{given}: expected hub:OWNER/NAME:CONFIG:SPLIT, as hub:allenai/c4:en:train"
        )
    repository, config, split = parts
    files = hub.find(hub.download(repository, config, split), repository, config, split)
    if not files:
        raise TextsError(f"{given}: the Hub has no Parquet files of that split")
    return files


def _columns(path: pathlib.Path, field: str) -> Iterator[str]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise TextsError(
            f"{path}: reading Parquet needs pyarrow; install tfew-jax[data]"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if field not in names:
                raise TextsError(
                    f"{path}: has no column {field!r}, only {', '.join(names)}; name "
                    "the one with the texts"
                )
            for batch in file.iter_batches(columns=[field]):
                for value in batch.column(0).to_pylist():
                    if value is not None and not isinstance(value, str):
                        raise TextsError(
                            f"{path}: the column {field!r} holds "
                            f"{type(value).__name__}, expected texts"
                        )
                    if text := (value or "").strip():
                        yield text
    except (OSError, pyarrow.ArrowException) as error:
        problem = " ".join(str(error).split())
        raise TextsError(f"{path}: not a readable Parquet file ({problem})") from None


def _kind(path: pathlib.Path) -> str:
    """The suffix of what is in a file, compressed or not."""
    name = path.with_suffix("") if path.suffix.lower() in _OPENERS else path
    return name.suffix.lower()


def _is_known(path: pathlib.Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, and one line if they are damaged."""
    opener: Any = _OPENERS.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            yield file
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise TextsError(
            f"{path}: cut off or damaged ({error}); fetch the file again"
        ) from None
    except OSError as error:
        raise TextsError(f"{path}: cannot be read ({error.strerror})") from None


def _lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, without their ends."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise TextsError(
                    f"{path}, line {number}: not UTF-8 ({error.reason}); save the "
                    "file as UTF-8"
                ) from None
            yield number, text.rstrip("\r\n")


def _rows(path: pathlib.Path, field: str) -> Iterator[str]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextsError(
                f"{path}, line {number}: not JSON ({error}); expected one object a line"
            ) from None
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            there = f" with {', '.join(row)}" if isinstance(row, dict) else ""
            raise TextsError(
                f"{path}, line {number}: expected an object with the text in "
                f"{field!r}, found {type(row).__name__}{there}"
            )
        if half := sources.half_of_a_pair(row[field]):
            raise TextsError(f"{path}, line {number}: {half}")
        if text := row[field].strip():
            yield text


def _units(path: pathlib.Path, unit: str) -> Iterator[str]:
    part: list[str] = []
    for _, line in _lines(path):
        ends = unit == "line" or (unit == "paragraph" and not line.strip())
        part.append(line if unit == "file" else line.strip())
        if ends:
            yield from _joined(part, unit)
            part = []
    yield from _joined(part, unit)


def _joined(part: list[str], unit: str) -> Iterator[str]:
    """The text of some lines, if there is any."""
    if text := ("\n" if unit == "file" else " ").join(part).strip():
        yield text
