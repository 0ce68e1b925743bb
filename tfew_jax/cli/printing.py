"""Tables and text on a terminal, or in a pipe that may be closed."""

import io
import os
import shutil
import sys
from collections.abc import Sequence


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    num_left: int = 1,
    title: str | None = None,
) -> str:
    """Text in columns; on a terminal, cells that do not fit are folded.

    Args:
        header: Names of the columns.
        rows: Their cells, shown as they are.
        num_left: How many columns, from the left, hold words; the others hold numbers
            and stand on the right. The last column holds words if it is "".
        title: A line above.
    """
    import rich.console
    import rich.table
    import rich.text

    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else 10_000
    shown = rich.table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, name in enumerate(header):
        words = number < num_left or not name
        shown.add_column(
            rich.text.Text(name),
            justify="left" if words else "right",
            overflow="fold",
            no_wrap=not words,
        )
    for row in rows:
        shown.add_row(*(rich.text.Text(cell) for cell in row))
    file = io.StringIO()
    rich.console.Console(file=file, width=width, color_system=None).print(shown)
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    return "\n".join([*([title] if title else []), *lines])


def show(text: str) -> None:
    """Prints text; that the reader has seen enough, as `head` does, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
