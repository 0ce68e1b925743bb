"""Model tuning: all parameters are trained; the baseline of both papers.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3.3 and Table 3, "full
model fine-tuning"; Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Figure 1,
"model tuning". Nothing is frozen, so that an adapter is as large as the model, which is
where a run starts.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn

from tfew_jax.peft._base import PeftMethod, Site
from tfew_jax.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Full(PeftMethod):
    """All parameters of the model. It has no bank."""

    name: ClassVar[str] = "full"
    trainable: ClassVar[str] = ""  # stands in every path
    adds_parameters: ClassVar[bool] = False
    banks: ClassVar[bool] = False
    recipe: ClassVar[Mapping[str, Any]] = {"learning_rate": 3e-4}  # T-Few's

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_adapters is not None:
            raise ValueError(
                "model tuning changes the model itself, so that several have no "
                "frozen model in common; num_adapters must be None"
            )

    def module_at(self, site: Site) -> nn.Module | None:
        del site  # the model stays as it is
        return None

    def fold(self, params: Params) -> Params:
        return params

    def num_parameters(self, config: Any) -> int:
        """Of the whole model; T5 1.1's are those of Lester et al., Table 4."""
        embed, mlp, joined_kv = config.emb_dim, config.mlp_dim, config.joined_kv
        attention = 4 * embed * joined_kv + embed  # with the norm before it
        feed_forward = (len(config.mlp_kernels) + 1) * embed * mlp + embed
        encoder, decoder = config.num_encoder_layers, config.num_decoder_layers
        tables = encoder + decoder if config.relpos_per_layer else 2
        vocabularies = 1 if config.logits_via_embedding else 2
        return (
            vocabularies * config.vocab_size * embed
            + encoder * (attention + feed_forward)
            + decoder * (2 * attention + feed_forward)
            + 2 * embed  # the last norms
            + tables * config.relpos_buckets * config.num_heads
        )


METHOD = Full
