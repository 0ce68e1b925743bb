"""Rows made ready once for all runs: rendered, spelled, counted."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tfew_jax.data import fewshot, patterns, templates, tokenized, tokenizer

Rows = Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The rows of one file.

    Attributes:
        rendered: By template and row.
        tokens: The same as token ids.
        num_cut_texts: Rows of which a text has more characters than templates use.
    """

    rendered: Sequence[Sequence[templates.Rendered]]
    tokens: tokenized.TokenizedRows
    num_cut_texts: int = 0

    @property
    def first(self) -> Sequence[templates.Rendered]:
        """Each row by the first template, by which rows are told apart."""
        return self.rendered[0]

    @property
    def texts(self) -> list[str]:
        """The rendered inputs."""
        return [row.inputs for row in self.first]

    @property
    def copies(self) -> list[tuple[str, tuple[str, ...]]]:
        """What two rows share if one is a copy of the other: input and choices."""
        return [(row.inputs, row.choices) for row in self.first]

    @property
    def digests(self) -> list[str]:
        """Hashes of `copies`, by which an adapter knows the rows it was trained on."""
        texts = (json.dumps(copy) for copy in self.copies)
        return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]

    def notes(self) -> list[str]:
        """What a user should know of these rows, a line each."""
        notes = self.tokens.report().notes()
        if self.num_cut_texts:
            notes.append(
                f"{self.num_cut_texts} of {self.tokens.num_rows} rows have a text of "
                f"more than {patterns.MAX_VARIABLE_LENGTH:,} characters, which was cut "
                "there, as promptsource's templates do"
            )
        return notes

    def counts(self) -> dict[str, Any]:
        """What became of these rows, as JSON values."""
        return {**self.tokens.report().to_dict(), "num_cut_texts": self.num_cut_texts}

    @property
    def labels(self) -> Int[np.ndarray, " rows"]:
        """Index of the right choice of every row; -1 without one."""
        return self.tokens.label


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """All rows of an experiment."""

    train: Split
    test: Split | None
    predict: Split | None

    def by_name(self) -> dict[str, Split]:
        """Those that there are."""
        splits = {"train": self.train, "test": self.test, "predict": self.predict}
        return {name: split for name, split in splits.items() if split is not None}

    @property
    def num_choices(self) -> int:
        """Choices of the labelled row that has most."""
        splits = (split for split in (self.train, self.test) if split is not None)
        return max(split.tokens.num_choices for split in splits)

    @property
    def num_also_in_test(self) -> int:
        """Training rows that are test rows as well, and so are never drawn."""
        taken = set() if self.test is None else set(self.test.copies)
        return sum(text in taken for text in self.train.copies)

    @property
    def num_contradictory(self) -> int:
        """Training rows whose text stands with another label as well."""
        found = collections.defaultdict(list)
        for text, label in zip(self.train.copies, self.train.labels, strict=True):
            found[text].append(int(label))
        return sum(len(labels) for labels in found.values() if len(set(labels)) > 1)

    def notes(self) -> list[str]:
        """What a user should know of the rows, a line each."""
        notes = [
            f"{name} rows: {note}"
            for name, split in self.by_name().items()
            for note in split.notes()
        ]
        if self.num_contradictory:
            notes.append(
                f"{self.num_contradictory} rows to train on have the text of another "
                "row and another label; look at them, one of the two is likely wrong"
            )
        if self.num_also_in_test:
            notes.append(
                f"{self.num_also_in_test} rows to train on stand among the test rows "
                "as well; they are left out of training"
            )
        return notes

    def counts(self) -> dict[str, Any]:
        """What became of the rows, as JSON values."""
        reports = {name: split.counts() for name, split in self.by_name().items()}
        reports["train"] = {
            **reports["train"],
            "num_also_in_test": self.num_also_in_test,
            "num_contradictory": self.num_contradictory,
        }
        return reports


def prepare(
    rows: Rows,
    spec: fewshot.TaskSpec,
    vocabulary: tokenizer.Tokenizer,
    *,
    lengths: Mapping[str, int] | None,
    with_labels: bool = True,
    input_eos: bool = True,
    target_prefix: str = "",
) -> Split:
    """Renders and spells rows.

    Raises:
        ValueError: If a row cannot be rendered, spelled, or lacks its label.
    """
    rendered = fewshot.render_rows(rows, spec, with_labels=with_labels)
    tokens = tokenized.tokenize(
        rendered,
        vocabulary,
        feature_lengths=lengths,
        input_eos=input_eos,
        target_prefix=target_prefix,
    )
    num_cut = fewshot.num_cut(rows, spec)
    return Split(rendered=rendered, tokens=tokens, num_cut_texts=num_cut)


def digest(rows: Rows | None) -> str | None:
    """Number and hash of rows, to tell whether they are the same."""
    if rows is None:
        return None
    text = json.dumps([dict(row) for row in rows], sort_keys=True, default=str)
    return f"{len(rows)} rows, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one row.

    Attributes:
        row: Index of the row among those given.
        prediction: Text of the best choice.
        label: Its index.
        choices: The choices.
        scores: The score of every choice, higher is likelier.
        adapter: The name of the adapter, where it was one of several.
    """

    row: int
    prediction: str
    label: int
    choices: tuple[str, ...]
    scores: tuple[float, ...]
    adapter: str | None = None


def make_predictions(
    split: Split,
    ids: Int[np.ndarray, " rows"],
    scores: Float[np.ndarray, "rows choices"],
    best: Int[np.ndarray, " rows"],
    *,
    by_template: Int[np.ndarray, " split_rows"] | None = None,
) -> list[Prediction]:
    """Joins scores with the texts of the choices.

    Args:
        split: Where the rows come from.
        ids: Index of each scored row in the split.
        scores: As `evaluate.score_choices` returns them.
        best: As `evaluate.predict` returns them.
        by_template: The template of every row of the split; None for the first.
    """
    predictions = []
    for row, row_scores, label in zip(ids, scores, best, strict=True):
        template = 0 if by_template is None else int(by_template[row])
        choices = split.rendered[template][int(row)].choices
        predictions.append(
            Prediction(
                row=int(row),
                prediction=choices[int(label)],
                label=int(label),
                choices=choices,
                scores=tuple(float(score) for score in row_scores[: len(choices)]),
            )
        )
    return predictions
