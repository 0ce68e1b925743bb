"""What a model writes for another task than the one it was trained on.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Section 5: a model trained on
QQP writes "duplicate" for MRPC's pairs too, which counts as "equivalent". RTE and CB
have such a pair of words as well once CB's contradictions and neutral sentences are one
class, entailment against the rest.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from tfew_jax.data import text_answers, text_to_text
from tfew_jax.data.text_to_text import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How a task's answers are read from a model that may know another one.

    Attributes:
        task: The task that rows come from.
        measured_as: The task whose classes and metrics count.
        words: From a word of either task to the class's word in `measured_as`, where
            it is another.
    """

    task: str
    measured_as: str
    words: Mapping[str, str]

    @property
    def legal(self) -> tuple[str, ...]:
        """The texts that name a class; none where any text may be an answer."""
        return (*text_to_text.get(self.measured_as).labels, *self.words)

    def read(self, output: str) -> str:
        """An output in the words of `measured_as`."""
        return self.words.get(output, output)

    def measure(
        self, outputs: Sequence[str], examples: Sequence[Example]
    ) -> dict[str, float]:
        """The metrics of `measured_as`; see `text_answers.measure`."""
        return text_answers.measure(
            self.measured_as,
            [self.read(output) for output in outputs],
            [self._relabelled(example) for example in examples],
        )

    def score(self, scores: Mapping[str, float]) -> float:
        """The mean of the main metrics, see `text_answers.MAIN_METRICS`."""
        return text_answers.main_score(self.measured_as, scores)

    def _relabelled(self, example: Example) -> Example:
        if self.task == self.measured_as or example["label"] < 0:
            return example
        word = text_to_text.get(self.task).labels[example["label"]]
        classes = text_to_text.get(self.measured_as).labels
        return {**example, "label": classes.index(self.read(word))}


def reading(task: str, trained_on: str | None = None) -> Reading:
    """How the answers to a task are read.

    Args:
        task: A name of `text_to_text.names()`.
        trained_on: The task whose words the model writes; None for the same.

    Raises:
        ValueError: There is no such task, or the classes of one task say nothing about
            those of the other.
    """
    trained_on = task if trained_on is None else trained_on
    if text_to_text.get(trained_on).labels == text_to_text.get(task).labels:
        return Reading(task=task, measured_as=task, words={})
    if (trained_on, task) not in _SHIFTS:
        pairs = ", ".join(f"{source} to {target}" for source, target in _SHIFTS)
        raise ValueError(
            f"the answers of a model of {trained_on} say nothing about {task}; known "
            f"besides tasks with the same answers: {pairs}"
        )
    measured_as, words = _SHIFTS[trained_on, task]
    return Reading(task=task, measured_as=measured_as, words=words)


def _paired(source: str, target: str) -> dict[str, str]:
    """The classes of one task by the names of another's, in their order."""
    names = (text_to_text.get(name).labels for name in (source, target))
    return dict(zip(*names, strict=True))


_THE_REST = {"contradiction": "not_entailment", "neutral": "not_entailment"}
_SHIFTS = {  # trained on, task: whose metrics, and words that mean one of its classes
    ("qqp", "mrpc"): ("mrpc", _paired("qqp", "mrpc")),
    ("mrpc", "qqp"): ("qqp", _paired("mrpc", "qqp")),
    ("rte", "cb"): ("rte", _THE_REST),
    ("cb", "rte"): ("rte", _THE_REST),
}
