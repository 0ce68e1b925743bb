"""How the held-out sets are distributed: their files, sizes and formats.

Each set's official form is turned into the fields that promptsource's templates and
T-Few's published subsets use; `benchmarks` reads the files.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Fields = dict[str, Any]

_NUMBERS = frozenset(
    "idx label ind answer_right_ending span1_index span2_index start1 end1 start2 end2"
    "".split()
)
# Some sources lack these, and the templates of the sets' own tasks read none of them.
_OPTIONAL = frozenset("uid reason source_id split split_type story_id".split())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """One split as it is distributed.

    Attributes:
        paths: Where its file may lie below the data directory; the first that exists.
        num_rows: Official number of rows.
    """

    paths: tuple[str, ...]
    num_rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A set, its files and T-Few's protocol for it.

    Attributes:
        name: As in T-Few's configurations.
        template_set: Its name in promptsource.
        choices: Meaning of the labels, in their order; empty where rows have choices
            of their own.
        num_shots: Rows that T-Few draws.
        train: Split that rows are drawn from.
        evaluation: Split that accuracy is measured on.
        splits: The files.
        convert: From the fields of a file to those of templates; the second argument
            is the number of the row.
        source: Where the files are to be had.
    """

    name: str
    template_set: str
    choices: tuple[str, ...] = ()
    num_shots: int
    train: str = "train"
    evaluation: str = "validation"
    splits: Mapping[str, Split]
    convert: Callable[[Mapping[str, Any], int], Fields]
    source: str


def check(fields: Fields) -> None:
    """Refuses a row with nothing where templates would print it, or another type.

    Raises:
        ValueError: A field is no text, number or list of texts as it should be.
    """
    for name, value in fields.items():
        kind, what = (int, "a whole number") if name in _NUMBERS else (str, "text")
        values = [value]
        if name == "endings":
            kind, what = str, "a list of texts"
            values = value if isinstance(value, list) else [None]
        if name not in _OPTIONAL and not all(isinstance(v, kind) for v in values):
            raise ValueError(f"{name} is {value!r}, expected {what}")


def _labels(*texts: Any) -> Callable[[Any], int]:
    """From the label of a file to its index; -1 for rows without one."""

    def index(label: Any) -> int:
        if label is None:
            return -1
        if label not in texts:
            raise ValueError(f"label {label!r}, expected one of {list(texts)}")
        return texts.index(label)

    return index


def _plain(
    fields: Sequence[str], label: Callable[[Any], int]
) -> Callable[[Mapping[str, Any], int], Fields]:
    """Rows whose fields have the right names already."""

    def convert(row: Mapping[str, Any], number: int) -> Fields:
        kept = {name: row[name] for name in fields}
        return {**kept, "idx": row["idx"], "label": label(row.get("label"))}

    return convert


def _copa(row: Mapping[str, Any], number: int) -> Fields:
    fields = ("premise", "choice1", "choice2", "question")
    converted = _plain(fields, _labels(0, 1))(row, number)
    if converted["question"] not in ("cause", "effect"):
        raise ValueError(
            f"question {converted['question']!r}, expected 'cause' or 'effect'"
        )
    return converted


def _as_in_text(text: str, span: str, index: int) -> str:
    """A span as it stands in the text: `wsc.fixed`, which templates are written for.

    Some spans of the official files differ from the text in the case of their first
    letter, a full stop or a line break.
    """
    words = text.split()
    if span in text or not span or index >= len(words):
        return span
    change = str.lower if words[index][0].islower() else str.upper
    fixed = (change(span[0]) + span[1:]).rstrip(".").replace("\n", " ")
    return fixed if fixed in text else span


def _wsc(row: Mapping[str, Any], number: int) -> Fields:
    spans = ("span1_index", "span2_index", "span1_text", "span2_text")
    target = {name: row["target"][name] for name in spans}
    for n in (1, 2):
        target[f"span{n}_text"] = _as_in_text(
            row["text"], target[f"span{n}_text"], target[f"span{n}_index"]
        )
    label = _labels(False, True)(row.get("label"))
    return {"text": row["text"], **target, "idx": row["idx"], "label": label}


def _anli(row: Mapping[str, Any], number: int) -> Fields:
    return {
        "uid": row["uid"],
        "premise": row["context"],
        "hypothesis": row["hypothesis"],
        "label": _labels("e", "n", "c")(row["label"]),
        "reason": row.get("reason", ""),
        "idx": number,
    }


def _hellaswag(row: Mapping[str, Any], number: int) -> Fields:
    plain = ("ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings")
    fields = {name: row[name] for name in plain}
    if len(fields["endings"]) != 4:
        raise ValueError(f"{len(fields['endings'])} endings, expected 4")
    described = {k: row.get(k, "") for k in ("source_id", "split", "split_type")}
    label = row.get("label")
    if label is not None and label != -1:
        label = str(label)  # the Hub's is text
    index = -1 if label in (None, "", -1) else _labels(*"0123")(label)
    return {**fields, **described, "label": index, "idx": number}


def _winogrande(row: Mapping[str, Any], number: int) -> Fields:
    fields = {name: row[name] for name in ("sentence", "option1", "option2")}
    answer = row.get("answer")
    label = _labels("1", "2")(answer or None)
    return {**fields, "answer": answer or "", "label": label, "idx": number}


def _storycloze(row: Mapping[str, Any], number: int) -> Fields:
    sentences = {f"input_sentence_{n}": row[f"InputSentence{n}"] for n in range(1, 5)}
    quizzes = {f"sentence_quiz{n}": row[f"RandomFifthSentenceQuiz{n}"] for n in (1, 2)}
    label = _labels("1", "2")(str(row["AnswerRightEnding"]))
    return {
        "story_id": row["InputStoryid"],
        **sentences,
        **quizzes,
        "answer_right_ending": label + 1,
        "label": label,
        "idx": number,
    }


SUPERGLUE = "super.gluebenchmark.com, the archive of each task"
_NLI = ("premise", "hypothesis")


def _superglue(
    name: str, folder: str, sizes: Mapping[str, int], **options: Any
) -> Benchmark:
    files = {"train": "train", "validation": "val", "test": "test"}
    return Benchmark(
        name=name,
        splits={
            split: Split(
                paths=(
                    f"{folder}/{files[split]}.jsonl",
                    f"{folder.lower()}/{files[split]}.jsonl",
                ),
                num_rows=size,
            )
            for split, size in sizes.items()
        },
        source=SUPERGLUE,
        **options,
    )


def _sizes(train: int, validation: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


def _anli_round(number: int, sizes: Mapping[str, int]) -> Benchmark:
    files = {"train": "train", "validation": "dev", "test": "test"}
    return Benchmark(
        name=f"anli-r{number}",
        template_set="anli",
        choices=("entailment", "neutral", "contradiction"),
        num_shots=50,
        evaluation="test",
        splits={
            split: Split(
                paths=(
                    f"anli_v1.0/R{number}/{files[split]}.jsonl",
                    f"R{number}/{files[split]}.jsonl",
                ),
                num_rows=size,
            )
            for split, size in sizes.items()
        },
        convert=_anli,
        source="github.com/facebookresearch/anli, anli_v1.0.zip",
    )


def _story_file(split: str) -> str:
    return f"cloze_test_{split}__spring2016 - cloze_test_ALL_{split}.csv"


_ALL = (
    _superglue(
        "copa",
        "COPA",
        _sizes(400, 100, 500),
        template_set="super_glue/copa",
        num_shots=32,
        convert=_copa,
    ),
    Benchmark(
        name="h-swag",
        template_set="hellaswag",
        num_shots=20,
        splits={
            split: Split(
                paths=(f"hellaswag/hellaswag_{file}.jsonl", f"hellaswag_{file}.jsonl"),
                num_rows=size,
            )
            for split, file, size in (
                ("train", "train", 39_905),
                ("validation", "val", 10_042),
            )
        },
        convert=_hellaswag,
        source="github.com/rowanz/hellaswag, folder data",
    ),
    Benchmark(
        name="storycloze",
        template_set="story_cloze/2016",
        num_shots=70,
        train="validation",
        evaluation="test",
        splits={
            split: Split(
                paths=(f"storycloze/{_story_file(part)}", _story_file(part)),
                num_rows=1_871,
            )
            for split, part in (("validation", "val"), ("test", "test"))
        },
        convert=_storycloze,
        source="its authors send the files on request: cs.rochester.edu/nlp/rocstories",
    ),
    Benchmark(
        name="winogrande",
        template_set="winogrande/winogrande_xl",
        num_shots=50,
        splits={
            split: Split(
                paths=(f"winogrande_1.1/{file}.jsonl", f"winogrande/{file}.jsonl"),
                num_rows=size,
            )
            for split, file, size in (
                ("train", "train_xl", 40_398),
                ("validation", "dev", 1_267),
            )
        },
        convert=_winogrande,
        source="winogrande.allenai.org, winogrande_1.1.zip",
    ),
    _superglue(
        "wsc",
        "WSC",
        _sizes(554, 104, 146),
        template_set="super_glue/wsc.fixed",
        choices=("no", "yes"),
        num_shots=32,
        convert=_wsc,
    ),
    _superglue(
        "wic",
        "WiC",
        _sizes(5_428, 638, 1_400),
        template_set="super_glue/wic",
        choices=("no", "yes"),
        num_shots=32,
        convert=_plain(
            ("word", "sentence1", "sentence2", "start1", "start2", "end1", "end2"),
            _labels(False, True),
        ),
    ),
    _superglue(
        "rte",
        "RTE",
        _sizes(2_490, 277, 3_000),
        template_set="super_glue/rte",
        choices=("entailment", "not_entailment"),
        num_shots=32,
        convert=_plain(_NLI, _labels("entailment", "not_entailment")),
    ),
    _superglue(
        "cb",
        "CB",
        _sizes(250, 56, 250),
        template_set="super_glue/cb",
        choices=("entailment", "contradiction", "neutral"),
        num_shots=32,
        convert=_plain(_NLI, _labels("entailment", "contradiction", "neutral")),
    ),
    _anli_round(1, _sizes(16_946, 1_000, 1_000)),
    _anli_round(2, _sizes(45_460, 1_000, 1_000)),
    _anli_round(3, _sizes(100_459, 1_200, 1_200)),
    _superglue(
        "boolq",
        "BoolQ",
        _sizes(9_427, 3_270, 3_245),
        template_set="super_glue/boolq",
        choices=("no", "yes"),
        num_shots=32,
        convert=_plain(("question", "passage"), _labels(False, True)),
    ),
)
BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
