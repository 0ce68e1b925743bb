"""Adapters with tasks of their own, untrained but all different, for a toy base."""

import numpy as np

from tfew_jax import checkpoint
from tfew_jax.checkpoint import layout
from tfew_jax.peft import ia3

TASKS = {
    "films": {
        "templates": ["Review: {{text}} Sentiment?"],
        "choices": ["bad ||| good"],
    },
    "plots": {
        "templates": ["{{text}} plot? {{more}}", "{{text}} film?"],
        "choices": ["awful ||| great ||| dull maybe"] * 2,
        "normalization": "sum",
    },
    "yes": {
        "templates": ["{{text}} lovely?"],
        "choices": ["yes ||| no"],
        "lengths": {"inputs": 12, "targets": 8},
        "input_eos": False,
        "target_prefix": "film ",
    },
    "own": {
        "templates": ["{{text}}: {{a}} or {{b}}"],
        "choices": ["{{a}} ||| {{b}}"],
    },
}


def make_adapter(base, number, task):
    """(IA)^3 vectors drawn by a number; wide enough for predictions to differ."""
    method = ia3.IA3()
    rng = np.random.default_rng(number)
    arrays = {
        path: rng.uniform(-1.5, 2.5, shape).astype(np.float32)
        for path, shape in layout.adapter_shapes(base.config, method).items()
    }
    return checkpoint.Adapter(
        method=method, params=layout.unflatten(arrays), config=base.config, task=task
    )


def make_bank(base, *, names=tuple(TASKS), capacity=0):
    adapters = {
        name: make_adapter(base, list(TASKS).index(name), TASKS[name]) for name in names
    }
    return checkpoint.Bank(adapters=adapters, capacity=capacity)


def make_row(name, number):
    """A row that the task of that name renders."""
    text = " ".join(["great awful plot".split()[number % 3]] * (1 + number % 4))
    row = {"text": text, "more": "film " * (number % 2) + "yes"}
    return {**row, "a": "lovely", "b": f"no {'dull ' * (number % 3)}"}
