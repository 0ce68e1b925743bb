"""A bank on disk: all adapters of one directory, each with arrays of its own.

`tfew_bank.json` holds the model's sizes and of each adapter, in the order of their
slots, name, method, task and metadata; `bank.safetensors` holds the trained arrays in
float32, named `ADAPTER/path`. As in the file of one adapter there is no adapters axis,
so that one can be taken out, and prompts keep their lengths.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfew_jax.checkpoint import described, files, layout, model, tensors
from tfew_jax.checkpoint.adapter import Adapter, read_method
from tfew_jax.models.config import T5Config

FORMAT = "tfew_jax bank"
VERSION = 1
SETTINGS = "tfew_bank.json"
WEIGHTS = "bank.safetensors"


def save(directory: str | Path, bank: Mapping[str, Adapter]) -> None:
    """Writes adapters of one model, in place of an earlier bank or not at all.

    Raises:
        ValueError: If a name does not fit into a file, arrays are not their
            method's, or the directory holds something else.
        OSError: If the disk is full or not writable.
    """
    arrays: dict[str, np.ndarray] = {}
    listed = []
    for name, adapter in bank.items():
        check_file_name(name)
        adapter.check(source=f"adapter {name}")
        for path, leaf in layout.flatten(adapter.params).items():
            arrays[f"{name}/{path}"] = np.asarray(leaf, dtype=np.float32)
        listed.append(
            {
                "name": name,
                "method": adapter.method.to_dict(),
                "task": adapter.task,
                "metadata": adapter.metadata,
            }
        )
    content = {
        "format": FORMAT,
        "version": VERSION,
        "model": next(iter(bank.values())).config.to_dict(),
        "adapters": listed,
    }
    with files.new_directory(directory, marker=SETTINGS) as fresh:
        tensors.write(fresh / WEIGHTS, arrays, metadata={"format": "flax"})
        files.write_json(fresh / SETTINGS, content)


def load(directory: str | Path, config: T5Config | None = None) -> dict[str, Adapter]:
    """Reads the adapters of a bank's directory, in the order of their slots.

    Args:
        directory: What `save` wrote.
        config: Sizes of the model that they are to be used with.

    Raises:
        ValueError: If a file is missing, cut off or newer, or an adapter is described
            twice, unknown here, not finite, not of that model, or its task or metadata
            cannot be read.
    """
    directory = Path(directory)
    path = directory / SETTINGS
    content = files.read_json(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} does not describe a tfew_jax bank")
    files.check_version(content, newest=VERSION, path=path)
    listed = _listed(content.get("adapters"), path)
    sizes = model.read_config(content.get("model"), path=path)
    weights = directory / WEIGHTS
    arrays: dict[str, dict[str, np.ndarray]] = {name: {} for name in listed}
    with tensors.open_file(weights) as file:
        for name in file.shapes:
            owner, _, array = name.partition("/")
            if owner not in arrays:
                raise ValueError(
                    f"{weights} has {name}, but {SETTINGS} has no adapter {owner!r}; "
                    "copy both files again"
                )
            arrays[owner][array] = tensors.cast(file.read(name), "float32")
    loaded = {}
    for name, settings in listed.items():
        source = f"{path}, adapter {name}"
        adapter = Adapter(
            method=read_method(settings.get("method"), source=source),
            params=layout.unflatten(arrays[name]),
            config=sizes,
            **described.read(settings, source=source),
        )
        adapter.check(source=f"{weights}, adapter {name}")
        if config is not None:
            adapter.check(config, source=f"{weights}, adapter {name}, for the model")
        loaded[name] = adapter
    return loaded


def _listed(content: Any, path: Path) -> dict[str, dict[str, Any]]:
    """What the JSON file says of each adapter, by name.

    Raises:
        ValueError: If it is not a list of named adapters.
    """
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path}: adapters must be a list of at least one adapter")
    listed: dict[str, dict[str, Any]] = {}
    for number, settings in enumerate(content):
        name = settings.get("name") if isinstance(settings, dict) else None
        if not isinstance(name, str):
            raise ValueError(f"{path}: adapter {number} of the list has no name")
        try:
            check_file_name(name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if name in listed:
            raise ValueError(f"{path} describes two adapters named {name!r}")
        listed[name] = settings
    return listed


def check_file_name(name: str) -> None:
    """Refuses names that cannot name a directory, or a part of an array's name.

    Raises:
        ValueError: If it is empty, begins with a dot or underscores, or holds a slash
            or what does not print.
    """
    fits = name and name.isprintable() and not name.startswith((".", "__"))
    if not fits or "/" in name or "\\" in name:
        raise ValueError(
            f"{name!r} cannot name an adapter in a file; names have no slashes and "
            "no control characters, and begin with neither '.' nor '__'"
        )
