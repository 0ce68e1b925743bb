"""The frozen model: T5's encoder-decoder."""

from tfew_jax.models.apply import (
    abstract_params,
    boxed_abstract_params,
    forward,
    init,
    member_log_probs,
    shift_right,
    target_log_probs,
    token_log_probs,
)
from tfew_jax.models.config import SIZES, T5Config
from tfew_jax.models.decoding import beam_decode, greedy_decode
from tfew_jax.models.products import pack
from tfew_jax.models.stacking import stack_layers, unstack_layers
from tfew_jax.models.t5 import T5

__all__ = [
    "SIZES",
    "T5",
    "T5Config",
    "abstract_params",
    "beam_decode",
    "boxed_abstract_params",
    "forward",
    "greedy_decode",
    "init",
    "member_log_probs",
    "pack",
    "shift_right",
    "stack_layers",
    "target_log_probs",
    "token_log_probs",
    "unstack_layers",
]
