"""Memory of a process that computes on the CPU.

XLA asks for the buffers of a program at every call and gives them back after it. By
default glibc maps such large blocks anew each time, so that the kernel clears them page
by page: a fifth of the time of a training step at T5-small's size.
"""

import ctypes
import importlib.util
import os

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Lets this process reuse freed memory instead of returning it to the system.

    It holds for the whole process and cannot be taken back, so only programs call it,
    never the library; and before JAX starts its threads, each of which would otherwise
    get an arena of its own, too small for such blocks.

    Returns:
        Whether it was done: where the C library is glibc and JAX computes on the CPU.
    """
    if not _computes_on_cpu():
        return False  # device buffers are not malloc's, and the host's should shrink
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
    return all(mallopt(name, value) for name, value in settings.items())


def _computes_on_cpu() -> bool:
    """What `jax.default_backend()` will say, without asking it: that starts threads."""
    if platforms := os.environ.get("JAX_PLATFORMS"):
        return platforms == "cpu"
    plugins = ("jax_plugins", "libtpu")
    return all(importlib.util.find_spec(name) is None for name in plugins)
