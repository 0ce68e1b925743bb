"""The T5 encoder-decoder (Raffel et al., 2020; T5 1.1 and 1.0).

The encoder runs once an input. The decoder sees all answer choices of an input at
once, `[batch, choices, target_length]`: cross-attention keys and values are computed
once an input, and the choices are folded into the query length, which is exact
because T5's cross-attention has no position bias.
"""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tfew_jax import peft, sharding
from tfew_jax.models import choices, layers, stack
from tfew_jax.models.blocks import DecoderLayer, EncoderLayer
from tfew_jax.models.cache import DecoderCache
from tfew_jax.models.config import T5Config
from tfew_jax.types import DECODER_START_ID


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
        self.encoder_input = stack.Input(self.method, peft.Site.ENCODER_INPUT)
        self.decoder_input = stack.Input(self.method, peft.Site.DECODER_INPUT)
        half = functools.partial(stack.Stack, config, self.method)
        self.encoder = half(
            EncoderLayer, config.num_encoder_layers, "encoder_norm", stack.ENCODER
        )
        self.decoder = half(
            DecoderLayer,
            config.num_decoder_layers,
            "decoder_norm",
            stack.DECODER,
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

        Raises:
            ValueError: If examples are packed and a method lengthens them.
        """
        self._check_packing(segment_ids)
        mask = encoder_input_tokens > 0 if encoder_mask is None else encoder_mask
        x = self.token_embedder(encoder_input_tokens)
        x, mask = self.encoder_input(x, mask, adapter_index)
        attention_mask = mask[:, None, None, :]
        if segment_ids is not None:
            attention_mask = attention_mask & _same(segment_ids, segment_ids)[:, None]
        encoded, _ = self.encoder(
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
        """Float32 logits of the token that follows each decoder input token.

        Raises:
            ValueError: If examples are packed and a method lengthens them.
        """
        self._check_packing(decoder_segment_ids)
        x = self.token_embedder(decoder_input_tokens)
        x, seen = self._lengthen_targets(x, adapter_index)
        causal = jnp.tril(jnp.ones((x.shape[-2], x.shape[-2]), bool))
        mask = causal[None, None, None] & seen
        cross_mask = encoded_mask[:, None, None, :]
        if decoder_segment_ids is not None and encoder_segment_ids is not None:
            same = _same(decoder_segment_ids, decoder_segment_ids)
            mask = mask & same[:, :, None]
            folded = decoder_segment_ids.reshape(encoded.shape[0], -1)
            cross_mask = cross_mask & _same(folded, encoder_segment_ids)[:, None]
        x, _ = self.decoder(
            x,
            mask,
            encoded,
            cross_mask,
            adapter_index=adapter_index,
            keys=dropout_keys,
            num_unread=self._num_before_targets,
        )
        return self._logits(x)

    def decode_together(
        self,
        encoded: Float[Array, "batch length embed"],
        encoded_mask: Bool[Array, "batch length"],
        targets: Int[Array, "batch choices target_length"],
        *,
        adapter_index: Int[Array, "batch"] | None = None,
    ) -> Float[Array, "batch folded vocab"]:
        """Float32 logits of all choices, the one after the start token once.

        See `choices`: the first position is the start token's, the others are those of
        the first choice's inputs behind it, of the second one's, and so on.

        Args:
            encoded: As `encode` returns it.
            encoded_mask: As `encode` returns it.
            targets: Target tokens; all but the last of each are inputs.
            adapter_index: Adapter of each row; needed with a bank.
        """
        _, num_choices, length = targets.shape
        before = self._num_before_targets
        start = jnp.full((len(targets), 1), DECODER_START_ID, targets.dtype)
        own = targets[..., :-1].reshape(len(targets), -1)
        x = self.token_embedder(jnp.concatenate([start, own], axis=1)[:, None])
        x, seen = self._lengthen_targets(x, adapter_index)
        mask = choices.mask(num_choices, length, num_in_front=before)
        x, _ = self.decoder(
            x,
            jnp.asarray(mask)[None, None, None] & seen,
            encoded,
            encoded_mask[:, None, None, :],
            adapter_index=adapter_index,
            keys=None,
            num_unread=before,
            positions=choices.positions(num_choices, length, num_in_front=before),
        )
        return self._logits(x)[:, 0]

    def score_together(
        self,
        encoder_input_tokens: Int[Array, "batch length"],
        targets: Int[Array, "batch choices target_length"],
        *,
        adapter_index: Int[Array, "batch"] | None = None,
    ) -> Float[Array, "batch folded vocab"]:
        """Encodes, then `decode_together`."""
        encoded, mask = self.encode(encoder_input_tokens, adapter_index=adapter_index)
        return self.decode_together(encoded, mask, targets, adapter_index=adapter_index)

    def decode_step(
        self,
        tokens: Int[Array, "batch choices"],
        position: Int[Array, ""],
        cache: DecoderCache,
        encoded_mask: Bool[Array, "batch length"],
        *,
        encoded: Float[Array, "batch length embed"] | None = None,
        adapter_index: Int[Array, "batch"] | None = None,
    ) -> tuple[Float[Array, "batch choices vocab"], DecoderCache]:
        """Float32 logits of the token after `position`, and the cache for the next.

        Args:
            tokens: The decoder input tokens at `position`.
            position: Counted from 0, the start token.
            cache: From `make_cache`, or from the step before.
            encoded_mask: As `encode` returns it.
            encoded: As `encode` returns it; needed in the first step only, from which
                its keys and values are kept.
            adapter_index: Adapter of each row; needed with a bank.
        """
        x = self.token_embedder(tokens[..., None])
        before = self._num_before_targets
        lengthened, seen = self._lengthen_targets(x, adapter_index)
        if encoded is None:
            position, num_unread = position + before, 0
        else:  # what a method puts in front is computed with the start token
            x, num_unread = lengthened, before
        queries = position + jnp.arange(x.shape[-2])[:, None]
        mask = jnp.arange(cache.max_length)[None, :] <= queries
        num_later = cache.max_length - before - 1
        later = jnp.ones((*seen.shape[:-1], num_later), bool)
        x, kept = self.decoder(
            x,
            mask[None, None, None] & jnp.concatenate([seen, later], axis=-1),
            encoded,
            encoded_mask[:, None, None, :],
            adapter_index=adapter_index,
            keys=None,
            position=position,
            cache=cache,
            num_unread=num_unread,
        )
        assert kept is not None
        return self._logits(x)[..., 0, :], kept

    @property
    def _num_before_targets(self) -> int:
        """Positions that the method puts before the start token."""
        return peft.added_positions(self.method, peft.Site.DECODER_INPUT)

    def _lengthen_targets(
        self,
        x: Float[Array, "batch choices target_length embed"],
        adapter_index: Int[Array, "batch"] | None,
    ) -> tuple[
        Float[Array, "batch choices longer embed"], Bool[Array, "batch 1 1 1 longer"]
    ]:
        """Every choice with what the method puts in front, and what of it is seen."""
        x, seen = self.decoder_input(x, jnp.ones(x.shape[:-1], bool), adapter_index)
        return x, seen[:, :1, None, None, :]  # all choices have the same in front

    def _check_packing(self, segment_ids: Int[Array, "batch *rest"] | None) -> None:
        if segment_ids is not None and self.method and self.method.lengthens:
            raise ValueError(
                f"the method {self.method.name!r} puts positions in front of a row, so "
                "that packed examples would share them; give one example a row, "
                "without segment ids"
            )

    def _logits(
        self, x: Float[Array, "batch choices target_length features"]
    ) -> Float[Array, "batch choices target_length vocab"]:
        config = self.config
        logits = self.token_embedder.attend(x) if config.logits_via_embedding else x
        if config.scale_decoder_outputs:
            logits = logits * config.emb_dim**-0.5
        middle = ("activation_choices", "activation_length")
        return sharding.constrain(logits, "batch", *middle, "activation_vocab")

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
