r"""Tune a frozen T5 on a few labelled rows: an adapter, an accuracy, predictions.

With --test every seed draws its own rows (--shots, else all) from --train, and
accuracy is that on --test: median and quartiles over the seeds. Without it,
stratified 5-fold cross-validation gives the accuracy, and a last adapter is trained
on all rows. Accuracy on rows that an adapter was trained on is never reported.

Of several templates one is drawn for every row and step in training; the first one
scores and predicts. The adapter in DIR/adapter is the first seed's, the one of all
rows where there is no --test, so that no test row chose it.

The run is `tfew train` with the configuration in DIR/config.gin. The same command
goes on where a stopped one was, and does nothing once it is finished.

Example:
  tfew fewshot --train rows.csv --template 'Review: {{text}} Sentiment?' \
    --choices 'bad ||| good' --label sentiment --out reviews
"""

import argparse
import math
import pathlib


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    rows = parser.add_argument_group("rows")
    rows.add_argument("--train", metavar="FILE", help="labelled rows: CSV, TSV, JSONL")
    rows.add_argument("--test", metavar="FILE", help="labelled rows to score")
    rows.add_argument("--predict", metavar="FILE", help="rows to predict, no label")
    rows.add_argument(
        "--template",
        action="append",
        default=[],
        metavar="TEXT",
        help="jinja2 text, 'input ||| target' or the input alone; \\n is a line end; "
        "may be given several times",
    )
    rows.add_argument(
        "--choices",
        metavar="'A ||| B'",
        help="answer choices; they may name columns: '{{choice1}} ||| {{choice2}}'",
    )
    rows.add_argument(
        "--label", metavar="COLUMN", help="index or text of the right choice"
    )
    rows.add_argument(
        "--task", metavar="NAME", help="an embedded example task instead of files"
    )
    rows.add_argument(
        "--shots", type=int, metavar="N", help="rows to draw; default all"
    )
    runs = parser.add_argument_group("runs")
    runs.add_argument(
        "--seeds",
        type=_seeds,
        metavar="0,1,…",
        help="default 0,1,32,42,1024 with test rows, else 0",
    )
    runs.add_argument("--base", metavar="DIR", help="model; default the embedded base")
    runs.add_argument("--vocabulary", metavar="FILE", help="if DIR of --base has none")
    runs.add_argument("--method", default="ia3", metavar="NAME", help="default ia3")
    runs.add_argument("--steps", type=int, metavar="N", help="default 1000")
    runs.add_argument("--batch-size", type=int, metavar="N", help="default 8")
    runs.add_argument("--learning-rate", type=float, metavar="X", help="default 3e-3")
    runs.add_argument(
        "--out", default="fewshot_output", metavar="DIR", help="default %(default)s"
    )
    runs.add_argument(
        "--overwrite", action="store_true", help="replace an earlier run in DIR"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the configuration of the run and hands it to `tfew train`."""
    text = config_text(args)
    from tfew_jax.cli import train

    return train.run_text(text, overwrite=args.overwrite)


def config_text(args: argparse.Namespace) -> str:
    """The gin configuration that the arguments stand for.

    Raises:
        ValueError: If arguments are missing or exclude each other.
    """
    _check(args)
    macros = {
        "MODEL_DIR": str(pathlib.Path(args.out).expanduser().absolute()),
        "INITIAL_CHECKPOINT_PATH": _absolute(args.base),
        "VOCABULARY": _absolute(args.vocabulary),
        "TRAIN_FILE": _absolute(args.train),
        "TEST_FILE": _absolute(args.test),
        "PREDICT_FILE": _absolute(args.predict),
        "TEMPLATES": [text.replace("\\n", "\n") for text in args.template],
        "CHOICES": args.choices,
        "LABEL": args.label,
        "NUM_SHOTS": args.shots,
        "SEEDS": args.seeds,
        "TRAIN_STEPS": args.steps,
        "BATCH_SIZE": args.batch_size,
        "LEARNING_RATE": args.learning_rate,
    }
    if args.seeds is None and args.test is None and args.task is None:
        macros["SEEDS"] = (0,)  # cross-validation repeats by folds
    given = {name: value for name, value in macros.items() if value not in (None, [])}
    task = args.task or "csv"
    lines = [
        "# Written by `tfew fewshot`; the same run again:",
        "#   tfew train --gin_file config.gin",
        "",
        "from __gin__ import dynamic_registration",
        "",
        "include 'models/embedded.gin'",
        f"include 'methods/{args.method}.gin'",
        f"include 'tasks/{task}.gin'",
        "include 'runs/fewshot.gin'",
        "",
        *(f"{name} = {value!r}" for name, value in given.items()),
    ]
    return "\n".join(lines) + "\n"


def _check(args: argparse.Namespace) -> None:
    """Refuses what cannot be a run, before anything heavy is imported."""
    files = {
        "--train": args.train,
        "--test": args.test,
        "--template": args.template,
        "--choices": args.choices,
        "--label": args.label,
    }
    if args.task is not None:
        if given := [name for name, value in files.items() if value]:
            raise ValueError(f"--task names rows and templates; leave out {given[0]}")
    else:
        for name in ("--train", "--template", "--choices"):
            if not files[name]:
                raise ValueError(f"{name} is missing; see tfew fewshot --help")
    rate = args.learning_rate
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"--learning-rate must be a positive number, got {rate}")
    from tfew_jax.cli import packaged

    for flag, kind in (("method", "methods"), ("task", "tasks")):
        name = getattr(args, flag)
        known = [path.stem for path in packaged.files(kind)]
        if flag == "task":
            known.remove("csv")
        if name is not None and name not in known:
            raise ValueError(
                f"unknown --{flag} {name!r}; available: {', '.join(known)}"
            )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(pathlib.Path(path).expanduser().absolute())


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers such as 0,1,32"
        ) from None
    if not seeds:
        raise argparse.ArgumentTypeError("there is no seed; give one or more")
    return seeds
