"""The thread that computes: batches of what waits, answered by the right bank."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from tfew_jax.experiment import mixed
from tfew_jax.serving import metrics, passes, programs
from tfew_jax.serving.requests import Request, RequestQueue
from tfew_jax.serving.snapshot import Snapshot

log = logging.getLogger(__name__)


class Worker(threading.Thread):
    """Answers requests until their queue is closed and empty.

    Attributes:
        num_rows: Rows at work.
    """

    def __init__(
        self,
        queue: RequestQueue,
        compiled: programs.Programs,
        counts: metrics.Metrics,
        *,
        max_batch_size: int,
        max_wait: float,
        current: Callable[[], Snapshot],
    ) -> None:
        super().__init__(name="tfew_jax server", daemon=True)
        self._queue = queue
        self._programs = compiled
        self._counts = counts
        self._max_batch_size = max_batch_size
        self._max_wait = max_wait
        self._current = current
        self.num_rows = 0

    def run(self) -> None:
        """Takes and answers; see `threading.Thread`."""
        while True:
            taken = self._queue.take(self._max_batch_size, self._max_wait)
            if taken is None:
                return
            self.num_rows = len(taken)
            for snapshot, group in passes.plan(
                taken, current=self._current(), max_rows=self._max_batch_size
            ):
                self._run_pass(snapshot, group)
            self.num_rows = 0

    def _run_pass(self, snapshot: Snapshot, group: Sequence[Request]) -> None:
        requests = [request for request in group if self._begin(request)]
        if not requests:
            return
        try:
            self._answer(snapshot, requests)
        except Exception as error:  # nobody may wait for ever
            log.exception("a batch failed")
            for request in requests:
                if not request.future.done():
                    self._fail(request, error)

    def _begin(self, request: Request) -> bool:
        """Whether somebody still waits for the request, which is at work then."""
        if not request.future.set_running_or_notify_cancel():
            self._counts.count("cancelled")
            return False
        if request.deadline is not None and time.monotonic() > request.deadline:
            self._counts.count("timed_out")
            request.future.set_exception(
                TimeoutError("the row waited in the queue for longer than its timeout")
            )
            return False
        return True

    def _answer(self, snapshot: Snapshot, requests: Sequence[Request]) -> None:
        """Scores the requests; where that fails, each half on its own."""
        index = [snapshot.slot_of(request.adapter) for request in requests]
        rows = [request.row for request in requests]
        shape = mixed.shape_of(rows, max_rows=self._max_batch_size)
        try:
            scores = self._programs.score(
                snapshot, rows, np.asarray(index, np.int32), shape
            )
        except Exception as error:
            if len(requests) > 1:
                half = len(requests) // 2
                self._answer(snapshot, requests[:half])
                self._answer(snapshot, requests[half:])
                return
            log.warning("a row of adapter %s failed: %s", requests[0].name, error)
            self._fail(requests[0], error)
            return
        self._counts.add_batch(len(requests))
        for request, values in zip(requests, scores, strict=True):
            try:
                prediction = mixed.make_prediction(
                    request.row, values, number=request.number, adapter=request.name
                )
            except ValueError:
                self._fail(
                    request,
                    ValueError(
                        f"the scores of adapter {request.name} hold NaN; it or the "
                        "model diverged, use an earlier one"
                    ),
                )
                continue
            seconds = time.monotonic() - request.accepted
            self._counts.add_answer(request.name, seconds)
            request.future.set_result(prediction)

    def _fail(self, request: Request, error: Exception) -> None:
        self._counts.count("failed")
        request.future.set_exception(error)
