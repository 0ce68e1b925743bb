r"""Make the embedded base model or one of its family, and check what it is made of.

    python tools/make_base_model.py prepare --data DIR --teacher WHEEL --out WORK \
        --held-out FILE_OR_FOLDER ...
    python tools/make_base_model.py train --gin_file family_3m.gin --work WORK --out DIR
    python tools/make_base_model.py check --work WORK --held-out FILE_OR_FOLDER ...
    python tools/make_base_model.py rows --work WORK --out ARRAYS --count N

`prepare` reads the corpora and writes token arrays; `train` trains on the arrays alone
and needs only the core install; `check` compares the arrays with held-out files that
may not have been known before; `rows` writes prompted rows for `tfew train` with
runs/pretrain_ia3.gin. The gin files are in tools/base_model/configs/; without one it is
embedded.gin. All say what they do in tools/base_model/.
"""

import argparse
import contextlib
import functools
import logging
import pathlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from tfew_jax.cli import flags

CONFIGS = pathlib.Path(__file__).resolve().parent / "base_model" / "configs"
_DEFAULT = "embedded.gin"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="corpora to token arrays")
    prepare.add_argument("--data", type=pathlib.Path, required=True)
    prepare.add_argument("--out", type=pathlib.Path, required=True)
    prepare.add_argument("--teacher", type=pathlib.Path, help="none: random weights")
    prepare.add_argument("--questions-wheel", type=pathlib.Path)
    prepare.add_argument("--held-out", type=pathlib.Path, nargs="*", default=[])
    flags.add_arguments(prepare)
    train = commands.add_parser("train", help="token arrays to a model folder")
    train.add_argument("--work", type=pathlib.Path, required=True)
    train.add_argument("--out", type=pathlib.Path, required=True)
    train.add_argument(
        "--start", type=pathlib.Path, help="an earlier base to go on from"
    )
    train.add_argument("--run", type=pathlib.Path, help="state; default in WORK")
    train.add_argument("--notes", type=pathlib.Path, help="Markdown to end the card")
    train.add_argument("--dtype", default="float32", help="of the computation")
    train.add_argument("--stop-at", type=int, help="stop early; the schedule stays")
    flags.add_arguments(train)
    check = commands.add_parser("check", help="token arrays against held-out files")
    check.add_argument("--work", type=pathlib.Path, required=True)
    check.add_argument("--held-out", type=pathlib.Path, nargs="+", required=True)
    rows = commands.add_parser("rows", help="prompted rows for `tfew train`")
    rows.add_argument("--work", type=pathlib.Path, required=True)
    rows.add_argument("--out", type=pathlib.Path, required=True)
    rows.add_argument("--count", type=int, required=True)
    flags.add_arguments(rows)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 1 where the check finds a held-out text, else 0.
    """
    options = vars(_parser().parse_args(flags.join(arguments)))
    command = _COMMANDS[options.pop("command")]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    return command(**options)


@contextlib.contextmanager
def _configured(
    entry: Callable[..., Any],
    gin_file: list[str],
    gin_search_paths: list[str],
    gin_bindings: list[str],
) -> Iterator[Callable[..., Any]]:
    """The entry with what the gin files bind."""
    from tfew_jax.cli import configuration

    with configuration.parsed(
        entry=entry,
        files=gin_file or [_DEFAULT],
        bindings=gin_bindings,
        search_paths=[*gin_search_paths, str(CONFIGS)],
    ) as configured:
        yield configured


def _prepare(
    *,
    data: pathlib.Path,
    out: pathlib.Path,
    teacher: pathlib.Path | None,
    questions_wheel: pathlib.Path | None,
    held_out: list[pathlib.Path],
    **gin: list[str],
) -> int:
    from base_model import prepare

    from tfew_jax.cli import configuration

    with _configured(prepare.run, **gin) as run:
        run(
            data=data,
            out=out,
            teacher=teacher,
            questions_wheel=questions_wheel,
            held_out=held_out,
        )
        configuration.save(out)
    return 0


def _train(
    *,
    work: pathlib.Path,
    out: pathlib.Path,
    start: pathlib.Path | None,
    run: pathlib.Path | None,
    notes: pathlib.Path | None,
    dtype: str,
    stop_at: int | None,
    **gin: list[str],
) -> int:
    from tfew_jax.cli import configuration, memory

    memory.keep_freed_memory()
    from base_model import card, curves, training
    from base_model import course as course_lib

    name = _name(gin["gin_file"])
    run = run or work / ("run" if name == card.EMBEDDED else f"run_{name}")
    ending = "\n" + notes.read_text(encoding="utf-8") if notes else ""
    with _configured(course_lib.Course, **gin) as make_course:
        course = make_course()
        params = training.train(
            work=work,
            run=run,
            course=course,
            start=start,
            stop_at=stop_at,
            dtype=dtype,
            on_start=functools.partial(configuration.save, run),
        )
    curves.write(run)
    card.export(
        work=work,
        run=run,
        out=out,
        course=course,
        params=params,
        name=name,
        arguments=_arguments(gin["gin_file"], gin["gin_bindings"]),
        start=start,
        notes=ending,
    )
    return 0


def _name(files: Sequence[str]) -> str:
    """What a model is called: as the last of its gin files."""
    return pathlib.PurePath(files[-1] if files else _DEFAULT).stem


def _arguments(files: Sequence[str], bindings: Sequence[str]) -> str:
    """The gin files and bindings as a command line has them, without folders."""
    names = [f"--gin_file {shlex.quote(pathlib.PurePath(f).name)}" for f in files]
    given = [f"--gin.{shlex.quote(binding)}" for binding in bindings]
    return "".join(f" {part}" for part in (*names, *given))


def _check(*, work: pathlib.Path, held_out: list[pathlib.Path]) -> int:
    from base_model import check

    return 1 if check.run(work=work, held_out=held_out) else 0


def _rows(
    *, work: pathlib.Path, out: pathlib.Path, count: int, **gin: list[str]
) -> int:
    from base_model import course as course_lib
    from base_model import rows

    with _configured(course_lib.Course, **gin) as make_course:
        course = make_course()
    arrays = rows.write(work=work, out=out, count=count, course=course)
    print(f"{arrays.num_examples:,} prompted rows in {out}")
    return 0


_COMMANDS: dict[str, Callable[..., int]] = {
    "prepare": _prepare,
    "train": _train,
    "check": _check,
    "rows": _rows,
}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"make_base_model.py: error: {message}", file=sys.stderr)
        sys.exit(2)
