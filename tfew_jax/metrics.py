"""Numbers about predictions, votes of several models, the spread of numbers over runs.

All fractions lie in [0, 1]. Quantiles are numpy's (linear interpolation), as in
T-Few's tables: with five seeds the interquartile range is x(4) - x(2).
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

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


def majority_vote(
    scores: Float[np.ndarray, "members rows choices"],
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """The choice that most members of an ensemble predict, and how many agree.

    Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Section 6, do not say what
    happens to a tie: here, of the choices with most votes, the one with the higher
    score in the mean over all members wins; of equal ones the first.

    Args:
        scores: Of each member, -inf where a row has no such choice.

    Returns:
        The index of each row's choice, and the share of members that predict it.

    Raises:
        ValueError: If there is no member, or a score is NaN.
    """
    _check_members(scores)
    choices = np.arange(scores.shape[-1])
    votes = (scores.argmax(axis=-1)[..., None] == choices).sum(axis=0)
    mean = scores.astype(np.float64).mean(axis=0)
    has_most = votes == votes.max(axis=-1, keepdims=True)
    winners = np.where(has_most, mean, -np.inf).argmax(axis=-1)
    return winners, votes.max(axis=-1) / len(scores)


def mean_probability(
    scores: Float[np.ndarray, "members rows choices"],
) -> Float[np.ndarray, "rows choices"]:
    """Probability of each choice, the mean over the members of an ensemble.

    A member's probabilities are the softmax of its scores over the row's choices.

    Args:
        scores: Of each member, -inf where a row has no such choice, which gets 0.

    Raises:
        ValueError: If there is no member, or a score is NaN.
    """
    _check_members(scores)
    exact = scores.astype(np.float64)
    odds = np.exp(exact - exact.max(axis=-1, keepdims=True))
    return (odds / odds.sum(axis=-1, keepdims=True)).mean(axis=0)


def _check_members(scores: Float[np.ndarray, "members rows choices"]) -> None:
    if not len(scores):
        raise ValueError("no members to vote; give the scores of at least one")
    if np.isnan(scores).any():
        member, row, _ = (int(place) for place in np.argwhere(np.isnan(scores))[0])
        raise ValueError(
            f"the scores of member {member} hold NaN in row {row}; its adapter "
            "diverged, leave it out"
        )


def vote_on_texts(
    texts: Sequence[Sequence[str]], scores: Sequence[Sequence[float]]
) -> list[tuple[str, float, float]]:
    """The text that most members of an ensemble write, row by row.

    Of the texts that most members write, the one with the higher score in the mean
    over those who write it wins; of equal ones the first member's. Runs of white space
    count as one space.

    Args:
        texts: By member and row.
        scores: Of the texts, higher is likelier.

    Returns:
        Of each row the text, its mean score and the share of members that write it.

    Raises:
        ValueError: If there is no member, or they differ in their rows.
    """
    if not texts:
        raise ValueError("no members to vote; give the texts of at least one")
    if len({len(rows) for rows in (*texts, *scores)}) > 1 or len(texts) != len(scores):
        raise ValueError("the members have not the same rows; give one text a row each")
    winners = []
    for written in zip(*texts, strict=True):
        row = len(winners)
        found: dict[str, list[float]] = {}
        for member, text in enumerate(written):
            found.setdefault(_squeeze(text), []).append(scores[member][row])
        rank = {text: (len(own), np.mean(own)) for text, own in found.items()}
        winner = max(rank, key=rank.__getitem__)  # the first of equal ones
        votes, score = rank[winner]
        original = next(text for text in written if _squeeze(text) == winner)
        winners.append((original, float(score), votes / len(texts)))
    return winners


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
