"""From records to the numbers that people read: median, quartiles, confusion."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax import metrics

KINDS = ("zero_shot", "tuned", "majority", "tfidf")
TEXT_PROMPT_KINDS = ("zero_shot", "text_prompt", "majority", "tfidf")
_NAMES = {
    "zero_shot": "zero-shot",
    "tuned": "tuned",
    "text_prompt": "text prompt",
    "majority": "majority class",
    "tfidf": "TF-IDF",
}


def scores(
    predictions: Int[np.ndarray, " rows"],
    labels: Int[np.ndarray, " rows"],
    *,
    num_choices: int,
) -> dict[str, Any]:
    """What a record says about scored rows; fractions, not percent."""
    matrix = metrics.confusion_matrix(predictions, labels, num_choices=num_choices)
    return {
        "accuracy": metrics.accuracy(predictions, labels),
        "macro_f1": metrics.macro_f1(predictions, labels),
        "confusion_matrix": matrix.tolist(),
    }


def summarize(
    records: Sequence[Mapping[str, Any]],
    *,
    choices: Sequence[str] | None,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
    """Accuracy of each kind of prediction over its runs, macro-F1 and confusion.

    Args:
        records: Of all runs; those without scores take no part.
        choices: Texts of the choices, where all rows have the same.
        kinds: Kinds of prediction that the experiment has.

    Returns:
        For each of `kinds` median, q1, q3 and n of the accuracy, or None where
        there is nothing; the same for macro-F1; confusion matrices with labels as
        rows and predictions as columns, summed over the runs.
    """
    by_kind = {
        kind: [r["scores"] for r in records if r["kind"] == kind and r["scores"]]
        for kind in kinds
    }

    def spread(name: str) -> dict[str, Any]:
        return {
            kind: metrics.summarize([s[name] for s in of_kind]) if of_kind else None
            for kind, of_kind in by_kind.items()
        }

    matrices = {
        kind: np.sum([s["confusion_matrix"] for s in of_kind], axis=0).tolist()
        for kind, of_kind in by_kind.items()
        if of_kind
    }
    return {
        **spread("accuracy"),
        "macro_f1": spread("macro_f1"),
        "confusion_matrix": {
            "choices": None if choices is None else list(choices),
            **matrices,
        },
    }


def table(summary: Mapping[str, Any]) -> str:
    """The accuracies as lines of text."""
    kinds = [kind for kind in _NAMES if kind in summary]
    if not any(summary[kind] for kind in kinds):
        return "no rows to score: give test rows, or folds for cross-validation"
    lines = [f"{'accuracy':16}{'median':>8}{'q1':>8}{'q3':>8}{'n':>5}"]
    for kind in kinds:
        numbers = summary[kind]
        if numbers is None:
            lines.append(f"{_NAMES[kind]:16}{'-':>8}")
            continue
        values = "".join(f"{numbers[name]:8.3f}" for name in ("median", "q1", "q3"))
        lines.append(f"{_NAMES[kind]:16}{values}{numbers['n']:5d}")
    return "\n".join(lines)
