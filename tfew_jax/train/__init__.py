"""Training: the split of the parameters, the state, the step and the loop.

One program trains K adapters over one frozen model: the step of a single adapter
under `jax.vmap`, so that pooling of the losses, clipping, schedule, step count and
random stream belong to each adapter alone. Everything in a `TrainState`, a batch and
the keys has a leading `adapters` axis; K = 1 is the single run.

An adapter whose loss or gradient is not finite keeps its last good parameters and
optimizer state, bit for bit, and is not trained any further; the others go on.
"""

from tfew_jax.train.loop import (
    NonFiniteLoss,
    StepInfo,
    stack_batches,
    training_steps,
)
from tfew_jax.train.state import (
    TrainState,
    adapter_keys,
    adapter_params,
    adapter_state,
    check_keys,
    combine,
    frozen_half,
    init_state,
    join_states,
    partition,
)
from tfew_jax.train.step import StepFn, make_train_step, row_keys

__all__ = [
    "NonFiniteLoss",
    "StepFn",
    "StepInfo",
    "TrainState",
    "adapter_keys",
    "adapter_params",
    "adapter_state",
    "check_keys",
    "combine",
    "frozen_half",
    "init_state",
    "join_states",
    "make_train_step",
    "partition",
    "row_keys",
    "stack_batches",
    "training_steps",
]
