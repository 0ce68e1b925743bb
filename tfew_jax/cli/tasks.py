r"""Tasks: list them, show one with an example, count its rows and what renders them.

Embedded tasks have their rows in the package. T-Few's held-out sets, RAFT's tasks and
T5's text-to-text tasks (text/NAME) are read from a directory of their official files;
T0's mixtures from one of P3's rows (DIR/TASK/train*.parquet or .jsonl) or of raw sets
(DIR/SET/train.jsonl or .parquet).
Without a directory, what is known of them is shown all the same; for templates see
`tfew templates fetch`.

Example:
  tfew tasks list
  tfew tasks show copa --data-dir superglue
  tfew tasks show text/copa --data-dir superglue
  tfew tasks count t0_train --rule tfew
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's own commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _add(actions, "list", "list all tasks and mixtures")
    for name, summary in (
        ("show", "show what a task is, with an example where rows are at hand"),
        ("count", "count a task's rows, and those that its templates apply to"),
    ):
        action = _add(actions, name, summary)
        action.add_argument("name", metavar="NAME", help="as `tfew tasks list` has it")
        action.add_argument(
            "--data-dir", metavar="DIR", help="where the rows of other tasks are"
        )
        action.add_argument(
            "--rule",
            choices=("t0", "tfew"),
            help="of a mixture's caps; default t0",
        )


def run(args: argparse.Namespace) -> int:
    """Lists, shows or counts."""
    text = "\n".join(_list() if args.action == "list" else _one(args))
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _add(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary: str,
) -> argparse.ArgumentParser:
    action = actions.add_parser(
        name, help=summary, description=f"{summary.capitalize()}.", allow_abbrev=False
    )
    # The command's own default stays where the flag stands behind no action.
    action.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )
    return action


def _list() -> "Iterator[str]":
    from tfew_jax.cli import text_kind
    from tfew_jax.data import benchmarks, p3, raft

    yield "kind          name                             rows"
    for name in _embedded():
        yield f"embedded      {name:31}  in the package"
    for name in benchmarks.names():
        known = benchmarks.get(name)
        sizes = [f"{split} {known.splits[split].num_rows:,}" for split in known.splits]
        yield f"benchmark     {name:31}  {', '.join(sizes)}"
    for name in raft.NAMES:
        yield f"RAFT          {name:31}  train 50"
    for name in text_kind.names():
        shown = text_kind.PREFIX + name
        yield f"text-to-text  {shown:31}  {text_kind.sizes(name)}"
    for name in p3.names():
        members = p3.get(name).members
        size = sum(member.train_size for member in members)
        yield f"mixture       {name:31}  train {size:,} of {len(members)} sets"


def _embedded() -> list[str]:
    """Tasks whose rows are in the package."""
    from tfew_jax.data import benchmarks, raft, tasks

    others = {*benchmarks.names(), *raft.NAMES}
    return [name for name in tasks.names() if name not in others]


def _one(args: argparse.Namespace) -> "Iterator[str]":
    """Shows or counts a task."""
    from tfew_jax.cli import task_kinds, text_kind
    from tfew_jax.data import benchmarks, p3, raft

    mixtures = {*p3.names(), *p3.aliases()}
    if args.rule is not None and args.name not in mixtures:
        raise ValueError(
            f"--rule {args.rule} is for mixtures ({', '.join(p3.names())}), not for "
            f"{args.name}"
        )
    shows = args.action == "show"
    if args.name in benchmarks.names():
        do = task_kinds.show_benchmark if shows else task_kinds.count_benchmark
        return do(args.name, args.data_dir)
    if (name := args.name.removeprefix("raft/")) in raft.NAMES:  # as `tfew fewshot`
        do = task_kinds.show_raft if shows else task_kinds.count_raft
        return do(name, args.data_dir)
    if args.name in mixtures:
        do = task_kinds.show_mixture if shows else task_kinds.count_mixture
        return do(args.name, args.data_dir, args.rule or "t0")
    if args.name in _embedded():
        if args.data_dir is not None:
            raise ValueError(
                f"--data-dir: the rows of {args.name} are in the package; leave it out"
            )
        do = task_kinds.show_embedded if shows else task_kinds.count_embedded
        return do(args.name)
    if (name := args.name.removeprefix(text_kind.PREFIX)) in text_kind.names():
        do = text_kind.show if shows else text_kind.count
        return do(name, args.data_dir)
    raise _unknown(args.name)


def _unknown(name: str) -> ValueError:
    import difflib

    from tfew_jax.cli import text_kind
    from tfew_jax.data import benchmarks, labels, p3, raft

    texts = [text_kind.PREFIX + name for name in text_kind.names()]
    known = [*_embedded(), *benchmarks.names(), *raft.NAMES, *texts, *p3.names()]
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    hint = f"names like it: {labels.show(near)}; " if near else ""
    return ValueError(f"unknown task {name!r}; {hint}`tfew tasks list` shows all")
