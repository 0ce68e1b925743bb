"""One layer of the encoder and one of the decoder.

Each sub-layer is normed first and its output added to the residual stream.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from tfew_jax import peft
from tfew_jax.models import layers
from tfew_jax.models.cache import DecoderCache
from tfew_jax.models.config import T5Config
from tfew_jax.models.dropout import DropoutSite, dropout


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward block, each normed first and added."""

    config: T5Config
    method: peft.PeftMethod | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch 1 #length length"],
        bias: Float[Array, "heads length length"] | None,
        adapter_index: Int[Array, "batch"] | None,
        keys: Key[Array, "batch"] | None,
    ) -> tuple[Float[Array, "batch length embed"], None]:
        if bias is None:
            bias = layers.RelativePositionBias(
                self.config, bidirectional=True, name="relpos_bias"
            )(x.shape[-2])
        normed = layers.RMSNorm(self.config, name="pre_attention_layer_norm")(x)
        attention = layers.Attention(
            self.config, self.method, DropoutSite.ATTENTION_WEIGHTS, name="attention"
        )
        y, _ = attention(
            normed, normed, mask, bias, adapter_index=adapter_index, keys=keys
        )
        x = _add(self, x, y, adapter_index, keys, DropoutSite.ATTENTION_OUTPUT)
        return _add_mlp(self, x, adapter_index, keys), None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention over the encoded input, feed-forward."""

    config: T5Config
    method: peft.PeftMethod | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch choices target_length embed"],
        mask: Bool[Array, "batch #choices 1 target_length key_length"],
        bias: Float[Array, "heads target_length key_length"] | None,
        encoded: Float[Array, "batch length embed"] | None,
        encoded_mask: Bool[Array, "batch 1 #folded length"],
        adapter_index: Int[Array, "batch"] | None,
        position: Int[Array, ""] | None,
        keys: Key[Array, "batch"] | None,
        cache: DecoderCache | None,
    ) -> tuple[Float[Array, "batch choices target_length embed"], DecoderCache | None]:
        if bias is None:
            bias = layers.RelativePositionBias(
                self.config, bidirectional=False, name="relpos_bias"
            )(mask.shape[-1], position, num_queries=x.shape[-2])
        normed = layers.RMSNorm(self.config, name="pre_self_attention_layer_norm")(x)
        self_attention = layers.Attention(
            self.config,
            self.method,
            DropoutSite.ATTENTION_WEIGHTS,
            name="self_attention",
        )
        y, own = self_attention(
            normed,
            normed,
            mask,
            bias,
            adapter_index=adapter_index,
            keys=keys,
            kept=None if cache is None else cache.own,
            position=position,
        )
        x = _add(self, x, y, adapter_index, keys, DropoutSite.ATTENTION_OUTPUT)

        normed = layers.RMSNorm(self.config, name="pre_cross_attention_layer_norm")(x)
        folded = normed.reshape(x.shape[0], -1, x.shape[-1])
        cross_attention = layers.Attention(
            self.config,
            self.method,
            DropoutSite.CROSS_ATTENTION_WEIGHTS,
            name="encoder_decoder_attention",
        )
        y, memory = cross_attention(
            folded,
            encoded,
            encoded_mask,
            None,
            adapter_index=adapter_index,
            keys=keys,
            kept=None if cache is None else cache.memory,
            num_folded=x.shape[1],
        )
        y = y.reshape(x.shape)
        x = _add(self, x, y, adapter_index, keys, DropoutSite.CROSS_ATTENTION_OUTPUT)
        cache = None if cache is None else DecoderCache(own, memory)
        return _add_mlp(self, x, adapter_index, keys), cache


def _add(
    layer: EncoderLayer | DecoderLayer,
    x: Float[Array, "batch *rest embed"],
    y: Float[Array, "batch *rest embed"],
    adapter_index: Int[Array, "batch"] | None,
    keys: Key[Array, "batch"] | None,
    site: DropoutSite,
) -> Float[Array, "batch *rest embed"]:
    rate = layer.config.dropout_rate
    return layers.constrain_residual(x + dropout(y, keys, rate=rate, site=site))


def _add_mlp(
    layer: EncoderLayer | DecoderLayer,
    x: Float[Array, "batch *rest embed"],
    adapter_index: Int[Array, "batch"] | None,
    keys: Key[Array, "batch"] | None,
) -> Float[Array, "batch *rest embed"]:
    normed = layers.RMSNorm(layer.config, name="pre_mlp_layer_norm")(x)
    mlp = layers.Mlp(layer.config, layer.method, name="mlp")
    y = mlp(normed, adapter_index=adapter_index, keys=keys)
    return _add(layer, x, y, adapter_index, keys, DropoutSite.MLP_OUTPUT)
