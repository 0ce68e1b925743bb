r"""Serve a directory of adapters over HTTP, every row of a request its own adapter.

POST /v1/predict takes {"rows": [{"text": "..."}], "adapter": "NAME"}, or rows that each
name theirs. GET /v1/adapters lists them; with a token, PUT and DELETE
/v1/adapters/NAME load one from the directory and take it away, while rows go on being
answered. GET /healthz, /readyz and /metrics are for those who watch.

Needs the extra `serve`. The token is that of --token-file, or of the environment's
TFEW_JAX_TOKEN. SIGTERM and Ctrl-C finish what is accepted. By gin files, which also
set limits and timeouts: runs/serve.gin.

Example:
  tfew serve --adapters DIR --port 8000 --warm-up 64,128
"""

import argparse
import sys

from tfew_jax.cli import flags, included

_FLAGS = {
    "adapters": "ADAPTERS",
    "base": "INITIAL_CHECKPOINT_PATH",
    "host": "HOST",
    "port": "PORT",
    "token_file": "TOKEN_FILE",
    "warm_up": "WARM_UP",
    "own_templates": "OWN_TEMPLATES",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    flags.add_arguments(parser)
    parser.add_argument(
        "--adapters",
        type=included.absolute,
        metavar="DIR",
        help="its sub-directories are adapters",
    )
    parser.add_argument(
        "--base",
        type=included.absolute,
        metavar="DIR",
        help="model; default the embedded base",
    )
    parser.add_argument("--host", metavar="HOST", help="default 127.0.0.1")
    parser.add_argument(
        "--port", type=int, metavar="N", help="default 8000; 0 takes a free one"
    )
    parser.add_argument(
        "--token-file",
        type=included.absolute,
        metavar="FILE",
        help="what clients must show",
    )
    parser.add_argument(
        "--warm-up",
        type=_lengths,
        metavar="64,128,…",
        help="lengths of inputs to compile for before /readyz says yes",
    )
    parser.add_argument(
        "--own-templates",
        action="store_true",
        default=None,
        help="let clients, who are trusted, bring templates for __base__",
    )


def run(args: argparse.Namespace) -> int:
    """Parses the gin files and serves."""
    if args.adapters is None and not args.gin_file:
        raise ValueError("--adapters is missing: the directory of the adapters")
    from tfew_jax import serving
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=serving.serve, **included.sources("serve", _FLAGS, args)
    ) as configured:
        configured(say=_say)
    return 0


def _say(line: str) -> None:
    print(f"tfew serve: {line}", file=sys.stderr, flush=True)


def _lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers such as 64,128"
        ) from None
