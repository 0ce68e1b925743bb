"""Where sets lie on the Hub and in TFDS, and what their columns hold.

Every row of the held-out sets is turned back into the fields of the official file, so
that one conversion (`official.Benchmark.convert`) serves all sources; every row of the
text-to-text sets into that of the flattened official file (`text_rows`). What a mirror
has dropped:

- TFDS keeps rows in the order of a hash. SuperGLUE's rows have their number in `idx`;
  the others cannot be put in the official order again.
- TFDS's HellaSwag has `ctx` but not its parts: `ctx_b` is taken to be what follows the
  last sentence of ActivityNet's rows and empty in WikiHow's, as it is in all of T-Few's
  100 published rows. `ind` is -1, `split` is empty.
- TFDS's StoryCloze has the four sentences as one text. It is cut at the ends of
  sentences, which gives the right four in all 323 rows of T-Few's published ones.
- TFDS's ANLI has no `reason`.
- TFDS's SQuAD cannot be put in the official order; both mirrors number MRPC's rows by
  the file that its training and validation rows were parted from.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from tfew_jax.data.official import Fields

_Adapter = Callable[[Mapping[str, Any]], Fields]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mirror:
    """A set on the Hub and in TFDS.

    Attributes:
        repository: On the Hub.
        config: Its configuration there.
        hub_splits: Names of its splits there, where they are others than ours.
        downloadable: Whether the Hub has parquet files of it.
        tfds: Name and configuration in TFDS.
        tfds_splits: Names of its splits there, where they are others than ours.
        sorts: Whether `idx` puts TFDS's rows in the official order.
        from_hub: From the Hub's columns to the fields of the official file.
        from_tfds: From TFDS's features to the fields of the official file.
    """

    repository: str
    config: str
    hub_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    downloadable: bool = True
    tfds: str
    tfds_splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sorts: bool = False
    from_hub: _Adapter
    from_tfds: _Adapter


def _named(*labels: Any) -> _Adapter:
    """Rows whose label is an index of these, -1 where it is hidden."""

    def adapt(row: Mapping[str, Any]) -> Fields:
        return {**row, "label": _label(row["label"], labels)}

    return adapt


def _label(index: Any, labels: tuple[Any, ...]) -> Any:
    if index is None or index == -1:
        return None
    if index not in range(len(labels)):
        allowed = ", ".join(map(str, range(-1, len(labels))))
        raise ValueError(f"label {index!r}, expected one of {allowed}")
    return labels[index]


def _wsc(row: Mapping[str, Any]) -> Fields:
    return {**_named(False, True)(row), "target": row}


def _anli_hub(row: Mapping[str, Any]) -> Fields:
    named = _named("e", "n", "c")(row)
    return {**named, "context": row["premise"], "reason": row.get("reason") or ""}


def _hellaswag_hub(row: Mapping[str, Any]) -> Fields:
    hidden = row["label"] in ("", None)
    return {**row, "label": -1 if hidden else int(row["label"])}


def _hellaswag_tfds(row: Mapping[str, Any]) -> Fields:
    context = row["context"]
    parts = {"ctx": context, "ctx_a": context, "ctx_b": ""}
    ends = list(re.finditer(r"[.!?] ", context))
    if ends and row.get("source_id", "").startswith("activitynet"):
        parts["ctx_a"] = context[: ends[-1].end() - 1]
        parts["ctx_b"] = context[ends[-1].end() :]
    return {**row, **parts, "ind": -1}


def _winogrande_tfds(row: Mapping[str, Any]) -> Fields:
    return {**row, "answer": _label(row["label"], ("1", "2"))}


def _story_hub(row: Mapping[str, Any]) -> Fields:
    return {
        "InputStoryid": row["story_id"],
        **{f"InputSentence{n}": row[f"input_sentence_{n}"] for n in range(1, 5)},
        **{f"RandomFifthSentenceQuiz{n}": row[f"sentence_quiz{n}"] for n in (1, 2)},
        "AnswerRightEnding": row["answer_right_ending"],
    }


# An end of a sentence, perhaps in quotes, before what does not go on in lower case.
_SENTENCE_END = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["')])) (?=[^a-z])""")


def _story_tfds(row: Mapping[str, Any]) -> Fields:
    sentences = _SENTENCE_END.split(row["context"], maxsplit=3)
    sentences += [""] * (4 - len(sentences))
    first, second = row["endings"]
    return {
        "InputStoryid": "",
        **{f"InputSentence{n}": text for n, text in enumerate(sentences, start=1)},
        "RandomFifthSentenceQuiz1": first,
        "RandomFifthSentenceQuiz2": second,
        "AnswerRightEnding": row["label"],
    }


def _number(fields: Mapping[str, Any], name: str) -> int:
    if not isinstance(fields[name], int):
        raise ValueError(f"{name} is {fields[name]!r}, expected a whole number")
    return fields[name]


def _texts(fields: Mapping[str, Any], *names: str) -> Fields:
    for name in names:
        if not isinstance(fields[name], str):
            raise ValueError(f"{name} is {fields[name]!r}, expected text")
    return {name: fields[name] for name in names}


def _list(value: Any, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{what} are {value!r}, expected a list of texts")
    return value


def _parts(row: Mapping[str, Any], *names: str) -> dict[str, int]:
    """`idx` of a question about a passage, from the passage inwards."""
    if not isinstance(row["idx"], Mapping):
        raise ValueError(
            f"idx is {row['idx']!r}, expected the numbers of {', '.join(names)}"
        )
    return {name: _number(row["idx"], name) for name in names}


def _two_classes(*texts: str) -> _Adapter:
    def adapt(row: Mapping[str, Any]) -> Fields:
        label = _label(row["label"], (0, 1))
        return {
            **_texts(row, *texts),
            "label": -1 if label is None else label,
            "idx": _number(row, "idx"),
        }

    return adapt


def _multirc(row: Mapping[str, Any]) -> Fields:
    label = _label(row["label"], (0, 1))
    return {
        **_texts(row, "paragraph", "question", "answer"),
        "label": -1 if label is None else label,
        "idx": _parts(row, "paragraph", "question", "answer"),
    }


def _record(row: Mapping[str, Any]) -> Fields:
    lists = {name: _list(row[name], name) for name in ("entities", "answers")}
    return {
        **_texts(row, "passage", "query"),
        **{name: sorted(set(texts)) for name, texts in lists.items()},
        "idx": _parts(row, "passage", "query"),
    }


def _squad(row: Mapping[str, Any]) -> Fields:
    answers = row["answers"]
    texts = answers["text"] if isinstance(answers, Mapping) else answers
    return {
        **_texts(row, "id", "title", "context", "question"),
        "answers": _list(texts, "answers"),
    }


def _superglue(config: str, adapt: _Adapter) -> Mirror:
    return Mirror(
        repository="aps/super_glue",
        config=config,
        tfds=f"super_glue/{config}",
        sorts=True,
        from_hub=adapt,
        from_tfds=adapt,
    )


def _anli(number: int) -> Mirror:
    names = {"train": "train", "validation": "dev", "test": "test"}
    return Mirror(
        repository="facebook/anli",
        config="plain_text",
        hub_splits={split: f"{name}_r{number}" for split, name in names.items()},
        tfds=f"anli/r{number}",
        from_hub=_anli_hub,
        from_tfds=_named("e", "n", "c"),
    )


def _glue(config: str, *texts: str) -> Mirror:
    return Mirror(
        repository="nyu-mll/glue",
        config=config,
        tfds=f"glue/{config}",
        sorts=True,
        from_hub=_two_classes(*texts),
        from_tfds=_two_classes(*texts),
    )


MIRRORS = {
    "copa": _superglue("copa", _named(0, 1)),
    "h-swag": Mirror(
        repository="Rowan/hellaswag",
        config="default",
        tfds="hellaswag",
        from_hub=_hellaswag_hub,
        from_tfds=_hellaswag_tfds,
    ),
    "storycloze": Mirror(
        repository="LSDSem/story_cloze",
        config="2016",
        downloadable=False,
        tfds="story_cloze/2016",
        from_hub=_story_hub,
        from_tfds=_story_tfds,
    ),
    "winogrande": Mirror(
        repository="allenai/winogrande",
        config="winogrande_xl",
        tfds="winogrande",
        tfds_splits={"train": "train_xl"},
        from_hub=dict,
        from_tfds=_winogrande_tfds,
    ),
    "wsc": _superglue("wsc.fixed", _wsc),
    "wic": _superglue("wic", _named(False, True)),
    "rte": _superglue("rte", _named("entailment", "not_entailment")),
    "cb": _superglue("cb", _named("entailment", "contradiction", "neutral")),
    "anli-r1": _anli(1),
    "anli-r2": _anli(2),
    "anli-r3": _anli(3),
    "boolq": _superglue("boolq", _named(False, True)),
}
TEXT_MIRRORS = {
    "multirc": _superglue("multirc", _multirc),
    "record": _superglue("record", _record),
    "mrpc": _glue("mrpc", "sentence1", "sentence2"),
    "qqp": _glue("qqp", "question1", "question2"),
    "sst2": _glue("sst2", "sentence"),
    "squad": Mirror(
        repository="rajpurkar/squad",
        config="plain_text",
        tfds="squad/v1.1",
        from_hub=_squad,
        from_tfds=_squad,
    ),
}
