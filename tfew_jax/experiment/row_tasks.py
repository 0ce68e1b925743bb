"""Rows of different adapters as tokens, each by the task of its own adapter.

An adapter carries its template, choices and lengths. The frozen model and adapters of
other programs carry none: their rows bring the fields `template` and `choices`, which
are then no columns. Templates run in a sandbox, which does not bound the time they
take; where rows come from strangers, such rows can be refused.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from tfew_jax import checkpoint
from tfew_jax.data import fewshot, patterns, sources, tokenized, tokenizer
from tfew_jax.experiment import applying

OWN_FIELDS = ("template", "choices")
_KEPT_CHOICES = 256  # lists of choices of a task that need not be spelled again
_KEPT_TASKS = 64  # of rows that bring their own


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpelledRow:
    """A row as token ids.

    Attributes:
        inputs: Ids of the input.
        targets: Ids of the choices, pads behind them.
        choices: Their texts.
        normalization: "mean" or "sum" of a choice's token scores.
    """

    inputs: Int[np.ndarray, " length"]
    targets: Int[np.ndarray, "choices target_length"]
    choices: tuple[str, ...]
    normalization: str


class RowTask:
    """How rows of one adapter become tokens; threads may share it."""

    def __init__(
        self, carried: applying.CarriedTask, vocabulary: tokenizer.Tokenizer
    ) -> None:
        """Takes the first template, which predicts.

        Raises:
            ValueError: If a length is unknown or too small.
        """
        spec = carried.spec
        names = spec.template_names
        self._spec = dataclasses.replace(
            spec,
            templates=spec.templates[:1],
            choices=spec.choices[:1],
            template_names=None if names is None else names[:1],
        )
        self._carried = carried
        self._limits = tokenized.limits_of(carried.lengths)
        self._vocabulary = vocabulary
        self._targets = functools.lru_cache(maxsize=_KEPT_CHOICES)(self._spell_choices)

    def spell(self, row: Mapping[str, Any], *, place: str) -> SpelledRow:
        """The row's token ids.

        Args:
            row: Columns and values; a label is not read.
            place: How errors name the row.

        Raises:
            ValueError: If the row cannot be rendered, or its choices not spelled.
        """
        rows = [sources.Row(row, where=place)]
        [[rendered]] = fewshot.render_rows(rows, self._spec, with_labels=False)
        inputs = self._vocabulary.encode(
            rendered.inputs,
            add_eos=self._carried.input_eos,
            max_length=self._limits["inputs"],
        )
        try:
            targets = self._targets(rendered.choices)
        except tokenizer.TokenizerError as error:
            raise ValueError(f"{place}: {error}") from None
        return SpelledRow(
            inputs=np.asarray(inputs, np.int32),
            targets=targets,
            choices=rendered.choices,
            normalization=self._carried.normalization,
        )

    def fixed_targets(self) -> Int[np.ndarray, "choices target_length"] | None:
        """Token ids of choices that are the same for all rows, else None."""
        [text] = self._spec.choices
        if any(mark in text for mark in ("{{", "{%")):
            return None
        choices = tuple(part.strip() for part in text.split(patterns.SEPARATOR))
        return self._targets(choices)

    def _spell_choices(
        self, choices: tuple[str, ...]
    ) -> Int[np.ndarray, "choices target_length"]:
        texts = [self._carried.target_prefix + choice for choice in choices]
        limit = self._limits["targets"]
        spelled = self._vocabulary.encode_choices(texts, max_length=limit)
        targets = np.zeros((len(spelled), max(map(len, spelled))), np.int32)
        for row, ids in enumerate(spelled):
            targets[row, : len(ids)] = ids
        return targets


class RowTasks:
    """The tasks of a bank's adapters; threads may share them."""

    def __init__(
        self,
        bank: checkpoint.Bank,
        vocabulary: tokenizer.Tokenizer,
        *,
        own_templates: bool = True,
        earlier: "RowTasks | None" = None,
    ) -> None:
        """Reads the tasks that the adapters carry.

        Args:
            bank: The adapters.
            vocabulary: Tokenizer of the model.
            own_templates: Whether rows of adapters without a task may bring theirs.
            earlier: Of another bank, whose tasks of the same adapters are kept.

        Raises:
            ValueError: If the task of an adapter is none.
        """
        self._bank = bank
        self._vocabulary = vocabulary
        self._own_templates = own_templates
        self._own = functools.lru_cache(maxsize=_KEPT_TASKS)(self._make_own)
        known = {} if earlier is None else earlier._by_adapter
        # Adapters are told apart by identity: the bank keeps them alive.
        self._by_adapter: dict[int, tuple[checkpoint.Adapter, RowTask | None]] = {}
        for name, adapter in bank.items():
            found = known.get(id(adapter))
            if found is None:
                found = adapter, self._read(name, adapter)
            self._by_adapter[id(adapter)] = found

    def spell(
        self, row: Mapping[str, Any], *, adapter: str | None, place: str
    ) -> SpelledRow:
        """The token ids of a row for the adapter of that name; None for `__base__`.

        Raises:
            ValueError: If there is no such adapter, nothing renders the row, or it
                cannot be rendered.
        """
        self._bank.index([adapter], places=[place])
        name = checkpoint.BASE if adapter is None else adapter
        task = None
        if name != checkpoint.BASE:
            _, task = self._by_adapter[id(self._bank[name])]
        if task is not None:
            return task.spell(row, place=place)
        if not self._own_templates:
            raise ValueError(
                f"{place}: {name} carries no template and choices, and rows may not "
                "bring theirs here; name an adapter that was saved with its task"
            )
        columns = {k: value for k, value in row.items() if k not in OWN_FIELDS}
        return self._own_task(row, name, place).spell(columns, place=place)

    def fixed_targets(self) -> list[Int[np.ndarray, "_ _"]]:
        """Token ids of the choices of each adapter that has the same for all rows."""
        tasks = [task for _, task in self._by_adapter.values() if task is not None]
        found = [task.fixed_targets() for task in tasks]
        return [targets for targets in found if targets is not None]

    def _read(self, name: str, adapter: checkpoint.Adapter) -> RowTask | None:
        if adapter.task is None:
            return None
        try:
            return RowTask(applying.adapter_task(adapter), self._vocabulary)
        except ValueError as error:
            raise ValueError(f"adapter {name}: {error}") from error

    def _own_task(self, row: Mapping[str, Any], name: str, place: str) -> RowTask:
        for field in OWN_FIELDS:
            if not isinstance(row.get(field), str):
                raise ValueError(
                    f"{place}: {name} carries no template and choices; give the row "
                    f"the fields 'template' and 'choices' ('bad ||| good') as text"
                )
        try:
            return self._own(row["template"], row["choices"])
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None

    def _make_own(self, template: str, choices: str) -> RowTask:
        spec = fewshot.TaskSpec(templates=template, choices=choices)
        return RowTask(
            applying.CarriedTask(spec, None, "mean", True, ""), self._vocabulary
        )
