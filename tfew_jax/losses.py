"""T-Few's losses and scores: pure functions of the tokens' log-probabilities.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3.2. With the right
choice y, the wrong choices z and beta(x, c) the mean log-probability of choice c:

    L_LM = -mean_t log p(y_t | x, y_<t)
    L_UL = -mean_{z, t} log(1 - p(z_t | x, z_<t))
    L_LN = -log softmax_c beta(x, c), taken at c = y

The total is their sum. Where paper and reference code (r-three/t-few) differ:

*   the logarithm of L_UL has `+ epsilon`, 0.01 as in the code. The paper has none
    and is infinite at p = 1; `epsilon=0` is the paper;
*   L_LM and L_UL are means over the tokens of the whole batch, as in the code, not
    means of every example's mean, but over the batch of the optimizer, where the
    code takes the micro-batch: counts are taken before a batch is cut;
*   masked tokens add nothing. In the code each of them adds -log(1 + epsilon) to
    L_UL, a constant that depends on padding; `masked_offset=True` does the same.

The end-of-sequence token counts as a token everywhere.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tfew_jax import types

_NO_CHOICE = -1e30  # exp() of it is 0, and unlike -inf it has differences


def lm_loss(
    log_probs: Float[Array, "batch choices target_length"],
    mask: Bool[Array, "batch choices target_length"],
    label: Int[Array, "batch"],
) -> Float[Array, "batch"]:
    """Negative log-likelihood of the right choice.

    Args:
        log_probs: Log-probabilities of the tokens of each choice.
        mask: True at real tokens.
        label: Index of the right choice.

    Returns:
        The sum over the right choice's tokens; the caller divides.
    """
    nll = -jnp.where(mask, log_probs, 0.0).sum(axis=-1)
    return _at_label(nll, label)


def unlikelihood_loss(
    log_probs: Float[Array, "batch choices target_length"],
    mask: Bool[Array, "batch choices target_length"],
    label: Int[Array, "batch"],
    *,
    epsilon: float = 0.01,
    masked_offset: bool = False,
) -> Float[Array, "batch"]:
    """Unlikelihood of every token of the wrong choices: -log(1 - p + epsilon).

    Args:
        log_probs: Log-probabilities of the tokens of each choice.
        mask: True at real tokens.
        label: Index of the right choice.
        epsilon: Bounds the loss of a token by -log(epsilon). 0 is the paper.
        masked_offset: Whether padding and the right choice add -log(1 + epsilon)
            a position, as in the reference code.

    Returns:
        The sum over the tokens of the wrong choices; the caller divides. Zero for
        an example with one choice.
    """
    wrong = wrong_tokens(mask, label)
    # Before exp(), so that whatever stands at padding has no gradient either.
    p = jnp.exp(jnp.where(wrong, log_probs, -jnp.inf))
    unlikelihood = -jnp.log1p(epsilon - p)
    if not masked_offset:
        unlikelihood = jnp.where(wrong, unlikelihood, 0.0)
    return unlikelihood.sum(axis=(-2, -1))


def length_normalized_loss(
    log_probs: Float[Array, "batch choices target_length"],
    mask: Bool[Array, "batch choices target_length"],
    label: Int[Array, "batch"],
    *,
    exponent: float = 1.0,
) -> Float[Array, "batch"]:
    """Cross-entropy over choices of their length-normalized scores.

    Args:
        log_probs: Log-probabilities of the tokens of each choice.
        mask: True at real tokens. A choice that is padding has no True at all
            and takes no part in the softmax.
        label: Index of the right choice.
        exponent: As in `length_normalized_score`.

    Returns:
        The loss of each example; zero for an example with one choice and for a row
        that is padding.
    """
    is_choice = jnp.any(mask, axis=-1)
    scores = length_normalized_score(log_probs, mask, exponent=exponent)
    scores = jnp.where(is_choice, scores, _NO_CHOICE)
    loss = _at_label(-jax.nn.log_softmax(scores), label)
    return jnp.where(_at_label(is_choice, label), loss, 0.0)


def length_normalized_score(
    log_probs: Float[Array, "batch choices target_length"],
    mask: Bool[Array, "batch choices target_length"],
    *,
    exponent: float = 1.0,
) -> Float[Array, "batch choices"]:
    """Log-probability of each choice, divided by its length to a power.

    Args:
        log_probs: Log-probabilities of the tokens of each choice.
        mask: True at real tokens.
        exponent: 1 for the mean over tokens (the paper's beta), 0 for the sum.

    Returns:
        The scores, higher is likelier; 0 where a choice is padding.
    """
    length = jnp.maximum(mask.sum(axis=-1), 1).astype(log_probs.dtype)
    return jnp.where(mask, log_probs, 0.0).sum(axis=-1) / length**exponent


def choice_scores(
    log_probs: Float[Array, "batch choices target_length"],
    mask: Bool[Array, "batch choices target_length"],
    *,
    normalization: str = "mean",
) -> Float[Array, "batch choices"]:
    """Scores of rank classification: the highest is the prediction.

    Args:
        log_probs: Log-probabilities of the tokens of each choice.
        mask: True at real tokens.
        normalization: "mean" over the tokens (T-Few) or their "sum" (T0).

    Returns:
        The scores; -inf where a choice is padding, so that it is never predicted.

    Raises:
        ValueError: If the normalization is unknown.
    """
    exponents = {"mean": 1.0, "sum": 0.0}
    if normalization not in exponents:
        raise ValueError(
            f"unknown normalization {normalization!r}; available: mean, sum"
        )
    exponent = exponents[normalization]
    scores = length_normalized_score(log_probs, mask, exponent=exponent)
    return jnp.where(jnp.any(mask, axis=-1), scores, -jnp.inf)


def target_mask(batch: types.Batch) -> Bool[Array, "batch choices target_length"]:
    """True at the real tokens, the end of sequence included, of real choices."""
    is_token = jnp.asarray(batch["decoder_target_tokens"]) > 0
    return is_token & jnp.asarray(batch["choice_mask"])[..., None]


def wrong_tokens(
    mask: Bool[Array, "batch choices target_length"], label: Int[Array, "batch"]
) -> Bool[Array, "batch choices target_length"]:
    """True at the real tokens of the choices other than the right one."""
    is_right = jnp.arange(mask.shape[1])[None] == label[:, None]
    return mask & ~is_right[..., None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFewLoss:
    """The weighted sum of the three losses over a batch.

    A batch can be given in parts: `counts` are taken over the whole batch, and the
    losses of the parts divided by them add up to the loss of the whole.

    Attributes:
        lm: Weight of the likelihood of the right choice.
        unlikelihood: Weight of the unlikelihood of the wrong choices.
        length_normalized: Weight of the cross-entropy over choices.
        epsilon: As in `unlikelihood_loss`.
        masked_offset: As in `unlikelihood_loss`; only for parity with the reference
            code, since it makes the loss depend on padding.
        length_exponent: As in `length_normalized_score`.
    """

    lm: float = 1.0
    unlikelihood: float = 1.0
    length_normalized: float = 1.0
    epsilon: float = 0.01
    masked_offset: bool = False
    length_exponent: float = 1.0

    def __post_init__(self) -> None:
        weights = self._weights()
        for name, value in {**weights, "epsilon": self.epsilon}.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value}; it must be 0 or a positive number")
        if not any(weights.values()):
            raise ValueError(
                f"all weights are 0, so nothing would be trained: {weights}; give at "
                "least one of them a positive weight"
            )

    @property
    def reads_wrong_choices(self) -> bool:
        """Whether the wrong choices matter; else rows need their right ones alone."""
        return bool(self.unlikelihood or self.length_normalized)

    def counts(self, batch: types.Batch) -> dict[str, Float[Array, ""]]:
        """What the sum of each loss over a whole batch is divided by.

        Args:
            batch: The whole batch of one update.

        Returns:
            The tokens of the right choices (`lm`), the tokens of the wrong choices
            (`unlikelihood`) and the examples (`length_normalized`), at least 1.
        """
        mask = target_mask(batch)
        label = jnp.asarray(batch["label"])
        sums = {
            "lm": _at_label(mask.sum(axis=-1), label).sum(),
            "unlikelihood": wrong_tokens(mask, label).sum(),
            "length_normalized": _at_label(mask.any(axis=-1), label).sum(),
        }
        return {
            name: jnp.maximum(total, 1).astype(jnp.float32)
            for name, total in sums.items()
        }

    def row_losses(
        self,
        log_probs: Float[Array, "batch choices target_length"],
        batch: types.Batch,
        counts: dict[str, Float[Array, ""]],
    ) -> dict[str, Float[Array, "batch"]]:
        """What each row adds to each loss, before the weights.

        Args:
            log_probs: Log-probabilities of `decoder_target_tokens`.
            batch: The batch or a part of it.
            counts: `counts` of the whole batch.

        Returns:
            One array for each loss whose weight is not 0.
        """
        mask = target_mask(batch)
        label = jnp.asarray(batch["label"])
        losses = {
            "lm": lambda: lm_loss(log_probs, mask, label),
            "unlikelihood": lambda: unlikelihood_loss(
                log_probs,
                mask,
                label,
                epsilon=self.epsilon,
                masked_offset=self.masked_offset,
            ),
            "length_normalized": lambda: length_normalized_loss(
                log_probs, mask, label, exponent=self.length_exponent
            ),
        }
        weights = self._weights()
        return {
            name: loss() / counts[name]
            for name, loss in losses.items()
            if weights[name]  # a loss left out cannot make the sum infinite either
        }

    def __call__(
        self,
        log_probs: Float[Array, "batch choices target_length"],
        batch: types.Batch,
        counts: dict[str, Float[Array, ""]],
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss of a batch, or what a part of a batch adds to it.

        Args:
            log_probs: Log-probabilities of `decoder_target_tokens`.
            batch: The batch or a part of it.
            counts: `counts` of the whole batch.

        Returns:
            The weighted sum, and as metrics each loss (`lm_loss`, ...) without its
            weight. All of them add up over the parts of a batch.
        """
        rows = self.row_losses(log_probs, batch, counts)
        sums = {name: row.sum() for name, row in rows.items()}
        weights = self._weights()
        loss = jnp.sum(jnp.stack([weights[name] * sums[name] for name in sums]))
        return loss, {f"{name}_loss": value for name, value in sums.items()}

    def _weights(self) -> dict[str, float]:
        return {
            "lm": self.lm,
            "unlikelihood": self.unlikelihood,
            "length_normalized": self.length_normalized,
        }


def _at_label(values: Array, label: Int[Array, "batch"]) -> Array:
    return jnp.take_along_axis(values, label[:, None], axis=1)[:, 0]
