"""Keeps evaluation rows out of the training text.

A training text is refused when it equals a field of a held-out row (letters and
digits compared, four words or more) or when more than half of its 13-word runs occur
in held-out fields.
"""

import pathlib
import re
from collections.abc import Iterable, Iterator

from base_model import heldout_files

_RUN = 13
_MIN_WORDS = 4
_WORD = re.compile(r"[^\W_]+")
EQUAL, OVERLAPS = "equals", "overlaps with"


def words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits."""
    return _WORD.findall(text.lower())


def runs(tokens: list[str]) -> Iterator[int]:
    """A number for each 13 words in a row; the same in one process only."""
    for start in range(len(tokens) - _RUN + 1):
        yield hash(tuple(tokens[start : start + _RUN]))


class HeldOut:
    """Rows that must not be trained on.

    Attributes:
        refused: How many texts `allows` has refused.
    """

    def __init__(self, texts: Iterable[str]):
        self._equal: set[str] = set()
        self._runs: set[int] = set()
        self.refused = 0
        for text in texts:
            tokens = words(text)
            if len(tokens) >= _MIN_WORDS:
                self._equal.add(" ".join(tokens))
            self._runs.update(runs(tokens))

    @classmethod
    def from_paths(cls, paths: Iterable[pathlib.Path]) -> "HeldOut":
        """Read every data file given, folders recursively.

        Raises:
            ValueError: A path does not exist, a folder holds no data file, or nothing
                can be read from a file.
        """
        files = heldout_files.find(paths)
        return cls(f.text for file in files for f in heldout_files.fields(file))

    def match(self, text: str) -> str | None:
        """How a text meets a held-out one, "equals" or "overlaps with"; None if not."""
        tokens = words(text)
        if " ".join(tokens) in self._equal:
            return EQUAL
        found = list(runs(tokens))
        overlap = sum(run in self._runs for run in found)
        return OVERLAPS if 2 * overlap > max(1, len(found)) else None

    def allows(self, text: str) -> bool:
        """Whether the text may be trained on; counts refusals."""
        refuse = self.match(text) is not None
        self.refused += refuse
        return not refuse
