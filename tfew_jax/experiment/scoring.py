"""Scores of prepared rows, and where a run keeps them."""

import contextlib
import io
import pathlib

import numpy as np
from jaxtyping import Float, Int

from tfew_jax import checkpoint, evaluate, models, train
from tfew_jax.data import batching
from tfew_jax.experiment import directory, memory, prepared
from tfew_jax.experiment.base import Base
from tfew_jax.types import Params

Scores = tuple[Float[np.ndarray, "rows choices"], Int[np.ndarray, " rows"]]


def score_split(
    base: Base,
    split: prepared.Split,
    *,
    adapter: checkpoint.Adapter | None,
    batch_size: int,
    normalization: str,
) -> list[prepared.Prediction]:
    """Predictions of all rows by an adapter, or by the frozen model alone."""
    model, params = adapted(base, adapter)
    batches = batching.eval_batches(split.tokens, batch_size)
    with explained_memory(base, batch_size):
        scores, ids = evaluate.score_choices(
            model, params, batches, normalization=normalization
        )
    return prepared.make_predictions(split, ids, scores, evaluate.predict(scores))


def score_members(
    base: Base,
    split: prepared.Split,
    bank: checkpoint.Bank,
    *,
    batch_size: int,
    normalization: str,
) -> tuple[Float[np.ndarray, "members rows choices"], Int[np.ndarray, " rows"]]:
    """Scores of all rows by every adapter of a bank, and the rows they are of.

    A batch holds each of its rows once for every adapter, and as many of both as
    `batch_size` allows: with five adapters and a size of 32, six rows. More adapters
    than that are scored in groups.

    Raises:
        ValueError: If the batch size is not positive.
    """
    model, params = adapted(base, bank)
    groups, num_rows = member_groups(bank, batch_size)
    parts = []
    for members in groups:
        batches = batching.eval_batches(split.tokens, num_rows)
        with explained_memory(base, batch_size):
            part = evaluate.score_members(
                model, params, batches, members, normalization=normalization
            )
        parts.append(part)
    return np.concatenate([scores for scores, _ in parts]), parts[0][1]


def member_groups(
    bank: checkpoint.Bank, batch_size: int
) -> tuple[list[list[int]], int]:
    """Slots of the adapters that go into a batch together, and for how many rows.

    Raises:
        ValueError: If the batch size is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected 1 or more")
    slots = np.array_split(1 + np.arange(len(bank)), -(-len(bank) // batch_size))
    return [group.tolist() for group in slots], batch_size // len(slots[0])


def diverged(place: str, adapter: str) -> ValueError:
    """What to raise where an adapter's scores of a row are NaN."""
    return ValueError(
        f"{place}: the scores of adapter {adapter} hold NaN; it or the model diverged, "
        "use an earlier one"
    )


def explained_memory(
    base: Base, batch_size: int
) -> contextlib.AbstractContextManager[None]:
    """Says of a device without memory what scoring needs and what helps."""
    return memory.explained(
        base.params,
        lambda: (
            f"{batch_size} rows with all their choices at once do not fit beside it"
        ),
        "A smaller EVAL_BATCH_SIZE and shorter TASK_FEATURE_LENGTHS help",
    )


def adapted(
    base: Base, adapter: checkpoint.Adapter | checkpoint.Bank | None
) -> tuple[models.T5, Params]:
    """The model of an adapter or a bank, or the frozen one alone; its parameters."""
    if adapter is None:
        return models.T5(base.config, None), base.packed
    stack = models.stack_layers if base.config.scan_layers else models.unstack_layers
    frozen = train.frozen_half(base.packed, adapter.method)
    params = train.combine(stack(adapter.params), frozen)
    return models.T5(base.config, adapter.method), params


def save(path: pathlib.Path, scored: Scores) -> None:
    """Writes scores and row numbers, exactly."""
    data = io.BytesIO()
    np.savez(data, scores=scored[0], rows=scored[1])
    directory.write_bytes(path, data.getvalue())


def load(path: pathlib.Path) -> Scores:
    """Reads what `save` wrote."""
    with np.load(path) as arrays:
        return arrays["scores"], arrays["rows"]
