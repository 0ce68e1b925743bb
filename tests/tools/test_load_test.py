"""tools/load_test.py finds nothing wrong with a toy base, and what is wrong."""

import asyncio
import json
import subprocess
import sys
import time

import load_test
import pytest

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("starlette", reason="needs the extra serve")


def test_every_answer_under_load_is_that_of_its_adapter(repository, base_directory):
    command = [sys.executable, "tools/load_test.py", "--base", str(base_directory)]
    command += ["--adapters", "3", "--clients", "30", "--seconds", "2"]
    command += ["--rows", "5", "--batch", "4", "--queue", "16"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    found = json.loads(line)
    assert found["wrong"] == found["lost"] == 0
    assert found["requests"] > 0 and found["broken"] > 0 and found["swaps"] > 0
    assert found["rows"] > 0 and found["absent"] > 0  # the guest, while it is away
    assert found["latency_s"].keys() == {"p50", "p95", "p99"}


OLD, NEW = [(1.0, 2.0)], [(3.0, 4.0)]  # scores of one text


def outcome(history, status, scores, started):
    """What is counted of the answer to one row of the adapter x."""
    load = load_test.Load(0, {"x": history}, ["great"], 0.0)
    row = {"adapter": "x", "scores": dict(zip("ab", scores, strict=True))}
    load.check(status, {"predictions": [row]}, [0], ["x"], started)
    return {name: count for name, count in load.counts.items() if count}


def test_an_answer_of_before_a_change_is_wrong_after_it():
    history = load_test.History(OLD)
    before = time.monotonic()
    moments = []

    def swap(status):
        moments.append(time.monotonic())
        assert history.since(moments[0]) == [OLD, NEW]  # under way
        return status

    assert asyncio.run(history.change(NEW, swap, 201)) == 201
    after = time.monotonic()
    for started in (before, moments[0]):
        assert outcome(history, 200, OLD[0], started) == {"rows": 1}
        assert outcome(history, 200, NEW[0], started) == {"rows": 1}
    assert outcome(history, 200, OLD[0], after) == {"rows": 1, "wrong": 1}
    assert outcome(history, 200, NEW[0], after) == {"rows": 1}
    assert outcome(history, 404, NEW[0], before) == {"wrong": 1}


def test_a_name_without_an_adapter_is_refused_and_nothing_else():
    history = load_test.History(None)
    assert outcome(history, 404, OLD[0], 0.0) == {"absent": 1}
    assert outcome(history, 200, OLD[0], 0.0) == {"rows": 1, "wrong": 1}
    asyncio.run(history.change(OLD, int))
    after = time.monotonic()
    assert outcome(history, 404, OLD[0], after) == {"wrong": 1}
    assert outcome(history, 200, OLD[0], after) == {"rows": 1}


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"rows": 9, "wrong": 0, "lost": 0}, 0),
        ({"rows": 0, "wrong": 0, "lost": 0}, 1),
        ({"rows": 9, "wrong": 1, "lost": 0}, 1),
        ({"rows": 9, "wrong": 0, "lost": 1}, 1),
    ],
)
def test_the_exit_status_says_whether_rows_were_answered(monkeypatch, found, status):
    monkeypatch.setattr(load_test, "run", lambda options: found)
    assert load_test.main([]) == status
