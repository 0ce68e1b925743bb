"""The two files of a PEFT adapter directory, whatever its method."""

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfew_jax.checkpoint import files, tensors
from tfew_jax.interop import torch_file

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
COMMON = {  # fields that every method has
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "modules_to_save"),
    *("peft_type", "peft_version", "revision", "task_type"),
}


def warn_unknown(
    content: Mapping[str, Any], known: Collection[str], path: Path
) -> None:
    """Says which fields of a config are not read, as PEFT does."""
    if unknown := sorted(content.keys() - set(known)):
        warnings.warn(
            f"{path}: ignoring unknown fields {', '.join(unknown)}", stacklevel=3
        )


def read_weights(directory: Path) -> tuple[Path, Mapping[str, np.ndarray]]:
    """The weights' file, safetensors or older PEFT's pickle, and its arrays."""
    path = directory / WEIGHTS
    pickled = directory / "adapter_model.bin"
    if pickled.exists() and not path.exists():
        return pickled, torch_file.read(pickled)
    with tensors.open_file(path) as file:
        return path, {name: file.read(name) for name in file.shapes}


def write(
    directory: str | Path, content: dict[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Writes a directory, in place of an earlier adapter or not at all.

    Raises:
        ValueError: If the directory holds something else.
        OSError: If the disk is full or not writable.
    """
    with files.new_directory(directory, marker=SETTINGS) as fresh:
        tensors.write(fresh / WEIGHTS, arrays, metadata={"format": "pt"})
        files.write_json(fresh / SETTINGS, content)
