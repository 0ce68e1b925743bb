"""The gin files that come with the package."""

import pathlib

import tfew_jax


def directory() -> pathlib.Path:
    """Where they are: in the installed package, or in the checkout."""
    package = pathlib.Path(tfew_jax.__file__).parent
    installed = package / "gin_configs"
    return installed if installed.is_dir() else package.parent / "gin_configs"


def files(kind: str = "") -> list[pathlib.Path]:
    """All of them, or those of a kind, which is a folder such as models."""
    return sorted((directory() / kind).rglob("*.gin"))


def names() -> list[str]:
    """How `--gin_file` and `include` name them."""
    return [path.relative_to(directory()).as_posix() for path in files()]
