"""Which of the rows that wait share a forward pass.

The rows of a pass are padded to the largest of them: beside one row of 77 choices
thirty rows of two would have 77 as well. Rows of unlike sizes therefore share a pass
only where that costs little more than passes of their own.
"""

from collections.abc import Sequence

from tfew_jax.experiment import mixed
from tfew_jax.serving.requests import Request
from tfew_jax.serving.snapshot import Snapshot

_MOST_PADDING = 1.5  # times the work of passes of rows of one size each


def plan(
    requests: Sequence[Request], *, current: Snapshot, max_rows: int
) -> list[tuple[Snapshot, list[Request]]]:
    """The passes that answer requests, that of the oldest first.

    Args:
        requests: One or more, the oldest first; so are those of each pass.
        current: The bank of now, which answers those whose adapter it has.
        max_rows: Most rows of a pass.
    """
    order = {request: number for number, request in enumerate(requests)}
    passes = [
        (snapshot, sorted(part, key=order.__getitem__))
        for snapshot, group in _by_snapshot(current, requests)
        for part in _by_size(group, max_rows)
    ]
    return sorted(passes, key=lambda found: order[found[1][0]])


def _by_snapshot(
    current: Snapshot, requests: Sequence[Request]
) -> list[tuple[Snapshot, list[Request]]]:
    """Requests that one bank can answer: that of now, where it has their adapters."""
    groups: dict[int, tuple[Snapshot, list[Request]]] = {}
    for request in requests:
        there = current.slot_of(request.adapter) is not None
        snapshot = current if there else request.snapshot
        groups.setdefault(id(snapshot), (snapshot, []))[1].append(request)
    return list(groups.values())


def _by_size(requests: Sequence[Request], max_rows: int) -> list[list[Request]]:
    sizes: dict[mixed.Shape, list[Request]] = {}
    for request in requests:
        shape = mixed.shape_of([request.row], max_rows=1)
        sizes.setdefault(shape, []).append(request)
    parts: list[list[Request]] = []
    apart = 0  # work of the sizes of the last part, had each a pass of its own
    for shape in sorted(sizes, key=_work, reverse=True):
        group = sizes[shape]
        alone = _work_together(group, max_rows)
        if parts:
            joined = [*parts[-1], *group]
            if _work_together(joined, max_rows) <= _MOST_PADDING * (apart + alone):
                parts[-1] = joined
                apart += alone
                continue
        parts.append(group)
        apart = alone
    return parts


def _work_together(requests: Sequence[Request], max_rows: int) -> int:
    rows = [request.row for request in requests]
    return _work(mixed.shape_of(rows, max_rows=max_rows))


def _work(shape: mixed.Shape) -> int:
    """Tokens that the model sees, pads included."""
    return shape.rows * (shape.length + shape.choices * shape.target_length)
