"""A directory that holds one experiment: lock, settings, records, finished marker.

    settings.json      what determines the result; another run here is refused
    results.jsonl      one record a run, appended whole or not at all
    runs/RUN/          checkpoints, adapter and scores of every choice of one run;
                       where rows were shown in the input, the first input as text
    zero_shot/         scores of every choice by the frozen model
    FINISHED           written last

Nothing already written is lost or half-written: files are replaced by renaming, a
record is one append followed by fsync, and a last line that a killed process or a
full disk left torn is cut off before the next append.
"""

import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tfew_jax.experiment import prepared

SETTINGS = "settings.json"
RECORDS = "results.jsonl"
FINISHED = "FINISHED"
LOCK = ".lock"
# What --overwrite removes; other files in the directory are none of our business.
# The settings go last: they are what says that the others are ours.
OWN_FILES = (
    *(FINISHED, RECORDS, "summary.json", "predictions.csv", "log.txt"),
    *("config.gin", "operative_config.gin", "adapter", "runs", "tensorboard"),
    *("submission", "zero_shot", "final_model"),
    *("bases", "frozen", "comparison.json", "comparison.md", "comparison.png"),
    "sweep.json",
    SETTINGS,
)
_KINDS = ("comparison", "sweep")
_OF_RUNS = ("protocol.", "recipe.")  # beginnings of names that the settings have


# What an adapter says of rows, and what stands in each such file.
_ANSWERS = {
    "predictions.csv": b"row,prediction",
    "members.csv": b"row,member,",
    "generations.csv": b"row,text,score",
    "metrics.json": b'"versions": {',
}


class DirectoryInUse(ValueError):
    """Another process writes to the directory."""


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file so that it is complete or as it was before."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a file so that it is complete or as it was before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes indented JSON so that it is complete or as it was before."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


class Records:
    """The records of `results.jsonl`, one a run, in the order they were added."""

    def __init__(self, path: pathlib.Path):
        """Reads the file if there is one, after cutting off a torn last line."""
        self._path = path
        self._records: dict[str, dict[str, Any]] = {}
        if path.exists():
            _cut_torn_line(path)
            # Texts in records may hold Unicode's other line ends.
            lines = path.read_text("utf-8").removesuffix("\n").split("\n")
            for number, line in enumerate(lines if lines != [""] else [], 1):
                try:
                    record = json.loads(line)
                    self._records[record["run"]] = record
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(
                        f"{path}, line {number}: not a record ({error}); "
                        "restore the file, or start again with --overwrite"
                    ) from error

    def __contains__(self, run: str) -> bool:
        return run in self._records

    def __getitem__(self, run: str) -> dict[str, Any]:
        return self._records[run]

    def all(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        return list(self._records.values())

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds the record of a run, which is on the disk when this returns.

        Raises:
            ValueError: If there is a record of that run already.
        """
        if record["run"] in self:
            raise ValueError(f"{self._path} already holds a record of {record['run']}")
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        data = line.encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(f"no space left for a record in {self._path}")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self._records[record["run"]] = json.loads(line)


def _cut_torn_line(path: pathlib.Path) -> None:
    """Removes what follows the last newline of a file."""
    content = path.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(path, complete)


def write_predictions(
    path: pathlib.Path, predictions: Sequence[prepared.Prediction]
) -> None:
    """Writes row (from 0), prediction and the score of every choice as CSV.

    The columns are `score:TEXT` where all rows have the same choices, else
    `score_0`, `score_1` ...; what a row does not have is left empty. Rows of several
    adapters name theirs behind their number.
    """
    names = choice_columns("score", [p.choices for p in predictions])
    is_mixed = any(p.adapter is not None for p in predictions)
    rows = []
    for p in predictions:
        adapter = [p.adapter] if is_mixed else []
        scores = choice_cells(p.scores, len(names))
        rows.append([p.row, *adapter, p.prediction, *scores])
    adapter = ["adapter"] if is_mixed else []
    write_table(path, ["row", *adapter, "prediction", *names], rows)


def choice_columns(what: str, choices: Sequence[Sequence[str]]) -> list[str]:
    """Names of the columns for a number of each choice.

    Args:
        what: The number.
        choices: Of every row.
    """
    if len({tuple(of_row) for of_row in choices}) == 1:
        return [f"{what}:{name}" for name in choices[0]]
    most = max((len(of_row) for of_row in choices), default=0)
    return [f"{what}_{index}" for index in range(most)]


def choice_cells(numbers: Sequence[float], num_columns: int) -> list[str]:
    """The cells of a row under `choice_columns`."""
    cells = [f"{number:.6f}" for number in numbers]
    return [*cells, *[""] * (num_columns - len(cells))]


def write_table(
    path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Writes a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def make(path: str | os.PathLike[str]) -> pathlib.Path:
    """Makes a directory if it is not there, and returns its absolute path.

    Raises:
        ValueError: If it has no name, or cannot be made or written to.
    """
    if not os.fspath(path):
        raise ValueError("the directory has no name; give one, such as out")
    directory = pathlib.Path(path).expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot write to {directory} ({error.strerror}); name another directory"
        ) from error
    if not os.access(directory, os.W_OK):
        raise ValueError(f"{directory} is read-only; name another directory")
    return directory


def remove_answers(directory: pathlib.Path) -> None:
    """Removes what an adapter said of rows, and no file that was not written here."""
    for name, sign in _ANSWERS.items():
        path = directory / name
        if path.is_file() and sign in path.read_bytes():
            path.unlink()


@contextlib.contextmanager
def open_directory(
    path: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any],
    overwrite: bool = False,
) -> Iterator[pathlib.Path]:
    """Locks a directory for one process and checks that it is ours to use.

    Args:
        path: The directory; made if it is not there.
        settings: What determines the result, as JSON values. They are saved by the
            first run, and compared with by later ones, which continue it.
        overwrite: Remove what an earlier run left instead of continuing it. Files
            that bear our names in a directory without settings of a run are not
            touched.

    Yields:
        The absolute path of the directory.

    Raises:
        DirectoryInUse: If another process has it open.
        ValueError: If it holds a run with other settings (the differing ones are
            named), files of ours without settings or with settings of something
            else, or cannot be written.
    """
    directory = make(path)
    with open(directory / LOCK, "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DirectoryInUse(
                f"{directory} is in use by process {lock.read().strip() or '?'}; "
                "wait for it, or name another directory"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if overwrite and (directory / SETTINGS).exists():
            _remove_own_files(directory)
        _check_settings(directory, json.loads(json.dumps(dict(settings))))
        yield directory


def _remove_own_files(directory: pathlib.Path) -> None:
    _check_ours(directory, _read_settings(directory))
    for name in OWN_FILES:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_settings(directory: pathlib.Path, settings: Mapping[str, Any]) -> None:
    """Saves the settings of a first run, compares with those of an earlier one."""
    path = directory / SETTINGS
    if not path.exists():
        if found := [name for name in OWN_FILES if (directory / name).exists()]:
            raise ValueError(
                f"{directory} holds {', '.join(found)} but no {SETTINGS}, so that they "
                "may be of something else; name another directory, or remove them"
            )
        write_json(path, settings)
        return
    there = _read_settings(directory)
    if there == settings:
        return
    _check_ours(directory, there)
    if differing := differences(there, settings):
        raise ValueError(
            f"{directory} holds a run with other settings: {'; '.join(differing)}. "
            "Name another directory, or replace that run with --overwrite"
        )


def _read_settings(directory: pathlib.Path) -> Any:
    path = directory / SETTINGS
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is not JSON, so that it may be of something else; name another "
            "directory, or remove it"
        ) from error


def _check_ours(directory: pathlib.Path, settings: Any) -> None:
    """Refuses settings that are of something else than a run of this project."""
    is_ours = isinstance(settings, dict) and (
        settings.get("kind") in _KINDS
        or ("base" in settings and any(n.startswith(_OF_RUNS) for n in settings))
    )
    if not is_ours:
        raise ValueError(
            f"{directory / SETTINGS} is of something else than a run of tfew_jax, and "
            "so may the files beside it be; name another directory, or remove them"
        )


def settings_hash(settings: Mapping[str, Any]) -> str:
    """By which records say what settings they are of."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """One phrase for every setting that differs."""
    there, here, absent = _flat(there), _flat(here), "(absent)"
    return [
        f"{name} was {_short(there.get(name, absent))}, "
        f"now {_short(here.get(name, absent))}"
        for name in sorted({*there, *here})
        if there.get(name, absent) != here.get(name, absent)
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _short(value: Any) -> str:
    text = value if value == "(absent)" else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
