import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import one_line
import pytest

from tfew_jax import experiment, losses, peft, train
from tfew_jax.data import fewshot as fewshot_data
from tfew_jax.data import tasks
from tfew_jax.experiment import opening, progress, tuning
from tfew_jax.peft import prompt

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


@pytest.mark.parametrize("at", [3, 6], ids=["in the middle", "in the last step"])
def test_ctrl_c_saves_what_was_reached_and_the_same_call_goes_on(
    base, rows, tmp_path, monkeypatch, at
):
    whole = fewshot(base, rows, tmp_path / "whole")
    monkeypatch.setattr(opening, "Progress", Pressing)
    monkeypatch.setattr(Pressing, "at", at)
    handler = signal.getsignal(signal.SIGINT)
    told = f"stopped after step {at} of seed-0-all; the same command goes on"
    with pytest.raises(experiment.Interrupted, match=told):
        fewshot(base, rows, tmp_path / "stopped")
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (tmp_path / "stopped" / "FINISHED").exists()
    monkeypatch.setattr(Pressing, "at", -1)
    result = fewshot(base, rows, tmp_path / "stopped")
    assert result.records[-1]["first_step"] == at
    for mine, other in zip(
        jax.tree.leaves(result.adapter.params),
        jax.tree.leaves(whole.adapter.params),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, other)


def test_ctrl_c_without_a_directory_does_not_promise_to_go_on(base, rows, monkeypatch):
    monkeypatch.setattr(opening, "Progress", Pressing)
    monkeypatch.setattr(Pressing, "at", 2)
    with pytest.raises(experiment.Interrupted) as caught:
        fewshot(base, rows, None)
    told = "stopped after step 2 of seed-0-all, of which nothing is kept"
    assert str(caught.value) == told


class Opened(Exception):
    """The directory is ours, and nothing was trained yet."""


def open_only(directory):
    raise Opened


def prompt_of(path, base, value):
    """A prompt that starts from a file with this number everywhere."""
    with open(path, "wb") as file:
        np.save(file, np.full((2, base.config.emb_dim), value, np.float32))
    return prompt.Prompt(length=2, init="file", init_file=str(path))


def test_a_file_that_prompts_start_from_is_read_once(base, tmp_path):
    method = prompt_of(tmp_path / "p.npy", base, 0.25)
    made = tuning.Tuner(base, method, experiment.Recipe())
    (tmp_path / "p.npy").unlink()
    rows = jax.tree.leaves(train.adapter_params(made.init_state(0)))
    np.testing.assert_array_equal(rows[0], np.full((2, base.config.emb_dim), 0.25))


def test_a_run_whose_start_changed_is_not_continued(base, rows, text_data, tmp_path):
    def few_shot():
        task = tasks.Task(
            spec=fewshot_data.TaskSpec(templates=TEMPLATE, choices=CHOICES), train=rows
        )
        experiment.train(
            model_dir=tmp_path / "few", task=task, method=method, **settings
        )

    def text():
        experiment.train_text(
            model_dir=tmp_path / "text",
            task="rte",
            data_dir=text_data,
            method=method,
            recipe=experiment.Recipe(batch_size=4),
            **settings,
        )

    settings = {"base": base, "quiet": True, "on_start": open_only}
    for start in (few_shot, text):
        for _ in range(2):
            method = prompt_of(tmp_path / "p.npy", base, 0.25)
            with pytest.raises(Opened):
                start()
        method = prompt_of(tmp_path / "p.npy", base, 0.5)
        message = one_line.message_of(start)
        assert "holds a run with other settings: init_file.digest was" in message


def test_what_is_not_finite_stops_and_is_named_with_step_and_rows(base, rows, tmp_path):
    with pytest.raises(FloatingPointError) as error:
        fewshot(base, rows, tmp_path / "out", learning_rate=1e38)
    message = str(error.value)
    # Of the loss one sees in test_together.py that it is named so.
    assert "seed-0-all: the norm of the gradient is nan in step" in message
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
