import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import experiment, losses, peft, train
from tfew_jax.experiment import opening, progress, tuning

TEMPLATE = "Review: {{text}}"
CHOICES = "bad ||| good"


def fewshot(base, rows, out, **kwargs):
    settings = {"num_folds": 0, "num_steps": 6, "quiet": True} | kwargs
    return experiment.fewshot(
        base, rows, template=TEMPLATE, choices=CHOICES, out=out, **settings
    )


class Pressing(progress.Progress):
    """Presses Ctrl-C at a step."""

    at = 0

    def step(self, step, metrics):
        super().step(step, metrics)
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_saves_what_was_reached_and_the_same_call_goes_on(
    base, rows, tmp_path, monkeypatch
):
    whole = fewshot(base, rows, tmp_path / "whole")
    monkeypatch.setattr(opening, "Progress", Pressing)
    monkeypatch.setattr(Pressing, "at", 3)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="step 3 of seed-0-all is saved"):
        fewshot(base, rows, tmp_path / "stopped")
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "stopped" / "FINISHED").exists()
    monkeypatch.setattr(Pressing, "at", -1)
    result = fewshot(base, rows, tmp_path / "stopped")
    assert result.records[-1]["first_step"] == 3
    for mine, other in zip(
        jax.tree.leaves(result.adapter.params),
        jax.tree.leaves(whole.adapter.params),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, other)


def test_a_loss_that_is_not_finite_stops_and_names_step_and_rows(base, rows, tmp_path):
    with pytest.raises(FloatingPointError) as error:
        fewshot(base, rows, tmp_path / "out", learning_rate=1e38)
    message = str(error.value)
    assert "seed-0-all: the loss is nan in step" in message
    assert "row " in message and "lower learning rate" in message
    assert not (tmp_path / "out" / "adapter").exists()
    assert not (tmp_path / "out" / "FINISHED").exists()


def test_a_device_without_memory_is_told_what_a_step_needs_and_what_helps(
    base, rows, tmp_path, monkeypatch
):
    def exhausted(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        yield

    monkeypatch.setattr(train, "training_steps", exhausted)
    with pytest.raises(MemoryError) as error:
        fewshot(base, rows, tmp_path / "out")
    message = str(error.value)
    assert "the frozen model takes 0.00 GiB" in message
    for setting in ("NUM_MICRO_BATCHES", "BATCH_SIZE", "TASK_FEATURE_LENGTHS"):
        assert setting in message


def test_a_loss_that_reads_no_wrong_choice_is_given_none(base, rows, monkeypatch):
    shapes = []
    steps = train.training_steps

    def watched(state, frozen, batch_at, keys, **kwargs):
        shapes.append(batch_at(0)["decoder_target_tokens"].shape[1])
        return steps(state, frozen, batch_at, keys, **kwargs)

    monkeypatch.setattr(train, "training_steps", watched)
    for loss in (
        losses.TFewLoss(unlikelihood=0.0, length_normalized=0.0),
        losses.TFewLoss(),
    ):
        recipe = tuning.Recipe(num_steps=1, loss=loss)
        fewshot(base, rows, None, recipe=recipe, num_folds=0)
    assert shapes == [1, 2]


def test_runs_of_one_recipe_share_one_program(base):
    one, other = (
        tuning.Tuner(base, peft.get("ia3")(), tuning.Recipe(num_steps=6))
        for _ in range(2)
    )
    assert one._programs is other._programs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be a positive integer"),
        ({"batch_size": -1}, "batch_size must be a positive integer"),
        ({"batch_size": 8, "num_micro_batches": 3}, "not divisible by"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"schedule": "cosine"}, "must be linear_decay, constant or inverse_sqrt"),
    ],
)
def test_a_recipe_that_cannot_be_cooked_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tuning.Recipe(**settings)


def test_a_recipe_is_hashable_and_written_as_plain_values():
    recipe = tuning.Recipe(
        adafactor={"decay_rate": 0.9}, loss=losses.TFewLoss(unlikelihood=0.0)
    )
    assert hash(recipe) == hash(tuning.Recipe(**{**recipe.__dict__}))
    assert recipe.to_dict()["adafactor"] == {"decay_rate": 0.9}
    assert recipe.to_dict()["loss"]["unlikelihood"] == 0.0


def test_the_default_recipe_is_that_of_the_paper():
    schedule = tuning.Recipe().make_schedule()
    rates = [float(schedule(jnp.asarray(step))) for step in (0, 30, 60, 530, 999)]
    expected = [0.0, 1.5e-3, 3e-3, 1.5e-3, 3e-3 / 940]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
