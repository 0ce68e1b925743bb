"""How the sets of text-to-text tasks are distributed: files, sizes and formats.

`text_rows` reads them.
"""

import dataclasses
import gzip
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tfew_jax.data import official

Fields = dict[str, Any]
Pieces = Iterable[tuple[str, Any]]  # where a piece of a file stands, and the piece
MRQA = {  # T5's names of the sets that MRQA 2019 keeps for testing: their files
    "bio_asq": "BioASQ",
    "drop": "DROP",
    "duo_rc": "DuoRC.ParaphraseRC",
    "race": "RACE",
    "relation_extraction": "RelationExtraction",
    "textbook_qa": "TextbookQA",
}
SQUAD_SHIFTS = {  # new articles, and texts of other kinds: their official sizes
    "new_wiki": 7_938,
    "nyt": 10_065,
    "reddit": 9_803,
    "amazon": 9_885,
}
_MRQA_SIZES = {
    "bio_asq": 1_504,
    "drop": 1_503,
    "duo_rc": 1_501,
    "race": 674,
    "relation_extraction": 2_948,
    "textbook_qa": 1_503,
}


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
    if not (isinstance(articles, list) and all(isinstance(a, dict) for a in articles)):
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
class TextSet:
    """How a set is distributed.

    Attributes:
        splits: The files.
        read: What a file holds, and where each piece of it stands.
        flatten: The rows of such a piece.
        source: Where the files are to be had.
        numbers_anew: Whether mirrors number the rows otherwise than the file does.
        part: Of the pieces of a file, those that belong to a split; None for all.
    """

    splits: Mapping[str, official.Split]
    read: Callable[[pathlib.Path], Iterator[tuple[str, Any]]]
    flatten: Callable[[Mapping[str, Any]], Iterator[Fields]]
    source: str
    numbers_anew: bool = False
    part: Callable[[str, Pieces], Pieces] | None = None


def _folder(
    name: str, *, ends: str, validation: str, sizes: tuple[int, int, int]
) -> dict[str, official.Split]:
    files = {"train": "train", "validation": validation, "test": "test"}
    return {
        split: official.Split(
            paths=(f"{name}/{file}.{ends}", f"{name.lower()}/{file}.{ends}"),
            num_rows=size,
        )
        for (split, file), size in zip(files.items(), sizes, strict=True)
    }


def _superglue(
    name: str,
    flatten: Callable[[Mapping[str, Any]], Iterator[Fields]],
    sizes: tuple[int, int, int],
) -> TextSet:
    return TextSet(
        splits=_folder(name, ends="jsonl", validation="val", sizes=sizes),
        read=_json_lines,
        flatten=flatten,
        source=official.SUPERGLUE,
    )


def _glue(name: str, sizes: tuple[int, int, int], **options: Any) -> TextSet:
    return TextSet(
        splits=_folder(name, ends="tsv", validation="dev", sizes=sizes),
        source="gluebenchmark.com, the archive of each task",
        **options,
    )


def _squad_files(file: str, num_rows: int) -> official.Split:
    ends = (f"{file}.json", f"{file}.json.gz")
    paths = tuple(f"{folder}{end}" for folder in ("squad/", "") for end in ends)
    return official.Split(paths=paths, num_rows=num_rows)


def _dev_articles(num_rows: int) -> official.Split:
    """SQuAD's development file, also under the name of BIG-bench's copy of it."""
    names = ("dev-v1.1", "squaddev_v1.1")
    paths = [path for name in names for path in _squad_files(name, num_rows).paths]
    return official.Split(paths=tuple(paths), num_rows=num_rows)


def _by_article(split: str, articles: Pieces) -> Pieces:
    """Two thirds of the articles to train on, the others for validation.

    Which, follows from their titles alone, not from their order in the file.
    """
    ordered = sorted(articles, key=lambda piece: str(piece[1].get("title", "")))
    order = np.random.RandomState(0).permutation(len(ordered))
    num_train = 2 * len(ordered) // 3
    chosen = order[:num_train] if split == "train" else order[num_train:]
    return [ordered[number] for number in sorted(chosen.tolist())]


_SQUAD = "rajpurkar.github.io/SQuAD-explorer, version 1.1"
_PAIR = ("sentence1", "sentence2")
SETS = {
    "multirc": _superglue("MultiRC", multirc, (27_243, 4_848, 9_693)),
    "record": _superglue("ReCoRD", record, (100_730, 10_000, 10_000)),
    "mrpc": _glue(
        "MRPC",
        (3_668, 408, 1_725),
        read=_table,
        flatten=_pair_of("#1 String", "#2 String", "Quality"),
        numbers_anew=True,
    ),
    "qqp": _glue(
        "QQP",
        (363_846, 40_430, 390_965),
        read=_broken_table,
        flatten=_pair_of("question1", "question2", "is_duplicate"),
    ),
    "sst2": _glue("SST-2", (67_349, 872, 1_821), read=_table, flatten=_sentence),
    "squad": TextSet(
        splits={
            "train": _squad_files("train-v1.1", 87_599),
            "validation": _squad_files("dev-v1.1", 10_570),
        },
        read=_articles,
        flatten=squad,
        source=_SQUAD,
    ),
    # Few data for questions: the development file alone. The numbers of rows are those
    # of BIG-bench's copy, which lacks five of the file's 10,570 questions.
    "squad/articles": TextSet(
        splits={"train": _dev_articles(7_534), "validation": _dev_articles(3_031)},
        read=_articles,
        flatten=squad,
        source=f"{_SQUAD}, the development file",
        part=_by_article,
    ),
    **{
        f"squad/{name}": TextSet(
            splits={"validation": _squad_files(f"{name}_v1.0", num_rows)},
            read=_articles,
            flatten=squad,
            source="modestyachts.github.io/squadshifts-website (Miller et al., 2020)",
        )
        for name, num_rows in SQUAD_SHIFTS.items()
    },
    **{
        f"mrqa/{name}": TextSet(
            splits={
                "validation": official.Split(
                    paths=(f"mrqa/{file}.jsonl.gz", f"{file}.jsonl.gz"),
                    num_rows=_MRQA_SIZES[name],
                )
            },
            read=_json_lines,
            flatten=mrqa,
            source="github.com/mrqa/MRQA-Shared-Task-2019, out-of-domain sets",
        )
        for name, file in MRQA.items()
    },
}
