"""The loop: a generator of updates."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from tfew_jax import types
from tfew_jax.train.state import TrainState, check_keys, next_step
from tfew_jax.train.step import StepFn


@dataclasses.dataclass(frozen=True)
class StepInfo:
    """One update of all adapters.

    Attributes:
        step: Updates done, this one included.
        state: The state after it. The next update takes its buffers: save or copy
            what is needed before asking for the next `StepInfo`.
        metrics: Numbers by name, each an array over adapters.
        failures: Adapters that failed in this update.
    """

    step: int
    state: TrainState
    metrics: Mapping[str, Float[np.ndarray, "adapters"]]
    failures: Mapping[int, "NonFiniteLoss"]


class NonFiniteLoss(FloatingPointError):
    """A loss or gradient is NaN or infinite.

    Attributes:
        adapter: Index of the adapter.
        step: Updates done before.
        rows: `example_id` of the rows with a loss that is not finite; all rows of
            the batch where only the gradient is not.
        loss: The loss of the batch.
        grad_norm: The norm of its gradient.
        failures: All adapters that failed in that step, this one included, where it
            is raised because none is left.
    """

    def __init__(
        self, *, adapter: int, step: int, rows: list[int], loss: float, grad_norm: float
    ):
        self.adapter, self.step, self.rows = adapter, step, rows
        self.loss, self.grad_norm = loss, grad_norm
        self.failures: Mapping[int, NonFiniteLoss] = {adapter: self}
        super().__init__(
            f"adapter {adapter}: {self._found} in step {step}, rows {rows}; the "
            f"state after {step} updates is kept. Check these rows, take a lower "
            "learning rate, or compute in float32"
        )

    @property
    def _found(self) -> str:
        if math.isfinite(self.loss):
            return f"the norm of the gradient is {self.grad_norm}"
        return f"the loss is {self.loss}"

    def told(self, run: str, places: Sequence[str], period: int | None) -> str:
        """The message for a run whose rows have names.

        Args:
            run: Its name.
            places: Where the rows were read.
            period: Steps between checkpoints; None where there are none.
        """
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        last = self.step - self.step % period if period else 0
        kept = f"the checkpoint of step {last} is kept" if last else "nothing was saved"
        return (
            f"{run}: {self._found} in step {self.step}, with "
            f"{', '.join(places[:3])}{more}; stopped, {kept}. Look at these rows, take "
            "a lower learning rate, or compute in float32"
        )


def stack_batches(batches: Sequence[types.Batch]) -> types.Batch:
    """Joins one batch an adapter along a new `adapters` axis, as numpy arrays.

    Shorter inputs, targets and lists of choices are padded with 0 to the longest.

    Raises:
        ValueError: If the batches differ in their rows or entries.
    """
    if len({(frozenset(batch), len(batch["label"])) for batch in batches}) != 1:
        raise ValueError(
            "adapters trained together need batches with the same entries and number "
            f"of rows; given {[(len(b['label']), sorted(b)) for b in batches]}"
        )

    def stack(name: str) -> np.ndarray:
        arrays = [np.asarray(batch[name]) for batch in batches]
        shape = np.max([array.shape for array in arrays], axis=0)
        return np.stack(
            [np.pad(x, [(0, n) for n in shape - np.array(x.shape)]) for x in arrays]
        )

    return cast(types.Batch, {name: stack(name) for name in batches[0]})


def training_steps(
    state: TrainState,
    frozen: types.Params,
    batch_at: Callable[[int], types.Batch],
    keys: Key[Array, "*adapters"],
    *,
    step_fn: StepFn,
    num_steps: int,
    peak_rates: Sequence[float] | None = None,
) -> Iterator[StepInfo]:
    """Trains until `num_steps`, from wherever the state is.

    The caller logs, evaluates and saves between updates. A state saved and loaded
    continues to the same bits, since batches and keys follow from the step number.
    Adapters that were saved at different steps may go on together: those ahead wait for
    the others, and go on where they stand if all of these fail.

    Args:
        state: Where to start. Its buffers are taken over.
        frozen: The frozen half of the parameters.
        batch_at: The batch of a step, by the number of updates before it, with the
            adapters axis (see `stack_batches`); one adapter may leave it out.
        keys: Key of each adapter, see `adapter_keys`; one adapter may give one key.
        step_fn: Made by `make_train_step` for the same number of steps.
        num_steps: Updates to have done at the end.
        peak_rates: What the schedule is multiplied by, for each adapter; None for 1.
            Other rates compile nothing again.

    Yields:
        Each update. Nothing if the state has done all of them.

    Raises:
        NonFiniteLoss: When no adapter is left that could go on. Every `StepInfo`
            before it holds a good state.
        ValueError: If all adapters had failed before, or keys or rates are not for
            these adapters (see `check_keys`).
    """
    if bool(np.all(state.failed)):
        raise ValueError(
            "every adapter of this state was stopped by a loss that is not finite; "
            "start again with other settings"
        )
    num_adapters = len(state.step)
    if keys.size != num_adapters:
        raise ValueError(f"{keys.size} keys for {num_adapters} adapters; give one each")
    check_keys(keys)
    if peak_rates is not None and len(peak_rates) != num_adapters:
        raise ValueError(
            f"{len(peak_rates)} rates for {num_adapters} adapters; give one each"
        )
    rates = None if peak_rates is None else jnp.asarray(peak_rates, jnp.float32)
    keys = keys.reshape(num_adapters)
    frozen = jax.tree.map(jnp.asarray, frozen)  # once to the device, not every step

    def batch_of(step: int) -> types.Batch | None:
        return None if step >= num_steps else _with_axis(batch_at(step), num_adapters)

    failed, step = np.asarray(state.failed), int(next_step(state))
    batch = batch_of(step)
    while batch is not None:
        state, metrics = step_fn(state, frozen, batch, keys, rates)
        # The next batch is made while the device computes.
        last_batch, batch = batch, batch_of(step + 1)
        had_failed = failed
        metrics, failed = jax.device_get((metrics, state.failed))
        row_is_finite = metrics.pop("row_is_finite")
        failures = {
            adapter: NonFiniteLoss(
                adapter=adapter,
                step=step,
                rows=_guilty_rows(last_batch, row_is_finite, adapter),
                loss=float(metrics["loss"][adapter]),
                grad_norm=float(metrics["grad_norm"][adapter]),
            )
            for adapter in np.flatnonzero(failed & ~had_failed).tolist()
        }
        if failures and failed.all():
            error = next(iter(failures.values()))
            error.failures = failures
            raise error
        step += 1
        yield StepInfo(step=step, state=state, metrics=metrics, failures=failures)
        if failures and (following := int(next_step(state))) != step:
            step, batch = following, batch_of(following)  # where the others wait


def _with_axis(batch: types.Batch, num_adapters: int) -> types.Batch:
    """The batch with its adapters axis, which a single adapter may leave out."""
    if np.ndim(batch["label"]) == 1 and num_adapters == 1:
        return stack_batches([batch])
    if np.shape(batch["label"])[:-1] != (num_adapters,):
        raise ValueError(
            f"label has the shape {np.shape(batch['label'])}; a batch for "
            f"{num_adapters} adapters leads with an axis of that size"
        )
    return batch


def _guilty_rows(
    batch: types.Batch, row_is_finite: Bool[np.ndarray, "adapters batch"], adapter: int
) -> list[int]:
    is_finite = row_is_finite[adapter]
    ids = np.asarray(batch["example_id"])[adapter]
    return ids[is_finite.all() | ~is_finite].tolist()
