"""What a model writes for a task's test rows, and how much of it is illegal.

Kept beside what it follows from, so that a run that is started again reads it.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tfew_jax import metrics
from tfew_jax.data import tasks, tokenized
from tfew_jax.experiment import generating, prepared
from tfew_jax.experiment.base import Base

SHARES = ("illegal", *metrics.ILLEGAL_KINDS)
_FILE = "metrics.json"


def illegal_shares(
    path: pathlib.Path,
    base: Base,
    adapter: pathlib.Path | None,
    task: tasks.Task,
    *,
    made_of: Mapping[str, Any],
    lengths: Mapping[str, int] | None,
    input_eos: bool,
    target_prefix: str,
    max_length: int | None,
    batch_size: int,
) -> dict[str, float]:
    """Shares of illegal outputs; generated unless the directory holds them already.

    Writes generations.csv and, last, metrics.json.

    Args:
        path: Directory for the two.
        base: The frozen model.
        adapter: Directory of the adapter; None for the frozen model alone.
        task: A task with test rows, which its first template renders.
        made_of: What model and adapter are, as JSON values.
        lengths: Most tokens of "inputs" and "targets".
        input_eos: Whether inputs end with the end of sequence.
        target_prefix: Before every choice, and no part of an answer.
        max_length: Most tokens of an output; None for that of targets.
        batch_size: Rows at once.

    Returns:
        As `generating.illegal_outputs`.
    """
    assert task.test is not None
    given = {
        "lengths": tokenized.limits_of(lengths),
        "input_eos": input_eos,
        "target_prefix": target_prefix,
        "max_length": max_length,
    }
    settings = {
        **made_of,
        **given,
        "rows": prepared.digest(task.test),
        "task": task.spec.to_dict(),
    }
    settings = json.loads(json.dumps(settings))
    if (path / _FILE).exists():
        known = json.loads((path / _FILE).read_text("utf-8"))
        if known["settings"] == settings:
            return {name: known[name] for name in SHARES}
    generations = generating.generate(
        base, adapter, task.test, spec=task.spec, batch_size=batch_size, **given
    )
    shares = generating.illegal_outputs(generations)
    path.mkdir(parents=True, exist_ok=True)
    numbers = {**shares, "num_rows": len(generations), "settings": settings}
    generating.write_files(path, generations, numbers)
    return shares
