"""(IA)^3: rescale inner activations with learned vectors.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3.3:

    attention:     softmax(Q (l_k * K)^T / sqrt(d_k)) (l_v * V)
    feed-forward:  (l_ff * act(W_1 x)) W_2

where `*` broadcasts over length (T5 itself has no 1/sqrt(d_k)). All vectors start at
one, so that an adapted model first computes exactly what the frozen model computes.
Keys and values are rescaled before the head split, as in the reference code. There
the feed-forward vector scales the linear branch of the gated block, which is the same
function; scaling the activated hidden layer also serves the ungated block of T5 1.0,
where the reference code's pattern finds no layer and drops the vector in silence.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import numpy as np
from flax import traverse_util

from tfew_jax.peft import _base
from tfew_jax.peft._base import PeftMethod, Site
from tfew_jax.types import Params

_AXES = {Site.KEY: "joined_kv", Site.VALUE: "joined_kv", Site.MLP_HIDDEN: "mlp"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class IA3(PeftMethod):
    """(IA)^3 at the given sites; the paper uses all three.

    Attributes:
        sites: Some of key, value, mlp_hidden.
    """

    name: ClassVar[str] = "ia3"
    trainable: ClassVar[str] = r"(^|/)ia3_[a-z_]+/scale$"

    sites: tuple[str, ...] = tuple(_AXES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if unknown := [site for site in self.sites if site not in set(_AXES)]:
            raise ValueError(
                f"(IA)^3 can act at {', '.join(_AXES)}; "
                f"sites contains {', '.join(unknown)}"
            )
        if not self.sites or len(set(self.sites)) != len(self.sites):
            raise ValueError(
                f"sites must name some of {', '.join(_AXES)} once each; "
                f"got {self.sites}"
            )

    def module_at(self, site: Site) -> nn.Module | None:
        if site not in self.sites:
            return None
        return _base.Rescale(_AXES[site], self.num_adapters, name=f"ia3_{site}")

    def trainable_paths(self, params: Params) -> set[str]:
        paths = super().trainable_paths(params)
        for site in self.sites:
            if not any(f"ia3_{site}/" in path for path in paths):
                raise ValueError(f"no layer of the parameters has the site {site}")
        return paths

    def fold(self, params: Params) -> Params:
        if self.num_adapters is not None:
            raise ValueError("a bank of adapters does not fold; take one adapter of it")
        flat: dict[Any, Any] = dict(traverse_util.flatten_dict(dict(params)))
        folded = {
            path: leaf
            for path, leaf in flat.items()
            if not re.search(self.trainable, "/".join(path))
        }
        for path in flat.keys() - folded.keys():
            *layer, vector, _ = path
            site = vector.removeprefix("ia3_")
            scale = flat[path]
            if site == Site.MLP_HIDDEN:  # the hidden layer is the input of wo
                kernel, scale = (*layer, "wo", "kernel"), scale[..., :, None]
            else:
                kernel, scale = (*layer, site, "kernel"), scale[..., None, :]
            folded[kernel] = (scale * flat[kernel]).astype(flat[kernel].dtype)
        return traverse_util.unflatten_dict(folded)

    def bank(self, others: Iterable[PeftMethod], num_adapters: int) -> PeftMethod:
        """As every method's, but sites may differ: where one does not act it is one."""
        every = [self, *others]
        at = {site for method in every for site in getattr(method, "sites", ())}
        sites = tuple(site for site in _AXES if site in at)
        first, *rest = [
            dataclasses.replace(method, sites=sites)
            if isinstance(method, IA3)
            else method
            for method in every
        ]
        return PeftMethod.bank(first, rest, num_adapters)

    def slot(
        self, params: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, np.ndarray]:
        return {
            path: np.asarray(params.get(path, np.ones(shape)), np.float32)
            for path, shape in shapes.items()
        }

    def compose(
        self,
        parts: Sequence[tuple[PeftMethod, Mapping[str, Any]]],
        weights: Sequence[float] | None,
    ) -> tuple[PeftMethod, dict[str, np.ndarray]]:
        """Products of the vectors, or weighted sums; without a vector it is one."""
        method = self.bank([method for method, _ in parts[1:]], 1)
        composed = {}
        for path in sorted({path for _, params in parts for path in params}):
            vectors = np.broadcast_arrays(
                *(np.asarray(params.get(path, 1.0), float) for _, params in parts)
            )
            if weights is None:
                vector = np.prod(vectors, axis=0)
            else:
                vector = np.tensordot(weights, vectors, axes=1)
            composed[path] = np.asarray(vector, np.float32)
        return dataclasses.replace(method, num_adapters=None), composed

    def num_parameters(self, config: Any) -> int:
        """L_enc (2 d_kv + d_ff) + L_dec (4 d_kv + d_ff) at all sites; Section 3.3."""
        joined_kv = config.num_heads * config.head_dim
        attention = joined_kv * sum(s in self.sites for s in (Site.KEY, Site.VALUE))
        mlp = config.mlp_dim * (Site.MLP_HIDDEN in self.sites)
        one = config.num_encoder_layers * (attention + mlp)
        one += config.num_decoder_layers * (2 * attention + mlp)
        return one * (self.num_adapters or 1)


METHOD = IA3
