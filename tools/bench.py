r"""Times a training step and rank classification; one JSON line a measurement.

    python tools/bench.py --what train,rank --size small --batch 8 --seq 128 \
        --choices 4 --choice-len 8 --threads 1

Random weights that bfloat16 holds, as many models are stored, and synthetic ids; it
computes in float32 unless told otherwise. Wall seconds are noisy on
a machine that does other things too; `cpu_median_s` (CPU seconds of the process) with
`--threads 1` is the robust number. Compile time is given apart. On a CPU freed memory
is kept for the next step, as `tfew train` does.

    train.ia3_tfew         one (IA)^3 update with the three losses of T-Few, dropout on
    train.ia3_tfew_nodrop  the same without dropout
    rank.ia3               choices ranked by mean log-probability, (IA)^3 not folded
    ensemble.five_prompts  the same by five prompts of 100 rows, which vote
    bank.five_together     an update of five adapters in one program, --batch rows each
    bank.five_apart        the same five one after the other, timed in turn; the first
                           line's `ratio` is the median of five_apart / five_together
    mixed.one_adapter      logits of 32 rows whatever --batch, one (IA)^3 for all
    mixed.each_row_its_own the same with 32 adapters in a bank, timed in turn; the
                           `ratio` is the median of each_row_its_own / one_adapter
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

NAMES = {
    "train": ("train.ia3_tfew", "train.ia3_tfew_nodrop"),
    "rank": ("rank.ia3",),
    "ensemble": ("ensemble.five_prompts",),
    "bank": ("bank.five_together", "bank.five_apart"),
    "mixed": ("mixed.one_adapter", "mixed.each_row_its_own"),
}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", default="train,rank", help=", ".join(NAMES))
    parser.add_argument("--size", default="small", help="a key of models.config.SIZES")
    parser.add_argument("--batch", type=int, default=8, help="rows")
    parser.add_argument("--seq", type=int, default=128, help="tokens of an input")
    parser.add_argument("--choices", type=int, default=4)
    parser.add_argument("--choice-len", type=int, default=8, help="tokens of a choice")
    parser.add_argument("--threads", type=int, default=0, help="cores; 0 takes all")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument(
        "--layers",
        default="auto",
        choices=["auto", "scanned", "unrolled"],
        help="auto: unrolled on a CPU, where a scan copies each layer's kernels",
    )
    parser.add_argument(
        "--weights",
        default="bfloat16",
        choices=["bfloat16", "float32"],
        help="what holds all frozen weights, as the embedded base's are stored; the "
        "computation is of --dtype",
    )
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args(arguments)
    if unknown := set(options.what.split(",")) - set(NAMES):
        parser.error(
            f"unknown --what {', '.join(unknown)}; allowed: {', '.join(NAMES)}"
        )
    return options


def pin(threads: int) -> None:
    """Keeps this process on so many cores; must run before JAX starts its threads."""
    if threads and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])
    if threads == 1:
        flag = "--xla_cpu_multi_thread_eigen=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def measure(
    name: str, once: Callable[[], Any], compile_s: float, options: argparse.Namespace
) -> None:
    """Times calls of `once`, which returns when its result is there, and prints."""
    for _ in range(options.warmup):
        once()
    walls, cpus = [], []
    for _ in range(options.steps):
        wall, cpu = time.perf_counter(), time.process_time()
        once()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    report(name, walls, cpus, compile_s, options)


def report(
    name: str,
    walls: Sequence[float],
    cpus: Sequence[float],
    compile_s: float,
    options: argparse.Namespace,
    *,
    rows: int | None = None,
    **more: Any,
) -> None:
    """Prints one measurement; `rows` are those of a call where not `--batch`."""
    import flax
    import jax

    shapes = {"batch": options.batch, "seq": options.seq}
    shapes |= {"choices": options.choices, "choice_len": options.choice_len}
    versions = {"python": sys.version.split()[0], "jax": jax.__version__}
    versions |= {
        "jaxlib": importlib.metadata.version("jaxlib"),
        "flax": flax.__version__,
    }
    median = statistics.median(walls)
    record = {
        "name": name,
        "median_s": round(median, 5),
        "min_s": round(min(walls), 5),
        "cpu_median_s": round(statistics.median(cpus), 5),
        "compile_s": round(compile_s, 3),
        "examples_per_s": round((rows or options.batch) / median, 3),
        "warmup": options.warmup,
        "steps": options.steps,
        "size": options.size,
        "dtype": options.dtype,
        "weights": options.weights,
        "layers": options.layers,
        "shapes": shapes,
        "threads": options.threads or len(os.sched_getaffinity(0)),
        "device": jax.devices()[0].device_kind,
        "versions": versions,
        **more,
    }
    print(json.dumps(record), flush=True)


def synthetic_batch(options: argparse.Namespace, vocab_size: int) -> Any:
    """Random ids without padding, and random labels."""
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(0)
    rows, choices = options.batch, options.choices
    targets = (rows, choices, options.choice_len)
    return {
        "encoder_input_tokens": jnp.asarray(
            rng.integers(2, vocab_size, (rows, options.seq), np.int32)
        ),
        "decoder_target_tokens": jnp.asarray(
            rng.integers(2, vocab_size, targets, np.int32)
        ),
        "choice_mask": jnp.ones((rows, choices), bool),
        "label": jnp.asarray(rng.integers(0, choices, rows, np.int32)),
        "example_id": jnp.arange(rows, dtype=jnp.int32),
    }


def compiled(function: Any, *arguments: Any) -> tuple[Any, float]:
    """The compiled function and the seconds that compiling it took."""
    start = time.perf_counter()
    program = function.lower(*arguments).compile()
    return program, time.perf_counter() - start


def bench_train(options: argparse.Namespace, config: Any, *, name: str) -> None:
    """One update of one adapter, as `tfew_jax.train` makes it."""
    import functools

    import jax
    from benchmarks import weights

    from tfew_jax import losses, models, optim, peft, train

    method = peft.get("ia3")()
    model = models.T5(config, method)
    params = models.init(config, method, jax.random.key(0))
    params = weights.stored(params, method, options)
    trainable, frozen = train.partition(params, method)
    boxed = models.boxed_abstract_params(config, method)
    axes, _ = train.partition(optim.stacked_axes(boxed), method)
    optimizer = optim.adafactor(leading_axes=axes)
    total = options.warmup + options.steps
    step_fn = train.make_train_step(
        log_probs_fn=functools.partial(models.token_log_probs, model),
        loss=losses.TFewLoss(),
        optimizer=optimizer,
        schedule=optim.linear_decay(3e-3, total, warmup_steps=0),
        num_steps=total,
    )
    rows = synthetic_batch(options, config.vocab_size)
    batch = jax.tree.map(lambda leaf: leaf[None], rows)  # the adapters axis
    keys = train.adapter_keys([0])
    state = train.init_state(trainable, optimizer)
    program, compile_s = compiled(step_fn, state, frozen, batch, keys)

    def once() -> None:
        nonlocal state
        state, metrics = program(state, frozen, batch, keys)
        jax.block_until_ready((state, metrics))

    measure(name, once, compile_s, options)


def bench_rank(options: argparse.Namespace, config: Any, *, name: str) -> None:
    """Scores of the choices of a batch by an adapter that is not folded."""
    import jax
    from benchmarks import weights

    from tfew_jax import losses, models, peft

    method = peft.get("ia3")()
    model = models.T5(config, method)
    params = models.init(config, method, jax.random.key(0))
    params = weights.stored(params, method, options)
    batch = synthetic_batch(options, config.vocab_size)

    def rank(params: Any, batch: Any) -> Any:
        log_probs = models.token_log_probs(model, params, batch)
        scores = losses.choice_scores(log_probs, losses.target_mask(batch))
        return scores.argmax(axis=-1)

    program, compile_s = compiled(jax.jit(rank), params, batch)
    measure(
        name, lambda: program(params, batch).block_until_ready(), compile_s, options
    )


def _train(options: argparse.Namespace, config: Any) -> None:
    with_dropout, without = NAMES["train"]
    bench_train(options, config, name=with_dropout)
    no_dropout = dataclasses.replace(config, dropout_rate=0.0)
    bench_train(options, no_dropout, name=without)


def _rank(options: argparse.Namespace, config: Any) -> None:
    (name,) = NAMES["rank"]
    bench_rank(options, config, name=name)


def _mixed(options: argparse.Namespace, config: Any) -> None:
    from benchmarks import mixed  # beside this file

    mixed.measure(options, config, compiled=compiled, report=report)


def _ensemble(options: argparse.Namespace, config: Any) -> None:
    """The vote of several prompts on a batch."""
    import jax
    from benchmarks import ensemble, weights

    (name,) = NAMES["ensemble"]
    score, params, method = ensemble.scorer(config)
    params = weights.stored(params, method, options)
    batch = synthetic_batch(options, config.vocab_size)
    program, compile_s = compiled(jax.jit(score), params, batch)
    measure(name, lambda: ensemble.vote(program(params, batch)), compile_s, options)


def _bank(options: argparse.Namespace, config: Any) -> None:
    from benchmarks import bank

    bank.measure(
        options,
        config,
        synthetic_batch=synthetic_batch,
        compiled=compiled,
        report=report,
    )


MEASUREMENTS: dict[str, Callable[[argparse.Namespace, Any], None]] = {
    "train": _train,
    "rank": _rank,
    "mixed": _mixed,
    "ensemble": _ensemble,
    "bank": _bank,
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the measurements that were asked for."""
    options = parse_arguments(arguments)
    pin(options.threads)

    from tfew_jax.cli import memory

    memory.keep_freed_memory()
    import jax

    from tfew_jax import models

    if options.size not in models.SIZES:
        sizes = ", ".join(models.SIZES)
        raise SystemExit(f"unknown --size {options.size}; allowed: {sizes}")
    if options.layers == "auto":
        on_cpu = jax.default_backend() == "cpu"
        options.layers = "unrolled" if on_cpu else "scanned"
    config = dataclasses.replace(
        models.SIZES[options.size],
        dtype=options.dtype,
        scan_layers=options.layers == "scanned",
    )
    for what in options.what.split(","):
        MEASUREMENTS[what](options, config)


if __name__ == "__main__":
    main()
