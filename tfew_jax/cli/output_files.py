"""Files that a command writes besides what it prints."""

import pathlib
from collections.abc import Mapping

STANDARD_OUTPUT = "-"


def check(texts: Mapping[str, str], *, image: str | None = None) -> None:
    """Refuses what cannot be written, before anything heavy is imported.

    Args:
        texts: By the flag that names each; "-" for standard output.
        image: What `--png` names, if it is given.

    Raises:
        ValueError: If two are the same, one is a directory, the directory of one does
            not exist, or an image would go to standard output.
    """
    if image == STANDARD_OUTPUT:
        raise ValueError("--png -: an image is not for standard output; name a file")
    seen: dict[pathlib.Path | str, str] = {}
    for flag, path in {**texts, **({"--png": image} if image else {})}.items():
        place = path if path == STANDARD_OUTPUT else pathlib.Path(path).absolute()
        if (other := seen.setdefault(place, flag)) != flag:
            raise ValueError(
                f"{other} and {flag} both go to {path}; give each its own file"
            )
        if isinstance(place, str):
            continue
        if place.is_dir():
            raise ValueError(f"{flag} {path}: it is a directory; name a file")
        if not place.parent.is_dir():
            raise ValueError(
                f"{flag} {path}: its directory does not exist; make it, or name "
                "another file"
            )


def write(path: str, content: str | bytes) -> None:
    """Writes a file so that it is complete or as it was before.

    Raises:
        ValueError: If it cannot be written.
    """
    from tfew_jax.experiment import directory

    data = content.encode() if isinstance(content, str) else content
    try:
        directory.write_bytes(pathlib.Path(path).absolute(), data)
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror}); name another file"
        ) from error
