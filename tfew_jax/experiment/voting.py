"""Several adapters on the same rows: each one's prediction, their vote, their mean.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Section 6: prompts trained for
one task over one frozen model are an ensemble whose members share all but a few
kilobytes; each row stands in the batch once for every member. There the members vote
on what they write; here on the choice that each finds likeliest, see
`metrics.majority_vote`. The mean of the members' probabilities is given beside it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfew_jax import checkpoint, evaluate, metrics
from tfew_jax.data import tasks
from tfew_jax.experiment import (
    applying,
    directory,
    ensembles,
    prepared,
    results,
    scoring,
    summary,
)
from tfew_jax.experiment.applying import PathLike
from tfew_jax.experiment.base import Base


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vote:
    """What several adapters say of one row.

    Attributes:
        row: Index of the row among those given.
        prediction: Text of the choice that most members predict.
        label: Its index.
        choices: The choices.
        probabilities: Of every choice, the mean over the members.
        agreement: Share of members that predict what the vote does.
        members: What each member says of the row, by name.
    """

    row: int
    prediction: str
    label: int
    choices: tuple[str, ...]
    probabilities: tuple[float, ...]
    agreement: float
    members: Mapping[str, prepared.Prediction]

    @property
    def likeliest(self) -> int:
        """Index of the choice with the highest mean probability, of equal the first."""
        return int(np.argmax(self.probabilities))


def vote(
    base: Base,
    adapters: ensembles.Several,
    rows: prepared.Rows,
    *,
    batch_size: int = 32,
) -> list[Vote]:
    """Lets several adapters predict rows, with the template and choices they carry.

    Args:
        base: The model that the adapters belong to.
        adapters: The adapters or their directories, or a bank of them.
        rows: Mappings from column to value; labels are not read.
        batch_size: Rows times adapters at once.

    Raises:
        ValueError: If the adapters do not fit the model or each other, carry no task,
            a row cannot be rendered, or its scores are NaN.
    """
    bank = ensembles.load(adapters, base)
    first = ensembles.check_tasks(bank)
    carried = applying.adapter_task(first)
    split = prepared.prepare(
        rows,
        carried.spec,
        base.tokenizer,
        lengths=carried.lengths,
        with_labels=False,
        input_eos=carried.input_eos,
        target_prefix=carried.target_prefix,
    )
    return _votes(
        base, split, bank, batch_size=batch_size, normalization=carried.normalization
    )


def score_rows(
    *,
    output_dir: PathLike,
    base: Base,
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapter: ensembles.One | ensembles.Several | None = None,
    lengths: Mapping[str, int] | None = None,
    batch_size: int = 32,
    normalization: str | None = None,
    on_start: applying.OnStart | None = None,
) -> dict[str, Any]:
    """Scores labelled rows by one adapter or by the vote of several.

    One adapter is `applying.score_rows`. Of several, `predictions.csv` holds the vote,
    its agreement and the mean probability of each choice; `members.csv` each member's
    prediction and scores; `metrics.json` the scores of the vote, of the mean
    probability and of each member, with the mean and, number by number, the best of
    the members. Rows that any member was trained on are predicted but not scored.

    Args:
        output_dir: Where the files go; not the directory of a run.
        base: The model.
        task: A task with test rows, the name of an embedded one, or a file of
            labelled rows, which the adapters' template renders.
        adapter: The adapter, its directory, or that of a finished run; a list of
            these, or a bank; None for the frozen model alone.
        lengths: Most tokens of "inputs" and "targets"; None for the adapters'.
        batch_size: Rows times adapters at once.
        normalization: "mean" or "sum" over tokens; None for the adapters'.
        on_start: Called with the directory before anything compiles.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: If adapters, model and rows do not fit together, or the adapters
            were trained on all rows.
    """
    if adapter is None or isinstance(adapter, checkpoint.Adapter | str | os.PathLike):
        return applying.score_rows(
            output_dir=output_dir,
            base=base,
            task=task,
            adapter=adapter,
            lengths=lengths,
            batch_size=batch_size,
            normalization=normalization,
            on_start=on_start,
        )
    bank, path, votes, split = _vote_in_directory(
        base,
        task,
        adapter,
        lengths,
        batch_size,
        normalization,
        with_labels=True,
        output_dir=output_dir,
        on_start=on_start,
    )
    trained = {
        digest for a in bank.values() for digest in a.metadata.get("train_rows", ())
    }
    digests = split.digests
    scored = [v for v in votes if digests[v.row] not in trained]
    if not scored:
        raise ValueError(
            f"of all {len(votes)} rows some adapter was trained on each, so that their "
            "accuracy says nothing; give rows that none has seen"
        )
    numbers = {
        **_numbers(scored, split, bank.names),
        "num_rows": len(scored),
        "num_trained_on": len(votes) - len(scored),
        "versions": results.versions(),
    }
    directory.write_json(path / "metrics.json", numbers)
    return numbers


def predict_rows(
    *,
    output_dir: PathLike,
    base: Base,
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapter: ensembles.One | ensembles.Several | None = None,
    lengths: Mapping[str, int] | None = None,
    batch_size: int = 32,
    normalization: str | None = None,
    on_start: applying.OnStart | None = None,
) -> pathlib.Path:
    """Predicts rows, with labels or without, by one adapter or the vote of several.

    The arguments and, but for metrics.json, the files are those of `score_rows`.

    Returns:
        The path of predictions.csv.

    Raises:
        ValueError: If adapters, model and rows do not fit together.
    """
    if adapter is None or isinstance(adapter, checkpoint.Adapter | str | os.PathLike):
        return applying.predict_rows(
            output_dir=output_dir,
            base=base,
            task=task,
            adapter=adapter,
            lengths=lengths,
            batch_size=batch_size,
            normalization=normalization,
            on_start=on_start,
        )
    _, path, _, _ = _vote_in_directory(
        base,
        task,
        adapter,
        lengths,
        batch_size,
        normalization,
        with_labels=False,
        output_dir=output_dir,
        on_start=on_start,
    )
    return path / "predictions.csv"


def _vote_in_directory(
    base: Base,
    task: tasks.Task | tasks.MakeTask | PathLike,
    adapters: ensembles.Several,
    lengths: Mapping[str, int] | None,
    batch_size: int,
    normalization: str | None,
    *,
    with_labels: bool,
    output_dir: PathLike,
    on_start: applying.OnStart | None,
) -> tuple[checkpoint.Bank, pathlib.Path, list[Vote], prepared.Split]:
    bank = ensembles.load(adapters, base)
    settings = {"lengths": lengths, "normalization": normalization}
    first = ensembles.check_tasks(
        bank, given=[name for name, v in settings.items() if v]
    )
    split, normalization = applying.prepare_rows(
        base, task, first, lengths, normalization, with_labels=with_labels
    )
    path = applying.output_directory(output_dir, on_start)
    votes = _votes(
        base, split, bank, batch_size=batch_size, normalization=normalization
    )
    write_files(path, votes)
    return bank, path, votes, split


def _votes(
    base: Base,
    split: prepared.Split,
    bank: checkpoint.Bank,
    *,
    batch_size: int,
    normalization: str,
) -> list[Vote]:
    scores, ids = scoring.score_members(
        base, split, bank, batch_size=batch_size, normalization=normalization
    )
    if np.isnan(scores).any():
        member, row, _ = np.argwhere(np.isnan(scores))[0]
        raise scoring.diverged(f"row {ids[row]}", bank.names[member])
    members = {
        name: prepared.make_predictions(split, ids, own, evaluate.predict(own))
        for name, own in zip(bank.names, scores, strict=True)
    }
    winners, agreement = metrics.majority_vote(scores)
    probabilities = metrics.mean_probability(scores)
    votes = []
    for place, one in enumerate(members[bank.names[0]]):
        label = int(winners[place])
        votes.append(
            Vote(
                row=one.row,
                prediction=one.choices[label],
                label=label,
                choices=one.choices,
                probabilities=(*probabilities[place, : len(one.choices)].tolist(),),
                agreement=float(agreement[place]),
                members={name: own[place] for name, own in members.items()},
            )
        )
    return votes


def _numbers(
    votes: Sequence[Vote], split: prepared.Split, names: Sequence[str]
) -> dict[str, Any]:
    """What metrics.json says about scored rows."""
    labels = split.labels[[v.row for v in votes]]

    def scores(predictions: Iterable[int]) -> dict[str, Any]:
        found = np.array([*predictions])
        return summary.scores(found, labels, num_choices=split.tokens.num_choices)

    members = {name: scores(v.members[name].label for v in votes) for name in names}
    return {
        "vote": scores(v.label for v in votes),
        "mean_probability": scores(v.likeliest for v in votes),
        **ensembles.spread(members),
        "agreement": float(np.mean([v.agreement for v in votes])),
    }


def write_files(path: pathlib.Path, votes: Sequence[Vote]) -> None:
    """Writes predictions.csv and members.csv."""
    choices = [v.choices for v in votes]
    names = directory.choice_columns("probability", choices)
    table = [
        (
            *(v.row, v.prediction, f"{v.agreement:.6f}"),
            *directory.choice_cells(v.probabilities, len(names)),
        )
        for v in votes
    ]
    header = ("row", "prediction", "agreement", *names)
    directory.write_table(path / "predictions.csv", header, table)
    names = directory.choice_columns("score", choices)
    table = [
        (
            *(v.row, name, own.prediction),
            *directory.choice_cells(own.scores, len(names)),
        )
        for v in votes
        for name, own in v.members.items()
    ]
    header = ("row", "member", "prediction", *names)
    directory.write_table(path / "members.csv", header, table)
