"""What was run, as lines of text: one experiment a row."""

import pathlib
from collections.abc import Sequence
from typing import Any

from tfew_jax.report.records import SUBJECTS, Experiment
from tfew_jax.report.tables import NOTHING

COLUMNS = (
    *("directory", "variant", "set", "base", "method", "trainable", "rows", "steps"),
    *("batch", "rate", "seeds", "time", "config hash", "versions"),
)


def describe(experiments: Sequence[Experiment]) -> list[dict[str, str]]:
    """Base, method, recipe, seeds, configuration hash and versions of each."""
    return [_describe(experiment) for experiment in experiments]


def _describe(experiment: Experiment) -> dict[str, str]:
    settings, summary = experiment.settings, experiment.summary
    records = [record.fields for record in experiment.records]
    own = [fields for fields in records if fields["kind"] in SUBJECTS]
    fields = [*own, *records, {}][0]
    base = [_base(summary.get("base")), settings.get("base")]
    method = settings.get("method") or fields.get("method") or {}
    # A run that is scored with several templates was trained once.
    seconds: dict[tuple[Any, Any], float] = {}
    for run in own:
        place = (run.get("seed"), run.get("fold"))
        seconds[place] = max(float(run.get("wall_time_s") or 0), seconds.get(place, 0))
    tasks = dict.fromkeys(record.task for record in experiment.records)
    versions = fields.get("versions") or {}
    return {
        "directory": str(experiment.path),
        "variant": experiment.variant,
        "set": ", ".join(tasks) or NOTHING,
        "base": " ".join(str(part) for part in base if part) or NOTHING,
        "method": str(method.get("name", NOTHING)),
        "trainable": _count(fields.get("num_trainable", fields.get("num_parameters"))),
        "rows": _numbers({f.get("num_train_rows") for f in own}),
        "steps": _numbers({f.get("num_steps") for f in own}),
        "batch": str(settings.get("recipe.batch_size", NOTHING)),
        "rate": str(settings.get("recipe.learning_rate", NOTHING)),
        "seeds": ", ".join(dict.fromkeys(str(f.get("seed")) for f in own)) or NOTHING,
        "time": duration(sum(seconds.values())) if seconds else NOTHING,
        "config hash": _numbers({f.get("config_hash") for f in records}),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) or NOTHING,
    }


def _base(source: Any) -> Any:
    """The embedded base by its name, wherever the package was installed."""
    parts = pathlib.PurePath(source).parts if isinstance(source, str) else ()
    return "embedded" if parts[-3:] == ("tfew_jax", "assets", "base") else source


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else NOTHING


def _numbers(values: set[Any]) -> str:
    return ", ".join(sorted(str(v) for v in values if v is not None)) or NOTHING


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
