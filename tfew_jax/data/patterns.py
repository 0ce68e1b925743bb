"""Sandboxed jinja2 patterns with promptsource's helpers.

A pattern is one piece of a template: the input, the target or the choices. It knows
which columns it needs, and turns every failure into one line that names the pattern,
what went wrong and the columns there are.
"""

import collections
import functools
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.filters
import jinja2.meta
import jinja2.nodes
import jinja2.runtime
import jinja2.sandbox

from tfew_jax.data import labels

SEPARATOR = "|||"
MAX_VARIABLE_LENGTH = 2048  # characters; promptsource's TEXT_VAR_LENGTH
# Stands for the separator inside columns while rendering; not a character of any text.
_PROTECTED = "\ufdd0" * len(SEPARATOR)
_RANDOM = "_tfew_random"
_FAILURES = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class TemplateError(ValueError):
    """A template that cannot be read, or a row that it cannot render."""


def protect(value: Any) -> Any:
    """The value with `|||` hidden in all its texts, so that it does not split."""
    if isinstance(value, str):
        return value.replace(SEPARATOR, _PROTECTED)
    if isinstance(value, dict):
        return {key: protect(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [protect(item) for item in value]
    return value


def split(text: str) -> list[str]:
    """The stripped parts between separators, with those of columns restored."""
    parts = text.split(SEPARATOR)
    return [part.strip().replace(_PROTECTED, SEPARATOR) for part in parts]


def seed_of(row: Mapping[str, Any]) -> int:
    """A seed that depends on what stands in a row, not on its place."""
    return zlib.crc32(json.dumps(row, sort_keys=True, default=str).encode())


def parse(text: str, *, name: str, truncate: bool) -> jinja2.nodes.Template:
    """The syntax tree of a template text.

    Raises:
        TemplateError: The text is no jinja2.
    """
    try:
        return _environment(truncate).parse(text)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"{name}: not a jinja2 template ({_line(error)}, line {error.lineno}); "
            'a column is written {{column}}, or {{row["my column"]}} if its name is '
            "more than one word"
        ) from None


class Pattern:
    """One compiled piece of a template.

    Attributes:
        name: How messages name it.
        names: Variables that it reads, whether a row has them or not.
    """

    def __init__(self, tree: jinja2.nodes.Template, *, name: str, truncate: bool):
        environment = _environment(truncate)
        tree.set_environment(environment)
        self.name = name
        try:
            used = jinja2.meta.find_undeclared_variables(tree)
            self._template = environment.from_string(tree)
        except jinja2.TemplateError as error:  # an unknown filter or test
            raise TemplateError(f"{name}: {_line(error)}") from None
        self.names: frozenset[str] = frozenset(used) - set(environment.globals)
        self._required = self.names - _provided_for(tree) - {"row"}

    def render(self, columns: Mapping[str, Any], *, seed: int) -> str:
        """The text, with `|||` of columns still protected.

        Args:
            columns: Values, already protected.
            seed: Seed of the filter `choice`.

        Raises:
            TemplateError: A column is missing or empty, or an expression fails or is
                unsafe.
        """
        self._check(columns)
        generator = {_RANDOM: random.Random(seed)}
        row = {} if "row" in columns else {"row": columns}
        try:
            return self._template.render({**columns, **row, **generator})
        except jinja2.exceptions.SecurityError as error:
            raise TemplateError(
                f"{self.name}: unsafe expression ({_line(error)}); templates read "
                "columns, they do not reach into Python"
            ) from None
        except jinja2.UndefinedError as error:
            raise self._missing(_line(error), columns) from None
        except (jinja2.TemplateError, *_FAILURES) as error:
            raise TemplateError(
                f"{self.name}: an expression fails ({_line(error)})"
            ) from None

    def _check(self, columns: Mapping[str, Any]) -> None:
        for name in sorted(self._required):
            if name not in columns:
                raise self._missing(f"column {name!r} is missing", columns)
            if labels.is_empty(columns[name]):
                raise TemplateError(
                    f"{self.name}: column {name!r} is empty; fill it in, or write "
                    f"{{% if {name} %}} around the text that needs it"
                )

    def _missing(self, problem: str, columns: Mapping[str, Any]) -> TemplateError:
        there = [name for name in columns if name != "answer_choices"]
        return TemplateError(
            f"{self.name}: {problem}; the row's columns are {labels.show(there)}"
        )


def _provided_for(tree: jinja2.nodes.Template) -> set[str]:
    """Variables for which a condition or a default provides where they are empty."""
    nodes = jinja2.nodes
    places: list[jinja2.nodes.Node] = [
        *(node.test for node in tree.find_all((nodes.If, nodes.CondExpr))),
        *(node for node in tree.find_all(nodes.Or)),
        *(f for f in tree.find_all(nodes.Filter) if f.name in ("default", "d")),
    ]
    found = set()
    for place in places:
        names = [place] if isinstance(place, nodes.Name) else []
        found |= {name.name for name in [*names, *place.find_all(nodes.Name)]}
    return found


@functools.cache
def _environment(truncate: bool) -> jinja2.sandbox.SandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        finalize=functools.partial(_finalize, truncate=truncate),
    )
    del environment.globals["lipsum"]  # random text
    environment.globals["zip"] = zip
    environment.filters["choice"] = _choice
    environment.filters["random"] = _choice  # jinja2's own is not reproducible
    environment.filters["most_frequent"] = _most_frequent
    environment.filters["highlight"] = _highlight
    return environment


def _finalize(value: Any, *, truncate: bool) -> str:
    """What `{{value}}` prints."""
    if isinstance(value, jinja2.Undefined):
        return str(value)  # raises, naming what is missing
    if value is None:
        raise ValueError("it gives null; add `| default('', true)` if that is meant")
    if callable(value):
        raise TypeError(f"{value!r} is a function, not a column")
    text = str(value)
    if not truncate:
        return text
    return jinja2.filters.do_truncate(_environment(True), text, MAX_VARIABLE_LENGTH)


@jinja2.pass_context
def _choice(context: jinja2.runtime.Context, items: Sequence[Any]) -> Any:
    return context.resolve(_RANDOM).choice(list(items))


def _most_frequent(items: Sequence[Any]) -> list[Any]:
    """All items that occur most often, in their order."""
    counts = collections.Counter(items)
    most = max(counts.values(), default=0)
    return [item for item, count in counts.items() if count == most]


def _highlight(text: str) -> str:
    return f"<span style='color: #F08080'>{text}</span>"


def _line(error: BaseException) -> str:
    message = error.message if isinstance(error, jinja2.TemplateError) else str(error)
    return " ".join((message or type(error).__name__).split())
