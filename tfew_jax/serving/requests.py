"""Requests that wait for a batch: a bounded queue for many threads."""

import collections
import concurrent.futures
import dataclasses
import math
import threading
import time
from collections.abc import Sequence

from tfew_jax import checkpoint
from tfew_jax.experiment import prepared, row_tasks
from tfew_jax.serving.snapshot import Snapshot


class Busy(RuntimeError):
    """The queue is full; the same request may be accepted a little later."""


class Closed(RuntimeError):
    """The server takes no more requests."""


class TooManyRows(ValueError):
    """A request has more rows than may ever wait, so that to try again is no use."""


class UnknownAdapter(ValueError):
    """There is no adapter of that name, or not any more."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A row that was accepted.

    Attributes:
        row: Its tokens.
        name: Of its adapter.
        adapter: The adapter; None for the frozen model alone.
        snapshot: The bank that it was accepted with, and so has that adapter.
        number: Index of the row among those that came with it.
        deadline: In seconds of `time.monotonic`, after which nobody wants the answer.
        accepted: When it was accepted.
        future: Gets the prediction.
    """

    row: row_tasks.SpelledRow
    name: str
    adapter: checkpoint.Adapter | None
    snapshot: Snapshot
    number: int = 0
    deadline: float | None = None
    accepted: float = dataclasses.field(default_factory=time.monotonic)
    future: "concurrent.futures.Future[prepared.Prediction]" = dataclasses.field(
        default_factory=concurrent.futures.Future
    )


class RequestQueue:
    """First come, first served; full at so many rows."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._waiting: collections.deque[Request] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        return self._closed

    def check_size(self, num_rows: int) -> None:
        """Checks that so many rows would fit into the empty queue.

        Raises:
            TooManyRows: If they would not.
        """
        if num_rows > self._max_rows:
            raise TooManyRows(
                f"{num_rows} rows in one request, but no more than {self._max_rows} "
                "may wait; send several requests"
            )

    def put(self, requests: Sequence[Request]) -> None:
        """Accepts all of the requests or none.

        Raises:
            Busy: If they do not fit.
            Closed: If the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise Closed("the server is closed and takes no more requests")
            left = self._max_rows - len(self._waiting)
            if len(requests) > left:
                raise Busy(
                    f"{len(requests)} rows do not fit: {len(self._waiting)} wait "
                    f"already, and {self._max_rows} may; try again a little later"
                )
            self._waiting.extend(requests)
            self._changed.notify_all()

    def take(self, max_rows: int, max_wait: float) -> list[Request] | None:
        """The next requests; waits until there is one.

        Args:
            max_rows: Most to take; as soon as so many wait they are taken.
            max_wait: How many seconds the oldest waits for others at most.

        Returns:
            One request or more; None when the queue is closed and empty.
        """
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            until = self._waiting[0].accepted + max_wait
            while len(self._waiting) < max_rows and not self._closed:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            count = min(max_rows, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def close(self, *, drop: bool) -> list[Request]:
        """Refuses further requests; returns those that were dropped, if any are."""
        with self._changed:
            self._closed = True
            dropped = list(self._waiting) if drop else []
            if drop:
                self._waiting.clear()
            self._changed.notify_all()
        return dropped


def check_timeout(timeout: float | None) -> None:
    """Checks the seconds after which a request is given up; None is for never.

    Raises:
        ValueError: If they are not positive and finite.
    """
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(
            f"timeout={timeout}; expected seconds, more than 0, or None for no timeout"
        )
