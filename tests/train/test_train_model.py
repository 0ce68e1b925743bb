"""Training the real model: a tiny T5 with (IA)^3 and dropout."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from tfew_jax import losses, models, optim, train
from tfew_jax.peft import ia3

CONFIG = models.T5Config(
    vocab_size=53,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relpos_buckets=8,
    relpos_max_distance=16,
    dropout_rate=0.1,
)
METHOD = ia3.IA3()
NUM_STEPS = 5


def make_batch(seed, rows=4):
    rng = np.random.default_rng(seed)
    length = rng.integers(3, 9, (rows, 1))
    target_length = rng.integers(1, 4, (rows, 3, 1))
    inputs = rng.integers(2, 53, (rows, 8)) * (np.arange(8) < length)
    targets = rng.integers(2, 53, (rows, 3, 3)) * (np.arange(3) < target_length)
    return {
        "encoder_input_tokens": inputs.astype(np.int32),
        "decoder_target_tokens": targets.astype(np.int32),
        "choice_mask": np.ones((rows, 3), bool),
        "label": rng.integers(0, 3, rows).astype(np.int32),
        "example_id": np.arange(rows, dtype=np.int32),
    }


def padded(batch, pad):
    """The batch with longer inputs and targets, and more choices that do not exist."""
    widths = {
        "encoder_input_tokens": [(0, 0), (0, pad)],
        "decoder_target_tokens": [(0, 0), (0, pad), (0, pad)],
        "choice_mask": [(0, 0), (0, pad)],
    }
    return batch | {name: np.pad(batch[name], widths[name]) for name in widths}


@functools.cache
def initial_params():
    """Unstacked, with (IA)^3 vectors that are not one."""
    config = dataclasses.replace(CONFIG, scan_layers=False)
    params = models.init(config, METHOD, jax.random.key(0))
    trainable, frozen = train.partition(params, METHOD)
    rng = np.random.default_rng(1)
    trainable = jax.tree.map(
        lambda x: (1 + 0.1 * rng.standard_normal(x.shape)).astype(np.float32), trainable
    )
    return trainable, jax.tree.map(np.asarray, frozen)


@functools.cache
def make_step(*, scan_layers, num_micro_batches):
    """The step and its optimizer; runs of other seeds share the programs."""
    config = dataclasses.replace(CONFIG, scan_layers=scan_layers)
    boxed = models.boxed_abstract_params(config, METHOD)
    axes, _ = train.partition(optim.stacked_axes(boxed), METHOD)
    optimizer = optim.adafactor(leading_axes=axes)
    step_fn = train.make_train_step(
        log_probs_fn=functools.partial(
            models.token_log_probs, models.T5(config, METHOD)
        ),
        loss=losses.TFewLoss(),
        optimizer=optimizer,
        schedule=optim.linear_decay(3e-3, NUM_STEPS, warmup_steps=2),
        num_steps=NUM_STEPS,
        num_micro_batches=num_micro_batches,
    )
    return step_fn, optimizer


@functools.cache
def tuned(*, scan_layers=True, num_micro_batches=1, seeds=(3,), pad=0):
    """Unstacked trainable halves of the adapters after five updates, and losses."""
    form = models.stack_layers if scan_layers else models.unstack_layers
    step_fn, optimizer = make_step(
        scan_layers=scan_layers, num_micro_batches=num_micro_batches
    )
    trainable, frozen = initial_params()
    state = train.init_state([form(trainable)] * len(seeds), optimizer)
    values = []
    for info in train.training_steps(
        state,
        form(frozen),
        lambda step: train.stack_batches(
            [padded(make_batch(10 * s + step), pad) for s in seeds]
        ),
        train.adapter_keys(seeds),
        step_fn=step_fn,
        num_steps=NUM_STEPS,
    ):
        state = info.state
        values.append(info.metrics["loss"])
    halves = [
        traverse_util.flatten_dict(
            models.unstack_layers(train.adapter_params(state, index)), sep="/"
        )
        for index in range(len(seeds))
    ]
    return halves, np.stack(values)


def assert_close(a, b, rtol=1e-5):
    assert a.keys() == b.keys()
    for path, leaf in a.items():
        np.testing.assert_allclose(leaf, b[path], rtol=rtol, err_msg=path)


def test_exactly_the_trainable_parameters_move():
    (after,), _ = tuned()
    before = traverse_util.flatten_dict(initial_params()[0], sep="/")
    everything = train.combine(*initial_params())
    assert after.keys() == METHOD.trainable_paths(everything)
    still = [path for path in after if np.array_equal(after[path], before[path])]
    assert still == []


def test_scanned_layers_train_as_unrolled_ones_do_with_dropout():
    (scanned,), scanned_losses = tuned(scan_layers=True)
    (unrolled,), unrolled_losses = tuned(scan_layers=False)
    np.testing.assert_allclose(scanned_losses, unrolled_losses, rtol=1e-5)
    assert_close(scanned, unrolled)


@pytest.mark.parametrize("num_micro_batches", [2, 4])
def test_micro_batches_change_nothing_with_dropout(num_micro_batches):
    (whole,), whole_losses = tuned()
    (cut,), cut_losses = tuned(num_micro_batches=num_micro_batches)
    np.testing.assert_allclose(whole_losses, cut_losses, rtol=1e-5)
    assert_close(whole, cut)


def test_padding_changes_nothing_with_dropout():
    (tight,), tight_losses = tuned()
    (loose,), loose_losses = tuned(pad=3)
    np.testing.assert_allclose(tight_losses, loose_losses, rtol=1e-5)
    assert_close(tight, loose)


def test_adapters_trained_together_equal_adapters_trained_apart():
    together, together_losses = tuned(seeds=(3, 4))
    for index, seed in enumerate((3, 4)):
        (alone,), alone_losses = tuned(seeds=(seed,))
        np.testing.assert_allclose(
            together_losses[:, index], alone_losses[:, 0], rtol=1e-5
        )
        assert_close(together[index], alone)


def test_replacing_the_other_adapter_leaves_an_adapter_bit_identical():
    (first, _), _ = tuned(seeds=(3, 4))
    (second, _), _ = tuned(seeds=(3, 9))
    for path, leaf in first.items():
        np.testing.assert_array_equal(leaf, second[path])
