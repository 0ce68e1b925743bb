"""The HTTP interface: JSON in, JSON out, every mistake one clear line.

    POST /v1/predict           {"rows": [{...}], "adapter": NAME}, or each row names its
                               own; {"predictions": [{"adapter", "prediction", ...}]}
    GET /v1/adapters           the names there are
    PUT /v1/adapters/NAME      loads a directory below that of the adapters, by default
                               the one of that name: {"directory": "..."}
    DELETE /v1/adapters/NAME   takes it away
    GET /healthz, /readyz      whether the process lives, whether it takes rows
    GET /metrics               for Prometheus

With a token all but /healthz and /readyz need it; without one PUT and DELETE are
refused.
"""

import asyncio
import dataclasses
import functools
import hmac
import logging
import math
import pathlib
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tfew_jax.experiment import mixed, prepared
from tfew_jax.serving import http_admin, http_body, metrics
from tfew_jax.serving.requests import Busy, Closed, TooManyRows, UnknownAdapter
from tfew_jax.serving.server import Server

log = logging.getLogger(__name__)

_OPEN = ("/healthz", "/readyz")  # without a token
_BUSY = {"retry-after": "1"}
Handler = Callable[[Request], Awaitable[Response]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a client may ask for.

    Attributes:
        body_bytes: Of a request.
        body_seconds: In which its body must have come.
        rows: Of a request.
        seconds: After which a request is given up.
    """

    body_bytes: int = 1 << 20
    body_seconds: float = 10.0
    rows: int = 256
    seconds: float = 30.0

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: If one is not positive and finite.
        """
        for name, value in dataclasses.asdict(self).items():
            if not 0 < value < math.inf:
                raise ValueError(
                    f"the limit {name} is {value}; expected a number more than 0"
                )


class Service:
    """The handlers of one server."""

    def __init__(
        self,
        server: Server,
        *,
        directory: pathlib.Path | None = None,
        token: str | None = None,
        limits: Limits | None = None,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        """Takes what the handlers need.

        Args:
            server: What predicts.
            directory: Where adapters may be loaded from; None for nowhere.
            token: What clients must show; None for nothing.
            limits: What a client may ask for.
            is_ready: Whether rows may come, besides the server being open.
        """
        self._server = server
        self._directory = directory
        self._token = token
        self._limits = limits or Limits()
        self._is_ready = is_ready

    def app(self) -> ASGIApp:
        """The ASGI application."""
        routes = [
            Route("/v1/predict", self.predict, methods=["POST"]),
            Route("/v1/adapters", self.adapters),
            Route("/v1/adapters/{name}", self.put_adapter, methods=["PUT"]),
            Route("/v1/adapters/{name}", self.delete_adapter, methods=["DELETE"]),
            Route("/healthz", self.health),
            Route("/readyz", self.ready),
            Route("/metrics", self.metrics),
        ]
        inner = Starlette(
            routes=routes,
            exception_handlers={HTTPException: _explain, Exception: _explain_unknown},
        )
        return _Guard(inner, self._token, self._server)

    async def health(self, request: Request) -> Response:
        """That the process lives."""
        return JSONResponse({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """Whether rows are accepted and programs compiled."""
        if self._server.closed:
            return _error(503, "the server is closed")
        if not self._is_ready():
            return _error(503, "the server warms up", _BUSY)
        return JSONResponse({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Numbers in Prometheus's text format."""
        text = metrics.prometheus_text(self._server.metrics())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def adapters(self, request: Request) -> Response:
        """The adapters and what they are."""
        found = [
            {"name": name, "method": adapter.method.name, "task": _task_name(adapter)}
            for name, adapter in self._server.bank.items()
        ]
        return JSONResponse({"adapters": found})

    async def predict(self, request: Request) -> Response:
        """Predictions of the rows of the body."""
        content = await self._json(request)
        rows, names = http_body.rows_of(content, self._limits.rows)
        until = time.monotonic() + self._limits.seconds
        try:
            # A thread that renders rows is waited for, since nobody else knows them.
            with anyio.fail_after(self._limits.seconds):
                futures = await anyio.to_thread.run_sync(
                    self._submit, rows, names, until
                )
        except TimeoutError:
            raise self._no_answer() from None
        except UnknownAdapter as error:
            raise HTTPException(404, str(error)) from error
        except TooManyRows as error:
            raise HTTPException(413, str(error)) from error
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        except (Busy, Closed) as error:
            raise HTTPException(503, str(error), headers=_BUSY) from error
        waiting = [asyncio.wrap_future(future) for future in futures]
        try:
            found = await _unless_gone(request, waiting, until - time.monotonic())
        except TimeoutError:
            raise self._no_answer() from None
        except ValueError as error:  # an adapter that has diverged
            raise HTTPException(500, str(error)) from error
        except (MemoryError, RuntimeError) as error:
            log.error("rows could not be scored: %s", error)
            raise HTTPException(500, "the rows could not be scored") from error
        finally:
            for future in waiting:
                future.cancel()
        return JSONResponse({"predictions": [mixed.to_dict(p) for p in found]})

    async def put_adapter(self, request: Request) -> Response:
        """Loads an adapter, in the place of one of that name."""
        name = self._admin_name(request)
        content = await self._json(request, default={})
        place = http_admin.directory_of(content, name)
        try:
            path = http_admin.path_below(self._directory, place)
            is_new = await self._administer(self._server.put_adapter, name, path)
        except Closed as error:
            raise HTTPException(503, str(error), headers=_BUSY) from error
        except FileNotFoundError as error:
            raise HTTPException(404, str(error)) from error
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        return JSONResponse({"name": name}, status_code=201 if is_new else 200)

    async def delete_adapter(self, request: Request) -> Response:
        """Takes an adapter away."""
        name = self._admin_name(request)
        try:
            await self._administer(self._server.remove_adapter, name)
        except UnknownAdapter as error:
            raise HTTPException(404, str(error)) from error
        except ValueError as error:
            raise HTTPException(409, str(error)) from error
        except Closed as error:
            raise HTTPException(503, str(error), headers=_BUSY) from error
        return Response(status_code=204)

    def _submit(
        self, rows: list[dict[str, Any]], names: list[str], until: float
    ) -> list["Future[prepared.Prediction]"]:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return self._server.submit_rows(rows, names, timeout=left)

    def _no_answer(self) -> HTTPException:
        seconds = self._limits.seconds
        return HTTPException(504, f"no answer within {seconds:g} seconds; try again")

    async def _json(self, request: Request, default: Any = None) -> dict[str, Any]:
        return await http_body.read_json(
            request,
            max_bytes=self._limits.body_bytes,
            seconds=self._limits.body_seconds,
            default=default,
        )

    @functools.cached_property
    def _one_at_a_time(self) -> anyio.CapacityLimiter:
        return anyio.CapacityLimiter(1)

    async def _administer(self, change: Callable[..., Any], *args: Any) -> Any:
        """Changes the adapters beside the threads that take rows, which never wait."""
        return await anyio.to_thread.run_sync(
            change, *args, limiter=self._one_at_a_time
        )

    def _admin_name(self, request: Request) -> str:
        if self._token is None:
            raise HTTPException(
                403,
                "adapters are changed only by clients with a token; start the server "
                "with --token-file",
            )
        return request.path_params["name"]


class _Guard:
    """Asks for the token, and counts what is answered."""

    def __init__(self, app: ASGIApp, token: str | None, server: Server) -> None:
        self._app = app
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._server.count_response(message["status"])
            await send(message)

        if self._may_pass(scope):
            await self._app(scope, receive, counted)
            return
        refusal = _error(
            401,
            "a token is needed: send the header 'Authorization: Bearer TOKEN'",
            {"www-authenticate": "Bearer", "connection": "close"},
        )
        await refusal(scope, receive, counted)

    def _may_pass(self, scope: Scope) -> bool:
        if self._expected is None or scope["path"] in _OPEN:
            return True
        given = [v for k, v in scope["headers"] if k.lower() == b"authorization"]
        # All of the text is compared whatever it is, so that time tells nothing.
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)


async def _unless_gone(
    request: Request, waiting: list["asyncio.Future[Any]"], seconds: float
) -> list[Any]:
    """The results; rows whose client goes away are given up."""
    gone = asyncio.ensure_future(_disconnected(request))
    results = asyncio.gather(*waiting, return_exceptions=True)
    try:
        async with asyncio.timeout(seconds):
            await asyncio.wait({gone, results}, return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            raise HTTPException(400, "the client went away")
        found = await results
    finally:
        gone.cancel()
        results.cancel()
    for result in found:
        if isinstance(result, asyncio.CancelledError):
            raise HTTPException(503, "the server was closed", headers=_BUSY)
        if isinstance(result, BaseException):
            raise result
    return found


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _task_name(adapter: Any) -> str | None:
    return None if adapter.task is None else adapter.task.get("name")


def _error(
    status: int, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    text = message.encode("utf-8", "backslashreplace").decode()  # half characters
    return JSONResponse({"error": text}, status_code=status, headers=headers)


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = None if error.headers is None else dict(error.headers)
    return _error(error.status_code, " ".join(error.detail.split()), headers)


async def _explain_unknown(request: Request, error: Exception) -> Response:
    log.error("%s %s failed: %r", request.method, request.url.path, error)
    return _error(500, "the server failed; its log says more")
