"""Directories that are there whole or not at all, and JSON that explains itself."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def new_directory(directory: str | Path, *, marker: str) -> Iterator[Path]:
    """Fills a new directory beside `directory` and puts it there when it is complete.

    A directory that is replaced stays untouched until then, and stays for good where
    the block or the disk fails.

    Args:
        directory: Where the result belongs. Missing parents are made.
        marker: File by which an earlier result is recognised; a directory that holds
            other files, but not this one, is not replaced.

    Yields:
        The directory to fill.

    Raises:
        ValueError: If `directory` holds something else.
        OSError: If the disk is full or not writable; one line that says so.
    """
    directory = Path(directory).absolute()
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; give the name of a directory")
    holds_other = directory.is_dir() and not (directory / marker).exists()
    if holds_other and any(directory.iterdir()):
        raise ValueError(
            f"{directory} holds other files and no {marker}; "
            "give a new or an empty directory"
        )
    fresh: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(
            tempfile.mkdtemp(prefix=f".{directory.name}.new-", dir=directory.parent)
        )
        fresh.chmod(0o777 & ~_umask())
        yield fresh
        _swap(fresh, directory)
    except OSError as error:
        raise _disk_error(directory, error) from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Writes a file beside `path` and puts it there when it is complete.

    Yields:
        The file to write.

    Raises:
        OSError: If the disk is full or not writable; one line that says so.
    """
    path = Path(path).absolute()
    fresh = path.with_name(f".{path.name}.new-{os.getpid()}")
    try:
        yield fresh
        fresh.replace(path)
    except OSError as error:
        raise _disk_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def _disk_error(path: Path, error: OSError) -> OSError:
    return OSError(
        f"{path} could not be written ({error.strerror or error}); what was there "
        "before is unchanged. Free some space or give another place."
    )


def _umask() -> int:
    """The process's file creation mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _swap(fresh: Path, directory: Path) -> None:
    """Renames `fresh` to `directory`, in place of what is there."""
    if not directory.exists():
        fresh.rename(directory)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old-", dir=directory.parent))
    directory.rename(old)  # onto an empty directory, which rename allows
    try:
        fresh.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object for people to read."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        ValueError: If the file is missing, not UTF-8, not JSON or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # of JSON and of UTF-8 alike
        raise ValueError(
            f"{path} is not valid JSON ({error}); it may be cut off: copy it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must hold a JSON object, not {type(content).__name__}"
        )
    return content


def check_version(content: dict[str, Any], *, newest: int, path: Path) -> None:
    """Refuses a file that a newer version of this library wrote.

    Raises:
        ValueError: If `version` is missing, not an integer or newer than `newest`.
    """
    version = content.get("version")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"{path}: version must be a positive integer, got {version!r}")
    if version > newest:
        raise ValueError(
            f"{path} has format version {version}; this tfew_jax reads up to {newest}. "
            "Install a newer tfew_jax."
        )
