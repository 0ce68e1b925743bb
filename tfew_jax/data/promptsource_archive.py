"""promptsource's templates on this machine: fetched once, kept in the user's cache.

The package of 2022 pins old dependencies and a Python older than 3.10, so it is not
installed: of its source archive only the files `templates.yaml` are kept, and nothing
of it ever runs. pip fetches the archive, so that its settings of indexes, proxies and
certificates hold; a file that was downloaded elsewhere will do as well.
"""

import gzip
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator

VERSION = "0.2.3"  # the only one on the package index; T-Few's indices are its own
SHA256 = "f106c889778a0fe5590e7183904bf964e1a01691c8a29451e44f3df5ddef05f5"
NUM_BYTES = 227_923
FILE = "templates.yaml"

_NAME = f"promptsource-{VERSION}"
_PREFIX = f"{_NAME}/promptsource/templates/"
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")  # of a set: no path, not hidden
_MAX_FILE_BYTES = 2**20  # the largest has 16 kB
_MAX_TOTAL_BYTES = 2**26  # unpacked; it has 1.4 MB
_DOWNLOAD = (
    *("download", "--no-deps", "--no-binary", "promptsource"),
    *("--ignore-requires-python", f"promptsource=={VERSION}"),
)
# pip asks the package's build backend for its metadata, which would run its setup.py.
# This backend answers instead, under the name that pip asks for.
_BACKEND = f"""
import os

class Backend:
    def prepare_metadata_for_build_wheel(self, directory, config_settings=None):
        name = "{_NAME}.dist-info"
        os.mkdir(os.path.join(directory, name))
        with open(os.path.join(directory, name, "METADATA"), "w") as file:
            file.write("Metadata-Version: 2.1\\nName: promptsource\\n")
            file.write("Version: {VERSION}\\n")
        return name

__legacy__ = Backend()
"""


def cache_directory() -> pathlib.Path:
    """Where the user's cache is: TFEW_JAX_CACHE, else tfew_jax in XDG_CACHE_HOME."""
    if given := os.environ.get("TFEW_JAX_CACHE"):
        return pathlib.Path(given).expanduser().absolute()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the standard tells to ignore such a value
        cache = pathlib.Path.home() / ".cache"
    return cache / "tfew_jax"


def directory() -> pathlib.Path:
    """Where the templates are, once they are fetched; one folder a set."""
    return cache_directory() / _NAME


def fetch(archive: str | os.PathLike[str] | None = None) -> bool:
    """Puts the templates into the cache, if they are not there.

    The folder appears as a whole or not at all.

    Args:
        archive: The source archive, if it is here already; by default pip downloads it.

    Returns:
        Whether there was anything to do.

    Raises:
        ValueError: The archive cannot be had, is another one or is damaged.
        OSError: The cache cannot be written.
    """
    target = directory()
    if target.is_dir():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as folder:
        scratch = pathlib.Path(folder)
        path = _download(scratch) if archive is None else pathlib.Path(archive)
        check(path)
        unpacked = scratch / "unpacked"
        extract(path, unpacked)
        try:
            unpacked.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
            return False
    return True


def check(path: pathlib.Path) -> None:
    """Refuses every archive but the one.

    Raises:
        ValueError: It cannot be read, is cut short or is another one.
    """
    try:
        num_bytes = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); give the source archive "
            f"{_NAME}.tar.gz"
        ) from None
    if digest == SHA256:
        return
    short = f" (it has {num_bytes:,} of {NUM_BYTES:,} bytes)"
    raise ValueError(
        f"{path}: not the source archive {_NAME}.tar.gz"
        f"{short if num_bytes < NUM_BYTES else ''}: its SHA-256 is {digest}, expected "
        f"{SHA256}; download it again"
    )


def extract(path: pathlib.Path, folder: pathlib.Path) -> None:
    """Copies the files `templates.yaml` of an archive to the same places of a folder.

    Raises:
        ValueError: The archive is damaged, or such a file is outside the folder of
            templates, is no file, is too large or stands twice.
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            found = 0
            for member, place in _members(path, archive):
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                target = folder.joinpath(*place)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file)
                found += 1
    except FileExistsError as error:
        raise ValueError(f"{path}: holds {error.filename} twice") from None
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{path}: the archive is damaged ({error}); download it again"
        ) from None
    if not found:
        raise ValueError(f"{path}: holds no {_PREFIX}*/{FILE}")


def _members(
    path: pathlib.Path, archive: tarfile.TarFile
) -> Iterator[tuple[tarfile.TarInfo, list[str]]]:
    """Each file of templates and its place below the folder of templates."""
    total = 0
    for member in archive:
        total += member.size
        if total > _MAX_TOTAL_BYTES:
            raise ValueError(f"{path}: unpacks to more than {_MAX_TOTAL_BYTES:,} bytes")
        if member.name.rpartition("/")[2] != FILE:
            continue
        place = member.name.removeprefix(_PREFIX).split("/")
        inside = member.name.startswith(_PREFIX) and len(place) in (2, 3)
        if not inside or not all(map(_FOLDER.fullmatch, place)):
            raise ValueError(
                f"{path}: holds {member.name!r}; expected {_PREFIX}SET/{FILE}"
            )
        if not member.isreg():
            raise ValueError(f"{path}: {member.name} is a link or device, not a file")
        if member.size > _MAX_FILE_BYTES:
            raise ValueError(
                f"{path}: {member.name} has {member.size:,} bytes; at most "
                f"{_MAX_FILE_BYTES:,} were expected"
            )
        yield member, place


def _download(scratch: pathlib.Path) -> pathlib.Path:
    """The source archive, downloaded by pip into a folder."""
    backend = scratch / "backend"
    (backend / "setuptools").mkdir(parents=True)
    (backend / "setuptools" / "__init__.py").touch()
    (backend / "setuptools" / "build_meta.py").write_text(_BACKEND)
    options = ("--no-build-isolation", "--no-input", "--dest", str(scratch))
    paths = [str(backend), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PIP_USE_PEP517": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pip", *_DOWNLOAD, *options],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    archive = scratch / f"{_NAME}.tar.gz"
    if done.returncode or not archive.is_file():
        raise ValueError(
            f"pip could not download the source archive {archive.name} "
            f"({_last_error(done)}); download it where that works with "
            f"`pip {' '.join(_DOWNLOAD)}` and give it with --from"
        )
    return archive


def _last_error(done: subprocess.CompletedProcess[str]) -> str:
    """The line of pip's output that says most."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    last = (errors or lines or [f"exit status {done.returncode}"])[-1]
    return last.removeprefix("ERROR: ")
