"""Many adapters over one frozen model, for as long as the process lives.

`Server` collects requests of many threads into batches of any mix of adapters, which
may come and go meanwhile. `serve` offers it over HTTP; what that needs is the extra
`serve`, and `http_*.py` alone import it.
"""

from tfew_jax.serving.command import serve
from tfew_jax.serving.requests import Busy, Closed, TooManyRows, UnknownAdapter
from tfew_jax.serving.server import Server

__all__ = ["Busy", "Closed", "Server", "TooManyRows", "UnknownAdapter", "serve"]
