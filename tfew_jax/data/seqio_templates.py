"""SeqIO tasks of promptsource's templates, and their rank classification.

A task for each template that asks for what the dataset was made for, named as T0's
are behind `tfew_`: `tfew_super_glue_rte_GPT_3_style`, for ANLI by the round, and for
rank classification with `_score_eval` at the end: there an example is an input with one
of its choices, and a model's log-probabilities decide. All templates of a set are the
mixture `tfew_super_glue_rte_all`, in equal parts as in T-Few's draws.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import seqio
import tensorflow as tf

from tfew_jax import text_metrics
from tfew_jax.data import (
    benchmarks,
    promptsource,
    promptsource_sets,
    seqio_source,
    seqio_tasks,
    sources,
    text_to_text,
)

# The held-out sets of T-Few, in the order of its tables.
SETS = (
    *("copa", "h-swag", "storycloze", "winogrande", "wsc", "wic", "rte", "cb"),
    *("anli-r1", "anli-r2", "anli-r3"),
)
_COPA_MIXED = 8  # the other four render for one half of the rows; T-Few leaves them out
_TEXT, _NUMBER = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)
_FEATURES = {"inputs": _TEXT, "targets": _TEXT, "idx": _NUMBER}
_SCORE_FEATURES = {
    "inputs": _TEXT,
    "targets": _TEXT,
    "idx": tf.TensorSpec([2], tf.int32),
    "is_correct": _NUMBER,  # SeqIO's cache cannot hold truth values
}
Render = Callable[[promptsource.Rendered, int], list[text_to_text.Example]]


def register(
    data_dir: str | os.PathLike[str],
    vocabulary: seqio.Vocabulary,
    templates_dir: str | os.PathLike[str] | None = None,
    *,
    sets: Sequence[str] = SETS,
    splits: Sequence[str] | None = None,
    add_inputs_eos: bool = True,
) -> list[str]:
    """Registers the tasks of templates, their score evaluation and the mixtures.

    Files of rows are read when a dataset is asked for. Rows that a template does not
    apply to are left out of its task.

    Args:
        data_dir: See `benchmarks.load`.
        vocabulary: See `seqio_tasks.register`.
        templates_dir: See `promptsource_sets.load`.
        sets: T-Few's names, of `benchmarks.names()`.
        splits: See `seqio_tasks.register`.
        add_inputs_eos: See `seqio_tasks.register`.

    Returns:
        The names of the tasks and then of the mixtures.

    Raises:
        ValueError: A set is unknown, its templates are not there, or one of the names
            is registered already.
    """
    features = seqio_tasks.output_features(vocabulary, add_inputs_eos=add_inputs_eos)
    rows = seqio_tasks.make_loader(data_dir)
    tasks: list[str] = []
    mixtures: dict[str, list[str]] = {}
    for set_name in sets:
        template_set = benchmarks.get(set_name).template_set
        found = promptsource_sets.load(template_set, templates_dir).original_task
        for number, template in enumerate(found):
            for end, adapt, metric in (
                ("", _as_text, _exact_match),
                ("_score_eval", _as_choices, _rank),
            ):
                name = task_name(set_name, template.name) + end
                seqio.TaskRegistry.add(
                    name,
                    source=_source(rows, set_name, template, adapt, splits),
                    preprocessors=seqio_tasks.preprocessors(),
                    output_features=features,
                    postprocess_fn=_choice if end else _text,
                    metric_fns=[metric],
                )
                tasks.append(name)
                if set_name != "copa" or number < _COPA_MIXED:
                    mixtures.setdefault(f"{prefix(set_name)}_all{end}", []).append(name)
    for name, parts in mixtures.items():
        seqio.MixtureRegistry.add(name, parts, default_rate=1.0)
    return [*tasks, *mixtures]


def prefix(set_name: str) -> str:
    """How the names of a set's tasks begin: promptsource's name, ANLI's round.

    Raises:
        ValueError: There is no such set.
    """
    base = benchmarks.get(set_name).template_set
    if base == "anli":
        base = set_name
    return "tfew_" + re.sub(r"[^\w.]+", "_", base, flags=re.ASCII)


def task_name(set_name: str, template_name: str) -> str:
    """The name of a template's task in SeqIO's registry.

    Raises:
        ValueError: There is no such set.
    """
    word = re.sub(r"[^\w.]+", "_", template_name, flags=re.ASCII).strip("_")
    return f"{prefix(set_name)}_{word}"


def _source(
    rows: seqio_tasks.Rows,
    set_name: str,
    template: promptsource.Template,
    adapt: Render,
    splits: Sequence[str] | None,
) -> seqio_source.ExampleSource:
    def load(split: str) -> list[text_to_text.Example]:
        examples = []
        for index, row in enumerate(rows(set_name, split)):
            try:
                rendered = template.render(row, with_label=row.get("label") != -1)
                examples += adapt(rendered, int(row["idx"]))
            except promptsource.NotApplicableError:
                continue
            except ValueError as error:
                raise ValueError(f"{sources.where(row, index)}: {error}") from None
        return examples

    return seqio_source.ExampleSource(
        load,
        splits=seqio_tasks.splits_of(set_name, splits),
        features=_FEATURES if adapt is _as_text else _SCORE_FEATURES,
    )


def _as_text(rendered: promptsource.Rendered, index: int) -> list[text_to_text.Example]:
    """The input with its target."""
    target = rendered.target or text_to_text.UNKNOWN
    return [{"inputs": rendered.inputs, "targets": target, "idx": index}]


def _as_choices(
    rendered: promptsource.Rendered, index: int
) -> list[text_to_text.Example]:
    """The input with each of its choices, in their order."""
    return [
        {
            "inputs": rendered.inputs,
            "targets": choice,
            "idx": [index, number],
            "is_correct": int(number == rendered.label),
        }
        for number, choice in enumerate(rendered.choices)
    ]


def _text(output: Any, **kwargs: Any) -> Any:
    return output


def _choice(output: Any, *, example: Any = None, is_target: bool = False) -> Any:
    """Of a target: row and number of the choice, whether it is right, its length."""
    if not is_target:
        return output
    fields = seqio_tasks.to_python(example)
    length = len(fields["targets"])
    return (tuple(fields["idx"]), bool(fields["is_correct"]), length)


def _exact_match(targets: Any, predictions: Any) -> dict[str, float]:
    same = [int(a == b) for a, b in zip(predictions, targets, strict=True)]
    return {"accuracy": text_metrics.accuracy(same, [1] * len(targets))}


def _rank(targets: Any, scores: Any) -> dict[str, float]:
    """T0's accuracy, by the sum of log-probabilities, and T-Few's, by their mean."""
    values = list(scores[0] if isinstance(scores, tuple) else scores)
    choices = [target[0] for target in targets]
    is_correct = [target[1] for target in targets]
    means = [float(v) / max(1, t[2]) for v, t in zip(values, targets, strict=True)]
    sums = [float(v) for v in values]
    return {
        "accuracy": text_metrics.rank_accuracy(sums, choices, is_correct),
        "accuracy_by_mean": text_metrics.rank_accuracy(means, choices, is_correct),
    }
