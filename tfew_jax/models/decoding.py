"""Autoregressive decoding: greedy, and beam search as T5X defines it.

Beam search keeps two sets of `num_beams` outputs a row. Each step extends the live
ones by every token and takes the 2 * num_beams likeliest, so that enough stay alive
should all the others end at once. Those that end join the finished set, ranked by

    log P(output) / ((5 + length) / 6) ** alpha

with the end of sequence counted in `length` (Wu et al., 2016,
https://arxiv.org/abs/1609.08144, Section 7, with exponent alpha). The search stops when
no live output can still reach the worst finished one of its row.

Empty places in the finished set score -inf here, where T5X writes -1e7.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tfew_jax import peft
from tfew_jax.models import cache as caches
from tfew_jax.models.t5 import T5
from tfew_jax.types import DECODER_START_ID, EOS_ID, PAD_ID, Batch, Params

_Step = Callable[..., Any]


def greedy_decode(
    model: T5, params: Params, batch: Batch, *, max_length: int
) -> tuple[Int[Array, "batch {max_length}"], Float[Array, "batch"]]:
    """The likeliest token at each position, up to the end of sequence.

    Args:
        model: The model.
        params: Its parameters, stacked where its config scans.
        batch: Gives `encoder_input_tokens` and, with a bank, `adapter_index`; the
            rest is not read.
        max_length: Most tokens of an output, the end of sequence included.

    Returns:
        Token ids, pads behind the end of sequence, and the sum of their
        log-probabilities. Of equally likely tokens the first is taken.

    Raises:
        ValueError: If `max_length` is not positive or examples are packed.
    """
    logits, cache, step = _start(model, params, batch, max_length=max_length)
    num_rows = len(logits)
    outputs = _Outputs(
        position=jnp.int32(0),
        tokens=jnp.full((num_rows, max_length), PAD_ID, jnp.int32),
        scores=jnp.zeros((num_rows,), jnp.float32),
        has_ended=jnp.zeros((num_rows,), bool),
    )

    def goes_on(carry: tuple[_Outputs, Any]) -> Bool[Array, ""]:
        outputs, _ = carry
        return (outputs.position < max_length) & ~jnp.all(outputs.has_ended)

    def advance(carry: tuple[_Outputs, Any]) -> tuple[_Outputs, Any]:
        outputs, cache = carry
        last = jnp.take(outputs.tokens, outputs.position - 1, axis=-1)
        logits, cache = step(last[:, None], outputs.position, cache)
        return _append_best(outputs, logits[:, 0]), cache

    carry = (_append_best(outputs, logits[:, 0]), cache)
    outputs, _ = jax.lax.while_loop(goes_on, advance, carry)
    return outputs.tokens, outputs.scores


class _Outputs(NamedTuple):
    """What greedy decoding has chosen so far."""

    position: Int[Array, ""]  # tokens chosen
    tokens: Int[Array, "batch max_length"]
    scores: Float[Array, "batch"]
    has_ended: Bool[Array, "batch"]


def _append_best(outputs: _Outputs, logits: Float[Array, "batch vocab"]) -> _Outputs:
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    log_probs = jnp.max(jax.nn.log_softmax(logits), axis=-1)
    best = jnp.where(outputs.has_ended, PAD_ID, best)
    log_probs = jnp.where(outputs.has_ended, 0.0, log_probs)
    return _Outputs(
        position=outputs.position + 1,
        tokens=_write(outputs.tokens, best, outputs.position),
        scores=outputs.scores + log_probs,
        has_ended=outputs.has_ended | (best == EOS_ID),
    )


def beam_decode(
    model: T5,
    params: Params,
    batch: Batch,
    *,
    max_length: int,
    num_beams: int = 4,
    alpha: float = 0.6,
) -> tuple[
    Int[Array, "batch {num_beams} {max_length}"], Float[Array, "batch {num_beams}"]
]:
    """The best outputs that beam search finds, in T5X's order: the best one last.

    Args:
        model: The model.
        params: Its parameters, stacked where its config scans.
        batch: As in `greedy_decode`.
        max_length: Most tokens of an output, the end of sequence included.
        num_beams: Outputs a row, alive and finished.
        alpha: Exponent of the brevity penalty; 0 ranks by log-probability.

    Returns:
        Token ids, pads behind the end of sequence, and their scores, ascending. A
        row of which fewer outputs ended has -inf and pads in front of them; one of
        which none ended has its live outputs with their log-probabilities, without
        brevity penalty.

    Raises:
        ValueError: If a number is out of range or examples are packed.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams={num_beams}; expected 1 or more")
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha={alpha}; expected a number of at least 0")
    logits, cache, step = _start(model, params, batch, max_length=max_length)
    shape = (len(logits), num_beams)
    empty = jnp.full((*shape, max_length), PAD_ID, jnp.int32)
    nothing = jnp.full(shape, -jnp.inf)
    beams = _Beams(  # one beam stands for all until they differ
        position=jnp.int32(0),
        tokens=empty,
        log_probs=nothing.at[:, 0].set(0.0),
        source=jnp.zeros(shape, jnp.int32),
        finished_tokens=empty,
        finished_scores=nothing,
    )

    def goes_on(carry: tuple[_Beams, Any]) -> Bool[Array, ""]:
        beams, _ = carry
        reachable = beams.log_probs.max(axis=1) / _penalty(max_length, alpha)
        is_settled = beams.finished_scores.min(axis=1) > reachable
        return (beams.position < max_length) & ~jnp.all(is_settled)

    def advance(carry: tuple[_Beams, Any]) -> tuple[_Beams, Any]:
        beams, cache = carry
        cache = caches.take_choices(cache, beams.source)
        last = jnp.take(beams.tokens, beams.position - 1, axis=-1)
        logits, cache = step(last, beams.position, cache)
        return _extend(beams, logits, alpha), cache

    first = jnp.broadcast_to(logits, (*shape, logits.shape[-1]))
    carry = (_extend(beams, first, alpha), caches.repeat_choices(cache, num_beams))
    beams, _ = jax.lax.while_loop(goes_on, advance, carry)
    is_empty = beams.finished_scores == -jnp.inf
    finished = jnp.where(is_empty[..., None], PAD_ID, beams.finished_tokens)
    none_ended = jnp.all(is_empty, axis=1, keepdims=True)
    return (
        jnp.where(none_ended[..., None], beams.tokens, finished),
        jnp.where(none_ended, beams.log_probs, beams.finished_scores),
    )


class _Beams(NamedTuple):
    """The live and the finished outputs, ascending by what ranks them."""

    position: Int[Array, ""]  # tokens chosen
    tokens: Int[Array, "batch beams max_length"]
    log_probs: Float[Array, "batch beams"]
    source: Int[Array, "batch beams"]  # which beam the last token extended
    finished_tokens: Int[Array, "batch beams max_length"]
    finished_scores: Float[Array, "batch beams"]  # -inf at empty places


def _extend(
    beams: _Beams, logits: Float[Array, "batch beams vocab"], alpha: float
) -> _Beams:
    """Both sets after one more token."""
    num_beams, vocab_size = logits.shape[1:]
    log_probs = jax.nn.log_softmax(logits) + beams.log_probs[..., None]
    log_probs, candidates = jax.lax.top_k(
        log_probs.reshape(len(logits), -1), 2 * num_beams
    )
    source, chosen = candidates // vocab_size, candidates % vocab_size
    tokens = _write(_take(beams.tokens, source), chosen, beams.position)
    is_end = chosen == EOS_ID

    alive = jnp.where(is_end, -jnp.inf, log_probs)
    kept = _ascending(alive, num_beams)
    scores = log_probs / _penalty(beams.position + 1, alpha)
    scores = jnp.where(is_end, scores, -jnp.inf)
    scores = jnp.concatenate([beams.finished_scores, scores], axis=1)
    finished = jnp.concatenate([beams.finished_tokens, tokens], axis=1)
    best = _ascending(scores, num_beams)
    return _Beams(
        position=beams.position + 1,
        tokens=_take(tokens, kept),
        log_probs=_take(alive, kept),
        source=_take(source, kept),
        finished_tokens=_take(finished, best),
        finished_scores=_take(scores, best),
    )


def _penalty(length: int | Int[Array, ""], alpha: float) -> Float[Array, ""]:
    return jnp.power((5.0 + length) / 6.0, jnp.float32(alpha))


def _ascending(scores: Float[Array, "batch all"], count: int) -> Int[Array, "batch _"]:
    """Places of the `count` highest scores, the highest one last."""
    return jnp.flip(jax.lax.top_k(scores, count)[1], axis=1)


def _take(x: Array, index: Int[Array, "batch taken"]) -> Array:
    return jnp.take_along_axis(x, index.reshape(*index.shape, *(1,) * (x.ndim - 2)), 1)


def _write(
    tokens: Int[Array, "*rows max_length"],
    chosen: Int[Array, "*rows"],
    position: Int[Array, ""],
) -> Int[Array, "*rows max_length"]:
    return jax.lax.dynamic_update_slice_in_dim(
        tokens, chosen[..., None], position, axis=-1
    )


def _start(
    model: T5, params: Params, batch: Batch, *, max_length: int
) -> tuple[Float[Array, "batch 1 vocab"], caches.DecoderCache, _Step]:
    """Logits of the first token, the cache, and what makes the next ones of both."""
    if max_length < 1:
        raise ValueError(f"max_length={max_length}; expected 1 or more")
    if "encoder_segment_ids" in batch:
        raise ValueError(
            "packed examples cannot be decoded; give one example a row, without "
            "encoder_segment_ids"
        )
    tokens = jnp.asarray(batch["encoder_input_tokens"])
    index = batch.get("adapter_index")
    index = None if index is None else jnp.asarray(index)

    def apply(*args: Any, **kwargs: Any) -> Any:
        return model.apply({"params": params}, *args, **kwargs, adapter_index=index)

    encoded, mask = apply(tokens, method="encode")

    def step(last: Array, position: Array, cache: Any, **kwargs: Any) -> Any:
        return apply(last, position, cache, mask, **kwargs, method="decode_step")

    in_front = peft.added_positions(model.method, peft.Site.DECODER_INPUT)
    cache = caches.make_cache(
        model.config,
        batch_size=len(tokens),
        num_choices=1,
        max_length=in_front + max_length,
    )
    first = jnp.full((len(tokens), 1), DECODER_START_ID, jnp.int32)
    logits, cache = step(first, jnp.int32(0), cache, encoded=encoded)
    return logits, cache, step
