"""What a model writes for rows, free of the choices that rank classification compares.

Generation shows what a base does before it is tuned, and whether an adapter has
learnt the answers' form. A text that is no choice is an illegal output.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int

from tfew_jax import checkpoint, evaluate, metrics
from tfew_jax.data import batching, fewshot, tokenizer
from tfew_jax.experiment import applying, prepared, scoring
from tfew_jax.experiment.base import Base
from tfew_jax.types import UNK_ID


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """What a model writes for one row.

    Attributes:
        row: Index of the row among those given.
        text: The output.
        score: The sum of its tokens' log-probabilities; of beams with brevity penalty.
        inputs: The rendered input.
        legal: The row's choices as the vocabulary spells them.
    """

    row: int
    text: str
    score: float
    inputs: str
    legal: tuple[str, ...]


def generate(
    base: Base,
    adapter: checkpoint.Adapter | applying.PathLike | None,
    rows: prepared.Rows,
    *,
    spec: fewshot.TaskSpec | None = None,
    lengths: Mapping[str, int] | None = None,
    max_length: int | None = None,
    num_beams: int | None = None,
    alpha: float = 0.6,
    batch_size: int = 32,
) -> list[Generation]:
    """Generates a text for every row.

    Args:
        base: The model.
        adapter: The adapter or its directory; None for the frozen model alone.
        rows: Mappings from column to value; labels are not read.
        spec: What renders the rows; None for what the adapter was trained for.
        lengths: Most tokens of "inputs" and "targets"; None for the adapter's.
        max_length: Most tokens of an output, the end of sequence included; None for
            that of targets.
        num_beams: Beams of the search; None takes the likeliest token each time.
        alpha: Exponent of the beams' brevity penalty.
        batch_size: Rows at once.

    Raises:
        ValueError: If the adapter does not fit the model, nothing says how to render
            rows, one cannot be rendered, or a setting is out of range.
    """
    input_eos = True
    if adapter is not None:
        adapter = applying.load_adapter(adapter, base)
        if spec is None or adapter.task is not None:
            carried = applying.adapter_task(adapter)
            spec, lengths = spec or carried.spec, lengths or carried.lengths
            input_eos = carried.input_eos
    if spec is None:
        raise ValueError(
            "the frozen model alone carries no template and choices; give a spec"
        )
    split = prepared.prepare(
        rows,
        spec,
        base.tokenizer,
        lengths=lengths,
        with_labels=False,
        input_eos=input_eos,
    )
    model, params = scoring.adapted(base, adapter)
    if max_length is None:
        max_length = split.tokens.feature_lengths["targets"]
    with scoring.explained_memory(base, batch_size):
        tokens, scores, ids = evaluate.generate_tokens(
            model,
            params,
            batching.eval_batches(split.tokens, batch_size),
            max_length=max_length,
            num_beams=num_beams,
            alpha=alpha,
        )
    return [
        Generation(
            row=int(row),
            text=_text(output, base.tokenizer),
            score=float(score),
            inputs=split.first[int(row)].inputs,
            legal=_spelled(split.first[int(row)].choices, base.tokenizer),
        )
        for output, score, row in zip(tokens, scores, ids, strict=True)
    ]


def illegal_outputs(generations: Sequence[Generation]) -> dict[str, float]:
    """Share of texts that are none of their row's choices, in all and by kind.

    See `metrics.illegal_outputs`.

    Raises:
        ValueError: If there are none.
    """
    return metrics.illegal_outputs(
        [generation.text for generation in generations],
        inputs=[generation.inputs for generation in generations],
        legal=[generation.legal for generation in generations],
    )


def _text(tokens: Int[np.ndarray, " length"], vocabulary: tokenizer.Tokenizer) -> str:
    """The text of ids; those that only pad the embedding are `<unk>`, as in SeqIO."""
    known = tokens < vocabulary.vocab_size
    return vocabulary.decode(np.where(known, tokens, UNK_ID).tolist())


def _spelled(
    choices: Sequence[str], vocabulary: tokenizer.Tokenizer
) -> tuple[str, ...]:
    return tuple(vocabulary.decode(vocabulary.encode(choice)) for choice in choices)
