"""A table as text for a terminal, as Markdown and as CSV."""

import csv
import io
import re
from collections.abc import Sequence

from tfew_jax.report import runs, tables
from tfew_jax.report.tables import Row, Table

CSV_COLUMNS = (
    *("kind", "name", "templates", "split", "set", "metric", "median", "iqr", "q1"),
    *("q3", "num_values", "num_seeds", "num_templates"),
)
_GAP = "  "


def to_text(table: Table, *, width: int | None = None) -> str:
    """Lines for a terminal.

    Args:
        table: What to show.
        width: Characters of a line; columns that do not fit go below, beside the
            names again. None for one block.
    """
    names = ["", *(row.name for row in table.rows)]
    templates = ["templates", *(row.templates for row in table.rows)]
    left = [column(names, left=True), column(templates, left=True)]
    columns = [
        column([task, *(table.text(row, task) for row in table.rows)])
        for task in table.tasks
    ]
    means = [tables.percent(row.mean) for row in table.rows]
    columns.append(column([table.mean_header, *means]))
    blocks, room = [], _room(left, width)
    while columns:
        count = _num_fitting(columns, room)
        chosen, columns = columns[:count], columns[count:]
        lines = zip(*left, *chosen, strict=True)
        blocks.append("\n".join(_GAP.join(line).rstrip() for line in lines))
    return "\n\n".join([*blocks, "\n".join(table.notes)])


def column(texts: Sequence[str], *, left: bool = False) -> list[str]:
    """Texts of equal width, to stand below each other."""
    texts = [" ".join(text.split()) for text in texts]
    width = max(len(text) for text in texts)
    return [text.ljust(width) if left else text.rjust(width) for text in texts]


def _room(left: Sequence[Sequence[str]], width: int | None) -> int | None:
    taken = sum(len(column[0]) + len(_GAP) for column in left)
    return None if width is None else width - taken


def _num_fitting(columns: Sequence[Sequence[str]], room: int | None) -> int:
    """How many columns fit, at least one."""
    if room is None:
        return len(columns)
    used, count = -len(_GAP), 0
    for column in columns:
        used += len(_GAP) + len(column[0])
        if used > room:
            break
        count += 1
    return max(count, 1)


def to_markdown(table: Table) -> str:
    """The table, its notes and what was run, as GitHub's Markdown."""
    header = ["", "templates", *table.tasks, table.mean_header]
    lines = [line(header), rule(header, num_left=2)]
    for row in table.rows:
        texts = [table.text(row, task) for task in table.tasks]
        lines.append(line([row.name, row.templates, *texts, tables.percent(row.mean)]))
    lines += ["", *(f"- {escape(note)}" for note in table.notes), "", "What was run:"]
    lines += ["", line(runs.COLUMNS), rule(runs.COLUMNS, num_left=len(runs.COLUMNS))]
    for facts in runs.describe(table.experiments):
        lines.append(line([facts[name] for name in runs.COLUMNS]))
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*|<>\[\]$&~])", r"\\\1", " ".join(text.split()))


def line(texts: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(escape(text) for text in texts)} |"


def rule(header: Sequence[str], *, num_left: int) -> str:
    """The line below a Markdown table's header; the first columns are text."""
    marks = [" :-- " if i < num_left else " --: " for i in range(len(header))]
    return f"|{'|'.join(marks)}|"


def to_csv(table: Table) -> str:
    """One line a row and set, with fractions that are not rounded.

    The lines of the set "mean" hold the mean of medians as `median` and the number of
    its sets as `num_values`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in table.rows:
        start = [row.kind, row.name, row.templates.replace(tables.NOTHING, "")]
        for task in table.tasks:
            if task in row.cells:
                writer.writerow(
                    [*start, row.split, task, table.metric, *_numbers(row, task)]
                )
        if row.mean is not None:
            numbers = [row.mean, "", "", "", len(table.mean_tasks), "", ""]
            writer.writerow([*start, row.split, "mean", table.metric, *numbers])
    return text.getvalue()


def _numbers(row: Row, task: str) -> list[float | int | str]:
    cell = row.cells[task]
    spread = ["" if cell.iqr is None else cell.iqr, *(cell.quartiles or ("", ""))]
    if not cell.values:
        return [cell.median, *spread, "", "", ""]
    counts = [len(cell.values), len(cell.seeds), len(cell.templates)]
    return [cell.median, *spread, *counts]
