"""Which runs an experiment has, and which rows each of them sees.

With test rows: one run a seed, each with its own draw of rows. Without: the draw of
each seed is cut into stratified folds, and one more run is trained on all rows of
the first seed's draw.

No run is scored on rows it was trained on, nor on their copies: a training row that
stands among the test rows is never drawn, one that stands in a fold as well is not
trained on where that fold is scored.
"""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence

from tfew_jax.data import fewshot


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which runs there are, and how rows are spelled and scored.

    Attributes:
        seeds: One or more.
        num_shots: Rows to draw for each seed; None for all.
        num_folds: Folds of cross-validation where there are no test rows; 0 for none.
        lengths: Most tokens of "inputs" and "targets"; None for T-Few's.
        eval_batch_size: Rows that are scored at once.
        normalization: "mean" or "sum" over a choice's tokens.
        eval_templates: See `views.make_views`.
        input_eos: Whether inputs end with the end of sequence: T-Few's convention;
            T0's is False.
        target_prefix: Before every choice; see `tokenized.tokenize`.
    """

    seeds: tuple[int, ...]
    num_shots: int | None = None
    num_folds: int = 5
    lengths: Mapping[str, int] | None = None
    eval_batch_size: int = 32
    normalization: str = "mean"
    eval_templates: str | int | Sequence[str | int] = "first"
    input_eos: bool = True
    target_prefix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not isinstance(self.eval_templates, str | int):
            object.__setattr__(self, "eval_templates", tuple(self.eval_templates))
        if self.eval_batch_size < 1:
            raise ValueError(
                f"eval_batch_size must be positive, got {self.eval_batch_size}"
            )
        if self.normalization not in ("mean", "sum"):
            raise ValueError(
                f"normalization must be mean or sum, got {self.normalization!r}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One adapter to train.

    Attributes:
        name: Its directory and its record.
        seed: Of the draw, the order of batches and dropout.
        train_rows: Indices of the training rows, in the order of the draw.
        split: "test", or "fold" of the training rows, or None where the run is not
            scored.
        fold: Number of the fold.
        scored_rows: Indices of the scored rows in their split's file.
    """

    name: str
    seed: int
    train_rows: tuple[int, ...]
    split: str | None = None
    fold: int | None = None
    scored_rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.split == "fold" and set(self.train_rows) & set(self.scored_rows):
            raise AssertionError(f"{self.name} is scored on rows it is trained on")


def make_runs(
    labels: Sequence[int],
    *,
    protocol: Protocol,
    texts: Sequence[Hashable],
    test_texts: Sequence[Hashable] | None = None,
    draws: Mapping[int, Sequence[int]] | None = None,
) -> list[Run]:
    """The runs of an experiment; `kept` says whose adapter is handed out.

    Args:
        labels: Of all training rows.
        protocol: Seeds, shots and folds.
        texts: What makes a training row the copy of another row.
        test_texts: The same of the test rows; None without test rows.
        draws: Rows of each seed where they are drawn already, as in published subsets.

    Raises:
        ValueError: If there are no seeds, one stands twice, or rows and classes do
            not suffice.
    """
    seeds, num_folds = protocol.seeds, protocol.num_folds
    if not seeds:
        raise ValueError("there are no seeds; give at least one, such as 0")
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"seed {twice[0]} stands twice in {list(seeds)}")
    if num_folds < 0 or num_folds == 1:
        raise ValueError(f"num_folds must be 0 or at least 2, got {num_folds}")
    usable = without_copies(range(len(labels)), texts, test_texts or ())
    if not usable:
        raise ValueError(
            "every row to train on stands among the test rows as well; give rows that "
            "the other file does not hold"
        )
    if draws is None:
        shots = protocol.num_shots
        drawn = {seed: _draw(labels, usable, shots, seed) for seed in seeds}
    else:
        drawn = {s: _given(labels, usable, draws, protocol, s) for s in seeds}
    if test_texts is not None:
        scored = tuple(range(len(test_texts)))
        return [
            Run(
                name=f"seed-{seed}",
                seed=seed,
                train_rows=rows,
                split="test",
                scored_rows=scored,
            )
            for seed, rows in drawn.items()
        ]
    runs = []
    for seed, rows in drawn.items():
        if num_folds:
            runs += _folds(labels, texts, rows, seed, num_folds)
        elif seed != seeds[0]:
            runs.append(Run(name=f"seed-{seed}", seed=seed, train_rows=rows))
    first = seeds[0]
    return [*runs, Run(name=f"seed-{first}-all", seed=first, train_rows=drawn[first])]


def without_copies(
    rows: Iterable[int], texts: Sequence[Hashable], scored: Iterable[Hashable]
) -> tuple[int, ...]:
    """The rows whose text is not among those that are scored."""
    taken = set(scored)
    return tuple(row for row in rows if texts[row] not in taken)


def notes(runs: Sequence[Run], labels: Sequence[int]) -> list[str]:
    """What a user should know of the runs, a line each; empty if all is well."""
    alone = [r.name for r in runs if len({labels[row] for row in r.train_rows}) == 1]
    if not alone:
        return []
    return [
        f"{', '.join(alone)}: trained on rows of a single class, as the other's are "
        "too few to be in every fold"
    ]


def kept(runs: Sequence[Run]) -> Run:
    """The run whose adapter is handed out: chosen before any score is known.

    It is the one trained on all rows where there are no test rows, else the first
    seed's.
    """
    unscored = [run for run in runs if run.name.endswith("-all")]
    return unscored[0] if unscored else runs[0]


def _draw(
    labels: Sequence[int], usable: tuple[int, ...], num_shots: int | None, seed: int
) -> tuple[int, ...]:
    usable_labels = [labels[row] for row in usable]
    if num_shots is None:
        fewshot.check_classes(usable_labels, f"the {len(usable)} training rows")
        fewshot.check_seed(seed)
        return usable
    drawn = fewshot.draw_shots(usable_labels, num_shots, seed)
    return tuple(usable[int(i)] for i in drawn)


def _given(
    labels: Sequence[int],
    usable: tuple[int, ...],
    draws: Mapping[int, Sequence[int]],
    protocol: Protocol,
    seed: int,
) -> tuple[int, ...]:
    """A draw that was made already, without copies of scored rows."""
    if seed not in draws:
        raise ValueError(
            f"there are no rows for seed {seed}; seeds at hand: "
            f"{', '.join(map(str, draws)) or 'none'}"
        )
    rows = draws[seed]
    if protocol.num_shots not in (None, len(rows)):
        raise ValueError(
            f"num_shots={protocol.num_shots}, but the rows of seed {seed} are drawn "
            f"already: {len(rows)} of them; leave num_shots out"
        )
    kept = set(usable)
    rows = tuple(row for row in rows if row in kept)
    fewshot.check_seed(seed)
    fewshot.check_classes([labels[row] for row in rows], f"the rows of seed {seed}")
    return rows


def _folds(
    labels: Sequence[int],
    texts: Sequence[Hashable],
    rows: tuple[int, ...],
    seed: int,
    num_folds: int,
) -> list[Run]:
    drawn = [labels[row] for row in rows]
    runs = []
    for number, (train, test) in enumerate(
        fewshot.stratified_folds(drawn, num_folds, seed)
    ):
        scored = tuple(rows[int(i)] for i in test)
        others = (rows[int(i)] for i in train)
        runs.append(
            Run(
                name=f"seed-{seed}-fold-{number}",
                seed=seed,
                train_rows=without_copies(others, texts, (texts[r] for r in scored)),
                split="fold",
                fold=number,
                scored_rows=scored,
            )
        )
    return runs
