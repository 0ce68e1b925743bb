"""The mesh, and the one table from logical axes to mesh axes.

Every parameter is boxed with one logical name a dimension when it is created, and
activations are constrained under names of their own, so that a mesh with an `fsdp`
axis gathers weights and never un-shards the batch.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Shaped

MESH_AXES = ("data", "fsdp", "model")

# Parameters are named as in T5X. `activation_*` are the same dimensions in
# activations, which must not follow `embed` onto the fsdp axis.
LOGICAL_AXIS_RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("batch", ("data", "fsdp")),
    ("vocab", "model"),
    ("embed", "fsdp"),
    ("joined_kv", "model"),
    ("mlp", "model"),
    ("heads", "model"),
    ("kv", None),
    ("relpos_buckets", None),
    ("layers", None),
    ("adapters", None),
    ("prompt", None),
    ("prompt_embed", None),  # replicated: one host can write a whole prompt
    ("rank", None),
    ("activation_choices", None),
    ("activation_length", None),
    ("activation_embed", None),
    ("activation_joined_kv", "model"),
    ("activation_mlp", "model"),
    ("activation_vocab", "model"),
)


def make_mesh(
    *,
    num_data_shards: int | None = None,
    num_fsdp_shards: int = 1,
    num_model_shards: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """Builds the (data, fsdp, model) mesh.

    Args:
        num_data_shards: Shards of the batch; None takes all devices that are left.
        num_fsdp_shards: Shards of the batch and of the parameters' `embed`.
        num_model_shards: Shards of heads, hidden layers and vocabulary.
        devices: Devices to use; all that JAX knows by default.

    Raises:
        ValueError: If the shards do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    inner = num_fsdp_shards * num_model_shards
    if inner < 1 or len(devices) % inner:
        raise ValueError(
            f"num_fsdp_shards={num_fsdp_shards} times num_model_shards="
            f"{num_model_shards} does not divide the {len(devices)} available devices"
        )
    if num_data_shards is None:
        num_data_shards = len(devices) // inner
    if num_data_shards * inner != len(devices):
        raise ValueError(
            f"a mesh of {num_data_shards} x {num_fsdp_shards} x {num_model_shards} "
            f"needs {num_data_shards * inner} devices; {len(devices)} are available"
        )
    return jax.make_mesh(
        (num_data_shards, num_fsdp_shards, num_model_shards),
        MESH_AXES,
        axis_types=(AxisType.Auto,) * len(MESH_AXES),
        devices=devices,
    )


def boxed(init: Callable[..., Any], axes: Sequence[str]) -> Callable[..., Any]:
    """An initialiser whose values carry the logical name of every dimension.

    Args:
        init: Initialiser of the plain value.
        axes: One name a dimension.
    """
    return nn.with_logical_partitioning(init, tuple(axes))


def constrain(x: Shaped[Array, "..."], *names: str | None) -> Shaped[Array, "..."]:
    """Constrains an activation by logical names; without a mesh it does nothing."""
    return nn.with_logical_constraint(x, names)


def param_shardings(boxed: Any, mesh: Mesh) -> Any:
    """Sharding of every parameter of a boxed tree, by the table above."""
    specs = nn.get_partition_spec(boxed)
    return nn.logical_to_mesh_sharding(specs, mesh, list(LOGICAL_AXIS_RULES))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of arrays whose first dimension is `batch`."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
