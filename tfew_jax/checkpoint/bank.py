"""Several adapters over one frozen model, every row of a batch its own.

A bank holds adapters of one method by name. Its arrays lead with an `adapters` axis,
from which each row takes its adapter's by `adapter_index`: one forward pass, whatever
the mix. Slot 0 is `__base__`, the frozen model alone. Free slots, which change nothing
either, keep the shapes as they are when adapters come and go, so that nothing compiles
again until all of them are taken or a longer prompt comes.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax.checkpoint import bank_files, layout
from tfew_jax.checkpoint.adapter import Adapter
from tfew_jax.models.config import T5Config
from tfew_jax.peft import PeftMethod
from tfew_jax.types import Params

BASE = "__base__"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Bank(Mapping[str, Adapter]):
    """Adapters by name, and their arrays as one tree.

    A bank never changes: `add`, `replace`, `remove` and `rename` return another one in
    the same shapes where these suffice, `select` one no larger than needed.

    Attributes:
        adapters: The adapters; slot 1 is the first one's.
        capacity: Slots beside that of `__base__`; as many as adapters by default.
        room: A method for whose arrays there is room as well, such as longer prompts
            than any of the adapters; None for no more than they need.
    """

    adapters: Mapping[str, Adapter]
    capacity: int = 0
    room: PeftMethod | None = None

    def __post_init__(self) -> None:
        """Checks that a row can choose between the adapters.

        Raises:
            ValueError: If there is none, a name is no text, empty or `__base__`,
                methods or model sizes differ, or the capacity is too small.
        """
        adapters = dict(self.adapters)
        if not adapters:
            raise ValueError("a bank holds at least one adapter")
        object.__setattr__(self, "adapters", adapters)
        object.__setattr__(self, "capacity", self.capacity or len(adapters))
        if self.capacity < len(adapters):
            raise ValueError(
                f"{len(adapters)} adapters in a bank with a capacity of {self.capacity}"
            )
        for name, adapter in adapters.items():
            _check_name(name)
            adapter.check(self.config, source=f"adapter {name}, beside the others")
            try:
                self[self.names[0]].method.bank([adapter.method, *self._rooms], 1)
            except ValueError as error:
                raise ValueError(f"adapter {name}: {error}") from error

    def __getitem__(self, name: str) -> Adapter:
        """The adapter of that name.

        Raises:
            KeyError: If there is none.
        """
        return self.adapters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.adapters)

    def __len__(self) -> int:
        return len(self.adapters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of their slots, which begin at 1."""
        return tuple(self.adapters)

    @property
    def config(self) -> T5Config:
        """Sizes of the frozen model."""
        return next(iter(self.adapters.values())).config

    @functools.cached_property
    def method(self) -> PeftMethod:
        """The method with this bank's size; equal for banks of the same shapes."""
        first, *others = (adapter.method for adapter in self.adapters.values())
        return first.bank([*others, *self._rooms], self.capacity + 1)

    @functools.cached_property
    def params(self) -> Params:
        """What the method adds to the model, one layer an array, [adapters, ...]."""
        shapes = layout.added_shapes(self.config, self.method)
        slots = {path: shape[1:] for path, shape in shapes.items()}
        own = [layout.flatten(a.params) for a in self.adapters.values()]
        free: list[dict[str, Any]] = [{}] * (self.capacity - len(own))
        filled = [self.method.slot(params, slots) for params in ({}, *own, *free)]
        return layout.unflatten(
            {path: np.stack([slot[path] for slot in filled]) for path in shapes}
        )

    def index(
        self,
        rows: Sequence[str | int | np.integer | None],
        *,
        places: Sequence[str] | None = None,
    ) -> Int[np.ndarray, "batch"]:
        """The `adapter_index` of a batch.

        JAX takes some other adapter where an index is out of range, so that names and
        numbers are checked here.

        Args:
            rows: Of each row the adapter's name, its slot (0 is `__base__`, 1 the
                first adapter), or None for `__base__`.
            places: Where the rows come from, for errors.

        Raises:
            ValueError: If an adapter is not in the bank.
        """
        slots = {BASE: 0, **{name: i + 1 for i, name in enumerate(self.adapters)}}
        found = np.zeros(len(rows), np.int32)
        for row, asked in enumerate(rows):
            place = f"row {row}" if places is None else places[row]
            if isinstance(asked, int | np.integer) and not isinstance(asked, bool):
                if not 0 <= asked <= len(self):
                    raise ValueError(
                        f"{place}: there is no adapter {asked}; 0 is {BASE}, the "
                        f"others are 1 to {len(self)}"
                    )
                found[row] = asked
                continue
            name = BASE if asked is None else asked
            if not isinstance(name, str) or name not in slots:
                raise ValueError(
                    f"{place}: unknown adapter {asked!r}; known: {known(slots)}"
                )
            found[row] = slots[name]
        return found

    def add(self, name: str, adapter: Adapter) -> "Bank":
        """The bank with one more adapter; a full one gets twice the slots.

        Raises:
            ValueError: If the name is taken, or the adapter does not fit the others.
        """
        if name in self.adapters:
            raise ValueError(f"the bank has an adapter {name!r}; remove it first")
        full = len(self) == self.capacity
        return self._with(
            {**self.adapters, name: adapter},
            capacity=self.capacity * 2 if full else self.capacity,
        )

    def replace(self, name: str, adapter: Adapter) -> "Bank":
        """The bank with another adapter of that name, in the same slot.

        Raises:
            ValueError: If there is none of that name, or it does not fit the others.
        """
        self._check_known(name)
        return self._with({**self.adapters, name: adapter})

    def remove(self, name: str) -> "Bank":
        """The bank without an adapter; its slot stays, free and as large as it was.

        Raises:
            ValueError: If the adapter is not there, or is the last one.
        """
        self._check_known(name)
        kept = {n: adapter for n, adapter in self.adapters.items() if n != name}
        return self._with(kept)

    def rename(self, name: str, new_name: str) -> "Bank":
        """The bank with another name for an adapter, in the same slot.

        Raises:
            ValueError: If the adapter is not there or the new name is taken.
        """
        self._check_known(name)
        if new_name in self.adapters and new_name != name:
            raise ValueError(f"the bank has an adapter {new_name!r} already")
        renamed = {
            new_name if n == name else n: adapter
            for n, adapter in self.adapters.items()
        }
        return self._with(renamed)

    def select(self, names: Sequence[str]) -> "Bank":
        """A bank of some of the adapters, in that order, without free slots.

        Raises:
            ValueError: If an adapter is not there or named twice.
        """
        for name in names:
            self._check_known(name)
        if len(set(names)) != len(names):
            raise ValueError(f"an adapter is named twice in {', '.join(names)}")
        return Bank(adapters={name: self.adapters[name] for name in names})

    def save(self, directory: str | Path) -> None:
        """Writes all adapters, in place of an earlier bank or not at all.

        Raises:
            ValueError: If a name does not fit into a file, or the directory holds
                something else.
            OSError: If the disk is full or not writable.
        """
        bank_files.save(directory, self.adapters)

    def attach(self, params: Params) -> dict[str, Any]:
        """Parameters of the model with this bank: the given ones and its own."""
        return layout.merge(params, self.params)

    @property
    def _rooms(self) -> tuple[PeftMethod, ...]:
        return () if self.room is None else (self.room,)

    def _with(
        self, adapters: Mapping[str, Adapter], *, capacity: int | None = None
    ) -> "Bank":
        """Other adapters in the shapes of these."""
        return Bank(
            adapters=adapters,
            capacity=capacity or self.capacity,
            room=dataclasses.replace(self.method, num_adapters=None),
        )

    def _check_known(self, name: str) -> None:
        if name not in self.adapters:
            raise ValueError(f"unknown adapter {name!r}; known: {known(self.adapters)}")


def load_bank(directory: str | Path, config: T5Config | None = None) -> Bank:
    """Reads a bank that `Bank.save` wrote, without free slots.

    Args:
        directory: The directory.
        config: Sizes of the model that it is to be used with.

    Raises:
        ValueError: If a file is missing, cut off or newer, or an adapter is described
            twice, unknown here, not finite or not of that model.
    """
    return Bank(adapters=bank_files.load(directory, config))


def known(names: Mapping[str, Any] | Sequence[str]) -> str:
    """Names for an error, the first of many."""
    shown = ", ".join(list(names)[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name or name == BASE:
        raise ValueError(
            f"{name!r} is no name for an adapter; names are text, and {BASE} is the "
            "frozen model alone"
        )
