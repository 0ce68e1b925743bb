"""Few-shot tuning of frozen T5-family models in JAX.

    base = tfew_jax.load_base()
    result = tfew_jax.fewshot(base, rows, template=..., choices=...)
    result.adapter.save(directory)
    tfew_jax.predict(base, result.adapter, more_rows)

These names are loaded when they are first used, so that importing the package, and
asking the command for help, takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfew_jax.checkpoint import Bank, compose
    from tfew_jax.experiment import fewshot, load_bank, load_base, predict, vote
    from tfew_jax.interop import load_adapter
    from tfew_jax.serving import Server

__version__ = "0.1.0"
__all__ = [
    "Bank",
    "Server",
    "compose",
    "fewshot",
    "load_adapter",
    "load_bank",
    "load_base",
    "predict",
    "vote",
]

_MODULES = {
    "Bank": "tfew_jax.checkpoint",
    "Server": "tfew_jax.serving",
    "compose": "tfew_jax.checkpoint",
    "fewshot": "tfew_jax.experiment",
    "load_adapter": "tfew_jax.interop",
    "load_bank": "tfew_jax.experiment",
    "load_base": "tfew_jax.experiment",
    "predict": "tfew_jax.experiment",
    "vote": "tfew_jax.experiment",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
