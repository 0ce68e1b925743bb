"""What a comparison of bases and methods leaves: a point for each, in one file."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping

from tfew_jax.experiment import directory, results
from tfew_jax.experiment.conditions import PathLike

NUMBERS = "comparison.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One line on one condition and task.

    Attributes:
        task: Its name.
        line: Its name.
        condition: Its name.
        x: Its place on the axis; None beside it.
        accuracy: median, q1, q3 and n over the seeds, as in the run's summary.
        macro_f1: The same.
        zero_shot: The same of the frozen model's accuracy.
        illegal: The same of the share of outputs that are no choice.
        illegal_kinds: Mean over the seeds of the share of each kind of these.
        frozen_illegal: The frozen model's share, in all and by kind.
        num_parameters: Of the frozen model.
        num_trainable: Of the method.
        run: Directory of the run in that of the comparison.
    """

    task: str
    line: str
    condition: str
    x: float | None
    accuracy: Mapping[str, float]
    macro_f1: Mapping[str, float]
    zero_shot: Mapping[str, float]
    illegal: Mapping[str, float]
    illegal_kinds: Mapping[str, float]
    frozen_illegal: Mapping[str, float]
    num_parameters: int
    num_trainable: int
    run: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """All points, by task, line and condition in the order in which they were given.

    Attributes:
        points: The points.
        x_label: What the axis is of.
        log_x: Whether it is logarithmic.
        directory: Where all lies.
    """

    points: tuple[Point, ...]
    x_label: str
    log_x: bool
    directory: pathlib.Path

    def save(self) -> None:
        """Writes `comparison.json` to the directory."""
        content = {
            "x_label": self.x_label,
            "log_x": self.log_x,
            "points": [dataclasses.asdict(point) for point in self.points],
            "versions": results.versions(),
        }
        directory.write_json(self.directory / NUMBERS, content)


def load_comparison(out: PathLike) -> Comparison:
    """Reads what `compare` left.

    Raises:
        ValueError: If there is no finished comparison.
    """
    path = pathlib.Path(out).expanduser() / NUMBERS
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError:
        raise ValueError(
            f"{path} is not there; give the directory of a finished comparison"
        ) from None
    return Comparison(
        points=tuple(Point(**fields) for fields in content["points"]),
        x_label=content["x_label"],
        log_x=content["log_x"],
        directory=path.parent.absolute(),
    )
