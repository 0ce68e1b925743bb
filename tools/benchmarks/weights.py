"""Frozen weights as a checkpoint holds them, as programs take them."""

import argparse
from typing import Any


def stored(params: Any, method: Any, options: argparse.Namespace) -> Any:
    """Parameters whose frozen half was stored in the precision of `--weights`.

    Args:
        params: Random ones, with those of the method.
        method: Says which of them are trained.
        options: Of the command line.
    """
    import jax
    import jax.numpy as jnp

    from tfew_jax import models, train

    if options.weights == "float32":
        return params
    trainable, frozen = train.partition(params, method)
    frozen = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16).astype(leaf.dtype), frozen
    )
    packed = models.pack(frozen, dtype=options.dtype)
    return train.combine(trainable, packed)
