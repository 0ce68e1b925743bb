"""What a generated text answers, and how good the answers to a task are."""

from collections.abc import Callable, Mapping, Sequence

from tfew_jax import text_metrics
from tfew_jax.data import text_to_text
from tfew_jax.data.text_to_text import Example

INVALID = -1  # an output that is no answer
# Whose mean says which of a run's models is best: a set's metrics as SuperGLUE averages
# them (Lester et al., 2021, https://arxiv.org/abs/2104.08691, Section 3), but for
# questions F1 alone, by which the paper selects on SQuAD.
MAIN_METRICS = {
    "boolq": ("accuracy",),
    "cb": ("mean_3class_f1", "accuracy"),
    "copa": ("accuracy",),
    "multirc": ("f1", "exact_match"),
    "record": ("em", "f1"),
    "rte": ("accuracy",),
    "wic": ("accuracy",),
    "wsc": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "qqp": ("f1", "accuracy"),
    "sst2": ("accuracy",),
    "squad": ("f1",),
    "mrqa": ("f1",),
}

_DETERMINERS = frozenset(
    "a an each every few her his many much my our some that the their these this "
    "those which whose your".split()
)


def label_of(output: str, labels: Sequence[str]) -> int:
    """Index of the class that the output is, to the letter; else -1."""
    return list(labels).index(output) if output in labels else INVALID


def names_referent(output: str, referent: str) -> int:
    """WSC: 1 where the output means the referent, 0 where not, -1 where it is empty.

    The words of one must all be among those of the other, without case and
    determiners; and both have an apostrophe or none, so that "Bob" is not "Bob's hat".
    """
    given, known = _words(output), _words(referent)
    if not given:
        return INVALID
    if ("'" in output) != ("'" in referent):
        return 0
    return int(given <= known or known <= given)


def value(
    task: str, output: str, example: Example, *, labels: Sequence[str] | None = None
) -> int | str:
    """What an output answers: the index of a class, or the text for free answers.

    Args:
        task: A name of `text_to_text.names()`.
        output: The generated text.
        example: What the model was given.
        labels: Names of the classes in the output where they are not the task's, for
            QQP's words about MRPC.

    Raises:
        ValueError: There is no such task.
    """
    names = text_to_text.get(task).labels if labels is None else labels
    if names:
        return label_of(output, names)
    if task == "wsc":
        return names_referent(output, example["targets"])
    return output


def measure(
    task: str,
    outputs: Sequence[str],
    examples: Sequence[Example],
    *,
    labels: Sequence[str] | None = None,
) -> dict[str, float]:
    """The metrics of a task under T5's names, as fractions.

    Args:
        task: A name of `text_to_text.names()`.
        outputs: The generated text of each example.
        examples: All of a split; MultiRC's need all answers to a question.
        labels: See `value`.

    Raises:
        ValueError: There is no such task; outputs and examples differ in number or
            are none; or an example has no label or right answer.
    """
    if len(outputs) != len(examples):
        raise ValueError(
            f"{task}: {len(outputs)} outputs for {len(examples)} examples; give one "
            "each"
        )
    if text_to_text.get(task).labels or task == "wsc":
        for number, example in enumerate(examples):
            if example["label"] < 0:
                raise ValueError(f"{task}: example {number} has no label to measure by")
        values = [
            int(value(task, output, example, labels=labels))
            for output, example in zip(outputs, examples, strict=True)
        ]
        return _MEASURES.get(task, _accuracy)(values, examples)
    if task == "record":
        seen: dict[tuple[int, int], int] = {}
        for number, example in enumerate(examples):
            seen.setdefault((example["idx/passage"], example["idx/query"]), number)
        outputs = [outputs[number] for number in seen.values()]
        examples = [examples[number] for number in seen.values()]
    return text_metrics.answer_scores(outputs, [list(e["answers"]) for e in examples])


def main_score(task: str, scores: Mapping[str, float]) -> float:
    """The mean of a task's main metrics, see `MAIN_METRICS`.

    Args:
        task: A name of `text_to_text.names()`.
        scores: What `measure` says.
    """
    names = MAIN_METRICS[task]
    return sum(scores[name] for name in names) / len(names)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.lower().split()) - _DETERMINERS


def _expected(examples: Sequence[Example]) -> list[int]:
    return [int(example["label"]) for example in examples]


def _accuracy(values: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
    return {"accuracy": text_metrics.accuracy(values, _expected(examples))}


def _three_classes(
    values: Sequence[int], examples: Sequence[Example]
) -> dict[str, float]:
    f1 = text_metrics.mean_f1(values, _expected(examples), num_classes=3)
    return {"mean_3class_f1": f1, **_accuracy(values, examples)}


def _pairs(values: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
    f1 = text_metrics.binary_f1(values, _expected(examples))
    return {"f1": f1, **_accuracy(values, examples)}


def _questions(values: Sequence[int], examples: Sequence[Example]) -> dict[str, float]:
    labels = _expected(examples)
    groups = [(int(e["idx/paragraph"]), int(e["idx/question"])) for e in examples]
    return {
        "f1": text_metrics.binary_f1(values, labels),
        "exact_match": text_metrics.group_exact_match(values, labels, groups),
    }


_MEASURES: dict[str, Callable[[Sequence[int], Sequence[Example]], dict[str, float]]] = {
    "cb": _three_classes,
    "mrpc": _pairs,
    "qqp": _pairs,
    "multirc": _questions,
}
