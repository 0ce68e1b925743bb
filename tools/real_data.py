"""Tunes a base on public few-shot sets and prints the README's table.

    python tools/real_data.py --data DIR --out DIR [--only trec,agnews,sst2,rte,cb]
        [--base DIR] [--random-weights] [--steps N] [--learning-rate X]
        [--method ia3|prompt|full] [--setting NAME=VALUE] [--adapter DIR]
        [--vote] [--losses both,no_unlikelihood,no_length_normalized,lm_only]

`DIR` of --data holds `classification/{trec,agnews,sst2}`, `tfew_splits/{rte,cb}` and
`superglue_32shot_and_dev/{RTE,CB}`; the embedded tasks' names need none. Each seed of
TREC and SST-2 draws 50 rows of the training file and is scored on the test file. AG
News has a test file alone: each seed draws 50 of its rows and is scored on the others.
RTE and CB use T-Few's published shots and the official development rows. `--adapter`
names the adapter that every run starts from; `--setting length=20` is one of the
method's own. (IA)^3 has a rate of 1e-2 unless another is given, other methods have
theirs.

The protocol is T-Few's: promptsource's templates for the set's own task (`tfew
templates fetch` gets them), a random one for each row in training and in scoring.
--vote lets the adapters of all seeds vote on the test rows afterwards, rendered by the
first template, and prints their mean, the best and the vote; not for AG News, whose
seeds have test rows of their own.

--losses names the losses of T-Few's ablation (Table 3 of the paper) to tune with, each
in a directory of its own; `tfew report` compares them. A run that was stopped goes on
where it was.
"""

import argparse
import csv
import dataclasses
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import yaml

from tfew_jax import checkpoint, experiment, losses, models, peft
from tfew_jax.data import fewshot, promptsource_sets, tasks

SEEDS = (0, 1, 32, 42, 1024)
Rows = list[dict[str, Any]]

FLOORS = {  # TF-IDF elsewhere, on such draws; for RTE the majority class
    "trec": 0.532,
    "agnews": 0.570,
    "sst2": 0.578,
    "rte": 0.527,
    "cb": 0.679,
}
NUM_SHOTS = 50
# Set of templates, and which of them: TREC's others ask for finer kinds.
TEMPLATES = {
    "trec": ("trec", range(13, 18)),
    "agnews": ("ag_news", range(7)),
    "sst2": ("glue/sst2", range(5)),
}
# Name in reports, loss and score of each ablation, as in gin_configs/ablations.
LOSSES: Mapping[str, tuple[str | None, losses.TFewLoss, str]] = {
    "both": (None, losses.TFewLoss(), "mean"),
    "no_unlikelihood": ("without UL", losses.TFewLoss(unlikelihood=0.0), "mean"),
    "no_length_normalized": (
        "without LN",
        losses.TFewLoss(length_normalized=0.0),
        "sum",
    ),
    "lm_only": (
        "without UL and LN",
        losses.TFewLoss(unlikelihood=0.0, length_normalized=0.0),
        "sum",
    ),
}
TITLES = {"ia3": "(IA)^3", "full": "model tuning", "prompt": "prompt tuning"}
_TREC = ("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC")  # as the dataset numbers them


def trec(data: pathlib.Path) -> tuple[Rows, Rows]:
    """Questions; the 11 test questions that are also in train leave train."""

    def read(name: str) -> Rows:
        text = (data / "classification" / "trec" / name).read_text("latin-1")
        lines = [line.split(" ", 1) for line in text.splitlines() if line.strip()]
        return [
            {"text": question, "label_coarse": _TREC.index(kind.split(":")[0])}
            for kind, question in lines
        ]

    test = read("test.txt")
    seen = {row["text"] for row in test}
    return [row for row in read("train.txt") if row["text"] not in seen], test


def sst2(data: pathlib.Path) -> tuple[Rows, Rows]:
    """Sentences of film reviews."""

    def read(name: str) -> Rows:
        text = (data / "classification" / "sst2" / name).read_text("utf-8")
        lines = [line.split(" ", 1) for line in text.splitlines() if line.strip()]
        return [{"sentence": text, "label": int(label)} for label, text in lines]

    return read("stsa.binary.train"), read("stsa.binary.test")


def agnews(data: pathlib.Path) -> Rows:
    """News: title and beginning, as one text."""
    path = data / "classification" / "agnews" / "test.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                "text": f"{row['Title']} {row['Description']}",
                "label": int(row["Class Index"]) - 1,
            }
            for row in csv.DictReader(file)
        ]


DRAWN: Mapping[str, Callable[[pathlib.Path], tuple[Rows, Rows]]] = {
    "trec": trec,
    "sst2": sst2,
}


def make_tasks(name: str, data: pathlib.Path) -> dict[tuple[int, ...], tasks.Task]:
    """The set with its rows and templates, by the seeds that share its test rows."""
    if name in tasks.names():
        return {SEEDS: tasks.get(name)}
    if name not in TEMPLATES:
        task = tasks.benchmark(
            name,
            data_dir=data / "superglue_32shot_and_dev",
            shots_dir=data / "tfew_splits",
            seeds=SEEDS,
        )
        return {SEEDS: task}
    set_name, indices = TEMPLATES[name]
    found = promptsource_sets.load(set_name)
    spec = tasks.promptsource_spec([found.at(i) for i in indices], name=name)
    if name in DRAWN:
        rows, test = DRAWN[name](data)
        return {SEEDS: tasks.Task(spec=spec, train=rows, test=test)}
    rows = agnews(data)
    labels = [row["label"] for row in rows]
    parts: dict[tuple[int, ...], tasks.Task] = {}
    for seed in SEEDS:
        drawn = set(fewshot.draw_shots(labels, NUM_SHOTS, seed).tolist())
        shots = [rows[i] for i in sorted(drawn)]
        rest = [row for i, row in enumerate(rows) if i not in drawn]
        parts[seed,] = tasks.Task(spec=spec, train=shots, test=rest)
    return parts


def run(
    name: str,
    base: experiment.Base,
    data: pathlib.Path,
    out: pathlib.Path,
    recipe: experiment.Recipe,
    loss_name: str,
    **tuning: Any,
) -> list[dict[str, Any]]:
    """All seeds of one set with one loss; their records.

    `tuning` goes to `experiment.train`: `method`, `initial_adapter`.
    """
    variant, loss, normalization = LOSSES[loss_name]
    records: list[dict[str, Any]] = []
    parts = make_tasks(name, data)
    for seeds, task in parts.items():
        result = experiment.train(
            model_dir=out / f"seed_{seeds[0]}" if len(parts) > 1 else out,
            base=base,
            task=task,
            recipe=dataclasses.replace(recipe, loss=loss),
            variant=variant,
            normalization=normalization,
            seeds=seeds,
            num_shots=NUM_SHOTS if task.draws is None else None,
            eval_templates="random",
            **tuning,
        )
        records += result.records
    return records


def row_of_votes(
    name: str, base: experiment.Base, data: pathlib.Path, out: pathlib.Path
) -> str:
    """Accuracy of the seeds' adapters alone and together, as a row of Markdown.

    Raises:
        ValueError: If the set has other test rows for every seed.
    """
    (task, *others) = make_tasks(name, data).values()
    if others:
        raise ValueError(f"the seeds of {name} have no test rows in common to vote on")
    numbers = experiment.evaluate(
        output_dir=out / "vote",
        base=base,
        task=task,
        adapter=[out / "runs" / f"seed-{seed}" / "adapter" for seed in SEEDS],
    )
    cells = [
        f"{numbers[kind]['accuracy']:.3f}"
        for kind in ("mean_of_members", "best_of_members", "vote", "mean_probability")
    ]
    return "| " + " | ".join([name, *cells, f"{numbers['agreement']:.3f}"]) + " |"


def make_method(name: str, settings: list[str]) -> peft.PeftMethod:
    """The method of that name with settings such as "length=20".

    Raises:
        ValueError: If the method or a setting is unknown or not allowed.
    """
    pairs = (setting.partition("=") for setting in settings)
    return peft.get(name).from_settings({n: yaml.safe_load(v) for n, _, v in pairs})


def random_base(base: experiment.Base) -> experiment.Base:
    """The same shape with initial weights, to see what the base has learned."""
    params = models.unstack_layers(models.init(base.config, None, jax.random.key(0)))
    model = checkpoint.Model(
        config=base.config,
        params=params,
        vocabulary=base.tokenizer.model_file,
        path=None,
    )
    return experiment.make_base(model)


def row_of_table(title: str, name: str, records: list[dict[str, Any]]) -> str:
    """Median and quartiles of each kind of prediction, as a row of Markdown."""
    cells = [title]
    for kind in ("zero_shot", "tuned", "majority", "tfidf"):
        values = [r["scores"]["accuracy"] for r in records if r["kind"] == kind]
        q1, q3 = np.quantile(values, [0.25, 0.75])
        median = statistics.median(values)
        cells.append(f"{median:.3f} ({q1:.3f}–{q3:.3f})")
    floor = f"{FLOORS[name]:.3f}" if name in FLOORS else ""
    return "| " + " | ".join([*cells, floor]) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path())
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", default=",".join(FLOORS))
    parser.add_argument("--base", type=pathlib.Path, default=None)
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--losses", default="both")
    parser.add_argument("--method", default="ia3")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--adapter", type=pathlib.Path, default=None)
    parser.add_argument("--vote", action="store_true")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the arguments, runs the sets and prints the table.

    Raises:
        ValueError: If a set or setting is unknown or cannot work; before any runs.
        OSError: If the files of a set are not there.
    """
    parser = _parser()
    args = parser.parse_args(arguments)
    if unknown := set(args.losses.split(",")) - set(LOSSES):
        parser.error(f"unknown losses {sorted(unknown)}; available: {list(LOSSES)}")
    method = make_method(args.method, args.setting)
    rate = args.learning_rate or (1e-2 if args.method == "ia3" else None)
    recipe = experiment.Recipe.for_method(
        method, num_steps=args.steps, learning_rate=rate
    )
    for name in args.only.split(","):
        make_tasks(name, args.data)
    base = experiment.load_base(args.base)
    if args.random_weights:
        base = random_base(base)
    lines, votes = [], []
    for name in args.only.split(","):
        for loss_name in args.losses.split(","):
            out = args.out / (name if loss_name == "both" else f"{name}-{loss_name}")
            tuning = {"method": method, "initial_adapter": args.adapter}
            records = run(name, base, args.data, out, recipe, loss_name, **tuning)
            title = name if loss_name == "both" else f"{name}, {LOSSES[loss_name][0]}"
            lines.append(row_of_table(title, name, records))
            if args.vote:
                votes.append(row_of_votes(name, base, args.data, out))
    title = TITLES.get(args.method, args.method)
    print(f"| set | zero-shot | {title} | majority | TF-IDF | floor |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))
    if votes:
        print(
            "\n| set | mean of five | best of five | vote | mean probability | agree |"
        )
        print("|---|---|---|---|---|---|")
        print("\n".join(votes))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"real_data.py: error: {message}", file=sys.stderr)
        sys.exit(2)
