"""Adafactor and learning-rate schedules, on optax.

Shazeer and Stern, 2018 (https://arxiv.org/abs/1804.04235), as T-Few's code uses it.
Per tensor p with gradient g at update t = 1, 2, ...:

    v <- beta_t v + (1 - beta_t) (g^2 + 1e-30),   beta_t = 1 - t^-0.8
    u  = g / sqrt(v);  u <- u / max(1, RMS(u))
    p <- p - lr_t max(1e-3, RMS(p)) u

`v` of a matrix whose sides are both at least 128 is kept as row and column means; a
vector always has its own. Before this the gradient of all tensors is clipped to a
global norm of 1.

"Per tensor" means per tensor of the model as it is written to disk: where layers are
stacked on a leading axis, every layer is a tensor of its own (optax alone would take
the stack for one, and be 1 % to 16 % off after a few updates).
"""

import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

Schedule = Callable[[Int[Array, "*adapters"]], Float[Array, "*adapters"]]

STACKED_AXES = ("layers",)


def adafactor(
    *,
    leading_axes: PyTree[int],
    decay_rate: float = 0.8,
    decay_offset: int = 0,
    clip_threshold: float | None = 1.0,
    multiply_by_parameter_scale: bool = True,
    parameter_scale_floor: float = 1e-3,
    weight_decay: float = 0.0,
    max_grad_norm: float | None = 1.0,
    min_dim_size_to_factor: int = 128,
) -> optax.GradientTransformationExtraArgs:
    """Adafactor for one adapter; `jax.vmap` makes it one for several.

    `update` takes the learning rate as the extra argument `learning_rate`.

    Args:
        leading_axes: Tree of the parameters' structure: how many axes of an array
            are stacked layers. See `stacked_axes`.
        decay_rate: Exponent of the decay of the second moment.
        decay_offset: Number of updates that the decay takes for already done.
            Prompt tuning in T5X restores the step of the base model with it,
            1,100,000. (The sign is the other way round in optax and T5X.)
        clip_threshold: Largest root mean square of the update of a tensor; None
            does not clip.
        multiply_by_parameter_scale: Whether the update of a tensor is multiplied by
            the root mean square of the tensor.
        parameter_scale_floor: The least such factor.
        weight_decay: Share of a parameter taken off in every update, not multiplied
            by the learning rate, as in T5X.
        max_grad_norm: Largest L2 norm of the gradient of all tensors together; None
            does not clip.
        min_dim_size_to_factor: A matrix with a smaller side is not factored.

    Returns:
        The transformation.

    Raises:
        ValueError: If a number is out of range.
    """
    _check_positive("decay_rate", decay_rate)
    _check_positive("clip_threshold", clip_threshold)
    _check_positive("max_grad_norm", max_grad_norm)
    _check_not_negative("parameter_scale_floor", parameter_scale_floor)
    _check_not_negative("weight_decay", weight_decay)
    _check_not_negative("decay_offset", decay_offset)
    each_tensor = [
        optax.scale_by_factored_rms(
            decay_rate=decay_rate,
            step_offset=-decay_offset,
            min_dim_size_to_factor=min_dim_size_to_factor,
        )
    ]
    if clip_threshold is not None:
        each_tensor.append(optax.clip_by_block_rms(clip_threshold))
    if multiply_by_parameter_scale:
        each_tensor.append(optax.scale_by_param_block_rms(parameter_scale_floor))
    steps = [] if max_grad_norm is None else [optax.clip_by_global_norm(max_grad_norm)]
    return optax.chain(
        *steps,
        per_tensor(optax.chain(*each_tensor), leading_axes),
        _descend(weight_decay),
    )


def per_tensor(
    transformation: optax.GradientTransformation, leading_axes: PyTree[int]
) -> optax.GradientTransformation:
    """Applies a transformation to every tensor by itself, also within stacks.

    Args:
        transformation: What to do with one tensor.
        leading_axes: Tree of the parameters' structure: how many leading axes of an
            array number tensors.

    Returns:
        A transformation whose state is a tree of the states of the tensors, stacked
        as the parameters are.
    """

    def over_stack(function: Callable[..., Any], num_axes: int) -> Callable[..., Any]:
        for _ in range(num_axes):
            function = jax.vmap(function)
        return function

    def init(params: PyTree) -> PyTree:
        _check_structure(params, leading_axes)
        return jax.tree.map(
            lambda num_axes, param: over_stack(transformation.init, num_axes)(param),
            leading_axes,
            params,
        )

    def update(
        updates: PyTree, state: PyTree, params: PyTree | None = None
    ) -> tuple[PyTree, PyTree]:
        structure = jax.tree.structure(updates)
        trees = (leading_axes, updates, state, params)
        results = [
            over_stack(transformation.update, num_axes)(*tensor)
            for num_axes, *tensor in zip(
                *(structure.flatten_up_to(tree) for tree in trees), strict=True
            )
        ]
        new_updates, new_state = zip(*results, strict=True)
        return structure.unflatten(new_updates), structure.unflatten(new_state)

    return optax.GradientTransformation(init, update)


def stacked_axes(boxed: PyTree) -> PyTree[int]:
    """How many leading axes of every parameter are stacked layers.

    Args:
        boxed: Parameters in boxes that hold the logical names of their axes
            (`flax.linen.with_logical_partitioning`), arrays or only shapes.

    Returns:
        A tree of the same structure without boxes.

    Raises:
        ValueError: If a parameter has no box, or stacked axes are not in front.
    """

    def count(path: tuple[Any, ...], box: Any) -> int:
        names = getattr(box, "names", None)
        if names is None:
            raise ValueError(
                f"{jax.tree_util.keystr(path)} has no axis names; give the parameters "
                "as the model's init returns them, before they are unboxed"
            )
        stacked = [name in STACKED_AXES for name in names]
        num_axes = sum(stacked)
        if not all(stacked[:num_axes]):
            raise ValueError(
                f"{jax.tree_util.keystr(path)} has axes {names}; the stacked ones "
                f"({', '.join(STACKED_AXES)}) must come first"
            )
        return num_axes

    return jax.tree_util.tree_map_with_path(
        count, boxed, is_leaf=lambda node: hasattr(node, "names")
    )


def linear_decay(
    peak: ArrayLike,
    num_steps: int,
    *,
    warmup_steps: int | float | None = None,
    warmup_ratio: float | None = None,
) -> Schedule:
    """Linear warm-up from 0, then linear decay to 0: T-Few's schedule.

    With 1000 steps and 60 of warm-up the update number t = 0, 1, ... has the rate
    peak * t / 60 before 60 and peak * (1000 - t) / 940 from there on; so the first
    update does not move the parameters.

    Args:
        peak: The highest rate: a number, or one for each adapter.
        num_steps: Number of updates.
        warmup_steps: Length of the warm-up, not necessarily whole.
        warmup_ratio: The same as a share of `num_steps`; 0.06, as in T-Few, if
            neither is given.

    Returns:
        A function from the number of updates done to the rate of the next one.

    Raises:
        ValueError: If a number is out of range, or both lengths are given.
    """
    _check_rate("peak", peak)
    _check_positive("num_steps", num_steps)
    if warmup_steps is not None and warmup_ratio is not None:
        raise ValueError(
            f"warmup_steps={warmup_steps} and warmup_ratio={warmup_ratio} are given; "
            "give one of them"
        )
    if warmup_steps is None:
        warmup_steps = num_steps * (0.06 if warmup_ratio is None else warmup_ratio)
    if not 0 <= warmup_steps <= num_steps:
        raise ValueError(
            f"the warm-up is {warmup_steps} steps; it must be between 0 and "
            f"num_steps={num_steps}"
        )
    warmup, decay = max(1.0, warmup_steps), max(1.0, num_steps - warmup_steps)

    def schedule(step: Int[Array, "*adapters"]) -> Float[Array, "*adapters"]:
        step = jnp.asarray(step, jnp.float32)
        rising, falling = step / warmup, (num_steps - step) / decay
        factor = jnp.where(step < warmup_steps, rising, jnp.maximum(falling, 0.0))
        return jnp.asarray(peak, jnp.float32) * factor

    return schedule


def constant(rate: ArrayLike) -> Schedule:
    """The same rate for every update: a number, or one for each adapter.

    Raises:
        ValueError: If the rate is negative or not finite.
    """
    _check_rate("rate", rate)

    def schedule(step: Int[Array, "*adapters"]) -> Float[Array, "*adapters"]:
        return jnp.broadcast_to(jnp.asarray(rate, jnp.float32), jnp.shape(step))

    return schedule


def inverse_sqrt(peak: ArrayLike, *, warmup_steps: int = 10_000) -> Schedule:
    """The peak for `warmup_steps` updates, then falling as 1 / sqrt(step).

    With 0.01 and 10,000 it is T5's in pre-training, 1 / sqrt(max(step, 10^4)).

    Args:
        peak: The highest rate: a number, or one for each adapter.
        warmup_steps: How long it stays there.

    Raises:
        ValueError: If a number is out of range.
    """
    _check_rate("peak", peak)
    _check_positive("warmup_steps", warmup_steps)

    def schedule(step: Int[Array, "*adapters"]) -> Float[Array, "*adapters"]:
        step = jnp.maximum(jnp.asarray(step, jnp.float32), warmup_steps)
        return jnp.asarray(peak, jnp.float32) * jnp.sqrt(warmup_steps / step)

    return schedule


def _descend(weight_decay: float) -> optax.GradientTransformationExtraArgs:
    """The last step: from a direction to what is added to the parameters."""

    def init(params: PyTree) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update(
        updates: PyTree,
        state: optax.EmptyState,
        params: PyTree | None = None,
        *,
        learning_rate: Array | float,
        **extra_args: Any,
    ) -> tuple[PyTree, optax.EmptyState]:
        del extra_args
        updates = jax.tree.map(lambda u: -learning_rate * u, updates)
        if weight_decay:
            updates = jax.tree.map(lambda u, p: u - weight_decay * p, updates, params)
        return updates, state

    # optax's type of `update` has no names for extra arguments.
    return optax.GradientTransformationExtraArgs(init, cast(Any, update))


def _check_structure(params: PyTree, leading_axes: PyTree[int]) -> None:
    given, expected = jax.tree.structure(leading_axes), jax.tree.structure(params)
    if given != expected:
        raise ValueError(
            f"leading_axes has the structure {given}, the parameters have {expected}; "
            "take it from the same parameters"
        )


def _check_positive(name: str, value: int | float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value}; it must be a positive number")


def _check_not_negative(name: str, value: int | float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value}; it must be 0 or a positive number")


def _check_rate(name: str, rate: ArrayLike) -> None:
    if not np.all(np.isfinite(rate) & (np.asarray(rate) >= 0)):
        raise ValueError(f"{name}={rate}; a learning rate is 0 or a positive number")
