"""SeqIO tasks: T5's text-to-text tasks and the mixtures of SuperGLUE and MRQA.

Names are T5's and prompt tuning's behind `tfew_`: `tfew_super_glue_rte`, and without
the word that names the task `tfew_taskless_super_glue_rte`. Unlike there WSC is one
task, whose training split holds the right referents only. Nothing is registered by an
import. `seqio_templates` registers the tasks of promptsource's templates.

Metrics are fractions.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tfew_jax.data import seqio_source, sources, text_answers, text_rows, text_to_text
from tfew_jax.data import tokenizer as tokenizer_lib

SUPERGLUE_RATES = {  # T5's: the official number of training examples
    "boolq": 9_427,
    "cb": 250,
    "copa": 400,
    "multirc": 27_243,
    "record": 138_854,
    "rte": 2_490,
    "wic": 5_428,
    "wsc": 259,
}
_ZERO_SHOT = {"mrpc": "qqp", "qqp": "mrpc"}  # measured on: trained on

Rows = Callable[[str, str], Sequence[sources.Row]]


def load_vocabulary(path: str | os.PathLike[str]) -> seqio.Vocabulary:
    """T5's vocabulary for SeqIO, with its hundred sentinels.

    Raises:
        tokenizer.TokenizerError: See `tokenizer.Tokenizer`.
    """
    known = tokenizer_lib.Tokenizer(path)
    extra_ids = known.vocab_size - known.num_pieces
    return seqio.SentencePieceVocabulary(os.fspath(path), extra_ids=extra_ids)


def register(
    data_dir: str | os.PathLike[str],
    vocabulary: seqio.Vocabulary,
    *,
    splits: Sequence[str] | None = None,
    add_inputs_eos: bool = True,
) -> list[str]:
    """Registers the text-to-text tasks, with the task word and without, and mixtures.

    Files are read when a dataset is asked for. Of each pair of MRPC and QQP there is
    also a task that is measured on one in the words of the other, `…_from_…`, and its
    mixture with what it is trained on, `…_zeroshot`.

    Args:
        data_dir: See `text_rows.load`.
        vocabulary: Of inputs and targets, see `load_vocabulary`.
        splits: Those to register, where sets have them; by default all. Name them
            where not all files are there and SeqIO is to go over all splits.
        add_inputs_eos: Whether inputs end with the end of sequence, as T5's do and
            T0's do not.

    Returns:
        The names of the tasks and then of the mixtures.

    Raises:
        ValueError: One of the names is registered already.
    """
    features = output_features(vocabulary, add_inputs_eos=add_inputs_eos)
    rows = make_loader(data_dir)
    known = set(seqio.TaskRegistry.names())
    for task in map(text_to_text.get, text_to_text.names()):
        for set_name in _sets(task.name):
            for taskless in (False, True) if task.has_word else (False,):
                name = task_name(set_name, taskless=taskless)
                add = functools.partial(
                    _add_text_task, rows, task, set_name, features, not taskless
                )
                add(name, splits_of(set_name, splits))
                if other := _ZERO_SHOT.get(task.name):
                    labels = text_to_text.get(other).labels
                    held_out = [s for s in splits_of(set_name, splits) if s != "train"]
                    add(f"{name}_from_{other}", held_out, labels=labels)
    tasks = [name for name in seqio.TaskRegistry.names() if name not in known]
    return [*tasks, *_register_mixtures()]


def task_name(set_name: str, *, taskless: bool = False) -> str:
    """The name of a text-to-text task in SeqIO's registry.

    Args:
        set_name: A name of `text_to_text`, or `mrqa/` and one of `text_rows.MRQA`.
        taskless: Whether the inputs go without the task's word.
    """
    benchmark = text_to_text.get(set_name.partition("/")[0]).benchmark
    parts = ["tfew", "taskless" if taskless else "", benchmark]
    return "_".join(part for part in [*parts, set_name.replace("/", "_")] if part)


def output_features(
    vocabulary: seqio.Vocabulary, *, add_inputs_eos: bool
) -> dict[str, Any]:
    """SeqIO's description of inputs and targets."""
    return {
        "inputs": seqio.Feature(vocabulary, add_eos=add_inputs_eos, required=False),
        "targets": seqio.Feature(vocabulary, add_eos=True),
    }


def preprocessors() -> list[Any]:
    """From text to tokens; SeqIO's offline cache holds tokens without their ends."""
    return [
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        seqio.preprocessors.append_eos_after_trim,
    ]


def make_loader(data_dir: str | os.PathLike[str]) -> Rows:
    """Loads rows of a set and split; the last two stay in memory for other tasks."""

    @functools.lru_cache(maxsize=2)
    def load(set_name: str, split: str) -> Sequence[sources.Row]:
        return text_rows.load(set_name, split, data_dir)

    return load


def splits_of(set_name: str, wanted: Sequence[str] | None) -> list[str]:
    """The splits of a set among those that are wanted."""
    return [s for s in text_rows.splits(set_name) if wanted is None or s in wanted]


def to_python(example: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy values of SeqIO's evaluation as text, numbers and lists."""
    return {name: _to_python(value) for name, value in example.items()}


def _to_python(value: Any) -> Any:
    if isinstance(value, tf.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_to_python(part) for part in value]
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _sets(name: str) -> list[str]:
    if name == "mrqa":
        return [f"mrqa/{part}" for part in text_rows.MRQA]
    return [name]


def _specs(task: text_to_text.TextTask) -> dict[str, tf.TensorSpec]:
    """The features of a task's examples."""
    text, number = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)
    specs = {"inputs": text, "targets": text}
    if task.labels or task.name == "wsc":
        specs["label"] = number
    else:
        specs["answers"] = tf.TensorSpec([None], tf.string)
    indices = {
        "multirc": ("idx/paragraph", "idx/question", "idx/answer"),
        "record": ("idx/passage", "idx/query"),
        "squad": ("id",),
        "mrqa": ("id",),
    }
    for index in indices.get(task.name, ("idx",)):
        specs[index] = text if index == "id" else number
    return specs


def _add_text_task(
    rows: Rows,
    task: text_to_text.TextTask,
    set_name: str,
    features: Mapping[str, Any],
    task_word: bool,
    name: str,
    splits: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
) -> None:
    """Registers a task; without a split there is none."""
    if not splits:
        return

    def load(split: str) -> list[text_to_text.Example]:
        examples = []
        for index, row in enumerate(rows(set_name, split)):
            try:
                examples += task.examples(
                    row, task_word=task_word, train=split == "train"
                )
            except ValueError as error:
                raise ValueError(f"{sources.where(row, index)}: {error}") from None
        return examples

    def postprocess(output: Any, *, example: Any = None, is_target: bool = False):
        return {**to_python(example), "targets": output} if is_target else output

    def metrics(targets: Any, predictions: Any) -> dict[str, float]:
        return text_answers.measure(task.name, predictions, targets, labels=labels)

    seqio.TaskRegistry.add(
        name,
        source=seqio_source.ExampleSource(load, splits=splits, features=_specs(task)),
        preprocessors=preprocessors(),
        output_features=features,
        postprocess_fn=postprocess,
        metric_fns=[metrics],
    )


def _register_mixtures() -> list[str]:
    """SuperGLUE by its official sizes, SQuAD with MRQA, and the zero-shot pairs."""
    mixtures: dict[str, list[tuple[str, float]]] = {}
    for taskless in (False, True):
        start = "tfew_taskless" if taskless else "tfew"
        mixtures[f"{start}_super_glue"] = [
            (task_name(name, taskless=taskless), float(rate))
            for name, rate in SUPERGLUE_RATES.items()
        ]
        for name, other in _ZERO_SHOT.items():
            held_out = f"{task_name(name, taskless=taskless)}_from_{other}"
            trained = task_name(other, taskless=taskless)
            mixtures[f"{held_out}_zeroshot"] = [(trained, 1.0), (held_out, 1.0)]
    sets = ["squad", *_sets("mrqa")]
    mixtures["tfew_squad_to_mrqa"] = [(task_name(name), 1.0) for name in sets]
    registered = set(seqio.TaskRegistry.names())
    added = []
    for name, parts in mixtures.items():
        if there := [part for part in parts if part[0] in registered]:
            seqio.MixtureRegistry.add(name, there)
            added.append(name)
    return added
