"""Adapters on disk: a few kilobytes that turn a frozen model into a task's.

A directory holds `tfew_adapter.json` (method, sizes of the model it belongs to, task
and free metadata) and `adapter.safetensors` (the trained arrays in float32, named by
path). Files never carry the adapters axis: one directory, one adapter.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from tfew_jax import peft
from tfew_jax.checkpoint import described, files, layout, model, tensors
from tfew_jax.models.config import T5Config
from tfew_jax.peft import PeftMethod
from tfew_jax.types import Params

FORMAT = "tfew_jax adapter"
VERSION = 1
SETTINGS = "tfew_adapter.json"
WEIGHTS = "adapter.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
    """What a method learned for one task.

    Attributes:
        method: The method and its settings.
        params: Its trained arrays, one layer an array.
        config: Sizes of the model that it belongs to.
        task: What turns a row into model inputs (template, choices, ...), if known.
        metadata: Anything else worth keeping, as JSON holds it.
    """

    method: PeftMethod
    params: Params
    config: T5Config
    task: dict[str, Any] | None = None
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def check(self, config: T5Config | None = None, *, source: str = "adapter") -> None:
        """Compares the arrays with what the method has on a model of these sizes.

        Args:
            config: Sizes to compare with; the adapter's own by default.
            source: Name for errors.

        Raises:
            ValueError: If an array is missing, unexpected, of another shape or not
                finite, or task or metadata cannot be read.
        """
        described.check(self.task, self.metadata, source=source)
        if self.method.num_adapters is not None:
            raise ValueError(
                f"{source} holds {self.method.num_adapters} adapters; "
                "a file holds one: take one out of the bank"
            )
        layout.check(
            layout.shapes_of(self.params),
            layout.adapter_shapes(config or self.config, self.method),
            source=source,
            advice="load it with the model and the method that it was trained with",
        )
        for name, leaf in layout.flatten(self.params).items():
            model.checked(np.asarray(leaf), name, Path(source))

    @property
    def fingerprint(self) -> str:
        """A hash of the arrays and their names."""
        digest = hashlib.sha256()
        for name, leaf in sorted(layout.flatten(self.params).items()):
            digest.update(name.encode())
            digest.update(np.asarray(leaf, np.float32).tobytes())
        return digest.hexdigest()[:16]

    def attach(self, params: Params) -> dict[str, Any]:
        """Parameters of the adapted model: the given ones and the adapter's."""
        return layout.merge(params, self.params)

    def save(self, directory: str | Path) -> None:
        """Writes the adapter, in place of an earlier one or not at all.

        Raises:
            ValueError: If its arrays are not its method's, or the directory holds
                something else.
            OSError: If the disk is full or not writable.
        """
        self.check()
        flat = layout.flatten(self.params)
        arrays = {n: np.asarray(leaf, dtype=np.float32) for n, leaf in flat.items()}
        content = {
            "format": FORMAT,
            "version": VERSION,
            "method": self.method.to_dict(),
            "model": self.config.to_dict(),
            "task": self.task,
            "metadata": self.metadata,
        }
        with files.new_directory(directory, marker=SETTINGS) as fresh:
            tensors.write(fresh / WEIGHTS, arrays, metadata={"format": "flax"})
            files.write_json(fresh / SETTINGS, content)


def load_adapter(directory: str | Path, config: T5Config | None = None) -> Adapter:
    """Reads an adapter directory.

    Args:
        directory: What `Adapter.save` wrote.
        config: Sizes of the model that it is to be used with.

    Raises:
        ValueError: If a file is missing, cut off or newer, the method is unknown, task
            or metadata cannot be read, or the arrays are not finite or do not fit the
            method and the model.
    """
    directory = Path(directory)
    path = directory / SETTINGS
    content = files.read_json(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} does not describe a tfew_jax adapter")
    files.check_version(content, newest=VERSION, path=path)
    method = read_method(content.get("method"), source=str(path))
    said = described.read(content, source=str(path))
    weights = directory / WEIGHTS
    with tensors.open_file(weights) as file:
        flat = {n: tensors.cast(file.read(n), "float32") for n in file.shapes}
    adapter = Adapter(
        method=method,
        params=layout.unflatten(flat),
        config=model.read_config(content.get("model"), path=path),
        **said,
    )
    adapter.check(source=str(weights))
    if config is not None:
        adapter.check(config, source=f"{weights}, for the given model")
    return adapter


def read_method(settings: Any, *, source: str) -> PeftMethod:
    """The method that a JSON file describes.

    Raises:
        ValueError: If it is unknown or a setting is not allowed.
    """
    if not isinstance(settings, dict):
        raise ValueError(f"{source}: method must hold the method's name and settings")
    try:
        return peft.from_dict(settings)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: method: {error}") from error
