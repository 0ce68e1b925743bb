"""Checkpoints of a running job: the trainable half, optimizer state and step.

Orbax writes each step to a temporary directory and renames it when it is complete, so
that a job killed at any moment finds its last complete step. The frozen model is not
in it.
"""

import math
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

State = TypeVar("State")

_METRIC = "metric"


class RunCheckpoints:
    """The last steps of a run and its best one.

    Attributes:
        directory: Where the steps are, one directory each.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        keep_last: int = 2,
        keep_best: bool = True,
        higher_is_better: bool = True,
    ) -> None:
        """Opens or makes the directory, and removes what a killed run left half done.

        Args:
            directory: Where the steps go.
            keep_last: How many of the latest steps stay.
            keep_best: Whether the step with the best metric stays as well; of equal
                ones the latest.
            higher_is_better: Which way the metric goes.

        Raises:
            ValueError: If `keep_last` is not positive.
            OSError: If the directory cannot be made.
        """
        if keep_last < 1:
            raise ValueError(f"keep_last must be positive, got {keep_last}")
        self.directory = Path(directory).absolute()
        self._sign = 1 if higher_is_better else -1
        keep: list[checkpoint_managers.PreservationPolicy] = [
            checkpoint_managers.LatestN(keep_last)
        ]
        if keep_best:
            keep.append(
                checkpoint_managers.BestN(
                    get_metric_fn=self._rank,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(
                self.directory,
                item_handlers=ocp.StandardCheckpointHandler(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
                    best_fn=self._rank,  # without it orbax does not write metrics
                    enable_async_checkpointing=False,
                    cleanup_tmp_directories=True,
                ),
            )
        except OSError as error:
            raise OSError(
                f"{self.directory} cannot hold checkpoints ({error.strerror or error});"
                " give another directory"
            ) from error

    def _rank(self, metrics: dict[str, float | None]) -> float:
        value = metrics[_METRIC]
        return -math.inf if value is None else self._sign * value

    def save(self, step: int, state: Any, metric: float | None = None) -> None:
        """Writes a step, then removes those that are no longer kept.

        On return the step is on disk; until then the steps before it stay.

        Args:
            step: Number of updates done.
            state: Tree of arrays.
            metric: What "best" compares; None or a number that is not finite takes
                no part.

        Raises:
            ValueError: If that step is there already.
            OSError: If the disk is full or not writable; the earlier steps stay.
        """
        if step in self.steps():
            raise ValueError(f"{self.directory} already holds step {step}")
        if metric is not None:
            metric = float(metric) if math.isfinite(metric) else None
        try:
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                metrics={_METRIC: metric},
                force=True,
            )
            self._manager.wait_until_finished()
        except Exception as error:  # tensorstore has its own errors for a full disk
            latest = self.latest_step()
            raise OSError(
                f"step {step} could not be written to {self.directory} "
                f"({_first_line(error)}); the last good step is {latest}. Free some "
                "space and start again."
            ) from error

    def steps(self) -> list[int]:
        """The complete steps on disk, in order."""
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The last complete step, or None."""
        return max(self.steps(), default=None)

    def metric(self, step: int) -> float | None:
        """The metric that a step was saved with, or None."""
        return (self._manager.metrics(step) or {}).get(_METRIC)

    def best_step(self) -> int | None:
        """The step with the best metric, the latest of equals, or None."""
        rated = [(self.metric(step), step) for step in self.steps()]
        ranked = [(self._sign * m, step) for m, step in rated if m is not None]
        return max(ranked)[1] if ranked else None

    def restore(self, template: State, step: int | None = None) -> State:
        """Reads a step.

        Args:
            template: A state of the same structure, shapes and dtypes; its values
                are not used, its shardings are.
            step: Which step; the latest by default.

        Raises:
            ValueError: If there is no such step, it is damaged, or it holds another
                structure.
        """
        step = self.latest_step() if step is None else step
        if step is None or step not in self.steps():
            raise ValueError(
                f"{self.directory} holds no step{'' if step is None else f' {step}'}; "
                f"complete steps: {self.steps() or 'none'}"
            )
        where = f"step {step} of {self.directory}"
        try:
            metadata = self._manager.item_metadata(step)
            stored = {
                leaf.name: (tuple(leaf.shape), str(leaf.dtype))
                for leaf in jax.tree.leaves(metadata.tree)
            }
            # Before reading: orbax would cast, and leave broken threads behind.
            _check_same(_described(template), stored, where)
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
            restored: Any = self._manager.restore(
                step, args=ocp.args.StandardRestore(abstract)
            )
        except _OtherRunError:
            raise
        except Exception as error:  # orbax's own kinds of errors, by the dozen
            raise ValueError(
                f"{where} is damaged ({_first_line(error)}); remove that step's "
                "directory to continue from an earlier one, or start in another one"
            ) from error
        return restored

    def close(self) -> None:
        """Releases orbax's threads."""
        self._manager.close()


class _OtherRunError(ValueError):
    """The step holds the state of another run."""


def _described(state: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every array by orbax's name for it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            tuple(leaf.shape),
            str(leaf.dtype),
        )
        for path, leaf in leaves
    }


def _check_same(
    wanted: dict[str, tuple[tuple[int, ...], str]],
    stored: dict[str, tuple[tuple[int, ...], str]],
    where: str,
) -> None:
    """Raises on the first array that differs, by name."""
    for name in sorted(wanted.keys() | stored.keys()):
        if wanted.get(name) != stored.get(name):
            raise _OtherRunError(
                f"{where} does not fit this run: it holds {name} as "
                f"{stored.get(name, 'nothing')}, this run as "
                f"{wanted.get(name, 'nothing')}; continue with the settings that it "
                "was started with, or start in another directory"
            )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
