"""Rows of text-to-text tasks from the official files, with flat fields.

MultiRC, ReCoRD, SQuAD and MRQA are distributed as passages that hold questions;
TensorFlow Datasets and the Hub give a row for each question or answer, and so does
this. The other sets of SuperGLUE are those of `benchmarks`.
"""

import dataclasses
import gzip
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfew_jax.data import benchmarks, sources

Fields = dict[str, Any]
MRQA = {  # T5's names of the sets that MRQA 2019 keeps for testing: their files
    "bio_asq": "BioASQ",
    "drop": "DROP",
    "duo_rc": "DuoRC.ParaphraseRC",
    "race": "RACE",
    "relation_extraction": "RelationExtraction",
    "textbook_qa": "TextbookQA",
}


def names() -> list[str]:
    """All sets that `load` knows."""
    return list(dict.fromkeys([*benchmarks.names(), *_SETS]))


def splits(name: str) -> list[str]:
    """The splits of a set.

    Raises:
        ValueError: There is no such set.
    """
    if name in benchmarks.names():
        return list(benchmarks.get(name).splits)
    return list(_set(name).files)


def load(name: str, split: str, data_dir: str | os.PathLike[str]) -> list[sources.Row]:
    """The rows of a split, in the order of its file.

    Args:
        name: One of `names()`.
        split: One of `splits(name)`.
        data_dir: Directory with the official files of one set or of many.

    Raises:
        ValueError: The set, the split or its file is not there, or a row is not of the
            official format.
    """
    if name in benchmarks.names():
        return benchmarks.load(name, split, data_dir)
    known = _set(name)
    if split not in known.files:
        raise ValueError(
            f"{name} has no split {split!r}; available: {', '.join(known.files)}"
        )
    folder = pathlib.Path(data_dir).expanduser()
    path = _find(name, split, known.files[split], folder)
    rows: list[sources.Row] = []
    for place, value in known.read(path):
        try:
            rows += [sources.Row(row, where=place) for row in known.flatten(value)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"no field {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{place}: not of {name} ({what}); expected the file as distributed"
            ) from None
    if not rows:
        raise ValueError(f"{path}: holds no rows of {name}; fetch it again")
    return rows


def multirc(passage: Mapping[str, Any]) -> Iterator[Fields]:
    """A row for each answer to each question about an official passage."""
    for question in passage["passage"]["questions"]:
        for answer in question["answers"]:
            label = answer.get("label")
            yield {
                "paragraph": passage["passage"]["text"],
                "question": question["question"],
                "answer": answer["text"],
                "label": -1 if label is None else int(label),
                "idx": {
                    "paragraph": passage["idx"],
                    "question": question["idx"],
                    "answer": answer["idx"],
                },
            }


def record(passage: Mapping[str, Any]) -> Iterator[Fields]:
    """A row for each query about an official passage.

    Entities and answers are each in alphabetical order and stand once.
    """
    text = passage["passage"]["text"]
    spans = [(e["start"], e["end"] + 1) for e in passage["passage"]["entities"]]
    entities = sorted({text[start:end] for start, end in spans})
    for query in passage["qas"]:
        yield {
            "passage": text,
            "query": query["query"],
            "entities": entities,
            "answers": sorted({a["text"] for a in query.get("answers", ())}),
            "idx": {"passage": passage["idx"], "query": query["idx"]},
        }


def squad(article: Mapping[str, Any]) -> Iterator[Fields]:
    """A row for each question about an article of SQuAD v1.1."""
    for paragraph in article["paragraphs"]:
        for question in paragraph["qas"]:
            yield {
                "id": question["id"],
                "title": article.get("title", ""),
                "context": paragraph["context"],
                "question": question["question"],
                "answers": _texts([answer["text"] for answer in question["answers"]]),
            }


def mrqa(passage: Mapping[str, Any]) -> Iterator[Fields]:
    """A row for each question about a passage of MRQA; its header has none."""
    if "header" in passage:
        return
    for question in passage["qas"]:
        yield {
            "qid": question["qid"],
            "context": passage["context"],
            "question": question["question"],
            "answers": _texts(question["answers"]),
        }


def _texts(answers: Any) -> list[str]:
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise ValueError(f"answers are {answers!r}, expected a list of texts")
    return answers


def _pair_of(
    first: str, second: str, label: str
) -> Callable[[Mapping[str, Any]], Iterator[Fields]]:
    """GLUE's table of two texts a line."""
    sides = ("question1", "question2") if first == "question1" else _PAIR

    def flatten(row: Mapping[str, Any]) -> Iterator[Fields]:
        texts = dict(zip(sides, (row[first], row[second]), strict=True))
        yield {**texts, "label": int(row.get(label, -1)), "idx": row["idx"]}

    return flatten


def _sentence(row: Mapping[str, Any]) -> Iterator[Fields]:
    label = int(row.get("label", -1))
    yield {"sentence": row["sentence"], "label": label, "idx": row["idx"]}


def _set(name: str) -> "_Set":
    if name not in _SETS:
        raise ValueError(f"unknown set {name!r}; available: {', '.join(names())}")
    return _SETS[name]


def _find(
    name: str, split: str, paths: tuple[str, ...], data_dir: pathlib.Path
) -> pathlib.Path:
    for path in paths:
        if (data_dir / path).is_file():
            return data_dir / path
    raise ValueError(
        f"{data_dir}: no {split} file of {name} (looked for {', '.join(paths)})"
    )


def _text(path: pathlib.Path) -> str:
    """A file's text, unpacked where it is gzipped."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode(
            "utf-8-sig"
        )
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); fetch it again") from None


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON ({error.msg}); fetch it again") from None


def _json_lines(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            place = f"{path}, line {number}"
            yield place, _json(line, place)


def _articles(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    content = _json(_text(path), str(path))
    articles = content.get("data") if isinstance(content, dict) else None
    if not isinstance(articles, list):
        raise ValueError(f"{path}: not of SQuAD; expected an object with 'data'")
    for number, article in enumerate(articles):
        yield f"{path}, article {number}", article


def _table(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """GLUE's tables: tabs, no quoting."""
    for place, number, cells, columns in _cells(path):
        if len(cells) < len(columns):
            raise ValueError(
                f"{place}: {len(cells)} cells where the header has {len(columns)} "
                "columns; fetch the file again"
            )
        yield place, {**dict(zip(columns, cells, strict=False)), "idx": number}


def _broken_table(path: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """QQP's, where a few questions hold line ends.

    Their pieces lack cells and are left out, as by TFDS and the Hub.
    """
    for place, number, cells, columns in _cells(path):
        if len(cells) >= len(columns):
            yield place, {**dict(zip(columns, cells, strict=False)), "idx": number}


def _cells(
    path: pathlib.Path,
) -> Iterator[tuple[str, int, list[str], list[str]]]:
    """Of each line: where it is, its number from 0, its cells, the columns' names."""
    header, *lines = _text(path).replace("\r\n", "\n").rstrip("\n").split("\n")
    columns = header.split("\t")
    for number, line in enumerate(lines):
        yield f"{path}, line {number + 2}", number, line.split("\t"), columns


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Set:
    """Files of each split, how they are read, and the rows of what is read."""

    files: Mapping[str, tuple[str, ...]]
    read: Callable[[pathlib.Path], Iterator[tuple[str, Any]]]
    flatten: Callable[[Mapping[str, Any]], Iterator[Fields]]


def _folder(name: str, *, ends: str, validation: str) -> dict[str, tuple[str, ...]]:
    files = {"train": "train", "validation": validation, "test": "test"}
    return {
        split: (f"{name}/{file}.{ends}", f"{name.lower()}/{file}.{ends}")
        for split, file in files.items()
    }


def _squad_files(file: str) -> tuple[str, ...]:
    return tuple(f"{f}{file}-v1.1.json{z}" for f in ("squad/", "") for z in ("", ".gz"))


_PAIR = ("sentence1", "sentence2")
_SETS = {
    "multirc": _Set(
        files=_folder("MultiRC", ends="jsonl", validation="val"),
        read=_json_lines,
        flatten=multirc,
    ),
    "record": _Set(
        files=_folder("ReCoRD", ends="jsonl", validation="val"),
        read=_json_lines,
        flatten=record,
    ),
    "mrpc": _Set(
        files=_folder("MRPC", ends="tsv", validation="dev"),
        read=_table,
        flatten=_pair_of("#1 String", "#2 String", "Quality"),
    ),
    "qqp": _Set(
        files=_folder("QQP", ends="tsv", validation="dev"),
        read=_broken_table,
        flatten=_pair_of("question1", "question2", "is_duplicate"),
    ),
    "sst2": _Set(
        files=_folder("SST-2", ends="tsv", validation="dev"),
        read=_table,
        flatten=_sentence,
    ),
    "squad": _Set(
        files={"train": _squad_files("train"), "validation": _squad_files("dev")},
        read=_articles,
        flatten=squad,
    ),
    **{
        f"mrqa/{name}": _Set(
            files={"validation": (f"mrqa/{file}.jsonl.gz", f"{file}.jsonl.gz")},
            read=_json_lines,
            flatten=mrqa,
        )
        for name, file in MRQA.items()
    },
}
