"""Requests of many threads in batches of any mix of adapters, which come and go.

One thread computes: it takes the rows that wait, at most `max_batch_size`, and scores
them in one forward pass, or in several where their sizes are unlike. A row is rendered
by the thread that brings it, so that a row that cannot be rendered never meets others.
The bank is never changed but replaced: a row that was accepted is answered by the
adapter it was accepted with, whatever has become of its name since.
"""

import concurrent.futures
import dataclasses
import math
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from tfew_jax import checkpoint
from tfew_jax.experiment import applying, banks, mixed, prepared
from tfew_jax.experiment.base import Base
from tfew_jax.serving import metrics, programs, requests, worker
from tfew_jax.serving.requests import Closed, Request, RequestQueue, UnknownAdapter
from tfew_jax.serving.snapshot import Snapshot

Row = Mapping[str, Any]
Future = concurrent.futures.Future


class Server:
    """Predicts rows for as long as it is open; threads may share it."""

    def __init__(
        self,
        base: Base,
        bank: checkpoint.Bank | applying.PathLike,
        *,
        max_batch_size: int = 32,
        max_wait: float = 0.005,
        max_queue: int = 1024,
        timeout: float | None = None,
        own_templates: bool = True,
    ) -> None:
        """Puts the bank beside the base and starts the thread that computes.

        Args:
            base: The frozen model.
            bank: The adapters, or where they lie; see `experiment.load_bank`. Free
                slots let adapters come without compiling again; a bank that has none
                gets twice its slots. More adapters than slots, longer prompts and more
                sites compile, before they are used.
            max_batch_size: Most rows of a forward pass.
            max_wait: Seconds that a row waits for others to fill its batch.
            max_queue: Most rows that wait; more are refused.
            timeout: Seconds after which a row that still waits is given up; None for
                never. Each request may have its own.
            own_templates: Whether rows of `__base__` and of adapters without a task
                may bring `template` and `choices`.

        Raises:
            ValueError: If a setting is out of range, or an adapter does not fit.
        """
        _check_settings(max_batch_size, max_wait, max_queue, timeout)
        if not isinstance(bank, checkpoint.Bank):
            bank = banks.load_bank(bank, base)
        if len(bank) == bank.capacity:
            bank = dataclasses.replace(bank, capacity=2 * bank.capacity)
        self._base = base
        self._max_batch_size = max_batch_size
        self._timeout = timeout
        self._own_templates = own_templates
        self._snapshot = Snapshot.make(base, bank, own_templates=own_templates)
        self._queue = RequestQueue(max_queue)
        self._metrics = metrics.Metrics()
        self._programs = programs.Programs(self._metrics)
        self._swapping = threading.Lock()
        self._worker = worker.Worker(
            self._queue,
            self._programs,
            self._metrics,
            max_batch_size=max_batch_size,
            max_wait=max_wait,
            current=lambda: self._snapshot,
        )
        self._worker.start()

    @property
    def base(self) -> Base:
        """The frozen model."""
        return self._base

    @property
    def bank(self) -> checkpoint.Bank:
        """The adapters as they are now."""
        return self._snapshot.bank

    @property
    def closed(self) -> bool:
        """Whether no more rows are accepted."""
        return self._queue.closed

    def metrics(self) -> dict[str, Any]:
        """Counts, the queue's length, and histograms of latency and batch sizes."""
        return {
            **self._metrics.to_dict(),
            "queue_rows": len(self._queue),
            "running_rows": self._worker.num_rows,
            "bank_adapters": len(self.bank),
        }

    def count_response(self, status: int) -> None:
        """Counts an answer over HTTP among the metrics."""
        self._metrics.add_response(status)

    def submit(
        self, row: Row, adapter: str | None = None, *, timeout: float | None = None
    ) -> "Future[prepared.Prediction]":
        """Accepts a row; the future gets its prediction.

        Args:
            row: Columns and values; a label is not read.
            adapter: The name of its adapter; None for `__base__`.
            timeout: Seconds; None for the server's.

        Raises:
            UnknownAdapter: If there is no such adapter.
            ValueError: If the row cannot be rendered.
            Busy: If the queue is full.
            Closed: If the server is closed.
        """
        [future] = self.submit_rows([row], adapter, timeout=timeout)
        return future

    def submit_rows(
        self,
        rows: Sequence[Row],
        adapters: Sequence[str | None] | str | None = None,
        *,
        timeout: float | None = None,
    ) -> "list[Future[prepared.Prediction]]":
        """Accepts all of the rows or none; a future a row.

        Args:
            rows: One or more.
            adapters: The adapter of each row, or one for all; None for `__base__`.
            timeout: Seconds; None for the server's.

        Raises:
            UnknownAdapter: If there is no such adapter.
            TooManyRows: If so many may never wait.
            ValueError: If there are no rows or not as many adapters, a row cannot be
                rendered, or the timeout is not positive and finite.
            Busy: If not all of them fit into the queue.
            Closed: If the server is closed.
        """
        requests.check_timeout(timeout)
        self._queue.check_size(len(rows))
        names: Any = [None] * len(rows) if adapters is None else adapters
        names, rows = mixed.named_rows(rows, names, mixed.ADAPTER_FIELD)
        timeout = self._timeout if timeout is None else timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        snapshot = self._snapshot
        accepted = [
            _accept(snapshot, row, name, number, deadline)
            for number, (row, name) in enumerate(zip(rows, names, strict=True))
        ]
        try:
            self._queue.put(accepted)
        except RuntimeError:
            self._metrics.count("rejected", len(accepted))
            raise
        self._metrics.count("accepted", len(accepted))
        return [request.future for request in accepted]

    def predict(
        self,
        rows: Sequence[Row],
        adapters: Sequence[str | None] | str | None = None,
        *,
        timeout: float | None = None,
    ) -> list[prepared.Prediction]:
        """Predictions in the order of the rows; waits for them.

        The arguments are those of `submit_rows`.

        Raises:
            TimeoutError: If they take too long.
            ValueError: As `submit_rows`; or a row's scores hold NaN.
            Busy: If not all of them fit into the queue.
            Closed: If the server is closed.
        """
        timeout = self._timeout if timeout is None else timeout
        until = math.inf if timeout is None else time.monotonic() + timeout
        futures = self.submit_rows(rows, adapters, timeout=timeout)
        try:
            return [
                future.result(
                    None if timeout is None else max(0.0, until - time.monotonic())
                )
                for future in futures
            ]
        except concurrent.futures.CancelledError:
            raise Closed(
                "the server was closed before the rows were answered"
            ) from None
        finally:
            for future in futures:
                future.cancel()  # those that nobody waits for any more

    def add_adapter(
        self, name: str, adapter: checkpoint.Adapter | applying.PathLike
    ) -> None:
        """Adds an adapter, known when this returns.

        Raises:
            ValueError: If the name is taken, or it cannot be read or does not fit.
            Closed: If the server is closed.
        """
        loaded = self._load(name, adapter)
        with self._swapping:
            self._swap(self.bank.add(name, loaded))

    def replace_adapter(
        self, name: str, adapter: checkpoint.Adapter | applying.PathLike
    ) -> None:
        """Puts another adapter in the place of one.

        Raises:
            UnknownAdapter: If there is none of that name.
            ValueError: If it cannot be read or does not fit.
            Closed: If the server is closed.
        """
        loaded = self._load(name, adapter)
        with self._swapping:
            _check_known(self.bank, name)
            self._put(name, loaded)

    def put_adapter(
        self, name: str, adapter: checkpoint.Adapter | applying.PathLike
    ) -> bool:
        """Adds an adapter, or puts it in the place of the one of that name.

        Returns:
            Whether there was none of that name.

        Raises:
            ValueError: If it cannot be read or does not fit.
            Closed: If the server is closed.
        """
        loaded = self._load(name, adapter)
        with self._swapping:
            is_new = name not in self.bank
            self._put(name, loaded)
        return is_new

    def remove_adapter(self, name: str) -> None:
        """Takes an adapter away; rows that were accepted with it are still answered.

        Raises:
            UnknownAdapter: If there is none of that name.
            ValueError: If it is the last one.
            Closed: If the server is closed.
        """
        with self._swapping:
            _check_known(self.bank, name)
            if len(self.bank) == 1:
                raise ValueError(
                    f"{name} is the last adapter, and a bank holds at least one; add "
                    "another one first"
                )
            self._swap(self.bank.remove(name))

    def rename_adapter(self, name: str, new_name: str) -> None:
        """Gives an adapter another name.

        Raises:
            UnknownAdapter: If there is none of that name.
            ValueError: If the new name is taken.
            Closed: If the server is closed.
        """
        with self._swapping:
            _check_known(self.bank, name)
            self._swap(self.bank.rename(name, new_name))

    def warm_up(self, lengths: Sequence[int] = (64,)) -> int:
        """Compiles, for the adapters of now, all sizes of batches of these lengths.

        Of adapters whose choices are the same for all rows; choices that a row brings
        compile when they come. Ends early where the server is closed meanwhile.

        Args:
            lengths: Tokens of inputs, rounded up as those of rows are.

        Returns:
            How many programs that were.

        Raises:
            ValueError: If a length is not positive.
        """
        snapshot = self._snapshot
        shapes = programs.warm_up_shapes(
            snapshot.tasks.fixed_targets(), lengths, self._max_batch_size
        )
        return sum(
            self._programs.warm_up(snapshot, shape)
            for shape in shapes
            if not self.closed
        )

    def close(self, *, drain: bool = True) -> None:
        """Accepts no more rows and waits until none are at work; may be called twice.

        Args:
            drain: Whether rows that wait are answered; else their futures are
                cancelled.
        """
        dropped = self._queue.close(drop=not drain)
        for request in dropped:
            request.future.cancel()
            request.future.set_running_or_notify_cancel()  # who waits for several
            self._metrics.count("cancelled")
        self._worker.join()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(drain=kind is None)

    def _load(
        self, name: str, adapter: checkpoint.Adapter | applying.PathLike
    ) -> checkpoint.Adapter:
        return banks.load_bank({name: adapter}, self._base)[name]

    def _put(self, name: str, adapter: checkpoint.Adapter) -> None:
        put = self.bank.replace if name in self.bank else self.bank.add
        self._swap(put(name, adapter))

    def _swap(self, bank: checkpoint.Bank) -> None:
        """Takes another bank; compiles first what it needs, so that no row waits."""
        if self.closed:
            raise Closed("the server is closed; its adapters stay as they are")
        snapshot = Snapshot.make(
            self._base,
            bank,
            own_templates=self._own_templates,
            earlier=self._snapshot,
        )
        for shape in self._programs.shapes_of(self._snapshot.model):
            self._programs.warm_up(snapshot, shape)
        self._snapshot = snapshot
        self._metrics.count("swaps")


def _accept(
    snapshot: Snapshot,
    row: Row,
    name: str | None,
    number: int,
    deadline: float | None,
) -> Request:
    place = f"row {number}"
    adapter = None
    if name is not None and name != checkpoint.BASE:
        _check_known(snapshot.bank, name, place=f"{place}: ")
        adapter = snapshot.bank[name]
    return Request(
        row=snapshot.tasks.spell(row, adapter=name, place=place),
        name=name or checkpoint.BASE,
        adapter=adapter,
        snapshot=snapshot,
        number=number,
        deadline=deadline,
    )


def _check_known(bank: checkpoint.Bank, name: str, *, place: str = "") -> None:
    if name not in bank:
        names = [checkpoint.BASE, *bank.names]
        shown = ", ".join(names[:10])
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise UnknownAdapter(f"{place}unknown adapter {name!r}; known: {shown}{more}")


def _check_settings(
    max_batch_size: int, max_wait: float, max_queue: int, timeout: float | None
) -> None:
    if max_batch_size < 1 or max_queue < 1:
        raise ValueError(
            f"max_batch_size={max_batch_size}, max_queue={max_queue}; each is 1 or more"
        )
    if not 0 <= max_wait < math.inf:
        raise ValueError(f"max_wait={max_wait}; expected seconds, 0 or more")
    requests.check_timeout(timeout)
