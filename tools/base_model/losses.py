"""Losses of a batch of each kind: distil, choice, span and prefix_lm.

The training head belongs to the course and not to the model: it maps the mean of the
encoder's outputs to the teacher's vector, and where the sentiment of texts is not asked
for in prompts it reads that off the mean as well. The model then knows it, and tuning
has to ask for it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from base_model import course as course_lib
from tfew_jax import models

HEAD = "teacher_head"
_SIMILARITY_TEMPERATURE = 0.05
_LANGUAGE_WEIGHT = 0.5


def distil_losses(
    params: dict[str, Any],
    pooled: Float[Array, "batch embed"],
    vectors: Float[Array, "batch teacher"],
    weight: Float[Array, "batch"],
) -> tuple[Array, Array]:
    """Mean of 1 - cosine, and the divergence of the similarity distributions."""
    ours = pooled @ params[HEAD]["kernel"]
    ours = ours / jnp.maximum(jnp.linalg.norm(ours, axis=-1, keepdims=True), 1e-6)
    total = jnp.maximum(weight.sum(), 1)
    cosine = ((1 - (ours * vectors).sum(-1)) * weight).sum() / total
    blocked = -1e9 * (jnp.eye(len(vectors)) + (weight == 0)[None, :])
    theirs = jax.nn.softmax(vectors @ vectors.T / _SIMILARITY_TEMPERATURE + blocked)
    logs = jax.nn.log_softmax(ours @ vectors.T / _SIMILARITY_TEMPERATURE + blocked)
    spread = (theirs * (jnp.log(jnp.maximum(theirs, 1e-9)) - logs)).sum(-1)
    return cosine, (spread * weight).sum() / total


def sentiment_loss(
    params: dict[str, Any],
    pooled: Float[Array, "batch embed"],
    sentiment: Float[Array, "batch"],
) -> Array:
    """Cross-entropy of what the head reads, over the texts with a sentiment."""
    logits = pooled @ params[HEAD]["sentiment"]
    known = sentiment >= 0
    losses = optax.sigmoid_binary_cross_entropy(logits, 0.05 + 0.9 * sentiment)
    return jnp.where(known, losses, 0).sum() / jnp.maximum(known.sum(), 1)


def loss_fn(
    params: dict[str, Any],
    batch: dict[str, Array],
    *,
    model: models.T5,
    course: course_lib.Course,
    kind: str,
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics of a batch.

    Args:
        params: Parameters, with the training head where there is a teacher.
        batch: What `batches.Data` draws for the kind.
        model: The model.
        course: Weights of the losses.
        kind: distil, choice, span or prefix_lm.
    """
    variables = {"params": {k: v for k, v in params.items() if k != HEAD}}
    encoded = model.apply(variables, batch["tokens"], method="encode")[0]
    metrics: dict[str, Array] = {}
    loss = jnp.zeros(())
    if course.teacher and kind in ("distil", "choice"):
        mask = (batch["tokens"] > 0).astype(jnp.float32)
        pooled = _pooled(encoded, mask)
        weight = batch.get("has_vector", jnp.ones(len(mask)))
        cosine, spread = distil_losses(params, pooled, batch["vectors"], weight)
        metrics |= {"cosine": 1 - cosine, "spread": spread}
        loss = course.distil_weight * (cosine + spread)
        if kind == "distil" and course.reads_sentiment:
            metrics["sentiment"] = sentiment_loss(params, pooled, batch["sentiment"])
            loss += metrics["sentiment"]
    if kind == "distil":
        return loss, metrics | {"loss": loss}
    log_probs = _token_log_probs(model, variables, encoded, batch)
    real = batch["choices"] > 0
    if kind in course_lib.LANGUAGE_KINDS:
        loss = -log_probs.sum() / real.sum()
        return _LANGUAGE_WEIGHT * loss, {"loss": loss}
    is_choice = real.any(-1)
    score = log_probs.sum(-1) / jnp.maximum(real.sum(-1), 1)
    ranked = jax.nn.log_softmax(jnp.where(is_choice, score, -1e9))
    target = batch["target"]
    ranking = -jnp.where(is_choice, target * ranked, 0).sum(-1).mean()
    likelihood = -(target * jnp.where(is_choice, score, 0)).sum(-1).mean()
    right = (ranked.argmax(-1) == target.argmax(-1)).mean()
    metrics |= {"ranking": ranking, "lm": likelihood, "right": right}
    loss += course.ranking_weight * ranking + course.lm_weight * likelihood
    return loss, metrics | {"loss": loss}


def _pooled(
    encoded: Float[Array, "batch length embed"], mask: Float[Array, "batch length"]
) -> Float[Array, "batch embed"]:
    """Mean over the tokens that are there."""
    total = (encoded.astype(jnp.float32) * mask[..., None]).sum(1)
    return total / jnp.maximum(mask.sum(1, keepdims=True), 1)


def _token_log_probs(
    model: models.T5, variables: dict[str, Any], encoded: Array, batch: dict[str, Array]
) -> Array:
    targets = batch["choices"]
    logits: Any = model.apply(
        variables,
        encoded,
        batch["tokens"] > 0,
        models.shift_right(targets),
        method="decode",
    )
    return models.target_log_probs(logits, targets, mask=targets > 0)
