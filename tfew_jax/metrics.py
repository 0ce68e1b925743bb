"""Numbers about predictions, and the spread of numbers over runs.

All fractions lie in [0, 1]. Quantiles are numpy's (linear interpolation), as in
T-Few's tables: with five seeds the interquartile range is x(4) - x(2).
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

Labels = Int[np.ndarray, " rows"] | Sequence[int]

ILLEGAL_KINDS = ("empty", "sentinel", "copied", "other")
_SENTINEL = re.compile(r"<extra_id_\d+>")


def confusion_matrix(
    predictions: Labels, labels: Labels, *, num_choices: int
) -> Int[np.ndarray, "choices choices"]:
    """Counts of rows by label (first axis) and prediction (second axis).

    Raises:
        ValueError: If the two differ in length, are empty, or hold an index that
            is not in [0, num_choices).
    """
    predicted, expected = np.asarray(predictions, int), np.asarray(labels, int)
    if len(predicted) != len(expected):
        raise ValueError(
            f"{len(predicted)} predictions for {len(expected)} labels; give one each"
        )
    if not len(expected):
        raise ValueError("no rows to measure; give at least one labelled row")
    for name, values in (("prediction", predicted), ("label", expected)):
        wrong = values[(values < 0) | (values >= num_choices)]
        if len(wrong):
            raise ValueError(
                f"{name} {wrong[0]} is not the index of one of {num_choices} choices"
            )
    cells = np.bincount(expected * num_choices + predicted, minlength=num_choices**2)
    return cells.reshape(num_choices, num_choices)


def accuracy(predictions: Labels, labels: Labels) -> float:
    """Share of rows whose prediction is the label."""
    num_choices = 1 + max((int(x) for x in [*predictions, *labels]), default=0)
    matrix = confusion_matrix(predictions, labels, num_choices=num_choices)
    return float(np.trace(matrix) / matrix.sum())


def macro_f1(predictions: Labels, labels: Labels) -> float:
    """Mean F1 over the classes that occur among labels or predictions.

    A class that is never predicted, or predicted but never right, counts as 0.
    """
    num_choices = 1 + max((int(x) for x in [*predictions, *labels]), default=0)
    matrix = confusion_matrix(predictions, labels, num_choices=num_choices)
    occurrences = matrix.sum(axis=0) + matrix.sum(axis=1)
    occurs = occurrences > 0
    return float(np.mean(2 * np.diag(matrix)[occurs] / occurrences[occurs]))


def output_kind(output: str, *, source: str, legal: Sequence[str]) -> str:
    """Says whether a generated text is a legal output, or else what it is.

    Runs of white space count as one space; upper and lower case differ.

    Args:
        output: The generated text.
        source: The input it was generated for.
        legal: The texts that are legal outputs.

    Returns:
        "legal"; "empty"; "sentinel" where it holds an `<extra_id_N>`, the habit of
        span corruption; "copied" where it is a piece of the input from the beginning
        of a word (a single word must be a whole one); or "other".
    """
    text, source = _squeeze(output), _squeeze(source)
    if text in map(_squeeze, legal):
        return "legal"
    if not text:
        return "empty"
    if _SENTINEL.search(text):
        return "sentinel"
    end = "" if " " in text else r"(?!\w)"  # a longer copy may have been cut
    is_copied = re.search(rf"(?<!\w){re.escape(text)}{end}", source)
    return "copied" if is_copied else "other"


def illegal_outputs(
    outputs: Sequence[str], *, inputs: Sequence[str], legal: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Share of generated texts that are no legal output, in all and by kind.

    Args:
        outputs: The generated text of each row.
        inputs: The input of each row.
        legal: The legal outputs of each row.

    Returns:
        "illegal", and of each of `ILLEGAL_KINDS` its share of all rows: they sum to
        "illegal". See `output_kind`.

    Raises:
        ValueError: If the three differ in length or are empty, or a row has no
            legal output.
    """
    if not len(outputs) == len(inputs) == len(legal):
        raise ValueError(
            f"{len(outputs)} outputs, {len(inputs)} inputs and legal outputs for "
            f"{len(legal)} rows; give one each"
        )
    if not outputs:
        raise ValueError("no outputs to measure; give at least one")
    for row, texts in enumerate(legal):
        if not texts:
            raise ValueError(f"row {row} has no legal output; give at least one")
    kinds = [
        output_kind(output, source=source, legal=texts)
        for output, source, texts in zip(outputs, inputs, legal, strict=True)
    ]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in ILLEGAL_KINDS}
    return {"illegal": 1 - kinds.count("legal") / len(kinds), **shares}


def _squeeze(text: str) -> str:
    return " ".join(text.split())


def summarize(values: Sequence[float]) -> dict[str, float | int]:
    """Median, quartiles and number of the values of several runs.

    Raises:
        ValueError: If there are no values.
    """
    if not len(values):
        raise ValueError("no values to summarize; at least one run must have finished")
    q1, median, q3 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": median, "q1": q1, "q3": q3, "n": len(values)}
