"""Hugging Face T5 directories: `config.json` and safetensors, single or sharded.

Two styles of config are about. Before transformers 5, `tie_word_embeddings: false`
said both that the output layer has a kernel of its own and that its inputs are not
scaled. Since then the field is always true and `scale_decoder_outputs` holds the old
meaning, while the file may still hold a separate `lm_head.weight`. So the weights
decide whether the layer is tied, and the config whether its inputs are scaled.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tfew_jax import checkpoint
from tfew_jax.checkpoint import files, layout, model, tensors
from tfew_jax.interop import names
from tfew_jax.models.config import T5Config
from tfew_jax.types import Params

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
VOCABULARY = "spiece.model"
_EMBEDDING = "token_embedder/embedding"
_LOGITS = "decoder/logits_dense/kernel"
_TIED_COPIES = ("encoder.embed_tokens", "decoder.embed_tokens")
# Old files hold a table that transformers has never used.
_UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias"
_ACTIVATIONS = {
    "relu": ("relu",),
    "gelu": ("gelu_exact",),
    "gelu_new": ("gelu",),
    "silu": ("silu",),
    "gated-relu": ("relu", "linear"),
    "gated-gelu": ("gelu", "linear"),
    "gated-silu": ("silu", "linear"),
}


def is_model(directory: Path) -> bool:
    """Whether a directory holds safetensors under Hugging Face's names."""
    return (directory / _WEIGHTS).exists() or (directory / _INDEX).exists()


def load_model(
    directory: str | Path,
    *,
    config: T5Config | None = None,
    dtype: str | None = None,
    **flags: Any,
) -> checkpoint.Model:
    """Reads a T5 or mT5 directory, tensor by tensor.

    Args:
        directory: Holds `model.safetensors` or its shards with their index, and
            mostly `config.json`.
        config: Sizes, in place of `config.json`.
        dtype: Dtype of the parameters; None keeps the file's.
        **flags: Fields of `T5Config` that override what was read.

    Raises:
        ValueError: If the model is no T5, a file is missing or damaged, or the
            weights do not fit the config.
    """
    directory = Path(directory)
    with _open_weights(directory) as (source, found):
        modules, tied = _resolve(found, source)
        read = _sizes(directory, found, modules, config, flags, tied, source)
        flat: dict[str, np.ndarray] = {}
        for path, name in modules.items():
            array = found[name].read(name)
            array = tensors.cast(array.T if names.is_transposed(path) else array, dtype)
            flat[path] = model.checked(array, name, found[name].path)
    vocabulary = directory / VOCABULARY
    return checkpoint.Model(
        config=read,
        params=layout.unflatten(flat),
        vocabulary=vocabulary if vocabulary.exists() else None,
        path=directory,
    )


def load_config(directory: str | Path) -> T5Config:
    """The sizes of a T5 or mT5 directory.

    Raises:
        ValueError: As `load_model`, of all but damaged arrays.
    """
    directory = Path(directory)
    with _open_weights(directory) as (source, found):
        modules, tied = _resolve(found, source)
        return _sizes(directory, found, modules, None, {}, tied, source)


def load_embedding(directory: str | Path) -> Shaped[np.ndarray, "vocab embed"]:
    """The embedding table of a directory, in the file's dtype.

    Raises:
        ValueError: If there is none, or it is damaged.
    """
    with _open_weights(Path(directory)) as (source, found):
        for name in (f"{module}.weight" for module in ("shared", *_TIED_COPIES)):
            if name in found:
                return model.checked(found[name].read(name), name, found[name].path)
        raise ValueError(f"{source} has no shared.weight; is it a T5?")


def _sizes(
    directory: Path,
    found: Mapping[str, tensors.TensorFile],
    modules: Mapping[str, str],
    config: T5Config | None,
    flags: Mapping[str, Any],
    tied: bool,
    source: Path,
) -> T5Config:
    """The model's config, which its arrays fit."""
    shapes = {
        path: shape[::-1] if names.is_transposed(path) else shape
        for path, shape in ((p, found[n].shapes[n]) for p, n in modules.items())
    }
    if config is None:
        settings = _settings(directory, shapes, tied=tied, source=source)
    else:
        settings = config.to_dict()
    read = layout.with_flags(settings, flags)
    advice = "config.json and the weights must be of one T5 model"
    layout.check(shapes, layout.model_shapes(read), source=str(source), advice=advice)
    return read


@contextlib.contextmanager
def _open_weights(
    directory: Path,
) -> Iterator[tuple[Path, dict[str, tensors.TensorFile]]]:
    """Yields the file that names all tensors, and each tensor's open file."""
    with contextlib.ExitStack() as stack:
        if (directory / _WEIGHTS).exists() or not (directory / _INDEX).exists():
            source = directory / _WEIGHTS
            file = stack.enter_context(tensors.open_file(source))
            yield source, dict.fromkeys(file.shapes, file)
            return
        source = directory / _INDEX
        shards = files.read_json(source).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ValueError(f"{source} has no weight_map that names the shards")
        opened = {
            shard: stack.enter_context(tensors.open_file(directory / shard))
            for shard in sorted(set(shards.values()))
        }
        for name, shard in shards.items():
            if name not in opened[shard].shapes:
                raise ValueError(
                    f"{directory / shard} lacks {name}, which {_INDEX} names"
                )
        yield source, {name: opened[shard] for name, shard in shards.items()}


def _resolve(
    found: Mapping[str, tensors.TensorFile], source: Path
) -> tuple[dict[str, str], bool]:
    """Which tensor is which parameter, and whether the output layer is tied."""
    weights = {name.removesuffix(".weight"): name for name in found}
    weights.pop(_UNUSED, None)
    embeddings = [n for n in ("shared", *_TIED_COPIES) if n in weights]
    for copy in embeddings[1:]:
        if not _equal(found, weights[embeddings[0]], weights[copy]):
            raise ValueError(
                f"{source}: {weights[copy]} differs from {weights[embeddings[0]]}; "
                "T5 has one embedding table"
            )
        del weights[copy]
    if embeddings and embeddings[0] != "shared":
        weights["shared"] = weights.pop(embeddings[0])
    tied = "lm_head" not in weights
    if not tied and "shared" in weights:
        tied = _equal(found, weights["shared"], weights["lm_head"])
        if tied:
            del weights["lm_head"]
    modules: dict[str, str] = {}
    for module, name in weights.items():
        path = names.path_of(module)
        if path is None:
            raise ValueError(
                f"{source} has unexpected {name}; only T5 and mT5 are read"
            )
        modules[path] = name
    return modules, tied


def _equal(found: Mapping[str, tensors.TensorFile], one: str, other: str) -> bool:
    if found[one].shapes[one] != found[other].shapes[other]:
        return False
    return np.array_equal(found[one].read(one), found[other].read(other))


def _settings(
    directory: Path, shapes: layout.Shapes, *, tied: bool, source: Path
) -> dict[str, Any]:
    """Fields of `T5Config`, from `config.json` or else off the shapes."""
    path = directory / "config.json"
    if not path.exists():
        return layout.config_from_shapes(shapes, source=str(source)).to_dict()
    content = files.read_json(path)
    kind = content.get("model_type", "t5")
    if kind not in ("t5", "mt5"):
        raise ValueError(f"{path}: model_type is {kind!r}; only t5 and mt5 are read")
    activations = content.get("feed_forward_proj", "relu")
    if activations not in _ACTIVATIONS:
        raise ValueError(
            f"{path}: feed_forward_proj is {activations!r}; allowed: "
            f"{', '.join(_ACTIVATIONS)}"
        )
    num_layers = content.get("num_layers", 6)
    scaled = content.get("scale_decoder_outputs")
    if scaled is None:
        scaled = content.get("tie_word_embeddings") is not False
    fields = {
        "vocab_size": content.get("vocab_size", 32128),
        "emb_dim": content.get("d_model", 512),
        "num_heads": content.get("num_heads", 8),
        "head_dim": content.get("d_kv", 64),
        "mlp_dim": content.get("d_ff", 2048),
        "num_encoder_layers": num_layers,
        "num_decoder_layers": content.get("num_decoder_layers") or num_layers,
        "mlp_activations": _ACTIVATIONS[activations],
        "logits_via_embedding": tied,
        "scale_decoder_outputs": bool(scaled),
        "relpos_buckets": content.get("relative_attention_num_buckets", 32),
        "relpos_max_distance": content.get("relative_attention_max_distance", 128),
        "layer_norm_epsilon": content.get("layer_norm_epsilon", 1e-6),
        "dropout_rate": content.get("dropout_rate", 0.1),
    }
    return model.read_config(fields, path=path).to_dict()


def save_model(
    directory: str | Path,
    *,
    config: T5Config,
    params: Params,
    vocabulary: str | Path | None = None,
) -> None:
    """Writes a directory that transformers loads, before and since its version 5.

    Args:
        directory: Where to; an earlier model there is replaced.
        config: Sizes of the model.
        params: Unstacked parameters.
        vocabulary: SentencePiece file to copy beside them.

    Raises:
        ValueError: If Hugging Face's T5 cannot express the model, the parameters are
            not those of the config, or the directory holds something else.
        OSError: If the disk is full or not writable.
    """
    if config.relpos_per_layer:
        raise ValueError(
            "this model has one relative position table a layer (relpos_per_layer); "
            "Hugging Face's T5 has one a stack and cannot express it"
        )
    vocabulary = model.existing(vocabulary)
    layout.check(
        layout.shapes_of(params),
        layout.model_shapes(config),
        source="params",
        advice="save the unstacked parameters together with their own config",
    )
    content = _config_json(config)
    flat = layout.flatten(params)
    renamed = {f"{names.module_of(path)}.weight": path for path in flat}
    with files.new_directory(directory, marker="config.json") as fresh:
        tensors.write(
            fresh / _WEIGHTS,
            {name: flat[path] for name, path in renamed.items()},
            transposed={n for n, path in renamed.items() if names.is_transposed(path)},
            metadata={"format": "pt"},  # transformers refuses a file without it
        )
        if vocabulary is not None:
            shutil.copyfile(vocabulary, fresh / VOCABULARY)
        files.write_json(fresh / "config.json", content)


def _config_json(config: T5Config) -> dict[str, Any]:
    activations = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    if config.mlp_activations not in activations:
        raise ValueError(
            f"Hugging Face's T5 has no block with mlp_activations="
            f"{config.mlp_activations}; allowed: {', '.join(map(str, activations))}"
        )
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.emb_dim,
        "d_kv": config.head_dim,
        "d_ff": config.mlp_dim,
        "num_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "feed_forward_proj": activations[config.mlp_activations],
        "relative_attention_num_buckets": config.relpos_buckets,
        "relative_attention_max_distance": config.relpos_max_distance,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "dropout_rate": config.dropout_rate,
        "tie_word_embeddings": config.logits_via_embedding,
        "scale_decoder_outputs": config.scale_decoder_outputs,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }
