"""A stand-in for a model: a bag of words through two scaled layers, with dropout."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import losses, optim, peft, train

VOCAB, EMBED, MLP = 17, 6, 10
LENGTH, CHOICES, TARGET_LENGTH = 7, 3, 4


class Scales(peft.PeftMethod):
    """Trains every `scale`."""

    name = "scales"
    trainable = r"/scale$"


def log_probs_fn(params, batch, *, dropout_keys):
    """Log-probabilities from the sum of an input's embeddings; 0 at pads."""
    embedding = params["embedding"]
    inputs, targets = batch["encoder_input_tokens"], batch["decoder_target_tokens"]
    x = (embedding[inputs] * (inputs > 0)[..., None]).sum(axis=1)
    x = jnp.tanh(x @ params["mlp"]["hidden"]["kernel"])
    x = x * params["mlp"]["hidden"]["scale"][None]
    if dropout_keys is not None:
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 0.9, (MLP,)))
        x = x * keep(dropout_keys) / 0.9
    x = (x @ params["mlp"]["out"]["kernel"]) * params["mlp"]["out"]["scale"][None]
    position = jnp.arange(targets.shape[-1], dtype=x.dtype)[None, :, None]
    logits = (x[:, None] * (1 + 0.1 * position)) @ embedding.T
    log_probs = jax.nn.log_softmax(logits)[:, None]
    picked = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]
    return jnp.where(targets > 0, picked, 0.0)


def make_params(seed):
    """Frozen kernels, and scales near one that depend on the seed."""
    keys = jax.random.split(jax.random.key(0), 3)
    scale_keys = jax.random.split(jax.random.key(seed), 2)
    return {
        "embedding": jax.random.normal(keys[0], (VOCAB, EMBED)),
        "mlp": {
            "hidden": {
                "kernel": jax.random.normal(keys[1], (EMBED, MLP)),
                "scale": 1 + 0.1 * jax.random.normal(scale_keys[0], (MLP,)),
            },
            "out": {
                "kernel": jax.random.normal(keys[2], (MLP, EMBED)),
                "scale": 1 + 0.1 * jax.random.normal(scale_keys[1], (EMBED,)),
            },
        },
    }


def make_batch(seed, *, rows=4):
    """Random inputs; every row has two or three choices of different lengths."""
    rng = np.random.default_rng(seed)
    length = rng.integers(2, LENGTH + 1, (rows, 1))
    inputs = rng.integers(2, VOCAB, (rows, LENGTH)) * (np.arange(LENGTH) < length)
    lengths = rng.integers(1, TARGET_LENGTH + 1, (rows, CHOICES, 1))
    num_choices = rng.integers(2, CHOICES + 1, rows)
    choice_mask = np.arange(CHOICES) < num_choices[:, None]
    is_token = (np.arange(TARGET_LENGTH) < lengths) & choice_mask[..., None]
    targets = rng.integers(2, VOCAB, (rows, CHOICES, TARGET_LENGTH)) * is_token
    return {
        "encoder_input_tokens": inputs.astype(np.int32),
        "decoder_target_tokens": targets.astype(np.int32),
        "choice_mask": choice_mask,
        "label": rng.integers(0, num_choices).astype(np.int32),
        "example_id": (100 * seed + np.arange(rows)).astype(np.int32),
    }


@functools.cache
def make_step(*, rate=0.01, num_steps=6, num_micro_batches=1, **settings):
    """A step of the stand-in and its optimizer; the same settings share programs."""
    axes = {"mlp": {"hidden": {"scale": 0}, "out": {"scale": 0}}}
    optimizer = optim.adafactor(leading_axes=axes)
    settings = {"log_probs_fn": log_probs_fn, "loss": losses.TFewLoss(), **settings}
    step_fn = train.make_train_step(
        optimizer=optimizer,
        schedule=optim.constant(rate),
        num_steps=num_steps,
        num_micro_batches=num_micro_batches,
        **settings,
    )
    return step_fn, optimizer


def run(seeds, *, num_steps=6, batch_at=None, made=None, **settings):
    """Trains adapters together; adapter k sees batches of its seed.

    Returns:
        The `StepInfo`s, with copies of the states.
    """
    step_fn, optimizer = made or make_step(**settings)
    halves = [train.partition(make_params(seed), Scales()) for seed in seeds]
    state = train.init_state([trainable for trainable, _ in halves], optimizer)
    if batch_at is None:
        batch_at = lambda step: train.stack_batches(  # noqa: E731
            [make_batch(10 * seed + step) for seed in seeds]
        )
    infos = []
    for info in train.training_steps(
        state,
        halves[0][1],
        batch_at,
        train.adapter_keys(seeds),
        step_fn=step_fn,
        num_steps=num_steps,
    ):
        kept = jax.tree.map(np.array, info.state)
        infos.append(dataclasses.replace(info, state=kept))
    return infos


@pytest.fixture(scope="session")
def stand_in():
    """The functions and the method of this file."""
    return types.SimpleNamespace(
        Scales=Scales,
        log_probs_fn=log_probs_fn,
        make_batch=make_batch,
        make_params=make_params,
        make_step=make_step,
        run=run,
    )
