r"""Count what a task costs by method, as Lester et al.'s Table 4 and Figure 4 do.

Counts follow from the shapes of a model; nothing is loaded or computed. Without
arguments: prompts of Table 4's lengths and the methods of Figure 4 on the five sizes of
T5 1.1, and (IA)^3, whose xl and xxl are T0-3B and T0-11B. What Table 4 misprints is
noted beside the right value.

Example:
  tfew params
  tfew params --model xl --method ia3 prompt --length 20 100
  tfew params --csv counts.csv --png counts.png
"""

import argparse
import json
import os
import pathlib
from typing import TYPE_CHECKING

from tfew_jax.cli import output_files, printing

if TYPE_CHECKING:
    from tfew_jax.models import T5Config
    from tfew_jax.report import parameter_counts

_TEXTS = ("md", "csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    for name, metavar, text in (
        ("model", "SIZE|DIR", "small, base, large, xl, xxl, or a model's directory"),
        ("method", "NAME", "full, prefix, prefix_training, warp, prompt, ia3 …"),
    ):
        parser.add_argument(
            f"--{name}", nargs="+", action="extend", metavar=metavar, help=text
        )
    parser.add_argument(
        "--length",
        nargs="+",
        action="extend",
        type=int,
        metavar="N",
        help="positions of prompts and prefixes",
    )
    for name, text in zip(
        _TEXTS,
        ("tables as Markdown", "one line a count", "the same as JSON"),
        strict=True,
    ):
        parser.add_argument(
            f"--{name}",
            nargs="?",
            const="-",
            metavar="FILE",
            help=f"write {text}; - or no FILE for standard output, in place of tables",
        )
    parser.add_argument("--png", metavar="FILE", help="draw a chart like Figure 4")


def run(args: argparse.Namespace) -> int:
    """Counts, writes and prints."""
    files = {name: path for name in _TEXTS if (path := getattr(args, name))}
    flags = {f"--{name}": path for name, path in files.items()}
    output_files.check(flags, image=args.png)
    from tfew_jax.report import parameter_counts

    counts = parameter_counts.count(
        _configs(args.model), methods=args.method, lengths=args.length
    )
    shown = None
    for name, path in files.items():
        text = _text(counts, name)
        if path == "-":
            shown = text.removesuffix("\n")
        else:
            output_files.write(path, text)
    if args.png:
        from tfew_jax.report import charts, parameter_chart

        output_files.write(args.png, charts.to_png(parameter_chart.draw(counts)))
    if shown is None:
        shown = "\n\n".join(
            printing.table([*header[:-1], ""], rows, title=title)
            for title, header, rows in parameter_counts.tables(counts)
        )
    printing.show(shown)
    return 0


def _configs(names: list[str] | None) -> "dict[str, T5Config] | None":
    """Sizes by name, or those of a directory by the model's name.

    Directories whose models have the same name stand as they were given.
    """
    if names is None:
        return None
    from tfew_jax import interop, models
    from tfew_jax.experiment import conditions

    found: list[tuple[str, str, T5Config]] = []
    for name in names:
        if name in models.SIZES:
            found.append((name, name, models.SIZES[name]))
            continue
        path = pathlib.Path(name).expanduser()
        if not path.is_dir() and os.sep not in name:
            raise ValueError(
                f"--model {name!r} is neither a size ({', '.join(models.SIZES)}) nor "
                "the directory of a model"
            )
        found.append((name, conditions.model_name(path), interop.load_config(path)))
    shorts = [short for _, short, _ in found]
    return {
        given if shorts.count(short) > 1 else short: config
        for given, short, config in found
    }


def _text(counts: "list[parameter_counts.Count]", kind: str) -> str:
    from tfew_jax.report import parameter_counts

    if kind == "md":
        return parameter_counts.to_markdown(counts)
    if kind == "csv":
        return parameter_counts.to_csv(counts)
    rows = [one.to_dict() for one in counts]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
