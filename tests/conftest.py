"""Fixtures of all tests: eight fake CPU devices, strict ranks, the shared folder."""

import os
import pathlib

_FLAG = "--xla_force_host_platform_device_count=8"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()

import hypothesis  # noqa: E402 -- the flags must stand before jax is imported
import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")

# The first call of an example compiles, so a deadline would measure XLA.
hypothesis.settings.register_profile("tfew_jax", deadline=None, max_examples=25)
hypothesis.settings.load_profile("tfew_jax")

_ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the clone."""
    return _ROOT


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of fixtures and data beside the repository, which few clones have."""
    folder = _ROOT.parent / "shared"
    if not (folder / "fixtures").is_dir():
        pytest.skip("needs the folder ../shared beside the repository")
    return folder


@pytest.fixture
def key() -> jax.Array:
    """A typed PRNG key, the same in every test."""
    return jax.random.key(0)
