"""A socket, uvicorn on it, and how both end."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

_GRACE = 30  # seconds for what is accepted when the server stops
_HEADER_SECONDS = 10.0
_MAX_CONNECTIONS = 1024


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ValueError: If the port is none, or host and port cannot be had.
    """
    if not 0 <= port < 65536:
        raise ValueError(f"port {port} is not between 0 and 65535")
    try:
        [found, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return socket.create_server(found[4][:2], family=found[0], backlog=1024)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host} port {port} ({error.strerror}); take another "
            "host or port, 0 for a free one"
        ) from None


def is_loopback(sock: socket.socket) -> bool:
    """Whether nobody but this machine reaches the socket."""
    return ipaddress.ip_address(sock.getsockname()[0]).is_loopback


def url_of(sock: socket.socket) -> str:
    """Where clients find the socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: ASGIApp, sock: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT; what was accepted is finished.

    Raises:
        KeyboardInterrupt: After SIGINT.
    """
    # uvicorn raises the signals that it got once more when all is done. SIGINT has no
    # effect then in a process that a shell started in the background.
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, frame: None),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    try:
        _make(app).run(sockets=[sock])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def running(app: ASGIApp, sock: socket.socket) -> Iterator[str]:
    """Serves from a thread of its own while the block runs; yields the URL."""
    server = _make(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    url = url_of(sock)
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()


def _make(app: ASGIApp) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http=_PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE,
        limit_concurrency=_MAX_CONNECTIONS,
    )
    return uvicorn.Server(config)


class _PatientProtocol(H11Protocol):
    """Closes connections on which the head of a request takes too long.

    So does what is left of a body after the answer that did not need it. uvicorn's own
    timeout ends where the first byte comes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_answered_early():
            self._watch()

    def _is_answered_early(self) -> bool:
        """Whether there is an answer, but not yet the whole body of its request."""
        states = (self.conn.our_state, self.conn.their_state)
        return states == (h11.DONE, h11.SEND_BODY)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE and not self._is_answered_early():
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
