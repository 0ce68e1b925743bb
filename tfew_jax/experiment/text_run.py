"""One run on a text-to-text task: trained, validated on the way, the best step kept.

Its directory holds

    checkpoints/       the last steps
    adapter/           the adapter of the step with the best validation score
    last_adapter/      that of the last step
    eval/SET-SPLIT/    what the best one writes, with its metrics

A validation is a record of its own. The adapter it finds best is saved before it, so
that a run that died in between does both again, with the same bits.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from tfew_jax import checkpoint, train
from tfew_jax.data import batching
from tfew_jax.data.text_to_text import Example
from tfew_jax.experiment import (
    directory,
    results,
    scoring,
    selection,
    text_measuring,
    tuning,
)
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.text_measuring import Measured, Questions
from tfew_jax.types import Params

VALIDATION, BEST, SHIFTED = "validation", "text", "shifted_text"  # kinds of records


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextProtocol:
    """Which runs there are, and when they are measured.

    Attributes:
        seeds: One run each.
        eval_period: Updates between validations.
        patience: Validations without improvement after which a run stops; None for
            none, as in the paper.
        max_eval_rows: Examples of a validation in training, or a few more, as those of
            a question stay together; None for all. In the end all are measured.
        eval_batch_size: Rows that are answered at once.

    Raises:
        ValueError: If a number is not positive, or there are no seeds or one twice.
    """

    seeds: tuple[int, ...] = (0,)
    eval_period: int = 1000
    patience: int | None = None
    max_eval_rows: int | None = None
    eval_batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("eval_period", "patience", "max_eval_rows", "eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                f"seeds are {list(self.seeds)}; give one or more, each once"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Setup:
    """What the runs of all seeds have in common, and what determines their results.

    Attributes:
        task: Name of the task, with its set where it has several.
        examples: To train on.
        validation: By which the best step is chosen; None keeps the last one.
        others: What the best adapter is measured on besides.
        form: What rows become.
        tuner: What trains.
        protocol: Which runs, and when they are measured.
        variant: What reports call these runs.
    """

    task: str
    examples: Sequence[Example]
    validation: Questions | None
    others: Sequence[Questions]
    form: text_measuring.Format
    tuner: tuning.Tuner
    protocol: TextProtocol
    variant: str

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """What determines the result, as JSON values."""
        protocol, validation = dataclasses.asdict(self.protocol), self.validation
        base = self.tuner.base
        return {
            **{f"protocol.{name}": value for name, value in protocol.items()},
            **{f"recipe.{k}": v for k, v in self.tuner.recipe.to_dict().items()},
            **{f"form.{name}": value for name, value in self.form.to_dict().items()},
            "task": self.task,
            "rows.train": text_measuring.digest(self.examples),
            "rows.validation": validation and [validation.split, validation.digest],
            "rows.others": {other.label: other.digest for other in self.others},
            "method": self.tuner.method.to_dict(),
            **self.tuner.start_settings,
            "base": base.fingerprint,
            "dropout_rate": base.config.dropout_rate,
            "variant": self.variant,
        }

    @functools.cached_property
    def config_hash(self) -> str:
        """Tells settings apart."""
        return directory.settings_hash(self.settings)

    @functools.cached_property
    def validated(self) -> Questions | None:
        """What is answered in training."""
        return self.validation and self.validation.drawn(self.protocol.max_eval_rows)

    def answer(self, questions: Questions, params: Params) -> Measured:
        """What an adapted model writes, measured."""
        return text_measuring.answer(
            self.tuner.base,
            self.tuner.model,
            params,
            questions,
            batch_size=self.protocol.eval_batch_size,
        )


class TextRun:
    """The run of one seed.

    Attributes:
        name: Of the run.
    """

    def __init__(
        self,
        setup: Setup,
        seed: int,
        path: pathlib.Path,
        *,
        records: directory.Records,
        progress: Progress,
    ):
        """Reads nothing and writes nothing yet.

        Args:
            setup: What it does.
            seed: Of the order of the rows, dropout and initial values.
            path: Its directory, after which it is named.
            records: Where its scores go.
            progress: Where its steps are reported.
        """
        self.name = path.name
        self._setup, self._seed, self._path = setup, seed, path
        self._records, self._progress = records, progress
        self._clock = time.monotonic()

    def do(
        self,
        batches: batching.TrainBatches,
        *,
        checkpoint_period: int | None,
        keep_last: int,
    ) -> None:
        """Trains, saves, measures and, as the last thing, records.

        Raises:
            FloatingPointError: If the loss is not finite.
            training.Interrupted: If the user pressed Ctrl-C; the state is saved.
        """
        setup, validation = self._setup, self._setup.validation
        self._path.mkdir(parents=True, exist_ok=True)
        self._clock = time.monotonic()
        try:
            trained, first_step = setup.tuner.train(
                batches.batch_at,
                seed=self._seed,
                name=self.name,
                progress=self._progress,
                checkpoints=self._path / "checkpoints" if checkpoint_period else None,
                checkpoint_period=checkpoint_period,
                keep_last=keep_last,
                watch=None if validation is None else self._watch,
            )
        except train.NonFiniteLoss as error:
            places = [str(setup.examples[row]["where"]) for row in error.rows]
            raise FloatingPointError(
                error.told(self.name, places, checkpoint_period)
            ) from error
        scores = validation_scores(self._records, self._seed)
        last_step = max(scores, default=setup.tuner.recipe.num_steps)
        best_step = selection.best_step(scores) or last_step
        self._save(trained, last_step, "last_adapter")
        if validation is None:
            self._save(trained, last_step, "adapter")
        best = checkpoint.load_adapter(self._path / "adapter", setup.tuner.base.config)
        _, params = scoring.adapted(setup.tuner.base, best)
        steps = {"best_step": best_step, "last_step": last_step}
        for other in setup.others:
            name = f"{self.name}-{other.label}"
            if name not in self._records:
                measured = self._evaluate(other, params)
                record = self._record(name, SHIFTED, other, measured)
                self._records.append(record | steps)
        measured = None if validation is None else self._evaluate(validation, params)
        record = self._record(self.name, BEST, validation, measured)
        self._records.append(record | steps | {"first_step": first_step})

    def _watch(self, step: int, state: train.TrainState) -> bool:
        """Validates where it is due and not done yet; says whether the run ends."""
        setup, protocol = self._setup, self._setup.protocol
        is_last = step == setup.tuner.recipe.num_steps
        if setup.validated is None or (step % protocol.eval_period and not is_last):
            return False
        name = f"{self.name}-validation-{step}"
        if name in self._records:
            self._clock = time.monotonic()  # what is done again does not count
        else:
            trained = train.adapter_params(state)
            measured = setup.answer(setup.validated, setup.tuner.params(trained))
            scores = validation_scores(self._records, self._seed)
            if selection.best_step(scores | {step: measured.score}) == step:
                self._save(trained, step, "adapter")
            record = self._record(name, VALIDATION, setup.validated, measured)
            seconds = self._seconds()
            self._records.append(record | {"step": step, "wall_time_s": seconds})
            self._show(VALIDATION, step, measured)
        scores = validation_scores(self._records, self._seed)
        # A run that was stopped may have been validated beyond where it stands.
        reached = {at: score for at, score in scores.items() if at <= step}
        return selection.stops(reached, protocol.patience)

    def _seconds(self) -> float:
        """Spent on this run up to here, without what a stop has lost."""
        spent = [0.0, *validation_values(self._records, self._seed, "wall_time_s")]
        now = time.monotonic()
        since, self._clock = now - self._clock, now
        return round(spent[-1] + since, 3)

    def _evaluate(self, questions: Questions, params: Params) -> Measured:
        """What the best adapter writes, which is kept."""
        measured = self._setup.answer(questions, params)
        path = directory.make(self._path / "eval" / questions.label)
        text_measuring.write_files(path, measured)
        self._show(questions.label, self._setup.tuner.recipe.num_steps, measured)
        return measured

    def _show(self, what: str, step: int, measured: Measured) -> None:
        numbers = measured.scores | {"score": measured.score}
        if measured.illegal is not None:
            numbers |= {"illegal": measured.illegal["illegal"]}
        self._progress.scalars(
            self.name, step, {f"{what}/{name}": v for name, v in numbers.items()}
        )
        shown = "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        at = f"step {step}  " if what == VALIDATION else "best adapter  "
        self._progress.say(f"{self.name}: {at}{what} {shown}")

    def _save(self, trained: Params, step: int, name: str) -> None:
        setup, base = self._setup, self._setup.tuner.base
        metadata = {
            "base": base.source,
            "base_fingerprint": base.weights_fingerprint,
            "text_task": {"name": setup.task, **setup.form.to_dict()},
            "seed": self._seed,
            "step": step,
            "recipe": setup.tuner.recipe.to_dict(),
            "versions": results.versions(),
        }
        adapter = setup.tuner.adapter(trained, task={}, metadata=metadata)
        dataclasses.replace(adapter, task=None).save(self._path / name)

    def _record(
        self,
        name: str,
        kind: str,
        questions: Questions | None,
        measured: Measured | None,
    ) -> dict[str, Any]:
        setup = self._setup
        return {
            "run": name,
            "kind": kind,
            "variant": setup.variant,
            "task": setup.task if questions is None else questions.name,
            "trained_on": setup.task,
            "split": None if questions is None else questions.split,
            "measured_as": questions and questions.reading.measured_as,
            "seed": self._seed,
            "fold": None,
            "scores": None if measured is None else measured.scores,
            "score": None if measured is None else measured.score,
            "illegal": None if measured is None else measured.illegal,
            "num_scored_rows": 0 if measured is None else len(measured),
            "method": setup.tuner.method.to_dict(),
            "config_hash": setup.config_hash,
        }


def validation_scores(records: directory.Records, seed: int) -> dict[int, float]:
    """Scores of a seed's validations by the number of updates."""
    steps = validation_values(records, seed, "step")
    return dict(zip(steps, validation_values(records, seed, "score"), strict=True))


def validation_values(records: directory.Records, seed: int, field: str) -> list[Any]:
    """A field of a seed's validations, in their order."""
    return [
        record[field]
        for record in records.all()
        if record["kind"] == VALIDATION and record["seed"] == seed
    ]
