"""From the records of text-to-text runs to the numbers that people read."""

from collections.abc import Mapping, Sequence
from typing import Any

from tfew_jax import metrics
from tfew_jax.data import text_answers
from tfew_jax.experiment import selection, text_run

Record = Mapping[str, Any]


def summarize(records: Sequence[Record]) -> dict[str, Any]:
    """Spread of the best adapters' scores over seeds, and how soon runs were good.

    Args:
        records: Of all runs, see `text_run`.

    Returns:
        `sets`: for each set that was measured its name and split, median, quartiles
        and number of the score and of each metric and of the share of illegal outputs
        (None where any text may be an answer); what the adapters were trained on
        comes first. `runs`: for each seed the best step, its validation score and
        the last step. `convergence`: see `convergence`.
    """
    best = [record for record in records if record["kind"] == text_run.BEST]
    shifted = [record for record in records if record["kind"] == text_run.SHIFTED]
    sets: dict[tuple[str, str], list[Record]] = {}
    for record in [*best, *shifted]:
        if record["scores"] is not None:
            sets.setdefault((record["task"], record["split"]), []).append(record)
    scores = _validations(records, "score")
    return {
        "sets": [_spread(of_set) for of_set in sets.values()],
        "runs": [
            {
                "seed": record["seed"],
                "best_step": record["best_step"],
                "best_score": scores.get(record["seed"], {}).get(record["best_step"]),
                "last_step": record["last_step"],
            }
            for record in best
        ],
        "convergence": convergence(records),
    }


def convergence(records: Sequence[Record]) -> dict[str, Any] | None:
    """How soon validation was within one percent of what the runs reach on average.

    Lester et al., 2021 (https://arxiv.org/abs/2104.08691), Table 5, which gives the
    time. What the runs reach on average is taken as the mean over seeds of each one's
    best validation score, and the percent as one of that mean; the paper leaves both
    open.

    Returns:
        The mean, and for each seed the first such step and the seconds of training
        and validation until then, without what stops have lost: None where it never
        was. None without validation.
    """
    scores, seconds = (
        _validations(records, "score"),
        _validations(records, "wall_time_s"),
    )
    bests = [
        of_seed[step]
        for of_seed in scores.values()
        if (step := selection.best_step(of_seed)) is not None
    ]
    if not bests:
        return None
    mean = sum(bests) / len(bests)
    steps = {s: selection.first_step_near(scores[s], mean) for s in scores}
    return {
        "mean_best_score": mean,
        "first_step_within_1_percent": [
            {
                "seed": seed,
                "step": step,
                "wall_time_s": None if step is None else seconds[seed][step],
            }
            for seed, step in steps.items()
        ],
    }


def table(summary: Mapping[str, Any]) -> str:
    """The scores as lines of text."""
    if not summary["sets"]:
        return "nothing was measured"
    width = max(len(_title(of_set)) for of_set in summary["sets"])
    lines = [f"{'':{width}}{'median':>8}{'q1':>8}{'q3':>8}{'n':>5}  score"]
    for of_set in summary["sets"]:
        spread = of_set["score"]
        values = "".join(f"{spread[name]:8.3f}" for name in ("median", "q1", "q3"))
        illegal = of_set["illegal"]
        note = "" if illegal is None else f", illegal {illegal['median']:.3f}"
        what = " and ".join(text_answers.MAIN_METRICS[of_set["measured_as"]])
        lines.append(f"{_title(of_set):{width}}{values}{spread['n']:5d}  {what}{note}")
    steps = ", ".join(f"{run['best_step']}" for run in summary["runs"])
    return "\n".join([*lines, f"best steps: {steps} of {summary['num_steps']}"])


def _title(of_set: Mapping[str, Any]) -> str:
    return f"{of_set['task']}, {of_set['split']}"


def _spread(records: Sequence[Record]) -> dict[str, Any]:
    first = records[0]
    illegal = [r["illegal"]["illegal"] for r in records if r["illegal"] is not None]
    return {
        "task": first["task"],
        "split": first["split"],
        "measured_as": first["measured_as"],
        "num_rows": first["num_scored_rows"],
        "score": metrics.summarize([record["score"] for record in records]),
        "metrics": {
            name: metrics.summarize([record["scores"][name] for record in records])
            for name in first["scores"]
        },
        "illegal": metrics.summarize(illegal) if illegal else None,
    }


def _validations(records: Sequence[Record], field: str) -> dict[int, dict[int, Any]]:
    """A field of the validations by seed and step."""
    found: dict[int, dict[int, Any]] = {}
    for record in records:
        if record["kind"] == text_run.VALIDATION:
            found.setdefault(record["seed"], {})[record["step"]] = record[field]
    return found
