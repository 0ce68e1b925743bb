"""The loop of a program that trains one adapter or several, and survives a kill.

Every adapter has checkpoints of its own, which are those of its single run. Of a group
that was killed between two of them some may be a step ahead; these wait for the others
(see `train.make_train_step`), so that all go on to the same bits.
"""

import contextlib
import dataclasses
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tfew_jax import train
from tfew_jax.experiment.progress import Progress
from tfew_jax.types import Batch, Params

Watch = Callable[[int, train.TrainState], bool | None]


class Interrupted(KeyboardInterrupt):
    """The user asked to stop; what was reached is saved where checkpoints are kept."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One adapter to train.

    Attributes:
        name: For messages.
        seed: Of dropout.
        peak_rate: What the schedule is multiplied by.
        start: Makes its state before the first step.
        checkpoints: Directory of its checkpoints; None keeps none.
        events: Directory of its TensorBoard files; None for the progress's own one of
            its name.
        place: Where a row was read, for messages.
    """

    name: str
    seed: int
    peak_rate: float
    start: Callable[[], train.TrainState]
    checkpoints: pathlib.Path | None = None
    events: pathlib.Path | None = None
    place: Callable[[int], str] = "row {}".format


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What training left of a member.

    Attributes:
        trainable: The trainable half; None if it failed.
        first_step: From which this process went on.
        failure: Why and where it stopped, or None.
        message: The same for a person.
    """

    trainable: Params | None
    first_step: int
    failure: train.NonFiniteLoss | None = None
    message: str = ""


def train_members(
    members: Sequence[Member],
    batch_at: Callable[[int], Batch],
    *,
    step_fn: train.StepFn,
    frozen: Params,
    num_steps: int,
    name: str,
    progress: Progress,
    checkpoint_period: int | None = None,
    keep_last: int = 2,
    watch: Watch | None = None,
) -> list[Trained]:
    """Trains all members, from their last checkpoints if there are some.

    A member whose loss is not finite is stopped and told; the others go on.

    Args:
        members: Adapters of one program.
        batch_at: The batch of a step, with an adapters axis if there are several.
        step_fn: The update.
        frozen: The frozen half of the parameters.
        num_steps: Updates to have done at the end.
        name: Of them all, for messages.
        progress: Where the steps are reported.
        checkpoint_period: Steps between checkpoints; None for the last only.
        keep_last: How many of each member are kept beside the best.
        watch: Called with the number of updates and the state, before the first
            update here and after each, before a checkpoint. It must not keep the
            state; where it returns True training ends there, and again where it is
            started again.

    Returns:
        What is left of each member.

    Raises:
        Interrupted: If the user pressed Ctrl-C; the states are saved where checkpoints
            are kept.
    """
    period = checkpoint_period or num_steps
    with contextlib.ExitStack() as stack:
        slots = [_Slot(member, keep_last, stack) for member in members]
        state = train.join_states([slot.start() for slot in slots])
        first_step = min(slot.first_step for slot in slots)
        steps = train.training_steps(
            state,
            frozen,
            batch_at,
            train.adapter_keys([member.seed for member in members]),
            step_fn=step_fn,
            num_steps=num_steps,
            peak_rates=[member.peak_rate for member in members],
        )
        stack.enter_context(
            progress.run(
                name,
                first_step=first_step,
                num_steps=num_steps,
                members={member.name: member.events for member in members},
            )
        )
        stop = stack.enter_context(_stop_requested(progress.say))
        step, is_stopped = first_step, False
        is_last = watch is not None and bool(watch(first_step, state))
        while not (is_last or is_stopped):
            info = _next(steps, slots)
            if info is None:
                break
            state, step = info.state, info.step
            _report(info, slots, progress)
            is_last = step == num_steps
            if watch is not None and watch(step, state):
                is_last = True
            is_due, is_stopped = step % period == 0 or is_last, stop.is_set()
            if is_due or is_stopped:
                for index, slot in enumerate(slots):
                    slot.save(step, state, index, with_metric=is_due)
        if stop.is_set():  # also in the last step, so that no other run starts
            raise Interrupted(_told_stop(members, name, step))
        return [
            slot.trained(state, index, checkpoint_period)
            for index, slot in enumerate(slots)
        ]


class _Slot:
    """A member's place in a program: its checkpoints, its losses, whether it failed."""

    def __init__(
        self, member: Member, keep_last: int, stack: contextlib.ExitStack
    ) -> None:
        self.member = member
        self.first_step = 0
        self.failure: train.NonFiniteLoss | None = None
        self._losses: list[float] = []  # since the last checkpoint
        self._manager = None
        if member.checkpoints is not None:
            from tfew_jax.checkpoint import run as run_checkpoints

            self._manager = run_checkpoints.RunCheckpoints(
                member.checkpoints, keep_last=keep_last, keep_best=True
            )
            stack.callback(self._manager.close)

    def start(self) -> train.TrainState:
        """The state of the last checkpoint, or before the first step."""
        state = self.member.start()
        if self._manager is not None and self._manager.latest_step() is not None:
            state = self._manager.restore(state)
        self.first_step = int(np.asarray(state.step)[0])
        return state

    def is_active(self, step: int) -> bool:
        """Whether the update that made so many was one of the member."""
        return self.failure is None and step > self.first_step

    def add_loss(self, loss: float) -> None:
        """Counts the loss of an update for the next checkpoint."""
        self._losses.append(loss)

    def save(
        self, step: int, state: train.TrainState, index: int, *, with_metric: bool
    ) -> None:
        """Saves the member's part of a state unless it failed or stands ahead."""
        metric = None
        if with_metric:
            metric = -sum(self._losses) / max(len(self._losses), 1)
            self._losses = []
        if self._manager is not None and self.is_active(step):
            own = train.adapter_state(state, index)
            self._manager.save(step, own, metric=metric)

    def trained(
        self, state: train.TrainState, index: int, period: int | None
    ) -> Trained:
        """What is left at the end."""
        if self.failure is None:
            return Trained(
                trainable=train.adapter_params(state, index),
                first_step=self.first_step,
            )
        places = [self.member.place(row) for row in self.failure.rows]
        return Trained(
            trainable=None,
            first_step=self.first_step,
            failure=self.failure,
            message=self.failure.told(self.member.name, places, period),
        )


def _next(
    steps: Iterator[train.StepInfo], slots: Sequence[_Slot]
) -> train.StepInfo | None:
    """The next update, or None; failures are noted in their slots."""
    try:
        info = next(steps, None)
        failures = {} if info is None else info.failures
    except train.NonFiniteLoss as error:  # none is left
        info, failures = None, error.failures
    for index, failure in failures.items():
        slots[index].failure = failure
    return info


def _report(info: train.StepInfo, slots: Sequence[_Slot], progress: Progress) -> None:
    """Shows the losses of an update; of several members their mean.

    Nothing where all that took part have failed and the others wait.
    """
    by_member = {
        slot.member.name: {k: float(v[index]) for k, v in info.metrics.items()}
        for index, slot in enumerate(slots)
        if slot.is_active(info.step)
    }
    for slot in slots:
        if slot.member.name in by_member:
            slot.add_loss(by_member[slot.member.name]["loss"])
    shown = list(by_member.values())
    if not shown:
        return
    mean = {k: sum(m[k] for m in shown) / len(shown) for k in shown[0]}
    if len(slots) == 1:
        progress.step(info.step, mean)
    else:
        progress.step(info.step, mean, by_member)


def _told_stop(members: Sequence[Member], name: str, step: int) -> str:
    """What the user who asked to stop is told."""
    if all(member.checkpoints is None for member in members):
        return f"stopped after step {step} of {name}, of which nothing is kept"
    return f"stopped after step {step} of {name}; the same command goes on"


@contextlib.contextmanager
def _stop_requested(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first SIGINT sets; the second one interrupts at once.

    Signals reach only the main thread; elsewhere the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def request(signum: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        say("stopping after this step; press Ctrl-C again to stop at once")

    signal.signal(signal.SIGINT, request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
