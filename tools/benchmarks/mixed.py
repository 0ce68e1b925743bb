"""A batch whose rows have an (IA)^3 adapter each, beside one adapter for all rows."""

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import turns, weights

NAMES = ("mixed.one_adapter", "mixed.each_row_its_own")
NUM_ROWS = 32  # and as many adapters


def measure(
    options: argparse.Namespace,
    config: Any,
    *,
    compiled: Callable[..., tuple[Any, float]],
    report: Callable[..., None],
) -> None:
    """Times the logits of both in turn and reports a line of each.

    Args:
        options: Of the command line; `seq` and `choice_len` are the lengths of the
            encoder's and the decoder's input.
        config: The model.
        compiled: A program and the seconds that compiling took.
        report: Prints a measurement of a name, its wall and CPU seconds, and more.
    """
    import jax

    from tfew_jax import models, peft

    single = peft.get("ia3")()
    bank = single.bank([], NUM_ROWS + 1)  # slot 0 is the frozen model
    programs, seconds = [], []
    for method in (single, bank):
        params = models.init(config, method, jax.random.key(0))
        params = weights.stored(params, method, options)
        arguments = _moved(params, method), _batch(options, config, method)

        def forward(params: Any, batch: Any, method: Any = method) -> Any:
            return models.forward(models.T5(config, method), params, **batch)[0]

        program, compile_s = compiled(jax.jit(forward), *arguments)
        programs.append(
            lambda program=program, arguments=arguments: jax.block_until_ready(
                program(*arguments)
            )
        )
        seconds.append(compile_s)
    times = turns.in_turn(programs, warmup=options.warmup, steps=options.steps)
    one, own = times
    ratio = round(turns.paired_ratio(own.walls, one.walls), 4)
    cpu_ratio = round(turns.paired_ratio(own.cpus, one.cpus), 4)
    extras = (
        {"adapters": 1},
        {"adapters": NUM_ROWS, "ratio": ratio, "cpu_ratio": cpu_ratio},
    )
    own_shapes = argparse.Namespace(
        **(vars(options) | {"batch": NUM_ROWS, "choices": 1})
    )
    for name, some, compile_s, extra in zip(NAMES, times, seconds, extras, strict=True):
        report(name, *some, compile_s, own_shapes, **extra)


def _moved(params: Any, method: Any) -> Any:
    """The parameters with all vectors away from one, so that each row differs."""
    import jax

    from tfew_jax import train

    trainable, frozen = train.partition(params, method)
    leaves, structure = jax.tree.flatten(trainable)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return train.combine(jax.tree.unflatten(structure, moved), frozen)


def _batch(options: argparse.Namespace, config: Any, method: Any) -> dict[str, Any]:
    """Random ids without padding, and an adapter for each row of a bank."""
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)

    def ids(*shape: int) -> Any:
        return jnp.asarray(rng.integers(2, config.vocab_size, shape, np.int32))

    batch = {
        "encoder_input_tokens": ids(NUM_ROWS, options.seq),
        "decoder_input_tokens": ids(NUM_ROWS, 1, options.choice_len).at[..., 0].set(0),
    }
    if method.num_adapters is not None:
        batch["adapter_index"] = jnp.arange(1, NUM_ROWS + 1, dtype=jnp.int32)
    return batch
