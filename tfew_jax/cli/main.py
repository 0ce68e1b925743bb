"""`tfew`: reads the command line and hands over to the command's own file.

Commands import jax, gin and the library when they run, so that `tfew --help` and
every mistake in an argument answer at once. A mistake of the user ends with one line
and exit status 2, Ctrl-C with what was reached saved and status 130.
"""

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import tfew_jax
from tfew_jax.cli import (
    compare,
    fewshot,
    flags,
    infer,
    params,
    prepare,
    report,
    serve,
    sweep,
    tasks,
    templates,
    train,
)
from tfew_jax.cli import eval as eval_command
from tfew_jax.cli import inspect as inspect_command

_COMMANDS = {
    "fewshot": fewshot,
    "train": train,
    "eval": eval_command,
    "infer": infer,
    "serve": serve,
    "prepare": prepare,
    "compare": compare,
    "sweep": sweep,
    "report": report,
    "inspect": inspect_command,
    "params": params,
    "tasks": tasks,
    "templates": templates,
}
USAGE_STATUS = 2
INTERRUPT_STATUS = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with status 2."""
        self.exit(USAGE_STATUS, f"{self.prog}: error: {message} (see --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="tfew",
        description="Tune a frozen T5 on a few labelled rows; T-Few's recipe in JAX.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"tfew_jax {tfew_jax.__version__}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in _COMMANDS.items():
        summary, _, details = (module.__doc__ or "").partition("\n\n")
        command = commands.add_parser(
            name,
            help=" ".join(summary.split()),
            description=summary,
            epilog=details,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.add_argument(
            "--debug", action="store_true", help="show the traceback of an error"
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    Args:
        argv: Arguments after the program's name; those of the process if None.
    """
    args = make_parser().parse_args(flags.join(argv))
    try:
        return _COMMANDS[args.command].run(args)
    except KeyboardInterrupt as interrupt:
        _say(args, str(interrupt) or "interrupted")
        return INTERRUPT_STATUS
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        if args.debug:
            traceback.print_exc()
        _say(args, f"error: {one_line(error)}")
        return USAGE_STATUS
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        _say(args, f"error: {type(error).__name__}: {one_line(error)} (try --debug)")
        return USAGE_STATUS


def one_line(error: BaseException) -> str:
    """The message of an error without line breaks and what gin adds to it."""
    message = str(error).partition("\n  In call to configurable")[0]
    text = " ".join(message.split())
    return text or type(error).__name__


def _say(args: argparse.Namespace, message: str) -> None:
    print(f"tfew {args.command}: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
