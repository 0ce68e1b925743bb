"""Numbers about predictions, and the spread of numbers over runs.

All fractions lie in [0, 1]. Quantiles are numpy's (linear interpolation), as in
T-Few's tables: with five seeds the interquartile range is x(4) - x(2).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

Labels = Int[np.ndarray, " rows"] | Sequence[int]


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


def summarize(values: Sequence[float]) -> dict[str, float | int]:
    """Median, quartiles and number of the values of several runs.

    Raises:
        ValueError: If there are no values.
    """
    if not len(values):
        raise ValueError("no values to summarize; at least one run must have finished")
    q1, median, q3 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    return {"median": median, "q1": q1, "q3": q3, "n": len(values)}
