"""What to say of a device whose memory is full: how much is needed, and what helps."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator

import jax

from tfew_jax.types import Params

_SHARE = 0.9  # of a memory, as it is never filled to the brim


@contextlib.contextmanager
def explained(params: Params, need: Callable[[], str], advice: str) -> Iterator[None]:
    """Turns the device's lack of memory into one line.

    Args:
        params: Of the frozen model, whose size is named.
        need: What else was to fit; called only then.
        advice: Which settings help.

    Raises:
        MemoryError: If the device ran out of memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        frozen = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        raise MemoryError(
            f"the device is out of memory: the frozen model takes {size(frozen)}, "
            f"{need()}. {advice}"
        ) from error


def limits(params: Params) -> tuple[int, int]:
    """Bytes of a device's memory, and of those what a program beside a model may take.

    On a CPU both are what the machine has free now.

    Args:
        params: Of the frozen model, which is on the device.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if limit := stats.get("bytes_limit"):
        frozen = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
        return limit, max(0, int(_SHARE * limit) - frozen)
    free = _free_of_machine()
    return free, int(_SHARE * free)


def _free_of_machine() -> int:
    """Bytes that programs can get without swapping, where the system says so."""
    table = pathlib.Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def size(num_bytes: int) -> str:
    """Bytes as a person reads them."""
    return f"{num_bytes / 2**30:.2f} GiB"
