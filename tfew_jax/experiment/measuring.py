"""What is measured of a run and recorded: scores by templates, and plain baselines.

One record a kind of prediction, view (see `views`) and run; the frozen model is
recorded once where neither its rows nor their templates depend on the seed.
"""

import dataclasses
import pathlib
import time
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax import evaluate, models
from tfew_jax.data import batching, demonstrations, fewshot
from tfew_jax.experiment import (
    baselines,
    directory,
    plan,
    prepared,
    results,
    scoring,
    summary,
)
from tfew_jax.experiment.base import Base
from tfew_jax.experiment.progress import Progress
from tfew_jax.experiment.views import View, make_views
from tfew_jax.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Measurer:
    """Scores the rows of runs and makes their records.

    Attributes:
        base: The frozen model.
        spec: The task.
        splits: Its rows.
        protocol: How they are scored.
        views: By which templates; the first one's record is the run's own.
        common: What all records say.
        frozen_scores: What the frozen model says of the rows, by the name of its
            record; experiments that differ in what is tuned may share it.
    """

    base: Base
    spec: fewshot.TaskSpec
    splits: prepared.Splits
    protocol: plan.Protocol
    views: tuple[View, ...]
    common: dict[str, Any]
    frozen_scores: dict[str, scoring.Scores] = dataclasses.field(default_factory=dict)

    def split_of(self, run: plan.Run) -> prepared.Split:
        """The rows that a run is scored on, and others."""
        split = self.splits.test if run.split == "test" else self.splits.train
        assert split is not None
        return split

    def baselines(
        self,
        run: plan.Run,
        path: pathlib.Path,
        records: directory.Records,
        progress: Progress,
    ) -> None:
        """Records what frozen model, majority and TF-IDF say of a run's rows.

        The frozen model's scores of every choice are kept under `zero_shot/`.
        """
        if run.split is None:
            return
        for view in self.views:
            name = self._zero_shot_name(run, view)
            if name not in records:
                start = time.monotonic()
                if name not in self.frozen_scores:
                    model = models.T5(self.base.config, None)
                    scored = self._score(model, self.base.packed, run, view)
                    self.frozen_scores[name] = scored
                scored = self.frozen_scores[name]
                record = self.record(name, "zero_shot", run, view, scored)
                file = pathlib.Path("zero_shot", f"{name.replace('/', '-')}.npz")
                (path / file).parent.mkdir(exist_ok=True)
                scoring.save(path / file, scored)
                record["choice_scores"] = file.as_posix()
                records.append(record | _wall_time(start))
                accuracy = record["scores"]["accuracy"]
                progress.say(f"{name}: accuracy {accuracy:.3f}")
        for kind in ("majority", "tfidf"):
            name = f"{run.name}/{kind}"
            if name not in records:
                start = time.monotonic()
                predictions = self._plain(kind, run)
                if predictions is not None:
                    record = self._plain_record(name, kind, run, predictions)
                    records.append(record | _wall_time(start))

    def measure(
        self,
        run: plan.Run,
        model: models.T5,
        params: Params,
        path: pathlib.Path,
        records: directory.Records,
        more: dict[str, Any],
        *,
        kind: str = "tuned",
        prompted: demonstrations.PromptedRows | None = None,
    ) -> dict[str, Any]:
        """Scores a run by all views; keeps the scores of every choice.

        Args:
            run: The run.
            model: The model that the run is of, adapted or not.
            params: All its parameters.
            path: Directory of the run.
            records: Where the records of further views go.
            more: What they say beside the common.
            kind: What records call it.
            prompted: The run's scored rows behind demonstrations; None for the rows
                as they are.

        Returns:
            The run's own record, which is to be appended last.
        """

        def measured(name: str, view: View) -> dict[str, Any]:
            scored = self._score(model, params, run, view, prompted)
            record = self.record(name, kind, run, view, scored)
            record["choice_scores"] = self._save(path, run, view, scored)
            if prompted is not None:
                record["num_dropped"] = prompted.losses(self.templates(run, view))
            return record | more

        if run.split is None:
            return self.record(run.name, kind, run, self.views[0], None) | more
        for view in self.views[1:]:
            if (name := f"{run.name}/{view.name}") not in records:
                records.append(measured(name, view))
        return measured(run.name, self.views[0])

    def predictions(
        self, path: pathlib.Path, runs: list[plan.Run]
    ) -> list[prepared.Prediction]:
        """What runs said of the rows they were scored on, by the first view."""
        predictions = []
        view = self.views[0]
        for run in runs:
            split = self.split_of(run)
            scores, ids = scoring.load(
                path / "runs" / run.name / self._scores_file(view)
            )
            predictions += prepared.make_predictions(
                split,
                ids,
                scores,
                evaluate.predict(scores),
                by_template=self._by_template(run, view),
            )
        return sorted(predictions, key=lambda prediction: prediction.row)

    def summarized(self, records: directory.Records) -> list[dict[str, Any]]:
        """All records but those of other views than the first one asked for."""
        asked = self.protocol.eval_templates
        first = asked if isinstance(asked, str | int) else asked[0]
        shown = make_views(first, len(self.spec.templates))
        templates = {view.in_records for view in shown}
        return [
            record
            for record in records.all()
            if record["kind"] in ("majority", "tfidf")
            or record["template"] in templates
        ]

    def record(
        self,
        name: str,
        kind: str,
        run: plan.Run,
        view: View,
        scored: scoring.Scores | None,
    ) -> dict[str, Any]:
        """What `results.jsonl` says of scored rows; without scores where None."""
        numbers = None
        if scored is not None:
            scores, ids = scored
            numbers = summary.scores(
                evaluate.predict(scores),
                self.split_of(run).labels[ids],
                num_choices=self.splits.num_choices,
            )
        index = view.template if isinstance(view.template, int) else None
        return self._record(name, kind, run, numbers) | {
            "template": view.in_records,
            "template_name": None if index is None else self.spec.template_name(index),
        }

    def _record(
        self, name: str, kind: str, run: plan.Run, numbers: dict[str, Any] | None
    ) -> dict[str, Any]:
        one_for_all = name.startswith("zero_shot")  # of no seed and no draw
        return {
            "run": name,
            "kind": kind,
            "task": self.spec.name,
            "seed": None if one_for_all else run.seed,
            "fold": run.fold,
            "split": run.split,
            "template": None,
            "template_name": None,
            "scores": numbers,
            "num_train_rows": 0 if kind == "zero_shot" else len(run.train_rows),
            "num_scored_rows": len(run.scored_rows),
            **self.common,
            "num_steps": self.common["num_steps"] if kind == "tuned" else 0,
            "versions": results.versions(),
        }

    def _zero_shot_name(self, run: plan.Run, view: View) -> str:
        depends = run.split != "test" or view.depends_on_seed
        name = f"{run.name}/zero_shot" if depends else "zero_shot"
        return name if view is self.views[0] else f"{name}/{view.name}"

    def templates(self, run: plan.Run, view: View) -> Int[np.ndarray, " rows"]:
        """The template of every row that a run is scored on."""
        return self._by_template(run, view)[list(run.scored_rows)]

    def _by_template(self, run: plan.Run, view: View) -> np.ndarray:
        tokens = self.split_of(run).tokens
        return view.draw(tokens.num_rows, tokens.num_templates, run.seed)

    def _score(
        self,
        model: models.T5,
        params: Params,
        run: plan.Run,
        view: View,
        prompted: demonstrations.PromptedRows | None = None,
    ) -> scoring.Scores:
        if prompted is None:
            tokens = self.split_of(run).tokens.take(run.scored_rows)
        else:
            tokens = prompted.tokens
        batches = batching.eval_batches(
            tokens,
            self.protocol.eval_batch_size,
            template=self.templates(run, view),
        )
        with scoring.explained_memory(self.base, self.protocol.eval_batch_size):
            return evaluate.score_choices(
                model, params, batches, normalization=self.protocol.normalization
            )

    def _save(
        self, path: pathlib.Path, run: plan.Run, view: View, scored: scoring.Scores
    ) -> str:
        scoring.save(path / self._scores_file(view), scored)
        return f"runs/{run.name}/{self._scores_file(view)}"

    def _scores_file(self, view: View) -> str:
        return "scores.npz" if view is self.views[0] else f"scores-{view.name}.npz"

    def _plain(self, kind: str, run: plan.Run) -> np.ndarray | None:
        """Predictions without the model; None where there are no common classes."""
        split, train = self.split_of(run), self.splits.train
        train_rows = list(run.train_rows)
        labels = train.labels[train_rows].tolist()
        if kind == "majority":
            return baselines.predict_majority(labels, len(run.scored_rows))
        if train.tokens.class_names is None:
            return None
        return baselines.predict_tfidf(
            [train.texts[row] for row in train_rows],
            labels,
            [split.texts[row] for row in run.scored_rows],
        )

    def _plain_record(
        self, name: str, kind: str, run: plan.Run, predictions: np.ndarray
    ) -> dict[str, Any]:
        numbers = summary.scores(
            predictions,
            self.split_of(run).labels[list(run.scored_rows)],
            num_choices=self.splits.num_choices,
        )
        return self._record(name, kind, run, numbers)


def _wall_time(start: float) -> dict[str, float]:
    """Seconds since a reading of the monotonic clock, as records say them."""
    return {"wall_time_s": round(time.monotonic() - start, 3)}
