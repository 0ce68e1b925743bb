"""Arrays that pass between the parts, and the words for their dimensions.

The dimension words of every annotation in this library:

    batch          rows: one input with all its answer choices
    choices        candidate answers of a row; 1 for plain text-to-text
    length         tokens of the encoder input
    target_length  tokens of one decoder target
    embed          residual stream
    heads, kv      attention heads, size of one head; joined_kv = heads * kv
    mlp            hidden layer of the feed-forward block
    vocab          rows of the embedding table
    layers         stacked layers of the encoder or the decoder
    adapters       sets of method parameters over one frozen model
    members        adapters that all answer the same rows
    prompt, rank   learned positions; inner size of low-rank methods
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import jax
import numpy as np
from jaxtyping import Bool, Int, Shaped

Array = jax.Array | np.ndarray
Params = Mapping[str, Any]  # nested; the leaves are arrays

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2
DECODER_START_ID = 0


class Batch(TypedDict):
    """What a model and a loss read, with T5X's names; pads are 0.

    Rows that only fill up an evaluation batch have `example_id` -1 and no True in
    `choice_mask`. `adapter_index` is present only where the model holds a bank of
    adapters; the last six entries only where examples are packed or where decoder
    inputs are not the shifted targets.
    """

    encoder_input_tokens: Int[Array, "batch length"]
    decoder_target_tokens: Int[Array, "batch choices target_length"]
    choice_mask: Bool[Array, "batch choices"]
    label: Int[Array, "batch"]
    example_id: Int[Array, "batch"]
    adapter_index: NotRequired[Int[Array, "batch"]]
    encoder_segment_ids: NotRequired[Int[Array, "batch length"]]
    encoder_positions: NotRequired[Int[Array, "batch length"]]
    decoder_input_tokens: NotRequired[Int[Array, "batch choices target_length"]]
    decoder_segment_ids: NotRequired[Int[Array, "batch choices target_length"]]
    decoder_positions: NotRequired[Int[Array, "batch choices target_length"]]
    decoder_loss_weights: NotRequired[Shaped[Array, "batch choices target_length"]]
