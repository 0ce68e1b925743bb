"""A run on token arrays that goes on from the end of a shorter one.

Batches and dropout follow from the step, and the state of the optimizer is part of a
checkpoint. So where the learning rate does not depend on the number of steps, the
longer run ends with the bits and the validation losses of one that was not helped.
"""

import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from tfew_jax.experiment import directory, pretraining

_STEPS, _SCHEDULE = "recipe.num_steps", "recipe.schedule"
DEPENDENT = ("linear_decay",)  # schedules of which the number of steps is a part


def from_end_of(
    shorter: str | os.PathLike[str],
) -> Callable[[pathlib.Path], None]:
    """What lets a new run go on from a finished one, as `on_start` of `pretrain`.

    Args:
        shorter: Directory of a run of fewer steps and otherwise the same settings.

    Returns:
        What is called with the directory of the new run. It raises ValueError if the
        other run is not finished, differs in more than the number of steps, is not
        shorter, or its learning rate depends on the number of steps.
    """
    finished = pathlib.Path(shorter)

    def start(path: pathlib.Path) -> None:
        checkpoints = path / pretraining.CHECKPOINTS
        if checkpoints.exists():  # it was started before, and goes on from its own
            return
        before, after = _checked(finished, path)
        records = directory.Records(path / directory.RECORDS)
        for record in directory.Records(finished / directory.RECORDS).all():
            is_due = record["step"] % after["eval_period"] == 0
            if is_due and record["run"] not in records:
                records.append(record)
        step = str(before[_STEPS])
        part = checkpoints.with_name(".checkpoints.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(finished / pretraining.CHECKPOINTS / step, part / step)
        os.replace(part, checkpoints)

    return start


def _checked(
    shorter: pathlib.Path, longer: pathlib.Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of both runs, if the longer one passes the end of the shorter one.

    Raises:
        ValueError: If it does not.
    """
    if not (shorter / directory.FINISHED).exists():
        raise ValueError(f"the run in {shorter} is not finished; start it again")
    before, after = (
        json.loads((path / directory.SETTINGS).read_text("utf-8"))
        for path in (shorter, longer)
    )
    same_length = after | {_STEPS: before[_STEPS]}
    if differing := directory.differences(before, same_length):
        raise ValueError(
            f"{longer} cannot go on from {shorter}, which has other settings: "
            f"{'; '.join(differing)}"
        )
    if before[_STEPS] >= after[_STEPS] or after[_SCHEDULE] in DEPENDENT:
        raise ValueError(
            f"{longer}, {after[_STEPS]} steps of {after[_SCHEDULE]}, cannot go on from "
            f"{shorter}, {before[_STEPS]} steps: it must be longer, and its schedule "
            f"none of {', '.join(DEPENDENT)}"
        )
    return before, after
