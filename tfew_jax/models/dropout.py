"""Dropout from explicit keys: one a row, folded by layer and by site.

`nn.Dropout` draws other masks in scanned than in unrolled layers, and one key for a
whole batch ties a row's mask to the rows beside it. Here a row's masks follow from
its key, its layer and the site alone, so that neither scanning, micro-batches, row
order nor other adapters change them.
"""

import enum

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

_LEVELS = 2**16  # masks are drawn at 16 bits: the rate is exact to 2 ** -17


class DropoutSite(enum.IntEnum):
    """Where masks are drawn; folded into the key."""

    EMBEDDING = 0
    ATTENTION_WEIGHTS = 1
    ATTENTION_OUTPUT = 2
    CROSS_ATTENTION_WEIGHTS = 3
    CROSS_ATTENTION_OUTPUT = 4
    MLP_HIDDEN = 5
    MLP_OUTPUT = 6
    FINAL_NORM = 7


def fold_rows(
    keys: Key[Array, "batch"] | None, data: int | Int[Array, ""]
) -> Key[Array, "batch"] | None:
    """Folds a number into each row's key."""
    if keys is None:
        return None
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)


def layer_keys(
    keys: Key[Array, "batch"] | None, num_layers: int
) -> Key[Array, "layers batch"] | None:
    """Keys of each layer, from the rows' keys."""
    if keys is None:
        return None
    return jax.vmap(lambda layer: fold_rows(keys, layer))(jnp.arange(num_layers))


def dropout(
    x: Float[Array, "batch *rest"],
    keys: Key[Array, "batch"] | None,
    *,
    rate: float,
    site: DropoutSite,
) -> Float[Array, "batch *rest"]:
    """Zeroes entries with probability `rate`, scales the others by 1 / (1 - rate)."""
    threshold = round(rate * _LEVELS)
    if keys is None or threshold == 0:
        return x
    bits = jax.vmap(lambda key: _bits(key, x[0].size))(fold_rows(keys, int(site)))
    keep = bits.reshape(x.shape) >= threshold
    return jnp.where(keep, x * (1.0 / (1.0 - threshold / _LEVELS)), 0).astype(x.dtype)


def _bits(key: Key[Array, ""], size: int) -> Array:
    """16 random bits an entry; a 32-bit draw serves two."""
    words = jax.random.bits(key, (-(-size // 2),), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]
