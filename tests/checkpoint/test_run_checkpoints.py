import itertools
import os
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tfew_jax.checkpoint import run


class State(NamedTuple):
    step: Any
    trainable: Any
    opt_state: Any


OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))


def state_at(step, size=3):
    """A state of one adapter with a real optimizer's state, told apart by step."""
    trainable = {
        "encoder": {"a": jnp.full((1, size), float(step)), "b": jnp.ones((1, 2))}
    }
    return State(jnp.array([step]), trainable, OPTIMIZER.init(trainable))


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for ours, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_a_state_comes_back_bit_by_bit_in_another_process_of_reading(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path / "run")
    assert checkpoints.latest_step() is None
    checkpoints.save(7, state_at(7))
    checkpoints.close()
    again = run.RunCheckpoints(tmp_path / "run")
    assert again.latest_step() == 7
    assert_same(again.restore(state_at(0)), state_at(7))


def test_the_last_n_and_the_best_are_kept(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path, keep_last=2)
    kept = []
    for step, metric in enumerate([0.2, 0.9, 0.1, 0.9, 0.3, None, float("nan")], 1):
        checkpoints.save(step, state_at(step), metric)
        kept.append((checkpoints.steps(), checkpoints.best_step()))
    assert kept == [
        ([1], 1),
        ([1, 2], 2),
        ([2, 3], 2),
        ([3, 4], 4),  # as good as step 2, and later
        ([4, 5], 4),
        ([4, 5, 6], 4),
        ([4, 6, 7], 4),
    ]
    assert checkpoints.metric(4) == 0.9
    assert checkpoints.metric(6) is None
    assert_same(checkpoints.restore(state_at(0), 4), state_at(4))
    assert_same(checkpoints.restore(state_at(0)), state_at(7))


def test_the_best_survives_a_restart(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path, keep_last=1)
    checkpoints.save(1, state_at(1), 0.8)
    checkpoints.save(2, state_at(2), 0.7)
    checkpoints.close()
    checkpoints = run.RunCheckpoints(tmp_path, keep_last=1)
    checkpoints.save(3, state_at(3), 0.6)
    assert (checkpoints.steps(), checkpoints.best_step()) == ([1, 3], 1)


def test_lower_may_be_better_and_the_best_need_not_be_kept(tmp_path):
    low = run.RunCheckpoints(tmp_path / "a", keep_last=1, higher_is_better=False)
    last = run.RunCheckpoints(tmp_path / "b", keep_last=1, keep_best=False)
    for step, metric in enumerate([3.0, 1.0, 2.0]):
        low.save(step, state_at(step), metric)
        last.save(step, state_at(step), metric)
    assert (low.steps(), low.best_step()) == ([1, 2], 1)
    assert last.steps() == [2]


def test_a_step_is_not_written_twice(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path)
    checkpoints.save(1, state_at(1))
    with pytest.raises(ValueError, match="already holds step 1"):
        checkpoints.save(1, state_at(2))
    assert_same(checkpoints.restore(state_at(0)), state_at(1))


def test_a_step_that_is_not_there_is_an_error_that_lists_the_others(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path)
    with pytest.raises(ValueError, match="holds no step; complete steps: none"):
        checkpoints.restore(state_at(0))
    checkpoints.save(4, state_at(4))
    with pytest.raises(ValueError, match=r"holds no step 3; complete steps: \[4\]"):
        checkpoints.restore(state_at(0), 3)


@pytest.mark.parametrize(
    "template",
    [
        state_at(0, size=4),
        state_at(0)._replace(trainable={"encoder": {"a": jnp.ones((1, 3))}}),
        state_at(0)._replace(opt_state=optax.sgd(0.1).init({})),
        state_at(0)._replace(step=jnp.zeros(1, jnp.float32)),
    ],
    ids=["shape", "missing", "optimizer", "dtype"],
)
def test_a_run_of_another_shape_is_not_restored(template, tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path)
    checkpoints.save(4, state_at(4))
    with pytest.raises(
        ValueError, match=r"step 4 of .* does not fit this run"
    ) as error:
        checkpoints.restore(template)
    assert len(str(error.value).splitlines()) == 1


def test_a_damaged_step_is_an_error_that_names_it(tmp_path):
    checkpoints = run.RunCheckpoints(tmp_path)
    checkpoints.save(4, state_at(4))
    for path in (tmp_path / "4").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"step 4 of .* is damaged"):
        run.RunCheckpoints(tmp_path).restore(state_at(0))


def test_a_full_disk_keeps_the_last_good_step_and_may_be_freed(tmp_path, full_disk):
    checkpoints = run.RunCheckpoints(tmp_path)
    rng = np.random.default_rng(0)  # nothing that compresses
    big = State(jnp.array([2]), jnp.asarray(rng.random((1, 60_000))), ())
    checkpoints.save(1, big)
    with (
        full_disk(50_000),
        pytest.raises(OSError, match="the last good step is 1") as error,
    ):
        checkpoints.save(2, big)
    assert len(str(error.value).splitlines()) == 1
    assert checkpoints.steps() == [1]
    assert_same(checkpoints.restore(big), big)
    again = run.RunCheckpoints(tmp_path)
    assert again.steps() == [1]
    again.save(2, big)
    assert again.steps() == [1, 2]


def test_a_place_that_cannot_be_written_is_an_error():
    with pytest.raises(OSError, match="cannot hold checkpoints"):
        run.RunCheckpoints("/proc/no/run")


def test_a_run_keeps_at_least_one_step(tmp_path):
    with pytest.raises(ValueError, match="keep_last must be positive"):
        run.RunCheckpoints(tmp_path, keep_last=0)


_WRITER = """
import sys
import jax.numpy as jnp
from tfew_jax.checkpoint import run
checkpoints = run.RunCheckpoints(sys.argv[1], keep_last=2)
step = checkpoints.latest_step() or 0
while True:
    step += 1
    state = {"step": jnp.array([step]), "x": jnp.full((1, 5000), float(step))}
    checkpoints.save(step, state, metric=-abs(step - 3.0))
    print(step, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.04])
def test_a_run_killed_while_saving_continues_from_a_complete_step(delay, tmp_path):
    template = {"step": jnp.zeros(1, jnp.int32), "x": jnp.zeros((1, 5000))}
    promised = 0
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        ) as process:
            assert process.stdout is not None
            for line in itertools.islice(process.stdout, 4):
                promised = int(line)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        checkpoints = run.RunCheckpoints(tmp_path, keep_last=2)
        latest = checkpoints.latest_step()
        assert latest is not None and latest >= promised
        for step in {latest, checkpoints.best_step()}:
            state = checkpoints.restore(template, step)
            np.testing.assert_array_equal(state["step"], [step])
            np.testing.assert_array_equal(state["x"], np.full((1, 5000), step))
        assert checkpoints.best_step() == 3
        checkpoints.close()
