"""One half of the model: its layers with position bias, final norm and dropout."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from tfew_jax import peft
from tfew_jax.models import layers
from tfew_jax.models.blocks import DecoderLayer, EncoderLayer
from tfew_jax.models.cache import DecoderCache
from tfew_jax.models.config import T5Config
from tfew_jax.models.dropout import DropoutSite, dropout, fold_rows, layer_keys

ENCODER, DECODER = 0, 1  # folded into a row's key


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
        mask: Bool[Array, "batch *any key_length"],
        *memory: Array | None,
        adapter_index: Int[Array, "batch"] | None,
        keys: Key[Array, "batch"] | None,
        position: Int[Array, ""] | None = None,
        cache: DecoderCache | None = None,
        num_unread: int = 0,
        positions: Int[np.ndarray, "key_length"] | None = None,
    ) -> tuple[Float[Array, "batch *rest outputs features"], DecoderCache | None]:
        """The outputs of all positions but the first `num_unread`.

        `positions` are the numbers of the positions where they do not count up.
        """
        config = self.config
        keys = fold_rows(keys, self.half)
        end_keys = fold_rows(keys, self.num_layers)  # layers take 0 ... num_layers - 1
        rate = config.dropout_rate
        x = dropout(x, end_keys, rate=rate, site=DropoutSite.EMBEDDING)
        x = layers.constrain_residual(x)
        bias = None
        if not config.relpos_per_layer:
            bias = layers.RelativePositionBias(
                config, bidirectional=self.half == ENCODER, name="relpos_bias"
            )(
                mask.shape[-1],
                position,
                num_queries=x.shape[-2],
                positions=positions,
            )
        shared = (mask, bias, *memory, adapter_index)
        each = (layer_keys(keys, self.num_layers),)
        if self.half == DECODER:
            shared, each = (*shared, position), (*each, cache)
        x, cache = self._run_layers(x, shared, each)
        x = x[..., num_unread:, :]
        x = layers.RMSNorm(config, name=self.norm_name)(x)
        x = dropout(x, end_keys, rate=rate, site=DropoutSite.FINAL_NORM)
        x = layers.Logits(config, name="logits_dense")(x) if self.has_logits else x
        return x, cache

    def _run_layers(
        self, x: Array, shared: tuple[Any, ...], each: tuple[Any, ...]
    ) -> tuple[Array, DecoderCache | None]:
        """Runs the layers on what they share and on what each has on axis 0."""
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
                    *(nn.broadcast if own is None else 0 for own in each),
                ),
                length=self.num_layers,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            return scanned(self.config, self.method, name="layers")(x, *shared, *each)
        caches = []
        for i in range(self.num_layers):
            one = layer(self.config, self.method, name=f"layers_{i}")
            x, cache = one(x, *shared, *jax.tree.map(lambda a, i=i: a[i], each))
            caches.append(cache)
        return x, jax.tree.map(lambda *parts: jnp.stack(parts), *caches)


class Input(nn.Module):
    """Where a method may lengthen embedded tokens; holds what it adds there.

    Attributes:
        method: Parameter-efficient method to apply, or None.
        site: Of the encoder or of the decoder.
    """

    method: peft.PeftMethod | None
    site: peft.Site

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *rest length embed"],
        mask: Bool[Array, "batch *rest length"],
        adapter_index: Int[Array, "batch"] | None,
    ) -> tuple[
        Float[Array, "batch *rest longer embed"], Bool[Array, "batch *rest longer"]
    ]:
        return peft.lengthen(self.method, self.site, x, mask, adapter_index)
