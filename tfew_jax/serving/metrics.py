"""What a server has done, as numbers: for Python, and as Prometheus reads them."""

import bisect
import collections
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
OUTCOMES = ("completed", "failed", "cancelled", "timed_out")
_HELP = {
    "accepted": "Rows that were accepted.",
    "rejected": "Rows that found the queue full or the server closed.",
    "completed": "Rows that were answered.",
    "failed": "Rows that the model could not score.",
    "cancelled": "Rows that nobody waited for any more.",
    "timed_out": "Rows that waited for too long.",
    "batches": "Forward passes.",
    "compilations": "Programs: one a shape of batch and a size of bank.",
    "swaps": "Changes of the adapters.",
}


class Histogram:
    """Counts of values by upper bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)  # the last one: above all bounds
        self.total = 0.0

    def add(self, value: int | float) -> None:
        """Counts a value."""
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value

    def to_dict(self) -> dict[str, Any]:
        """Counts up to each bound, as Prometheus has them, with number and sum."""
        counts, below = {}, 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            below += count
            counts[bound] = below
        return {"counts": counts, "number": sum(self.counts), "sum": self.total}


class Metrics:
    """Numbers that several threads count up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_HELP, 0)
        self._latency = Histogram(SECONDS)
        self._batch_rows = Histogram(ROWS)
        self._adapters: collections.Counter[str] = collections.Counter()
        self._responses: collections.Counter[int] = collections.Counter()

    def count(self, name: str, number: int = 1) -> None:
        """Adds to one of the counts."""
        with self._lock:
            self._counts[name] += number

    def add_batch(self, num_rows: int) -> None:
        """Counts a forward pass."""
        with self._lock:
            self._counts["batches"] += 1
            self._batch_rows.add(num_rows)

    def add_answer(self, adapter: str, seconds: float) -> None:
        """Counts a row that was answered so long after it was accepted."""
        with self._lock:
            self._counts["completed"] += 1
            self._adapters[adapter] += 1
            self._latency.add(seconds)

    def add_response(self, status: int) -> None:
        """Counts an answer over HTTP."""
        with self._lock:
            self._responses[status] += 1

    def to_dict(self) -> dict[str, Any]:
        """All numbers, of one moment."""
        with self._lock:
            return {
                **self._counts,
                "latency_seconds": self._latency.to_dict(),
                "batch_rows": self._batch_rows.to_dict(),
                "adapters": dict(self._adapters),
                "responses": dict(self._responses),
            }


def prometheus_text(numbers: Mapping[str, Any]) -> str:
    """Numbers of `Server.metrics` in Prometheus's text format, version 0.0.4."""
    return "\n".join(_lines(numbers)) + "\n"


def _lines(numbers: Mapping[str, Any]) -> Iterator[str]:
    for name, text in _HELP.items():
        yield from _metric(f"{name}_total", "counter", text, {"": numbers[name]})
    for name, text in (
        ("queue_rows", "Rows that wait for a batch."),
        ("running_rows", "Rows of the batch at work."),
        ("bank_adapters", "Adapters in the bank."),
    ):
        yield from _metric(name, "gauge", text, {"": numbers[name]})
    labelled = (
        ("adapter_completed_total", "Answered rows.", "adapter", numbers["adapters"]),
        ("http_responses_total", "Answers.", "status", numbers["responses"]),
    )
    for name, text, label, found in labelled:
        values = {f'{{{label}="{_escape(str(k))}"}}': v for k, v in found.items()}
        yield from _metric(name, "counter", text, values)
    yield from _histogram(
        "latency_seconds",
        "From being accepted to being answered.",
        numbers["latency_seconds"],
    )
    yield from _histogram("batch_rows", "Rows of a batch.", numbers["batch_rows"])


def _metric(
    name: str, kind: str, text: str, values: Mapping[str, int | float]
) -> Iterator[str]:
    yield f"# HELP tfew_{name} {text}"
    yield f"# TYPE tfew_{name} {kind}"
    for labels, value in values.items():
        yield f"tfew_{name}{labels} {value}"


def _histogram(name: str, text: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield f"# HELP tfew_{name} {text}"
    yield f"# TYPE tfew_{name} histogram"
    for bound, count in found["counts"].items():
        yield f'tfew_{name}_bucket{{le="{bound:g}"}} {count}'
    yield f'tfew_{name}_bucket{{le="+Inf"}} {found["number"]}'
    yield f"tfew_{name}_sum {found['sum']}"
    yield f"tfew_{name}_count {found['number']}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
