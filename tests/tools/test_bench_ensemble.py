"""tools/bench.py --what ensemble."""

import json
import subprocess
import sys


def test_the_vote_of_five_prompts_is_measured_on_one_line(repository):
    command = [sys.executable, "tools/bench.py", "--what", "ensemble"]
    command += ["--size", "tiny", "--seq", "8", "--batch", "2", "--choices", "2"]
    command += ["--choice-len", "3", "--threads", "1", "--warmup", "1", "--steps", "2"]
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, check=True
    )
    (record,) = map(json.loads, done.stdout.splitlines())
    assert record["name"] == "ensemble.five_prompts"
    assert 0 < record["min_s"] <= record["median_s"]
    assert record["examples_per_s"] > 0
