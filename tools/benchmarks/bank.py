"""Five adapters trained in one program beside the same five, one after the other."""

import argparse
import functools
from collections.abc import Callable
from typing import Any

from benchmarks import turns, weights

NAMES = ("bank.five_together", "bank.five_apart")
NUM_ADAPTERS = 5


def measure(
    options: argparse.Namespace,
    config: Any,
    *,
    synthetic_batch: Callable[..., Any],
    compiled: Callable[..., tuple[Any, float]],
    report: Callable[..., None],
) -> None:
    """Times both in turn and reports a line of each.

    Args:
        options: Of the command line; `batch` is the rows of one adapter.
        config: The model.
        synthetic_batch: Rows for a size of the vocabulary.
        compiled: A program and the seconds that compiling took.
        report: Prints a measurement of a name, its wall and CPU seconds, and more.
    """
    import jax

    from tfew_jax import losses, models, optim, peft, train

    method = peft.get("ia3")()
    params = models.init(config, method, jax.random.key(0))
    params = weights.stored(params, method, options)
    trainable, frozen = train.partition(params, method)
    axes, _ = train.partition(
        optim.stacked_axes(models.boxed_abstract_params(config, method)), method
    )
    optimizer = optim.adafactor(leading_axes=axes)
    total = options.warmup + options.steps
    step_fn = train.make_train_step(
        log_probs_fn=functools.partial(
            models.token_log_probs, models.T5(config, method)
        ),
        loss=losses.TFewLoss(),
        optimizer=optimizer,
        schedule=optim.linear_decay(3e-3, total, warmup_steps=0),
        num_steps=total,
    )
    rows = synthetic_batch(options, config.vocab_size)

    def start(seeds: range) -> tuple[Any, ...]:
        state = train.init_state([trainable for _ in seeds], optimizer)
        batch = train.stack_batches([rows for _ in seeds])
        return state, frozen, jax.device_put(batch), train.adapter_keys(seeds)

    together = start(range(NUM_ADAPTERS))
    apart = [start(range(seed, seed + 1)) for seed in range(NUM_ADAPTERS)]
    program_of_all, compile_all_s = compiled(step_fn, *together)
    program_of_one, compile_one_s = compiled(step_fn, *apart[0])

    def step_together() -> None:
        nonlocal together
        state, _ = jax.block_until_ready(program_of_all(*together))
        together = (state, *together[1:])

    def step_apart() -> None:
        for index, arguments in enumerate(apart):
            state, _ = jax.block_until_ready(program_of_one(*arguments))
            apart[index] = (state, *arguments[1:])

    times = turns.in_turn(
        (step_together, step_apart), warmup=options.warmup, steps=options.steps
    )
    of_all, of_one = times
    ratio = round(turns.paired_ratio(of_one.walls, of_all.walls), 4)
    cpu_ratio = round(turns.paired_ratio(of_one.cpus, of_all.cpus), 4)
    extras = ({"ratio": ratio, "cpu_ratio": cpu_ratio}, {})
    seconds = (compile_all_s, compile_one_s)
    for name, some, compile_s, extra in zip(NAMES, times, seconds, extras, strict=True):
        rows_of_call = NUM_ADAPTERS * options.batch
        report(name, *some, compile_s, options, rows=rows_of_call, **extra)
