"""The base model's own SentencePiece vocabulary."""

import pathlib
import random
from collections.abc import Sequence

import sentencepiece

NUM_SENTINELS = 100
NEWLINE = "\n"


def train(texts: Sequence[str], path: pathlib.Path, vocab_size: int) -> None:
    """Train a unigram vocabulary and write it to `path`.

    Byte fallback spells every text, digits are single pieces, a newline is a piece of
    its own. The last 100 of the `vocab_size` ids are the sentinels, which the
    SentencePiece file does not hold: `<extra_id_0>` is the last id, as in T5.

    Args:
        texts: Training text; every second one is lower-cased, as many inputs will be.
        path: File to write.
        vocab_size: Rows of the embedding table, sentinels included.
    """
    shuffled = list(texts)
    random.Random(0).shuffle(shuffled)
    lines = (t if n % 2 else t.lower() for n, t in enumerate(shuffled))
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=file,
            model_type="unigram",
            vocab_size=vocab_size - NUM_SENTINELS,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            pad_piece="<pad>",
            eos_piece="</s>",
            unk_piece="<unk>",
            byte_fallback=True,
            split_digits=True,
            user_defined_symbols=[NEWLINE],
            normalization_rule_name="nmt_nfkc",
            character_coverage=0.9995,
            num_threads=2,
            minloglevel=2,
        )


def sentinel(number: int, vocab_size: int) -> int:
    """Id of `<extra_id_number>`."""
    return vocab_size - 1 - number


def load(path: pathlib.Path) -> sentencepiece.SentencePieceProcessor:
    """The trained vocabulary."""
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
