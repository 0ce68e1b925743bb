"""Reads and writes tensors as `torch.save` does, without torch or running a pickle.

Such a file is a zip archive: one pickle that describes the tensors, and one member of
raw bytes a storage. A pickle may name any function, so only those that rebuild
tensors are known here and everything else is refused.
"""

import collections
import math
import pickle
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "BoolStorage": np.dtype(np.bool_),
}


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a saved dictionary, by name.

    Raises:
        ValueError: If the file is missing, cut off, older than torch 1.6, or holds
            anything but a dictionary of tensors.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            found = [n for n in archive.namelist() if n.endswith("/data.pkl")]
            if len(found) != 1:
                raise ValueError("no data.pkl inside")
            root = found[0].removesuffix("data.pkl")
            with archive.open(found[0]) as file:
                content = _Unpickler(file, archive, root).load()
    except (
        *(zipfile.BadZipFile, zlib.error, EOFError, KeyError, IndexError),
        *(TypeError, AttributeError, OSError, ValueError, pickle.UnpicklingError),
    ) as error:
        raise ValueError(
            f"{path} is not a whole file of torch.save with tensors alone ({error})"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dictionary")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise ValueError(f"{path}: {name!r} is no tensor")
    return dict(content)


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a dictionary of float32 tensors that `torch.load` reads.

    Raises:
        OSError: If the disk is full or not writable.
    """
    with zipfile.ZipFile(path, "w") as archive:  # stored: torch reads no other
        archive.writestr("archive/data.pkl", _pickle(tensors))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
        for n, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{n}", array.astype("<f4").tobytes())


def _pickle(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The pickle of the dictionary in protocol 2, opcode by opcode.

    Pickler itself cannot write it: it would have to import torch's functions.
    """

    def text(value: str) -> bytes:
        raw = value.encode()
        return pickle.BINUNICODE + len(raw).to_bytes(4, "little") + raw

    def numbers(values: Iterable[int]) -> bytes:
        parts = (pickle.BININT + value.to_bytes(4, "little") for value in values)
        return pickle.MARK + b"".join(parts) + pickle.TUPLE

    parts = [pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + pickle.MARK]
    for n, (name, array) in enumerate(tensors.items()):
        strides = [s // array.itemsize for s in np.empty_like(array, order="C").strides]
        parts += [
            text(name),
            pickle.GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n" + pickle.MARK,
            pickle.MARK + text("storage") + pickle.GLOBAL + b"torch\nFloatStorage\n",
            text(str(n)) + text("cpu"),
            pickle.BININT + array.size.to_bytes(4, "little"),
            pickle.TUPLE + pickle.BINPERSID,
            pickle.BININT + bytes(4),  # where in the storage it begins
            numbers(array.shape) + numbers(strides) + pickle.NEWFALSE,
            pickle.GLOBAL + b"collections\nOrderedDict\n" + pickle.EMPTY_TUPLE,
            pickle.REDUCE + pickle.TUPLE + pickle.REDUCE,
        ]
    return b"".join(parts) + pickle.SETITEMS + pickle.STOP


class _Unpickler(pickle.Unpickler):
    """Knows the handful of names that describe tensors."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._archive = archive
        self._root = root

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            **{("torch", name): dtype for name, dtype in _STORAGES.items()},
        }
        if (module_name, global_name) not in known:
            raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")
        return known[module_name, global_name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, size = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        raw = self._archive.read(f"{self._root}data/{key}")
        if len(raw) != size * dtype.itemsize:
            raise ValueError(f"storage {key} has {len(raw)} bytes")
        return np.frombuffer(raw, dtype)


def _rebuild_tensor(
    storage: np.ndarray,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: Any,
) -> np.ndarray:
    """A tensor as a view of its storage, whose ends are checked."""
    last = offset + sum(
        (n - 1) * step for n, step in zip(shape, strides, strict=True) if n > 0
    )
    if min(offset, *strides, *shape, 0) < 0 or (
        math.prod(shape) and last >= storage.size
    ):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage")
    step = storage.dtype.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [s * step for s in strides]
    )
    return np.ascontiguousarray(view)
