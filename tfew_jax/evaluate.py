"""Rank classification, the answer choice that the model finds likeliest; generation.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3.2: a choice's score is
the mean log-probability of its tokens, the end of sequence included; T0 takes the
sum. Of equal scores the first choice wins, as in the reference code.

Generation is for models that have not learnt to answer with one of the choices, and
shows what they say instead; `metrics.illegal_outputs` sums it up.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tfew_jax import losses, models
from tfew_jax.types import Batch, Params

# Without the targets, whose number and length would compile again.
_READ_BY_DECODING = ("encoder_input_tokens", "encoder_segment_ids", "adapter_index")


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


@functools.partial(jax.jit, static_argnames=("model", "normalization"))
def _member_scores(
    model: models.T5,
    params: Params,
    batch: Batch,
    members: Int[Array, "members"],
    *,
    normalization: str,
) -> Float[Array, "members batch choices"]:
    log_probs = models.member_log_probs(model, params, batch, members)
    mask = losses.target_mask(batch)
    score = functools.partial(
        losses.choice_scores,
        mask=mask,
        normalization=normalization,  # pyright: ignore[reportArgumentType]
    )
    return jax.vmap(score)(log_probs)


@functools.partial(jax.jit, static_argnames="model")
def _target_sums(
    model: models.T5, params: Params, batch: Batch
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    log_probs = models.token_log_probs(model, params, batch)
    mask = losses.target_mask(batch)
    return jnp.where(mask, log_probs, 0.0).sum(), mask.sum()


class NaNScores(ValueError):
    """Scores that no order can rank.

    Attributes:
        row: The first row that has one.
    """

    def __init__(self, row: int):
        super().__init__(
            f"the scores of row {row} hold NaN; the adapter or the model diverged, "
            "use an earlier checkpoint"
        )
        self.row = row


def mean_loss(model: models.T5, params: Params, batches: Iterable[Batch]) -> float:
    """Negative log-likelihood of a target token, the mean over all batches in nats.

    Args:
        model: The model.
        params: Its parameters, stacked where its config scans.
        batches: With one target a row, or packed ones; see `data.packing.to_batch`.

    Raises:
        ValueError: If there is no target token.
    """
    total, count = 0.0, 0
    for batch in batches:
        log_probs, num_tokens = _target_sums(model, params, batch)
        total, count = total - float(log_probs), count + int(num_tokens)
    if not count:
        raise ValueError("there is no target token to take a loss of")
    return total / count


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
    score = functools.partial(_scores, model, params, normalization=normalization)
    return _scored(score, batches)


def score_members(
    model: models.T5,
    params: Params,
    batches: Iterable[Batch],
    members: Sequence[int],
    *,
    normalization: str = "mean",
) -> tuple[Float[np.ndarray, "members rows choices"], Int[np.ndarray, " rows"]]:
    """Scores of the choices of every row by each of several adapters of a bank.

    One forward pass a batch, in which every row stands once for each adapter, so that
    memory is that of members * batch rows; see `models.member_log_probs`. The scores
    are those of `score_choices` with one adapter.

    Args:
        model: The model, whose method holds a bank.
        params: Its parameters, stacked where its config scans.
        batches: Evaluation batches with `example_id`; rows with -1 are padding.
        members: Slots of the adapters.
        normalization: "mean" or "sum" over a choice's tokens.

    Returns:
        The scores, -inf where a row has no such choice, and the rows' example ids,
        in ascending order of the ids.

    Raises:
        ValueError: If there is no member or no row, an id occurs twice, or the
            normalization is unknown.
    """
    if not len(members):
        raise ValueError("no adapters to score by; give at least one")
    slots = jnp.asarray(members, jnp.int32)

    def score(batch: Batch) -> Float[Array, "members batch choices"]:
        return _member_scores(model, params, batch, slots, normalization=normalization)

    return _scored(score, batches)


def _scored(
    score: Callable[[Batch], Float[Array, "*members batch choices"]],
    batches: Iterable[Batch],
) -> tuple[Float[np.ndarray, "*members rows choices"], Int[np.ndarray, " rows"]]:
    """Scores of all batches in the order of the rows' ids, and the ids."""
    scores, ids = [], []
    for batch in batches:
        model_batch: Batch = {
            name: value  # pyright: ignore[reportAssignmentType]
            for name, value in batch.items()
            if name not in ("label", "example_id")
        }
        scores.append(score(model_batch))
        ids.append(np.asarray(batch["example_id"]))
    order, row_ids = _row_order(ids)
    widest = max(part.shape[-1] for part in scores)
    padded = [
        np.pad(
            np.asarray(part, np.float32),
            (*[(0, 0)] * (part.ndim - 1), (0, widest - part.shape[-1])),
            constant_values=-np.inf,
        )
        for part in scores
    ]
    return np.concatenate(padded, axis=-2)[..., order, :], row_ids


def _row_order(
    ids: Sequence[Int[np.ndarray, " batch"]],
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
    """Where the rows stand that are not padding, in order of their ids; the ids."""
    if not ids:
        raise ValueError("no rows to score; give at least one batch")
    all_ids = np.concatenate(ids)
    kept = np.flatnonzero(all_ids >= 0)
    order = kept[np.argsort(all_ids[kept], kind="stable")]
    row_ids = all_ids[order]
    if len(np.unique(row_ids)) != len(row_ids):
        raise ValueError("an example_id occurs twice; number the rows of all batches")
    return order, row_ids


def predict(
    scores: Float[np.ndarray, "rows choices"],
) -> Int[np.ndarray, " rows"]:
    """Index of the best choice of each row, the first of equal ones.

    Raises:
        NaNScores: If a score is NaN.
    """
    _refuse_nan(scores)
    return np.argmax(scores, axis=1)


def _refuse_nan(scores: Float[np.ndarray, "rows choices"]) -> None:
    if np.isnan(scores).any():
        raise NaNScores(int(np.flatnonzero(np.isnan(scores).any(axis=1))[0]))


@functools.partial(
    jax.jit, static_argnames=("model", "max_length", "num_beams", "alpha")
)
def _outputs(
    model: models.T5,
    params: Params,
    batch: Batch,
    *,
    max_length: int,
    num_beams: int | None,
    alpha: float,
) -> tuple[Int[Array, "batch {max_length}"], Float[Array, "batch"]]:
    if num_beams is None:
        return models.greedy_decode(model, params, batch, max_length=max_length)
    tokens, scores = models.beam_decode(
        model, params, batch, max_length=max_length, num_beams=num_beams, alpha=alpha
    )
    return tokens[:, -1], scores[:, -1]


def generate_tokens(
    model: models.T5,
    params: Params,
    batches: Iterable[Batch],
    *,
    max_length: int,
    num_beams: int | None = None,
    alpha: float = 0.6,
) -> tuple[
    Int[np.ndarray, "rows {max_length}"],
    Float[np.ndarray, " rows"],
    Int[np.ndarray, " rows"],
]:
    """What the model writes for every row, its targets not being read.

    Args:
        model: The model; hashable, so that compiled functions are found again.
        params: Its parameters, stacked where its config scans.
        batches: Evaluation batches with `example_id`; rows with -1 are padding.
        max_length: Most tokens of an output, the end of sequence included.
        num_beams: Beams of the search; None takes the likeliest token each time.
        alpha: Exponent of the beams' brevity penalty.

    Returns:
        Token ids, their scores (the sum of log-probabilities; of beams with brevity
        penalty), and the rows' example ids, all in ascending order of the ids.

    Raises:
        NaNScores: If a score is NaN.
        ValueError: If there is no row, an id occurs twice, or a setting is out of
            range.
    """
    tokens, scores, ids = [], [], []
    for batch in batches:
        model_batch: Batch = {
            name: value  # pyright: ignore[reportAssignmentType]
            for name, value in batch.items()
            if name in _READ_BY_DECODING
        }
        part = _outputs(
            model,
            params,
            model_batch,
            max_length=max_length,
            num_beams=num_beams,
            alpha=alpha,
        )
        tokens.append(np.asarray(part[0]))
        scores.append(np.asarray(part[1]))
        ids.append(np.asarray(batch["example_id"]))
    order, row_ids = _row_order(ids)
    row_scores = np.concatenate(scores)[order]
    _refuse_nan(row_scores[:, None])
    return np.concatenate(tokens)[order], row_scores, row_ids
