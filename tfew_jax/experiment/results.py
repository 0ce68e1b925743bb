"""What an experiment leaves, and what it was made with."""

import dataclasses
import importlib.metadata
import pathlib
import platform
from typing import Any

import jax

import tfew_jax
from tfew_jax import checkpoint
from tfew_jax.experiment import prepared

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment leaves, whatever it was of.

    Attributes:
        summary: As in `summary.json`.
        predictions: By the run of the first seed of the rows to predict, else of the
            test rows; else every row's by the run that had not seen it.
        records: As in `results.jsonl`.
        directory: Where all this lies, or None.
    """

    summary: dict[str, Any]
    predictions: list[prepared.Prediction]
    records: list[dict[str, Any]]
    directory: pathlib.Path | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewshotResult(Result):
    """What tuning leaves: an adapter as well, by which rows are predicted.

    Attributes:
        adapter: The one in `adapter/`, chosen before any score is known.
    """

    adapter: checkpoint.Adapter


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    return {
        "tfew_jax": tfew_jax.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "device": jax.devices()[0].device_kind,
    }
