"""Safetensors files, one tensor in memory at a time."""

import contextlib
import json
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from jaxtyping import Shaped

from tfew_jax.types import Array

_CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "bool": "BOOL",
}
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class TensorFile:
    """An open safetensors file.

    Attributes:
        path: The file.
        shapes: Shape of every tensor, by name; known without reading any.
    """

    def __init__(self, path: Path, handle) -> None:
        self.path = path
        self._handle = handle
        names = handle.keys()
        self.shapes = {n: tuple(handle.get_slice(n).get_shape()) for n in names}

    def read(self, name: str) -> Shaped[np.ndarray, "..."]:
        """Reads one tensor into memory of its own.

        Raises:
            ValueError: If its bytes cannot be read.
        """
        try:
            return self._handle.get_tensor(name)
        except (safetensors.SafetensorError, OSError, TypeError) as error:
            raise ValueError(f"{self.path}: {name} cannot be read ({error})") from error


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[TensorFile]:
    """Opens a safetensors file.

    Raises:
        ValueError: If it is missing, cut off or something else.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        handle = safetensors.safe_open(path, framework="np")
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); copy it again"
        ) from error
    with handle as opened:
        yield TensorFile(path, opened)


def write(
    path: Path,
    tensors: Mapping[str, Array],
    *,
    transposed: Collection[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a safetensors file without ever holding a second copy of the whole.

    Args:
        path: File to write.
        tensors: Arrays of NumPy or JAX, by name.
        transposed: Names of the matrices that are written transposed.
        metadata: Text for the file's header.

    Raises:
        ValueError: If a dtype has no place in the format.
        OSError: If the disk is full or not writable.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    # As the format's own writer: wide types first, so that all are aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    offset = 0
    for name in names:
        array = tensors[name]
        if str(array.dtype) not in _CODES:
            raise ValueError(f"{name}: safetensors cannot hold dtype {array.dtype}")
        end = offset + array.size * array.dtype.itemsize
        shape = array.shape[::-1] if name in transposed else array.shape
        header[name] = {
            "dtype": _CODES[str(array.dtype)],
            "shape": list(shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            array = np.asarray(tensors[name])
            array = np.ascontiguousarray(array.T if name in transposed else array)
            file.write(array.reshape(-1).view(np.uint8).data)
        file.flush()
        os.fsync(file.fileno())


def cast(array: Shaped[np.ndarray, "..."], dtype: str | None) -> np.ndarray:
    """Contiguous copy or view in the wanted dtype.

    Without one, the file's dtype stays, except that float16 becomes float32: T5's
    activations do not fit into float16, so nothing should compute in it.

    Raises:
        ValueError: If the dtype is neither float32 nor bfloat16.
    """
    if dtype is None:
        dtype = "float32" if array.dtype == np.float16 else str(array.dtype)
    elif dtype not in ("float32", "bfloat16"):
        raise ValueError(f"dtype must be float32 or bfloat16, got {dtype!r}")
    wanted = _BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    return np.ascontiguousarray(array, dtype=wanted)


def all_finite(array: Shaped[np.ndarray, "..."]) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    if array.dtype == _BFLOAT16:  # by its exponent bits; NumPy is slow at this type
        return not np.any((array.view(np.uint16) & 0x7F80) == 0x7F80)
    return bool(np.all(np.isfinite(array)))
