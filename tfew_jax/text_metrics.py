"""Metrics of text-to-text tasks, as T5 computes them.

Raffel et al., 2020 (https://arxiv.org/abs/1910.10683). All are fractions in [0, 1],
where T5 writes percent. A prediction of -1 is an output that names no class; it is
wrong, whatever the label.
"""

import collections
import re
import string
from collections.abc import Hashable, Mapping, Sequence, Sized

import numpy as np
from jaxtyping import Int

Labels = Int[np.ndarray, " rows"] | Sequence[int]
SUPERGLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(predictions: Labels, labels: Labels) -> float:
    """Share of predictions that are the label.

    Raises:
        ValueError: The two differ in length or are empty, as for all metrics here.
    """
    _check(predictions, labels)
    return float(np.mean(np.asarray(predictions) == np.asarray(labels)))


def mean_f1(predictions: Labels, labels: Labels, *, num_classes: int) -> float:
    """Mean over all classes of their F1; CB's with three classes.

    A class that neither labels nor predictions have counts as 0.

    Raises:
        ValueError: See `accuracy`.
    """
    _check(predictions, labels)
    predicted, expected = np.asarray(predictions), np.asarray(labels)
    return float(
        np.mean([_f1(predicted == c, expected == c) for c in range(num_classes)])
    )


def binary_f1(predictions: Labels, labels: Labels) -> float:
    """F1 of class 1; a prediction that is neither 0 nor 1 counts as the wrong one.

    Over all answers of all questions this is MultiRC's F1a.

    Raises:
        ValueError: See `accuracy`.
    """
    _check(predictions, labels)
    predicted, expected = np.asarray(predictions), np.asarray(labels)
    is_class = (predicted == 0) | (predicted == 1)
    predicted = np.where(is_class, predicted, 1 - expected)
    return _f1(predicted == 1, expected == 1)


def group_exact_match(
    predictions: Labels, labels: Labels, groups: Sequence[Hashable]
) -> float:
    """Share of groups in which every prediction is the label; MultiRC's EM.

    Args:
        predictions: Of each answer.
        labels: Of each answer.
        groups: The question that each answer belongs to.

    Raises:
        ValueError: See `accuracy`.
    """
    _check(predictions, labels)
    _check(predictions, groups)
    is_right: dict[Hashable, bool] = {}
    for prediction, label, group in zip(predictions, labels, groups, strict=True):
        is_right[group] = is_right.get(group, True) and prediction == label
    return sum(is_right.values()) / len(is_right)


def normalize_answer(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces."""
    text = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def answer_scores(
    predictions: Sequence[str], answers: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Exact match and F1 of words, as SQuAD, MRQA and ReCoRD measure them.

    Both are the best over a question's answers in their normal form, and means over
    questions.

    Args:
        predictions: An answer to each question.
        answers: The right answers to each question.

    Returns:
        "em" and "f1".

    Raises:
        ValueError: See `accuracy`; or a question has no right answer.
    """
    _check(predictions, answers)
    matches, overlaps = [], []
    for number, (prediction, right) in enumerate(
        zip(predictions, answers, strict=True)
    ):
        if not right:
            raise ValueError(f"question {number} has no right answer; leave it out")
        given = normalize_answer(prediction)
        known = [normalize_answer(answer) for answer in right]
        matches.append(given in known)
        overlaps.append(max(_overlap(given.split(), words.split()) for words in known))
    return {"em": float(np.mean(matches)), "f1": float(np.mean(overlaps))}


def rank_accuracy(
    scores: Sequence[float],
    choices: Sequence[tuple[int, int]],
    is_correct: Sequence[bool],
) -> float:
    """Share of rows whose best choice is a correct one, from a score a choice.

    Args:
        scores: Log-probability of each choice; the highest wins, then the first.
        choices: Row and number of the choice, in any order.
        is_correct: Whether it is a right one.

    Raises:
        ValueError: See `accuracy`; or a choice of a row stands twice.
    """
    _check(scores, choices)
    _check(scores, is_correct)
    if len(set(choices)) < len(choices):
        twice = collections.Counter(choices).most_common(1)[0][0]
        raise ValueError(f"choice {twice[1]} of row {twice[0]} stands twice")
    best: dict[int, tuple[float, int, bool]] = {}
    for score, (row, choice), right in zip(scores, choices, is_correct, strict=True):
        candidate = (float(score), -choice, bool(right))
        best[row] = max(best.get(row, candidate), candidate)
    return sum(right for _, _, right in best.values()) / len(best)


def superglue_average(scores: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over SuperGLUE's eight tasks of the mean of a task's metrics.

    Args:
        scores: Of each task, its metrics by name, and nothing else.

    Raises:
        ValueError: A task is missing or unknown, or has no metric.
    """
    for what, odd in (
        ("without", [task for task in SUPERGLUE if not scores.get(task)]),
        ("with the unknown", [task for task in scores if task not in SUPERGLUE]),
    ):
        if odd:
            raise ValueError(
                f"SuperGLUE's average {what} {', '.join(odd)}; give the metrics of "
                f"{', '.join(SUPERGLUE)}"
            )
    return float(np.mean([np.mean(list(scores[task].values())) for task in SUPERGLUE]))


def _f1(predicted: np.ndarray, expected: np.ndarray) -> float:
    """F1 of a class from who has it; 0 where nobody has."""
    total = np.sum(predicted) + np.sum(expected)
    return float(2 * np.sum(predicted & expected) / total) if total else 0.0


def _overlap(given: list[str], known: list[str]) -> float:
    """F1 of the words of two answers; 0 where they share none, as in SQuAD."""
    common = collections.Counter(given) & collections.Counter(known)
    return 2 * sum(common.values()) / max(1, len(given) + len(known))


def _check(predictions: Sized, others: Sized) -> None:
    if len(predictions) != len(others):
        raise ValueError(
            f"{len(predictions)} predictions for {len(others)} rows; give one each"
        )
    if not len(predictions):
        raise ValueError("no rows to measure; give at least one labelled row")
