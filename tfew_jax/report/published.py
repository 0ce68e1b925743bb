"""What the papers print, for the rows beside one's own.

The files `assets/published/*.csv` hold the numbers of Liu et al., 2022
(https://arxiv.org/abs/2205.05638), one row of a table a line: median and, where it is
printed, interquartile range of each set, in percent. Table 3 is left out: its rows are
full fine-tuning in Tables 4 to 7. Which numbers are over all templates and which of
random ones is not stated there, but follows from the numbers: medians of five seeds
are whole multiples of one row of a small set.
"""

import csv
import dataclasses
import pathlib
import re

import tfew_jax

_FOLDER = pathlib.Path(tfew_jax.__file__).parent / "assets" / "published"
_CELL = re.compile(r"([\d.]+)(?: \(([\d.]+)\))?")
LEVELS = ("on", "all", "off")
_MAIN = ("Table 8", "Table 9", "Table 10", "Table 11")
SOURCE = "Liu et al., 2022, arXiv 2205.05638"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of a table.

    Attributes:
        source: The table.
        name: What was measured.
        base: The model, where the name does not say it.
        templates: "random", "all", or empty where it is neither.
        metric: "accuracy" or "macro_f1".
        printed_mean: As the table has it, in percent, or empty.
        note: What one should know of the row.
        cells: Text, median and interquartile range of each set, as fractions.
    """

    source: str
    name: str
    base: str
    templates: str
    metric: str
    printed_mean: str
    note: str
    cells: dict[str, tuple[str, float, float | None]]


def load(level: str = "all") -> list[PublishedRow]:
    """The published rows, in the order of the files.

    Args:
        level: "on" for Tables 8 to 11, "all" for the comparison of methods in
            Tables 4 to 7 as well, "off" for none.

    Raises:
        ValueError: If it is none of these.
    """
    if level not in LEVELS:
        raise ValueError(f"published must be {', '.join(LEVELS)}, got {level!r}")
    rows = []
    for path in sorted(_FOLDER.glob("*.csv")) if level != "off" else ():
        with open(path, newline="", encoding="utf-8") as file:
            rows += [_row(fields) for fields in csv.DictReader(file)]
    return [row for row in rows if level == "all" or row.source in _MAIN]


def _row(fields: dict[str, str]) -> PublishedRow:
    known = [f.name for f in dataclasses.fields(PublishedRow) if f.name != "cells"]
    cells = {}
    for task, text in fields.items():
        if task in known:
            continue
        match = _CELL.fullmatch(text)
        assert match, f"{fields['name']}, {task}: {text!r}"
        median, iqr = (part and round(float(part) / 100, 6) for part in match.groups())
        cells[task] = (text, median, iqr)
    return PublishedRow(**{name: fields[name] for name in known}, cells=cells)
