"""Layers of T5: dense kernels, norm, relative positions, attention, feed-forward.

Parameter names and shapes are those of T5X checkpoints: attention kernels are fused,
`[embed, joined_kv]`. T5's attention has no 1 / sqrt(kv); its initialisers hold it.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tfew_jax import peft, sharding
from tfew_jax.models.cache import KeysValues
from tfew_jax.models.config import T5Config
from tfew_jax.models.dropout import DropoutSite, dropout
from tfew_jax.models.products import product

_MASKED = -1e10

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: nn.gelu(x, approximate=True),
    "gelu_exact": lambda x: nn.gelu(x, approximate=False),
    "relu": nn.relu,
    "silu": nn.silu,
    "linear": lambda x: x,
}


class Dense(nn.Module):
    """A kernel without bias.

    Attributes:
        features: Size of the output.
        axes: Logical axes of the kernel.
        stddev: Of the initial values.
        config: Gives the dtype of the computation.
        method: Parameter-efficient method, which may act on inputs and output.
    """

    features: int
    axes: tuple[str, str]
    stddev: float
    config: T5Config
    method: peft.PeftMethod | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *rest inputs"],
        adapter_index: Int[Array, "batch"] | None = None,
    ) -> Float[Array, "batch *rest outputs"]:
        init = sharding.boxed(nn.initializers.normal(self.stddev), self.axes)
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", init, shape, jnp.float32)
        y = product(x, kernel, dtype=self.config.dtype)
        return peft.dense(self.method, x, y, adapter_index)


class TokenEmbedder(nn.Module):
    """The embedding table, shared by encoder, decoder and, where tied, logits."""

    config: T5Config

    def setup(self) -> None:
        init = sharding.boxed(nn.initializers.normal(1.0), ("vocab", "embed"))
        shape = (self.config.vocab_size, self.config.emb_dim)
        self.embedding = self.param("embedding", init, shape, jnp.float32)

    def __call__(self, tokens: Int[Array, "*rest"]) -> Float[Array, "*rest embed"]:
        rows = jnp.take(self.embedding, tokens, axis=0)  # NaN beyond the table
        return rows.astype(self.config.dtype)

    def attend(self, x: Float[Array, "*rest embed"]) -> Float[Array, "*rest vocab"]:
        """Logits in float32."""
        return product(
            x,
            self.embedding,
            dtype=self.config.dtype,
            transposed=True,
            result_dtype=jnp.float32,
        )


class Logits(nn.Module):
    """The kernel of an untied model's logits, which are float32."""

    config: T5Config

    @nn.compact
    def __call__(self, x: Float[Array, "*rest embed"]) -> Float[Array, "*rest vocab"]:
        init = nn.initializers.normal(self.config.emb_dim**-0.5)
        init = sharding.boxed(init, ("embed", "vocab"))
        shape = (self.config.emb_dim, self.config.vocab_size)
        kernel = self.param("kernel", init, shape, jnp.float32)
        dtype = self.config.dtype
        return product(x, kernel, dtype=dtype, result_dtype=jnp.float32)


class RMSNorm(nn.Module):
    """T5's layer norm: no mean, no bias; the mean square is taken in float32."""

    config: T5Config

    @nn.compact
    def __call__(self, x: Float[Array, "*rest embed"]) -> Float[Array, "*rest embed"]:
        init = sharding.boxed(nn.initializers.ones_init(), ("embed",))
        scale = self.param("scale", init, (x.shape[-1],), jnp.float32)
        x32 = x.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
        normed = x32 * jax.lax.rsqrt(mean_square + self.config.layer_norm_epsilon)
        dtype = self.config.dtype
        scale = scale.astype(dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        return normed.astype(dtype) * scale


def relative_position_buckets(
    query_length: int,
    key_length: int,
    *,
    bidirectional: bool,
    num_buckets: int,
    max_distance: int,
) -> Int[np.ndarray, "{query_length} {key_length}"]:
    """Bucket of each key position as seen from each query position.

    Half of the buckets are for exact small distances, the other half grows
    logarithmically up to `max_distance`. The bidirectional form gives each
    direction half of the buckets; the other one puts all later keys in bucket 0.
    """
    distance = np.arange(query_length)[:, None] - np.arange(key_length)[None, :]
    offset = np.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        offset = np.where(distance < 0, num_buckets, 0)
        distance = np.abs(distance)
    distance = np.maximum(distance, 0)
    num_exact = num_buckets // 2
    # float32 as in the reference implementations: bucket borders are sensitive
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(num_exact))
    ratio = ratio / np.float32(math.log(max_distance / num_exact))
    far = num_exact + (ratio * np.float32(num_buckets - num_exact)).astype(np.int32)
    far = np.minimum(far, num_buckets - 1)
    return (offset + np.where(distance < num_exact, distance, far)).astype(np.int32)


class RelativePositionBias(nn.Module):
    """Attention bias by the bucket of the relative position, one a head."""

    config: T5Config
    bidirectional: bool

    @nn.compact
    def __call__(
        self,
        length: int,
        position: Int[Array, ""] | None = None,
        *,
        num_queries: int = 1,
        positions: Int[np.ndarray, "{length}"] | None = None,
    ) -> Float[Array, "heads query_length {length}"]:
        """The bias of all queries, or of `num_queries` from `position` on alone.

        `positions` are the numbers of the queries and keys where they do not count up.
        """
        axes = ("heads", "relpos_buckets")
        init = sharding.boxed(nn.initializers.normal(1.0), axes)
        shape = (self.config.num_heads, self.config.relpos_buckets)
        table = self.param("rel_embedding", init, shape, jnp.float32)
        last = length if positions is None else int(positions.max()) + 1
        buckets = relative_position_buckets(
            last,
            last,
            bidirectional=self.bidirectional,
            num_buckets=self.config.relpos_buckets,
            max_distance=self.config.relpos_max_distance,
        )
        if positions is not None:
            buckets = buckets[np.ix_(positions, positions)]
        if position is not None:
            buckets = jax.lax.dynamic_slice_in_dim(
                jnp.asarray(buckets), position, num_queries
            )
        return table.astype(self.config.dtype)[:, buckets]


class Attention(nn.Module):
    """Multi-head attention of `x` over `memory`, or over keys and values kept of it.

    Attributes:
        config: Shape of the model.
        method: Parameter-efficient method; it may rescale keys and values.
        weights_site: Where the dropout of the attention weights is drawn.
    """

    config: T5Config
    method: peft.PeftMethod | None
    weights_site: DropoutSite

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *rest query_length embed"],
        memory: Float[Array, "batch *rest_of_memory memory_length embed"] | None,
        mask: Bool[Array, "batch *any #query_length key_length"],
        bias: Float[Array, "heads query_length key_length"] | None,
        *,
        adapter_index: Int[Array, "batch"] | None,
        keys: Key[Array, "batch"] | None,
        kept: KeysValues | None = None,
        position: Int[Array, ""] | None = None,
        num_folded: int = 1,
    ) -> tuple[Float[Array, "batch *rest query_length embed"], KeysValues]:
        """Attends, and returns the keys and values that it read as well.

        Args:
            x: What queries are made of.
            memory: What keys and values are made of; None where all are kept.
            mask: True where a query may look.
            bias: Added to the logits.
            adapter_index: Adapter of each row; needed with a bank.
            keys: Key of each row in training; None switches dropout off.
            kept: Keys and values of earlier steps, with room for those of `memory`.
            position: Where those of `memory` go among the kept ones.
            num_folded: How many sequences follow each other in the queries.
        """
        config = self.config
        query_std = (config.emb_dim * config.head_dim) ** -0.5
        query = self._split(self._project("query", query_std)(x, adapter_index))
        if memory is None:
            assert kept is not None
        else:
            made = self._keys_values(memory, adapter_index)
            kept = made if kept is None else _insert(made, kept, position)
        key, value = kept
        logits = jnp.einsum("...qhd,...khd->...hqk", query, key)
        logits = logits.astype(jnp.float32)
        if bias is not None:
            logits = logits + bias.astype(jnp.float32).reshape(
                (1,) * (logits.ndim - 3) + bias.shape
            )
        weights = jax.nn.softmax(jnp.where(mask, logits, _MASKED), axis=-1)
        weights = weights.astype(config.dtype)
        apart = weights
        if num_folded > 1:  # each sequence has the masks that it has alone
            apart = weights.reshape(*weights.shape[:-2], num_folded, -1, key.shape[-3])
        weights = dropout(
            apart, keys, rate=config.dropout_rate, site=self.weights_site
        ).reshape(weights.shape)
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, value)
        mixed = _constrain_inner(
            mixed.reshape(*mixed.shape[:-2], config.joined_kv), "joined_kv"
        )
        out = Dense(
            config.emb_dim,
            ("joined_kv", "embed"),
            config.joined_kv**-0.5,
            config,
            self.method,
            name="out",
        )
        return out(mixed, adapter_index), kept

    def _keys_values(
        self,
        memory: Float[Array, "batch *rest_of_memory memory_length embed"],
        adapter_index: Int[Array, "batch"] | None,
    ) -> KeysValues:
        stddev = self.config.emb_dim**-0.5
        key = self._project("key", stddev)(memory, adapter_index)
        key = peft.rescale(self.method, peft.Site.KEY, key, adapter_index)
        value = self._project("value", stddev)(memory, adapter_index)
        value = peft.rescale(self.method, peft.Site.VALUE, value, adapter_index)
        return KeysValues(self._split(key), self._split(value))

    def _split(
        self, x: Float[Array, "batch *rest joined_kv"]
    ) -> Float[Array, "batch *rest heads kv"]:
        heads = (self.config.num_heads, self.config.head_dim)
        return _constrain_inner(x, "joined_kv").reshape(*x.shape[:-1], *heads)

    def _project(self, name: str, stddev: float) -> Dense:
        size, axes = self.config.joined_kv, ("embed", "joined_kv")
        return Dense(size, axes, stddev, self.config, self.method, name=name)


def _insert(
    made: KeysValues, kept: KeysValues, position: Int[Array, ""] | None
) -> KeysValues:
    assert position is not None
    insert = functools.partial(
        jax.lax.dynamic_update_slice_in_dim, start_index=position, axis=-3
    )
    return KeysValues(*(insert(x, new) for x, new in zip(kept, made, strict=True)))


class Mlp(nn.Module):
    """Feed-forward block: act(x W_i) W_o, or (act(x W_0) * x W_1) W_o where gated."""

    config: T5Config
    method: peft.PeftMethod | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *rest length embed"],
        *,
        adapter_index: Int[Array, "batch"] | None,
        keys: Key[Array, "batch"] | None,
    ) -> Float[Array, "batch *rest length embed"]:
        config = self.config
        hidden = None
        for name, activation in zip(
            config.mlp_kernels, config.mlp_activations, strict=True
        ):
            wi = Dense(
                config.mlp_dim,
                ("embed", "mlp"),
                config.emb_dim**-0.5,
                config,
                self.method,
                name=name,
            )
            branch = _ACTIVATIONS[activation](wi(x, adapter_index))
            hidden = branch if hidden is None else hidden * branch
        assert hidden is not None
        hidden = _constrain_inner(hidden, "mlp")
        hidden = peft.rescale(self.method, peft.Site.MLP_HIDDEN, hidden, adapter_index)
        hidden = dropout(
            hidden, keys, rate=config.dropout_rate, site=DropoutSite.MLP_HIDDEN
        )
        wo = Dense(
            config.emb_dim,
            ("mlp", "embed"),
            config.mlp_dim**-0.5,
            config,
            self.method,
            name="wo",
        )
        return wo(hidden, adapter_index)


def constrain_residual(
    x: Float[Array, "batch *rest embed"],
) -> Float[Array, "batch *rest embed"]:
    """Keeps the residual stream sharded by rows."""
    middle = ("activation_choices",) * (x.ndim - 3) + ("activation_length",)
    return sharding.constrain(x, "batch", *middle, "activation_embed")


def _constrain_inner(
    x: Float[Array, "batch *rest features"], name: str
) -> Float[Array, "batch *rest features"]:
    middle = ("activation_choices",) * (x.ndim - 3) + ("activation_length",)
    return sharding.constrain(x, "batch", *middle, f"activation_{name}")
