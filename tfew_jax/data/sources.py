"""Rows from CSV, TSV and JSONL files.

Every cell of a CSV or TSV file is text; values of a JSONL file keep their types. A
file is read whole: few-shot data is small, and an error near its end should be known
before anything compiles. Every error is one line that names the file, the line, what
was expected and what to do.
"""

import codecs
import csv
import io
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

_KINDS = (".csv", ".tsv", ".jsonl")


class SourceError(ValueError):
    """A file that cannot be read as rows."""


class Row(dict[str, Any]):
    """A row that remembers where it was read, for messages about it.

    Attributes:
        where: For example "train.csv, line 7".
    """

    def __init__(self, values: Mapping[str, Any], *, where: str):
        super().__init__(values)
        self.where = where


def where(row: Mapping[str, Any], index: int) -> str:
    """How a message names a row: by its file and line, else by its index from 0."""
    return row.where if isinstance(row, Row) else f"row {index}"


def load_rows(path: str | os.PathLike[str]) -> list[Row]:
    """Reads the rows of a .csv, .tsv or .jsonl file.

    A byte order mark, CRLF line ends and blank lines are accepted. TSV knows no
    quoting across lines; a cell that stands in quotes as a whole loses them.

    Raises:
        SourceError: The file is missing, empty, not UTF-8 or malformed; the message
            names the line.
    """
    path = pathlib.Path(path).expanduser()
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise SourceError(
            f"{path}: expected a file that ends in {', '.join(_KINDS)}; "
            "save the rows as one of these"
        )
    text = _decode(_read(path), path)
    if not text.strip():
        raise SourceError(
            f"{path}: the file is empty; expected {_expected(kind)} and a row or more"
        )
    if kind == ".jsonl":
        rows = list(_json_rows(text, path))
    else:
        lines = _csv_lines(text, path) if kind == ".csv" else _tsv_lines(text)
        rows = list(_table_rows(lines, path))
    if not rows:
        raise SourceError(
            f"{path}: the file has a header but no rows; add at least one row below it"
        )
    return rows


def _expected(kind: str) -> str:
    return "one JSON object a line" if kind == ".jsonl" else "a header line"


def _read(path: pathlib.Path) -> bytes:
    if path.is_dir():
        raise SourceError(f"{path}: is a directory; give a file with rows in it")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SourceError(
            f"{path}: no such file; looked for it in {pathlib.Path.cwd()}"
            if not path.is_absolute()
            else f"{path}: no such file; check the path"
        ) from None
    except OSError as error:
        raise SourceError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def _decode(data: bytes, path: pathlib.Path) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SourceError(f"{path}: the file is UTF-16, not UTF-8; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SourceError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; "
            "save the file as UTF-8"
        ) from None


def _csv_lines(text: str, path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, cells) of each row of a CSV file."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    limit = csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(
            f"{path}, line {line}: not a CSV row ({error}); a cell with commas, quotes "
            'or line ends stands in "quotes", and a quote inside it is doubled'
        ) from None
    finally:
        csv.field_size_limit(limit)


def _tsv_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        line = line.removesuffix("\n")
        yield number, [_unquote(cell) for cell in line.split("\t")] if line else []


def _unquote(cell: str) -> str:
    if len(cell) < 2 or not (cell[0] == cell[-1] == '"'):
        return cell
    inside = cell[1:-1].replace('""', "\0")
    return cell if '"' in inside else inside.replace("\0", '"')


def _table_rows(
    lines: Iterator[tuple[int, list[str]]], path: pathlib.Path
) -> Iterator[Row]:
    """Rows below a header; blank lines are skipped."""
    kept = ((number, cells) for number, cells in lines if cells)
    header_line, header = next(kept)
    names = [name.strip() for name in header]
    _check_header(names, f"{path}, line {header_line}")
    _check_separator(names, path)
    for number, cells in kept:
        if len(cells) != len(names):
            raise SourceError(
                f"{path}, line {number}: {_count(len(cells), 'cell')} where the header "
                f"has {_count(len(names), 'column')} ({', '.join(names)}); "
                "give every column a cell, and quote cells that hold the separator"
            )
        cells_by_name = dict(zip(names, cells, strict=True))
        yield Row(cells_by_name, where=f"{path}, line {number}")


def _check_header(names: list[str], place: str) -> None:
    for position, name in enumerate(names, start=1):
        if not name:
            raise SourceError(
                f"{place}: column {position} has no name; name it or drop it "
                "(pandas writes such a column without index=False)"
            )
        if _is_number(name):
            raise SourceError(
                f"{place}: expected column names, but column {position} is {name!r}; "
                "put a header line above the rows"
            )
        if names.index(name) != position - 1:
            raise SourceError(
                f"{place}: column {name!r} stands twice in the header; rename one"
            )


def _check_separator(names: list[str], path: pathlib.Path) -> None:
    """Raises where a single name looks like several between other separators."""
    others = {".csv": ";\t", ".tsv": ",;"}[path.suffix.lower()]
    if len(names) == 1 and (found := [mark for mark in others if mark in names[0]]):
        raise SourceError(
            f"{path}: the only column is {names[0]!r}, so that {found[0]!r} seems to "
            "separate the columns; save the table with commas as .csv or with tabs "
            "as .tsv"
        )


def _json_rows(text: str, path: pathlib.Path) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            values = json.loads(line, object_pairs_hook=_unique_object)
        except json.JSONDecodeError as error:
            raise SourceError(
                f"{place}: not JSON ({error.msg}, column {error.colno}); "
                "expected one object a line"
            ) from None
        except ValueError:  # Python reads no numbers of thousands of digits
            raise SourceError(
                f"{place}: a number has too many digits; write it as text"
            ) from None
        except _DuplicateKeyError as error:
            raise SourceError(
                f"{place}: key {error} stands twice; rename one"
            ) from None
        except RecursionError:
            raise SourceError(f"{place}: nested too deeply; flatten the row") from None
        if not isinstance(values, dict):
            raise SourceError(
                f"{place}: expected one JSON object a line, found "
                f"{type(values).__name__}; write each row as {{...}} on its own line"
            )
        may_be_half = "\\ud" in line.lower()
        if may_be_half and (
            half := half_of_a_pair(json.dumps(values, ensure_ascii=False))
        ):
            raise SourceError(f"{place}: {half}")
        yield Row(values, where=place)


def half_of_a_pair(text: str) -> str | None:
    """What is wrong with a text that JSON's escapes gave a lone surrogate, if one is.

    No file can hold such a text, and no vocabulary spells it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        return (
            f"\\u{code:04x} is half of a surrogate pair and no character; write both "
            "halves, or drop it"
        )
    return None


class _DuplicateKeyError(Exception):
    pass


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(repr(next(n for n in names if names.count(n) > 1)))
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower().lstrip("+-") not in ("nan", "inf", "infinity")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
