"""The split of the parameters and what training changes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util
from jaxtyping import Array, Int, Key, PyTree

from tfew_jax import peft, types

_DROPOUT_STREAM = 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training changes; every leaf leads with the `adapters` axis.

    The fields have no array types, because trees of shapes, of shardings and the
    state of one adapter under `vmap` are of this class too.

    Attributes:
        step: Updates done by each adapter, int32 [adapters].
        trainable: The trainable half of the parameters, float32.
        opt_state: State of the optimizer.
        failed: Whether an adapter was stopped by a loss that is not finite, bool
            [adapters].
    """

    step: Any
    trainable: PyTree
    opt_state: PyTree
    failed: Any


def partition(params: PyTree, method: peft.PeftMethod) -> tuple[PyTree, PyTree]:
    """Splits parameters, or any tree of their structure, in trainable and frozen.

    Args:
        params: Nested dict.
        method: Says which paths are trained.

    Returns:
        Two nested dicts; together they have every leaf once.

    Raises:
        ValueError: If nothing would be trained.
    """
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    paths = method.trainable_paths(params)
    halves = (
        {path: leaf for path, leaf in flat.items() if (path in paths) == is_trainable}
        for is_trainable in (True, False)
    )
    trainable, frozen = (traverse_util.unflatten_dict(half, sep="/") for half in halves)
    return trainable, frozen


def frozen_half(params: PyTree, method: peft.PeftMethod) -> PyTree:
    """What stays frozen of a plain model's parameters when a method trains."""
    return params if method.adds_parameters else partition(params, method)[1]


def combine(trainable: PyTree, frozen: PyTree) -> PyTree:
    """The inverse of `partition`.

    Raises:
        ValueError: If both halves hold the same path.
    """
    flat = [traverse_util.flatten_dict(dict(half)) for half in (trainable, frozen)]
    if both := flat[0].keys() & flat[1].keys():
        raise ValueError(
            f"{len(both)} parameters are trainable and frozen at once, the first is "
            f"{'/'.join(min(both))}"
        )
    return traverse_util.unflatten_dict({**flat[1], **flat[0]})


def adapter_keys(seeds: Sequence[int]) -> Key[Array, "adapters"]:
    """The random stream of dropout of each adapter.

    It follows from the adapter's seed alone, not from its place: an adapter trained
    beside others has the stream of its single run. Threefry is named because it gives
    the same numbers under `vmap`, which `rbg` does not.
    """
    return jnp.stack(
        [
            jax.random.fold_in(
                jax.random.key(seed, impl="threefry2x32"), _DROPOUT_STREAM
            )
            for seed in seeds
        ]
    )


def check_keys(keys: Key[Array, "*adapters"]) -> None:
    """Refuses random numbers that are others beside others.

    Raises:
        ValueError: If several adapters have keys of `rbg` or `unsafe_rbg`, or JAX makes
            such keys where none is named.
    """
    if keys.size < 2:
        return
    default = str(getattr(jax.config, "jax_default_prng_impl", ""))
    for impl, where in (
        (str(jax.random.key_impl(keys)), "the keys are"),
        (default, "jax_default_prng_impl is"),
    ):
        if "rbg" in impl:
            raise ValueError(
                f"{where} {impl}, whose numbers under vmap are not those of a single "
                f"run, so that {keys.size} adapters cannot be trained together; take "
                "threefry2x32 and train.adapter_keys, or train one at a time"
            )


def next_step(state: TrainState) -> Int[Array, ""]:
    """Updates done by the adapter that has done fewest, of those that have not failed.

    It is the number of the next update; adapters that have done more wait.
    """
    never = jnp.iinfo(jnp.int32).max
    return jnp.min(jnp.where(state.failed, never, state.step))


def init_state(
    trainable: types.Params | Sequence[types.Params],
    optimizer: optax.GradientTransformation,
) -> TrainState:
    """The state before the first update.

    Args:
        trainable: The trainable half of one adapter, or one such tree an adapter.
            It is copied.
        optimizer: The optimizer of one adapter.
    """
    trees = [trainable] if isinstance(trainable, Mapping) else list(trainable)
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack([jnp.asarray(x, jnp.float32) for x in leaves]), *trees
    )
    return TrainState(
        step=jnp.zeros(len(trees), jnp.int32),
        trainable=stacked,
        opt_state=jax.vmap(optimizer.init)(stacked),
        failed=jnp.zeros(len(trees), bool),
    )


def join_states(states: Sequence[TrainState]) -> TrainState:
    """The state of all adapters of several states, in their order."""
    if len(states) == 1:
        return states[0]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *states)


def adapter_state(state: TrainState, index: int) -> TrainState:
    """The state of one adapter: what its single run would have, axis included."""
    if len(state.step) == 1:
        return state
    return jax.tree.map(lambda leaf: leaf[index : index + 1], state)


def adapter_params(state: TrainState, index: int = 0) -> types.Params:
    """The trainable half of one adapter, without the adapters axis, copied.

    Raises:
        ValueError: If there is no such adapter.
    """
    if not 0 <= index < len(state.step):
        raise ValueError(
            f"adapter {index} is not there; the state has {len(state.step)}"
        )
    return jax.tree.map(lambda leaf: jnp.copy(leaf[index]), state.trainable)
