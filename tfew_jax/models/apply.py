"""What the other parts do with a model: initial values, logits, log-probabilities."""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tfew_jax import peft, types
from tfew_jax.models.config import T5Config
from tfew_jax.models.t5 import T5
from tfew_jax.types import DECODER_START_ID, Batch, Params


def init(
    config: T5Config, method: peft.PeftMethod | None, key: Key[Array, ""]
) -> Params:
    """Initial float32 parameters, stacked where the config scans its layers."""
    return nn.unbox(jax.jit(lambda key: _init_boxed(config, method, key))(key))


def boxed_abstract_params(config: T5Config, method: peft.PeftMethod | None) -> Any:
    """Shapes, dtypes and logical axes of all parameters; computes nothing."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(lambda key: _init_boxed(config, method, key), key)


def abstract_params(config: T5Config, method: peft.PeftMethod | None = None) -> Params:
    """Shapes and dtypes of all parameters; computes nothing."""
    return nn.unbox(boxed_abstract_params(config, method))


def _init_boxed(
    config: T5Config, method: peft.PeftMethod | None, key: Key[Array, ""]
) -> Any:
    tokens = jnp.ones((1, 1), jnp.int32)
    index = None
    if method is not None and method.num_adapters is not None:
        index = jnp.zeros((1,), jnp.int32)
    model = T5(config, method)
    return model.init(key, tokens, tokens[:, None], adapter_index=index)["params"]


def forward(
    model: T5,
    params: Params,
    *,
    encoder_input_tokens: Int[types.Array, "batch length"],
    decoder_input_tokens: Int[types.Array, "batch choices target_length"],
    **kwargs: Any,
) -> tuple[
    Float[Array, "batch choices target_length vocab"],
    Float[Array, "batch longer embed"],
]:
    """Logits in float32, and the encoded input.

    Args:
        model: The model.
        params: Its parameters, stacked where its config scans.
        encoder_input_tokens: Token ids, 0 at pads.
        decoder_input_tokens: Token ids, each row starting with 0.
        **kwargs: Passed on: `encoder_mask`, segment ids, `adapter_index`,
            `dropout_keys`.
    """
    args = jax.tree.map(jnp.asarray, (encoder_input_tokens, decoder_input_tokens))
    kwargs = jax.tree.map(jnp.asarray, kwargs)
    outputs: Any = model.apply({"params": params}, *args, **kwargs)
    return outputs


def shift_right(
    targets: Int[types.Array, "batch choices target_length"],
) -> Int[Array, "batch choices target_length"]:
    """Decoder inputs of targets: the start token, then all but the last target."""
    return jnp.pad(
        targets[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=DECODER_START_ID
    )


def token_log_probs(
    model: T5,
    params: Params,
    batch: Batch,
    *,
    dropout_keys: Key[Array, "batch"] | None = None,
) -> Float[Array, "batch choices target_length"]:
    """Log-probability of each target token given those before it; 0 at pads.

    Without dropout the choices of a row are decoded together, see `choices`.

    Args:
        model: The model.
        params: Its parameters, stacked where its config scans.
        batch: The batch.
        dropout_keys: One key a row, folded by adapter, step and row; None switches
            dropout off.
    """
    targets = jnp.asarray(batch["decoder_target_tokens"])
    inputs = batch.get("decoder_input_tokens")
    segments = batch.get("decoder_segment_ids")
    is_plain = inputs is None and segments is None and dropout_keys is None
    if is_plain and _decodes_together(model, targets):
        index = batch.get("adapter_index")
        logits: Any = model.apply(
            {"params": params},
            jnp.asarray(batch["encoder_input_tokens"]),
            targets,
            adapter_index=None if index is None else jnp.asarray(index),
            method="score_together",
        )
        return _log_probs_together(logits, targets)
    logits, _ = forward(
        model,
        params,
        encoder_input_tokens=batch["encoder_input_tokens"],
        decoder_input_tokens=shift_right(targets) if inputs is None else inputs,
        encoder_segment_ids=batch.get("encoder_segment_ids"),
        decoder_segment_ids=segments,
        adapter_index=batch.get("adapter_index"),
        dropout_keys=dropout_keys,
    )
    return target_log_probs(logits, targets, mask=targets > 0)


def member_log_probs(
    model: T5, params: Params, batch: Batch, members: Int[types.Array, "members"]
) -> Float[Array, "members batch choices target_length"]:
    """`token_log_probs` of every row by each of several adapters of a bank.

    Rows and adapters are one batch: each row stands there once for every adapter. Where
    the method does nothing in the encoder, each row is encoded once, for all of them.

    Args:
        model: The model, whose method holds a bank.
        params: Its parameters, stacked where its config scans.
        batch: Rows with one encoder input each, without segment ids.
        members: Slots of the adapters.
    """
    tokens = jnp.asarray(batch["encoder_input_tokens"])
    targets = jnp.asarray(batch["decoder_target_tokens"])
    index = jnp.repeat(jnp.asarray(members), len(tokens))

    def repeated(rows: Array) -> Array:
        return jnp.tile(rows, (len(members), *[1] * (rows.ndim - 1)))

    own = repeated(targets)
    if model.method is None or model.method.acts_in_encoder:
        rows: Any = {"encoder_input_tokens": repeated(tokens)}
        rows |= {"decoder_target_tokens": own, "adapter_index": index}
        log_probs = token_log_probs(model, params, rows)
    else:
        encoded: Any = model.apply({"params": params}, tokens, method="encode")
        log_probs = _decoded(model, params, map(repeated, encoded), own, index)
    return log_probs.reshape(len(members), *targets.shape)


def _decoded(
    model: T5,
    params: Params,
    encoded: Iterable[Array],
    targets: Int[Array, "batch choices target_length"],
    adapter_index: Int[Array, "batch"],
) -> Float[Array, "batch choices target_length"]:
    """`token_log_probs` of inputs that are encoded already, with their mask."""
    together = _decodes_together(model, targets)
    logits: Any = model.apply(
        {"params": params},
        *encoded,
        targets if together else shift_right(targets),
        adapter_index=adapter_index,
        method="decode_together" if together else "decode",
    )
    if together:
        return _log_probs_together(logits, targets)
    return target_log_probs(logits, targets, mask=targets > 0)


def _decodes_together(
    model: T5, targets: Int[Array, "batch choices target_length"]
) -> bool:
    """Whether choices of a row can and need share the start of their decoding."""
    # A table a layer is made inside it, for positions that count up.
    return targets.shape[1] > 1 and not model.config.relpos_per_layer


def _log_probs_together(
    logits: Float[Array, "batch folded vocab"],
    targets: Int[Array, "batch choices target_length"],
) -> Float[Array, "batch choices target_length"]:
    """Log-probabilities of targets, given the logits of `T5.decode_together`."""
    own = jnp.pad(targets[..., 1:].reshape(len(targets), -1), ((0, 0), (1, 0)))
    picked = jnp.take_along_axis(logits, own[..., None], axis=-1)[..., 0]
    first = jnp.take_along_axis(logits[:, 0], targets[..., 0], axis=-1)
    total = jax.nn.logsumexp(logits, axis=-1)
    later = (picked - total)[:, 1:].reshape(*targets.shape[:2], -1)
    log_probs = jnp.concatenate([(first - total[:, :1])[..., None], later], axis=-1)
    return jnp.where(targets > 0, log_probs, 0.0)


def target_log_probs(
    logits: Float[Array, "batch choices target_length vocab"],
    targets: Int[Array, "batch choices target_length"],
    *,
    mask: Bool[Array, "batch choices target_length"],
) -> Float[Array, "batch choices target_length"]:
    """Log-softmax of the logits at the targets; 0 where the mask is False."""
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    log_probs = picked - jax.nn.logsumexp(logits, axis=-1)
    return jnp.where(mask, log_probs, 0.0)
