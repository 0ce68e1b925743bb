"""The T5 encoder-decoder (Raffel et al., 2020; T5 1.1 and 1.0).

The encoder runs once an input. The decoder sees all answer choices of an input at
once, `[batch, choices, target_length]`: cross-attention keys and values are computed
once an input, and the choices are folded into the query length, which is exact
because T5's cross-attention has no position bias.
"""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tfew_jax import peft, sharding
from tfew_jax.models import layers
from tfew_jax.models.config import T5Config
from tfew_jax.models.dropout import DropoutSite, dropout, fold_rows, layer_keys

_ENCODER, _DECODER = 0, 1  # folded into a row's key


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
        y = attention(
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
        mask: Bool[Array, "batch #choices 1 target_length target_length"],
        bias: Float[Array, "heads target_length target_length"] | None,
        encoded: Float[Array, "batch length embed"],
        encoded_mask: Bool[Array, "batch 1 #folded length"],
        adapter_index: Int[Array, "batch"] | None,
        keys: Key[Array, "batch"] | None,
    ) -> tuple[Float[Array, "batch choices target_length embed"], None]:
        if bias is None:
            bias = layers.RelativePositionBias(
                self.config, bidirectional=False, name="relpos_bias"
            )(x.shape[-2])
        normed = layers.RMSNorm(self.config, name="pre_self_attention_layer_norm")(x)
        self_attention = layers.Attention(
            self.config,
            self.method,
            DropoutSite.ATTENTION_WEIGHTS,
            name="self_attention",
        )
        y = self_attention(
            normed, normed, mask, bias, adapter_index=adapter_index, keys=keys
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
        y = cross_attention(
            folded, encoded, encoded_mask, None, adapter_index=adapter_index, keys=keys
        )
        y = y.reshape(x.shape)
        x = _add(self, x, y, adapter_index, keys, DropoutSite.CROSS_ATTENTION_OUTPUT)
        return _add_mlp(self, x, adapter_index, keys), None


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


class Stack(nn.Module):
    """The layers of one half with its position bias, final norm and dropout.

    Attributes:
        config: Shape of the model.
        method: Parameter-efficient method to apply, or None.
        layer: EncoderLayer or DecoderLayer.
        num_layers: How many of them.
        norm_name: Name of the final norm.
        half: What is folded into the dropout keys of this half.
        has_logits: Whether a kernel makes logits of the outputs.
    """

    config: T5Config
    method: peft.PeftMethod | None
    layer: type[EncoderLayer] | type[DecoderLayer]
    num_layers: int
    norm_name: str
    half: int
    has_logits: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *rest length embed"],
        mask: Bool[Array, "batch *any length"],
        *memory: Array,
        adapter_index: Int[Array, "batch"] | None,
        keys: Key[Array, "batch"] | None,
    ) -> Float[Array, "batch *rest length features"]:
        config = self.config
        keys = fold_rows(keys, self.half)
        end_keys = fold_rows(keys, self.num_layers)  # layers take 0 ... num_layers - 1
        rate = config.dropout_rate
        x = dropout(x, end_keys, rate=rate, site=DropoutSite.EMBEDDING)
        x = layers.constrain_residual(x)
        bias = None
        if not config.relpos_per_layer:
            bias = layers.RelativePositionBias(
                config, bidirectional=self.half == _ENCODER, name="relpos_bias"
            )(x.shape[-2])
        shared = (mask, bias, *memory, adapter_index)
        x = self._run_layers(x, shared, layer_keys(keys, self.num_layers))
        x = layers.RMSNorm(config, name=self.norm_name)(x)
        x = dropout(x, end_keys, rate=rate, site=DropoutSite.FINAL_NORM)
        return layers.Logits(config, name="logits_dense")(x) if self.has_logits else x

    def _run_layers(
        self, x: Array, shared: tuple[Any, ...], keys: Key[Array, "layers batch"] | None
    ) -> Array:
        layer: Any = self.layer
        if self.config.remat:
            layer = nn.remat(layer, prevent_cse=not self.config.scan_layers)
        if self.config.scan_layers:
            scanned = nn.scan(
                layer,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=(  # pyright: ignore[reportArgumentType] -- typed as one int
                    *(nn.broadcast for _ in shared),
                    nn.broadcast if keys is None else 0,
                ),
                length=self.num_layers,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            stack = scanned(self.config, self.method, name="layers")
            return stack(x, *shared, keys)[0]
        for i in range(self.num_layers):
            one = layer(self.config, self.method, name=f"layers_{i}")
            x, _ = one(x, *shared, None if keys is None else keys[i])
        return x


class EncoderInput(nn.Module):
    """Where a method may lengthen the embedded input; holds what it adds there."""

    method: peft.PeftMethod | None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length embed"],
        mask: Bool[Array, "batch length"],
        adapter_index: Int[Array, "batch"] | None,
    ) -> tuple[Float[Array, "batch longer embed"], Bool[Array, "batch longer"]]:
        site = peft.Site.ENCODER_INPUT
        return peft.lengthen(self.method, site, x, mask, adapter_index)


class T5(nn.Module):
    """T5 with at most one parameter-efficient method.

    Attributes:
        config: Shape of the model.
        method: Parameter-efficient method to apply, or None for the plain model.
    """

    config: T5Config
    method: peft.PeftMethod | None = None

    def setup(self) -> None:
        config = self.config
        self.token_embedder = layers.TokenEmbedder(config)
        self.encoder_input = EncoderInput(self.method)
        stack = functools.partial(Stack, config, self.method)
        self.encoder = stack(
            EncoderLayer, config.num_encoder_layers, "encoder_norm", _ENCODER
        )
        self.decoder = stack(
            DecoderLayer,
            config.num_decoder_layers,
            "decoder_norm",
            _DECODER,
            has_logits=not config.logits_via_embedding,
        )

    def encode(
        self,
        encoder_input_tokens: Int[Array, "batch length"],
        *,
        encoder_mask: Bool[Array, "batch length"] | None = None,
        segment_ids: Int[Array, "batch length"] | None = None,
        adapter_index: Int[Array, "batch"] | None = None,
        dropout_keys: Key[Array, "batch"] | None = None,
    ) -> tuple[Float[Array, "batch longer embed"], Bool[Array, "batch longer"]]:
        """Encodes inputs; a lengthening method returns more positions than tokens.

        Args:
            encoder_input_tokens: Token ids, 0 at pads.
            encoder_mask: True at real tokens; by default where the id is not 0.
            segment_ids: Example of each token where examples are packed.
            adapter_index: Adapter of each row; needed with a bank.
            dropout_keys: Key of each row in training; None switches dropout off.

        Returns:
            The encoded input and its mask.
        """
        mask = encoder_input_tokens > 0 if encoder_mask is None else encoder_mask
        x = self.token_embedder(encoder_input_tokens)
        x, mask = self.encoder_input(x, mask, adapter_index)
        attention_mask = mask[:, None, None, :]
        if segment_ids is not None:
            attention_mask = attention_mask & _same(segment_ids, segment_ids)[:, None]
        encoded = self.encoder(
            x, attention_mask, adapter_index=adapter_index, keys=dropout_keys
        )
        return encoded, mask

    def decode(
        self,
        encoded: Float[Array, "batch length embed"],
        encoded_mask: Bool[Array, "batch length"],
        decoder_input_tokens: Int[Array, "batch choices target_length"],
        *,
        encoder_segment_ids: Int[Array, "batch length"] | None = None,
        decoder_segment_ids: Int[Array, "batch choices target_length"] | None = None,
        adapter_index: Int[Array, "batch"] | None = None,
        dropout_keys: Key[Array, "batch"] | None = None,
    ) -> Float[Array, "batch choices target_length vocab"]:
        """Float32 logits of the token that follows each decoder input token."""
        config = self.config
        target_length = decoder_input_tokens.shape[-1]
        causal = jnp.tril(jnp.ones((target_length, target_length), bool))
        mask = causal[None, None, None]
        cross_mask = encoded_mask[:, None, None, :]
        if decoder_segment_ids is not None and encoder_segment_ids is not None:
            same = _same(decoder_segment_ids, decoder_segment_ids)
            mask = mask & same[:, :, None]
            folded = decoder_segment_ids.reshape(encoded.shape[0], -1)
            cross_mask = cross_mask & _same(folded, encoder_segment_ids)[:, None]
        mask = jnp.broadcast_to(mask, (encoded.shape[0], *mask.shape[1:]))
        x = self.token_embedder(decoder_input_tokens)
        x = self.decoder(
            x,
            mask,
            encoded,
            cross_mask,
            adapter_index=adapter_index,
            keys=dropout_keys,
        )
        logits = self.token_embedder.attend(x) if config.logits_via_embedding else x
        if config.scale_decoder_outputs:
            logits = logits * config.emb_dim**-0.5
        return sharding.constrain(
            logits,
            "batch",
            "activation_choices",
            "activation_length",
            "activation_vocab",
        )

    def __call__(
        self,
        encoder_input_tokens: Int[Array, "batch length"],
        decoder_input_tokens: Int[Array, "batch choices target_length"],
        *,
        encoder_mask: Bool[Array, "batch length"] | None = None,
        encoder_segment_ids: Int[Array, "batch length"] | None = None,
        decoder_segment_ids: Int[Array, "batch choices target_length"] | None = None,
        adapter_index: Int[Array, "batch"] | None = None,
        dropout_keys: Key[Array, "batch"] | None = None,
    ) -> tuple[
        Float[Array, "batch choices target_length vocab"],
        Float[Array, "batch longer embed"],
    ]:
        """Logits in float32, and the encoded input. Arguments as in the parts."""
        encoded, mask = self.encode(
            encoder_input_tokens,
            encoder_mask=encoder_mask,
            segment_ids=encoder_segment_ids,
            adapter_index=adapter_index,
            dropout_keys=dropout_keys,
        )
        logits = self.decode(
            encoded,
            mask,
            decoder_input_tokens,
            encoder_segment_ids=encoder_segment_ids,
            decoder_segment_ids=decoder_segment_ids,
            adapter_index=adapter_index,
            dropout_keys=dropout_keys,
        )
        return logits, encoded


def _same(
    query_segments: Int[Array, "*any query_length"],
    key_segments: Int[Array, "*any key_length"],
) -> Bool[Array, "*any query_length key_length"]:
    """True where a query and a key belong to the same packed example."""
    return query_segments[..., :, None] == key_segments[..., None, :]
