"""Labelled rows in front of the row that is scored: examples in the input, no training.

What Brown et al., 2020 (https://arxiv.org/abs/2005.14165) call zero-shot and few-shot,
and Lester et al., 2021 (https://arxiv.org/abs/2104.08691, Section 1) prompt design: a
frozen model reads demonstrations, each an input with its right choice, then the row. A
row and its demonstrations are rendered by one template.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from tfew_jax.data import fewshot, templates, tokenized, tokenizer

_STREAM = 2  # so that demonstrations are not drawn with the numbers that draw the rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextPrompt:
    """What stands in front of a row.

    Attributes:
        num_demonstrations: Rows that are shown with their right choice; 0 for none.
        separator: Between the input of one and its choice.
        joiner: Behind each.
    """

    num_demonstrations: int = 0
    separator: str = " "
    joiner: str = "\n\n"

    def __post_init__(self) -> None:
        if self.num_demonstrations < 0:
            raise ValueError(
                f"num_demonstrations must be 0 or more, got {self.num_demonstrations}"
            )
        for name in ("separator", "joiner"):
            if not getattr(self, name):
                raise ValueError(
                    f"the {name} of demonstrations is empty, so that texts would run "
                    "into each other; give one, such as a space or a line end"
                )

    def check(self, vocabulary: tokenizer.Tokenizer) -> None:
        """Raises unless separator and joiner can be spelled.

        Raises:
            ValueError: If one holds what is `<unk>`.
        """
        for name in ("separator", "joiner"):
            text = getattr(self, name)
            if vocabulary.count_unknown(vocabulary.encode(text)):
                raise ValueError(
                    f"the vocabulary {vocabulary.model_file} cannot spell the {name} "
                    f"of demonstrations, {text!r}; give one that it can"
                )

    def draw(
        self, labels: Sequence[int] | Int[np.ndarray, " rows"], seed: int
    ) -> Int[np.ndarray, " demonstrations"]:
        """Indices of the rows that are shown, in the order in which they are.

        No class is shown again before each other one that has a row left; which ones
        come once more than others, which rows, and the order are random. With the same
        seed fewer demonstrations are some of the more.

        Args:
            labels: Of the rows to draw from.
            seed: Of the draw.

        Raises:
            ValueError: If there are fewer rows.
        """
        if self.num_demonstrations > len(labels):
            raise ValueError(
                f"num_demonstrations={self.num_demonstrations}, but there are "
                f"{len(labels)} rows to draw them from; show between 0 and all of them"
            )
        random = np.random.RandomState([fewshot.check_seed(seed), _STREAM])
        by_class: dict[int, list[int]] = {}
        for index in random.permutation(len(labels)).tolist():
            by_class.setdefault(int(labels[index]), []).append(index)
        rounds = itertools.chain.from_iterable(
            itertools.zip_longest(*by_class.values())
        )
        dealt = [index for index in rounds if index is not None]
        drawn = np.asarray(dealt[: self.num_demonstrations], int)
        return drawn[random.permutation(len(drawn))]

    def render(self, shown: Iterable[templates.Rendered], inputs: str) -> str:
        """The text that the model reads.

        Args:
            shown: Demonstrations in their order, with labels.
            inputs: The rendered row behind them.
        """
        texts = []
        for row in shown:
            assert row.label is not None, "a demonstration has no label"
            texts += [row.inputs, self.separator, row.choices[row.label], self.joiner]
        return "".join([*texts, inputs])

    def spell(
        self,
        shown: Sequence[templates.Rendered],
        inputs: str,
        vocabulary: tokenizer.Tokenizer,
        *,
        max_length: int,
        input_eos: bool = True,
    ) -> tuple[list[int], int]:
        """Token ids of a row behind as many demonstrations as fit.

        Those in front are left out first. The row itself is cut only where it is too
        long without any, as it is elsewhere.

        Returns:
            At most `max_length` ids, and how many demonstrations were left out.
        """

        def ids(num_dropped: int) -> list[int]:
            text = self.render(shown[num_dropped:], inputs)
            return vocabulary.encode(text, add_eos=input_eos)

        whole = ids(0)
        if len(whole) <= max_length or not shown:
            return tokenizer.truncate(whole, max_length), 0
        num_dropped = 1 + bisect.bisect_left(
            range(1, len(shown)), True, key=lambda n: len(ids(n)) <= max_length
        )
        return tokenizer.truncate(ids(num_dropped), max_length), num_dropped


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PromptedRows:
    """Rows with demonstrations in front.

    Attributes:
        tokens: The rows, as `tokenized.tokenize` returns them but for the inputs.
        num_dropped: Demonstrations that did not fit, by template and row.
    """

    tokens: tokenized.TokenizedRows
    num_dropped: Int[np.ndarray, "templates rows"]

    def losses(self, template: Int[np.ndarray, " rows"]) -> dict[str, int]:
        """How many rows lost how many demonstrations, without those that lost none.

        Args:
            template: By which each row is rendered.
        """
        lost = self.num_dropped[template, np.arange(len(template))]
        numbers, counts = np.unique(lost[lost > 0], return_counts=True)
        return {str(n): int(c) for n, c in zip(numbers, counts, strict=True)}


def put_in_front(
    prompt: TextPrompt,
    shown: Sequence[Sequence[templates.Rendered]],
    rendered: Sequence[Sequence[templates.Rendered]],
    tokens: tokenized.TokenizedRows,
    vocabulary: tokenizer.Tokenizer,
    *,
    views: Iterable[Int[np.ndarray, " rows"]],
    input_eos: bool = True,
) -> PromptedRows:
    """The rows with demonstrations in front; without any, the rows as they are.

    Args:
        prompt: How demonstrations stand in front of a row.
        shown: The demonstrations, by template.
        rendered: The rows, by template.
        tokens: The same rows as token ids.
        vocabulary: What spelled them.
        views: Of each row the template that it will be read by; of the other
            templates the inputs stay as they are.
        input_eos: As in `tokenized.tokenize`.
    """
    num_dropped = np.zeros(tokens.choice_set.shape, np.int32)
    if not prompt.num_demonstrations:
        return PromptedRows(tokens=tokens, num_dropped=num_dropped)
    inputs = [list(rows) for rows in tokens.inputs]
    num_unknown = tokens.num_unknown.copy()
    used = {
        (template, row)
        for view in views
        for row, template in enumerate(np.asarray(view).tolist())
    }
    for template, row in sorted(used):
        ids, lost = prompt.spell(
            shown[template],
            rendered[template][row].inputs,
            vocabulary,
            max_length=tokens.feature_lengths["inputs"],
            input_eos=input_eos,
        )
        inputs[template][row] = np.asarray(ids, np.int32)
        num_unknown[template, row] = vocabulary.count_unknown(ids)
        num_dropped[template, row] = lost
    lengths = [len(inputs[template][row]) for template, row in sorted(used)]
    tokens = dataclasses.replace(
        tokens,
        inputs=tuple(tuple(rows) for rows in inputs),
        num_unknown=num_unknown,
        all_lengths=np.asarray(lengths, np.int32),
    )
    return PromptedRows(tokens=tokens, num_dropped=num_dropped)


def share_lengths(prompted: Sequence[PromptedRows]) -> list[PromptedRows]:
    """The same rows, all to be padded to the lengths that suit all of them."""
    if not prompted:
        return []
    lengths = np.concatenate([rows.tokens.all_lengths for rows in prompted])
    return [
        dataclasses.replace(
            rows, tokens=dataclasses.replace(rows.tokens, all_lengths=lengths)
        )
        for rows in prompted
    ]
