"""What a sweep leaves: a trial for each point of the grid, in one file and a table.

All are told and none is chosen: the scores are of test rows, and the best of many
scores on these is no honest number.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

from tfew_jax.experiment import directory, results

NUMBERS = "sweep.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One method at one rate on one task, over all seeds.

    Attributes:
        task: Its name.
        line: Name of what is tuned.
        learning_rate: Peak rate.
        accuracy: median, q1, q3 and n over the seeds, as in the run's summary; None
            where a run failed, as of the following ones.
        macro_f1: The same.
        zero_shot: The same of the frozen model's accuracy.
        num_trainable: Of the method.
        failures: Why runs failed, by their names.
        run: Its directory in that of the sweep.
    """

    task: str
    line: str
    learning_rate: float
    accuracy: Mapping[str, float] | None
    macro_f1: Mapping[str, float] | None
    zero_shot: Mapping[str, float] | None
    num_trainable: int
    failures: Mapping[str, str]
    run: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """All trials, by task, line and rate in the order in which they were given.

    Attributes:
        trials: The trials.
        directory: Where all lies.
    """

    trials: tuple[Trial, ...]
    directory: pathlib.Path

    def save(self) -> None:
        """Writes `sweep.json` and `summary.json` to the directory."""
        content = {
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
            "versions": results.versions(),
        }
        directory.write_json(self.directory / NUMBERS, content)
        failed = [name for trial in self.trials for name in trial.failures]
        summary = {
            "kind": "sweep",
            "tasks": list(dict.fromkeys(trial.task for trial in self.trials)),
            "lines": list(dict.fromkeys(trial.line for trial in self.trials)),
            "learning_rates": sorted({trial.learning_rate for trial in self.trials}),
            "num_trials": len(self.trials),
            "num_failed_runs": len(failed),
            "versions": results.versions(),
        }
        directory.write_json(self.directory / "summary.json", summary)

    def table(self) -> str:
        """Accuracies in percent, median [q1, q3], one trial a line."""
        header = ("task", "method", "rate", "zero-shot", "accuracy", "[q1, q3]")
        rows = [header, *map(_cells, self.trials)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def load_sweep(out: str | os.PathLike[str]) -> Sweep:
    """Reads what `sweep` left.

    Raises:
        ValueError: If there is no finished sweep.
    """
    path = pathlib.Path(out).expanduser() / NUMBERS
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError:
        raise ValueError(
            f"{path} is not there; give the directory of a finished sweep"
        ) from None
    trials = tuple(Trial(**fields) for fields in content["trials"])
    return Sweep(trials=trials, directory=path.parent.absolute())


def _cells(trial: Trial) -> tuple[str, ...]:
    names = (trial.task, trial.line, f"{trial.learning_rate:g}")
    if trial.accuracy is None or trial.zero_shot is None:
        return (*names, "", f"{len(trial.failures)} runs failed", "")
    numbers = {k: f"{100 * v:.1f}" for k, v in trial.accuracy.items()}
    zero_shot = f"{100 * trial.zero_shot['median']:.1f}"
    quartiles = f"[{numbers['q1']}, {numbers['q3']}]"
    return (*names, zero_shot, numbers["median"], quartiles)
