"""Which programs a server has: one a model and a shape of batch."""

import itertools
import threading
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from tfew_jax import models
from tfew_jax.experiment import mixed, row_tasks
from tfew_jax.serving import metrics
from tfew_jax.serving.snapshot import Snapshot


class Programs:
    """Forward passes, counted where they compile."""

    def __init__(self, counts: metrics.Metrics) -> None:
        self._counts = counts
        self._known: set[tuple[models.T5, mixed.Shape]] = set()
        self._lock = threading.Lock()

    def shapes_of(self, model: models.T5) -> list[mixed.Shape]:
        """Shapes that have been compiled for a model."""
        with self._lock:
            return sorted(shape for other, shape in self._known if other == model)

    def score(
        self,
        snapshot: Snapshot,
        rows: Sequence[row_tasks.SpelledRow],
        index: Int[np.ndarray, " rows"],
        shape: mixed.Shape,
    ) -> list[Float[np.ndarray, " _"]]:
        """As `mixed.score`."""
        scores = mixed.score(snapshot.model, snapshot.params, rows, index, shape)
        self._add(snapshot.model, shape)
        return scores

    def warm_up(self, snapshot: Snapshot, shape: mixed.Shape) -> bool:
        """Compiles a shape; False where that has been done."""
        with self._lock:
            if (snapshot.model, shape) in self._known:
                return False
        blank = row_tasks.SpelledRow(
            inputs=np.ones(1, np.int32),
            targets=np.ones((2, 1), np.int32),
            choices=("", " "),
            normalization="mean",
        )
        mixed.score(
            snapshot.model, snapshot.params, [blank], np.zeros(1, np.int32), shape
        )
        return self._add(snapshot.model, shape)

    def _add(self, model: models.T5, shape: mixed.Shape) -> bool:
        with self._lock:
            if (model, shape) in self._known:
                return False
            self._known.add((model, shape))
        self._counts.count("compilations")
        return True


def warm_up_shapes(
    targets: Iterable[Int[np.ndarray, "_ _"]],
    lengths: Sequence[int],
    max_rows: int,
) -> list[mixed.Shape]:
    """The shapes of all batches of rows with these choices and lengths of input.

    Args:
        targets: Token ids of the choices of each task.
        lengths: Tokens of inputs.
        max_rows: Most rows of a batch.

    Raises:
        ValueError: If a length is not positive.
    """
    if any(length < 1 for length in lengths):
        raise ValueError(f"lengths={list(lengths)}; each is 1 or more")
    sizes = [
        mixed.shape_of(
            [
                row_tasks.SpelledRow(
                    inputs=np.ones(length, np.int32),
                    targets=tokens,
                    choices=(),
                    normalization="mean",
                )
            ],
            max_rows=1,
        )
        for tokens in targets
        for length in lengths
    ]
    rows = {mixed.padded_rows(n, max_rows) for n in range(1, max_rows + 1)}
    # One row of a batch may have most choices and another the longest.
    return sorted(
        {
            mixed.Shape(
                number,
                length,
                max(one.choices, other.choices),
                max(one.target_length, other.target_length),
            )
            for one, other in itertools.product(sizes, repeat=2)
            for length in (one.length, other.length)
            for number in rows
        }
    )
