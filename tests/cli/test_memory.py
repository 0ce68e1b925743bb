"""Freed memory is used again."""

import platform
import subprocess
import sys

import pytest

from tfew_jax.cli import memory

_COUNT_FAULTS = """
import ctypes, os, resource, sys

os.environ["JAX_PLATFORMS"] = "cpu"
from tfew_jax.cli import memory

if sys.argv[1] == "keep":
    assert memory.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
size = 256 * 2**20
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    libc.memset(block, 1, ctypes.c_size_t(size))
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
    done = subprocess.run(
        [sys.executable, "-c", _COUNT_FAULTS, mode],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_large_block_freed_before_costs_no_page_faults():
    kept, default = faults("keep"), faults("default")
    assert default > 100
    assert kept < default / 10


def test_a_process_with_an_accelerator_is_left_alone(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert not memory.keep_freed_memory()
