"""Sandboxed jinja2 patterns with promptsource's helpers.

A pattern is one piece of a template: the input, the target or the choices. It knows
which columns it needs, and turns every failure into one line that names the pattern,
what went wrong and the columns there are.

Patterns are strict unless they are promptsource's own (`strict=False`), which rely on
what jinja2 does by default: an empty column, null or an undefined name prints something
instead of being an error, and lists made inside a template may be appended to.
"""

import collections
import functools
import json
import random
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

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
# What promptsource writes for the end of every printed expression. The filters bind
# to the last operand alone, as they do there.
_CUT = f" | string | truncate({MAX_VARIABLE_LENGTH}) }}}}"
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


def parse(
    text: str, *, name: str, truncate: bool, strict: bool = True
) -> jinja2.nodes.Template:
    """The syntax tree of a template text.

    Raises:
        TemplateError: The text is no jinja2.
    """
    if truncate and not strict:
        text = text.replace("}}", _CUT)
    try:
        return _environment(truncate, strict).parse(text)
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

    def __init__(
        self,
        tree: jinja2.nodes.Template,
        *,
        name: str,
        truncate: bool,
        strict: bool = True,
    ):
        environment = _environment(truncate, strict)
        tree.set_environment(environment)
        self.name = name
        try:
            used = jinja2.meta.find_undeclared_variables(tree)
            self._template = environment.from_string(tree)
        except jinja2.TemplateError as error:  # an unknown filter or test
            raise TemplateError(f"{name}: {_line(error)}") from None
        self.names: frozenset[str] = frozenset(used) - set(environment.globals)
        self._required = self.names - _provided_for(tree, strict) - {"row"}
        self._strict = strict

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
            if self._strict and labels.is_empty(columns[name]):
                raise TemplateError(
                    f"{self.name}: column {name!r} is empty; fill it in, or write "
                    f"{{% if {name} %}} around the text that needs it"
                )

    def _missing(self, problem: str, columns: Mapping[str, Any]) -> TemplateError:
        there = [name for name in columns if name != "answer_choices"]
        return TemplateError(
            f"{self.name}: {problem}; the row's columns are {labels.show(there)}"
        )


def _provided_for(tree: jinja2.nodes.Template, strict: bool) -> set[str]:
    """Variables for which the template provides where there is nothing to print.

    A default provides for a column that is missing; where empty columns are errors,
    too, a condition provides for one that is empty.
    """
    nodes = jinja2.nodes
    places: list[jinja2.nodes.Node] = [
        *(f for f in tree.find_all(nodes.Filter) if f.name in ("default", "d")),
        *(test for test in tree.find_all(nodes.Test) if test.name.endswith("defined")),
    ]
    if strict:
        tests = tree.find_all((nodes.If, nodes.CondExpr))
        places += [*(node.test for node in tests), *tree.find_all(nodes.Or)]
    found = set()
    for place in places:
        names = [place] if isinstance(place, nodes.Name) else []
        found |= {name.name for name in [*names, *place.find_all(nodes.Name)]}
    return found


class _Lenient(jinja2.sandbox.SandboxedEnvironment):
    """A sandbox that is loud although its undefined values print nothing."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> NoReturn:
        raise jinja2.exceptions.SecurityError(
            f"access to attribute {attribute!r} of {type(obj).__name__!r} object is "
            "unsafe."
        )


@functools.cache
def _environment(truncate: bool, strict: bool) -> jinja2.sandbox.SandboxedEnvironment:
    if strict:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            undefined=jinja2.StrictUndefined,
            finalize=functools.partial(_finalize, truncate=truncate),
        )
    else:
        environment = _Lenient()
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
    return jinja2.filters.do_truncate(
        _environment(True, True), text, MAX_VARIABLE_LENGTH
    )


@jinja2.pass_context
def _choice(context: jinja2.runtime.Context, items: Sequence[Any]) -> Any:
    return context.resolve(_RANDOM).choice(list(items))


def _most_frequent(items: Sequence[Any]) -> list[Any] | None:
    """All items that occur most often, in their order; None if there are no items."""
    if not items:
        return None
    counts = collections.Counter(items)
    most = max(counts.values())
    return [item for item, count in counts.items() if count == most]


def _highlight(text: str) -> str:
    return f"<span style='color: #F08080'>{text}</span>"


def _line(error: BaseException) -> str:
    message = error.message if isinstance(error, jinja2.TemplateError) else str(error)
    return " ".join((message or type(error).__name__).split())
