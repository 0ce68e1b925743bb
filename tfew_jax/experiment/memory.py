"""What to say of a device whose memory is full: how much is needed, and what helps."""

import contextlib
from collections.abc import Callable, Iterator

import jax

from tfew_jax.types import Params


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


def size(num_bytes: int) -> str:
    """Bytes as a person reads them."""
    return f"{num_bytes / 2**30:.2f} GiB"
