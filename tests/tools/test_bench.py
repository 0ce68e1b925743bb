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
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_each_measurement_is_one_json_line(records):
    names = [record["name"] for record in records]
    assert names == ["train.ia3_tfew", "train.ia3_tfew_nodrop", "rank.ia3"]


def test_each_line_tells_times_shapes_and_versions(records):
    for record in records:
        assert record.keys() >= KEYS
        assert 0 < record["min_s"] <= record["median_s"]
        assert record["shapes"] == {
            "batch": 2,
            "seq": 8,
            "choices": 2,
            "choice_len": 3,
        }
        assert {"python", "jax", "jaxlib", "flax"} <= record["versions"].keys()


def test_an_unknown_measurement_is_refused(repository):
    done = subprocess.run(
        [sys.executable, "tools/bench.py", "--what", "flight"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "allowed: train, rank" in done.stderr
