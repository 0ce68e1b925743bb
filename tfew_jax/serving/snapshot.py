"""A bank with all that a batch needs of it, which never changes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from tfew_jax import checkpoint, models
from tfew_jax.experiment import row_tasks, scoring
from tfew_jax.experiment.base import Base
from tfew_jax.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """The adapters as they were at a moment.

    Attributes:
        bank: The adapters.
        tasks: What renders their rows.
        model: With the bank's method.
        params: The frozen model's and the bank's, on the device.
    """

    bank: checkpoint.Bank
    tasks: row_tasks.RowTasks
    model: models.T5
    params: Params

    @classmethod
    def make(
        cls,
        base: Base,
        bank: checkpoint.Bank,
        *,
        own_templates: bool = True,
        earlier: "Snapshot | None" = None,
    ) -> "Snapshot":
        """Reads the tasks and puts the arrays on the device.

        Args:
            base: The frozen model, whose arrays all snapshots share.
            bank: The adapters.
            own_templates: Whether rows of adapters without a task may bring theirs.
            earlier: The one before, of which tasks are kept.

        Raises:
            ValueError: If an adapter does not fit the base, or its task is none.
        """
        known = set() if earlier is None else {id(a) for a in earlier.bank.values()}
        for name, adapter in bank.items():
            if id(adapter) not in known:
                adapter.check(base.config, source=f"adapter {name}, for the given base")
        tasks = row_tasks.RowTasks(
            bank,
            base.tokenizer,
            own_templates=own_templates,
            earlier=None if earlier is None else earlier.tasks,
        )
        model, params = scoring.adapted(base, bank)
        params = jax.block_until_ready(jax.tree.map(jnp.asarray, params))
        return cls(bank=bank, tasks=tasks, model=model, params=params)

    def slot_of(self, adapter: checkpoint.Adapter | None) -> int | None:
        """Where that very adapter is, whatever its name; None where it is not.

        Args:
            adapter: None for the frozen model alone, which is always there.
        """
        return 0 if adapter is None else self._slots.get(id(adapter))

    @functools.cached_property
    def _slots(self) -> dict[int, int]:
        """Slots by the identity of the adapters, which the bank keeps alive."""
        slots: dict[int, int] = {}
        for slot, adapter in enumerate(self.bank.values(), start=1):
            slots.setdefault(id(adapter), slot)
        return slots
