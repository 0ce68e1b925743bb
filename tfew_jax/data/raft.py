"""RAFT: eleven real-world classification tasks, fifty labelled rows each.

Alex et al., 2021 (https://arxiv.org/abs/2109.14076), with the prompts of T-Few (Liu et
al., 2022, https://arxiv.org/abs/2205.05638, appendix H): the instruction, one line
`Field: value` for each field in the order of the columns, and `Label:`. The paper names
the labels in the prompt for Banking77 alone, its code does so for every task.

Where a prompt is longer than the model's inputs its longest part is cut, be it a field
or the instruction, never the `Label:` at the end, which the reference code loses.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tfew_jax.data import sources
from tfew_jax.data.tokenizer import Tokenizer

NAMES = (
    "ade_corpus_v2",
    "banking_77",
    "neurips_impact_statement_risks",
    "one_stop_english",
    "overruling",
    "semiconductor_org_types",
    "systematic_review_inclusion",
    "tai_safety_research",
    "terms_of_service",
    "tweet_eval_hate",
    "twitter_complaints",
)
NUM_TRAIN = 50  # labelled rows of each task
LABEL_POLICIES = ("paper", "none", "comma", "numbered")
TEMPLATE = "{{inputs}}"  # of the rows that `make_rows` returns
_NAMED_IN_PAPER = "banking_77"
_SETTINGS = "prompt_construction_settings.jsonl"
_END = "Label:"


class RaftError(ValueError):
    """A RAFT task that is not there or whose files are not as distributed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RaftTask:
    """One task as distributed.

    Attributes:
        name: One of `NAMES`.
        instruction: First part of the prompt.
        fields: Columns that the prompt shows, in the order of the file.
        labels: Names of the labels, as submissions want them.
        train: The labelled rows.
        test: The rows to predict.
    """

    name: str
    instruction: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    train: Sequence[sources.Row]
    test: Sequence[sources.Row]

    @property
    def choices(self) -> tuple[str, ...]:
        """The labels as answer choices: Banking77's without underscores and dots."""
        if self.name != _NAMED_IN_PAPER:
            return self.labels
        return tuple(x.replace("_", " ").replace(". ", " ") for x in self.labels)


def load(name: str, data_dir: str | os.PathLike[str]) -> RaftTask:
    """Reads a task.

    Args:
        name: One of `NAMES`.
        data_dir: Holds the settings file of the prompts, and for each task a folder
            with `task.json`, `train.csv` and `test_unlabeled.csv`.

    Raises:
        RaftError: The task or one of its files is not there or not as distributed.
        sources.SourceError: A file of rows cannot be read.
    """
    if name not in NAMES:
        raise RaftError(f"unknown RAFT task {name!r}; available: {', '.join(NAMES)}")
    root = pathlib.Path(data_dir).expanduser()
    settings = _json_lines(root / _SETTINGS)
    described = _json_lines(root / name / "task.json")
    train = sources.load_rows(root / name / "train.csv")
    test = sources.load_rows(root / name / "test_unlabeled.csv")
    try:
        shown, instructions = settings
        wanted, instruction = shown[name], instructions[name]
        labels = tuple(described[0]["label_columns"]["Label"])
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise RaftError(
            f"{root}: the settings of {name} are not as distributed ({error!r}); fetch "
            f"{_SETTINGS} and {name}/task.json again"
        ) from None
    fields = tuple(column for column in test[0] if column in wanted)
    if missing := set(wanted) - set(fields):
        raise RaftError(
            f"{root / name}: no column {sorted(missing)[0]!r}, which the prompt shows; "
            "fetch test_unlabeled.csv again"
        )
    for row in train:
        if row.get("Label") not in labels:
            raise RaftError(
                f"{row.where}: label {row.get('Label')!r} is none of {list(labels)}; "
                "fetch train.csv again"
            )
    _check_rows(train, fields, "train.csv")
    _check_rows(test, fields, "test_unlabeled.csv")
    return RaftTask(
        name=name,
        instruction=instruction.strip(),
        fields=fields,
        labels=labels,
        train=train,
        test=test,
    )


def _check_rows(rows: Sequence[sources.Row], fields: Sequence[str], file: str) -> None:
    """Refuses rows without the columns of the prompt, or without a number each."""
    seen: dict[int, str] = {}
    for row in rows:
        if missing := [name for name in fields if name not in row]:
            raise RaftError(
                f"{row.where}: no column {missing[0]!r}, which the prompt shows; fetch "
                f"{file} again"
            )
        number = str(row.get("ID")).strip()
        if not (number.isascii() and number.isdecimal()):
            raise RaftError(
                f"{row.where}: ID {row.get('ID')!r} is no whole number; fetch {file} "
                "again"
            )
        if (first := seen.setdefault(int(number), row.where)) != row.where:
            raise RaftError(
                f"{row.where}: ID {int(number)} stands in {first}, too; fetch {file} "
                "again"
            )


def make_rows(
    task: RaftTask,
    split: str,
    tokenizer: Tokenizer,
    *,
    labels: str = "paper",
    max_length: int | None = None,
) -> list[sources.Row]:
    """Rows with the prompt as `inputs`, the `ID`, and for "train" the `label`'s index.

    Args:
        task: The task.
        split: "train" or "test".
        tokenizer: Of the model that reads the prompts.
        labels: Whether the prompt names the labels: "paper" (Banking77 alone),
            "none", "comma" (as the reference code, everywhere) or "numbered".
        max_length: Most tokens of a prompt, the end of sequence included; T-Few's
            where None: 256, for Banking77 512.

    Raises:
        RaftError: The split or the policy is unknown, or the names of fields and
            labels alone are longer than the prompt may be.
    """
    if labels not in LABEL_POLICIES:
        raise RaftError(f"labels={labels!r}; choose from {', '.join(LABEL_POLICIES)}")
    if split not in ("train", "test"):
        raise RaftError(f"{task.name} has no split {split!r}; available: train, test")
    if max_length is None:
        max_length = 512 if task.name == _NAMED_IN_PAPER else 256
    rows = []
    for row in task.train if split == "train" else task.test:
        values: dict[str, Any] = {
            "inputs": _prompt(task, row, tokenizer, labels, max_length),
            "ID": int(row["ID"]),
        }
        if split == "train":
            values["label"] = task.labels.index(row["Label"])
        rows.append(sources.Row(values, where=row.where))
    return rows


def predictions_csv(task: RaftTask, predictions: Mapping[int, int]) -> str:
    """A task's `predictions.csv` in the form of RAFT's submissions.

    Args:
        task: The task.
        predictions: From the ID of each test row to the index of a label.

    Raises:
        RaftError: A test row has no prediction, or an ID is no test row's.
    """
    expected = [int(row["ID"]) for row in task.test]
    if missing := [number for number in expected if number not in predictions]:
        raise RaftError(
            f"{task.name}: {len(missing)} test rows have no prediction, the first is "
            f"ID {missing[0]}; predict all of them"
        )
    if extra := sorted(set(predictions) - set(expected)):
        raise RaftError(f"{task.name}: ID {extra[0]} is no test row's")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["ID", "Label"])
    writer.writerows((i, task.labels[predictions[i]]) for i in expected)
    return out.getvalue()


def _named_labels(task: RaftTask, labels: str) -> str:
    """What follows the instruction."""
    if labels == "paper":
        labels = "comma" if task.name == _NAMED_IN_PAPER else "none"
    if labels == "none":
        return ""
    if labels == "comma":
        return f" Possible labels: {', '.join(task.choices)}"
    numbered = (f"\n{n}. {name}" for n, name in enumerate(task.choices, start=1))
    return f" Possible labels:{''.join(numbered)}"


def _prompt(
    task: RaftTask,
    row: Mapping[str, Any],
    tokenizer: Tokenizer,
    labels: str,
    max_length: int,
) -> str:
    named = _named_labels(task, labels)
    parts = {"": task.instruction}  # may be cut, as the fields may
    parts |= {f: row[f].strip() for f in task.fields if row[f].strip()}
    tokens = {n: tokenizer.encode(text, add_eos=False) for n, text in parts.items()}
    while True:
        lines = [f"{name}: {text}" for name, text in parts.items() if name]
        prompt = "\n".join([parts[""] + named, *lines, _END])
        excess = len(tokenizer.encode(prompt)) - max_length
        if excess <= 0:
            return prompt
        longest = max(tokens, key=lambda name: len(tokens[name]))
        if not tokens[longest]:
            raise RaftError(
                f"{task.name}: field names and labels alone have more than "
                f"{max_length} tokens; allow longer inputs, or do not name the labels"
            )
        # Not far below the next one, so that two long parts share the cut.
        others = [len(ids) for name, ids in tokens.items() if name != longest]
        cut = min(excess, max(8, len(tokens[longest]) - max(others, default=0)))
        tokens[longest] = tokens[longest][: max(0, len(tokens[longest]) - cut)]
        # A character that was cut within its bytes is no text.
        parts[longest] = tokenizer.decode(tokens[longest]).rstrip("\ufffd")


def _json_lines(path: pathlib.Path) -> list[Any]:
    """The JSON values of a file: one a line, or one in all."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RaftError(
            f"{path}: no such file; the data directory is that of raft-baselines: "
            f"{_SETTINGS} beside a folder for each task"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RaftError(f"{path}: cannot be read ({error}); fetch it again") from None
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise RaftError(f"{path}: not JSON ({error.msg}); fetch it again") from None
