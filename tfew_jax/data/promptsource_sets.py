"""promptsource's sets of templates, read from its YAML files.

A set holds the templates of a dataset, or of a subset of it: `anli`, `super_glue/cb`.
Their indices are T-Few's: all templates of a set in the alphabetical order of names.
"""

import dataclasses
import difflib
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import yaml

from tfew_jax.data import labels, promptsource_archive
from tfew_jax.data.promptsource import Metadata, Template

_MAX_NEAR = 8
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is optional


@dataclasses.dataclass(frozen=True)
class TemplateSet:
    """The templates of a dataset.

    Attributes:
        name: For example "super_glue/cb".
        templates: By name, in alphabetical order.
    """

    name: str
    templates: tuple[Template, ...]

    @property
    def original_task(self) -> tuple[Template, ...]:
        """Those that ask for what the dataset was made for."""
        return tuple(t for t in self.templates if t.metadata.original_task)

    def named(self, name: str) -> Template:
        """The template of this name.

        Raises:
            ValueError: There is none; the message lists names like it.
        """
        for template in self.templates:
            if template.name == name:
                return template
        names_ = [template.name for template in self.templates]
        near = difflib.get_close_matches(name, names_, n=_MAX_NEAR, cutoff=0.4)
        raise ValueError(
            f"{self.name} has no template {name!r}; its templates are "
            f"{labels.show(near or names_)}"
        )

    def at(self, index: int) -> Template:
        """The template of this index, from 0.

        Raises:
            ValueError: There is none.
        """
        if not 0 <= index < len(self.templates):
            raise ValueError(
                f"{self.name} has no template {index}; its {len(self.templates)} "
                f"templates are counted from 0 to {len(self.templates) - 1}"
            )
        return self.templates[index]


def names(directory: str | os.PathLike[str] | None = None) -> list[str]:
    """All sets in alphabetical order.

    Args:
        directory: Holds one folder a set; by default what `tfew templates fetch` keeps.

    Raises:
        ValueError: There is no such directory, or no set in it.
    """
    folder = _folder(directory)
    files = folder.rglob(promptsource_archive.FILE)
    found = sorted(path.parent.relative_to(folder).as_posix() for path in files)
    if not found:
        if directory is None:
            raise ValueError(
                f"promptsource's templates are not in {folder}; get them with "
                "`tfew templates fetch`"
            )
        raise ValueError(f"{folder}: holds no SET/{promptsource_archive.FILE}")
    return found


def load(name: str, directory: str | os.PathLike[str] | None = None) -> TemplateSet:
    """A set by its name.

    Raises:
        ValueError: There is no such set (the message lists names like it), or its file
            cannot be read.
    """
    known = names(directory)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=_MAX_NEAR, cutoff=0.7)
        dataset = name.split("/")[0]
        near += [k for k in known if k.split("/")[0] == dataset or name in k]
        near = list(dict.fromkeys(near))
        hint = f"names like it: {labels.show(near)}" if near else "no name is like it"
        raise ValueError(
            f"promptsource has no set {name!r}; {hint}; `tfew templates list` shows all"
        )
    return load_file(_file(name, directory), name=name)


def load_all(
    directory: str | os.PathLike[str] | None = None,
) -> Iterator[TemplateSet]:
    """All sets, one after the other.

    Raises:
        ValueError: See `names` and `load_file`.
    """
    for name in names(directory):
        yield load_file(_file(name, directory), name=name)


def load_file(path: str | os.PathLike[str], *, name: str | None = None) -> TemplateSet:
    """The set in a file of promptsource's form.

    Args:
        path: A file `templates.yaml`.
        name: Of the set; by default what the file says.

    Raises:
        ValueError: It cannot be read, or is not such a file.
    """
    path = pathlib.Path(path)
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{path}: not a file of templates ({problem})") from None
    listed = content.get("templates") if isinstance(content, dict) else None
    values = list(listed.values()) if isinstance(listed, dict) else [listed]
    found = [value for value in values if isinstance(value, Template)]
    if not found or len(found) != len(values):
        raise ValueError(
            f"{path}: not a file of templates; expected a mapping 'templates' whose "
            "values are !Template"
        )
    if name is None:
        parts = [content.get("dataset"), content.get("subset")]
        name = "/".join(str(part) for part in parts if part) or path.parent.name
    ordered = sorted(found, key=lambda template: template.name)
    for one, next_one in itertools.pairwise(ordered):
        if one.name == next_one.name:
            raise ValueError(f"{path}: the template {one.name!r} stands twice")
    return TemplateSet(
        name,
        tuple(
            dataclasses.replace(template, set_name=name, index=index)
            for index, template in enumerate(ordered)
        ),
    )


def _file(name: str, directory: str | os.PathLike[str] | None) -> pathlib.Path:
    return _folder(directory) / name / promptsource_archive.FILE


def _folder(directory: str | os.PathLike[str] | None) -> pathlib.Path:
    if directory is None:
        return promptsource_archive.directory()
    return pathlib.Path(directory)


class _Loader(_SafeLoader):
    """YAML's plain types and promptsource's two; every other tag is an error."""


def _make_template(loader: Any, node: Any) -> Template:
    values = loader.construct_mapping(node, deep=True)
    metadata = values.get("metadata") or Metadata()
    texts = {"name": values.get("name"), "jinja": values.get("jinja")}
    texts["answer_choices"] = values.get("answer_choices") or ""
    texts["reference"] = values.get("reference") or ""
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(
                f"line {node.start_mark.line + 1}: the {key} of a !Template is "
                f"{text!r}, expected text"
            )
    if not isinstance(metadata, Metadata):
        raise ValueError(
            f"line {node.start_mark.line + 1}: the metadata of a !Template are no "
            "!TemplateMetadata"
        )
    return Template(
        set_name="",
        index=0,
        name=texts["name"],
        text=texts["jinja"],
        choices=texts["answer_choices"] or None,
        reference=texts["reference"],
        metadata=metadata,
    )


def _make_metadata(loader: Any, node: Any) -> Metadata:
    values = loader.construct_mapping(node, deep=True)
    shown = values.get("choices_in_prompt")
    return Metadata(
        original_task=bool(values.get("original_task")),
        choices_in_prompt=None if shown is None else bool(shown),
        metrics=tuple(map(str, values.get("metrics") or ())),
        languages=tuple(map(str, values.get("languages") or ())),
    )


_Loader.add_constructor("!Template", _make_template)
_Loader.add_constructor("!TemplateMetadata", _make_metadata)
