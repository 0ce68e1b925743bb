"""Rendered rows as token ids, with a report of what did not fit.

Rows keep their own lengths here; `batching` pads them. What all batches of a run must
have in common, so that a few programs serve all its seeds and folds, is decided from
all rows before any are drawn: the number of choices, the target length, and the input
lengths from which buckets are made.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from tfew_jax.data import labels as label_texts
from tfew_jax.data import templates, tokenizer

NO_LABEL = -1
FEATURE_LENGTHS = {"inputs": 256, "targets": 256}  # T-Few's max_seq_len


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Counts of what became of the rows, to be shown and recorded.

    Attributes:
        num_rows: Rows.
        num_unlabelled: Of these, rows without label.
        class_counts: Rows by choice, in the choices' order, also those without rows;
            where rows bring their own choices, by index.
        num_cut_inputs: Rows of which an input was longer than the limit.
        num_cut_choices: Rows of which a choice was longer than the limit.
        max_input_length: The limit for inputs, in tokens.
        max_target_length: The limit for choices, in tokens.
        unknown_share: Share of `<unk>` among the tokens of the inputs.
    """

    num_rows: int
    num_unlabelled: int
    class_counts: Mapping[str, int]
    num_cut_inputs: int
    num_cut_choices: int
    max_input_length: int
    max_target_length: int
    unknown_share: float

    def notes(self) -> list[str]:
        """What a user should know, a line each; empty if all is well."""
        notes = []
        empty = [name for name, count in self.class_counts.items() if not count]
        if empty and self.num_unlabelled < self.num_rows:
            notes.append(f"no row has the label {label_texts.show(empty)}")
        limits = (
            ("inputs", self.num_cut_inputs, self.max_input_length),
            ("choices", self.num_cut_choices, self.max_target_length),
        )
        for what, count, limit in limits:
            if count:
                feature = "inputs" if what == "inputs" else "targets"
                notes.append(
                    f"{count} of {self.num_rows} rows have {what} longer than {limit} "
                    f"tokens, which were cut; TASK_FEATURE_LENGTHS[{feature!r}] is the "
                    "limit"
                )
        if self.unknown_share:
            notes.append(
                f"{self.unknown_share:.2%} of the input tokens are <unk>: the "
                "vocabulary cannot spell them"
            )
        return notes

    def to_dict(self) -> dict[str, int | float | dict[str, int]]:
        """Fields as JSON values."""
        return dataclasses.asdict(self) | {"class_counts": dict(self.class_counts)}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TokenizedRows:
    """Rows as token ids, for one template or several.

    Attributes:
        inputs: Ids of each input, by template and row.
        choice_sets: The different lists of choices, padded to a common number of
            choices and a common length.
        choice_masks: True at the choices of each list.
        choice_set: Which list a row has.
        label: Index of the right choice, -1 without one.
        example_id: Index of the row among all rows that were tokenised.
        class_names: The choices where all rows of the first template have the same.
        all_lengths: Input lengths of all rows that were tokenised.
        num_unknown: `<unk>` in each input.
        is_cut: Whether an input was cut.
        choice_set_is_cut: Whether one of a list's choices was cut.
        feature_lengths: The limits of inputs and targets.
    """

    inputs: tuple[tuple[Int[np.ndarray, " _"], ...], ...]
    choice_sets: Int[np.ndarray, "sets choices target_length"]
    choice_masks: Bool[np.ndarray, "sets choices"]
    choice_set: Int[np.ndarray, "templates rows"]
    label: Int[np.ndarray, " rows"]
    example_id: Int[np.ndarray, " rows"]
    class_names: tuple[str, ...] | None
    all_lengths: Int[np.ndarray, " all_inputs"]
    num_unknown: Int[np.ndarray, "templates rows"]
    is_cut: Bool[np.ndarray, "templates rows"]
    choice_set_is_cut: Bool[np.ndarray, " sets"]
    feature_lengths: Mapping[str, int]

    @property
    def num_rows(self) -> int:
        return len(self.label)

    @property
    def num_templates(self) -> int:
        return len(self.inputs)

    @property
    def num_choices(self) -> int:
        """Choices of the row that has most, among all that were tokenised."""
        return self.choice_sets.shape[1]

    def take(
        self, indices: Sequence[int] | Int[np.ndarray, " taken"]
    ) -> "TokenizedRows":
        """The rows at these positions; shapes of batches stay those of all rows."""
        chosen = np.asarray(indices, int)
        return dataclasses.replace(
            self,
            inputs=tuple(tuple(rows[i] for i in chosen) for rows in self.inputs),
            choice_set=self.choice_set[:, chosen],
            label=self.label[chosen],
            example_id=self.example_id[chosen],
            num_unknown=self.num_unknown[:, chosen],
            is_cut=self.is_cut[:, chosen],
        )

    def report(self) -> Report:
        """What became of these rows."""
        counts = collections.Counter(self.label.tolist())
        names = self.class_names or [str(n) for n in range(self.num_choices)]
        num_tokens = sum(len(ids) for rows in self.inputs for ids in rows)
        choices_cut = self.choice_set_is_cut[self.choice_set]
        return Report(
            num_rows=self.num_rows,
            num_unlabelled=counts[NO_LABEL],
            class_counts={name: counts[n] for n, name in enumerate(names)},
            num_cut_inputs=int(self.is_cut.any(axis=0).sum()),
            num_cut_choices=int(choices_cut.any(axis=0).sum()),
            max_input_length=self.feature_lengths["inputs"],
            max_target_length=self.feature_lengths["targets"],
            unknown_share=float(self.num_unknown.sum() / max(num_tokens, 1)),
        )


def tokenize(
    rendered: Sequence[Sequence[templates.Rendered]],
    vocabulary: tokenizer.Tokenizer,
    *,
    feature_lengths: Mapping[str, int] | None = None,
    input_eos: bool = True,
    target_prefix: str = "",
) -> TokenizedRows:
    """Spells rendered rows.

    Args:
        rendered: By template and row, from `fewshot.render_rows`.
        vocabulary: Tokenizer of the model.
        feature_lengths: Most tokens of "inputs" and "targets", the end of sequence
            included; 256 each where not given, as in T-Few. Longer ones are cut.
        input_eos: Whether inputs end with the end of sequence: T-Few's convention;
            T0's is False.
        target_prefix: Before every choice: `<extra_id_0>` for a model that has seen
            nothing but span corruption (Lester et al., 2021, Section 3.2).

    Raises:
        ValueError: There are no rows, a limit is unknown or too small, or the
            vocabulary cannot tell the choices of a row apart.
    """
    if not rendered or not rendered[0]:
        raise ValueError("there are no rows to tokenise; give at least one")
    limits = limits_of(feature_lengths)
    inputs, num_unknown, is_cut = [], [], []
    for rows in rendered:
        spelled = [vocabulary.encode(row.inputs, add_eos=input_eos) for row in rows]
        cut = [tokenizer.truncate(ids, limits["inputs"]) for ids in spelled]
        inputs.append(tuple(np.asarray(ids, np.int32) for ids in cut))
        num_unknown.append([vocabulary.count_unknown(ids) for ids in cut])
        is_cut.append([len(ids) > limits["inputs"] for ids in spelled])
    sets = _ChoiceSets.make(rendered, vocabulary, limits["targets"], target_prefix)
    first = rendered[0]
    labels = [NO_LABEL if row.label is None else row.label for row in first]
    return TokenizedRows(
        inputs=tuple(inputs),
        choice_sets=sets.tokens,
        choice_masks=sets.masks,
        choice_set=sets.index,
        label=np.asarray(labels, np.int32),
        example_id=np.arange(len(first), dtype=np.int32),
        class_names=first[0].choices if len({r.choices for r in first}) == 1 else None,
        all_lengths=np.asarray([len(ids) for rows in inputs for ids in rows], np.int32),
        num_unknown=np.asarray(num_unknown, np.int32),
        is_cut=np.asarray(is_cut, bool),
        choice_set_is_cut=sets.is_cut,
        feature_lengths=limits,
    )


def limits_of(given: Mapping[str, int | float] | None) -> dict[str, int]:
    """Most tokens of inputs and targets; 256, as in T-Few, where not given.

    Raises:
        ValueError: If a limit is unknown, no whole number, or too small.
    """
    given = given or {}
    limits = FEATURE_LENGTHS | dict(given)
    if set(limits) != set(FEATURE_LENGTHS) or not all(map(_is_limit, limits.values())):
        raise ValueError(
            f"TASK_FEATURE_LENGTHS is {dict(given)}; it holds 'inputs' and 'targets', "
            "each 2 tokens or more and a whole number"
        )
    return {side: int(limit) for side, limit in limits.items()}


def _is_limit(value: object) -> bool:
    return isinstance(value, int | np.integer) and int(value) >= 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ChoiceSets:
    """The different lists of choices, and which one each row has."""

    tokens: Int[np.ndarray, "sets choices target_length"]
    masks: Bool[np.ndarray, "sets choices"]
    index: Int[np.ndarray, "templates rows"]
    is_cut: Bool[np.ndarray, " sets"]

    @classmethod
    def make(
        cls,
        rendered: Sequence[Sequence[templates.Rendered]],
        vocabulary: tokenizer.Tokenizer,
        max_length: int,
        prefix: str,
    ) -> "_ChoiceSets":
        numbers: dict[tuple[str, ...], int] = {}
        index = [
            [numbers.setdefault(row.choices, len(numbers)) for row in rows]
            for rows in rendered
        ]
        texts = [[prefix + choice for choice in choices] for choices in numbers]
        spelled = [vocabulary.encode_choices(c, max_length=max_length) for c in texts]
        num_choices = max(len(choices) for choices in spelled)
        length = max(len(ids) for choices in spelled for ids in choices)
        tokens = np.zeros((len(spelled), num_choices, length), np.int32)
        masks = np.zeros((len(spelled), num_choices), bool)
        for row, choices in enumerate(spelled):
            masks[row, : len(choices)] = True
            for column, ids in enumerate(choices):
                tokens[row, column, : len(ids)] = ids
        is_cut = [
            any(len(vocabulary.encode(text)) > max_length for text in choices)
            for choices in texts
        ]
        return cls(
            tokens=tokens,
            masks=masks,
            index=np.asarray(index, np.int32),
            is_cut=np.asarray(is_cut, bool),
        )
