"""Base models on disk.

A directory holds `config.json` (sizes and format version), `model.safetensors`
(T5X's names joined by '/', one layer a tensor), `sentencepiece.model` where the model
has a vocabulary, and `README.md`, its card.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tfew_jax.checkpoint import files, layout, tensors
from tfew_jax.models.config import T5Config
from tfew_jax.types import Params

FORMAT = "tfew_jax model"
VERSION = 1
VOCABULARY = "sentencepiece.model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """A frozen model in memory.

    Attributes:
        config: Its sizes.
        params: Its parameters, one layer an array.
        vocabulary: SentencePiece file, where the source has one.
        path: Where it was loaded from.
    """

    config: T5Config
    params: Params
    vocabulary: Path | None = None
    path: Path | None = None


def save_model(
    directory: str | Path,
    *,
    config: T5Config,
    params: Params,
    vocabulary: str | Path | None = None,
    card: str | None = None,
) -> None:
    """Writes a model directory, in place of an earlier one or not at all.

    Args:
        directory: Where to; parents are made.
        config: Sizes of the model.
        params: Unstacked parameters in any float dtype.
        vocabulary: SentencePiece file to copy beside them.
        card: Text of the card.

    Raises:
        ValueError: If the parameters are not those of the config, or the directory
            holds something else.
        OSError: If the disk is full or not writable.
    """
    vocabulary = existing(vocabulary)
    flat = layout.flatten(params)
    layout.check(
        layout.shapes_of(params),
        layout.model_shapes(config),
        source="params",
        advice="save the unstacked parameters together with their own config",
    )
    sizes = f"{sum(leaf.size for leaf in flat.values()):,} parameters"
    with files.new_directory(directory, marker="config.json") as fresh:
        tensors.write(fresh / "model.safetensors", flat, metadata={"format": "flax"})
        if vocabulary is not None:
            shutil.copyfile(vocabulary, fresh / VOCABULARY)
        card = card or f"# {Path(directory).name}\n\nA T5 model of {sizes}.\n"
        (fresh / "README.md").write_text(card, encoding="utf-8")
        content = {"format": FORMAT, "version": VERSION, "model": config.to_dict()}
        files.write_json(fresh / "config.json", content)


def load_model(directory: str | Path, *, dtype: str | None = None) -> Model:
    """Reads a model directory.

    Args:
        directory: What `save_model` wrote.
        dtype: Dtype of the parameters, float32 or bfloat16; None keeps the file's.

    Raises:
        ValueError: If a file is missing, cut off, newer or not of the config's
            shapes, or holds NaN.
    """
    directory = Path(directory)
    path = directory / "config.json"
    content = files.read_json(path)
    if content.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a config of a tfew_jax model; "
            "tfew_jax.interop.load_model reads other formats"
        )
    files.check_version(content, newest=VERSION, path=path)
    config = read_config(content.get("model"), path=path)
    weights = directory / "model.safetensors"
    expected = layout.model_shapes(config)
    flat: dict[str, np.ndarray] = {}
    with tensors.open_file(weights) as file:
        advice = "config.json and model.safetensors must be of one model"
        layout.check(file.shapes, expected, source=str(weights), advice=advice)
        for name in expected:
            flat[name] = checked(tensors.cast(file.read(name), dtype), name, weights)
    vocabulary = directory / VOCABULARY
    return Model(
        config=config,
        params=layout.unflatten(flat),
        vocabulary=vocabulary if vocabulary.exists() else None,
        path=directory,
    )


def existing(vocabulary: str | Path | None) -> Path | None:
    """The vocabulary's file, if it is to be copied.

    Raises:
        ValueError: If it does not exist.
    """
    if vocabulary is not None and not Path(vocabulary).is_file():
        raise ValueError(f"vocabulary {vocabulary} does not exist")
    return None if vocabulary is None else Path(vocabulary)


def read_config(settings: Any, *, path: Path) -> T5Config:
    """Builds the config that a JSON file holds, naming the file in errors.

    Raises:
        ValueError: If it is not an object or a setting is unknown or not allowed.
    """
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: model must hold the model's settings")
    try:
        return layout.with_flags(settings, {})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def checked(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    """The array, if it is finite.

    Raises:
        ValueError: If it holds NaN or infinity.
    """
    if not tensors.all_finite(array):
        raise ValueError(
            f"{path}: {name} holds NaN or infinity; the file is damaged or the "
            "training that wrote it diverged"
        )
    return array
