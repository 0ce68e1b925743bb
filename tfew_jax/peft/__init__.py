"""Parameter-efficient methods: what is added to a frozen model.

A method is one file of this package that defines `METHOD`. Models know none of them:
they call `rescale`, `lengthen` and `dense` where methods may act.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from tfew_jax.peft._base import (
    PeftMethod,
    Site,
    StartContext,
    added_positions,
    dense,
    lengthen,
    rescale,
)

__all__ = [
    "PeftMethod",
    "Site",
    "StartContext",
    "added_positions",
    "dense",
    "from_dict",
    "get",
    "lengthen",
    "names",
    "rescale",
]


def names() -> list[str]:
    """Names of the methods: the public files of this package."""
    found = pkgutil.iter_modules(__path__)
    return sorted(module.name for module in found if not module.name.startswith("_"))


def get(name: str) -> type[PeftMethod]:
    """The class of a method.

    Raises:
        ValueError: If no file of this package has that name.
    """
    if name not in names():
        raise ValueError(
            f"unknown PEFT method {name!r}; available: {', '.join(names())}. "
            f"A new method is a file tfew_jax/peft/{name}.py that defines METHOD."
        )
    return importlib.import_module(f"{__name__}.{name}").METHOD


def from_dict(settings: Mapping[str, Any]) -> PeftMethod:
    """Builds a method from what its `to_dict` returned.

    Raises:
        ValueError: If the method or one of its settings is unknown.
    """
    settings = dict(settings)
    method = get(settings.pop("name", "(none)"))
    return method.from_settings(settings)
