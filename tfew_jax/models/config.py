"""Shape of a T5 model; field names are those of T5X's `T5Config`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

_ACTIVATIONS = ("gelu", "gelu_exact", "relu", "silu", "linear")


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
    """Shape and numerics of a T5 encoder-decoder; the defaults are T5 1.1's.

    Attributes:
        vocab_size: Rows of the embedding table (T5 pads its 32,100 ids to 32,128).
        emb_dim: Size of the residual stream.
        num_heads: Attention heads.
        head_dim: Size of one head; `num_heads * head_dim` need not be `emb_dim`.
        mlp_dim: Hidden size of the feed-forward block.
        num_encoder_layers: Layers of the encoder.
        num_decoder_layers: Layers of the decoder.
        mlp_activations: One activation for the ungated block of T5 1.0, two for the
            gated block: their branches are multiplied. `gelu` is the tanh form.
        logits_via_embedding: Whether the embedding table also makes the logits.
        scale_decoder_outputs: Whether logits are scaled by emb_dim ** -0.5 (T5 1.0).
        relpos_buckets: Buckets of the relative position bias.
        relpos_max_distance: Distance from which on all positions share a bucket.
        relpos_per_layer: Whether each layer has its own bias table, as in T5X's
            scanned checkpoints, or one table serves the whole stack.
        layer_norm_epsilon: Added to the mean square.
        dropout_rate: Rate in training; evaluation has none.
        dtype: Of the computation, float32 or bfloat16 (float16 overflows in T5).
        scan_layers: Whether layers are stacked and scanned, which compiles faster;
            the function is the same.
        remat: Whether the backward pass computes each layer again.
    """

    vocab_size: int = 32128
    emb_dim: int
    num_heads: int
    head_dim: int = 64
    mlp_dim: int
    num_encoder_layers: int
    num_decoder_layers: int
    mlp_activations: tuple[str, ...] = ("gelu", "linear")
    logits_via_embedding: bool = False
    scale_decoder_outputs: bool = False
    relpos_buckets: int = 32
    relpos_max_distance: int = 128
    relpos_per_layer: bool = False
    layer_norm_epsilon: float = 1e-6
    dropout_rate: float = 0.1
    dtype: str = "float32"
    scan_layers: bool = True
    remat: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (int, "int") and value < 1:
                raise ValueError(f"{field.name} must be positive, got {value}")
        if not 1 <= len(self.mlp_activations) <= 2 or any(
            name not in _ACTIVATIONS for name in self.mlp_activations
        ):
            raise ValueError(
                f"mlp_activations must be one or two of {', '.join(_ACTIVATIONS)}; "
                f"got {self.mlp_activations}"
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(
                f"dtype must be float32 or bfloat16, got {self.dtype!r}"
                " (float16 overflows in T5)"
            )
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(f"dropout_rate must be in [0, 1), got {self.dropout_rate}")

    @property
    def joined_kv(self) -> int:
        """Size of all heads together."""
        return self.num_heads * self.head_dim

    @property
    def mlp_kernels(self) -> tuple[str, ...]:
        """Names of the feed-forward block's input kernels."""
        return ("wi",) if len(self.mlp_activations) == 1 else ("wi_0", "wi_1")

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain JSON values."""
        fields = dataclasses.asdict(self)
        return {**fields, "mlp_activations": list(self.mlp_activations)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "T5Config":
        """Builds a config from `to_dict`.

        Raises:
            ValueError: If a field is unknown or missing.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        required = {
            field.name
            for field in dataclasses.fields(cls)
            if field.default is dataclasses.MISSING
        }
        if unknown := sorted(set(fields) - known):
            raise ValueError(
                f"unknown model fields {unknown}; known: {', '.join(sorted(known))}"
            )
        if missing := sorted(required - set(fields)):
            raise ValueError(f"the model config lacks {', '.join(missing)}")
        activations = tuple(fields.get("mlp_activations", cls.mlp_activations))
        return cls(**{**fields, "mlp_activations": activations})


SIZES: Mapping[str, T5Config] = {
    name: T5Config(
        emb_dim=emb_dim,
        num_heads=num_heads,
        head_dim=head_dim,
        mlp_dim=mlp_dim,
        num_encoder_layers=num_layers,
        num_decoder_layers=num_layers,
    )
    for name, emb_dim, num_heads, head_dim, mlp_dim, num_layers in (
        ("tiny", 64, 4, 16, 128, 2),
        ("small", 512, 6, 64, 1024, 8),
        ("base", 768, 12, 64, 2048, 12),
        ("large", 1024, 16, 64, 2816, 24),
        ("xl", 2048, 32, 64, 5120, 24),
        ("xxl", 4096, 64, 64, 10240, 24),
    )
}
