"""Parquet files in the layouts that the Hub has, and what goes wrong with them."""

import pathlib
import sys

import pytest
from one_line import message_of

from tfew_jax.data import benchmarks, hub, sources

pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (extra data)")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow (extra data)")

REPOSITORY = "aps/super_glue"


def row(n: int) -> dict:
    return {"premise": f"P{n}.", "hypothesis": "H.", "label": n % 2, "idx": n}


def write(path: pathlib.Path, numbers) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist([row(n) for n in numbers]), path)


@pytest.mark.parametrize(
    "files",
    [
        ["rte/train-00000-of-00002.parquet", "rte/train-00001-of-00002.parquet"],
        ["rte/train/0000.parquet", "rte/train/0001.parquet"],
    ],
)
@pytest.mark.parametrize(
    "place", ["", "super_glue", REPOSITORY, "datasets--aps--super_glue/snapshots/4f"]
)
def test_shards_are_read_in_order_wherever_the_snapshot_lies(tmp_path, files, place):
    write(tmp_path / place / files[0], range(3))
    write(tmp_path / place / files[1], range(3, 5))
    write(tmp_path / place / "rte/train_more-00000-of-00001.parquet", [9])
    rows = hub.load_rows(hub.find(tmp_path, REPOSITORY, "rte", "train"))
    assert [dict(found) for found in rows] == [row(n) for n in range(5)]
    assert rows[4].where.endswith(f"{files[1]}, row 1")
    assert type(rows[0]["label"]) is int
    assert hub.find(tmp_path, REPOSITORY, "rte", "validation") == []
    assert hub.find(tmp_path, REPOSITORY, "cb", "train") == []


def test_the_default_configuration_lies_under_data(tmp_path):
    write(tmp_path / "hellaswag/data/train-00000-of-00001.parquet", [0])
    (path,) = hub.find(tmp_path, "Rowan/hellaswag", "default", "train")
    assert path.parent.name == "data"


def test_class_labels_that_the_datasets_library_wrote_are_integers(tmp_path):
    datasets = pytest.importorskip("datasets", reason="needs datasets (extra data)")
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["entailment", "not_entailment"]),
            "idx": datasets.Value("int32"),
        }
    )
    path = tmp_path / "super_glue/rte/validation-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    datasets.Dataset.from_list([row(1), row(2)], features=features).to_parquet(path)
    rows = benchmarks.load("rte", "validation", f"hub:{tmp_path}")
    assert [dict(found) for found in rows] == [row(1), row(2)]


@pytest.mark.parametrize(
    "files, missing",
    [
        (["rte/train-00001-of-00002.parquet"], "train-00000-of-00002.parquet"),
        (["rte/train/0001.parquet", "rte/train/0002.parquet"], "0000.parquet"),
        (
            ["rte/train-00000-of-00001.parquet", "rte/train-00000-of-00002.parquet"],
            "train-00001-of-00002.parquet",
        ),
    ],
)
def test_a_missing_shard_is_named(tmp_path, files, missing):
    for file in files:
        write(tmp_path / file, [0])
    assert missing in message_of(hub.find, tmp_path, REPOSITORY, "rte", "train")


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"PAR1 cut off", "not a readable parquet file"),
        (b"", "not a readable parquet file"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, expected):
    path = tmp_path / "0000.parquet"
    path.write_bytes(content)
    message = message_of(hub.load_rows, [path])
    assert expected in message and str(path) in message


def test_a_file_without_rows_is_an_error(tmp_path):
    schema = pyarrow.schema({"premise": pyarrow.string()})
    parquet.write_table(schema.empty_table(), tmp_path / "0000.parquet")
    assert "has no rows" in message_of(hub.load_rows, [tmp_path / "0000.parquet"])


def test_without_the_packages_the_extra_is_named(tmp_path, monkeypatch):
    write(tmp_path / "0000.parquet", [0])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "tfew-jax[data]" in message_of(hub.load_rows, [tmp_path / "0000.parquet"])
    assert "tfew-jax[data]" in message_of(hub.download, REPOSITORY, "rte", "train")


def test_only_the_parquet_files_of_the_split_are_asked_for(tmp_path, monkeypatch):
    client = pytest.importorskip("huggingface_hub", reason="needs the extra data")
    write(tmp_path / "plain_text/test_r2/0000.parquet", [0, 1])
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path)

    monkeypatch.setattr(client, "snapshot_download", snapshot_download)
    assert len(hub.load_rows(hub.find(hub.download(*ANLI), *ANLI))) == 2
    assert asked == {
        "repository": "facebook/anli",
        "repo_type": "dataset",
        "revision": "refs/convert/parquet",
        "allow_patterns": ["plain_text/test_r2/*.parquet"],
    }
    message = message_of(benchmarks.load, "anli-r2", "test", "hub:")
    assert "no field 'uid'" in message  # read, and not taken for rows of ANLI


ANLI = ("facebook/anli", "plain_text", "test_r2")


def test_offline_the_message_says_what_to_do(tmp_path, monkeypatch):
    client = pytest.importorskip("huggingface_hub", reason="needs the extra data")
    monkeypatch.setattr(client.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(client.constants, "HF_HUB_CACHE", str(tmp_path))
    message = message_of(benchmarks.load, "rte", "validation", "hub:")
    assert "aps/super_glue cannot be downloaded" in message
    assert "give a directory" in message


def test_a_row_without_a_column_is_named_with_the_form_of_the_hub(tmp_path):
    write(tmp_path / "super_glue/wic/train/0000.parquet", [0])
    message = message_of(benchmarks.load, "wic", "train", tmp_path)
    assert "0000.parquet, row 0: not a row of wic (no field 'word')" in message
    assert "the Hub's aps/super_glue, wic" in message


@pytest.mark.network
@pytest.mark.parametrize("name", ["cb", "copa", "wsc"])
def test_downloaded_sets_have_the_official_size(name):
    for split in ("train", "validation"):
        rows = benchmarks.load(name, split, "hub:")
        assert len(rows) == benchmarks.get(name).splits[split].num_rows
        assert all(isinstance(found, sources.Row) for found in rows)
