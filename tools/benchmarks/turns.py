"""Two or more ways timed in turn, so that what else the machine does hits all alike."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Times(NamedTuple):
    """Seconds of each call of one way."""

    walls: list[float]
    cpus: list[float]


def in_turn(
    ways: Sequence[Callable[[], Any]], *, warmup: int, steps: int
) -> list[Times]:
    """Times of each way, all called once before one is called again."""
    times = [Times([], []) for _ in ways]
    for number in range(warmup + steps):
        for once, some in zip(ways, times, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            once()
            if number >= warmup:
                some.walls.append(time.perf_counter() - wall)
                some.cpus.append(time.process_time() - cpu)
    return times


def paired_ratio(walls: Sequence[float], others: Sequence[float]) -> float:
    """The median of each call's seconds by those of the other's beside it."""
    return statistics.median(a / b for a, b in zip(walls, others, strict=True))
