"""Text-to-text tasks: what a model writes, measured as T5 measures it.

See `text_measuring`; `text_training` trains on them.
"""

import os
from collections.abc import Mapping
from typing import Any

from tfew_jax import checkpoint
from tfew_jax.experiment import applying, generating, text_measuring
from tfew_jax.experiment.base import Base


def evaluate_text(
    *,
    output_dir: applying.PathLike,
    base: Base,
    task: str,
    data_dir: applying.PathLike,
    split: str = "validation",
    adapter: checkpoint.Adapter | applying.PathLike | None = None,
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
    outputs by kind.

    Args:
        output_dir: Where the files go; not the directory of a run.
        base: The model.
        task: A name of `text_to_text.names()`, or `mrqa/` and one of
            `text_rows.MRQA`.
        data_dir: A source of its rows, see `text_rows.load`.
        split: Of the set; its rows must be labelled.
        adapter: The adapter, its directory, or that of a finished run; None for the
            frozen model alone.
        trained_on: Task whose answers the adapter writes, where it is another one:
            they are read as `text_transfer` says.
        task_word: Whether inputs begin with the word that names the task.
        lengths: Most tokens of "inputs" and of "targets", which are the outputs.
        num_beams: Beams of the search; None takes the likeliest token each time.
        alpha: Exponent of the beams' brevity penalty.
        batch_size: Rows at once.
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
    adapter = None if adapter is None else applying.load_adapter(adapter, base)
    questions = text_measuring.load_questions(
        base, task, split, os.fspath(data_dir), form=form, trained_on=trained_on
    )
    batches = questions.batches(batch_size)
    path = applying.output_directory(output_dir, on_start)
    texts, scores = generating.write(
        base,
        adapter,
        batches,
        max_length=form.limits["targets"],
        num_beams=num_beams,
        alpha=alpha,
        batch_size=batch_size,
    )
    measured = text_measuring.measure(base, questions, texts, scores)
    text_measuring.write_files(path, measured)
    return measured.numbers()
