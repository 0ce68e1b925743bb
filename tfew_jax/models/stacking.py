"""Between one subtree a layer, as on disk, and stacked layers, as `nn.scan` wants."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfew_jax.types import Params

_HALVES = ("encoder", "decoder")
_LAYER = re.compile(r"layers_(\d+)$")
STACKED = "layers"


def stack_layers(params: Params) -> Params:
    """Stacks `layers_0 ... layers_n` of each half on axis 0 under `layers`.

    A tree that holds only some parameters of each layer, such as the trainable
    half, stacks as well; one that is stacked already comes back as it is.

    Raises:
        ValueError: If the layers of a half do not hold the same parameters.
    """
    return _map_halves(_stack, params)


def unstack_layers(params: Params) -> Params:
    """The inverse of `stack_layers`."""
    return _map_halves(_unstack, params)


def _map_halves(
    fn: Callable[[str, Mapping[str, Any]], dict[str, Any]], params: Params
) -> Params:
    return {
        name: fn(name, subtree) if name in _HALVES else subtree
        for name, subtree in params.items()
    }


def _stack(half: str, subtree: Mapping[str, Any]) -> dict[str, Any]:
    layers = {
        int(match.group(1)): layer
        for name, layer in subtree.items()
        if (match := _LAYER.match(name))
    }
    others = {name: leaf for name, leaf in subtree.items() if not _LAYER.match(name)}
    if not layers:
        return others
    if sorted(layers) != list(range(len(layers))):
        raise ValueError(f"{half} has layers {sorted(layers)}; some are missing")
    ordered = [layers[i] for i in range(len(layers))]
    structures = {jax.tree.structure(layer) for layer in ordered}
    if len(structures) > 1:
        raise ValueError(f"the layers of {half} do not hold the same parameters")
    return {**others, STACKED: jax.tree.map(_stack_leaves, *ordered)}


def _stack_leaves(*leaves: Any) -> Any:
    if all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return np.stack(leaves)
    return jnp.stack(leaves)


def _unstack(half: str, subtree: Mapping[str, Any]) -> dict[str, Any]:
    del half
    others = {name: leaf for name, leaf in subtree.items() if name != STACKED}
    if STACKED not in subtree:
        return others
    num_layers = jax.tree.leaves(subtree[STACKED])[0].shape[0]
    layers = {
        f"layers_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], subtree[STACKED])
        for i in range(num_layers)
    }
    return {**others, **layers}
