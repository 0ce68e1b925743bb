"""T5X checkpoints: legacy (msgpack and zarr), orbax (ocdbt), plain or scanned.

Only `target`, the parameters, is read. Scanned models keep all layers of a stack in
one array, layers on axis 1, attention kernels with separate heads, and one relative
position table a layer; they come out unstacked and fused, as `relpos_per_layer`.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import tensorstore as ts
from jaxtyping import Shaped

from tfew_jax import checkpoint
from tfew_jax.checkpoint import layout, model, tensors
from tfew_jax.models.config import T5Config

_CHUNKED = "__msgpack_chunked_array__"
_SCANNED = re.compile(r"^(encoder|decoder)/\1/")
_LAYERS_AXIS = 1
_EMBEDDING = "token_embedder/embedding"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Leaf:
    """An array in a checkpoint: its shape at once, its values on demand."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def is_checkpoint(directory: Path) -> bool:
    """Whether a directory is a T5X `checkpoint_<step>`."""
    return (directory / "checkpoint").is_file() or _orbax_state(directory) is not None


def load_model(
    directory: str | Path,
    *,
    config: T5Config | None = None,
    dtype: str | None = None,
    **flags: Any,
) -> checkpoint.Model:
    """Reads the parameters of a T5X checkpoint, array by array.

    Args:
        directory: A `checkpoint_<step>` directory.
        config: Sizes, in place of what the shapes say.
        dtype: Dtype of the parameters; None keeps the file's.
        **flags: Fields of `T5Config` that override what was read.

    Raises:
        ValueError: If a file is missing or damaged, or the arrays are not a T5's.
    """
    directory = Path(directory)
    leaves = _leaves(directory)
    per_layer = {path: list(_layers(path, leaf.shape)) for path, leaf in leaves.items()}
    read = _sizes(directory, per_layer, config, flags)
    flat: dict[str, np.ndarray] = {}
    for path, leaf in leaves.items():
        stacked = _fuse(path, _read(leaf, path, directory))
        for n, (name, shape) in enumerate(per_layer[path]):
            one = stacked[n] if _SCANNED.match(path) else stacked
            one = tensors.cast(one.reshape(shape), dtype)
            flat[name] = model.checked(one, name, directory)
    return checkpoint.Model(config=read, params=layout.unflatten(flat), path=directory)


def load_config(directory: str | Path) -> T5Config:
    """The sizes of a T5X checkpoint, read off its shapes.

    Raises:
        ValueError: As `load_model`, of all but damaged arrays.
    """
    leaves = _leaves(Path(directory)).items()
    per_layer = {path: list(_layers(path, leaf.shape)) for path, leaf in leaves}
    return _sizes(Path(directory), per_layer, None, {})


def load_embedding(directory: str | Path) -> Shaped[np.ndarray, "vocab embed"]:
    """The embedding table of a T5X checkpoint, in the file's dtype.

    Raises:
        ValueError: If there is none, or it is damaged.
    """
    leaves = _leaves(Path(directory))
    if _EMBEDDING not in leaves:
        raise ValueError(f"{directory} has no {_EMBEDDING}; is it a T5?")
    table = _read(leaves[_EMBEDDING], _EMBEDDING, Path(directory))
    return model.checked(table, _EMBEDDING, Path(directory))


def _sizes(
    directory: Path,
    per_layer: Mapping[str, list[tuple[str, tuple[int, ...]]]],
    config: T5Config | None,
    flags: Mapping[str, Any],
) -> T5Config:
    """The model's config, which its arrays fit."""
    shapes = dict(entry for entries in per_layer.values() for entry in entries)
    if not shapes:
        raise ValueError(f"{directory} holds no parameters (nothing under target)")
    if config is None:
        read = layout.config_from_shapes(shapes, source=str(directory), **flags)
    else:
        read = layout.with_flags(config.to_dict(), flags)
    layout.check(
        shapes,
        layout.model_shapes(read),
        source=str(directory),
        advice="the checkpoint and the settings must be of one T5 model",
    )
    return read


def _leaves(directory: Path) -> dict[str, _Leaf]:
    """The target's arrays, none of them read."""
    state = _orbax_state(directory)
    return _legacy_leaves(directory) if state is None else _orbax_leaves(state)


def _read(leaf: _Leaf, path: str, directory: Path) -> np.ndarray:
    try:
        return leaf.read()
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{directory}: {path} cannot be read ({reason}); copy it again"
        ) from error


def _layers(path: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Our paths and shapes for one array of the checkpoint: one, or one a layer."""
    if not _SCANNED.match(path):
        yield path, _fused_shape(path, shape)
        return
    stack, _, rest = path.split("/", 2)
    num_layers = shape[_LAYERS_AXIS] if len(shape) > _LAYERS_AXIS else 0
    one = _fused_shape(path, shape[:_LAYERS_AXIS] + shape[_LAYERS_AXIS + 1 :])
    for layer in range(num_layers):
        yield f"{stack}/layers_{layer}/{rest}", one


def _fused_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one layer's array with heads joined."""
    if not path.endswith("/kernel") or len(shape) != 3:
        return shape
    if path.endswith("/out/kernel"):
        return (shape[0] * shape[1], shape[2])
    return (shape[0], shape[1] * shape[2])


def _fuse(path: str, array: np.ndarray) -> np.ndarray:
    """The array with its layers, where it has some, in front."""
    return np.moveaxis(array, _LAYERS_AXIS, 0) if _SCANNED.match(path) else array


def _legacy_leaves(directory: Path) -> dict[str, _Leaf]:
    """The target's arrays of a legacy checkpoint."""
    path = directory / "checkpoint"
    try:
        content = msgpack.unpackb(
            path.read_bytes(), ext_hook=_from_ext, raw=False, strict_map_key=False
        )
        target = content["optimizer"]["target"]
        leaves = dict(_walk(target, ()))
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(
            f"{path} is not a whole T5X checkpoint ({type(error).__name__}: {error})"
        ) from error
    found: dict[str, _Leaf] = {}
    for name, value in leaves.items():
        if isinstance(value, np.ndarray):
            found[name] = _Leaf(shape=value.shape, read=lambda value=value: value)
        else:
            found[name] = _open(_zarr_spec(directory, value), name, directory)
    return found


def _walk(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Leaves of a legacy tree: arrays, or descriptions of zarr directories."""
    if isinstance(tree, Mapping) and _CHUNKED in tree:
        chunks = [tree["chunks"][key] for key in sorted(tree["chunks"], key=int)]
        shape = tree["shape"]
        shape = (
            [shape[key] for key in sorted(shape)] if isinstance(shape, dict) else shape
        )
        yield "/".join(path), np.concatenate(chunks).reshape(shape)
    elif isinstance(tree, Mapping) and "driver" not in tree:
        for name, value in tree.items():
            yield from _walk(value, (*path, name))
    else:
        yield "/".join(path), tree


def _from_ext(code: int, data: bytes) -> Any:
    """Arrays inside a msgpack file, as Flax writes them."""
    if code not in (1, 3):
        raise ValueError(f"unknown kind of value {code}")
    shape, dtype, raw = msgpack.unpackb(data, raw=False)
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    if len(raw) != math.prod(shape) * kind.itemsize:
        raise ValueError(f"an array of shape {shape} has {len(raw)} bytes")
    return np.frombuffer(raw, kind).reshape(shape)


def _zarr_spec(directory: Path, spec: Any) -> dict[str, Any]:
    """Where a legacy checkpoint's array lies here, wherever it was written.

    Checkpoints written to a bucket name a driver and a bucket of their own.
    """
    if not isinstance(spec, Mapping) or spec.get("driver") not in ("zarr", "cast"):
        raise ValueError(f"{directory / 'checkpoint'} holds {spec!r}, not an array")
    base = spec["base"] if spec["driver"] == "cast" else spec
    path = str(base["kvstore"].get("path") or base.get("path")).rstrip("/")
    folder = directory / Path(path).name
    return {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{folder}/"}}


def _orbax_state(directory: Path) -> Path | None:
    """The directory of an orbax checkpoint that holds the arrays."""
    for state in (directory / "state", directory):
        if (state / "_METADATA").is_file():
            return state
    return None


def _orbax_leaves(state: Path) -> dict[str, _Leaf]:
    """The target's arrays of an orbax checkpoint."""
    path = state / "_METADATA"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = list(content["tree_metadata"].values())
        keys = [[str(k["key"]) for k in entry["key_metadata"]] for entry in entries]
        kinds = [entry["value_metadata"].get("value_type") for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not orbax's metadata ({error})") from error
    found: dict[str, _Leaf] = {}
    for key, kind in zip(keys, kinds, strict=True):
        if key[0] != "target" or kind == "None":
            continue
        name = ".".join(key)
        if content.get("use_ocdbt", True):
            base = {"driver": "file", "path": f"{state.absolute()}/"}
            store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        else:
            store = {"driver": "file", "path": f"{state.absolute() / name}/"}
        driver = "zarr3" if content.get("use_zarr3") else "zarr"
        spec = {"driver": driver, "kvstore": store}
        found["/".join(key[1:])] = _open(spec, name, state)
    return found


def _open(spec: dict[str, Any], name: str, directory: Path) -> _Leaf:
    """Opens an array without reading it.

    Chunks that are missing are errors; by default they would read as zeros.
    """
    spec = {**spec, "fill_missing_data_reads": False}
    try:
        store = ts.open(ts.Spec(spec), open=True, read=True).result()
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{directory}: {name} is missing or damaged "
            f"({str(error).splitlines()[0]}); copy the checkpoint again"
        ) from error
    return _Leaf(
        shape=tuple(store.shape), read=lambda: np.asarray(store.read().result())
    )
