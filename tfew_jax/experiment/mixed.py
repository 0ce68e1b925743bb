"""Rows that each name their adapter: one forward pass, whatever the mix.

Every row is rendered by its own adapter's template and choices and padded with the
others to one of few shapes; `adapter_index` tells the model whose it is. Results are
those of each adapter alone.
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tfew_jax import checkpoint, evaluate, models, types
from tfew_jax.data import sources, tokenized
from tfew_jax.experiment import applying, banks, directory, prepared, row_tasks, scoring
from tfew_jax.experiment.base import Base
from tfew_jax.types import Params

PathLike = str | os.PathLike[str]
RowAdapter = str | int | np.integer | None  # name, slot, or None for `__base__`
ADAPTER_FIELD = "adapter"
_FORMATS = (".jsonl", ".csv")
_SHORTEST = 16  # tokens of an input; shorter ones are padded to it
_SHORTEST_TARGET = 4


class Shape(NamedTuple):
    """Sizes of a padded batch, each a power of two unless a limit cuts it."""

    rows: int
    length: int
    choices: int
    target_length: int


def shape_of(rows: Sequence[row_tasks.SpelledRow], *, max_rows: int) -> Shape:
    """The shape that rows are padded to.

    Args:
        rows: One or more.
        max_rows: Most rows of a batch, which is the largest size.
    """
    return Shape(
        rows=padded_rows(len(rows), max_rows),
        length=power_of_two(max(len(row.inputs) for row in rows), _SHORTEST),
        choices=power_of_two(max(len(row.targets) for row in rows), 2),
        target_length=power_of_two(
            max(row.targets.shape[1] for row in rows), _SHORTEST_TARGET
        ),
    )


def padded_rows(num_rows: int, max_rows: int) -> int:
    """Rows of the batch that so many rows are padded to: 1, 4, 16 ... or `max_rows`.

    Powers of four, since every size is a program to compile.
    """
    size = 1
    while size < num_rows:
        size *= 4
    return min(size, max_rows)


def power_of_two(number: int, least: int) -> int:
    """The power of two that is at least both."""
    return max(least, 1 << (number - 1).bit_length())


def make_batch(
    rows: Sequence[row_tasks.SpelledRow],
    index: Int[np.ndarray, " rows"],
    shape: Shape,
) -> types.Batch:
    """The rows as one batch, filled up with rows of `example_id` -1.

    Args:
        rows: None longer or more than the shape takes.
        index: The slot of each row's adapter.
        shape: Sizes to pad to.
    """
    tokens = np.full((shape.rows, shape.length), types.PAD_ID, np.int32)
    tokens[len(rows) :, 0] = types.EOS_ID  # of rows that fill up: something to look at
    targets = np.full((shape.rows, *shape[2:]), types.PAD_ID, np.int32)
    mask = np.zeros((shape.rows, shape.choices), bool)
    ids = np.full(shape.rows, -1, np.int32)
    slots = np.zeros(shape.rows, np.int32)
    ids[: len(rows)] = np.arange(len(rows))
    slots[: len(rows)] = index
    for number, row in enumerate(rows):
        num_choices, target_length = row.targets.shape
        tokens[number, : len(row.inputs)] = row.inputs
        targets[number, :num_choices, :target_length] = row.targets
        mask[number, :num_choices] = True
    return {
        "encoder_input_tokens": tokens,
        "decoder_target_tokens": targets,
        "choice_mask": mask,
        "label": np.full(shape.rows, tokenized.NO_LABEL, np.int32),
        "example_id": ids,
        "adapter_index": slots,
    }


def score(
    model: models.T5,
    params: Params,
    rows: Sequence[row_tasks.SpelledRow],
    index: Int[np.ndarray, " rows"],
    shape: Shape,
) -> list[Float[np.ndarray, " _"]]:
    """The scores of each row's choices, in one forward pass.

    Args:
        model: With the bank's method.
        params: Its parameters, stacked where its config scans.
        rows: The rows; some may take the mean over tokens and some the sum.
        index: The slot of each row's adapter.
        shape: Sizes to pad to.
    """
    batch = make_batch(rows, index, shape)
    sums, _ = evaluate.score_choices(model, params, [batch], normalization="sum")
    scores = []
    for row, values in zip(rows, sums, strict=True):
        own = values[: len(row.targets)]
        if row.normalization == "mean":
            own = own / (row.targets != types.PAD_ID).sum(axis=1).astype(np.float32)
        scores.append(own)
    return scores


def make_prediction(
    row: row_tasks.SpelledRow,
    scores: Float[np.ndarray, " _"],
    *,
    number: int,
    adapter: str,
    place: str | None = None,
) -> prepared.Prediction:
    """The best choice of a row, the first of equal ones.

    Args:
        row: The row.
        scores: Of its choices.
        number: Its index among those given.
        adapter: The name of its adapter.
        place: How errors name it; by its number by default.

    Raises:
        ValueError: If a score is NaN.
    """
    if np.isnan(scores).any():
        raise scoring.diverged(place or f"row {number}", adapter)
    label = int(evaluate.predict(scores[None])[0])
    return prepared.Prediction(
        row=number,
        prediction=row.choices[label],
        label=label,
        choices=row.choices,
        scores=tuple(float(score) for score in scores),
        adapter=adapter,
    )


def predict(
    base: Base,
    adapter: checkpoint.Adapter | checkpoint.Bank | PathLike,
    rows: prepared.Rows,
    *,
    adapters: Sequence[RowAdapter] | str | int | None = None,
    adapter_field: str = ADAPTER_FIELD,
    batch_size: int = 32,
) -> list[prepared.Prediction]:
    """Predicts rows with the template and choices that an adapter was trained for.

    With a bank every row has an adapter of its own, whose template renders it. Rows of
    `__base__`, the frozen model alone, and of adapters that carry no task bring
    fields `template` and `choices`.

    Args:
        base: The model that the adapter belongs to.
        adapter: The adapter or its directory, or a bank of adapters.
        rows: Mappings from column to value; labels are not read.
        adapters: With a bank, each row's adapter or one for all, by name or slot; None
            where the rows name theirs.
        adapter_field: Where rows name it; no column of a template then.
        batch_size: Rows at once.

    Raises:
        ValueError: If the adapter does not fit the model or is not in the bank, nothing
            says how to render a row, it cannot be rendered, or its scores are NaN.
    """
    if not isinstance(adapter, checkpoint.Bank):
        if adapters is not None:
            raise ValueError(
                "adapters names the adapters of a bank, row by row; give a bank, such "
                "as load_bank(directory)"
            )
        return applying.predict(base, adapter, rows, batch_size=batch_size)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected 1 or more")
    for name, one in adapter.items():
        one.check(base.config, source=f"adapter {name}, for the given base")
    names, rows = named_rows(rows, adapters, adapter_field)
    return _predict(base, adapter, names, rows, batch_size)


def named_rows(
    rows: prepared.Rows, adapters: Sequence[RowAdapter] | str | int | None, field: str
) -> tuple[list[RowAdapter], list[Mapping[str, Any]]]:
    """Name or slot of each row's adapter, and the rows without that field.

    Raises:
        ValueError: If there are no rows, a row names no adapter, or there are not as
            many names as rows.
    """
    if not rows:
        raise ValueError("there are no rows to predict; give at least one")
    if isinstance(adapters, str | int):
        return [adapters] * len(rows), list(rows)
    if adapters is not None:
        if len(adapters) != len(rows):
            raise ValueError(
                f"{len(adapters)} names of adapters for {len(rows)} rows; give one a "
                "row, or one for all as text"
            )
        return list(adapters), list(rows)
    names: list[RowAdapter] = []
    left: list[Mapping[str, Any]] = []
    for number, row in enumerate(rows):
        place = sources.where(row, number)
        name = row.get(field)
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            raise ValueError(
                f"{place}: the field {field!r} must name the row's adapter, or say its "
                f"slot; {checkpoint.BASE} is the frozen model alone; found {name!r}"
            )
        names.append(name)
        values = {key: value for key, value in row.items() if key != field}
        left.append(sources.Row(values, where=place))
    return names, left


def _predict(
    base: Base,
    bank: checkpoint.Bank,
    asked: Sequence[RowAdapter],
    rows: prepared.Rows,
    batch_size: int,
) -> list[prepared.Prediction]:
    places = [sources.where(row, number) for number, row in enumerate(rows)]
    index = bank.index(asked, places=places)
    names = [(checkpoint.BASE, *bank.names)[slot] for slot in index]
    tasks = row_tasks.RowTasks(bank, base.tokenizer)
    spelled = [
        tasks.spell(row, adapter=name, place=place)
        for row, name, place in zip(rows, names, places, strict=True)
    ]
    shapes = [shape_of([row], max_rows=1) for row in spelled]
    # Rows of like choices and lengths together, whatever their adapters.
    order = sorted(range(len(rows)), key=lambda n: (shapes[n][2:], shapes[n].length))
    model, params = scoring.adapted(base, bank)
    found: dict[int, prepared.Prediction] = {}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        part = [spelled[number] for number in chosen]
        shape = shape_of(part, max_rows=batch_size)
        with scoring.explained_memory(base, batch_size):
            scores = score(model, params, part, index[chosen], shape)
        for number, row, values in zip(chosen, part, scores, strict=True):
            found[number] = make_prediction(
                row,
                values,
                number=number,
                adapter=names[number],
                place=places[number],
            )
    return [found[number] for number in range(len(rows))]


def infer_bank(
    *,
    base: Base,
    bank: checkpoint.Bank | PathLike,
    rows: PathLike,
    output: PathLike | None = None,
    adapter_field: str = ADAPTER_FIELD,
    batch_size: int = 32,
) -> list[prepared.Prediction]:
    """Predicts the rows of a file, each with the adapter that it names.

    Args:
        base: The model.
        bank: The adapters, or their directory; see `banks.load_bank`.
        rows: A CSV, TSV or JSONL file, labelled or not.
        output: A JSONL or CSV file for adapter, prediction and scores; None writes
            none.
        adapter_field: Where a row names its adapter, or says its slot.
        batch_size: Rows at once.

    Raises:
        ValueError: If the output has another ending, is a directory or the rows, or as
            `predict`.
    """
    path = None if output is None else _output_path(output, rows)
    if not isinstance(bank, checkpoint.Bank):
        bank = banks.load_bank(bank, base)
    predictions = predict(
        base,
        bank,
        sources.load_rows(rows),
        adapter_field=adapter_field,
        batch_size=batch_size,
    )
    if path is not None:
        write_predictions(path, predictions)
    return predictions


def _output_path(output: PathLike, rows: PathLike) -> pathlib.Path:
    """Where predictions go; makes the directory around it.

    Raises:
        ValueError: If they cannot be written there, or would replace the rows.
    """
    path = pathlib.Path(output).expanduser().absolute()
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(
            f"{path}: predictions are written as {' or '.join(_FORMATS)}; give the "
            "output one of these endings"
        )
    if path.is_dir():
        raise ValueError(f"{path} is a directory; give the output the name of a file")
    source = pathlib.Path(rows).expanduser()
    if path.exists() and source.exists() and path.samefile(source):
        raise ValueError(
            f"{path} holds the rows, which the predictions would replace; give the "
            "output another name"
        )
    directory.make(path.parent)
    return path


def to_dict(prediction: prepared.Prediction) -> dict[str, Any]:
    """A prediction as JSON values, its scores by choice."""
    scores = zip(prediction.choices, prediction.scores, strict=True)
    return {
        "row": prediction.row,
        "adapter": prediction.adapter,
        "prediction": prediction.prediction,
        "label": prediction.label,
        "scores": dict(scores),
    }


def write_predictions(
    path: pathlib.Path, predictions: Sequence[prepared.Prediction]
) -> None:
    """Writes predictions as `.jsonl`, an object a row, or as `.csv`."""
    if path.suffix.lower() == ".csv":
        directory.write_predictions(path, predictions)
        return
    lines = [json.dumps(to_dict(p), ensure_ascii=False) + "\n" for p in predictions]
    directory.write_text(path, "".join(lines))
