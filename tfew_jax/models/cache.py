"""Keys and values that a decoder has already computed.

Decoding feeds one position at a time. Self-attention then reads the keys and values
of earlier positions from a buffer of the longest output, and attention over the
encoded input those of the first step. They are kept as a method rescaled them, so
that later steps need neither the encoded input nor the method's part in it.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tfew_jax.models.config import T5Config


class KeysValues(NamedTuple):
    """Keys and values of one attention, with heads apart."""

    key: Float[Array, "*any key_length heads kv"]
    value: Float[Array, "*any key_length heads kv"]


class DecoderCache(NamedTuple):
    """What the layers of a decoder keep between steps.

    The arrays have a leading axis of layers, whether layers are scanned or not; a
    layer sees its own part.

    Attributes:
        own: Of self-attention, `[layers, batch, choices, max_length, heads, kv]`;
            zeros at positions still to come.
        memory: Of the attention over the encoded input, `[layers, batch, length,
            heads, kv]`; None before the first step. Choices share them.
    """

    own: KeysValues
    memory: KeysValues | None

    @property
    def max_length(self) -> int:
        """Positions that the buffer holds, those that a method adds included."""
        return self.own.key.shape[-3]


def make_cache(
    config: T5Config, *, batch_size: int, num_choices: int, max_length: int
) -> DecoderCache:
    """A cache before the first step."""
    shape = (
        *(config.num_decoder_layers, batch_size, num_choices),
        *(max_length, config.num_heads, config.head_dim),
    )
    empty = jnp.zeros(shape, config.dtype)
    return DecoderCache(own=KeysValues(empty, empty), memory=None)


def repeat_choices(cache: DecoderCache, num_choices: int) -> DecoderCache:
    """As many copies of the only choice of each row."""
    own = KeysValues(*(jnp.repeat(x, num_choices, axis=2) for x in cache.own))
    return cache._replace(own=own)


def take_choices(
    cache: DecoderCache, source: Int[Array, "batch choices"]
) -> DecoderCache:
    """Each choice goes on from what choice `source` of its row has decoded."""
    index = source[None, :, :, None, None, None]
    own = (jnp.take_along_axis(x, index, axis=2) for x in cache.own)
    return cache._replace(own=KeysValues(*own))
