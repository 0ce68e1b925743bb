"""Make the embedded base model, in two steps.

    python tools/make_base_model.py prepare --data DIR --teacher WHEEL --out WORK \
        --held-out FILE_OR_FOLDER ...
    python tools/make_base_model.py train --work WORK --out DIR

The first reads the corpora and writes token arrays; the second trains on the arrays
alone and needs only the core install. Both say what they do in tools/base_model/.
"""

import argparse
import dataclasses
import logging
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="corpora to token arrays")
    prepare.add_argument("--data", type=pathlib.Path, required=True)
    prepare.add_argument("--out", type=pathlib.Path, required=True)
    prepare.add_argument("--teacher", type=pathlib.Path, required=True)
    prepare.add_argument("--held-out", type=pathlib.Path, nargs="*", default=[])
    prepare.add_argument("--scale", type=float, default=1.0)
    prepare.add_argument("--vocab-size", type=int, default=8192)
    prepare.add_argument("--emb-dim", type=int, default=256)
    train = commands.add_parser("train", help="token arrays to a model folder")
    train.add_argument("--work", type=pathlib.Path, required=True)
    train.add_argument("--out", type=pathlib.Path, required=True)
    train.add_argument(
        "--start", type=pathlib.Path, help="an earlier base to go on from"
    )
    train.add_argument("--run", type=pathlib.Path, help="state; default WORK/run")
    train.add_argument("--notes", type=pathlib.Path, help="Markdown to end the card")
    train.add_argument("--dtype", default="float32", help="of the computation")
    train.add_argument("--stop-at", type=int, help="stop early; the schedule stays")
    from base_model import training

    for field in dataclasses.fields(training.Settings):
        name = "--" + field.name.replace("_", "-")
        train.add_argument(name, type=field.type, default=field.default)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if command == "prepare":
        from base_model import prepare

        prepare.run(**options)
    else:
        _train(**options)


def _train(
    *,
    work: pathlib.Path,
    out: pathlib.Path,
    start: pathlib.Path | None,
    run: pathlib.Path | None,
    notes: pathlib.Path | None,
    dtype: str,
    stop_at: int | None,
    **fields: float,
) -> None:
    from base_model import card, training

    from tfew_jax.cli import memory

    memory.keep_freed_memory()
    settings = training.Settings(**fields)  # pyright: ignore[reportArgumentType]
    run = run or work / "run"
    params = training.train(
        work=work,
        out=run,
        settings=settings,
        start=start,
        stop_at=stop_at,
        dtype=dtype,
    )
    card.export(
        work=work,
        run=run,
        out=out,
        settings=settings,
        params=params,
        start=start,
        notes="\n" + notes.read_text(encoding="utf-8") if notes else "",
    )


if __name__ == "__main__":
    main()
