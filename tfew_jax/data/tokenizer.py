"""Text to token ids with a SentencePiece model, in T5's conventions.

Ids: pad 0, end of sequence 1, unknown 2. A T5 vocabulary has 100 sentinels
`<extra_id_0>` … `<extra_id_99>`; where the SentencePiece model lacks them they stand
above its pieces in falling order, so that `<extra_id_0>` is the last id of all.
"""

import functools
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import sentencepiece

from tfew_jax import types
from tfew_jax.data import labels

NUM_SENTINELS = 100
_SENTINEL = re.compile(r"<extra_id_(\d{1,2})>")
_SPACE = "\u2581"  # SentencePiece's mark of a space


class TokenizerError(ValueError):
    """A vocabulary that cannot be used, or choices that it cannot tell apart."""


class Tokenizer:
    """A T5 vocabulary.

    Attributes:
        model_file: The SentencePiece file.
    """

    def __init__(self, model_file: str | os.PathLike[str]):
        self.model_file = pathlib.Path(model_file)
        self._pieces = _load(self.model_file)
        ids = (self._pieces.pad_id(), self._pieces.eos_id(), self._pieces.unk_id())
        expected = (types.PAD_ID, types.EOS_ID, types.UNK_ID)
        if ids != expected:
            raise TokenizerError(
                f"{self.model_file}: has pad, eos and unk ids {ids}, expected "
                f"{expected}; train it with --pad_id=0 --eos_id=1 --unk_id=2"
            )

    def __repr__(self) -> str:
        return f"Tokenizer({str(self.model_file)!r})"

    def __reduce__(self):
        return Tokenizer, (self.model_file,)

    @property
    def num_pieces(self) -> int:
        """Pieces of the SentencePiece model, without sentinels it lacks."""
        return self._pieces.get_piece_size()

    @property
    def vocab_size(self) -> int:
        """Number of ids, sentinels included."""
        return self.num_pieces + (0 if self._own_sentinels else NUM_SENTINELS)

    @functools.cached_property
    def _own_sentinels(self) -> dict[int, int]:
        """Ids of the sentinels that the SentencePiece model holds itself."""
        found = {}
        for number in range(NUM_SENTINELS):
            for piece in (f"<extra_id_{number}>", f"{_SPACE}<extra_id_{number}>"):
                token = self._pieces.piece_to_id(piece)
                if token != types.UNK_ID:
                    found[number] = token
        return found

    def sentinel(self, number: int) -> int:
        """Id of `<extra_id_number>`.

        Raises:
            TokenizerError: The vocabulary has no such sentinel.
        """
        if self._own_sentinels:
            if number in self._own_sentinels:
                return self._own_sentinels[number]
        elif 0 <= number < NUM_SENTINELS:
            return self.vocab_size - 1 - number
        raise TokenizerError(f"{self.model_file}: has no sentinel <extra_id_{number}>")

    def encode(
        self, text: str, *, add_eos: bool = True, max_length: int | None = None
    ) -> list[int]:
        """Token ids of a text.

        Args:
            text: May hold sentinels such as `<extra_id_0>`.
            add_eos: Whether the end of sequence is appended.
            max_length: Most ids to return; longer texts are cut before the end of
                sequence, which stays.
        """
        if "<extra_id_" in text:
            ids = self._encode_around_sentinels(text)
        else:
            ids = list(self._pieces.encode(text))
        return truncate([*ids, types.EOS_ID] if add_eos else ids, max_length)

    def _encode_around_sentinels(self, text: str) -> list[int]:
        ids: list[int] = []
        for position, part in enumerate(_SENTINEL.split(text)):
            if position % 2:
                ids.append(self.sentinel(int(part)))
            elif part.strip():
                ids += self._pieces.encode(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first end of sequence, without pads."""
        texts: list[str] = []
        pieces: list[int] = []
        for token in map(int, ids):
            if token == types.EOS_ID:
                break
            if token in self._sentinels:
                number = self._sentinels[token]
                texts += [self._pieces.decode(pieces), f"<extra_id_{number}>"]
                pieces = []
            elif token != types.PAD_ID:
                self._check_id(token)
                pieces.append(token)
        return " ".join(t for t in [*texts, self._pieces.decode(pieces)] if t)

    @functools.cached_property
    def _sentinels(self) -> dict[int, int]:
        """Numbers of the sentinels, by id."""
        numbers = self._own_sentinels or range(NUM_SENTINELS)
        return {self.sentinel(number): number for number in numbers}

    def _check_id(self, token: int) -> None:
        if not 0 <= token < self.num_pieces:
            raise TokenizerError(
                f"{self.model_file}: has no id {token}; ids run from 0 to "
                f"{self.vocab_size - 1}"
            )

    def piece(self, token: int) -> str:
        """How the vocabulary writes an id: its piece, or `<extra_id_n>`."""
        if token in self._sentinels:
            return f"<extra_id_{self._sentinels[token]}>"
        self._check_id(token)
        return self._pieces.id_to_piece(token)

    def is_text(self, token: int) -> bool:
        """Whether an id stands for text: no pad, end, `<unk>`, control id or sentinel.

        Ids that the vocabulary does not have stand for none.
        """
        if not 0 <= token < self.num_pieces or token in self._sentinels:
            return False
        marks = (self._pieces.is_control, self._pieces.is_unknown)
        return not any(is_mark(token) for is_mark in (*marks, self._pieces.is_unused))

    def count_unknown(self, ids: Sequence[int]) -> int:
        """How many of the ids are `<unk>`: pieces the vocabulary cannot spell."""
        return sum(token == types.UNK_ID for token in ids)

    def is_unknown(self, ids: Sequence[int]) -> bool:
        """Whether nothing but `<unk>` and spaces is left of a text."""
        space = self._pieces.piece_to_id(_SPACE)
        rest = set(ids) - {types.EOS_ID, space}
        return rest <= {types.UNK_ID}

    def encode_choices(
        self, choices: Sequence[str], *, max_length: int | None = None
    ) -> list[list[int]]:
        """Token ids of answer choices, with the end of sequence.

        Raises:
            TokenizerError: A choice is nothing but `<unk>`, or two choices have the
                same ids, perhaps only because they were cut.
        """
        encoded = [self.encode(choice, max_length=max_length) for choice in choices]
        for choice, ids in zip(choices, encoded, strict=True):
            if self.is_unknown(ids):
                raise TokenizerError(
                    f"the vocabulary {self.model_file} cannot spell the choice "
                    f"{choice!r}: it is nothing but <unk>; choose other words"
                )
        seen: dict[tuple[int, ...], str] = {}
        for choice, ids in zip(choices, encoded, strict=True):
            other = seen.setdefault(tuple(ids), choice)
            if other != choice:
                cut = "" if max_length is None else f" within {max_length} tokens"
                raise TokenizerError(
                    f"the choices {labels.show([other, choice])} have the same tokens"
                    f"{cut} in the vocabulary {self.model_file}; choose texts it can "
                    "tell apart"
                )
        return encoded


def truncate(ids: list[int], max_length: int | None) -> list[int]:
    """At most `max_length` ids; an end of sequence at the end stays at the end."""
    if max_length is None or len(ids) <= max_length:
        return ids
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}; expected 1 or more")
    if ids[-1] == types.EOS_ID:
        return [*ids[: max_length - 1], types.EOS_ID]
    return ids[:max_length]


def _load(path: pathlib.Path) -> sentencepiece.SentencePieceProcessor:
    if not path.is_file():
        raise TokenizerError(
            f"{path}: no such vocabulary; give the SentencePiece file of the model "
            "(sentencepiece.model or spiece.model)"
        )
    pieces = sentencepiece.SentencePieceProcessor()
    try:
        loaded = pieces.load_from_serialized_proto(path.read_bytes())
    except (RuntimeError, OSError) as error:
        raise TokenizerError(
            f"{path}: not a SentencePiece model ({' '.join(str(error).split())}); "
            "fetch the file again"
        ) from None
    if not loaded or not pieces.get_piece_size():
        raise TokenizerError(f"{path}: not a SentencePiece model; fetch it again")
    return pieces
