"""Text-to-text tasks: what a model writes, measured as T5 measures it.

The rows, words and metrics are those of `data.text_to_text` and `data.text_answers`;
SeqIO is not needed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfew_jax import checkpoint
from tfew_jax.data import batching, text_answers, text_rows, text_to_text, tokenized
from tfew_jax.experiment import applying, generating
from tfew_jax.experiment.base import Base


def evaluate_text(
    *,
    output_dir: applying.PathLike,
    base: Base,
    task: str,
    data_dir: applying.PathLike,
    split: str = "validation",
    adapter: checkpoint.Adapter | applying.PathLike | None = None,
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
            adapter does not fit the model, or a setting is out of range.
    """
    text_task = text_to_text.get(task.partition("/")[0])
    adapter = None if adapter is None else applying.load_adapter(adapter, base)
    examples = [
        example
        for row in text_rows.load(task, split, data_dir)
        for example in text_task.examples(row, task_word=task_word)
    ]
    limits = tokenized.limits_of(lengths)
    inputs = [
        base.tokenizer.encode(
            example["inputs"], add_eos=input_eos, max_length=limits["inputs"]
        )
        for example in examples
    ]
    path = applying.output_directory(output_dir, on_start)
    texts, scores = generating.write(
        base,
        adapter,
        batching.input_batches(
            [np.asarray(ids, np.int32) for ids in inputs],
            batch_size,
            max_length=limits["inputs"],
        ),
        max_length=limits["targets"],
        num_beams=num_beams,
        alpha=alpha,
        batch_size=batch_size,
    )
    legal = generating.spelled(text_task.labels, base.tokenizer)
    generations = [
        generating.Generation(
            row=row,
            text=text,
            score=score,
            inputs=example["inputs"],
            legal=legal,
            target=example["targets"],
        )
        for row, (text, score, example) in enumerate(
            zip(texts, scores, examples, strict=True)
        )
    ]
    numbers: dict[str, Any] = text_answers.measure(text_task.name, texts, examples)
    if legal:
        numbers = {**numbers, **generating.illegal_outputs(generations)}
    numbers["num_rows"] = len(generations)
    generating.write_files(path, generations, numbers)
    return numbers
