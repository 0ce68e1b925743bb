"""Keeps evaluation rows out of the training text.

A training text is refused when it equals a field of a held-out row (letters and
digits compared, four words or more) or when more than half of its 13-word runs occur
in held-out fields.
"""

import csv
import gzip
import io
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

_RUN = 13
_MIN_WORDS = 4
_WORD = re.compile(r"[^\W_]+")
_SUFFIXES = (
    *(".jsonl", ".json", ".csv", ".tsv", ".txt"),
    *(".train", ".dev", ".test", ".gz"),
)


def words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits."""
    return _WORD.findall(text.lower())


def _runs(tokens: list[str]) -> Iterator[int]:
    for start in range(len(tokens) - _RUN + 1):
        yield hash(tuple(tokens[start : start + _RUN]))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _fields(path: pathlib.Path) -> Iterator[str]:
    packed = path.suffix == ".gz"
    data = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    body = data.decode("utf-8", "replace")
    path = path.with_suffix("") if packed else path
    if path.suffix == ".json":
        yield from _strings(json.loads(body))
    elif path.suffix == ".jsonl":
        for line in body.splitlines():
            if line.strip():
                yield from _strings(json.loads(line))
    elif path.suffix in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix == ".tsv" else ","
        for row in csv.reader(io.StringIO(body), delimiter=delimiter):
            yield from row
    else:
        for line in body.splitlines():  # "LABEL text" lines count with and without
            yield line.partition(" ")[2]
            yield from line.split("\t")


class HeldOut:
    """Rows that must not be trained on.

    Attributes:
        refused: How many texts `allows` has refused.
    """

    def __init__(self, texts: Iterable[str]):
        self._equal: set[str] = set()
        self._run_hashes: set[int] = set()
        self.refused = 0
        for text in texts:
            tokens = words(text)
            if len(tokens) >= _MIN_WORDS:
                self._equal.add(" ".join(tokens))
            self._run_hashes.update(_runs(tokens))

    @classmethod
    def from_paths(cls, paths: Iterable[pathlib.Path]) -> "HeldOut":
        """Read every data file given, folders recursively.

        Raises:
            ValueError: A path does not exist or a folder holds no data file.
        """
        files: list[pathlib.Path] = []
        for path in paths:
            found = [path] if path.is_file() else sorted(path.rglob("*"))
            found = [f for f in found if f.is_file() and f.suffix in _SUFFIXES]
            if not found:
                raise ValueError(f"--held-out {path}: no {', '.join(_SUFFIXES)} file")
            files += found
        return cls(field for file in files for field in _fields(file))

    def allows(self, text: str) -> bool:
        """Whether the text may be trained on; counts refusals."""
        tokens = words(text)
        runs = list(_runs(tokens))
        overlap = sum(run in self._run_hashes for run in runs)
        refuse = " ".join(tokens) in self._equal or 2 * overlap > max(1, len(runs))
        self.refused += refuse
        return not refuse
