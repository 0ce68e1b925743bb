"""A report as one HTML file that a browser opens from disk.

The file loads nothing: charts are images inside it, and its policy forbids the rest.
Whatever comes from records is escaped.
"""

import base64
import html
from collections.abc import Iterator, Sequence

from tfew_jax.report import charts, records, runs, tables, text_tables
from tfew_jax.report.tables import Row, Table
from tfew_jax.report.text_tables import TextExperiment

_MAX_CLASSES = 12  # of a confusion matrix that is shown

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem;
  padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right;
  white-space: nowrap; vertical-align: top; }
th { background: #f4f4f4; }
td.text, th.text { text-align: left; }
td.long { white-space: normal; min-width: 14rem; }
tr.first td { border-top: 2px solid #888; }
tr.published td { color: #555; }
td.mean { font-weight: 600; }
ul { padding-left: 1.2rem; color: #444; }
img { max-width: 100%; height: auto; }
.matrices { display: flex; flex-wrap: wrap; gap: 1.5rem; }
caption { text-align: left; padding: .3rem 0; }
"""


def to_html(
    table: Table | None,
    *,
    text_experiments: Sequence[TextExperiment] = (),
    title: str = "Results",
) -> str:
    """The table, charts, confusion matrices and what was run.

    Args:
        table: Of few-shot experiments, where there are some.
        text_experiments: Runs on text-to-text tasks.
        title: Heading of the page.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        *(() if table is None else _few_shot(table)),
        *(_text_to_text(text_experiments) if text_experiments else ()),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _few_shot(table: Table) -> Iterator[str]:
    yield from _scores(table)
    yield from _charts(table)
    yield from _matrices(table)
    yield from _runs(table)


def _text_to_text(experiments: Sequence[TextExperiment]) -> Iterator[str]:
    columns, num_left = text_tables.COLUMNS, text_tables.NUM_LEFT
    yield '<h2>Text-to-text tasks</h2><div class="wide"><table>'
    yield f"<tr>{_cells(columns, tag='th', num_left=num_left)}</tr>"
    for texts in text_tables.rows(experiments):
        yield f"<tr>{_cells(texts, num_left=num_left, last='text')}</tr>"
    yield "</table></div><ul>"
    yield from (f"<li>{_text(note)}</li>" for note in text_tables.NOTES)
    yield "</ul>"
    if any(experiment.scores for experiment in experiments):
        yield _image(charts.to_svg(charts.text_scores(experiments)), "scores by set")


def _text(value: object) -> str:
    return html.escape(str(value))


def _cells(
    texts: Sequence[str], *, tag: str = "td", num_left: int = 0, last: str = ""
) -> str:
    """The cells of a line: the first ones are text, the others numbers."""
    parts = []
    for number, text in enumerate(texts):
        kind = "text" if number < num_left else ""
        if last and number == len(texts) - 1:
            kind = last
        attribute = f' class="{kind}"' if kind else ""
        parts.append(f"<{tag}{attribute}>{_text(text)}</{tag}>")
    return "".join(parts)


def _scores(table: Table) -> Iterator[str]:
    yield f"<h2>{_text(tables.METRIC_NAMES[table.metric]).capitalize()}</h2>"
    header = ["", "templates", *table.tasks, table.mean_header]
    yield '<div class="wide"><table><thead>'
    yield f"<tr>{_cells(header, tag='th', num_left=2)}</tr></thead><tbody>"
    before = table.rows[0].kind
    for row in table.rows:
        texts = [row.name, row.templates]
        texts += [table.text(row, task) for task in table.tasks]
        texts.append(tables.percent(row.mean))
        kinds = ["published"] if row.kind == "published" else []
        if row.kind != before and (
            row.kind == "published"
            or (before in records.SUBJECTS and row.kind in records.BASELINES)
        ):
            kinds.append("first")
        attribute = f' class="{" ".join(kinds)}"' if kinds else ""
        yield f"<tr{attribute}>{_cells(texts, num_left=2, last='mean')}</tr>"
        before = row.kind
    yield "</tbody></table></div><ul>"
    yield from (f"<li>{_text(note)}</li>" for note in table.notes)
    yield "</ul>"


def _charts(table: Table) -> Iterator[str]:
    yield "<h2>Spread</h2><p>Every dot is a value of a seed, the bar spans the "
    yield "quartiles, the mark is the median.</p>"
    yield _image(charts.to_svg(charts.scores(table)), "all rows on all sets")
    for task in table.tasks:
        figure = charts.templates(table, task)
        if figure is not None:
            yield f"<h2>{_text(task)} by template</h2>"
            yield _image(charts.to_svg(figure), f"{task} by template")


def _image(svg: bytes, caption: str) -> str:
    data = base64.b64encode(svg).decode("ascii")
    return f'<p><img alt="{_text(caption)}" src="data:image/svg+xml;base64,{data}"></p>'


def _matrices(table: Table) -> Iterator[str]:
    parts = [
        _matrix(row, task, matrix)
        for row in table.own_rows
        if row.kind in (*records.SUBJECTS, "zero_shot")
        for task in table.tasks
        if task in row.cells and (matrix := row.cells[task].confusion)
        if 1 < len(matrix) <= _MAX_CLASSES
    ]
    if parts:
        yield "<h2>Confusion</h2><p>Counts of labels (rows) and predictions (columns), "
        yield "summed over seeds, folds and templates; choices by their index.</p>"
        yield '<div class="matrices">'
        yield from parts
        yield "</div>"


def _matrix(row: Row, task: str, matrix: Sequence[Sequence[int]]) -> str:
    name = f"{task}: {row.name}"
    if row.templates != tables.NOTHING:
        name += f" ({row.templates})"
    numbers = ["", *map(str, range(len(matrix)))]
    lines = [f"<tr>{_cells(numbers, tag='th')}</tr>"]
    for label, counts in enumerate(matrix):
        cells = _cells([str(count) for count in counts])
        lines.append(f"<tr><th>{label}</th>{cells}</tr>")
    return f"<table><caption>{_text(name)}</caption>{''.join(lines)}</table>"


def _runs(table: Table) -> Iterator[str]:
    yield '<h2>What was run</h2><div class="wide"><table>'
    count = len(runs.COLUMNS)
    yield f"<tr>{_cells(runs.COLUMNS, tag='th', num_left=count)}</tr>"
    for facts in runs.describe(table.experiments):
        texts = [facts[name] for name in runs.COLUMNS]
        yield f"<tr>{_cells(texts, num_left=count, last='text long')}</tr>"
    yield "</table></div>"
