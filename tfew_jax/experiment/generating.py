"""What a model writes for rows, free of the choices that rank classification compares.

Generation shows what a base does before it is tuned, and whether an adapter has
learnt the answers' form. A text that is no choice is an illegal output.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax import checkpoint, evaluate, metrics, models
from tfew_jax.data import batching, fewshot, tasks, tokenizer
from tfew_jax.experiment import applying, directory, prepared, results, scoring
from tfew_jax.experiment.base import Base
from tfew_jax.types import UNK_ID, Batch, Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """What a model writes for one row.

    Attributes:
        row: Index of the row among those given.
        text: The output.
        score: The sum of its tokens' log-probabilities; of beams with brevity penalty.
        inputs: The rendered input.
        legal: The row's choices as the vocabulary spells them; none where any text may
            be an answer.
        target: The expected text, where one is known.
        prefix: What stands before every choice; see `tokenized.tokenize`.
    """

    row: int
    text: str
    score: float
    inputs: str
    legal: tuple[str, ...]
    target: str | None = None
    prefix: str = ""

    @property
    def answer(self) -> str:
        """The text without the prefix, if it begins with it."""
        return self.text.strip().removeprefix(self.prefix)

    @property
    def kind(self) -> str:
        """How the text relates to what is legal; "" where any text is."""
        if not self.legal:
            return ""
        return metrics.output_kind(self.answer, source=self.inputs, legal=self.legal)


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
    input_eos: bool | None = None,
    target_prefix: str | None = None,
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
        input_eos: Whether inputs end with the end of sequence; None for the adapter's.
        target_prefix: Before every choice, and no part of an answer; None for the
            adapter's.

    Raises:
        ValueError: If the adapter does not fit the model, nothing says how to render
            rows, one cannot be rendered, or a setting is out of range.
    """
    adapter = None if adapter is None else applying.load_adapter(adapter, base)
    search = {"max_length": max_length, "num_beams": num_beams, "alpha": alpha}
    return _generate(
        base,
        adapter,
        rows,
        spec,
        lengths,
        search,
        batch_size,
        input_eos=input_eos,
        target_prefix=target_prefix,
    )


def _generate(
    base: Base,
    adapter: checkpoint.Adapter | None,
    rows: prepared.Rows,
    spec: fewshot.TaskSpec | None,
    lengths: Mapping[str, int] | None,
    search: dict[str, Any],
    batch_size: int,
    *,
    input_eos: bool | None = None,
    target_prefix: str | None = None,
) -> list[Generation]:
    if adapter is not None and (spec is None or adapter.task is not None):
        carried = applying.adapter_task(adapter)
        spec, lengths = spec or carried.spec, lengths or carried.lengths
        input_eos = carried.input_eos if input_eos is None else input_eos
        if target_prefix is None:
            target_prefix = carried.target_prefix
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
        input_eos=True if input_eos is None else input_eos,
    )
    (prefix,) = spelled([target_prefix or ""], base.tokenizer)
    limits = split.tokens.feature_lengths
    batches = batching.input_batches(
        split.tokens.inputs[0], batch_size, max_length=limits["inputs"]
    )
    if search["max_length"] is None:
        search = {**search, "max_length": limits["targets"]}
    texts, scores = write(base, adapter, batches, **search, batch_size=batch_size)
    return [
        Generation(
            row=row,
            text=texts[row],
            score=scores[row],
            inputs=rendered.inputs,
            legal=spelled(rendered.choices, base.tokenizer),
            prefix=prefix,
        )
        for row, rendered in enumerate(split.first)
    ]


def write(
    base: Base,
    adapter: checkpoint.Adapter | None,
    batches: Iterable[Batch],
    *,
    max_length: int,
    num_beams: int | None,
    alpha: float,
    batch_size: int,
) -> tuple[list[str], list[float]]:
    """The text of every input of the batches and its score, by `example_id`.

    Raises:
        MemoryError: If the device runs out of memory.
        ValueError: If a setting is out of range.
    """
    model, params = scoring.adapted(base, adapter)
    return write_by(
        base,
        model,
        params,
        batches,
        max_length=max_length,
        num_beams=num_beams,
        alpha=alpha,
        batch_size=batch_size,
    )


def write_members(
    base: Base,
    bank: checkpoint.Bank,
    inputs: Callable[[int], Iterable[Batch]],
    *,
    num_rows: int,
    max_length: int,
    num_beams: int | None,
    alpha: float,
    batch_size: int,
) -> tuple[list[list[str]], list[list[float]]]:
    """What `write` returns, by every adapter of a bank; in one pass a batch.

    Args:
        base: The model.
        bank: The adapters.
        inputs: Batches of all rows, given the number of rows a batch.
        num_rows: Rows in all.
        max_length: See `generate`.
        num_beams: See `generate`.
        alpha: See `generate`.
        batch_size: Rows times adapters at once.

    Raises:
        MemoryError: If the device runs out of memory.
        ValueError: If a setting is out of range, or a score is NaN.
    """
    model, params = scoring.adapted(base, bank)
    groups, rows_at_once = scoring.member_groups(bank, batch_size)
    texts: list[list[str]] = []
    scores: list[list[float]] = []
    for members in groups:
        batches = inputs(rows_at_once)
        try:
            own_texts, own_scores = write_by(
                base,
                model,
                params,
                batching.for_members(batches, members, num_rows=num_rows),
                max_length=max_length,
                num_beams=num_beams,
                alpha=alpha,
                batch_size=batch_size,
            )
        except evaluate.NaNScores as error:
            member, row = divmod(error.row, num_rows)
            name = bank.names[members[member] - 1]
            raise scoring.diverged(f"row {row}", name) from None
        starts = range(0, len(own_texts), num_rows)
        texts += [own_texts[start : start + num_rows] for start in starts]
        scores += [own_scores[start : start + num_rows] for start in starts]
    return texts, scores


def write_by(
    base: Base,
    model: models.T5,
    params: Params,
    batches: Iterable[Batch],
    *,
    max_length: int,
    num_beams: int | None,
    alpha: float,
    batch_size: int,
) -> tuple[list[str], list[float]]:
    """What `write` returns, by a model that is at hand with all its parameters.

    Raises:
        MemoryError: If the device runs out of memory.
        ValueError: If a setting is out of range.
    """
    with scoring.explained_memory(base, batch_size):
        tokens, scores, _ = evaluate.generate_tokens(
            model,
            params,
            batches,
            max_length=max_length,
            num_beams=num_beams,
            alpha=alpha,
        )
    return [_text(output, base.tokenizer) for output in tokens], scores.tolist()


def write_generations(
    *,
    output_dir: applying.PathLike,
    base: Base,
    task: tasks.Task | tasks.MakeTask | applying.PathLike,
    adapter: checkpoint.Adapter | applying.PathLike | None = None,
    lengths: Mapping[str, int] | None = None,
    max_length: int | None = None,
    num_beams: int | None = None,
    alpha: float = 0.6,
    batch_size: int = 32,
    on_start: applying.OnStart | None = None,
) -> dict[str, float]:
    """Generates a text for every row of a task; writes files.

    `generations.csv` holds row, text, score, kind ("legal", or one of
    `metrics.ILLEGAL_KINDS`) and target (empty), `metrics.json` the shares of illegal
    outputs.

    Args:
        output_dir: Where the files go; not the directory of a run.
        base: The model.
        task: See `applying.score_rows`.
        adapter: The adapter, its directory, or that of a finished run; None for the
            frozen model alone.
        lengths: See `generate`.
        max_length: See `generate`.
        num_beams: See `generate`.
        alpha: See `generate`.
        batch_size: Rows at once.
        on_start: Called with the directory before anything compiles.

    Returns:
        The shares.

    Raises:
        ValueError: If adapter, model and rows do not fit together, or a setting is
            out of range.
    """
    adapter = None if adapter is None else applying.load_adapter(adapter, base)
    spec, rows = applying.task_rows(task, adapter, base, lengths)
    path = applying.output_directory(output_dir, on_start)
    search = {"max_length": max_length, "num_beams": num_beams, "alpha": alpha}
    generations = _generate(base, adapter, rows, spec, lengths, search, batch_size)
    shares = illegal_outputs(generations)
    write_files(path, generations, {**shares, "num_rows": len(generations)})
    return shares


def write_files(
    path: pathlib.Path, generations: Sequence[Generation], numbers: Mapping[str, Any]
) -> None:
    """Writes generations.csv and metrics.json."""
    table = [
        (g.row, g.text, f"{g.score:.6f}", g.kind, g.target or "") for g in generations
    ]
    header = ("row", "text", "score", "kind", "target")
    directory.write_table(path / "generations.csv", header, table)
    directory.write_json(
        path / "metrics.json", {**numbers, "versions": results.versions()}
    )


def illegal_outputs(generations: Sequence[Generation]) -> dict[str, float]:
    """Share of texts that are none of their row's choices, in all and by kind.

    See `metrics.illegal_outputs`.

    Raises:
        ValueError: If there are none.
    """
    return metrics.illegal_outputs(
        [generation.answer for generation in generations],
        inputs=[generation.inputs for generation in generations],
        legal=[generation.legal for generation in generations],
    )


def _text(tokens: Int[np.ndarray, " length"], vocabulary: tokenizer.Tokenizer) -> str:
    """The text of ids; those that only pad the embedding are `<unk>`, as in SeqIO."""
    known = tokens < vocabulary.vocab_size
    return vocabulary.decode(np.where(known, tokens, UNK_ID).tolist())


def spelled(choices: Sequence[str], vocabulary: tokenizer.Tokenizer) -> tuple[str, ...]:
    """Texts as they are after the vocabulary has spelled and read them."""
    return tuple(vocabulary.decode(vocabulary.encode(choice)) for choice in choices)
