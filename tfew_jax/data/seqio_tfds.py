"""Rows of a split of a TFDS dataset folder, prepared beforehand.

A folder is `DIR/NAME[/CONFIG]/VERSION` with TFDS's `dataset_info.json`. Finding one
needs no TensorFlow; reading its records does. Nothing is downloaded or prepared here.
"""

import contextlib
import json
import os
import pathlib
import re
from typing import Any

import numpy as np

from tfew_jax.data import sources

_INFO = "dataset_info.json"


def find(
    directory: str | os.PathLike[str],
    name: str,
    split: str,
    *,
    version: str | None = None,
) -> pathlib.Path | None:
    """The folder of a dataset's newest version that has a split, or None.

    Args:
        directory: TFDS's data directory.
        name: Of the dataset, with its configuration: `super_glue/rte`.
        split: As TFDS calls it.
        version: Look for this one only: `1.0.2`.

    Raises:
        sources.SourceError: `dataset_info.json` of a version cannot be read.
    """
    top = pathlib.Path(directory).expanduser() / name
    folders = [path.parent for path in top.glob(f"{version or '*'}/{_INFO}")]
    numbered = [path for path in folders if re.fullmatch(r"\d+(\.\d+)*", path.name)]
    numbered.sort(key=lambda path: [int(part) for part in path.name.split(".")])
    return next((path for path in reversed(numbered) if split in splits(path)), None)


def splits(folder: pathlib.Path) -> list[str]:
    """Names of the splits of a version's folder.

    Raises:
        sources.SourceError: See `find`.
    """
    path = folder / _INFO
    try:
        return [
            split["name"] for split in json.loads(path.read_text("utf-8"))["splits"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise sources.SourceError(
            f"{path}: not TFDS's description of a dataset ({type(error).__name__}: "
            f"{error}); prepare the dataset again"
        ) from error


def load_rows(folder: str | os.PathLike[str], split: str) -> list[sources.Row]:
    """Reads the rows of a split in the order of its records.

    Args:
        folder: Of one version of a dataset, as `find` gives it.
        split: As TFDS calls it.

    Returns:
        Rows of plain values (texts, integers, lists; -1 stays the hidden label) that
        remember the folder and their number, from 0.

    Raises:
        sources.SourceError: tensorflow_datasets is not installed, there is no such
            split, or the records cannot be read.
    """
    folder = pathlib.Path(folder).expanduser()
    if split not in (known := splits(folder)):
        raise sources.SourceError(
            f"{folder}: no split {split!r}; available: {', '.join(known)}"
        )
    tfds = _import_tfds(folder)
    # One shard after the other: the default mixes the records of sixteen.
    in_order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    try:
        builder = tfds.builder_from_directory(str(folder))
        records = tfds.as_numpy(builder.as_dataset(split=split, read_config=in_order))
        values = [_plain(record) for record in records]
    # TFDS, TensorFlow and the decoders raise what they like over a damaged folder.
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise sources.SourceError(
            f"{folder}: TFDS cannot read split {split!r} ({lines[0]}); prepare the "
            "dataset again"
        ) from error
    if not values:
        raise sources.SourceError(f"{folder}: split {split!r} has no rows")
    return [
        sources.Row(row, where=f"{folder}, {split} row {number}")
        for number, row in enumerate(values)
    ]


def _import_tfds(folder: pathlib.Path) -> Any:
    try:
        import tensorflow as tf
        import tensorflow_datasets as tfds
    except ImportError:
        raise sources.SourceError(
            f"{folder}: needs tensorflow_datasets and tensorflow; install the extra "
            "`data`: pip install 'tfew-jax[data]'"
        ) from None
    # TensorFlow would take all memory of the accelerator that JAX computes on; where it
    # runs already, its owner has set it up.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    return tfds


def _plain(value: Any) -> Any:
    """Numpy's values and TensorFlow's byte strings as Python's own."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value
