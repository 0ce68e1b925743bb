"""The frozen model with its vocabulary: what every run stands on."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Float

import tfew_jax
from tfew_jax import checkpoint, interop, models
from tfew_jax.data import tokenizer as tokenizers
from tfew_jax.experiment import memory
from tfew_jax.types import Params

EMBEDDED = pathlib.Path(tfew_jax.__file__).parent / "assets" / "base"
PRETRAINED_IA3 = EMBEDDED.parent / "pretrained_ia3"  # vectors for that base
_SAMPLED = 64  # values of each array that tell two models apart


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """A frozen model in the form the programs read, with its tokenizer.

    Attributes:
        config: Sizes and numerics.
        params: Parameters on the device, stacked where the config scans layers.
        tokenizer: Its vocabulary.
        source: Where it was loaded from, as messages name it.
    """

    config: models.T5Config
    params: Params
    tokenizer: tokenizers.Tokenizer
    source: str

    def __post_init__(self) -> None:
        if self.tokenizer.vocab_size > self.config.vocab_size:
            raise ValueError(
                f"the vocabulary of {self.source} has {self.tokenizer.vocab_size} "
                f"pieces, its embedding {self.config.vocab_size} rows; give the "
                "vocabulary that belongs to the model"
            )

    @functools.cached_property
    def packed(self) -> Params:
        """The parameters as programs take them, by `models.pack`: the same values.

        Packed kernels lie beside the unpacked ones and take half of their memory.
        """
        return models.pack(self.params, dtype=self.config.dtype)

    @functools.cached_property
    def weights_fingerprint(self) -> str:
        """Tells models apart; the same in another dtype or with layers stacked.

        Of the vocabulary and what stands outside of the layers, rounded to bfloat16.
        """
        digest = hashlib.sha256(self.tokenizer.model_file.read_bytes())
        for path, leaf in sorted(traverse_util.flatten_dict(dict(self.params)).items()):
            if not any(part.startswith("layers") for part in path):
                digest.update(f"{path}{leaf.shape}".encode())
                rounded = _sample(leaf).astype(jnp.bfloat16)
                digest.update(rounded.astype(np.float32).tobytes())
        return digest.hexdigest()[:16]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells models apart: sizes, names, shapes, some values and vocabulary."""
        digest = hashlib.sha256(self.tokenizer.model_file.read_bytes())
        sizes = {**self.config.to_dict(), "dropout_rate": None}
        digest.update(json.dumps(sizes, sort_keys=True).encode())
        for path, leaf in sorted(traverse_util.flatten_dict(dict(self.params)).items()):
            digest.update(f"{path}{leaf.shape}{leaf.dtype}".encode())
            digest.update(_sample(leaf).tobytes())
        return digest.hexdigest()[:16]


def _sample(leaf: jax.Array) -> Float[np.ndarray, " values"]:
    """Some values of an array, evenly spread over it."""
    indices = np.linspace(0, leaf.size - 1, _SAMPLED).astype(np.int64)
    return np.asarray(leaf[np.unravel_index(indices, leaf.shape)], np.float32)


def load_base(
    path: str | os.PathLike[str] | None = None,
    *,
    config: models.T5Config | None = None,
    vocabulary: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    dropout_rate: float | None = None,
    **flags: Any,
) -> Base:
    """Loads a frozen model to tune.

    Args:
        path: Directory of a native, Hugging Face or T5X model; None for the small
            base that is part of the package.
        config: Sizes, where the directory does not tell them.
        vocabulary: SentencePiece file, where the directory holds none.
        dtype: Of the computation and the frozen parameters: float32 or bfloat16;
            None for float32 on a CPU and bfloat16 on an accelerator.
        dropout_rate: Rate in training; None keeps the model's.
        **flags: Other fields of the model's config to override.

    Raises:
        ValueError: If it is no model, is incomplete or damaged, has no vocabulary,
            or one that is larger than its embedding.
    """
    directory = EMBEDDED if path is None else pathlib.Path(path).expanduser()
    if path is None and not directory.is_dir():
        raise ValueError(
            f"this installation has no embedded base model ({directory}); "
            "give the directory of a model with --base or load_base(path)"
        )
    if dtype is None:
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if dropout_rate is not None:
        flags["dropout_rate"] = dropout_rate
    model = interop.load_model(directory, config=config, dtype=dtype, **flags)
    return make_base(model, vocabulary=vocabulary, dtype=dtype)


def make_base(
    model: checkpoint.Model,
    *,
    vocabulary: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
) -> Base:
    """A base of a model that is in memory already.

    Args:
        model: The model, with unstacked parameters.
        vocabulary: SentencePiece file, where the model names none.
        dtype: Of the computation; None keeps the config's.

    Raises:
        ValueError: If there is no vocabulary, or one larger than the embedding.
    """
    source = "the model" if model.path is None else str(model.path)
    file = vocabulary or model.vocabulary
    if file is None:
        raise ValueError(
            f"{source} holds no vocabulary; give its SentencePiece file as vocabulary"
        )
    config = dataclasses.replace(model.config, dtype=dtype or model.config.dtype)
    stack = models.stack_layers if config.scan_layers else models.unstack_layers
    stacked = stack(model.params)
    with memory.explained(
        stacked, lambda: "more than is left", "dtype bfloat16 takes half of float32"
    ):
        params = jax.block_until_ready(jax.tree.map(jnp.asarray, stacked))
    return Base(
        config=config,
        params=params,
        tokenizer=tokenizers.Tokenizer(file),
        source=source,
    )
