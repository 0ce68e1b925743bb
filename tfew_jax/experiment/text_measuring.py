"""Labelled rows of text-to-text tasks: what a model writes for them, how good it is.

Rows are those of `data.text_rows`, words those of `data.text_to_text`, metrics those of
`data.text_transfer`; SeqIO is not needed.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax import models
from tfew_jax.data import (
    batching,
    sources,
    templates,
    text_rows,
    text_to_text,
    text_transfer,
    tokenized,
)
from tfew_jax.data.text_to_text import Example
from tfew_jax.experiment import generating
from tfew_jax.experiment.base import Base
from tfew_jax.types import Batch, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """How rows of text-to-text tasks become what a model reads and writes.

    Attributes:
        task_word: Whether inputs begin with the word that names the task.
        lengths: Most tokens of "inputs" and of "targets", which are the outputs.
        input_eos: Whether inputs end with the end of sequence.
        target_prefix: Before every target; taken off what is written.
    """

    task_word: bool = True
    lengths: Mapping[str, int] | None = None
    input_eos: bool = True
    target_prefix: str = ""

    @property
    def limits(self) -> dict[str, int]:
        """Most tokens of inputs and targets.

        Raises:
            ValueError: If a limit is unknown or too small.
        """
        return tokenized.limits_of(self.lengths)

    def to_dict(self) -> dict[str, Any]:
        """Fields as JSON values, with all limits."""
        return {**dataclasses.asdict(self), "lengths": self.limits}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Questions:
    """The labelled examples of a split, to be answered.

    Attributes:
        name: Of the task, with its set where it has several, such as "mrqa/race".
        split: Of the set.
        reading: How the answers are read.
        examples: With what metrics need.
        inputs: Token ids of each.
        limits: Most tokens of inputs and of outputs.
        prefix: Taken off the outputs.
    """

    name: str
    split: str
    reading: text_transfer.Reading
    examples: Sequence[Example]
    inputs: Sequence[Int[np.ndarray, " _"]]
    limits: Mapping[str, int]
    prefix: str = ""

    @property
    def label(self) -> str:
        """Names it among others, also in a path."""
        return f"{self.name}-{self.split}".replace("/", "-")

    @property
    def digest(self) -> str:
        """Tells examples apart."""
        return digest(self.examples)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The inputs, see `batching.input_batches`."""
        return batching.input_batches(
            self.inputs, batch_size, max_length=self.limits["inputs"]
        )

    def drawn(self, count: int | None) -> "Questions":
        """About so many of the examples, always the same ones.

        Those of a question stay together, so that there may be a few more.
        """
        if count is None or count >= len(self.examples):
            return self
        groups: dict[Any, list[int]] = {}
        for number, example in enumerate(self.examples):
            question = (example.get("idx/paragraph"), example.get("idx/question"))
            groups.setdefault(number if None in question else question, []).append(
                number
            )
        listed = list(groups.values())
        kept: list[int] = []
        for group in np.random.RandomState(0).permutation(len(listed)).tolist():
            if len(kept) >= count:
                break
            kept += listed[group]
        return dataclasses.replace(
            self,
            examples=[self.examples[number] for number in sorted(kept)],
            inputs=[self.inputs[number] for number in sorted(kept)],
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """How good the outputs are, as fractions.

    Attributes:
        scores: The task's metrics by T5's names.
        score: The mean of the main ones, see `text_answers.MAIN_METRICS`.
        illegal: Share of outputs that name no class, in all and by kind; None where
            any text may be an answer.
        generations: The outputs.
    """

    scores: dict[str, float]
    score: float
    illegal: dict[str, float] | None
    generations: list[generating.Generation]

    def numbers(self) -> dict[str, Any]:
        """All numbers by name."""
        return {**self.scores, **(self.illegal or {}), "num_rows": len(self)}

    def __len__(self) -> int:
        return len(self.generations)


def load_examples(
    name: str,
    split: str,
    data_dir: str,
    *,
    task_word: bool,
    train: bool = False,
) -> list[Example]:
    """The examples of a split, all of them labelled.

    Args:
        name: Of a task, with its set where it has several.
        split: Of the set.
        data_dir: A source of its rows, see `text_rows.load`.
        task_word: See `Format`.
        train: See `text_to_text.TextTask.examples`.

    Raises:
        ValueError: If there is no such task, split or file, a row has no label or
            answer, or no row is an example.
    """
    task = text_to_text.get(name.partition("/")[0])
    examples: list[Example] = []
    for number, row in enumerate(text_rows.load(name, split, data_dir)):
        place = sources.where(row, number)
        try:
            made = task.examples(row, task_word=task_word, train=train)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        for example in made:
            if example.get("label", 0) < 0 or not example.get("answers", True):
                use = "train on" if train else "measure by"
                raise ValueError(
                    f"{place}: a row of {name} without a label or answer to {use}; "
                    "take a labelled split"
                )
        examples += [{**example, "where": place} for example in made]
    if not examples:
        raise ValueError(
            f"none of the rows of the {split} split of {name} is an example to "
            f"{'train on' if train else 'measure by'}; take another split"
        )
    return examples


def training_tokens(
    base: Base, examples: Sequence[Example], form: Format
) -> tokenized.TokenizedRows:
    """Inputs with their targets as the only choice.

    Raises:
        ValueError: If the vocabulary cannot spell a target.
    """
    rendered = [
        templates.Rendered(
            inputs=example["inputs"], choices=(example["targets"],), label=0
        )
        for example in examples
    ]
    return tokenized.tokenize(
        [rendered],
        base.tokenizer,
        feature_lengths=form.limits,
        input_eos=form.input_eos,
        target_prefix=form.target_prefix,
    )


def load_questions(
    base: Base,
    name: str,
    split: str,
    data_dir: str,
    *,
    form: Format,
    trained_on: str | None = None,
) -> Questions:
    """A split, to be answered by a model that may have learnt another task's answers.

    Args:
        base: Whose vocabulary spells the inputs.
        name: Of a task, with its set where it has several.
        split: Of the set.
        data_dir: A source of its rows, see `text_rows.load`.
        form: What rows become.
        trained_on: The task whose answers the model writes; None for the same.

    Raises:
        ValueError: See `load_examples`; or see `text_transfer.reading`.
    """
    source = None if trained_on is None else trained_on.partition("/")[0]
    reading = text_transfer.reading(name.partition("/")[0], source)
    limits = form.limits
    examples = load_examples(name, split, data_dir, task_word=form.task_word)
    inputs = [
        base.tokenizer.encode(
            example["inputs"], add_eos=form.input_eos, max_length=limits["inputs"]
        )
        for example in examples
    ]
    return Questions(
        name=name,
        split=split,
        reading=reading,
        examples=examples,
        inputs=[np.asarray(ids, np.int32) for ids in inputs],
        limits=limits,
        prefix=form.target_prefix,
    )


def answer(
    base: Base,
    model: models.T5,
    params: Params,
    questions: Questions,
    *,
    batch_size: int,
) -> Measured:
    """Lets a model write by the likeliest token each time, and measures it.

    Raises:
        MemoryError: If the device runs out of memory.
        ValueError: If a score is NaN.
    """
    texts, scores = generating.write_by(
        base,
        model,
        params,
        questions.batches(batch_size),
        max_length=questions.limits["targets"],
        num_beams=None,
        alpha=0.0,
        batch_size=batch_size,
    )
    return measure(base, questions, texts, scores)


def measure(
    base: Base, questions: Questions, texts: Sequence[str], scores: Sequence[float]
) -> Measured:
    """How good texts are as answers, one a question."""
    legal = generating.spelled(questions.reading.legal, base.tokenizer)
    answers = [_without(questions.prefix, text) for text in texts]
    generations = [
        generating.Generation(
            row=row,
            text=text,
            score=score,
            inputs=example["inputs"],
            legal=legal,
            target=example["targets"],
        )
        for row, (text, score, example) in enumerate(
            zip(answers, scores, questions.examples, strict=True)
        )
    ]
    found = questions.reading.measure(answers, questions.examples)
    return Measured(
        scores=found,
        score=questions.reading.score(found),
        illegal=generating.illegal_outputs(generations) if legal else None,
        generations=generations,
    )


def write_files(path: pathlib.Path, measured: Measured) -> None:
    """Writes generations.csv and metrics.json."""
    generating.write_files(path, measured.generations, measured.numbers())


def digest(examples: Sequence[Example]) -> str:
    """Tells examples apart, wherever they were read."""
    hashed = hashlib.sha256()
    for example in examples:
        content = {k: v for k, v in example.items() if k != "where"}
        hashed.update(json.dumps(content, sort_keys=True).encode())
    return hashed.hexdigest()[:16]


def _without(prefix: str, text: str) -> str:
    return text.removeprefix(prefix).lstrip() if prefix else text
