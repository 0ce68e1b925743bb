"""Closed-form starts, so that training refines a linear solution.

The training head starts as the least-squares map from the mean of a text's token
embeddings to the teacher's vector of the text: a bag of words. The decoder starts as
a linear readout: its first cross-attention looks at all inputs alike and maps their
mean to the embeddings of phrases that the teacher finds similar.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from base_model import batches
from tfew_jax import models

_HEAD_TEXTS = 20_000
_HEAD_SIZE = 0.25
_READOUT_TEXTS = 4_096
_READOUT_LENGTH = 24
_READOUT_PHRASES = 3
_READOUT_SIZE = 2.0  # beside embeddings, whose entries have size one


def _ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    penalty = 1e-3 * len(x) * np.eye(x.shape[1])
    return np.linalg.solve(x.T @ x + penalty, x.T @ y)


def _normed(table: np.ndarray) -> np.ndarray:
    return table / np.sqrt((table**2).mean(1, keepdims=True) + 1e-6)


def bag_of_words_head(
    table: Float[np.ndarray, "vocab embed"], data: batches.Data
) -> Float[np.ndarray, "embed teacher"]:
    """Ridge regression from mean normalised embeddings to teacher vectors."""
    normed = _normed(table)
    count = min(len(data.texts), _HEAD_TEXTS)
    pooled = np.stack(
        [normed[np.append(data.texts[i], 1)].mean(0) for i in range(count)]
    )
    head = _ridge(pooled, data.vectors[:count].astype(np.float32))
    # Its outputs are normalised, so its size is free: large entries change slowly.
    return (head * (_HEAD_SIZE / head.std())).astype(np.float32)


def decoder_readout(
    model: models.T5, params: dict[str, Any], data: batches.Data
) -> dict[str, Any]:
    """Parameters with a decoder that reads phrases off the encoder's mean output."""
    chosen = np.flatnonzero(data.texts.lengths < _READOUT_LENGTH)[:_READOUT_TEXTS]
    variables = {"params": {k: v for k, v in params.items() if k != "teacher_head"}}
    pooled = []
    for start in range(0, len(chosen), 512):
        rows = [np.append(data.texts[i], 1) for i in chosen[start : start + 512]]
        tokens = batches.pad(rows, _READOUT_LENGTH)
        encoded = model.apply(variables, jnp.asarray(tokens), method="encode")[0]
        mask = (tokens > 0)[..., None]
        pooled.append((np.asarray(encoded) * mask).sum(1) / mask.sum(1))
    inputs = np.concatenate(pooled).astype(np.float64)
    normed = _normed(np.asarray(params["token_embedder"]["embedding"]))
    wanted = np.stack([_answer(normed, data, i) for i in chosen])
    readout = _ridge(inputs, wanted)
    readout *= _READOUT_SIZE / np.sqrt(((inputs @ readout) ** 2).mean())
    left, sizes, right = np.linalg.svd(readout)
    flat: dict[Any, Any] = dict(traverse_util.flatten_dict(params))
    for path, leaf in flat.items():
        if path[0] == "decoder" and path[-2] in ("out", "wo"):
            flat[path] = jnp.zeros_like(leaf)
    first = ("decoder", "layers_0", "encoder_decoder_attention")
    flat[*first, "query", "kernel"] = 0.1 * flat[*first, "query", "kernel"]
    flat[*first, "value", "kernel"] = jnp.asarray(left * np.sqrt(sizes), jnp.float32)
    flat[*first, "out", "kernel"] = jnp.asarray(
        np.sqrt(sizes)[:, None] * right, jnp.float32
    )
    return traverse_util.unflatten_dict(flat)


def _answer(normed: np.ndarray, data: batches.Data, text: int) -> np.ndarray:
    """Mean embedding of the phrases nearest to a text."""
    phrases = [data.phrases[i] for i in data.nearest[text][:_READOUT_PHRASES]]
    return np.mean([normed[phrase].mean(0) for phrase in phrases], axis=0)
