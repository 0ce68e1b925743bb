"""The units that (IA)^3 inhibits and amplifies.

Liu et al., 2022 (https://arxiv.org/abs/2205.05638), Section 3.3: keys, values and the
hidden layer of the feed-forward block are multiplied by learned vectors that start at
one. A unit below one is inhibited, above one amplified; one below zero is turned round
as well, and counts as inhibited the more the lower it is.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

NEAR_ONE = 1e-3  # what counts as left alone

_PATH = re.compile(
    r"(?P<half>encoder|decoder)/layers_(?P<layer>\d+)/(?P<block>[a-z_]+)/"
    r"ia3_(?P<site>key|value|mlp_hidden)/scale"
)
_BLOCKS = {  # as they follow each other in a layer, and as titles name them
    "attention": "self-attention",
    "self_attention": "self-attention",
    "encoder_decoder_attention": "cross-attention",
    "mlp": "feed-forward",
}
_SITES = {"key": "key", "value": "value", "mlp_hidden": "hidden layer"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Vector:
    """One learned vector of (IA)^3.

    Attributes:
        half: encoder or decoder.
        layer: Number of the layer in its half, from 0.
        block: The sub-layer, under the name of its parameters.
        site: key, value or mlp_hidden.
        values: What each unit is multiplied by.
    """

    half: str
    layer: int
    block: str
    site: str
    values: Float[np.ndarray, "units"]

    @property
    def place(self) -> str:
        """Where in a layer, in words: `encoder self-attention, key`."""
        return _place(self.half, self.block, self.site)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unit:
    """One unit and its factor."""

    half: str
    layer: int
    block: str
    site: str
    unit: int
    value: float

    @property
    def place(self) -> str:
        """Where in a layer, in words."""
        return _place(self.half, self.block, self.site)


def vectors_of(params: Mapping[str, Shaped[np.ndarray, "units"]]) -> list[Vector]:
    """The vectors of an adapter, the encoder's first, layer by layer.

    Args:
        params: Arrays by path, one layer an array, as adapters are stored.

    Raises:
        ValueError: If a path is none of (IA)^3's, or a number is not finite.
    """
    vectors = []
    for path, array in params.items():
        found = _PATH.fullmatch(path)
        if found is None or found["block"] not in _BLOCKS:
            raise ValueError(f"{path} is no vector of (IA)^3")
        values = np.asarray(array, np.float32)
        if not np.isfinite(values).all():
            raise ValueError(
                f"{path} holds NaN or infinity; the file is damaged or the training "
                "that wrote it diverged"
            )
        vectors.append(
            Vector(
                half=found["half"],
                layer=int(found["layer"]),
                block=found["block"],
                site=found["site"],
                values=values,
            )
        )
    return sorted(vectors, key=_order)


def extremes(vectors: Sequence[Vector], top: int = 5) -> tuple[list[Unit], list[Unit]]:
    """The most inhibited and the most amplified units of all the given vectors.

    Units at one exactly are neither. Of equal ones the first in the model comes first.

    Args:
        vectors: All of an adapter's, or some.
        top: Most units in each list.

    Raises:
        ValueError: If `top` is not positive.
    """
    if top < 1:
        raise ValueError(f"top must be 1 or more, got {top}")
    if not vectors:
        return [], []
    values = np.concatenate([vector.values for vector in vectors])
    lowest = np.argsort(values, kind="stable")[:top]
    highest = np.argsort(-values, kind="stable")[:top]
    starts = np.cumsum([0, *(vector.values.size for vector in vectors)])
    unit_at = functools.partial(_unit_at, vectors, starts)
    return (
        [unit_at(int(at)) for at in lowest if values[at] < 1],
        [unit_at(int(at)) for at in highest if values[at] > 1],
    )


def summary(vectors: Sequence[Vector]) -> dict[str, float | int]:
    """Numbers about all units of the given vectors.

    Returns:
        units, mean, std, min, max, share_near_one (within 0.001 of one) and
        num_negative.
    """
    values = np.concatenate([vector.values for vector in vectors]).astype(np.float64)
    return {
        "units": values.size,
        "mean": float(values.mean()),
        "std": float(values.std()),
        "min": float(values.min()),
        "max": float(values.max()),
        "share_near_one": float(np.mean(np.abs(values - 1) <= NEAR_ONE)),
        "num_negative": int(np.sum(values < 0)),
    }


def by_place(vectors: Sequence[Vector]) -> dict[str, list[Vector]]:
    """The vectors of all layers by where they act in a layer, in the model's order."""
    places: dict[str, list[Vector]] = {}
    for vector in sorted(vectors, key=lambda v: (_order(v)[0], *_order(v)[2:])):
        places.setdefault(vector.place, []).append(vector)
    return {
        place: sorted(some, key=lambda vector: vector.layer)
        for place, some in places.items()
    }


def _place(half: str, block: str, site: str) -> str:
    return f"{half} {_BLOCKS[block]}, {_SITES[site]}"


def _order(vector: Vector) -> tuple[int, int, int, int]:
    return (
        vector.half != "encoder",
        vector.layer,
        list(_BLOCKS).index(vector.block),
        list(_SITES).index(vector.site),
    )


def _unit_at(vectors: Sequence[Vector], starts: np.ndarray, at: int) -> Unit:
    """The unit at a place of the joined values."""
    number = int(np.searchsorted(starts, at, side="right")) - 1
    vector, unit = vectors[number], at - int(starts[number])
    return Unit(
        half=vector.half,
        layer=vector.layer,
        block=vector.block,
        site=vector.site,
        unit=unit,
        value=float(vector.values[unit]),
    )
