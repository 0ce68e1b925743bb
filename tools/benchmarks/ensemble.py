"""Five prompts of 100 rows that vote on the choices of each example.

One batch holds every example once for each prompt, as in Lester et al., 2021
(https://arxiv.org/abs/2104.08691), Section 6.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int

from tfew_jax import losses, metrics, models, peft
from tfew_jax.peft import prompt
from tfew_jax.types import Batch, Params

NUM_PROMPTS = 5
LENGTH = 100


def scorer(
    config: models.T5Config, *, num_prompts: int = NUM_PROMPTS, length: int = LENGTH
) -> tuple[
    Callable[..., Float[Array, "members batch choices"]], Params, peft.PeftMethod
]:
    """The function that scores a batch by all prompts, its parameters, the method."""
    method = prompt.Prompt(length=length, num_adapters=1 + num_prompts)
    model = models.T5(config, method)
    members = np.arange(1, 1 + num_prompts)  # slot 0 is the frozen model alone

    def score(params: Params, batch: Batch) -> Float[Array, "members batch choices"]:
        log_probs = models.member_log_probs(model, params, batch, members)
        mask = losses.target_mask(batch)
        return jax.vmap(lambda own: losses.choice_scores(own, mask))(log_probs)

    return score, models.init(config, method, jax.random.key(0)), method


def vote(scores: Any) -> Int[np.ndarray, " rows"]:
    """The choice of every row."""
    return metrics.majority_vote(np.asarray(scores))[0]
