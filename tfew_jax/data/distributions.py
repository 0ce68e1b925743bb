"""One split of a set from the form it is at hand in: official file, TFDS, or the Hub.

A source is written as

- `DIR`: the set's official files in it, else a TFDS folder, else parquet files;
- `tfds:DIR`: a TFDS data directory only (`tfds:` alone is TFDS's own);
- `hub:DIR`: parquet files of the Hub only (`hub:` alone downloads them).

Nothing but the source that is asked for is imported: a directory of official files
needs neither TensorFlow nor pyarrow.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tfew_jax.data import hub, seqio_tfds, sources
from tfew_jax.data.mirrors import Mirror
from tfew_jax.data.official import Fields


class SetError(ValueError):
    """A set, split or file that is not there or not the official one."""


class NoSplitError(SetError):
    """A split that none of its sources has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forms:
    """The forms of a split.

    Attributes:
        name: Of the set.
        split: Of the set.
        paths: Where the official file may lie; the first that exists.
        read: The rows of the official file.
        convert: From these, or what the mirror makes of its own, to the rows that are
            wanted; the second argument is the number of the row.
        mirror: On the Hub and in TFDS; None where the official file is the only form.
        source: Where the files are to be had.
    """

    name: str
    split: str
    paths: tuple[str, ...]
    read: Callable[[pathlib.Path], Iterable[sources.Row]]
    convert: Callable[[Mapping[str, Any], int], Fields]
    mirror: Mirror | None
    source: str


Found = tuple[list[sources.Row], bool]


def read(forms: Forms, source: str | os.PathLike[str]) -> Found:
    """The rows of a split, and whether they stand in the official order.

    Raises:
        NoSplitError: None of the source's forms of the split is there.
        SetError: The source's name is empty, or a row lacks a field of the form or has
            another type there.
        sources.SourceError: What is there cannot be read, a package of the extra `data`
            is missing, or the Hub cannot be reached.
    """
    if not os.fspath(source):  # would mean this directory, and then the network
        raise SetError(
            f"no directory for the rows of {forms.name}: the name is empty; give one, "
            "or say hub: or tfds:"
        )
    kind, separator, place = os.fspath(source).partition(":")
    if not separator or kind not in ("tfds", "hub"):
        kind, place = "", os.fspath(source)
    looked = []
    if not kind:
        found = _read_files(forms, place)
        if not isinstance(found, str):
            return found
        looked.append(found)
    if (mirror := forms.mirror) is None:
        raise NoSplitError(
            f"{source}: no {forms.split} split of {forms.name}, which is read from a "
            f"directory of its official files only: {', '.join(forms.paths)}; "
            f"{forms.source}"
        )
    for name, reader in (("tfds", _read_tfds), ("hub", _read_hub)):
        if kind in ("", name):
            found = reader(forms, mirror, place)
            if not isinstance(found, str):
                return found
            looked.append(found)
    raise NoSplitError(
        f"{source}: no {forms.split} split of {forms.name} (looked for "
        f"{'; '.join(looked)}); {forms.source}"
    )


def _read_files(forms: Forms, place: str) -> Found | str:
    """From official files; the message of what was looked for where there are none."""
    directory = pathlib.Path(place).expanduser()
    for path in forms.paths:
        if (directory / path).is_file():
            rows = forms.read(directory / path)
            return _convert(forms, rows, dict, forms.source), True
    return f"official files: {', '.join(forms.paths)}"


def _read_tfds(forms: Forms, mirror: Mirror, place: str) -> Found | str:
    name = mirror.tfds_splits.get(forms.split, forms.split)
    directory = place or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    folder = seqio_tfds.find(directory, mirror.tfds, name)
    if folder is None:
        return f"TFDS: {mirror.tfds}/VERSION with a split {name}"
    records = seqio_tfds.load_rows(folder, name)
    rows = _convert(forms, records, mirror.from_tfds, f"TFDS's {mirror.tfds}")
    if mirror.sorts:
        rows.sort(key=_order)
    return rows, mirror.sorts


def _order(row: Mapping[str, Any]) -> tuple[int, ...]:
    """A row's number; of passages with questions, those of all levels."""
    idx = row["idx"]
    return tuple(idx.values()) if isinstance(idx, Mapping) else (idx,)


def _read_hub(forms: Forms, mirror: Mirror, place: str) -> Found | str:
    name = mirror.hub_splits.get(forms.split, forms.split)
    dataset = (mirror.repository, mirror.config, name)
    if not place and not mirror.downloadable:
        return f"nothing: the Hub has no parquet files of {mirror.repository}"
    files = hub.find(place or hub.download(*dataset), *dataset)
    if not files:
        patterns = ", ".join(hub.layouts(mirror.config, name))
        return f"parquet of the Hub's {mirror.repository}: {patterns}"
    rows = hub.load_rows(files)
    form = f"the Hub's {mirror.repository}, {mirror.config}"
    return _convert(forms, rows, mirror.from_hub, form), True


def _convert(
    forms: Forms,
    rows: Iterable[sources.Row],
    adapt: Callable[[Mapping[str, Any]], Fields],
    form: str,
) -> list[sources.Row]:
    """Rows of a source as they are wanted; `form` names what it should be."""
    converted = []
    for number, row in enumerate(rows):
        try:
            fields = forms.convert(adapt(row), number)
        except (KeyError, ValueError, TypeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise SetError(
                f"{sources.where(row, number)}: not a row of {forms.name} ({what}); "
                f"expected the file as distributed: {form}"
            ) from None
        converted.append(sources.Row(fields, where=sources.where(row, number)))
    return converted
