"""Adapters that answer the same rows together: loaded, checked, summed up."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfew_jax import checkpoint
from tfew_jax.experiment import applying
from tfew_jax.experiment.base import Base

One = checkpoint.Adapter | applying.PathLike
Several = Sequence[One] | checkpoint.Bank


def load(adapters: Several, base: Base) -> checkpoint.Bank:
    """A bank of the adapters, named by their paths or, without one, by their number.

    Raises:
        ValueError: If there is none, one is there twice or cannot be loaded, or methods
            differ.
    """
    given: Iterable[tuple[str, One]]
    if isinstance(adapters, checkpoint.Bank):
        given = adapters.items()
    else:
        given = [
            (str(number) if isinstance(a, checkpoint.Adapter) else os.fspath(a), a)
            for number, a in enumerate(adapters, start=1)
        ]
    members: dict[str, checkpoint.Adapter] = {}
    known: dict[str, str] = {}
    for name, one in given:
        adapter = applying.load_adapter(one, base)
        same = known.setdefault(adapter.fingerprint, name)
        if name in members or same != name:
            raise ValueError(
                f"the adapters {same} and {name} are the same, whose vote would count "
                "twice; give each adapter once"
            )
        first = next(iter(members.values()), adapter).method
        try:
            first.bank([adapter.method], 2)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        members[name] = adapter
    if not members:
        raise ValueError("the list of adapters is empty; give at least one")
    return checkpoint.Bank(adapters=members)


def check_tasks(
    bank: checkpoint.Bank, *, given: Sequence[str] = ()
) -> checkpoint.Adapter:
    """The first of the adapters, after checking that all read and answer rows alike.

    Args:
        bank: The adapters.
        given: Settings that are given, so that what the adapters say does not count.

    Raises:
        ValueError: If their tasks differ; names the setting.
    """
    ignored = {"name", "template_names", *given}  # the first two are for messages
    (first_name, first), *others = bank.items()
    mine = _settings(first)
    for name, adapter in others:
        theirs = _settings(adapter)
        for setting in sorted({*mine, *theirs} - ignored):
            one, other = mine.get(setting), theirs.get(setting)
            if one != other:
                raise ValueError(
                    "the adapters of a vote read and answer rows alike, but "
                    f"{setting} of {name} is {other!r}, of {first_name} {one!r}; "
                    "give adapters of one task"
                )
    return first


def _settings(adapter: checkpoint.Adapter) -> dict[str, Any]:
    """What an adapter carries of its task, with defaults; nothing without a task."""
    if adapter.task is None:
        return {}
    carried = applying.adapter_task(adapter)
    return {**carried._asdict(), "spec": None, **carried.spec.to_dict()}


def spread(members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each member's numbers, and of every number the mean and the best."""
    columns = {
        name: [own[name] for own in members.values()]
        for name, value in next(iter(members.values())).items()
        if isinstance(value, float)
    }
    return {
        "mean_of_members": {name: float(np.mean(own)) for name, own in columns.items()},
        "best_of_members": {name: max(own) for name, own in columns.items()},
        "members": {name: dict(own) for name, own in members.items()},
    }
