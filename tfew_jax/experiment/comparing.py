"""Bases and methods side by side: every line tuned on the model of every condition.

    runs/TASK/LINE/CONDITION/    an ordinary run of `train`, with what each of its
                                 adapters writes in runs/SEED/generation/
    frozen/TASK/CONDITION/       what the frozen model writes, by the first condition
                                 that has it
    bases/CONDITION/             the adaptation of a condition, a run of `pretrain`
    comparison.json              all numbers, written last

Started again, it does what is not done yet. Conditions, lines and tasks may be added
later; each run refuses settings other than those it was made with.
"""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from tfew_jax import metrics
from tfew_jax.data import tasks as tasks_lib
from tfew_jax.data import token_arrays
from tfew_jax.experiment import conditions as conditions_lib
from tfew_jax.experiment import (
    continuing,
    directory,
    jobs,
    outputs,
    plan,
    pretraining,
    study,
)
from tfew_jax.experiment.base import Base, load_base
from tfew_jax.experiment.comparison import Comparison, Point
from tfew_jax.experiment.conditions import Condition, Line, PathLike, folder
from tfew_jax.experiment.progress import Progress

BASES, FROZEN, RUNS = "bases", "frozen", "runs"

LoadBase = Callable[..., Base]
SomeTask = tasks_lib.Task | tasks_lib.MakeTask | str


def compare(
    *,
    out: PathLike,
    conditions: Sequence[Condition | Sequence[Condition]],
    lines: Sequence[Line],
    tasks: Sequence[SomeTask],
    seeds: Sequence[int] = jobs.SEEDS,
    num_shots: int | None = None,
    lengths: Mapping[str, int] | None = None,
    eval_batch_size: int = 32,
    normalization: str = "mean",
    eval_templates: str | int | Sequence[str | int] = "first",
    input_eos: bool = True,
    max_output_length: int | None = None,
    x_label: str = "",
    log_x: bool = False,
    load: LoadBase = load_base,
    checkpoint_period: int = 200,
    overwrite: bool = False,
    quiet: bool = False,
    on_start: jobs.OnStart | None = None,
) -> Comparison:
    """Tunes every line on every condition and task, and lets the adapters write.

    Args:
        out: Directory of the comparison; one that was stopped goes on.
        conditions: Conditions, or several at once, as `adaptation_lengths` and
            `model_family` make them.
        lines: What is tuned on each of them.
        tasks: Tasks with test rows, what makes them for a vocabulary, or names of
            embedded ones.
        seeds: One run each.
        num_shots: See `train`, as of the following ones.
        lengths: Most tokens of "inputs" and "targets".
        eval_batch_size: Rows that are scored at once.
        normalization: "mean" or "sum" over a choice's tokens.
        eval_templates: By which templates rows are scored. What adapters write is for
            the first one.
        input_eos: Whether inputs end with the end of sequence.
        max_output_length: Most tokens of what they write; None for that of targets.
        x_label: What the axis of the chart is of.
        log_x: Whether it is logarithmic.
        load: From a directory, or None, to a base; `dropout_rate` is passed for the
            adapted ones.
        checkpoint_period: Steps between checkpoints of a run.
        overwrite: Replace an earlier comparison instead of continuing it.
        quiet: Show no progress.
        on_start: Called with the directory once it is ours.

    Raises:
        ValueError: If something given cannot work. All bases are loaded and all rows
            prepared once before anything compiles.
    """
    if max_output_length is not None and max_output_length < 1:
        raise ValueError(f"max_output_length must be positive, got {max_output_length}")
    if checkpoint_period < 1:
        raise ValueError(f"checkpoint_period must be positive, got {checkpoint_period}")
    comparer = _Comparer(
        conditions=tuple(_flat(conditions)),
        lines=tuple(lines),
        tasks=tuple(tasks),
        scoring={
            "seeds": tuple(seeds),
            "num_shots": num_shots,
            "lengths": lengths,
            "eval_batch_size": eval_batch_size,
            "normalization": normalization,
            "eval_templates": eval_templates,
            "input_eos": input_eos,
        },
        max_output_length=max_output_length,
        load=load,
        checkpoint_period=checkpoint_period,
        quiet=quiet,
    )
    comparer.check(log_x=log_x)
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(
            directory.open_directory(
                out, settings={"kind": "comparison"}, overwrite=overwrite
            )
        )
        if on_start is not None:
            on_start(path)
        log = stack.enter_context(open(path / "log.txt", "a", encoding="utf-8"))
        points = comparer.run(path, Progress(log_file=log, quiet=quiet))
        found = Comparison(points=points, x_label=x_label, log_x=log_x, directory=path)
        found.save()
        return found


def _flat(conditions: Sequence[Condition | Sequence[Condition]]) -> Iterator[Condition]:
    for given in conditions:
        yield from [given] if isinstance(given, Condition) else given


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Comparer:
    """What determines the result, and how it is reached."""

    conditions: tuple[Condition, ...]
    lines: tuple[Line, ...]
    tasks: tuple[SomeTask, ...]
    scoring: Mapping[str, Any]  # arguments that `train` and a protocol share
    max_output_length: int | None
    load: LoadBase
    checkpoint_period: int
    quiet: bool

    def check(self, *, log_x: bool) -> None:
        """Refuses what cannot work, as far as it shows without compiling.

        Raises:
            ValueError: If there is something.
        """
        conditions_lib.check_names("condition", [c.name for c in self.conditions])
        conditions_lib.check_names("line", [line.name for line in self.lines])
        if not self.tasks:
            raise ValueError("there is no task to compare on; give at least one")
        for condition in self.conditions:
            x = condition.x
            if log_x and not isinstance(x, str) and x is not None and x <= 0:
                raise ValueError(
                    f"{condition.name} is at {x}, which a logarithmic axis does not "
                    "have; give a positive number, None or a linear axis"
                )
        for base in dict.fromkeys(c.base for c in self.conditions):
            self._check_base([c for c in self.conditions if c.base == base])

    def _check_base(self, some: list[Condition]) -> None:
        """Loads the base that conditions share, and prepares their rows."""
        base = self._start(some[0])
        adaptations = [c.adaptation for c in some if c.adaptation is not None]
        arrays = [path for a in adaptations for path in (a.arrays, a.validation)]
        for path in dict.fromkeys(arrays):
            if path is not None:
                token_arrays.load(path).check_vocabulary(base.tokenizer)
        for task in self._made(base):
            own = {(c.target_prefix, repr(c.settings)): c for c in some}
            for line, condition in itertools.product(self.lines, own.values()):
                study.Study(
                    base,
                    task,
                    method=line.method_on(condition),
                    recipe=line.recipe,
                    protocol=plan.Protocol(
                        **self.scoring,
                        num_folds=0,
                        target_prefix=condition.target_prefix,
                    ),
                )

    def _start(self, condition: Condition) -> Base:
        try:
            return self.load(condition.base)
        except ValueError as error:
            raise ValueError(f"the base of {condition.name}: {error}") from error

    def _made(self, base: Base) -> list[tasks_lib.Task]:
        """The tasks for a base's vocabulary.

        Raises:
            ValueError: If two have one name, or one has no test rows.
        """
        lengths = self.scoring["lengths"]
        made = [jobs.make_task(task, base, lengths) for task in self.tasks]
        conditions_lib.check_names("task", [task.name for task in made])
        for task in made:
            if task.test is None:
                raise ValueError(
                    f"task {task.name} has no test rows to compare on; give some"
                )
        return made

    def run(self, path: pathlib.Path, progress: Progress) -> tuple[Point, ...]:
        """Does what is not done yet, condition by condition."""
        points: dict[tuple[int, int, int], Point] = {}
        for c, condition in enumerate(self.conditions):
            base = self._base(condition, path, progress)
            same = next(c for c in self.conditions if c.is_same_model(condition))
            for t, task in enumerate(self._made(base)):
                frozen = self._illegal_shares(
                    path / FROZEN / folder(task.name) / folder(same.name),
                    base,
                    None,
                    task,
                    condition,
                    made_of={"base": base.fingerprint},
                )
                for n, line in enumerate(self.lines):
                    points[t, n, c] = self._point(
                        path, base, task, line, condition, frozen, progress
                    )
        return tuple(points[place] for place in sorted(points))

    def _base(
        self, condition: Condition, path: pathlib.Path, progress: Progress
    ) -> Base:
        """The frozen model of a condition, adapted if it says so."""
        start, adaptation = self._start(condition), condition.adaptation
        if adaptation is None:
            return start
        own = path / BASES / folder(condition.name)
        shorter = {
            other.adaptation.num_steps: path / BASES / folder(other.name)
            for other in self.conditions
            if other.adaptation is not None
            and other.base == condition.base
            and other.adaptation.is_start_of(adaptation)
        }
        done = [steps for steps, run in shorter.items() if _is_finished(run)]
        progress.say(f"{condition.name}: {adaptation.num_steps} steps of adaptation")
        config = dataclasses.replace(start.config, dropout_rate=adaptation.dropout_rate)
        result = pretraining.pretrain(
            model_dir=own,
            base=dataclasses.replace(start, config=config),
            arrays=adaptation.arrays,
            validation=adaptation.validation,
            recipe=adaptation.recipe,
            seed=adaptation.seed,
            eval_period=adaptation.eval_period,
            eval_batches=adaptation.eval_batches,
            checkpoint_period=adaptation.checkpoint_period,
            quiet=self.quiet,
            on_start=continuing.from_end_of(shorter[max(done)]) if done else None,
        )
        return self.load(result.path, dropout_rate=start.config.dropout_rate)

    def _point(
        self,
        path: pathlib.Path,
        base: Base,
        task: tasks_lib.Task,
        line: Line,
        condition: Condition,
        frozen: Mapping[str, float],
        progress: Progress,
    ) -> Point:
        """One run, what its adapters write, and the numbers of both."""
        names = (RUNS, *map(folder, (task.name, line.name, condition.name)))
        where = path.joinpath(*names)
        progress.say(f"{task.name}: {line.name}, {condition.name}")
        summary = jobs.train(
            model_dir=where,
            base=base,
            task=task,
            method=line.method_on(condition),
            recipe=line.recipe,
            **self.scoring,
            target_prefix=condition.target_prefix,
            variant=f"{line.name}, {condition.name}",
            checkpoint_period=self.checkpoint_period,
            quiet=self.quiet,
        ).summary
        shares = []
        for seed in self.scoring["seeds"]:
            run = where / "runs" / f"seed-{seed}"
            shares.append(
                self._illegal_shares(
                    run / "generation",
                    base,
                    run / "adapter",
                    task,
                    condition,
                    made_of={"run": summary["config_hash"], "seed": seed},
                )
            )
        illegal = metrics.summarize([share["illegal"] for share in shares])
        progress.say(f"median share of illegal outputs {illegal['median']:.3f}")
        num_parameters = sum(leaf.size for leaf in jax.tree.leaves(base.params))
        x = num_parameters if isinstance(condition.x, str) else condition.x
        return Point(
            task=task.name,
            line=line.name,
            condition=condition.name,
            x=None if x is None else float(x),
            accuracy=summary["tuned"],
            macro_f1=summary["macro_f1"]["tuned"],
            zero_shot=summary["zero_shot"],
            illegal=illegal,
            illegal_kinds={
                kind: sum(share[kind] for share in shares) / len(shares)
                for kind in metrics.ILLEGAL_KINDS
            },
            frozen_illegal=frozen,
            num_parameters=num_parameters,
            num_trainable=summary["adapter"]["num_parameters"],
            run="/".join(names),
        )

    def _illegal_shares(
        self,
        path: pathlib.Path,
        base: Base,
        adapter: pathlib.Path | None,
        task: tasks_lib.Task,
        condition: Condition,
        *,
        made_of: Mapping[str, Any],
    ) -> dict[str, float]:
        return outputs.illegal_shares(
            path,
            base,
            adapter,
            task,
            made_of=made_of,
            lengths=self.scoring["lengths"],
            input_eos=self.scoring["input_eos"],
            target_prefix=condition.target_prefix,
            max_length=self.max_output_length,
            batch_size=self.scoring["eval_batch_size"],
        )


def _is_finished(run: pathlib.Path) -> bool:
    return (run / directory.FINISHED).exists()
