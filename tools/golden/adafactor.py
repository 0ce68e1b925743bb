"""Trajectories of transformers' Adafactor as T-Few configures it."""

import pathlib

import numpy as np
import torch
from transformers import optimization

NUM_STEPS = 6
SHAPES = {"vector": (200,), "wide": (128, 160), "tall": (200, 130)}
RATE = 3e-2
KEPT = slice(None, None, 8)  # every eighth entry of each dimension is written


def values(shape: tuple[int, ...], step: int) -> np.ndarray:
    """Numbers that need not be stored: sines of the flat index, of several sizes.

    Step 0 is the parameter, the steps after it are gradients. tests/test_optim.py
    computes the same.
    """
    n = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    size = 10.0 ** (-3 + 2 * np.sin(0.37 * n + step))
    return (size * np.sin(1.7 * n + 5 * step)).astype(np.float32)


def make(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Parameters after each update, with and without the parameter scale."""
    del folder
    arrays = {}
    for name, shape in SHAPES.items():
        for scale in (True, False):
            parameter = torch.nn.Parameter(torch.tensor(values(shape, 0)))
            optimizer = optimization.Adafactor(
                [parameter],
                lr=RATE,
                scale_parameter=scale,
                relative_step=False,
                warmup_init=False,
            )
            trajectory = []
            for step in range(1, NUM_STEPS + 1):
                parameter.grad = torch.tensor(values(shape, step))
                optimizer.step()
                trajectory.append(parameter.detach().numpy().copy())
            kept = (slice(None), *(KEPT for _ in shape))
            suffix = "" if scale else "_unscaled"
            arrays[f"{name}{suffix}"] = np.stack(trajectory)[kept]
    return arrays
