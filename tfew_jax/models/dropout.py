"""Dropout from explicit keys: one a row, folded by layer and by site.

`nn.Dropout` draws other masks in scanned than in unrolled layers, and one key for a
whole batch ties a row's mask to the rows beside it. Here an entry's fate follows from
its row's key, its layer, the site and its place alone, so that neither scanning,
micro-batches, row order, other adapters nor padding at the end of an axis change it.
"""

import enum
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

_LEVELS = 2**16  # masks are drawn at 16 bits: the rate is exact to 2 ** -17
_STRIDES = (1, 2**16, 2**24)  # between places, from the last keyed axis forwards


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


# Where the last axis is not features but keys, of which a longer row has more.
_OVER_KEYS = (DropoutSite.ATTENTION_WEIGHTS, DropoutSite.CROSS_ATTENTION_WEIGHTS)


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
    keys = fold_rows(keys, int(site))
    if keys is None or threshold == 0:
        return x
    # Numbers are drawn in the order of memory, so that those of a longer first axis
    # begin with those of a shorter one; what else may be padded has keys of its own.
    num_keyed = x.ndim - 2 if site in _OVER_KEYS else max(x.ndim - 3, 0)
    bits = _bits(keys, x.shape[1:], num_keyed)
    keep = bits >= threshold
    return jnp.where(keep, x * (1.0 / (1.0 - threshold / _LEVELS)), 0).astype(x.dtype)


def _bits(keys: Key[Array, "batch"], shape: tuple[int, ...], num_keyed: int) -> Array:
    """16 random bits an entry of each row; a 32-bit draw serves two.

    Every place along the first `num_keyed` axes has a key of its own.
    """
    outer, inner = shape[:num_keyed], shape[num_keyed:]
    place = jnp.zeros(outer, jnp.uint32)
    for axis, stride in zip(reversed(range(num_keyed)), _STRIDES, strict=False):
        place += jax.lax.broadcasted_iota(jnp.uint32, outer, axis) * stride
    size = math.prod(inner)

    def draw(key: Key[Array, ""], place: Array) -> Array:
        key = jax.random.fold_in(key, place) if num_keyed else key
        words = jax.random.bits(key, (-(-size // 2),), jnp.uint32)
        return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size]

    bits = jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(keys, place.reshape(-1))
    return bits.reshape(len(keys), *shape)
