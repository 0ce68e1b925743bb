"""Objectives of pre-training: the tokens of a text become inputs and targets.

Span corruption is T5's (Raffel et al., 2020, https://arxiv.org/abs/1910.10683, Section
3.1.4): spans of the text are replaced by sentinels, and the targets say what each
sentinel stands for. Prefix LM continues a text from its beginning; trained on for some
100,000 steps it makes the LM-adapted T5 of Lester et al., 2021
(https://arxiv.org/abs/2104.08691), Section 3.2. Both are numpy alone; a text of the
same tokens and the same generator gives the same pair.
"""

import abc
import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from tfew_jax import types
from tfew_jax.data import tokenizer


@dataclasses.dataclass(frozen=True)
class TokenPair:
    """Inputs and targets of an example, each with its end of sequence."""

    inputs: Int[np.ndarray, "length"]
    targets: Int[np.ndarray, "target_length"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """What is asked of a text."""

    @abc.abstractmethod
    def num_tokens(self, lengths: Mapping[str, int]) -> int:
        """Tokens of the longest text whose inputs and targets fit, ends included.

        Args:
            lengths: Most tokens of "inputs" and "targets".

        Raises:
            ValueError: Nothing fits.
        """

    @abc.abstractmethod
    def make_pair(
        self, tokens: Int[np.ndarray, "length"], generator: np.random.Generator
    ) -> TokenPair | None:
        """The pair of a text, or None for a text too short to ask anything of."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanCorruption(Objective):
    """T5's span corruption: kept and removed spans in turn, a removed one at the end.

    Attributes:
        tokenizer: Whose sentinels stand for the spans.
        noise_density: Share of the tokens that are removed.
        mean_span_length: Tokens of a removed span, on average.
    """

    tokenizer: tokenizer.Tokenizer
    noise_density: float = 0.15
    mean_span_length: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.noise_density < 1:
            raise ValueError(
                f"noise_density is {self.noise_density}; it is a share, above 0 and "
                "below 1"
            )
        if not self.mean_span_length >= 1:
            raise ValueError(
                f"mean_span_length is {self.mean_span_length}; it is at least 1"
            )

    def num_tokens(self, lengths: Mapping[str, int]) -> int:
        """The most tokens that fit; 568 where inputs hold 512 and targets 114."""
        best, size = 0, 2
        # Inputs and targets never shrink as a text grows, so the first misfit ends it.
        while self._fits(size, lengths):
            best, size = size, size + 1
        if not best:
            raise ValueError(
                f"lengths {dict(lengths)} are too short for span corruption; the "
                "shortest text takes 3 tokens each"
            )
        return best

    def _fits(self, size: int, lengths: Mapping[str, int]) -> bool:
        num_noise, num_spans = self._counts(size)
        return (
            size - num_noise + num_spans + 1 <= lengths["inputs"]
            and num_noise + num_spans + 1 <= lengths["targets"]
        )

    def _counts(self, size: int) -> tuple[int, int]:
        """Tokens removed from a text of some size, and spans they make."""
        num_noise = min(max(round(size * self.noise_density), 1), size - 1)
        num_spans = max(round(num_noise / self.mean_span_length), 1)
        # Each span follows kept text.
        return num_noise, min(num_spans, size - num_noise, tokenizer.NUM_SENTINELS)

    def make_pair(
        self, tokens: Int[np.ndarray, "length"], generator: np.random.Generator
    ) -> TokenPair | None:
        if len(tokens) < 2:
            return None
        is_noise = self._noise(len(tokens), generator)
        return TokenPair(
            inputs=self._with_sentinels(tokens, is_noise),
            targets=self._with_sentinels(tokens, ~is_noise),
        )

    def _noise(
        self, size: int, generator: np.random.Generator
    ) -> Bool[np.ndarray, "length"]:
        """Which tokens are removed: kept and removed runs in turn, a kept one first."""
        num_noise, num_spans = self._counts(size)
        kept = _cut(size - num_noise, num_spans, generator)
        removed = _cut(num_noise, num_spans, generator)
        runs = np.stack([kept, removed], axis=1).reshape(-1)
        return np.repeat(np.arange(2 * num_spans) % 2 == 1, runs)

    def _with_sentinels(
        self, tokens: Int[np.ndarray, "length"], is_hidden: Bool[np.ndarray, "length"]
    ) -> Int[np.ndarray, "shorter"]:
        """The tokens with one sentinel for each hidden run, numbered in order."""
        is_first = is_hidden & ~np.pad(is_hidden[:-1], (1, 0))
        numbers = np.cumsum(is_first) - 1
        ids = [self.tokenizer.sentinel(n) for n in range(int(is_first.sum()))]
        marked = np.where(is_first, np.array([*ids, 0])[numbers], tokens)
        return _ended(marked[is_first | ~is_hidden])


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixLM(Objective):
    """The beginning of a text, up to a random place, is the input; the rest follows.

    The place is uniform: both sides have at least one token.
    """

    def num_tokens(self, lengths: Mapping[str, int]) -> int:
        """The most tokens that fit wherever the text is cut."""
        shorter = min(lengths["inputs"], lengths["targets"])
        if shorter < 2:
            raise ValueError(
                f"lengths {dict(lengths)} are too short for a prefix and what follows "
                "it; each takes 2 tokens or more"
            )
        return shorter

    def make_pair(
        self, tokens: Int[np.ndarray, "length"], generator: np.random.Generator
    ) -> TokenPair | None:
        if len(tokens) < 2:
            return None
        place = int(generator.integers(1, len(tokens)))
        return TokenPair(inputs=_ended(tokens[:place]), targets=_ended(tokens[place:]))


def _cut(
    size: int, num_parts: int, generator: np.random.Generator
) -> Int[np.ndarray, "parts"]:
    """Lengths of the parts of a random cut of `size` things; each cut is as likely."""
    places = np.sort(generator.choice(size - 1, num_parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], places, [size]]))


def _ended(tokens: Int[np.ndarray, "length"]) -> Int[np.ndarray, "longer"]:
    return np.append(tokens, types.EOS_ID).astype(np.int32)
