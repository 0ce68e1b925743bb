"""Rows of a dataset as inputs and targets, in T5's words.

Raffel et al., 2020 (https://arxiv.org/abs/1910.10683), Appendix D, as T5's code has
it; Lester et al., 2021 (https://arxiv.org/abs/2104.08691) drop the first word of the
inputs, which names the task, since their prompt stands for it.

Rows have the field names of TensorFlow Datasets and the Hub, which for most sets are
the official ones; `text_rows` flattens the files of MultiRC, ReCoRD, SQuAD and MRQA. A
label is an index, or the official text or truth value. Deviations from T5's code:

- WSC's two rows whose index misses the pronoun are not patched by their text: the
  occurrence of the pronoun that is nearest to the index is marked;
- ReCoRD's rows are repeated for each answer in training only; T5 repeats them in
  evaluation too, and its metric drops the copies.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from tfew_jax.data import labels as label_texts

Example = dict[str, Any]
UNKNOWN = "<unk>"  # T5's target where there is none

_NO_WORD = re.compile(r"[^0-9A-Za-z_]")  # T5's \W is one of bytes, not of Unicode
_SPACES = re.compile(r"[\t\n\f\r ]+")
_HIGHLIGHT = re.compile(r"""([.?!"'])\n@highlight\n""")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask:
    """A dataset as text to text.

    Attributes:
        name: T5's name, without the benchmark.
        benchmark: "super_glue", "glue", or "" for a dataset of its own.
        convert: From a row to its examples in evaluation, with the task's word.
        labels: The targets in the order of the classes; empty where they are free.
        start_labels: Words that a prompt starts from instead where targets are free:
            those of Lester et al., footnote 7.
        has_word: Whether the first word of the inputs names the task.
        repeats_answers: Whether each right answer is a training example of its own.
        train_label: The only label whose rows are trained on; None for all.
    """

    name: str
    benchmark: str = ""
    convert: Callable[[Mapping[str, Any]], Example]
    labels: tuple[str, ...] = ()
    start_labels: tuple[str, ...] = ()
    has_word: bool = True
    repeats_answers: bool = False
    train_label: int | None = None

    @property
    def class_labels(self) -> tuple[str, ...]:
        """What a prompt of class labels starts from."""
        return self.labels or self.start_labels

    def examples(
        self, row: Mapping[str, Any], *, task_word: bool = True, train: bool = False
    ) -> list[Example]:
        """The examples of a row: `inputs`, `targets`, and what metrics need.

        The latter are `label` (-1 where unknown) for tasks with classes, `answers` for
        questions, and the row's indices: `idx`, `idx/question` or `id`.

        Args:
            row: Fields of the dataset.
            task_word: False drops the first word of the inputs where it names the task.
            train: Examples to be trained on: for ReCoRD one an answer, for WSC none
                where the referent is not the right one.

        Raises:
            ValueError: The row lacks a field, or a field has a wrong value.
        """
        try:
            example = self.convert(row)
        except KeyError as error:
            raise ValueError(
                f"{self.name}: the row has no field {error}; it has "
                f"{label_texts.show(list(row))}"
            ) from None
        except TypeError as error:
            raise ValueError(
                f"{self.name}: a field has a wrong type: {error}"
            ) from None
        if not task_word and self.has_word:
            example["inputs"] = example["inputs"].partition(" ")[2]
        if train and self.train_label is not None:
            return [example] if example["label"] == self.train_label else []
        if train and self.repeats_answers:
            answers = example["answers"] or [UNKNOWN]
            return [{**example, "targets": answer} for answer in answers]
        return [example]


def names(benchmark: str | None = None) -> list[str]:
    """All tasks, or those of a benchmark ("super_glue", "glue")."""
    return [t.name for t in _TASKS.values() if benchmark in (None, t.benchmark)]


def get(name: str) -> TextTask:
    """A task by its name.

    Raises:
        ValueError: There is no such task.
    """
    if name not in _TASKS:
        raise ValueError(
            f"unknown text-to-text task {name!r}; available: {', '.join(_TASKS)}"
        )
    return _TASKS[name]


def _labelled(
    name: str,
    fields: tuple[str, ...],
    labels: tuple[str, ...],
    *,
    benchmark: str = "super_glue",
    indices: tuple[str, ...] = (),
    clean: Callable[[str], str] = str,
) -> TextTask:
    """A task of the form `name field: text field: text`, with a class as target.

    Args:
        name: Of the task, and its word.
        fields: In the order of the inputs; T5's is the alphabetical one by default.
        labels: The classes.
        benchmark: See `TextTask`.
        indices: Parts of the row's `idx`.
        clean: Applied to the inputs.
    """

    def convert(row: Mapping[str, Any]) -> Example:
        texts = [f"{field}: {_text(row, field)}" for field in fields]
        label = _label(row, name, labels)
        return {
            "inputs": clean(" ".join([name, *texts])),
            "targets": labels[label] if label >= 0 else UNKNOWN,
            "label": label,
            **_indices(row, indices),
        }

    return TextTask(name=name, benchmark=benchmark, convert=convert, labels=labels)


def _text(row: Mapping[str, Any], field: str) -> str:
    if not isinstance(row[field], str):
        raise TypeError(f"{field} is {row[field]!r}, expected text")
    return row[field]


def _label(row: Mapping[str, Any], name: str, labels: tuple[str, ...]) -> int:
    """Index of the row's class; -1 where it has none."""
    label = row.get("label")
    if label is None or label == -1:
        return -1
    if isinstance(label, str) and label in labels:
        return labels.index(label)
    if isinstance(label, int) and 0 <= label < len(labels):
        return int(label)
    raise ValueError(
        f"{name}: the label {label!r} is neither an index below {len(labels)} nor one "
        f"of {label_texts.show(labels)}"
    )


def _indices(row: Mapping[str, Any], parts: tuple[str, ...]) -> dict[str, int]:
    if parts:
        return {f"idx/{part}": int(row["idx"][part]) for part in parts}
    return {"idx": int(row["idx"])}


def _without_markup(text: str) -> str:
    return re.sub("</?b>", "", text.replace("<br>", " "))


def _record(row: Mapping[str, Any]) -> Example:
    passage = _HIGHLIGHT.sub(r"\1 ", _text(row, "passage"))
    passage = passage.replace("\n@highlight\n", ". ")
    entities, answers = ", ".join(row["entities"]), list(row["answers"])
    return {
        "inputs": f"record query: {_text(row, 'query')} entities: {entities} "
        f"passage: {passage}",
        "targets": answers[0] if answers else UNKNOWN,
        "answers": answers,
        **_indices(row, ("passage", "query")),
    }


def _wsc(row: Mapping[str, Any]) -> Example:
    text, pronoun = _text(row, "text"), _text(row, "span2_text")
    start = _offset(text, pronoun, row["span2_index"])
    before, after = text[:start], text[start + len(pronoun) :]
    gap = " " if after and not after[0].isspace() else ""
    referent = _as_in(text, _text(row, "span1_text"), row["span1_index"])
    return {
        "inputs": f"wsc: {before}*{pronoun}*{gap}{after}",
        "targets": referent,
        "label": _label(row, "wsc", ("False", "True")),
        **_indices(row, ()),
    }


def _offset(text: str, pronoun: str, index: int) -> int:
    """Where the pronoun stands that is nearest to the word of this index."""
    words = text.split(" ")
    near = len(" ".join([*words[:index], ""]))
    found = re.finditer(rf"(?<!\w){re.escape(pronoun)}(?!\w)", text)
    starts = [match.start() for match in found]
    if not starts:
        raise ValueError(f"wsc: the pronoun {pronoun!r} is not in the text {text!r}")
    return min(starts, key=lambda start: abs(start - near))


def _as_in(text: str, span: str, index: int) -> str:
    """The span as the text spells it, as in the version wsc.fixed of SuperGLUE."""
    words = text.split()
    if span in text or not span or not 0 <= index < len(words):
        return span
    is_lower = words[index][0].islower()
    first = span[0].lower() if is_lower else span[0].upper()
    fixed = (first + span[1:]).rstrip(".").replace("\n", " ")
    return fixed if fixed in text else span


def _question(row: Mapping[str, Any], *, id_field: str) -> Example:
    """SQuAD and MRQA: punctuation is set apart in all texts."""
    answers = row["answers"]
    texts = answers["text"] if isinstance(answers, Mapping) else answers
    padded = [_set_apart(text) for text in texts]
    question, context = (_set_apart(_text(row, f)) for f in ("question", "context"))
    inputs = _SPACES.sub(" ", f"question: {question} context: {context}")
    return {
        "inputs": inputs,
        "targets": padded[0] if padded else UNKNOWN,
        "answers": padded,
        "id": str(row[id_field]),
    }


def _set_apart(text: str) -> str:
    return _SPACES.sub(" ", _NO_WORD.sub(r" \g<0> ", text))


_TRUTH = ("False", "True")
_ENTAILED = ("entailment", "not_entailment")
_THREE = ("entailment", "contradiction", "neutral")
_PAIR = ("sentence1", "sentence2")
_ALL = (
    _labelled("boolq", ("passage", "question"), _TRUTH),
    _labelled("cb", ("hypothesis", "premise"), _THREE),
    _labelled(
        "copa", ("choice1", "choice2", "premise", "question"), ("choice1", "choice2")
    ),
    _labelled(
        "multirc",
        ("question", "answer", "paragraph"),
        _TRUTH,
        indices=("paragraph", "question", "answer"),
        clean=_without_markup,
    ),
    TextTask(
        name="record",
        benchmark="super_glue",
        convert=_record,
        start_labels=("commonsense", "reasoning", "reading", "comprehension"),
        repeats_answers=True,
    ),
    _labelled("rte", ("hypothesis", "premise"), _ENTAILED),
    _labelled("wic", (*_PAIR, "word"), _TRUTH),
    TextTask(
        name="wsc",
        benchmark="super_glue",
        convert=_wsc,
        start_labels=("commonsense", "pronoun", "resolution"),
        train_label=1,
    ),
    _labelled("mrpc", _PAIR, ("not_equivalent", "equivalent"), benchmark="glue"),
    _labelled(
        "qqp",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        benchmark="glue",
    ),
    _labelled("sst2", ("sentence",), ("negative", "positive"), benchmark="glue"),
    TextTask(
        name="squad",
        convert=functools.partial(_question, id_field="id"),
        has_word=False,
    ),
    TextTask(
        name="mrqa",
        convert=functools.partial(_question, id_field="qid"),
        has_word=False,
    ),
)
_TASKS = {task.name: task for task in _ALL}
