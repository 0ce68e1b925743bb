"""Whether the values of a gin configuration are of the types that functions declare.

Gin passes on whatever it is given, so that a string in place of a number fails deep
inside a run, where nothing knows which binding it came from.
"""

import collections.abc
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import gin
from gin import config as gin_config

_COLLECTIONS = (collections.abc.Sequence, collections.abc.Iterable, list, set)


def check() -> None:
    """Compares every literal of the parsed configuration with its annotation.

    Raises:
        ValueError: If a value is of another type; names binding, value and type.
    """
    for name, value, hint in _bindings():
        if not matches(value, hint):
            raise ValueError(f"{name} must be {_spelled(hint)}, got {value!r}")


def matches(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; whatever is not understood is."""
    if hint is None:
        return value is None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(matches(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple or hint is tuple:
        return isinstance(value, list | tuple) and _items_match(value, arguments)
    if origin is not None and isinstance(origin, type):
        if not isinstance(value, origin):
            return False
        if isinstance(value, collections.abc.Mapping) and len(arguments) == 2:
            pairs = (zip(pair, arguments, strict=True) for pair in value.items())
            return all(matches(part, kind) for pair in pairs for part, kind in pair)
        if origin not in _COLLECTIONS or not arguments:
            return True
        items = [value] if isinstance(value, str) else value
        return all(matches(item, arguments[0]) for item in items)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(hint, type) or _is_instance(value, hint)


def _items_match(values: Sequence[Any], hints: tuple[Any, ...]) -> bool:
    """Whether the items of a tuple are those of its type."""
    if not hints:
        return True
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(values)
    return len(values) == len(hints) and all(map(matches, values, hints))


def _is_instance(value: Any, hint: type) -> bool:
    try:
        return isinstance(value, hint)
    except TypeError:  # a protocol that cannot be asked
        return True


def _bindings() -> Iterator[tuple[str, Any, Any]]:
    """Name, value and annotation of every bound literal; macros by their own name."""
    for (scope, selector), parameters in gin_config._CONFIG.items():
        if selector == "gin.macro":
            continue
        function = gin_config._REGISTRY[selector].wrapped
        target = function.__init__ if isinstance(function, type) else function
        try:
            hints = typing.get_type_hints(target)
        except (NameError, TypeError):
            continue
        for parameter, value in parameters.items():
            name = f"{scope}/" * bool(scope) + f"{selector}.{parameter}"
            if isinstance(value, gin_config.ConfigurableReference):
                macro, known = _macro(value)
                if not known:
                    continue
                name, value = macro, gin_config._CONFIG[macro, "gin.macro"]["value"]
            if _is_literal(value) and parameter in hints:
                yield name, value, hints[parameter]


def _macro(reference: Any) -> tuple[str, bool]:
    """The macro that a reference names, and whether it has a value."""
    name = reference.config_key[0]
    is_macro = reference.configurable.selector == "gin.macro"
    return name, is_macro and (name, "gin.macro") in gin_config._CONFIG


def _is_literal(value: Any) -> bool:
    if value is gin.REQUIRED or isinstance(value, gin_config.ConfigurableReference):
        return False
    if isinstance(value, dict):
        return all(map(_is_literal, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_literal, value))
    return True


def _spelled(hint: Any) -> str:
    """A type as a person reads it."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return "None" if hint is type(None) else hint.__name__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_spelled, typing.get_args(hint)))
    return str(hint).replace("collections.abc.", "").replace("typing.", "")
