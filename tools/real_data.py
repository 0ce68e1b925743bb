"""Tunes a base on public few-shot sets and prints the README's table.

    python tools/real_data.py --data DIR --out DIR [--only trec,sst2,rte,cb]
        [--base DIR] [--random-weights] [--steps N] [--learning-rate X]

`DIR` of --data holds `classification/{trec,sst2}`, `tfew_splits/{rte,cb}` and
`superglue_32shot_and_dev/{RTE,CB}`. Each seed of TREC and SST-2 draws 50 rows of the
training file and is scored on the test file; RTE and CB use T-Few's published shots
and the official development rows. Prompts and choices are fixed here, before any
score was seen. A run that was stopped goes on where it was.
"""

import argparse
import json
import pathlib
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from tfew_jax import checkpoint, experiment, models
from tfew_jax.data import sources
from tfew_jax.experiment import base as base_lib

SEEDS = (0, 1, 32, 42, 1024)
Rows = list[dict[str, Any]]

_TREC = {
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "thing",
    "HUM": "person",
    "LOC": "place",
    "NUM": "number",
}
_ENTAILMENT = (
    "{{premise}}\nQuestion: {{hypothesis}} Yes or no? ||| {{answer_choices[label]}}"
)
_NEUTRAL_LAST = (
    "{{premise}}\nQuestion: {{hypothesis}} Yes, no or maybe? "
    "||| {{answer_choices[label]}}"
)
TASKS: Mapping[str, Mapping[str, Any]] = {
    "trec": {
        "template": "Question: {{text}}\nWhat is asked for? "
        "||| {{answer_choices[label]}}",
        "choices": " ||| ".join(_TREC.values()),
        "shots": 50,
        "floor": 0.532,
    },
    "sst2": {
        "template": "Review: {{text}}\nSentiment? ||| {{answer_choices[label]}}",
        "choices": "bad ||| good",
        "shots": 50,
        "floor": 0.578,
    },
    "rte": {
        "template": _ENTAILMENT,
        "choices": "yes ||| no",
        "labels": ("entailment", "not_entailment"),
        "floor": 0.527,  # the majority class; TF-IDF has .502
    },
    "cb": {
        "template": _NEUTRAL_LAST,
        "choices": "yes ||| no ||| maybe",
        "labels": ("entailment", "contradiction", "neutral"),
        "floor": 0.679,
    },
}


def trec(data: pathlib.Path) -> tuple[Rows, Rows]:
    """Questions; the 11 test questions that are also in train leave train."""

    def read(name: str) -> Rows:
        text = (data / "classification" / "trec" / name).read_text("latin-1")
        lines = [line.split(" ", 1) for line in text.splitlines() if line.strip()]
        return [{"text": q, "label": _TREC[kind.split(":")[0]]} for kind, q in lines]

    test = read("test.txt")
    seen = {row["text"] for row in test}
    return [row for row in read("train.txt") if row["text"] not in seen], test


def sst2(data: pathlib.Path) -> tuple[Rows, Rows]:
    """Sentences of film reviews."""

    def read(name: str) -> Rows:
        text = (data / "classification" / "sst2" / name).read_text("utf-8")
        lines = [line.split(" ", 1) for line in text.splitlines() if line.strip()]
        return [{"text": sentence, "label": int(label)} for label, sentence in lines]

    return read("stsa.binary.train"), read("stsa.binary.test")


def split(data: pathlib.Path, name: str, seed: int) -> tuple[Rows, Rows]:
    """T-Few's shots of one seed, and the official development rows."""
    labels = TASKS[name]["labels"]
    shots = sources.load_rows(
        data / "tfew_splits" / name / f"32_shot/{seed}_seed.jsonl"
    )
    test = sources.load_rows(
        data / "superglue_32shot_and_dev" / name.upper() / "val.jsonl"
    )
    return [dict(row) for row in shots], [
        {**row, "label": labels.index(row["label"])} for row in test
    ]


DRAWN: Mapping[str, Callable[[pathlib.Path], tuple[Rows, Rows]]] = {
    "trec": trec,
    "sst2": sst2,
}


def run(
    name: str,
    base: experiment.Base,
    data: pathlib.Path,
    out: pathlib.Path,
    recipe: experiment.Recipe,
) -> list[dict[str, Any]]:
    """All seeds of one set; their records."""
    task = TASKS[name]
    common = {
        "template": task["template"],
        "choices": task["choices"],
        "label": "label",
        "recipe": recipe,
    }
    if name in DRAWN:
        rows, test = DRAWN[name](data)
        result = experiment.fewshot(
            base,
            rows,
            test_rows=test,
            num_shots=task["shots"],
            seeds=SEEDS,
            out=out / name,
            **common,
        )
        return result.records
    records = []
    for seed in SEEDS:
        rows, test = split(data, name, seed)
        result = experiment.fewshot(
            base,
            rows,
            test_rows=test,
            seeds=(seed,),
            out=out / name / f"seed_{seed}",
            **common,
        )
        records += result.records
    return records


def random_base(base: experiment.Base, vocabulary: pathlib.Path) -> experiment.Base:
    """The same shape with initial weights, to see what the base has learned."""
    params = models.unstack_layers(models.init(base.config, None, jax.random.key(0)))
    model = checkpoint.Model(
        config=base.config, params=params, vocabulary=vocabulary, path=None
    )
    return experiment.make_base(model)


def row_of_table(name: str, records: list[dict[str, Any]]) -> str:
    """Median and quartiles of each kind of prediction, as a row of Markdown."""
    cells = [name]
    for kind in ("zero_shot", "tuned", "majority", "tfidf"):
        values = [r["scores"]["accuracy"] for r in records if r["kind"] == kind]
        q1, q3 = np.quantile(values, [0.25, 0.75])
        median = statistics.median(values)
        cells.append(f"{median:.3f} ({q1:.3f}–{q3:.3f})")
    return "| " + " | ".join([*cells, f"{TASKS[name]['floor']:.3f}"]) + " |"


def main() -> None:
    """Parses the arguments, runs the sets and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--base", type=pathlib.Path, default=None)
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    args = parser.parse_args()
    recipe = experiment.Recipe(num_steps=args.steps, learning_rate=args.learning_rate)
    base = experiment.load_base(args.base)
    if args.random_weights:
        folder = args.base or base_lib.EMBEDDED
        base = random_base(base, folder / "sentencepiece.model")
    lines = []
    for name in args.only.split(","):
        records = run(name, base, args.data, args.out, recipe)
        lines.append(row_of_table(name, records))
        (args.out / name / "records.json").write_text(json.dumps(records, indent=1))
    print("| set | zero-shot | (IA)^3 | majority | TF-IDF | floor |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
