r"""promptsource's templates: fetch them, list them, show them with rows.

fetch downloads the package's source archive with pip, checks its SHA-256 and keeps
the templates alone, in promptsource-0.2.3 of the user's cache (TFEW_JAX_CACHE, else
tfew_jax in XDG_CACHE_HOME or ~/.cache); with --from it needs no network.
list and show read them. A template's index is T-Few's: its place among the names of
the set. With --rows, show renders rows that have the columns of the set's dataset.

Example:
  tfew templates fetch
  tfew templates list super_glue/cb
  tfew templates show super_glue/cb --index 0 --rows cb.jsonl
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tfew_jax.data import promptsource, promptsource_sets, sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's own commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    fetch = _add(actions, "fetch", "put promptsource's templates into the cache")
    fetch.add_argument(
        "--from",
        dest="archive",
        metavar="FILE",
        help="promptsource-0.2.3.tar.gz, downloaded elsewhere",
    )
    listing = _add(actions, "list", "list the sets, or the templates of one")
    listing.add_argument("set", nargs="?", metavar="SET", help="such as super_glue/cb")
    show = _add(actions, "show", "show the templates of a set, or one of them")
    show.add_argument("set", metavar="SET", help="such as super_glue/cb")
    which = show.add_mutually_exclusive_group()
    which.add_argument("--name", metavar="NAME", help="only the template of this name")
    which.add_argument(
        "--index", type=int, metavar="N", help="only the template of this index"
    )
    show.add_argument(
        "--rows", metavar="FILE", help="rows to render: CSV, TSV or JSONL"
    )
    show.add_argument(
        "--num-rows",
        type=int,
        default=3,
        metavar="N",
        help="how many to print, all are counted; default %(default)s",
    )
    show.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of templates that draw their words; default %(default)s",
    )


def run(args: argparse.Namespace) -> int:
    """Fetches, lists or shows."""
    actions = {"fetch": _fetch, "list": _list, "show": _show}
    text = "\n".join(actions[args.action](args))
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


def _fetch(args: argparse.Namespace) -> "Iterator[str]":
    from tfew_jax.data import promptsource_archive, promptsource_sets

    done = promptsource_archive.fetch(args.archive)
    place = promptsource_archive.directory()
    count = len(promptsource_sets.names())
    there = "is in" if done else "is already in"
    yield f"promptsource {promptsource_archive.VERSION} {there} {place}: {count} sets"


def _list(args: argparse.Namespace) -> "Iterator[str]":
    from tfew_jax.data import promptsource_sets

    if args.set is None:
        yield "templates  original task  set"
        for templates in promptsource_sets.load_all():
            original = len(templates.original_task)
            yield f"{len(templates.templates):9}  {original:13}  {templates.name}"
        return
    yield "index  original task  choices  name"
    for template in promptsource_sets.load(args.set).templates:
        original = "yes" if template.metadata.original_task else "no"
        yield (
            f"{template.index:5}  {original:13}  {_num_choices(template):7}  "
            f"{template.name}"
        )


def _num_choices(template: "promptsource.Template") -> str:
    if template.choices is None:
        return "none"
    fixed = template.fixed_choices
    return "by row" if fixed is None else str(len(fixed))


def _show(args: argparse.Namespace) -> "Iterator[str]":
    from tfew_jax.data import promptsource_sets, sources

    if args.num_rows < 0:
        raise ValueError(f"--num-rows {args.num_rows} is negative; give 0 or more")
    rows = None if args.rows is None else sources.load_rows(args.rows)
    for number, template in enumerate(_chosen(promptsource_sets.load(args.set), args)):
        if number:
            yield ""
        yield from _source(template)
        if rows is None:
            yield from _example(template, args)
        else:
            yield from _examples(template, rows, args)


def _chosen(
    templates: "promptsource_sets.TemplateSet", args: argparse.Namespace
) -> "Sequence[promptsource.Template]":
    if args.name is not None:
        return [templates.named(args.name)]
    if args.index is not None:
        return [templates.at(args.index)]
    return templates.templates


def _source(template: "promptsource.Template") -> "Iterator[str]":
    metadata = template.metadata
    facts = [
        f"{'' if metadata.original_task else 'not '}the original task",
        f"choices in the input: {_YES_NO[metadata.choices_in_prompt]}",
        f"metrics: {', '.join(metadata.metrics) or 'none'}",
    ]
    if metadata.languages:
        facts.append(f"languages: {', '.join(metadata.languages)}")
    yield f"== {template}: {'; '.join(facts)}"
    if template.reference:
        yield f"-- reference: {' '.join(template.reference.split())}"
    yield "-- template"
    yield template.text
    if template.choices is not None:
        yield "-- choices"
        yield template.choices


def _example(
    template: "promptsource.Template", args: argparse.Namespace
) -> "Iterator[str]":
    """How the template looks with a row that stands for the set's own."""
    from tfew_jax.data import example_rows, patterns

    row, kind = example_rows.make(args.set, sorted(template.columns))
    try:
        rendered = template.render(row, seed=args.seed)
    except patterns.TemplateError as error:
        reason = str(error).removeprefix(f"{template}: ")
        yield f"-- no example of {kind} ({reason}); give rows with --rows"
        return
    yield f"-- input of {kind}"
    yield rendered.inputs
    yield f"-- target of {kind}"
    yield rendered.target or ""


def _examples(
    template: "promptsource.Template",
    rows: "Sequence[sources.Row]",
    args: argparse.Namespace,
) -> "Iterator[str]":
    """The first rows that the template applies to, and how many there are."""
    from tfew_jax.data import patterns, promptsource, sources

    applied, reason = 0, ""
    for index, row in enumerate(rows):
        place = sources.where(row, index)
        if template.lacks_label(row):
            reason = reason or f"; {place}: the row has no label (-1)"
            continue
        try:
            rendered = template.render(row, seed=args.seed)
        except promptsource.NotApplicableError as error:
            reason = reason or f"; {place}: {error}"
            continue
        except patterns.TemplateError as error:
            raise ValueError(f"{place}: {error}") from None
        applied += 1
        if applied <= args.num_rows:
            yield f"-- input of {place}"
            yield rendered.inputs
            yield f"-- target of {place}"
            yield rendered.target or ""
            if rendered.choices:
                label = "none of them" if rendered.label is None else rendered.label
                yield f"-- choices of {place}: the target is {label}"
                yield " ||| ".join(rendered.choices)
    yield f"-- applies to {applied} of {len(rows)} rows{reason}"


_YES_NO = {True: "yes", False: "no", None: "not stated"}
