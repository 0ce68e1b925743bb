r"""Sum experiments up: medians and quartiles beside the published numbers.

A DIR is the directory of an experiment, or a folder that holds some at any depth. A row
is a variant with its templates (the first one, a random one for each row, or all), a
column a set, a cell the median over seeds × 100 with the interquartile range, the last
column the mean of the medians. Folds of a seed count as one value. Experiments that
differ never share a cell: --variant names what was tuned in a directory. Runs on
text-to-text tasks have a table of their own, a row a run and set it was measured on.

Example:
  tfew report runs --html report.html
  tfew report --variant 'rate 3e-3'=runs/a --variant 'rate 1e-2'=runs/b --png rates.png
"""

import argparse
import os
import shutil
import sys

from tfew_jax.cli import output_files

_FORMATS = ("csv", "md", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "directories", nargs="*", metavar="DIR", help="experiments, or folders of them"
    )
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="reads DIR as well and gives what was tuned there this name; may be given "
        "several times",
    )
    parser.add_argument(
        "--metric",
        choices=("accuracy", "macro_f1"),
        default="accuracy",
        help="default %(default)s",
    )
    parser.add_argument(
        "--published",
        choices=("on", "all", "off"),
        default="on",
        help="rows of Liu et al., 2022 for the same sets: T-Few, its ablations and its "
        "rivals (on), also all methods with all losses on T0-3B (all), or none (off); "
        "default %(default)s",
    )
    helps = ("one line a row and set", "the table as Markdown", "a page with charts")
    for name, text in zip(_FORMATS, helps, strict=True):
        parser.add_argument(
            f"--{name}",
            metavar="FILE",
            help=f"write {text}; - for standard output, in place of the table",
        )
    parser.add_argument(
        "--png", metavar="FILE", help="write a chart of every seed's score"
    )


def run(args: argparse.Namespace) -> int:
    """Reads, sums up, and writes or prints."""
    given = {name: path for name in _FORMATS if (path := getattr(args, name))}
    variants = _variants(args.variant)
    if not (args.directories or args.variant):
        raise ValueError("DIR is missing; see tfew report --help for an example")
    flags = {f"--{name}": path for name, path in given.items()}
    output_files.check(flags, image=args.png)
    from tfew_jax import report

    results = report.read(
        args.directories,
        variants=variants,
        metric=args.metric,
        with_published=args.published,
    )
    for warning in results.warnings():
        print(f"tfew report: warning: {warning}", file=sys.stderr)
    make = {"csv": results.to_csv, "md": results.to_markdown, "html": results.to_html}
    shown = None
    for name, path in given.items():
        text = make[name]()
        if path == output_files.STANDARD_OUTPUT:
            shown = text
        else:
            output_files.write(path, text)
    if args.png:
        output_files.write(args.png, results.to_png())
    if shown is None:
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else None
        shown = results.to_text(width=width) + "\n"
    _print(shown)
    return 0


def _variants(texts: list[str]) -> dict[str, str]:
    """Names by directory."""
    variants: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not (name.strip() and path):
            raise ValueError(f"--variant {text!r} is not NAME=DIR, such as ia3=runs/a")
        if (other := variants.setdefault(path, name)) != name:
            raise ValueError(f"--variant names {path} twice, {other} and {name}")
    return variants


def _print(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
