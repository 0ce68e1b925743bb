"""What `tfew tasks` says of T5's text-to-text tasks, as lines."""

from collections.abc import Iterator, Sequence

from tfew_jax.cli import task_kinds
from tfew_jax.data import distributions, sources, text_rows, text_to_text

PREFIX = "text/"  # of all names, since cb or rte is a benchmark, too


def names() -> list[str]:
    """The tasks, and the sets of those that have several, without the prefix."""
    sets = [name for name in text_rows.names() if "/" in name]
    return [name for name in text_to_text.names() if name != "mrqa"] + sets


def sizes(name: str) -> str:
    """The official number of rows of each split."""
    return ", ".join(f"{s} {size:,}" for s, size in text_rows.sizes(name).items())


def show(name: str, data_dir: str | None) -> Iterator[str]:
    """A task with the inputs of its first example, with the task's word and without.

    Raises:
        ValueError: No split is in the directory, or a row is not as distributed.
    """
    task = _task(name)
    origin = {"super_glue": " of SuperGLUE", "glue": " of GLUE"}.get(task.benchmark, "")
    yield f"== {PREFIX}{name}: a task{origin} in T5's words"
    yield f"-- official rows: {sizes(name)}"
    yield f"-- source: {text_rows.source(name)}"
    yield f"-- targets: {' ||| '.join(task.labels) or 'free text'}"
    if data_dir is None:
        return
    for split, rows in _splits(name, data_dir):
        if isinstance(rows, str):
            continue
        for index, row in enumerate(rows):
            if examples := _examples(task, row, index, split):
                place = sources.where(row, index)
                yield from task_kinds.example_lines(
                    place, examples[0]["inputs"], examples[0]["targets"]
                )
                if task.has_word:
                    [bare, *_] = _examples(task, row, index, split, task_word=False)
                    yield f"-- input of {place}, without the task word"
                    yield bare["inputs"]
                return
        yield f"-- none of the {len(rows):,} rows of {split} is an example"


def count(name: str, data_dir: str | None) -> Iterator[str]:
    """Rows and examples of each split.

    Raises:
        ValueError: There is no directory, no split in it, or a row is not as
            distributed.
    """
    task = _task(name)
    official = text_rows.sizes(name)
    place = task_kinds.needed(PREFIX + name, data_dir)
    for split, rows in _splits(name, place):
        if isinstance(rows, str):
            yield rows
            continue
        made = sum(len(_examples(task, row, n, split)) for n, row in enumerate(rows))
        known = official[split]
        note = "" if len(rows) == known else f", officially {known:,} rows"
        yield f"{split}: {len(rows):,} rows, {made:,} examples{note}"


def _task(name: str) -> text_to_text.TextTask:
    return text_to_text.get(name.partition("/")[0])


def _splits(
    name: str, data_dir: str
) -> Iterator[tuple[str, Sequence[sources.Row] | str]]:
    """The rows of each split, one split at a time; a line for one that is not there."""
    absent: dict[str, distributions.NoSplitError] = {}
    for split in text_rows.splits(name):
        try:
            yield split, text_rows.load(name, split, data_dir)
        except distributions.NoSplitError as error:
            absent[split] = error
    if len(absent) == len(text_rows.splits(name)):
        raise next(iter(absent.values()))
    if absent:
        yield "", f"without {', '.join(absent)}: no such split in {data_dir}"


def _examples(
    task: text_to_text.TextTask,
    row: sources.Row,
    index: int,
    split: str,
    *,
    task_word: bool = True,
) -> list[text_to_text.Example]:
    try:
        return task.examples(row, task_word=task_word, train=split == "train")
    except ValueError as error:
        raise ValueError(f"{sources.where(row, index)}: {error}") from None
