"""Reads what is inspected: adapters, prompts in NumPy files, embedding tables."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Shaped

from tfew_jax import checkpoint, interop, models
from tfew_jax.checkpoint import adapter as native_adapter
from tfew_jax.checkpoint import layout
from tfew_jax.data import text_to_text
from tfew_jax.data import tokenizer as tokenizers
from tfew_jax.experiment import applying
from tfew_jax.experiment import base as bases
from tfew_jax.peft import prompt

PathLike = str | os.PathLike[str]

# What prompts are called, by the path of their parameter.
_PROMPTS = {
    "encoder_input/prompt/embedding": "encoder_input",
    "decoder_input/prompt/embedding": "decoder_input",
}
_VECTOR = "ia3_"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What an adapter learned, as arrays.

    Attributes:
        source: Where it was read from.
        method: Name of the method; prompt for a NumPy file.
        prompts: Prompts by where they stand: encoder_input, decoder_input.
        vectors: (IA)^3's vectors by path.
        labels: Those that the prompt was to start from, else the choices of the task
            that the adapter was trained for, if they are the same for all rows.
        init: What a prompt started from, where its training says so.
        start_labels: The labels that the first positions of a prompt started from,
            each from one; empty where it was something else or is not known.
        base: What it says about the model it was trained on, if anything.
    """

    source: str
    method: str
    prompts: Mapping[str, Shaped[np.ndarray, "prompt embed"]]
    vectors: Mapping[str, Shaped[np.ndarray, "units"]]
    labels: tuple[str, ...] = ()
    init: str | None = None
    start_labels: tuple[str, ...] = ()
    base: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Vocabulary:
    """An embedding table and what its rows stand for.

    Attributes:
        table: The frozen token embedding.
        tokenizer: Its vocabulary.
        source: Where the table was read from.
    """

    table: Shaped[np.ndarray, "vocab embed"]
    tokenizer: tokenizers.Tokenizer
    source: str

    def __post_init__(self) -> None:
        if self.tokenizer.num_pieces > len(self.table):
            raise ValueError(
                f"the vocabulary {self.tokenizer.model_file} has "
                f"{self.tokenizer.num_pieces} pieces, the embedding of {self.source} "
                f"{len(self.table)} rows; give the vocabulary that belongs to it"
            )

    @functools.cached_property
    def is_text(self) -> Bool[np.ndarray, "vocab"]:
        """Rows of pieces that stand for text.

        Not pads, ends, `<unk>`, sentinels, nor rows beyond the vocabulary, with which
        T5 fills its table up.
        """
        return np.array([self.tokenizer.is_text(row) for row in range(len(self.table))])

    def piece(self, row: int) -> str:
        """What a row stands for, as the vocabulary writes it."""
        beyond = row >= self.tokenizer.vocab_size
        return f"<row {row}>" if beyond else self.tokenizer.piece(row)


def load(path: PathLike, config: models.T5Config | None = None) -> Learned:
    """Reads an adapter to inspect.

    Args:
        path: A native adapter, a finished run, a PEFT directory, T-Few's `finish.pt`,
            or a NumPy file of one prompt, such as Google's released ones.
        config: Sizes of the model it is for. A native adapter knows them; for other
            programs' (IA)^3 those of T5 1.1 are tried.

    Raises:
        ValueError: If it cannot be read, does not fit the sizes, is not finite, or its
            method leaves nothing to show.
    """
    path = applying.adapter_path(path)
    if not path.exists():
        raise ValueError(
            f"{path} does not exist; give an adapter, a finished run, or a prompt in a "
            "NumPy file"
        )
    if path.is_file() and path.suffix != ".pt":
        rows = prompt.read_matrix(path, "a prompt")
        return Learned(
            source=str(path),
            method="prompt",
            prompts={"encoder_input": rows},
            vectors={},
        )
    is_native = (path / native_adapter.SETTINGS).exists()
    if config is None and not is_native:
        return _learned(_load_of_any_size(path), path)
    return _learned(interop.load_adapter(path, config), path)


def load_vocabulary(
    base: PathLike | None = None,
    *,
    embedding: PathLike | None = None,
    vocabulary: PathLike | None = None,
) -> Vocabulary:
    """Reads an embedding table and its vocabulary, and nothing else of a model.

    Args:
        base: Directory of a native, Hugging Face or T5X model; None for the embedded
            base, unless `embedding` is given.
        embedding: A NumPy file of the table, in place of the base's.
        vocabulary: SentencePiece file, where the directory holds none.

    Raises:
        ValueError: If something is missing, damaged, or does not belong together.
    """
    if embedding is None:
        directory = pathlib.Path(base or bases.EMBEDDED).expanduser()
        table, found = interop.load_embedding(directory)
        source = str(base or "the embedded base")
    else:
        source, found = str(embedding), None
        table = prompt.read_matrix(embedding, "an embedding table")
    file = vocabulary or found
    if file is None:
        raise ValueError(
            f"{source} holds no vocabulary; give its SentencePiece file as vocabulary"
        )
    return Vocabulary(
        table=table,
        tokenizer=tokenizers.Tokenizer(pathlib.Path(file).expanduser()),
        source=source,
    )


def _load_of_any_size(path: pathlib.Path) -> checkpoint.Adapter:
    """An adapter of another program, of the T5 1.1 size that it fits."""
    for config in list(models.SIZES.values())[::-1]:
        try:
            return interop.load_adapter(path, config)
        except layout.MismatchError:
            continue
    raise ValueError(
        f"{path} fits none of T5 1.1's sizes ({', '.join(models.SIZES)}); give the "
        "directory of its model as base"
    )


def _learned(adapter: checkpoint.Adapter, path: pathlib.Path) -> Learned:
    """Picks out what can be shown.

    Raises:
        ValueError: If there is nothing.
    """
    leaves = layout.flatten(adapter.params).items()
    flat = {name: np.asarray(leaf) for name, leaf in leaves}
    prompts = {_PROMPTS[name]: flat[name] for name in _PROMPTS if name in flat}
    vectors = {name: flat[name] for name in flat if _VECTOR in name}
    if not prompts and not vectors:
        raise ValueError(
            f"{path} was trained with the method {adapter.method.name!r}, of which "
            "there is nothing to show; prompts and (IA)^3 vectors are inspected"
        )
    base = adapter.metadata.get("base")
    settings = adapter.method.to_dict()
    # Adapters of other programs, composed ones and those that went on from another one
    # have settings of a start that they did not have.
    has_own_start = adapter.metadata.get("initial", "unknown") is None
    init = settings.get("init") if has_own_start else None
    given = tuple(settings.get("init_labels") or ())
    first, every = _labels(adapter)
    return Learned(
        source=str(path),
        method=adapter.method.name,
        prompts=prompts,
        vectors=vectors,
        labels=given or every,
        init=init,
        start_labels=(given or first) if init == "class_labels" else (),
        base=None if base is None else str(base),
    )


def _labels(adapter: checkpoint.Adapter) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices of the first template, and those of all: none that come from a row.

    Those of a text-to-text task are both.
    """
    name = (adapter.metadata.get("text_task") or {}).get("name", "").partition("/")[0]
    if name in text_to_text.names():
        labels = text_to_text.get(name).class_labels
        return labels, labels
    choices = (adapter.task or {}).get("choices") or ()
    texts = (choices,) if isinstance(choices, str) else choices
    each = [_fixed(text) for text in texts]
    every = dict.fromkeys(label for labels in each for label in labels)
    return each[0] if each else (), tuple(every)


def _fixed(choices: str | None) -> tuple[str, ...]:
    """The choices of a template; none where they come from a row."""
    if not choices or "{{" in choices or "{%" in choices:
        return ()
    return tuple(label for text in choices.split("|||") if (label := text.strip()))
