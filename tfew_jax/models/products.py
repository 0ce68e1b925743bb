"""Products with kernels, which a CPU's bfloat16 matrix units make in two halves.

Such units multiply bfloat16 numbers and sum in float32, several times as fast as the
CPU multiplies float32 ones. A float32 input is the sum of two bfloat16 halves but for
2^-17 of it, so that where a kernel is bfloat16, as many models are stored, two of their
products make the float32 one. Everywhere else a product is XLA's own.
"""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import lax
from jaxtyping import Array, Float

from tfew_jax.types import Params

_CPU_FACTS = pathlib.Path("/proc/cpuinfo")
_PACKED = ("kernel", "embedding")  # what `product` multiplies with
_SAMPLED = 256  # values that tell most float32 kernels from bfloat16 ones


@functools.cache
def has_bfloat16_units() -> bool:
    """Whether programs run on a CPU with matrix units for bfloat16 (x86's AMX)."""
    if jax.default_backend() != "cpu":
        return False
    try:
        return " amx_bf16" in _CPU_FACTS.read_text(encoding="utf-8")
    except OSError:
        return False


def pack(params: Params, *, dtype: str) -> Params:
    """Frozen parameters as programs take them fastest; the values are the same.

    Float32 kernels whose every value is a bfloat16 number become bfloat16 where the
    products of float32 inputs with them are faster, so that `product` finds them.

    Args:
        params: Frozen parameters, stacked or not.
        dtype: Of the computation.
    """
    if dtype != "float32" or not has_bfloat16_units():
        return params
    flat: dict[Any, Any] = dict(traverse_util.flatten_dict(dict(params)))
    packed = {
        path: leaf.astype(jnp.bfloat16)
        if path[-1] in _PACKED and _is_bfloat16(leaf)
        else leaf
        for path, leaf in flat.items()
    }
    return traverse_util.unflatten_dict(packed)


def product(
    x: Float[Array, "*rest inputs"],
    kernel: Float[Array, "any other"],
    *,
    dtype: str,
    transposed: bool = False,
    result_dtype: Any = None,
) -> Float[Array, "*rest outputs"]:
    """`x` times a kernel, or its transpose.

    Args:
        x: Inputs, of the computation's dtype.
        kernel: `[inputs, outputs]`, where transposed `[outputs, inputs]`.
        dtype: Of the computation, to which a kernel is cast.
        transposed: Whether to multiply with the kernel's transpose.
        result_dtype: Of the result; None for the computation's.
    """
    is_halved = dtype == "float32" and kernel.dtype == jnp.bfloat16
    if is_halved and has_bfloat16_units():
        return _in_halves(x, kernel, transposed)
    kernel = kernel.astype(dtype)
    kernel = kernel.T if transposed else kernel
    return jnp.dot(x, kernel, preferred_element_type=result_dtype)


def _is_bfloat16(leaf: Array) -> bool:
    """Whether all values of a float32 array are bfloat16 numbers."""
    if leaf.dtype != jnp.float32:
        return False
    first = leaf[(0,) * (leaf.ndim - 1)][:_SAMPLED]
    return all(
        bool(jnp.all(values == values.astype(jnp.bfloat16).astype(jnp.float32)))
        for values in (first, leaf)
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _in_halves(x: Array, kernel: Array, transposed: bool) -> Array:
    return _sum_of_halves(x, kernel, transposed)


def _forward(x: Any, kernel: Any, transposed: bool) -> tuple[Array, Any]:
    kept = x.value if kernel.perturbed else None  # a frozen kernel needs no inputs
    return _sum_of_halves(x.value, kernel.value, transposed), (kept, kernel.value)


def _backward(
    transposed: bool, kept: Any, cotangent: Any
) -> tuple[Array, Array | None]:
    x, kernel = kept
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        aval: Any = cotangent
        cotangent = jnp.zeros(aval.shape, aval.dtype)
    of_x = _sum_of_halves(cotangent, kernel, not transposed)
    if x is None:
        return of_x, None
    pair = (cotangent, x) if transposed else (x, cotangent)
    of_kernel = jnp.einsum("...i,...j->ij", *pair)
    return of_x, of_kernel.astype(kernel.dtype)


_in_halves.defvjp(_forward, _backward, symbolic_zeros=True)


def _sum_of_halves(x: Array, kernel: Array, transposed: bool) -> Array:
    """The float32 product as that of the upper half plus that of the lower one."""
    upper = lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
    lower = x - upper
    contracted = (((x.ndim - 1,), (1 if transposed else 0,)), ((), ()))
    upper_product, lower_product = (
        lax.dot_general(
            half.astype(jnp.bfloat16),
            kernel,
            contracted,
            preferred_element_type=jnp.float32,
        )
        for half in (upper, lower)
    )
    return upper_product + lower_product
