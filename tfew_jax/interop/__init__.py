"""Other people's files: one module a format, and what tells the formats apart."""

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from tfew_jax import checkpoint
from tfew_jax.checkpoint import adapter as native_adapter
from tfew_jax.checkpoint import files, layout, model, tensors
from tfew_jax.interop import huggingface, numpy_prompt, peft, t5x, tfew
from tfew_jax.models.config import T5Config

__all__ = [
    "Embedding",
    "huggingface",
    "is_adapter",
    "load_adapter",
    "load_config",
    "load_embedding",
    "load_model",
    "numpy_prompt",
    "peft",
    "t5x",
    "tfew",
]

_EMBEDDING = "token_embedder/embedding"


class Embedding(NamedTuple):
    """What turns token ids into vectors, in the dtype of its file."""

    table: Shaped[np.ndarray, "vocab embed"]
    vocabulary: Path | None  # SentencePiece file beside it


def load_model(
    path: str | Path,
    *,
    config: T5Config | None = None,
    dtype: str | None = None,
    **flags: Any,
) -> checkpoint.Model:
    """Loads a base model: native, Hugging Face or T5X (legacy, orbax, scanned).

    Sizes come from `config`, else from the directory's config file, else they are
    read off the shapes; what shapes cannot tell is then T5 1.1's.

    Args:
        path: The model's directory.
        config: Sizes and numerics, where they are known.
        dtype: Dtype of the parameters, float32 or bfloat16, cast tensor by tensor;
            None keeps the file's (float16 becomes float32).
        **flags: Fields of `T5Config` that override what was read, such as
            `relpos_max_distance`, `mlp_activations`, `scale_decoder_outputs`.

    Raises:
        ValueError: If it is no model, is incomplete or damaged, or does not fit the
            given settings.
    """
    directory = Path(path)
    reader = _reader(directory)
    if reader is None:
        return _load_native(directory, config=config, dtype=dtype, flags=flags)
    return reader.load_model(directory, config=config, dtype=dtype, **flags)


def load_config(path: str | Path) -> T5Config:
    """The sizes of a model that `load_model` reads, without its parameters.

    Raises:
        ValueError: If it is no model, or its arrays are not those of its config.
    """
    directory = Path(path)
    reader = _reader(directory)
    if reader is None:
        settings = directory / "config.json"
        return model.read_config(files.read_json(settings).get("model"), path=settings)
    return reader.load_config(directory)


def load_embedding(path: str | Path) -> Embedding:
    """The embedding table of a model that `load_model` reads, and nothing else of it.

    Raises:
        ValueError: If it is no model, or the table is missing or damaged.
    """
    directory = Path(path)
    reader = _reader(directory)
    if reader is not None:
        table = reader.load_embedding(directory)
    else:
        weights = directory / "model.safetensors"
        with tensors.open_file(weights) as file:
            if _EMBEDDING not in file.shapes:
                raise ValueError(f"{weights} lacks {_EMBEDDING}; copy it again")
            table = model.checked(file.read(_EMBEDDING), _EMBEDDING, weights)
    names = (model.VOCABULARY, huggingface.VOCABULARY)
    found = [directory / name for name in names if (directory / name).exists()]
    return Embedding(table, found[0] if found else None)


def _reader(directory: Path) -> ModuleType | None:
    """The module that reads a model directory, or None for our own format.

    Raises:
        ValueError: If it is no model.
    """
    if not directory.is_dir():
        raise ValueError(f"model {directory} is not a directory; {_formats(directory)}")
    if t5x.is_checkpoint(directory):
        return t5x
    settings = directory / "config.json"
    if settings.exists() and files.read_json(settings).get("format") == model.FORMAT:
        return None
    if huggingface.is_model(directory):
        return huggingface
    raise ValueError(f"model {directory}: {_formats(directory)}")


def _load_native(
    directory: Path, *, config: T5Config | None, dtype: str | None, flags: dict
) -> checkpoint.Model:
    loaded = checkpoint.load_model(directory, dtype=dtype)
    settings = layout.with_flags((config or loaded.config).to_dict(), flags)
    layout.check(
        layout.shapes_of(loaded.params),
        layout.model_shapes(settings),
        source=str(directory),
        advice="leave out the settings that the directory's config.json holds",
    )
    return checkpoint.Model(
        config=settings,
        params=loaded.params,
        vocabulary=loaded.vocabulary,
        path=directory,
    )


def _formats(directory: Path) -> str:
    """What a model directory may be, and a hint at what was given instead."""
    text = (
        "expected a tfew_jax model, a Hugging Face directory with model.safetensors, "
        "or a T5X checkpoint_<step>"
    )
    if not directory.is_dir():
        return text
    if steps := sorted(p.name for p in directory.glob("checkpoint_*") if p.is_dir()):
        return f"holds the T5X checkpoints {', '.join(steps[-3:])}; give one of them"
    for name in ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"):
        if next(directory.glob(f"{Path(name).stem}*"), None):
            return (
                f"holds {name} but no model.safetensors; load and save it once with "
                "transformers (model.save_pretrained(directory))"
            )
    if (directory / native_adapter.SETTINGS).exists() or peft.is_adapter(directory):
        return "is an adapter; give it as the adapter, beside the model it belongs to"
    return text


def load_adapter(
    path: str | Path, config: T5Config | None = None
) -> checkpoint.Adapter:
    """Loads an adapter: native, PEFT's (IA)^3 or prompt, T-Few's or a numpy file.

    Args:
        path: Directory or file.
        config: Sizes of the model it is for; only a native adapter carries them.

    Raises:
        ValueError: If it is no adapter, is incomplete or damaged, or does not fit
            the model.
    """
    path = Path(path)
    if (path / native_adapter.SETTINGS).exists():
        return checkpoint.load_adapter(path, config)
    reader = _adapter_reader(path)
    if reader is None:
        raise ValueError(
            f"adapter {path}: expected a directory with {native_adapter.SETTINGS} or "
            "adapter_config.json (PEFT), T-Few's finish.pt or a prompt as .npy"
        )
    if config is None:
        raise ValueError(f"adapter {path} needs its model's config to be read")
    return reader.load_adapter(path, config)


def is_adapter(path: str | Path) -> bool:
    """Whether a path is a directory or file of a format that `load_adapter` reads."""
    path = Path(path)
    return (path / native_adapter.SETTINGS).exists() or (
        path.exists() and _adapter_reader(path) is not None
    )


def _adapter_reader(path: Path) -> ModuleType | None:
    """The module that reads another program's adapter, or None."""
    readers = {
        peft: peft.is_adapter(path),
        numpy_prompt: numpy_prompt.is_adapter(path) or path.suffix == ".npy",
        tfew: path.suffix == ".pt",
    }
    return next((reader for reader, reads in readers.items() if reads), None)
