"""The same made-up rows of text-to-text sets from files, TFDS and the Hub are the same.

TFDS's folders are made by TFDS's own builders from the official files.
"""

import importlib.resources.abc
import json
import pathlib
import random
import sys
import unittest.mock

import pytest
from one_line import message_of

from tfew_jax.data import mirrors, text_rows, text_to_text

SETS = list(mirrors.TEXT_MIRRORS)
DEV = (1, 4)  # of the seven rows that MRPC's training and validation rows were
PAIRS = [(f'"A {n}" was', f"B {n} wás ", n % 2) for n in range(7)]


def passages(split: str) -> list[dict]:
    """Two passages of MultiRC, of two questions with two answers each."""
    hidden = split == "test"
    answers = [{"text": f"A{k}", "idx": k, "label": k} for k in range(2)]
    for answer in answers if hidden else ():
        del answer["label"]
    return [
        {
            "idx": n,
            "passage": {
                "text": f"<b>Sent {n}: </b>It.<br>",
                "questions": [
                    {"question": f"Q{q}?", "idx": q, "answers": answers}
                    for q in (2 * n, 2 * n + 1)
                ],
            },
        }
        for n in range(2)
    ]


def news(split: str) -> list[dict]:
    """Two passages of ReCoRD with two queries each and a repeated entity."""
    text = "Zoe met Ann.\n@highlight\nAnn ran"
    entities = [(0, 2), (8, 10), (24, 26)]
    answers = [{"text": "Zoe"}, {"text": "Ann"}, {"text": "Ann"}]
    with_answers = {} if split == "test" else {"answers": answers}
    return [
        {
            "idx": n,
            "passage": {
                "text": f"{text} {n}",
                "entities": [{"start": a, "end": b} for a, b in entities],
            },
            "qas": [
                {"query": f"@placeholder {q} ran", "idx": q, **with_answers}
                for q in (2 * n, 2 * n + 1)
            ],
        }
        for n in range(2)
    ]


def articles() -> dict:
    questions = [
        {
            "id": f"q{n}",
            "question": f"Who {n}? ",
            "answers": [{"text": "Bo", "answer_start": 1}] * 2,
        }
        for n in range(3)
    ]
    paragraph = {"context": " Bo ran.", "qas": questions}
    return {"data": [{"title": "Bo", "paragraphs": [paragraph]}], "version": "1.1"}


def table(path: pathlib.Path, *lines: tuple) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def mrpc(numbers, *, quality: bool = True) -> list[tuple]:
    head = ("Quality" if quality else "index", "#1 ID", "#2 ID", "#1 String")
    rows = [
        (PAIRS[n][2] if quality else place, 10 + n, 20 + n, *PAIRS[n][:2])
        for place, n in enumerate(numbers)
    ]
    return [(*head, "#2 String"), *rows]


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> pathlib.Path:
    """The official files, and what TFDS makes its MRPC of."""
    top = tmp_path_factory.mktemp("official")
    files = {"train": "train", "validation": "val", "test": "test"}
    for split, file in files.items():
        for folder, rows in (("MultiRC", passages(split)), ("ReCoRD", news(split))):
            lines = [(json.dumps(row),) for row in rows]
            table(top / folder / f"{file}.jsonl", *lines)
    for file in ("train", "dev"):
        rows = [(7 + n, 1, 2, *pair) for n, pair in enumerate(PAIRS)]
        head = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
        table(top / f"QQP/{file}.tsv", head, *rows[:3], (9, "cut"), *rows[3:])
        sentences = [(f"a film {n} ", n % 2) for n in range(12)]
        table(top / f"SST-2/{file}.tsv", ("sentence", "label"), *sentences)
    pairs = [(n, *pair[:2]) for n, pair in enumerate(PAIRS)]
    table(top / "QQP/test.tsv", ("id", "question1", "question2"), *pairs)
    table(top / "SST-2/test.tsv", ("index", "sentence"), (0, "a film"), (1, "b"))
    table(top / "MRPC/train.tsv", *mrpc(n for n in range(7) if n not in DEV))
    table(top / "MRPC/dev.tsv", *mrpc(DEV))
    table(top / "MRPC/test.tsv", *mrpc(range(7), quality=False))
    table(top / "msr/train", *mrpc(range(7)))
    data = (top / "msr/train").read_bytes()
    (top / "msr/train").write_bytes(b"\xef\xbb\xbf" + data)
    table(top / "msr/test", *mrpc(range(7), quality=True))
    table(top / "msr/dev_ids", *((10 + n, 20 + n) for n in DEV))
    for file in ("train", "dev"):
        table(top / f"squad/{file}-v1.1.json", (json.dumps(articles()),))
    return top


@pytest.fixture(scope="module")
def tfds_directory(official, tmp_path_factory) -> pathlib.Path:
    """A TFDS data directory, prepared by TFDS's builders."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS (extra data)")
    pytest.importorskip("tensorflow", reason="needs TensorFlow (extra data)")
    folder = tmp_path_factory.mktemp("tfds")

    def fetched(manager, urls):
        if not isinstance(urls, dict):
            return str(official)
        file = "squad/{}-v1.1.json" if set(urls) == {"train", "dev"} else "msr/{}"
        return {key: str(official / file.format(key)) for key in urls}

    manager = tfds.download.DownloadManager
    config = tfds.download.DownloadConfig(
        compute_stats=tfds.download.ComputeStatsMode.SKIP
    )
    # Builders import this package, which TFDS does not bring along.
    backport = {"importlib_resources": importlib.resources}
    with (
        unittest.mock.patch.dict(sys.modules, backport),
        unittest.mock.patch.object(manager, "download_and_extract", fetched),
        unittest.mock.patch.object(manager, "download", fetched),
    ):
        for mirror in mirrors.TEXT_MIRRORS.values():
            builder = tfds.builder(mirror.tfds, data_dir=str(folder))
            builder.download_and_prepare(download_config=config)
    return folder


def hub_row(name: str, split: str, row: dict) -> dict:
    """A row of the official file with the Hub's columns, as its cards have them."""
    if name == "record":
        spans = [{"text": "Zoe", "start": 0, "end": 3}]
        # A set's order is any: the Hub's entities are not sorted.
        return {**row, "entities": row["entities"][::-1], "entity_spans": spans}
    if name == "squad":
        texts = row["answers"]
        answers = {"text": texts, "answer_start": [1] * len(texts)}
        return {**row, "answers": answers}
    if name == "mrpc":
        numbers = {"validation": DEV, "test": range(7)}
        rest = [n for n in range(7) if n not in DEV]
        return {**row, "idx": numbers.get(split, rest)[row["idx"]]}
    return row


HUB_COLUMNS = {  # of the Hub's cards
    "multirc": "paragraph question answer idx label",
    "record": "passage query entities entity_spans answers idx",
    "mrpc": "sentence1 sentence2 label idx",
    "qqp": "question1 question2 label idx",
    "sst2": "sentence label idx",
    "squad": "id title context question answers",
}


@pytest.fixture(scope="module")
def hub_directory(official, tmp_path_factory) -> pathlib.Path:
    """Parquet files: one half in a repository's own layout, one in the conversion's."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (extra data)")
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("hub")
    for number, (name, mirror) in enumerate(mirrors.TEXT_MIRRORS.items()):
        for split in text_rows.splits(name):
            rows = text_rows.load(name, split, official)
            rows = [hub_row(name, split, row) for row in rows]
            assert all(set(row) == set(HUB_COLUMNS[name].split()) for row in rows)
            table = pyarrow.Table.from_pylist(rows)
            file = f"{split}/0000.parquet"
            if number % 2:
                file = f"{split}-00000-of-00001.parquet"
            path = folder / mirror.repository / mirror.config / file
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(table, path)
    return folder


@pytest.mark.parametrize("name", SETS)
def test_rows_of_the_hub_are_those_of_the_official_files(official, hub_directory, name):
    for split in text_rows.splits(name):
        ours = text_rows.load(name, split, official)
        assert text_rows.load(name, split, f"hub:{hub_directory}") == ours
        assert text_rows.load(name, split, hub_directory) == ours


@pytest.mark.slow
def test_rows_of_tfds_are_those_of_the_official_files(official, tfds_directory):
    for name in SETS:
        for split in text_rows.splits(name):
            ours = text_rows.load(name, split, official)
            found = text_rows.load(name, split, f"tfds:{tfds_directory}")
            if name == "squad":  # TFDS's order cannot be undone
                ours, found = (sorted(rows, key=str) for rows in (ours, found))
            assert found == ours, (name, split)
            assert "row" in found[0].where and str(tfds_directory) in found[0].where


def test_official_files_come_before_the_hubs(official, hub_directory, tmp_path):
    (tmp_path / "MultiRC").symlink_to(hub_directory / "aps/super_glue")
    (tmp_path / "super_glue").symlink_to(hub_directory / "aps/super_glue")
    rows = text_rows.load("multirc", "train", tmp_path)
    assert rows[0].where.endswith("0000.parquet, row 0")
    (tmp_path / "MultiRC").unlink()
    (tmp_path / "MultiRC").symlink_to(official / "MultiRC")
    rows = text_rows.load("multirc", "train", tmp_path)
    assert rows[0].where.endswith("train.jsonl, line 1")


def test_rows_in_the_order_of_a_hash_are_put_in_the_official_order(
    official, tmp_path, monkeypatch
):
    from tfew_jax.data import seqio_tfds, sources

    (tmp_path / "super_glue/multirc/1.0.2").mkdir(parents=True)
    info = json.dumps({"splits": [{"name": "train"}]})
    (tmp_path / "super_glue/multirc/1.0.2/dataset_info.json").write_text(info)
    ours = text_rows.load("multirc", "train", official)
    shuffled = random.Random(1).sample(ours, len(ours))
    records = [  # TFDS gives the parts of idx in alphabetical order
        sources.Row({**row, "idx": dict(sorted(row["idx"].items()))}, where=row.where)
        for row in shuffled
    ]
    monkeypatch.setattr(seqio_tfds, "load_rows", lambda folder, split: records)
    assert text_rows.load("multirc", "train", tmp_path) == ours != shuffled


def test_hidden_labels_stay_minus_one(official, hub_directory):
    for source in (official, f"hub:{hub_directory}"):
        for name in ("multirc", "mrpc", "qqp", "sst2"):
            rows = text_rows.load(name, "test", source)
            assert {row["label"] for row in rows} == {-1}
        assert text_rows.load("record", "test", source)[0]["answers"] == []


def test_examples_are_the_same_whatever_the_source(official, hub_directory):
    for name in SETS:
        ours, found = (
            text_rows.load(name, "validation", source)
            for source in (official, f"hub:{hub_directory}")
        )
        task = text_to_text.get(name)
        examples = [example for row in ours for example in task.examples(row)]
        assert examples == [e for row in found for e in task.examples(row)]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("multirc", {"idx": 3}, "idx is 3, expected the numbers of paragraph, "),
        ("multirc", {"label": 2}, "label 2, expected one of -1, 0, 1"),
        ("multirc", {"answer": None}, "answer is None, expected text"),
        ("record", {"entities": "Ann"}, "entities are 'Ann', expected a list of texts"),
        ("squad", {"answers": [None]}, "answers are [None], expected a list of texts"),
        ("sst2", {"idx": "0"}, "idx is '0', expected a whole number"),
    ],
)
def test_a_column_of_another_type_is_named(official, name, change, says):
    row = text_rows.load(name, "train", official)[0]
    adapt = mirrors.TEXT_MIRRORS[name].from_hub
    assert says in message_of(adapt, {**row, **change})


def test_a_row_without_a_column_is_named_with_its_form(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (extra data)")
    from pyarrow import parquet

    path = tmp_path / "glue/mrpc/train/0000.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist([{"sentence1": "A"}]), path)
    message = message_of(text_rows.load, "mrpc", "train", f"hub:{tmp_path}")
    assert "0000.parquet, row 0: not a row of mrpc (no field 'label')" in message
    assert message.endswith("as distributed: the Hub's nyu-mll/glue, mrpc")


def test_what_was_looked_for_is_named(tmp_path):
    message = message_of(text_rows.load, "sst2", "validation", tmp_path)
    assert message == (
        f"{tmp_path}: no validation split of sst2 (looked for official files: "
        "SST-2/dev.tsv, sst-2/dev.tsv; TFDS: glue/sst2/VERSION with a split "
        "validation; parquet of the Hub's nyu-mll/glue: sst2/validation-*.parquet, "
        "sst2/validation/*.parquet); gluebenchmark.com, the archive of each task"
    )
    message = message_of(text_rows.load, "record", "test", f"tfds:{tmp_path}")
    assert "(looked for TFDS: super_glue/record/VERSION with a split test); " in message
    message = message_of(text_rows.load, "squad", "train", "")
    assert message.startswith("no directory for the rows of squad: the name is empty")


@pytest.mark.parametrize("source", ["tfds:", "hub:", "rows", "hub:rows"])
def test_mrqa_is_read_from_its_official_files_only(source):
    assert message_of(text_rows.load, "mrqa/race", "validation", source) == (
        f"{source}: no validation split of mrqa/race, which is read from a directory "
        "of its official files only: mrqa/RACE.jsonl.gz, RACE.jsonl.gz; "
        "github.com/mrqa/MRQA-Shared-Task-2019, out-of-domain sets"
    )


def test_every_set_has_official_sizes_and_a_mirror_or_none():
    assert text_rows.sizes("rte") == {"train": 2490, "validation": 277, "test": 3000}
    assert text_rows.sizes("multirc")["train"] == 27_243
    assert text_rows.sizes("squad") == {"train": 87_599, "validation": 10_570}
    assert text_rows.sizes("mrqa/race") == {"validation": 674}
    with_mirror = {name for name in text_rows.names() if "/" not in name}
    assert with_mirror == {*mirrors.MIRRORS, *mirrors.TEXT_MIRRORS}
    assert "rajpurkar" in text_rows.source("squad")
