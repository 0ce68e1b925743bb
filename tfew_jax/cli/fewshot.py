r"""Tune a frozen T5 on a few labelled rows: an adapter, an accuracy, predictions.

With --test every seed draws its own rows (--shots, else all) from --train, and
accuracy is that on --test: median and quartiles over the seeds. Without it,
stratified 5-fold cross-validation gives the accuracy, and a last adapter is trained
on all rows. Accuracy on rows that an adapter was trained on is never reported.

Of several templates one is drawn for every row and step in training; the first one
scores (but see --eval-templates) and predicts. The adapter in DIR/adapter is the
first seed's, the one of all rows where there is no --test, so that no test row chose
it.

The run is `tfew train` with the configuration in DIR/config.gin. The same command
goes on where a stopped one was, and does nothing once it is finished.

--demonstrations K trains nothing: K rows of each draw, with their right choices, stand
in the input in front of each row that the frozen model scores.

--task rte and the like rerun T-Few's evaluation of one of its sets: its draws, the
templates that `tfew templates fetch` gets, a random one for every row.

Example:
  tfew fewshot --train rows.csv --template 'Review: {{text}} Sentiment?' \
    --choices 'bad ||| good' --label sentiment --out reviews
"""

import argparse
import math
import pathlib

_RAFT = "raft/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    _add_rows(parser.add_argument_group("rows"))
    _add_sets(parser.add_argument_group("tasks instead of files"))
    _add_runs(parser.add_argument_group("runs"))


def _add_rows(rows: argparse._ArgumentGroup) -> None:
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
        "--shots", type=int, metavar="N", help="rows to draw; default all"
    )


def _add_sets(sets: argparse._ArgumentGroup) -> None:
    sets.add_argument(
        "--task",
        metavar="NAME",
        help="a task instead of files: an embedded one, one of the papers' sets such "
        "as rte, or one of RAFT such as raft/overruling",
    )
    sets.add_argument(
        "--data-dir", metavar="DIR", help="where the rows of a set or of RAFT are"
    )
    sets.add_argument(
        "--shots-dir", metavar="DIR", help="T-Few's published subsets, not draws"
    )
    sets.add_argument(
        "--templates-dir", metavar="DIR", help="default what `tfew templates` keeps"
    )
    sets.add_argument(
        "--allow-partial-train",
        "--allow_partial_train",  # as messages and configurations write it
        action="store_true",
        help="draw from a training file that is not the official one",
    )


def _add_runs(runs: argparse._ArgumentGroup) -> None:
    runs.add_argument(
        "--seeds",
        type=_seeds,
        metavar="0,1,…",
        help="default 0,1,32,42,1024 with test rows, else 0",
    )
    runs.add_argument(
        "--eval-templates",
        type=_eval_templates,
        metavar="first,random,all,0,…",
        help="which templates render scored rows; default random for the papers' "
        "sets, else the first one",
    )
    runs.add_argument("--base", metavar="DIR", help="model; default the embedded base")
    runs.add_argument("--vocabulary", metavar="FILE", help="if DIR of --base has none")
    runs.add_argument("--method", metavar="NAME", help="default ia3")
    runs.add_argument(
        "--demonstrations",
        type=int,
        metavar="K",
        help="rows to show in the input instead of tuning; 0 is zero-shot",
    )
    runs.add_argument("--steps", type=int, metavar="N", help="default 1000")
    runs.add_argument("--batch-size", type=int, metavar="N", help="default 8")
    runs.add_argument(
        "--learning-rate", type=float, metavar="X", help="default the method's"
    )
    runs.add_argument(
        "--max-together",
        type=int,
        metavar="N",
        help="runs that train at once; default as many as memory allows, 1 on a CPU",
    )
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
        "DATA_DIR": _source(args.data_dir),
        "SHOTS_DIR": _absolute(args.shots_dir),
        "TEMPLATES_DIR": _absolute(args.templates_dir),
        "ALLOW_PARTIAL_TRAIN": args.allow_partial_train or None,
        "NUM_SHOTS": args.shots,
        "NUM_DEMONSTRATIONS": args.demonstrations,
        "SEEDS": args.seeds,
        "EVAL_TEMPLATES": args.eval_templates,
        "TRAIN_STEPS": args.steps,
        "BATCH_SIZE": args.batch_size,
        "LEARNING_RATE": args.learning_rate,
        "MAX_TOGETHER": args.max_together,
    }
    task, run, more = _task_and_run(args.task)
    methods = [f"include 'methods/{args.method or 'ia3'}.gin'"]
    if args.demonstrations is not None:
        if run == "tfew":  # a random template for every row, as where one tunes
            macros["EVAL_TEMPLATES"] = args.eval_templates or "random"
        run, methods = "text_prompt", []
    if (
        args.seeds is None
        and args.test is None
        and (not args.task or "RAFT_TASK" in more)
    ):
        macros["SEEDS"] = (0,)  # cross-validation repeats by folds
    given = {n: v for n, v in (macros | more).items() if v not in (None, [])}
    lines = [
        "# Written by `tfew fewshot`; the same run again:",
        "#   tfew train --gin_file config.gin",
        "",
        "from __gin__ import dynamic_registration",
        "",
        "include 'models/embedded.gin'",
        *methods,
        f"include 'tasks/{task}.gin'",
        f"include 'runs/{run}.gin'",
        "",
        *(f"{name} = {value!r}" for name, value in given.items()),
    ]
    return "\n".join(lines) + "\n"


def _task_and_run(name: str | None) -> tuple[str, str, dict[str, str]]:
    """Gin files of the task and of the run, and macros beside."""
    if name is None:
        return "csv", "fewshot", {}
    if name.startswith(_RAFT):
        task = name.removeprefix(_RAFT)
        run = "raft_banking_77" if task == "banking_77" else "fewshot"
        return "raft", run, {"RAFT_TASK": task}
    return name, "tfew" if name in _sets() else "fewshot", {}


def _sets() -> list[str]:
    """The papers' sets: tasks whose gin file includes that of all sets."""
    from tfew_jax.cli import packaged

    files = packaged.files("tasks")
    return [p.stem for p in files if "include 'tasks/benchmark.gin'" in p.read_text()]


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
    _check_names(args)
    _check_demonstrations(args)
    in_set, in_raft = args.task in _sets(), (args.task or "").startswith(_RAFT)
    if (in_set or in_raft) and not args.data_dir:
        raise ValueError(f"--data-dir is missing: where the rows of {args.task} are")
    allowed = {
        "--data-dir": (args.data_dir, in_set or in_raft),
        "--shots-dir": (args.shots_dir, in_set),
        "--templates-dir": (args.templates_dir, in_set),
        "--allow-partial-train": (args.allow_partial_train, in_set),
    }
    for flag, (value, has_use) in allowed.items():
        if value and not has_use:
            raise ValueError(
                f"{flag} is for the papers' sets ({', '.join(_sets())})"
                f"{' and RAFT' if flag == '--data-dir' else ''}; leave it out"
            )


def _check_demonstrations(args: argparse.Namespace) -> None:
    """Refuses what is for tuning where nothing is tuned."""
    if args.demonstrations is None:
        return
    if args.demonstrations < 0:
        raise ValueError(
            f"--demonstrations must be 0 or more, got {args.demonstrations}"
        )
    for name in ("method", "steps", "batch_size", "learning_rate", "max_together"):
        if getattr(args, name) is not None:
            flag = name.replace("_", "-")
            raise ValueError(
                f"--{flag} is for tuning, and --demonstrations tunes nothing; leave "
                "one of the two out"
            )


def _check_names(args: argparse.Namespace) -> None:
    from tfew_jax.cli import packaged

    known = [path.stem for path in packaged.files("methods")]
    if args.method not in (None, *known):
        raise ValueError(
            f"unknown --method {args.method!r}; available: {', '.join(known)}"
        )
    if args.task is None or args.task.startswith(_RAFT):
        return  # RAFT's names are checked where its data are read
    templates = ("csv", "benchmark", "raft")  # need more than a name
    known = [p.stem for p in packaged.files("tasks") if p.stem not in templates]
    if args.task not in known:
        raise ValueError(
            f"unknown --task {args.task!r}; available: {', '.join(known)}, and "
            "raft/NAME"
        )


def _source(path: str | None) -> str | None:
    """A directory as an absolute path; `hub:` and `tfds:` stay in front."""
    kind, colon, rest = (path or "").partition(":")
    if colon and kind in ("hub", "tfds"):
        return f"{kind}:{_absolute(rest)}" if rest else path
    return _absolute(path)


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


def _eval_templates(text: str) -> tuple[str | int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise argparse.ArgumentTypeError("there is nothing; give first, random or all")
    for part in parts:
        if not part.isdecimal() and part not in ("first", "random", "all"):
            raise argparse.ArgumentTypeError(
                f"{part!r} is none of first, random, all and indices from 0"
            )
    return tuple(int(part) if part.isdecimal() else part for part in parts)
