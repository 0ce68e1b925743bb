"""Files of many rows, read a row at a time: JSONL, Parquet, CSV and TSV.

`sources` reads few-shot data whole and checks every row; here a row of a JSONL file is
parsed when it is asked for, and Parquet is held as Arrow's columns.
"""

import abc
import array
import bisect
import json
import mmap
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tfew_jax.data import hub, sources

SUFFIXES = (".parquet", ".jsonl", ".csv", ".tsv")

Columns = Callable[[Sequence[str]], Sequence[str]]


class RowsError(ValueError):
    """Rows that cannot be read, or are not what their place says."""


@runtime_checkable
class Rows(Protocol):
    """Rows by index, each read when it is asked for, which may raise RowsError.

    Lists of rows are such as well. Not a `Sequence[...]`: checkers of types at run time
    look into a sequence at random, and so would meet an unreadable row there.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def train_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of training rows in a folder, in order of names.

    `train.jsonl`, or `train-00000-of-00002.parquet` and so on, or files in `train/`.

    Raises:
        RowsError: There are files of several kinds.
        sources.SourceError: Some of several Parquet files are missing.
    """
    found = [
        path
        for path in sorted([*folder.glob("train[.-]*"), *folder.glob("train/*")])
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    kinds = sorted({path.suffix.lower() for path in found})
    if len(kinds) > 1:
        raise RowsError(
            f"{folder}: holds training rows as {' and as '.join(kinds)}; keep one kind"
        )
    if found:
        hub.check_complete(found)
    return found


def load(
    files: Sequence[pathlib.Path],
    *,
    columns: Columns | None = None,
    limit: int | None = None,
) -> Rows:
    """The rows of files of one kind, one file after the other.

    Args:
        files: .parquet, .jsonl, .csv or .tsv.
        columns: From the names of a Parquet file's columns, those to read; all where
            None.
        limit: Rows to read at most.

    Raises:
        RowsError: A file cannot be read, or needs pyarrow, which is not installed. A
            line that is not JSON shows when its row is asked for.
        sources.SourceError: A CSV or TSV file cannot be read.
    """
    kind = files[0].suffix.lower()
    if kind == ".parquet":
        return _ParquetRows(files, columns, limit)
    if kind == ".jsonl":
        return _JsonRows(files, limit)
    return [row for file in files for row in sources.load_rows(file)][:limit]


class _Parts(Sequence[Mapping[str, Any]], abc.ABC):
    """Rows in parts, one after the other."""

    def __init__(self):
        self._ends: list[int] = []  # of each part, the index after its last row

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect.bisect_right(self._ends, index)
        return self._row(part, index - (self._ends[part - 1] if part else 0))

    @abc.abstractmethod
    def _row(self, part: int, index: int) -> sources.Row:
        """A row of a part, by its index there."""


class _JsonRows(_Parts):
    """Lines of JSONL files, found once and parsed whenever they are asked for."""

    def __init__(self, files: Sequence[pathlib.Path], limit: int | None):
        super().__init__()
        self._files: list[tuple[pathlib.Path, mmap.mmap]] = []
        self._places: list[tuple[array.array[int], array.array[int]]] = []
        for path in files:
            view = _map(path)
            starts, numbers = array.array("Q"), array.array("Q")
            number, kept = 0, len(self)
            while (start := view.tell()) < len(view) and kept + len(starts) != limit:
                number += 1
                if view.readline().strip():
                    starts.append(start)
                    numbers.append(number)
            self._files.append((path, view))
            self._places.append((starts, numbers))
            self._ends.append(kept + len(starts))

    def _row(self, part: int, index: int) -> sources.Row:
        path, view = self._files[part]
        starts, numbers = self._places[part]
        place = f"{path}, line {numbers[index]}"
        end = view.find(b"\n", starts[index])
        line = view[starts[index] : len(view) if end < 0 else end]
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise RowsError(
                f"{place}: not JSON in UTF-8 ({error}); expected one object a line"
            ) from None
        if not isinstance(row, dict):
            raise RowsError(
                f"{place}: expected one JSON object a line, found {type(row).__name__}"
            )
        return sources.Row(row, where=place)


class _ParquetRows(_Parts):
    """Rows of Parquet files; a part is what one file stores as a group."""

    def __init__(
        self,
        files: Sequence[pathlib.Path],
        columns: Columns | None,
        limit: int | None,
    ):
        super().__init__()
        try:
            from pyarrow import parquet
        except ImportError:
            raise RowsError(
                f"{files[0]}: reading Parquet needs pyarrow; install tfew-jax[data], "
                "or give the rows as .jsonl"
            ) from None
        self._tables: list[tuple[pathlib.Path, int, Any]] = []  # file, first row
        for path in files:
            try:
                with parquet.ParquetFile(path) as file:
                    self._add(file, path, columns, limit)
            except (OSError, ValueError, NotImplementedError) as error:
                problem = " ".join(str(error).split())
                raise RowsError(f"{path}: not a Parquet file ({problem})") from None

    def _add(
        self,
        file: Any,
        path: pathlib.Path,
        columns: Columns | None,
        limit: int | None,
    ) -> None:
        there = file.schema_arrow.names
        wanted = there if columns is None else list(columns(there))
        first = 0
        for group in range(file.num_row_groups):
            left = None if limit is None else limit - len(self)
            if left == 0:
                return
            table = file.read_row_group(group, columns=wanted).slice(0, left)
            self._tables.append((path, first, table))
            self._ends.append(len(self) + table.num_rows)
            first += table.num_rows

    def _row(self, part: int, index: int) -> sources.Row:
        path, first, table = self._tables[part]
        [row] = table.slice(index, 1).to_pylist()
        return sources.Row(row, where=f"{path}, row {first + index}")


def _map(path: pathlib.Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise RowsError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:  # an empty file cannot be mapped
        raise RowsError(f"{path}: the file is empty; expected a row or more") from None
