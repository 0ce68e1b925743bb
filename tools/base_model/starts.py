"""Starts that training refines: closed forms, or an earlier base model.

The training head starts as the least-squares map from the mean of a text's token
embeddings to the teacher's vector of the text: a bag of words. The decoder starts as
a linear readout: its first cross-attention looks at all inputs alike and maps their
mean to the embeddings of phrases that the teacher finds similar.

An earlier base gives its layers, and each new piece the mean of the embeddings that
the piece's text had in it.
"""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float

from base_model import batches, ragged, vocabulary
from tfew_jax import checkpoint, models

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


def _pooled(
    model: models.T5, params: dict[str, Any], data: batches.Data, chosen: np.ndarray
) -> Float[np.ndarray, "texts embed"]:
    """Means of the encoder's outputs over the tokens of each text."""
    variables = {"params": {k: v for k, v in params.items() if k != "teacher_head"}}
    pooled = []
    for start in range(0, len(chosen), 512):
        rows = [np.append(data.texts[i], 1) for i in chosen[start : start + 512]]
        tokens = ragged.pad(rows, _READOUT_LENGTH)
        encoded = model.apply(variables, jnp.asarray(tokens), method="encode")[0]
        mask = (tokens > 0)[..., None]
        pooled.append((np.asarray(encoded) * mask).sum(1) / mask.sum(1))
    return np.concatenate(pooled)


def _short_texts(data: batches.Data, count: int) -> np.ndarray:
    return np.flatnonzero(data.texts.lengths < _READOUT_LENGTH)[:count]


def earlier_model(
    folder: pathlib.Path,
    model: models.T5,
    params: dict[str, Any],
    data: batches.Data,
    *,
    keep_decoder: bool = True,
) -> dict[str, Any]:
    """Parameters of an earlier base for a vocabulary of its own.

    Args:
        folder: Model folder with the same shape, whatever its vocabulary.
        model: The new model.
        params: Its parameters, for their form; with the training head if there is one.
        data: The new vocabulary, and texts to fit the head on.
        keep_decoder: Whether the decoder's layers are the earlier ones, too.

    Raises:
        ValueError: The folder's model has other shapes.
    """
    earlier = checkpoint.load_model(folder)
    old: dict[Any, Any] = dict(
        traverse_util.flatten_dict(models.unstack_layers(earlier.params))
    )
    flat: dict[Any, Any] = dict(traverse_util.flatten_dict(params))
    name, head = ("token_embedder", "embedding"), ("teacher_head", "kernel")
    for path, leaf in flat.items():
        if path == name or path[0] == head[0]:
            continue
        if path[0] == "decoder" and not keep_decoder:
            continue
        if path not in old or old[path].shape != leaf.shape:
            raise ValueError(f"--start {folder}: {'/'.join(path)} has another shape")
        flat[path] = jnp.asarray(old[path], jnp.float32)
    pieces = vocabulary.load(folder / "sentencepiece.model")
    table = np.asarray(old[name], np.float32)
    flat[name] = jnp.asarray(_translated(np.array(flat[name]), table, pieces, data))
    moved = traverse_util.unflatten_dict(flat)
    if head not in flat:
        return moved
    chosen = _short_texts(data, _READOUT_TEXTS)
    pooled = _pooled(model, moved, data, chosen).astype(np.float64)
    fitted = _ridge(pooled, data.vectors[chosen].astype(np.float64))
    flat[head] = jnp.asarray(fitted * (_HEAD_SIZE / fitted.std()), jnp.float32)
    return traverse_util.unflatten_dict(flat)


def _translated(
    out: Float[np.ndarray, "vocab embed"],
    table: Float[np.ndarray, "old embed"],
    old: Any,
    data: batches.Data,
) -> Float[np.ndarray, "vocab embed"]:
    """Embeddings of the new pieces out of those of their old pieces; marks stay."""
    new, size = data.pieces, data.vocab_size
    for number in range(size):
        if number >= new.get_piece_size():  # sentinels, counted from the end
            out[number] = table[number - size]
            continue
        piece = new.id_to_piece(number)
        same = old.piece_to_id(piece)
        if piece == vocabulary.NEWLINE and same == old.unk_id():
            same = old.piece_to_id("\n")
        if same != old.unk_id() or new.is_unknown(number):
            out[number] = table[same]
            continue
        found = old.encode(piece if piece.startswith("▁") else "a" + piece)
        found = found if piece.startswith("▁") else found[1:]
        if found and not {vocabulary.CAPITAL, vocabulary.CAPITALS} & set(piece):
            out[number] = table[found].mean(0)
    return out


def decoder_readout(
    model: models.T5, params: dict[str, Any], data: batches.Data
) -> dict[str, Any]:
    """Parameters with a decoder that reads phrases off the encoder's mean output."""
    chosen = _short_texts(data, _READOUT_TEXTS)
    inputs = _pooled(model, params, data, chosen).astype(np.float64)
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
