"""Gin: search paths, T5X's flags, and errors that say what to do.

Gin accepts a misspelt macro in silence, and its own messages run over many lines.
Here a macro that nothing uses, a macro without a value, an unknown file or an unknown
parameter is one line that names it and what comes close to it.
"""

import ast
import contextlib
import difflib
import importlib.util  # noqa: F401 -- gin 0.5.0 uses it without importing it
import inspect
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gin
from gin import config as gin_config

import tfew_jax
from tfew_jax.cli import binding_types, packaged
from tfew_jax.experiment import directory as files

_MACRO = "gin.macro"
_MACRO_LINE = re.compile(r"^([A-Z][A-Z0-9_]*)\s*=", re.MULTILINE)
_CHANGES_OF_RUNS = ("ablations", "domain_shift", "prompts")  # folders
_RUNS = ("runs", "experiments")
# Plain files alone: gin also takes `runs/train.gin` for a file of a package `runs` and
# fails on any folder of that name where Python looks for modules.
_FILE_READER = (open, os.path.isfile)
_SAVED = "# Saved by tfew_jax"  # how files start that hold all macros of a run


@contextlib.contextmanager
def parsed(
    *,
    entry: Callable[..., Any] | Sequence[Callable[..., Any]],
    files: Sequence[str] = (),
    text: str = "",
    bindings: Sequence[str] = (),
    search_paths: Sequence[str] = (),
    kind: str = "runs",
) -> Iterator[Callable[..., Any]]:
    """Parses files, then a text, then bindings, and yields the configured entry.

    Args:
        entry: The function that the configuration is for, or those of which it
            configures one.
        files: Names of gin files.
        text: Gin statements, parsed after the files.
        bindings: `NAME=VALUE`, parsed last.
        search_paths: Where to look for files after the current directory.
        kind: Folder of the packaged files that configure the entry.

    Raises:
        ValueError: If a file, binding, parameter or macro is wrong or missing.
    """
    paths = [part for entry_ in search_paths for part in entry_.split(",") if part]
    prefixes = ["", *paths, str(packaged.directory())]
    before = list(gin_config._LOCATION_PREFIXES), list(gin_config._FILE_READERS)
    gin_config._LOCATION_PREFIXES[:] = prefixes
    gin_config._FILE_READERS[:] = [_FILE_READER]
    gin.clear_config()
    try:
        given: list[str | None] = []
        _check_order(files)
        for file in files:
            given += _parse_file(file, prefixes)
        with _readable(""), _silent():
            gin.parse_config(text)
        given += [_parse_binding(binding) for binding in bindings]
        _check_macros([name for name in given if name])
        binding_types.check()
        with _readable(""):
            gin.finalize()
        yield _configurable((entry,) if callable(entry) else entry, kind)
    finally:
        gin.clear_config()
        gin_config._LOCATION_PREFIXES[:], gin_config._FILE_READERS[:] = before


def save(directory: pathlib.Path, *, text: str = "") -> None:
    """Writes the configuration beside a run.

    `config.gin` is the text that was given, else all that was parsed;
    `operative_config.gin` is what was used of it, with defaults. Both parse again.
    """
    header = f"{_SAVED} {tfew_jax.__version__}.\n\n"
    for name, content in (
        ("config.gin", text or header + gin.config_str()),
        ("operative_config.gin", header + gin.operative_config_str()),
    ):
        files.write_text(directory / name, content)


def _configurable(
    entries: Sequence[Callable[..., Any]], kind: str
) -> Callable[..., Any]:
    """The one of the entries that has bindings, with them.

    Gin remembers what earlier configurations of the process registered, so that
    only bindings tell whether this one is for an entry.
    """
    bound = {selector for _, selector in gin_config._CONFIG}
    configured = [entry for entry in entries if _selector(entry) in bound]
    names = " or ".join(entry.__name__ for entry in configured or entries)
    if not configured:
        known = [name for name in packaged.names() if name.startswith(f"{kind}/")]
        raise ValueError(
            f"no gin file configures {names}; give one of {', '.join(known)}"
        )
    if len(configured) > 1:
        raise ValueError(f"the gin files configure {names}; give the file of one run")
    return gin.get_configurable(configured[0])


def _selector(entry: Callable[..., Any]) -> str | None:
    """The name under which gin knows a function, if it does."""
    try:
        return gin_config._as_scope_and_selector(entry)[1]
    except (ValueError, KeyError):
        return None


def _check_order(files: Sequence[str]) -> None:
    """Refuses what changes a run before the file of the run, which would undo it."""
    change = None
    for file in files:
        kind = pathlib.PurePath(file).parent.name
        if kind in _CHANGES_OF_RUNS:
            change = change or file
        elif kind in _RUNS and change is not None:
            raise ValueError(
                f"{change} stands before {file}, which sets the same again; give it "
                "after the file of the run"
            )


def _parse_file(file: str, prefixes: Sequence[str]) -> list[str]:
    """Parses one file; returns the macros that the user's own files define."""
    found = [os.path.join(prefix, file) for prefix in prefixes]
    if not any(os.path.isfile(path) for path in found):
        searched = ", ".join(prefix or os.getcwd() for prefix in prefixes)
        raise ValueError(
            f"gin file {file!r} not found; searched {searched}"
            f"{_did_you_mean(file, packaged.names())}"
        )
    with _readable(""), _silent():
        parsed_file = gin.parse_config_file(file)
    return _own_macros(parsed_file, prefixes)


def _own_macros(parsed_file: Any, prefixes: Sequence[str]) -> list[str]:
    """Macros of a parsed file and its includes, packaged and saved files left out."""
    places = [pathlib.Path(prefix, parsed_file.filename) for prefix in prefixes]
    path = next(place for place in places if place.is_file()).resolve()
    own: list[str] = []
    if not path.is_relative_to(packaged.directory().resolve()):
        text = path.read_text("utf-8")
        own += [] if text.startswith(_SAVED) else _MACRO_LINE.findall(text)
    for included in parsed_file.includes:
        own += _own_macros(included, prefixes)
    return own


def _parse_binding(binding: str) -> str | None:
    """Parses one binding; returns the name of the macro, if it is one."""
    name, equals, value = binding.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name:
        raise ValueError(f"--gin.{binding} has no value; write --gin.NAME=VALUE")
    if _is_bare_word(value):
        quoted = f"--gin.{name}=\"'{value}'\""
        raise ValueError(
            f"the value of {name}, {value}, is not a Python literal; "
            f"a string needs quotes that the shell leaves: {quoted}"
        )
    with _readable(f"--gin.{binding}: "), _silent():
        gin.parse_config(f"{name} = {value}")
    return None if "." in name else name


def _is_bare_word(value: str) -> bool:
    """Whether a value is text whose quotes are missing."""
    if not value or any(mark in value for mark in "@%[({\"'"):
        return False
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return True
    return False


def _check_macros(given: Sequence[str]) -> None:
    """Refuses macros that nothing uses and macros without a value.

    A packaged file may define what the run does not use; no other place may.
    """
    values = {
        scope: parameters["value"]
        for (scope, selector), parameters in gin_config._CONFIG.items()
        if selector == _MACRO
    }
    references = gin_config.iterate_references(
        gin_config._CONFIG, to=gin.get_configurable(gin_config.macro)
    )
    used = {reference.config_key[0] for reference in references}
    provided = _packaged_macros() - set(given)
    if idle := sorted(set(values) - used - provided):
        close = _did_you_mean(idle[0], used)
        raise ValueError(
            f"nothing uses the macro {', '.join(idle)}"
            f"{close or f'; this run uses {_listed(used)}'}"
        )
    empty = [name for name in values if repr(values[name]) == "%gin.REQUIRED"]
    if missing := sorted((used - set(values)) | (used & set(empty))):
        raise ValueError("; ".join(map(_how_to_give, missing)))


def _how_to_give(macro: str) -> str:
    files = [
        name
        for name in packaged.names()
        if re.search(
            rf"^#\s+Provides:.*\b{macro}\b",
            (packaged.directory() / name).read_text("utf-8"),
            re.MULTILINE,
        )
    ]
    files.sort(key=lambda name: name != "models/embedded.gin")
    by_file = f", or a gin file such as {files[0]}" if files else ""
    return f"{macro} has no value; give --gin.{macro}=VALUE{by_file}"


def _packaged_macros() -> set[str]:
    """Macros that packaged files define: unused ones of these are no misspelling."""
    texts = [path.read_text("utf-8") for path in packaged.files()]
    return {name for text in texts for name in _MACRO_LINE.findall(text)}


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keeps gin from logging every search path that lacks a file."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)


@contextlib.contextmanager
def _readable(prefix: str) -> Iterator[None]:
    """Turns gin's errors into one line each, with what comes close."""
    try:
        yield
    except _GIN_ERRORS as error:
        message = " ".join(str(error).split())
        message = message.replace("In bindings string line 1 ", "in ")
        hint = ""
        if match := re.search(
            r"'([\w./]+)' doesn't have a parameter named '(\w+)'", message
        ):
            hint = _did_you_mean(match[2], _parameters(match[1]))
        raise ValueError(f"{prefix}{message}{hint}") from error


_GIN_ERRORS = (ValueError, NameError, ImportError, SyntaxError, TypeError, KeyError)
_GIN_ERRORS += (AttributeError, OSError, RuntimeError)


def _parameters(selector: str) -> list[str]:
    try:
        _, selector = gin_config._as_scope_and_selector(selector)
        configurable = gin_config._REGISTRY[selector].wrapped
        return list(inspect.signature(configurable).parameters)
    except (ValueError, TypeError, KeyError):
        return []


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
