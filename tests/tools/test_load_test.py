"""tools/load_test.py finds nothing wrong or lost with a toy base."""

import json
import subprocess
import sys

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
    assert found["latency_s"].keys() == {"p50", "p95", "p99"}
