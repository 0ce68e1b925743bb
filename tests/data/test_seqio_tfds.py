"""Folders that TFDS itself wrote, read back; finding them needs no TensorFlow."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest
from one_line import message_of

from tfew_jax.data import benchmarks, official, seqio_tfds


def describe(folder: pathlib.Path, splits=("train",)) -> pathlib.Path:
    """A folder with the description that TFDS writes, and no records."""
    folder.mkdir(parents=True)
    text = json.dumps({"name": "x", "splits": [{"name": name} for name in splits]})
    (folder / "dataset_info.json").write_text(text, encoding="utf-8")
    return folder


def nli_features(tfds):
    text = tfds.features.Text()
    names = ["entailment", "not_entailment"]
    return tfds.features.FeaturesDict(
        {
            "premise": text,
            "hypothesis": text,
            "idx": np.int32,
            "label": tfds.features.ClassLabel(names=names),
        }
    )


def nli(n: int, label: int) -> dict:
    return {"premise": f"Dé {n}.", "hypothesis": "H.", "idx": n, "label": label}


@pytest.fixture(scope="module")
def rte(store) -> pathlib.Path:
    train = [nli(n, n % 2) for n in range(40)]
    hidden = [nli(n, -1) for n in range(4)]
    splits = {"train": train, "validation": train[:4], "test": hidden}
    return store("super_glue", "rte", splits, nli_features)


def test_the_newest_version_with_the_split_is_found(tmp_path):
    describe(tmp_path / "super_glue/rte/1.0.9")
    newest = describe(tmp_path / "super_glue/rte/1.0.10")
    only_test = describe(tmp_path / "super_glue/rte/2.0.0", ["test"])
    describe(tmp_path / "super_glue/rte/incomplete.X_3.0.0")
    (tmp_path / "super_glue/rte/4.0.0").mkdir()
    assert seqio_tfds.find(tmp_path, "super_glue/rte", "train") == newest
    assert seqio_tfds.find(tmp_path, "super_glue/rte", "test") == only_test
    assert seqio_tfds.find(tmp_path, "super_glue/rte", "validation") is None
    assert seqio_tfds.find(tmp_path, "super_glue/cb", "train") is None
    named = seqio_tfds.find(tmp_path, "super_glue/rte", "train", version="1.0.9")
    assert named is not None and named.name == "1.0.9"


def test_a_damaged_description_is_named(tmp_path):
    folder = describe(tmp_path / "hellaswag/1.1.0")
    (folder / "dataset_info.json").write_text("{")
    message = message_of(seqio_tfds.find, tmp_path, "hellaswag", "train")
    assert "dataset_info.json" in message and "prepare the dataset again" in message


def test_an_unknown_split_is_refused_with_those_at_hand(tmp_path):
    folder = describe(tmp_path / "hellaswag/1.1.0")
    assert "available: train" in message_of(seqio_tfds.load_rows, folder, "dev")


def test_without_tfds_the_extra_is_named(tmp_path, monkeypatch):
    folder = describe(tmp_path / "hellaswag/1.1.0")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert "tfew-jax[data]" in message_of(seqio_tfds.load_rows, folder, "train")
    assert "tfew-jax[data]" in message_of(benchmarks.load, "h-swag", "train", tmp_path)


def test_values_become_plain_ones_in_the_order_of_the_records(rte):
    folder = seqio_tfds.find(rte, "super_glue/rte", "train")
    rows = seqio_tfds.load_rows(folder, "train")
    assert len(list(folder.glob("*train*"))) == 2
    assert sorted(rows, key=lambda row: row["idx"]) == [
        nli(n, n % 2) for n in range(40)
    ]
    assert [type(value) for value in nli(0, 0).values()] == [str, str, int, int]
    kinds = {name: type(value) for name, value in rows[0].items()}
    assert kinds == {"premise": str, "hypothesis": str, "idx": int, "label": int}
    assert rows[7].where == f"{folder}, train row 7"


def test_shards_follow_one_another(rte):
    """The order is that of the records' own numbers, `tfds_id`.

    A shard has 20 records: the default would mix them by sixteens.
    """
    import tensorflow_datasets as tfds

    folder = seqio_tfds.find(rte, "super_glue/rte", "train")
    builder = tfds.builder_from_directory(str(folder))
    config = tfds.ReadConfig(add_tfds_id=True)
    records = tfds.as_numpy(builder.as_dataset(split="train", read_config=config))
    numbered = sorted(
        (shard, int(number), int(record["idx"]))
        for record in records
        for shard, number in [record["tfds_id"].decode().split("__")]
    )
    rows = seqio_tfds.load_rows(folder, "train")
    assert [row["idx"] for row in rows] == [idx for *_, idx in numbered]


def test_superglue_comes_back_in_the_official_order_with_hidden_labels(rte):
    rows = benchmarks.load("rte", "train", f"tfds:{rte}")
    assert rows == [nli(n, n % 2) for n in range(40)]
    assert "1.0.2, train row" in rows[0].where
    assert benchmarks.load("rte", "train", rte) == rows
    hidden = benchmarks.load("rte", "test", f"tfds:{rte}")
    assert [row["label"] for row in hidden] == [-1] * 4


def test_tfds_is_looked_for_in_its_own_directory(rte, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(rte))
    assert len(benchmarks.load("rte", "validation", "tfds:")) == 4


def test_a_training_split_of_another_size_is_refused(rte):
    message = message_of(benchmarks.draw, "rte", f"tfds:{rte}", seed=0)
    assert "40 rows" in message and "--allow_partial_train" in message
    options = {"seed": 0, "allow_partial_train": True}
    assert len(benchmarks.draw("rte", f"tfds:{rte}", **options)) == 32


def test_draws_from_rows_whose_order_is_lost_are_refused(store, monkeypatch):
    def features(tfds):
        text = tfds.features.Text()
        label = tfds.features.ClassLabel(names=["1", "2"])
        names = {"sentence": text, "option1": text, "option2": text}
        return tfds.features.FeaturesDict({**names, "label": label})

    rows = [
        {"sentence": f"The _ {n}.", "option1": "a", "option2": "b", "label": n % 2}
        for n in range(60)
    ]
    folder = store("winogrande", None, {"train_xl": rows}, features)
    split = official.Split(paths=("train.jsonl",), num_rows=60)
    tiny = dataclasses.replace(benchmarks.get("winogrande"), splits={"train": split})
    monkeypatch.setitem(official.BENCHMARKS, "winogrande", tiny)
    message = message_of(benchmarks.draw, "winogrande", f"tfds:{folder}", seed=0)
    assert "another order" in message and "--allow_partial_train" in message
    options = {"seed": 0, "allow_partial_train": True}
    drawn = benchmarks.draw("winogrande", f"tfds:{folder}", **options)
    assert {row["answer"] for row in drawn} == {"1", "2"}


def test_damaged_records_are_named(rte, tmp_path):
    folder = seqio_tfds.find(rte, "super_glue/rte", "validation")
    copy = tmp_path / "1.0.2"
    copy.mkdir()
    for path in folder.iterdir():
        cut = path.read_bytes()[: 40 if "validation" in path.name else None]
        (copy / path.name).write_bytes(cut)
    assert "prepare the dataset again" in message_of(
        seqio_tfds.load_rows, copy, "validation"
    )
