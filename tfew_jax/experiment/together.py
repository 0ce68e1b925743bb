"""Which runs train in one program, and how many of them at once.

Runs go together that have the base, the arrays of the method and the recipe in common,
whatever their seeds, rows, tasks, initial values and peak rates, and whose batches are
of similar size: all are padded to the largest. Each has the random numbers of its
single run, so that it ends as that would, up to rounding, and the values of the others
do not change a bit of it.
"""

import dataclasses
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import jax
import numpy as np

from tfew_jax import train
from tfew_jax.data import batching, tokenized
from tfew_jax.experiment import memory, training
from tfew_jax.experiment.tuning import Tuner
from tfew_jax.types import Batch

_MOST_PADDING = 1.25  # tokens of a group's batches to those of its single runs


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A run that may train beside others.

    Attributes:
        tuner: Its method, recipe and base.
        batches: Its rows.
        member: Its seed, its place and its start.
        row_tokens: See `row_tokens`.
        is_done: Whether nothing of it is left to do; it counts where groups are made,
            so that a command that is started again makes the same.
    """

    tuner: Tuner
    batches: batching.TrainBatches
    member: training.Member
    row_tokens: int
    is_done: bool = False


def row_tokens(tuner: Tuner, rows: tokenized.TokenizedRows) -> int:
    """Most tokens of a row, with all choices that the loss reads."""
    _, num_choices, length = rows.choice_sets.shape
    if not tuner.recipe.loss.reads_wrong_choices:
        num_choices = 1
    return int(rows.all_lengths.max()) + num_choices * length


def check_most(max_together: int | None) -> None:
    """Refuses a number of runs that is not positive.

    Raises:
        ValueError: If it is.
    """
    if max_together is not None and max_together < 1:
        raise ValueError(
            f"max_together must be positive, or None for as many as memory allows, "
            f"got {max_together}"
        )


def make_groups(
    jobs: Sequence[Job], *, max_together: int | None, say: Callable[[str], None]
) -> list[list[Job]]:
    """Cuts jobs in groups that train together, in the order of their first ones.

    Args:
        jobs: All of them, also those that are done.
        max_together: The most at once. None for as many as memory allows, which is
            told, on an accelerator, and for one on a CPU.
        say: Shows a line.
    """
    alike: dict[Hashable, list[Job]] = {}
    for job in jobs:
        alike.setdefault(job.tuner.program, []).append(job)
    groups: list[list[Job]] = []
    for some in alike.values():
        for similar in _similar(some):
            most = max_together
            if most is None:
                most = _default_most(similar, say)
            number = -(-len(similar) // most)
            ends = [len(similar) * n // number for n in range(number + 1)]
            groups += [similar[a:b] for a, b in itertools.pairwise(ends)]
    order = {id(job): place for place, job in enumerate(jobs)}
    return sorted(groups, key=lambda group: order[id(group[0])])


def train_group(jobs: Sequence[Job], **settings: Any) -> list[training.Trained]:
    """Trains runs that go together.

    Args:
        jobs: Of one group of `make_groups`.
        **settings: Of `training.train_members`, beside what follows from the jobs.
    """
    names = [job.member.name for job in jobs]
    name = names[0]
    if len(names) > 1:
        name = f"{len(names)} together, {names[0]} to {names[-1]}"
    return jobs[0].tuner.train_members(
        [job.member for job in jobs], batches_of(jobs)[0], name=name, **settings
    )


def batches_of(
    jobs: Sequence[Job],
) -> tuple[Callable[[int], Batch], tuple[int, ...]]:
    """The batches of some runs by step, and the lengths that inputs are padded to.

    One run has those of its single run, several have an adapters axis and at most
    three shapes.
    """
    if len(jobs) == 1:
        (job,) = jobs
        return job.tuner.reads(job.batches.batch_at), job.batches.buckets
    rows = [job.batches.tokenized for job in jobs]
    buckets = batching.choose_buckets(
        np.concatenate([some.all_lengths for some in rows]),
        max_length=max(some.feature_lengths["inputs"] for some in rows),
        batch_size=sum(job.batches.batch_size for job in jobs),
    )
    each = [job.tuner.reads(job.batches.padded_to(buckets).batch_at) for job in jobs]
    return lambda step: train.stack_batches([at(step) for at in each]), buckets


def _similar(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs of one program in groups that little is padded in."""
    groups: list[list[Job]] = []
    for job in sorted(jobs, key=lambda job: job.row_tokens):
        grown = [*(groups[-1] if groups else []), job]
        padded = len(grown) * job.row_tokens
        if groups and padded <= _MOST_PADDING * sum(each.row_tokens for each in grown):
            groups[-1] = grown
        else:
            groups.append([job])
    return groups


def _default_most(jobs: Sequence[Job], say: Callable[[str], None]) -> int:
    if len(jobs) == 1 or jax.default_backend() == "cpu":
        return 1
    if all(job.is_done for job in jobs):
        return len(jobs)
    return as_many_as_fit(jobs, say)


def as_many_as_fit(jobs: Sequence[Job], say: Callable[[str], None]) -> int:
    """How many of some jobs the device's memory holds at once; says so.

    It is the frozen model once, and for each adapter what the compiler says that the
    step of one needs.
    """
    tuner = jobs[0].tuner
    batch_at, buckets = batches_of(jobs)
    batch = batch_at(0) if len(jobs) > 1 else train.stack_batches([batch_at(0)])

    def one(array: Any) -> np.ndarray:
        return np.zeros((1, *array.shape[1:]), array.dtype)

    largest = {name: one(np.asarray(array)) for name, array in batch.items()}
    inputs = largest["encoder_input_tokens"]
    largest["encoder_input_tokens"] = np.zeros(
        (*inputs.shape[:-1], buckets[-1]), inputs.dtype
    )
    each = tuner.step_bytes(cast(Batch, largest))
    limit, free = memory.limits(tuner.base.params)
    most = max(1, min(len(jobs), free // each))
    say(
        f"{most} members at once, about {each / 2**20:.0f} MiB each, of "
        f"{limit / 2**30:.0f} GiB"
    )
    return most
