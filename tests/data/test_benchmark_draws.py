"""Draws of rows, published subsets, and sets that lie in several places."""

import functools
import pathlib
import subprocess
import sys

import one_line
import pytest
from official_rows import write_file

from tfew_jax.data import benchmarks, fewshot, sources

NLI = {"premise": "It rained all day.", "hypothesis": "It was wet."}
message_of = functools.partial(one_line.message_of, error=benchmarks.BenchmarkError)


@pytest.mark.parametrize("seed", [0, 1, 32, 42, 1024])
@pytest.mark.parametrize("name", ["rte", "cb"])
def test_draws_are_t_fews_published_files_to_the_letter(shared, name, seed):
    drawn = benchmarks.draw(name, shared / "data" / "classification", seed=seed)
    published = benchmarks.published(name, shared / "data" / "tfew_splits", seed=seed)
    assert [dict(row) for row in drawn] == [dict(row) for row in published]


@pytest.mark.parametrize("name", benchmarks.names())
def test_all_published_files_are_draws_from_as_many_rows_as_is_official(shared, name):
    known = benchmarks.get(name)
    num_rows = known.splits[known.train].num_rows
    files = list((shared / "data" / "tfew_splits" / name).glob("*/*_seed.jsonl"))
    assert files
    for file in files:
        published = [row["idx"] for row in sources.load_rows(file)]
        seed = int(file.name.removesuffix("_seed.jsonl"))
        drawn = fewshot.draw_shots(range(num_rows), known.num_shots, seed)
        assert drawn.tolist() == published


def test_a_training_file_in_another_order_is_refused(tmp_path):
    labels = ["entailment", "not_entailment"] * 1245
    rows = [{**NLI, "label": label, "idx": n} for n, label in enumerate(labels)]
    write_file(tmp_path / "RTE/train.jsonl", rows)
    benchmarks.draw("rte", tmp_path, seed=0)
    rows[3], rows[4] = rows[4], rows[3]
    write_file(tmp_path / "RTE/train.jsonl", rows)
    message = message_of(benchmarks.draw, "rte", tmp_path, seed=0)
    assert "line 4 has the number 4, expected 3" in message
    assert benchmarks.draw("rte", tmp_path, seed=0, allow_partial_train=True)


def test_a_training_file_of_another_size_is_refused(tmp_path):
    rows = [
        {**NLI, "label": label, "idx": n}
        for n, label in enumerate(["entailment", "not_entailment"] * 20)
    ]
    write_file(tmp_path / "RTE/train.jsonl", rows)
    message = message_of(benchmarks.draw, "rte", tmp_path, seed=0)
    assert "40 rows" in message and "2490" in message
    assert "--allow_partial_train" in message
    drawn = benchmarks.draw("rte", tmp_path, seed=0, allow_partial_train=True)
    assert len(drawn) == 32
    assert all(isinstance(row, sources.Row) for row in drawn)


def test_the_fewglue_rows_under_the_official_name_are_refused(shared):
    folder = shared / "data" / "superglue_32shot_and_dev"
    assert "32 rows" in message_of(benchmarks.draw, "rte", folder, seed=0)


def test_published_subsets_have_as_many_labelled_rows_as_their_folder_says(tmp_path):
    rows = [{**NLI, "label": n % 2, "idx": n} for n in range(4)]
    folder = tmp_path / "rte" / "4_shot"
    write_file(folder / "0_seed.jsonl", rows)
    found = benchmarks.published("rte", tmp_path, seed=0, num_shots=4)
    assert [dict(row) for row in found] == rows
    assert "32_shot" in message_of(benchmarks.published, "rte", tmp_path, seed=0)
    for wrong, expected in (
        (rows[:3], "3 rows, expected 4"),
        ([*rows[:3], {**rows[3], "label": -1}], "line 4: not a row of rte (no label"),
        ([*rows[:3], {**NLI, "idx": 3}], "line 4: not a row of rte (no label"),
        ([*rows[:3], {**rows[3], "label": "1"}], "label is '1', expected a whole"),
    ):
        write_file(folder / "0_seed.jsonl", wrong)
        assert expected in message_of(
            benchmarks.published, "rte", tmp_path, seed=0, num_shots=4
        )
    write_file(folder / "0_seed.jsonl", [{**row, "label": 0} for row in rows])
    with pytest.raises(ValueError, match="all rows have the label 0"):
        benchmarks.published("rte", tmp_path, seed=0, num_shots=4)


def write_parquet(path: pathlib.Path, rows: list[dict]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (extra data)")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_official_files_come_before_the_mirrors_in_one_directory(tmp_path):
    train = tmp_path / "super_glue/rte/train-00000-of-00001.parquet"
    write_parquet(train, [{**NLI, "idx": 0, "label": 1}])
    assert "parquet" in benchmarks.load("rte", "train", tmp_path)[0].where
    write_file(tmp_path / "rte/train.jsonl", [{**NLI, "idx": 0, "label": "entailment"}])
    (row,) = benchmarks.load("rte", "train", tmp_path)
    assert row["label"] == 0 and "jsonl" in row.where
    assert benchmarks.load("rte", "train", f"hub:{tmp_path}")[0]["label"] == 1
    message = message_of(benchmarks.load, "rte", "train", f"tfds:{tmp_path}")
    assert "super_glue/rte/VERSION" in message and "parquet" not in message


def test_a_set_found_nowhere_says_what_was_looked_for_in_each_source(tmp_path):
    message = message_of(benchmarks.load, "anli-r2", "validation", tmp_path)
    for part in (
        "anli_v1.0/R2/dev.jsonl",
        "TFDS: anli/r2/VERSION with a split validation",
        "facebook/anli: plain_text/dev_r2-*.parquet",
        "github.com/facebookresearch/anli",
    ):
        assert part in message


def test_storycloze_of_the_hub_is_refused_with_where_to_ask_for_it():
    message = message_of(benchmarks.load, "storycloze", "test", "hub:")
    assert "no parquet files" in message and "on request" in message


def test_a_training_split_of_the_hub_of_another_size_is_refused(tmp_path):
    rows = [{**NLI, "label": n % 2, "idx": n} for n in range(40)]
    write_parquet(tmp_path / "rte/train/0000.parquet", rows)
    message = message_of(benchmarks.draw, "rte", f"hub:{tmp_path}", seed=0)
    assert "40 rows" in message and "--allow_partial_train" in message
    options = {"seed": 0, "allow_partial_train": True}
    drawn = benchmarks.draw("rte", f"hub:{tmp_path}", **options)
    assert len(drawn) == 32 and "0000.parquet, row" in drawn[0].where


def test_official_files_are_read_without_the_packages_of_the_mirrors(tmp_path):
    write_file(tmp_path / "rte/val.jsonl", [{**NLI, "idx": 0, "label": "entailment"}])
    script = (
        "import sys\n"
        "from tfew_jax.data import benchmarks\n"
        "benchmarks.load('rte', 'validation', sys.argv[1])\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'pyarrow', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
