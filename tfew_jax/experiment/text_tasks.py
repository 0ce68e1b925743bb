"""Text-to-text tasks: what a model writes, measured as T5 measures it.

See `text_measuring`; `text_training` trains on them.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfew_jax import checkpoint, metrics
from tfew_jax.experiment import (
    applying,
    directory,
    ensembles,
    generating,
    text_measuring,
)
from tfew_jax.experiment.base import Base


def evaluate_text(
    *,
    output_dir: applying.PathLike,
    base: Base,
    task: str,
    data_dir: applying.PathLike,
    split: str = "validation",
    adapter: ensembles.One | ensembles.Several | None = None,
    trained_on: str | None = None,
    task_word: bool = True,
    lengths: Mapping[str, int] | None = None,
    num_beams: int | None = None,
    alpha: float = 0.6,
    batch_size: int = 32,
    input_eos: bool = True,
    on_start: applying.OnStart | None = None,
) -> dict[str, Any]:
    """Generates the answers of a text-to-text task and measures them.

    `generations.csv` holds row, text, score, kind and target; `metrics.json` the task's
    metrics as fractions and, where the answers are classes, the share of illegal
    outputs by kind. Of several adapters `generations.csv` holds the text that most of
    them write, see `metrics.vote_on_texts`, `members.csv` each one's texts, and
    `metrics.json` the numbers of the vote and of each member, with the mean and, number
    by number, the best of the members.

    Args:
        output_dir: Where the files go; not the directory of a run.
        base: The model.
        task: A name of `text_to_text.names()`, or `mrqa/` and one of
            `text_rows.MRQA`.
        data_dir: A source of its rows, see `text_rows.load`.
        split: Of the set; its rows must be labelled.
        adapter: The adapter, its directory, or that of a finished run; a list of
            these, or a bank; None for the frozen model alone.
        trained_on: Task whose answers the adapter writes, where it is another one:
            they are read as `text_transfer` says.
        task_word: Whether inputs begin with the word that names the task.
        lengths: Most tokens of "inputs" and of "targets", which are the outputs.
        num_beams: Beams of the search; None takes the likeliest token each time.
        alpha: Exponent of the beams' brevity penalty.
        batch_size: Rows at once, times adapters.
        input_eos: Whether inputs end with the end of sequence.
        on_start: Called with the directory before anything compiles.

    Returns:
        What metrics.json holds, without versions.

    Raises:
        ValueError: If there is no such task, split or file, a row is not labelled, the
            adapter does not fit the model, its answers say nothing about the task, or
            a setting is out of range.
    """
    form = text_measuring.Format(
        task_word=task_word, lengths=lengths, input_eos=input_eos
    )
    is_one = isinstance(adapter, checkpoint.Adapter | str | os.PathLike)
    one = applying.load_adapter(adapter, base) if is_one else None
    several = None if is_one or adapter is None else ensembles.load(adapter, base)
    questions = text_measuring.load_questions(
        base, task, split, os.fspath(data_dir), form=form, trained_on=trained_on
    )
    search: dict[str, Any] = {"max_length": form.limits["targets"], "alpha": alpha}
    search |= {"num_beams": num_beams, "batch_size": batch_size}
    if several is not None:
        path = applying.output_directory(output_dir, on_start)
        return _vote(base, several, questions, path, search)
    batches = questions.batches(batch_size)
    path = applying.output_directory(output_dir, on_start)
    texts, scores = generating.write(base, one, batches, **search)
    measured = text_measuring.measure(base, questions, texts, scores)
    text_measuring.write_files(path, measured)
    return measured.numbers()


def _vote(
    base: Base,
    bank: checkpoint.Bank,
    questions: text_measuring.Questions,
    path: pathlib.Path,
    search: dict[str, Any],
) -> dict[str, Any]:
    """`evaluate_text` by several adapters."""
    num_rows = len(questions.examples)
    texts, scores = generating.write_members(
        base, bank, questions.batches, num_rows=num_rows, **search
    )
    votes = metrics.vote_on_texts(texts, scores)
    winners, winner_scores, agreement = zip(*votes, strict=True)
    measured = text_measuring.measure(base, questions, winners, winner_scores)
    members = {
        name: text_measuring.measure(base, questions, own_texts, own_scores)
        for name, own_texts, own_scores in zip(bank.names, texts, scores, strict=True)
    }
    numbers = {
        "vote": {k: v for k, v in measured.numbers().items() if k != "num_rows"},
        **ensembles.spread({name: own.scores for name, own in members.items()}),
        "agreement": float(np.mean(agreement)),
        "num_rows": num_rows,
    }
    generating.write_files(path, measured.generations, numbers)
    table = [
        (row, name, own.generations[row].text, f"{own.generations[row].score:.6f}")
        for row in range(num_rows)
        for name, own in members.items()
    ]
    header = ("row", "member", "text", "score")
    directory.write_table(path / "members.csv", header, table)
    return numbers
