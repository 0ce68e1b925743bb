"""tools/bench.py prints what its readers expect."""

import json
import subprocess
import sys

import pytest

KEYS = {"name", "median_s", "min_s", "cpu_median_s", "compile_s", "shapes", "versions"}


@pytest.fixture(scope="module")
def records(repository):
    command = [sys.executable, "tools/bench.py", "--size", "tiny", "--seq", "8"]
    command += ["--batch", "2", "--choices", "2", "--choice-len", "3"]
    command += ["--threads", "1", "--warmup", "1", "--steps", "2"]
    command += ["--what", "train,rank,mixed,bank"]
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_measurement_is_one_json_line(records):
    names = [record["name"] for record in records]
    assert names == [
        *("train.ia3_tfew", "train.ia3_tfew_nodrop", "rank.ia3"),
        *("mixed.one_adapter", "mixed.each_row_its_own"),
        *("bank.five_together", "bank.five_apart"),
    ]


def test_each_line_tells_times_shapes_and_versions(records):
    for record in records:
        assert record.keys() >= KEYS
        assert 0 < record["min_s"] <= record["median_s"]
        is_mixed = record["name"].startswith("mixed.")
        assert record["shapes"] == {
            "batch": 32 if is_mixed else 2,
            "seq": 8,
            "choices": 1 if is_mixed else 2,
            "choice_len": 3,
        }
        assert {"python", "jax", "jaxlib", "flax"} <= record["versions"].keys()


def test_rows_with_their_own_adapters_are_compared_with_one_for_all(records):
    one, own = records[3:5]
    assert (one["adapters"], own["adapters"]) == (1, 32)
    assert own["ratio"] > 0 and own["cpu_ratio"] > 0 and "ratio" not in one


def test_five_adapters_together_are_compared_with_five_apart(records):
    together, apart = records[5:]
    assert together["ratio"] > 0 and together["cpu_ratio"] > 0
    assert "ratio" not in apart


def test_an_unknown_measurement_is_refused(repository):
    done = subprocess.run(
        [sys.executable, "tools/bench.py", "--what", "flight"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "allowed: train, rank" in done.stderr
