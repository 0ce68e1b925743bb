"""Rank classification: the answer choice that the model finds likeliest.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3.2: a choice's score is
the mean log-probability of its tokens, the end of sequence included; T0 takes the
sum. Of equal scores the first choice wins, as in the reference code.
"""

import functools
from collections.abc import Iterable

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from tfew_jax import losses, models
from tfew_jax.types import Batch, Params


@functools.partial(jax.jit, static_argnames=("model", "normalization"))
def _scores(
    model: models.T5, params: Params, batch: Batch, *, normalization: str
) -> Float[Array, "batch choices"]:
    log_probs = models.token_log_probs(model, params, batch)
    mask = losses.target_mask(batch)
    return losses.choice_scores(
        log_probs,
        mask,
        normalization=normalization,  # pyright: ignore[reportArgumentType]
    )


def score_choices(
    model: models.T5,
    params: Params,
    batches: Iterable[Batch],
    *,
    normalization: str = "mean",
) -> tuple[Float[np.ndarray, "rows choices"], Int[np.ndarray, " rows"]]:
    """Scores of the choices of every row.

    One compilation serves all batches of a shape, all parameters of a model and all
    later calls.

    Args:
        model: The model; hashable, so that compiled functions are found again.
        params: Its parameters, stacked where its config scans.
        batches: Evaluation batches with `example_id`; rows with -1 are padding.
        normalization: "mean" or "sum" over a choice's tokens.

    Returns:
        The scores, -inf where a row has no such choice, and the rows' example ids,
        both in ascending order of the ids.

    Raises:
        ValueError: If there is no row, an id occurs twice, or the normalization is
            unknown.
    """
    scores, ids = [], []
    for batch in batches:
        model_batch: Batch = {
            name: value  # pyright: ignore[reportAssignmentType]
            for name, value in batch.items()
            if name not in ("label", "example_id")
        }
        scores.append(_scores(model, params, model_batch, normalization=normalization))
        ids.append(np.asarray(batch["example_id"]))
    if not ids:
        raise ValueError("no rows to score; give at least one batch")
    widest = max(part.shape[1] for part in scores)
    all_scores = np.concatenate(
        [
            np.pad(
                np.asarray(part, np.float32),
                ((0, 0), (0, widest - part.shape[1])),
                constant_values=-np.inf,
            )
            for part in scores
        ]
    )
    all_ids = np.concatenate(ids)
    kept = np.flatnonzero(all_ids >= 0)
    order = kept[np.argsort(all_ids[kept], kind="stable")]
    row_ids = all_ids[order]
    if len(np.unique(row_ids)) != len(row_ids):
        raise ValueError("an example_id occurs twice; number the rows of all batches")
    return all_scores[order], row_ids


def predict(
    scores: Float[np.ndarray, "rows choices"],
) -> Int[np.ndarray, " rows"]:
    """Index of the best choice of each row, the first of equal ones.

    Raises:
        ValueError: If a score is NaN, which no order can rank.
    """
    if np.isnan(scores).any():
        row = int(np.flatnonzero(np.isnan(scores).any(axis=1))[0])
        raise ValueError(
            f"the scores of row {row} hold NaN; the adapter or the model diverged, "
            "use an earlier checkpoint"
        )
    return np.argmax(scores, axis=1)
