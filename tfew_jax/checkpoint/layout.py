"""Which parameters a model and an adapter have, by path and shape.

Paths are T5X's names joined by '/', one layer a tensor ("unstacked"), as on disk.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
from flax import traverse_util

from tfew_jax import models
from tfew_jax.models.config import T5Config
from tfew_jax.peft import PeftMethod
from tfew_jax.types import Params

Shapes = Mapping[str, tuple[int, ...]]

_KINDS = {"int": (int,), "float": (float, int), "bool": (bool,), "str": (str,)}


class MismatchError(ValueError):
    """Arrays that are not those of a config."""


def flatten(params: Params) -> dict[str, Any]:
    """Nested tree to {path: leaf}."""
    return traverse_util.flatten_dict(dict(params), sep="/")


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{path: leaf} to nested tree."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")


def shapes_of(params: Params) -> dict[str, tuple[int, ...]]:
    """Path and shape of every leaf."""
    return {path: tuple(leaf.shape) for path, leaf in flatten(params).items()}


def model_shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter of the plain model."""
    return dict(_abstract_shapes(config, None))


def adapter_shapes(config: T5Config, method: PeftMethod) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter that the method trains on that model.

    Raises:
        ValueError: If the method trains nothing there.
    """
    shapes = _abstract_shapes(config, method)
    tree = unflatten({p: jax.ShapeDtypeStruct(s, "float32") for p, s in shapes.items()})
    return {path: shapes[path] for path in sorted(method.trainable_paths(tree))}


def added_shapes(config: T5Config, method: PeftMethod) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter that the plain model does not have."""
    shapes = _abstract_shapes(config, method)
    plain = _abstract_shapes(config, None)
    return {path: shapes[path] for path in sorted(shapes.keys() - plain.keys())}


@functools.cache  # a run asks many times, and tracing a model takes a while
def _abstract_shapes(
    config: T5Config, method: PeftMethod | None
) -> dict[str, tuple[int, ...]]:
    # Scanned layers are traced once, however deep the model; split here by hand.
    scanned = dataclasses.replace(config, scan_layers=True)
    shapes: dict[str, tuple[int, ...]] = {}
    for path, leaf in flatten(models.abstract_params(scanned, method)).items():
        stack, found, rest = path.partition("/layers/")
        if not found:
            shapes[path] = tuple(leaf.shape)
            continue
        for layer in range(leaf.shape[0]):
            shapes[f"{stack}/layers_{layer}/{rest}"] = tuple(leaf.shape[1:])
    return shapes


def check(found: Shapes, expected: Shapes, *, source: str, advice: str) -> None:
    """Compares the arrays of a file with what a config asks for.

    Raises:
        MismatchError: Naming the first missing, unexpected or differently shaped
            array.
    """
    for word, names in (
        ("lacks", sorted(expected.keys() - found.keys())),
        ("has unexpected", sorted(found.keys() - expected.keys())),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise MismatchError(
                f"{source} {word} {', '.join(names[:3])}{more}; {advice}"
            )
    for name in sorted(expected):
        if found[name] != expected[name]:
            raise MismatchError(
                f"{source}: {name} has shape {found[name]}, expected {expected[name]}; "
                f"{advice}"
            )


def config_from_shapes(shapes: Shapes, *, source: str, **flags: Any) -> T5Config:
    """Reads a model's sizes off its parameters.

    What shapes cannot tell is T5 1.1's, or T5 1.0's where the block is not gated or
    the embedding is the output layer; `flags` override it.

    Args:
        shapes: Path and shape of the parameters, unstacked.
        source: File or directory, for errors.
        **flags: Fields of `T5Config`.

    Raises:
        ValueError: If a parameter that tells a size is missing, or a flag is unknown
            or contradicts the shapes.
    """

    def shape(path: str) -> tuple[int, ...]:
        if path not in shapes:
            raise ValueError(
                f"{source} lacks {path}, so its sizes cannot be read; "
                "is it a T5 encoder-decoder?"
            )
        return shapes[path]

    def count(stack: str) -> int:
        found = (re.match(rf"{stack}/layers_(\d+)/", path) for path in shapes)
        return 1 + max((int(m.group(1)) for m in found if m), default=-1)

    per_layer = "encoder/layers_0/relpos_bias/rel_embedding" in shapes
    relpos = "encoder/layers_0/relpos_bias" if per_layer else "encoder/relpos_bias"
    heads, buckets = shape(f"{relpos}/rel_embedding")
    heads = flags.get("num_heads", heads)
    inner = shape("encoder/layers_0/attention/query/kernel")[1]
    vocab, embed = shape("token_embedder/embedding")
    gated = "encoder/layers_0/mlp/wi_0/kernel" in shapes
    tied = "decoder/logits_dense/kernel" not in shapes
    read = {
        "vocab_size": vocab,
        "emb_dim": embed,
        "num_heads": heads,
        "head_dim": inner // heads,
        "mlp_dim": shape("encoder/layers_0/mlp/wo/kernel")[0],
        "num_encoder_layers": count("encoder"),
        "num_decoder_layers": count("decoder"),
        "mlp_activations": ("gelu", "linear") if gated else ("relu",),
        "logits_via_embedding": tied,
        "scale_decoder_outputs": tied,
        "relpos_buckets": buckets,
        "relpos_per_layer": per_layer,
    }
    return with_flags(read, flags)


def with_flags(settings: Mapping[str, Any], flags: Mapping[str, Any]) -> T5Config:
    """Config of the given fields, with flags put over them.

    Raises:
        ValueError: If a field is unknown, missing or of the wrong type, or a value is
            not allowed.
    """
    fields = {**settings, **flags}
    for field in dataclasses.fields(T5Config):
        kinds = _KINDS.get(
            str(getattr(field.type, "__name__", field.type)), (list, tuple)
        )
        value = fields.get(field.name, field.default)
        if value is dataclasses.MISSING:
            continue  # from_dict names what is missing
        if not isinstance(value, kinds) or (
            isinstance(value, bool) and bool not in kinds
        ):
            raise ValueError(
                f"{field.name} must be {' or '.join(k.__name__ for k in kinds)}, "
                f"got {value!r}"
            )
    return T5Config.from_dict(fields)


def merge(params: Params, added: Params) -> dict[str, Any]:
    """The tree of both; `added` wins where both have a path."""
    return unflatten({**flatten(params), **flatten(added)})
