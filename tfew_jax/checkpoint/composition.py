"""Several adapters made into one, before a model sees them.

Without weights the one does what all of them do together: (IA)^3 vectors are
multiplied, prompts joined in the order given. With weights its arrays are the weighted
sums of theirs. A forward pass knows nothing of it; the result is an adapter as any
other, to save, to fold or to put into a bank.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfew_jax.checkpoint import layout
from tfew_jax.checkpoint.adapter import Adapter


def compose(
    adapters: Sequence[Adapter], weights: Sequence[float | int] | None = None
) -> Adapter:
    """One adapter that stands for several of the same model and method.

    It carries their task where they all have the same one, and counts as trained on
    every row that one of them was trained on.

    Args:
        adapters: The adapters, whose order matters where prompts are joined.
        weights: Factors of a sum of their arrays, which need not add up to one; None
            for their joint effect.

    Raises:
        ValueError: If there is no adapter, models or methods differ, the number of
            weights is another or one is not finite, or the method cannot do it.
    """
    if not adapters:
        raise ValueError("nothing to compose; give at least one adapter")
    if weights is not None:
        if len(weights) != len(adapters):
            raise ValueError(
                f"{len(weights)} weights for {len(adapters)} adapters; give one each"
            )
        if not np.all(np.isfinite(weights)):
            raise ValueError(f"weights must be finite numbers, got {list(weights)}")
        weights = [float(weight) for weight in weights]
    first = adapters[0]
    for number, adapter in enumerate(adapters):
        adapter.check(first.config, source=f"adapter {number} of those to compose")
    parts = [(adapter.method, layout.flatten(adapter.params)) for adapter in adapters]
    with np.errstate(over="ignore"):  # the check below says where
        method, arrays = first.method.compose(parts, weights)
    composed = Adapter(
        method=method,
        params=layout.unflatten(arrays),
        config=first.config,
        task=_common([adapter.task for adapter in adapters]),
        metadata=_metadata(adapters, weights),
    )
    composed.check(source="the composed adapter")
    return composed


def _metadata(
    adapters: Sequence[Adapter], weights: list[float] | None
) -> dict[str, Any]:
    """What is known of the parts, and still true of the whole."""
    metadata: dict[str, Any] = {
        "composed_of": [adapter.fingerprint for adapter in adapters],
        "weights": weights,
    }
    for name in ("base", "base_fingerprint", "text_task"):
        value = _common([adapter.metadata.get(name) for adapter in adapters])
        if value is not None:
            metadata[name] = value
    rows = {row for a in adapters for row in a.metadata.get("train_rows", ())}
    if rows:
        metadata["train_rows"] = sorted(rows)
    return metadata


def _common(values: Sequence[Any]) -> Any:
    """The value that all have, or None."""
    return values[0] if all(value == values[0] for value in values) else None
