"""How every run begins: its directory is ours, its log open, its progress shown."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfew_jax.experiment import directory
from tfew_jax.experiment.progress import Progress

OnStart = Callable[[pathlib.Path], None]


@contextlib.contextmanager
def open_run(
    model_dir: str | os.PathLike[str] | None,
    *,
    settings: Mapping[str, Any],
    overwrite: bool,
    quiet: bool,
    on_start: OnStart | None,
    tokens_per_step: float | None = None,
) -> Iterator[tuple[pathlib.Path, Progress]]:
    """Locks the directory of a run, and opens its log and TensorBoard's.

    Args:
        model_dir: The directory; None for one that is gone afterwards, without
            TensorBoard.
        settings: See `directory.open_directory`.
        overwrite: See `directory.open_directory`.
        quiet: Show no progress.
        on_start: Called with the directory once it is ours.
        tokens_per_step: See `Progress`.

    Yields:
        The absolute path of the directory, and where steps are reported.

    Raises:
        directory.DirectoryInUse: If another process has it open.
        ValueError: See `directory.open_directory`.
    """
    with contextlib.ExitStack() as stack:
        place = model_dir
        if place is None:
            place = stack.enter_context(tempfile.TemporaryDirectory())
        path = stack.enter_context(
            directory.open_directory(place, settings=settings, overwrite=overwrite)
        )
        if on_start is not None:
            on_start(path)
        log = stack.enter_context(open(path / "log.txt", "a", encoding="utf-8"))
        yield (
            path,
            Progress(
                log_file=log,
                tensorboard=None if model_dir is None else path / "tensorboard",
                quiet=quiet,
                tokens_per_step=tokens_per_step,
            ),
        )
