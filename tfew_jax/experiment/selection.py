"""Which step of a run is kept, when it may stop, and how soon it was good.

Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Section 3: the checkpoint with
the best score on the development set is kept. Functions of scores by the number of
updates. What stands at 0 was measured before any update and is never the best.
"""

from collections.abc import Mapping

Scores = Mapping[int, float]

NEAR = 0.99  # of a score: within one percent


def best_step(scores: Scores) -> int | None:
    """The step with the highest score, the first of equal ones; None without any."""
    steps = sorted(step for step in scores if step > 0)
    return max(steps, key=lambda step: scores[step], default=None)


def stops(scores: Scores, patience: int | None) -> bool:
    """Whether as many steps as `patience` were measured after the best one.

    Args:
        scores: Of the steps so far.
        patience: Measured steps without improvement; None never stops.
    """
    best = best_step(scores)
    if patience is None or best is None:
        return False
    return sum(step > best for step in scores) >= patience


def first_step_near(scores: Scores, level: float) -> int | None:
    """The first step whose score is within one percent of a level, or above it.

    With the mean of the best scores of a configuration's runs as the level, it is how
    the paper's Table 5 defines convergence; it gives the time until then. The percent
    is taken as one of the level.
    """
    return next(
        (s for s in sorted(scores) if s > 0 and scores[s] >= NEAR * level), None
    )
