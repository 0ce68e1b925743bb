"""`tfew serve`: a server of a directory of adapters, over HTTP."""

import contextlib
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence

from tfew_jax.experiment import banks
from tfew_jax.experiment.base import Base
from tfew_jax.serving.server import Server

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
TOKEN_VARIABLE = "TFEW_JAX_TOKEN"


def serve(
    *,
    base: Base,
    bank: PathLike,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: PathLike | None = None,
    capacity: int = 0,
    max_batch_size: int = 32,
    max_wait: float = 0.005,
    max_queue: int = 1024,
    timeout: float = 30.0,
    max_body_bytes: int = 1 << 20,
    max_rows: int = 256,
    body_timeout: float = 10.0,
    own_templates: bool = False,
    warm_up: Sequence[int] = (),
    say: Callable[[str], None] = log.warning,
) -> None:
    """Serves until SIGTERM or SIGINT; what was accepted is finished.

    Args:
        base: The frozen model.
        bank: The directory of adapters, from which clients with the token may load.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        token_file: File that holds the token; None for the environment's
            `TFEW_JAX_TOKEN`, if that is set.
        capacity: Slots for adapters; twice as many as there are by default, and where
            none would be free. Adapters that come compile again once all are taken.
        max_batch_size: Most rows of a forward pass.
        max_wait: Seconds that a row waits for others.
        max_queue: Most rows that wait.
        timeout: Seconds after which a request is given up.
        max_body_bytes: Of a request.
        max_rows: Of a request; no more than may wait.
        body_timeout: Seconds in which the body of a request must have come.
        own_templates: Whether clients may bring templates for `__base__`; for clients
            that are trusted, since a template can take any time.
        warm_up: Lengths of inputs to compile for, before `/readyz` says yes.
        say: Gets the lines for the user: where it listens, warnings.

    Raises:
        ValueError: If a setting is out of range, an adapter does not fit, the token is
            empty, the port is taken, or the extra `serve` is not installed.
        KeyboardInterrupt: After SIGINT.
    """
    try:
        from tfew_jax.serving import http_app, http_run
    except ImportError as error:
        raise ValueError(
            f"serving over HTTP needs {error.name}; install tfew-jax[serve]"
        ) from None
    limits = http_app.Limits(
        body_bytes=max_body_bytes,
        body_seconds=body_timeout,
        rows=max_rows,
        seconds=timeout,
    )
    if max_rows > max_queue:
        raise ValueError(
            f"max_rows={max_rows}, but max_queue={max_queue}: requests of so many rows "
            "could never be accepted; lower the one or raise the other"
        )
    token = read_token(token_file)
    directory = pathlib.Path(bank).expanduser()
    with http_run.bind(host, port) as sock:
        if token is None and not http_run.is_loopback(sock):
            say(
                f"warning: {host} is reached by others, and there is no token: anyone "
                f"may use the adapters; set --token-file or {TOKEN_VARIABLE}"
            )
        loaded = banks.load_bank(directory, base, capacity=capacity)
        server = Server(
            base,
            loaded,
            max_batch_size=max_batch_size,
            max_wait=max_wait,
            max_queue=max_queue,
            timeout=timeout,
            own_templates=own_templates,
        )
        with _warming_up(server, warm_up) as is_ready:
            service = http_app.Service(
                server,
                directory=directory,
                token=token,
                limits=limits,
                is_ready=is_ready,
            )
            say(f"serving {len(loaded)} adapters on {http_run.url_of(sock)}")
            http_run.run(service.app(), sock)


def read_token(file: PathLike | None) -> str | None:
    """The token of a file or of the environment; None where there is none.

    Raises:
        ValueError: If it cannot be read, is empty, or holds more than one word.
    """
    if file is None:
        source, text = f"the variable {TOKEN_VARIABLE}", os.environ.get(TOKEN_VARIABLE)
        if text is None:
            return None
    else:
        source = str(pathlib.Path(file).expanduser())
        try:
            text = pathlib.Path(source).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"the token file {source} cannot be read: {error}"
            ) from None
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            f"{source} must hold one token: a word of ASCII letters, digits and signs"
        )
    return token


@contextlib.contextmanager
def _warming_up(server: Server, lengths: Sequence[int]) -> Iterator[Callable[[], bool]]:
    """A server that compiles beside what it serves; yields what says if that is done.

    The server is closed when the block ends.
    """
    done = threading.Event()

    def work() -> None:
        try:
            count = server.warm_up(lengths)
            log.info("%d programs compiled", count)
        except Exception as error:  # requests compile what they need all the same
            log.warning("warm-up failed: %s", error)
        done.set()

    if not lengths:
        with server:
            yield lambda: True
        return
    thread = threading.Thread(target=work, name="tfew_jax warm-up", daemon=True)
    thread.start()
    try:
        with server:
            yield done.is_set
    finally:
        thread.join()  # a process that ends while a thread compiles is aborted
