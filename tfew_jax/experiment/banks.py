"""Banks from wherever adapters lie: one directory or many, ours or other programs'."""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from tfew_jax import checkpoint, interop
from tfew_jax.checkpoint import bank_files
from tfew_jax.experiment import applying
from tfew_jax.experiment.base import Base

PathLike = str | os.PathLike[str]
# What holds an adapter of the name of the directory around it: that of a run, T-Few's.
_INNER = ("adapter", "finish.pt")
_FILES = (".npy", ".pt")


def load_bank(
    source: PathLike
    | Mapping[str, checkpoint.Adapter | PathLike]
    | Sequence[checkpoint.Adapter | PathLike],
    base: Base | None = None,
    *,
    capacity: int = 0,
) -> checkpoint.Bank:
    """Loads adapters of one model and method to be used together.

    Args:
        source: A directory that `Bank.save` wrote; one whose sub-directories, `.npy`
            and `.pt` files are adapters, each named after its own; adapters or their
            paths by name; or paths, named as they end. A path may be that of a
            finished run.
        base: The model that they are for; adapters of other programs need it.
        capacity: Slots of the bank; as many as adapters by default.

    Raises:
        ValueError: If there is no adapter, one cannot be read or does not fit the base
            or the others, or two have one name.
    """
    found: dict[str, tuple[checkpoint.Adapter, str]] = {}
    for name, adapter, place in _adapters(source, base):
        if name in found:
            raise ValueError(
                f"two adapters are named {name!r}, {found[name][1]} and {place}; give "
                "a mapping from names to paths"
            )
        found[name] = adapter, place
    if not found:
        raise ValueError("no adapters to load; give at least one")
    return checkpoint.Bank(
        adapters={name: adapter for name, (adapter, _) in found.items()},
        capacity=capacity,
    )


def _adapters(
    source: PathLike
    | Mapping[str, checkpoint.Adapter | PathLike]
    | Sequence[checkpoint.Adapter | PathLike],
    base: Base | None,
) -> Iterator[tuple[str, checkpoint.Adapter, str]]:
    """Name, adapter and place of each."""
    if isinstance(source, Mapping):
        for name, adapter in source.items():
            yield name, _load(adapter, base, name), name
        return
    if not isinstance(source, str | os.PathLike):
        for number, path in enumerate(source):
            if isinstance(path, checkpoint.Adapter):
                raise ValueError(
                    f"adapter {number} has no name; give a mapping from names to "
                    "adapters"
                )
            yield from _adapters(path, base)
        return
    path = pathlib.Path(source).expanduser().absolute()
    if (path / bank_files.SETTINGS).exists():
        config = None if base is None else base.config
        for name, adapter in checkpoint.load_bank(path, config).items():
            yield name, _load(adapter, base, name), str(path)
        return
    place = _place(path)
    places = [place] if interop.is_adapter(place) else _inside(path)
    for place in places:
        yield _name(place), _load(place, base, ""), str(place)


def _inside(directory: pathlib.Path) -> list[pathlib.Path]:
    """Where the adapters of a directory lie, by name.

    Raises:
        ValueError: If there is no directory, or nothing in it.
    """
    if not directory.is_dir():
        raise ValueError(f"adapters {directory}: there is no such directory")
    found = [
        _place(entry)
        for entry in sorted(directory.iterdir())
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix in _FILES)
    ]
    if not found:
        raise ValueError(
            f"adapters {directory}: expected {bank_files.SETTINGS} or a sub-directory "
            "for each adapter"
        )
    return found


def _place(path: pathlib.Path) -> pathlib.Path:
    """Where the adapter of a path lies; the path itself where that cannot be told."""
    place = applying.adapter_path(path)
    if not place.is_dir() or interop.is_adapter(place):
        return place
    inside = [entry for entry in place.iterdir() if interop.is_adapter(entry)]
    names = [entry.name for entry in inside]
    return inside[0] if len(inside) == 1 and names[0] in _INNER else place


def _name(place: pathlib.Path) -> str:
    """The name of an adapter that is given by its place alone."""
    if place.name in _INNER:
        return place.parent.name
    return place.stem if place.suffix in _FILES else place.name


def _load(
    adapter: checkpoint.Adapter | PathLike, base: Base | None, name: str
) -> checkpoint.Adapter:
    if base is not None:
        if not isinstance(adapter, checkpoint.Adapter):
            adapter = _place(pathlib.Path(adapter).expanduser())
        return applying.load_adapter(adapter, base, name=f"adapter {name}")
    if isinstance(adapter, checkpoint.Adapter):
        return adapter
    return interop.load_adapter(_place(pathlib.Path(adapter).expanduser()))
