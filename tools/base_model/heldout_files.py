"""Fields of the rows of held-out files, whatever their format.

JSON and JSONL, CSV and TSV with or without a header, Parquet, and lines of text with a
label before them or tabs between their fields; `.gz` and `.xz` behind a name are
undone.
"""

import csv
import dataclasses
import gzip
import io
import json
import logging
import lzma
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

log = logging.getLogger(__name__)

_LINES = (".txt", ".train", ".dev", ".test", ".label")
_TABLES = {".csv": ",", ".tsv": "\t"}
_OPENERS = {".gz": gzip.decompress, ".xz": lzma.decompress}
SUFFIXES = (".jsonl", ".json", *_TABLES, ".parquet", *_LINES, *_OPENERS)
_UNREADABLE = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, csv.Error)
_SHOWN = 10  # files left out that are named
_HEADER = re.compile(r"[A-Za-z_][\w .:/()-]{0,40}")


@dataclasses.dataclass(frozen=True)
class Field:
    """A text of a held-out row.

    Attributes:
        path: The file.
        row: Number of its row, from 1; a header is row 1.
        name: Of the field.
        text: What is in it.
    """

    path: pathlib.Path
    row: int
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}, row {self.row}, {self.name}"


def find(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """The files themselves, and of folders all files of a known kind.

    Files of a folder that are of no known kind are named in the log.

    Raises:
        ValueError: A path does not exist, or nothing of it is of a known kind.
    """
    files: list[pathlib.Path] = []
    for path in paths:
        there = [path] if path.is_file() else sorted(path.rglob("*"))
        there = [file for file in there if file.is_file()]
        found = [file for file in there if _kind(file) in SUFFIXES]
        if not found:
            raise ValueError(f"--held-out {path}: no {', '.join(SUFFIXES)} file")
        if others := [str(f.relative_to(path)) for f in there if f not in found]:
            shown = ", ".join(others[:_SHOWN])
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            log.warning("--held-out %s: not compared with: %s%s", path, shown, more)
        files += found
    return files


def _kind(path: pathlib.Path) -> str:
    """The suffix of what is in a file; that of the packing where nothing else is."""
    packing = path.suffix.lower()
    inner = path.with_suffix("").suffix.lower() if packing in _OPENERS else packing
    return inner or packing


def fields(path: pathlib.Path) -> Iterator[Field]:
    """Every text of a file that holds a letter or a digit.

    Raises:
        ValueError: The file cannot be read, or nothing can be read from it.
    """
    try:
        found = [
            Field(path, row, name, text)
            for row, name, text in _read(path)
            if any(map(str.isalnum, text))
        ]
    except _UNREADABLE as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"--held-out {path}: cannot be read ({problem})") from error
    if not found:
        raise ValueError(
            f"--held-out {path}: no text can be read from it; remove the file, or give "
            "one with rows"
        )
    yield from found


def _read(path: pathlib.Path) -> Iterator[tuple[int, str, str]]:
    """Row, name and text of every field."""
    data, kind = path.read_bytes(), _kind(path)
    if (packing := path.suffix.lower()) in _OPENERS:
        data = _OPENERS[packing](data)
    if kind == ".parquet":
        yield from _parquet(data)
        return
    body = _decoded(data)
    lines = [line.rstrip("\r") for line in body.split("\n")]
    if kind in (".json", ".jsonl"):
        for row, item in _items(body, lines, kind):
            yield from ((row, name, text) for name, text in _strings(item))
    elif kind in _TABLES:
        yield from _table(body, _TABLES[kind])
    else:
        for row, line in enumerate(lines, 1):
            yield row, "text behind a label", line.partition(" ")[2]
            for number, part in enumerate(line.split("\t"), 1):
                yield row, f"field {number}", part


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _items(body: str, lines: list[str], kind: str) -> Iterator[tuple[int, Any]]:
    """Rows of JSON: of a list, or one in each line, whatever the file is called."""
    if kind == ".json":
        try:
            value = json.loads(body)
        except json.JSONDecodeError:
            if len(lines) < 2:
                raise
        else:
            yield from enumerate(value if isinstance(value, list) else [value], 1)
            return
    for row, line in enumerate(lines, 1):
        if line.strip():
            yield row, json.loads(line)


def _strings(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts of a JSON value with their places in it."""
    if isinstance(value, str):
        yield name or "text", value
    elif isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _strings(item, f"{name}/{key}" if name else str(key))


def _table(body: str, delimiter: str) -> Iterator[tuple[int, str, str]]:
    """Cells, those of the first row too: nothing says whether it is a header."""
    names: list[str] = []
    # Tabs need no quotes, and a quotation mark there is one.
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    source = io.StringIO(body, newline="")
    rows = csv.reader(source, delimiter=delimiter, quoting=quoting)
    for number, row in enumerate(rows, 1):
        is_header = len(set(row)) == len(row) and all(map(_HEADER.fullmatch, row))
        if number == 1 and is_header:
            names = row
        for column, text in enumerate(row):
            known = column < len(names)
            yield number, names[column] if known else f"column {column + 1}", text


def _parquet(data: bytes) -> Iterator[tuple[int, str, str]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError("Parquet needs pyarrow; install tfew-jax[data]") from None
    try:
        with parquet.ParquetFile(pyarrow.BufferReader(data)) as file:
            row = 0
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    row += 1
                    yield from ((row, name, text) for name, text in _strings(values))
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
