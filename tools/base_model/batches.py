"""Training batches from the prepared arrays; `batch_at(step)` is a pure function."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from base_model import prompts, questions, ragged, vocabulary
from tfew_jax import types
from tfew_jax.data import objectives, tokenizer

_LENGTHS = (12, 16, 24, 32, 48, 64, 80)
MAX_INPUTS = _LENGTHS[-1]
_MAX_PART = 48  # tokens of a text inside a prompt
_MAX_PHRASE = 6  # tokens of an answer, end token not counted
MAX_TARGETS = _MAX_PHRASE + 2  # a capital and the end token
_SHORT_PHRASE = 3  # the same in most batches: short answers are cheap
_SHORT_SHARE = 0.75
_OPTIONS_SHARE = 0.2  # of the batches: rows name their choices
_SMALL_SHARE = 0.15  # of the texts: without capitals
_CHOICE_STYLES = {"as they are": 0.6, "small": 0.2, "capitalised": 0.2}
_LANGUAGE_LENGTHS = {
    "span": {"inputs": 64, "targets": 16},
    "prefix_lm": {"inputs": 64, "targets": 64},
}
_LANGUAGE_STREAMS = {"span": 2, "prefix_lm": 3}
_TEMPERATURE = 0.07  # of the teacher's similarities as a distribution over choices
# kind of row, share of a batch; of the others where one is left out
_MIXTURE = (
    ("topic", 0.45),
    ("sentiment", 0.33),
    ("definition", 0.09),
    ("title", 0.04),
    ("pair", 0.05),
    ("comparative", 0.04),
    ("question", 0.10),
    ("commonsense", 0.08),
    ("science", 0.02),
)
_NAMED = {  # kinds of rows whose text has an answer, and their wordings
    "definition": prompts.DEFINITION,
    "title": prompts.TITLE,
    **dict.fromkeys(questions.KINDS, prompts.QUESTION),
}


@dataclasses.dataclass(frozen=True)
class Draft:
    """A prompted row before its text is put together.

    Attributes:
        template: Wording with a `{}` for each part.
        parts: Token lists.
        choices: Token lists of the answers.
        target: What the choices deserve; sums to one.
        text: Number of the text whose vector the input should have, or -1.
    """

    template: str
    parts: tuple[np.ndarray, ...]
    choices: list[np.ndarray]
    target: np.ndarray
    text: int


def bucket(length: int) -> int:
    """The smallest allowed length that holds `length` tokens."""
    return next((size for size in _LENGTHS if size >= length), _LENGTHS[-1])


class Data:
    """The arrays of a work folder and the batches drawn from them."""

    def __init__(
        self, work: pathlib.Path, seed: int = 0, *, without: Sequence[str] = ()
    ):
        """Reads the arrays; `without` names kinds of prompted rows to leave out."""
        self.seed = seed
        self.has_teacher = (work / "vectors.npy").is_file()
        # A topic is what the teacher finds similar.
        without = without if self.has_teacher else (*without, "topic")
        self._mixture = [(k, share) for k, share in _MIXTURE if k not in without]
        self.manifest = json.loads((work / "manifest.json").read_text("utf-8"))
        self.vocab_size = self.manifest["vocab_size"]
        self.pieces = vocabulary.load(work / "sentencepiece.model")
        self.texts = ragged.Ragged.load(work, "texts")
        self.following = ragged.Ragged.load(work, "following")
        self.phrases = ragged.Ragged.load(work, "phrases")
        self.running = ragged.Ragged.load(work, "running")
        self._runs_on = np.flatnonzero(self.running.lengths >= 2)
        spelling = tokenizer.Tokenizer(work / "sentencepiece.model")
        self._objectives: dict[str, objectives.Objective] = {
            "span": objectives.SpanCorruption(tokenizer=spelling),
            "prefix_lm": objectives.PrefixLM(),
        }
        if self.has_teacher:
            self.vectors = np.load(work / "vectors.npy")
            self.phrase_vectors = np.load(work / "phrase_vectors.npy")
            self.nearest = np.load(work / "nearest.npy")
        facts = json.loads((work / "texts.json").read_text("utf-8"))
        kinds, self.labels = np.array(facts["kinds"]), facts["labels"]
        names = json.loads((work / "phrases.json").read_text("utf-8"))
        self.phrase_ids = {name: number for number, name in enumerate(names)}
        self.sentiment = np.load(work / "sentiment.npy")
        lengths = self.phrases.lengths
        self._fits = {
            most: (lengths > 0) & (lengths <= most)
            for most in (_SHORT_PHRASE, _MAX_PHRASE)
        }
        self._short = {m: np.flatnonzero(fits) for m, fits in self._fits.items()}
        self._encoded: dict[str, np.ndarray] = {}
        answers = np.array([self.phrase_ids.get(str(x), -1) for x in self.labels])
        follows = self.following.lengths > 0
        self._answers = answers
        self._pools = {
            most: self._make_pools(kinds, follows, most) for most in self._fits
        }
        marks = [
            self.pieces.piece_to_id(space + mark)
            for mark in (vocabulary.CAPITAL, vocabulary.CAPITALS)
            for space in ("▁", "")
        ]
        self.marks = [token for token in marks if token != self.pieces.unk_id()]
        self._makers: dict[str, Callable[[Any, int, int], Draft]] = {
            "topic": self._topic,
            "sentiment": self._sentiment,
            **{kind: functools.partial(self._named, kind) for kind in _NAMED},
            "pair": self._pair,
            "comparative": self._comparative,
        }

    def _make_pools(
        self, kinds: np.ndarray, follows: np.ndarray, most: int
    ) -> dict[str, np.ndarray]:
        """Texts usable for each kind of row when answers have at most `most` tokens."""
        named = (self._answers >= 0) & self._fits[most][self._answers]
        return {
            "topic": np.flatnonzero(self.texts.lengths >= 4),
            "sentiment": np.flatnonzero(~np.isnan(self.sentiment)),
            "definition": np.flatnonzero((kinds == "gloss") & named),
            "title": np.flatnonzero((kinds == "summary") & named),
            "pair": np.flatnonzero(follows & (self.texts.lengths <= 24)),
            "comparative": np.flatnonzero(kinds == "comparative"),
            **{
                kind: np.flatnonzero((kinds == kind) & named)
                for kind in questions.KINDS
            },
        }

    def encode(self, text: str) -> np.ndarray:
        """Tokens of a fixed wording as it stands inside a text, remembered."""
        if text not in self._encoded:
            # What starts with a sign or a new line has no space before it.
            before = "" if text[:1].isalnum() else "a"
            ids = self.pieces.encode(before + text)
            ids = ids[len(self.pieces.encode(before)) :]
            self._encoded[text] = np.array(ids, np.int32)
        return self._encoded[text]

    def _fill(self, template: str, parts: Sequence[np.ndarray]) -> np.ndarray:
        pieces: list[np.ndarray] = []
        for number, wording in enumerate(template.split("{}")):
            if stripped := wording.strip(" "):
                pieces.append(self.encode(stripped))
            if number < len(parts):
                pieces.append(parts[number].astype(np.int32))
        return np.concatenate(pieces)

    def _small(self, tokens: np.ndarray) -> np.ndarray:
        small = tokens[~np.isin(tokens, self.marks)]
        return small if len(small) else tokens

    def _styled(
        self, rng: np.random.Generator, choices: list[np.ndarray]
    ) -> list[np.ndarray]:
        """Choices as they are, all without capitals, or each with a first one."""
        shares = list(_CHOICE_STYLES.values())
        style = list(_CHOICE_STYLES)[int(rng.choice(len(shares), p=shares))]
        styled = choices
        if style == "small":
            styled = [self._small(choice) for choice in choices]
        elif style == "capitalised":
            mark = self.marks[0]
            styled = [np.append(mark, self._small(choice)) for choice in choices]
        different = len({tuple(choice) for choice in styled}) == len(choices)
        return styled if different else choices

    def _listed(
        self, rng: np.random.Generator, choices: list[np.ndarray]
    ) -> np.ndarray:
        """The choices as a list, "a, b or c", in an order of its own."""
        last = self._draw(rng, (",", "or"))
        parts: list[np.ndarray] = []
        for place, number in enumerate(rng.permutation(len(choices))):
            if place:
                comma = "," if place < len(choices) - 1 else last
                parts.append(self.encode(comma))
            parts.append(choices[number])
        return np.concatenate(parts)

    def _inputs(
        self,
        rng: np.random.Generator,
        draft: Draft,
        choices: list[np.ndarray],
        options: bool,
    ) -> np.ndarray:
        """The whole input of a row, with the end token."""
        parts = [part[:_MAX_PART] for part in draft.parts]
        if rng.random() < _SMALL_SHARE:
            parts = [self._small(part) for part in parts]
        line_break = self._draw(rng, prompts.LINE_BREAKS)
        tokens = self._fill(prompts.lay_out(draft.template, line_break), parts)
        if options:
            number = int(rng.integers(len(prompts.OPTIONS)))
            wording = prompts.lay_out(prompts.OPTIONS[number], line_break)
            fillings = [tokens, self._listed(rng, choices)]
            first = number >= prompts.OPTIONS_FIRST
            tokens = self._fill(wording, fillings[::-1] if first else fillings)
        return np.append(tokens, types.EOS_ID)

    def _draw(
        self, rng: np.random.Generator, options: Sequence[Any] | np.ndarray
    ) -> Any:
        return options[int(rng.integers(len(options)))]

    def _phrase_draft(
        self, rng: np.random.Generator, template: str, text: int, ids: list[int]
    ) -> Draft:
        order = rng.permutation(len(ids))
        chosen = np.array(ids)[order]
        vector = self.vectors[text].astype(np.float32)
        scores = self.phrase_vectors[chosen].astype(np.float32) @ vector / _TEMPERATURE
        weights = np.exp(scores - scores.max())
        choices = [self.phrases[i] for i in chosen]
        target = weights / weights.sum()
        return Draft(template, (self.texts[text],), choices, target, text)

    def _near(self, rng: np.random.Generator, text: int, most: int) -> int:
        """A phrase near a text, the nearest more often, or any phrase."""
        near = self.nearest[text]
        near = near[self._fits[most][near]]
        if not len(near):
            return int(self._draw(rng, self._short[most]))
        return int(near[int(len(near) * rng.random() ** 1.5)])

    def _topic(self, rng: np.random.Generator, text: int, most: int) -> Draft:
        # Wrong answers are right ones of other texts: phrases drawn from the whole
        # list might be told apart without reading the text.
        others = rng.choice(self._pools[most]["topic"], 3)
        ids = [self._near(rng, i, most) for i in (text, *others)]
        ids = list(dict.fromkeys(ids))
        if len(ids) == 1:
            ids.append(int(self._draw(rng, self._short[most])))
        return self._phrase_draft(rng, self._draw(rng, prompts.TOPIC), text, ids)

    def _named(
        self, kind: str, rng: np.random.Generator, text: int, most: int
    ) -> Draft:
        """A text and the answer it has, among answers of others of its kind."""
        answer = int(self._answers[text])
        pool = self._pools[most][kind]
        others = [int(self._answers[i]) for i in rng.choice(pool, 3)]
        ids = list(dict.fromkeys([answer, *others]))
        if len(ids) == 1:
            ids.append(int(self._draw(rng, self._short[most])))
        ids = rng.permutation(ids)
        template = self._draw(rng, _NAMED[kind])
        target = (ids == answer).astype(np.float32)
        choices = [self.phrases[i] for i in ids]
        return Draft(template, (self.texts[text],), choices, target, text)

    def _classes(
        self,
        rng: np.random.Generator,
        template: str,
        parts: tuple[np.ndarray, ...],
        words: tuple[str, str],
        positive: float,
        text: int,
    ) -> Draft:
        order = rng.permutation(2)
        choices = [self.encode(words[i]) for i in order]
        target = np.array([1 - positive, positive], np.float32)[order]
        return Draft(template, parts, choices, target, text)

    def _sentiment(self, rng: np.random.Generator, text: int, most: int) -> Draft:
        asks = rng.random() < 0.15
        template = self._draw(rng, prompts.RECOMMEND if asks else prompts.SENTIMENT)
        words = self._draw(rng, prompts.YES_NO if asks else prompts.SENTIMENT_WORDS)
        positive = 0.05 + 0.9 * float(self.sentiment[text])
        parts = (self.texts[text],)
        return self._classes(rng, template, parts, words, positive, text)

    def _pair(self, rng: np.random.Generator, text: int, most: int) -> Draft:
        follows = rng.random() < 0.5
        second = text if follows else int(self._draw(rng, self._pools[most]["pair"]))
        template = self._draw(rng, prompts.PAIR)
        parts = (self.texts[text], self.following[second][:28])
        words = self._draw(rng, prompts.PAIR_WORDS)
        return self._classes(rng, template, parts, words, float(second == text), -1)

    def _comparative(self, rng: np.random.Generator, text: int, most: int) -> Draft:
        template = self._draw(rng, prompts.COMPARATIVE)
        words = self._draw(rng, prompts.COMPARATIVE_WORDS)
        parts, positive = (self.texts[text],), float(self.labels[text])
        return self._classes(rng, template, parts, words, positive, text)

    def _rng(self, step: int, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, stream, step))

    def distil_batch(self, step: int, num_tokens: int) -> dict[str, np.ndarray]:
        """Texts of similar length with their teacher vectors.

        Returns:
            tokens int32 [batch, length], vectors float32 [batch, teacher], sentiment
            float32 [batch] from 0 (bad) to 1 (good), -1 where it is not known; batch x
            length is about `num_tokens`.
        """
        rng = self._rng(step, 0)
        lengths = self.texts.lengths
        length = bucket(int(lengths[self._draw(rng, range(len(lengths)))]) + 1)
        below = max((size for size in _LENGTHS if size < length), default=0)
        pool = np.flatnonzero((lengths + 1 > below) & (lengths + 1 <= length))
        chosen = rng.choice(pool, max(8, num_tokens // length))
        rows = [np.append(self.texts[i], types.EOS_ID) for i in chosen]
        vectors = self.vectors[chosen].astype(np.float32)
        sentiment = np.nan_to_num(self.sentiment[chosen], nan=-1.0).astype(np.float32)
        arrays = {"vectors": vectors, "sentiment": sentiment}
        return {"tokens": ragged.pad(rows, length), **arrays}

    def choice_batch(self, step: int, size: int) -> dict[str, np.ndarray]:
        """Prompted rows of all kinds, of similar length.

        Returns:
            tokens [batch, length], choices [batch, 4, target_length] with end tokens,
            target [batch, 4] (sums to one); with a teacher vectors [batch, teacher] and
            has_vector [batch] for rows whose input should have that sentence vector.
        """
        rng = self._rng(step, 1)
        kinds, shares = zip(*self._mixture, strict=True)
        most = _SHORT_PHRASE if rng.random() < _SHORT_SHARE else _MAX_PHRASE
        pools = self._pools[most]
        usable = np.array([len(pools[k]) > 1 for k in kinds]) * np.array(shares)
        drawn = rng.choice(len(kinds), 3 * size, p=usable / usable.sum())
        wanted = [(kinds[k], int(self._draw(rng, pools[kinds[k]]))) for k in drawn]
        wanted.sort(key=lambda item: self._length(*item))
        start = int(rng.integers(2 * size + 1))
        options = rng.random() < _OPTIONS_SHARE
        width = most + 2  # a capital and the end token
        choices = np.zeros((size, 4, width), np.int32)
        target = np.zeros((size, 4), np.float32)
        drafts = [
            self._makers[k](rng, i, most) for k, i in wanted[start : start + size]
        ]
        inputs: list[np.ndarray] = []
        for number, draft in enumerate(drafts):
            styled = self._styled(rng, draft.choices)
            inputs.append(self._inputs(rng, draft, styled, options))
            ended = [np.append(choice, types.EOS_ID) for choice in styled]
            choices[number, : len(ended)] = ragged.pad(ended, width)
            target[number, : len(ended)] = draft.target
        length = bucket(max(map(len, inputs)))
        tokens = ragged.pad(inputs, length)
        batch = {"tokens": tokens, "choices": choices, "target": target}
        if not self.has_teacher:
            return batch
        texts = np.array([draft.text for draft in drafts])
        vectors = self.vectors[np.maximum(texts, 0)].astype(np.float32)
        return batch | {
            "vectors": vectors,
            "has_vector": (texts >= 0).astype(np.float32),
        }

    def _length(self, kind: str, text: int) -> int:
        extra = int(min(self.following.lengths[text], 28)) if kind == "pair" else 0
        return int(self.texts.lengths[text]) + extra

    def language_batch(self, kind: str, step: int, size: int) -> dict[str, np.ndarray]:
        """Running text by the objective span or prefix_lm.

        Returns:
            tokens [batch, length] and choices [batch, 1, target_length], the targets.
        """
        rng = self._rng(step, _LANGUAGE_STREAMS[kind])
        objective, lengths = self._objectives[kind], _LANGUAGE_LENGTHS[kind]
        most = objective.num_tokens(lengths)
        chosen = rng.choice(self._runs_on, size)
        texts = [self.running[i][:most].astype(np.int32) for i in chosen]
        found = [objective.make_pair(text, rng) for text in texts]
        pairs = [pair for pair in found if pair is not None]
        targets = ragged.pad([pair.targets for pair in pairs], lengths["targets"])
        inputs = ragged.pad([pair.inputs for pair in pairs], lengths["inputs"])
        return {"tokens": inputs, "choices": targets[:, None]}
