"""The base model's own SentencePiece vocabulary.

Written text is spelled by rules inside the SentencePiece file, which undo it when
decoding: "Good" is a mark, a space and "good", "TV" another mark, a space and "tv", a
newline is a mark and a space. So a word has the same pieces wherever it stands and
however it is written, and eight thousand pieces suffice.
"""

import collections
import pathlib
import random
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence

import sentencepiece

NUM_SENTINELS = 100
# Letters for the pieces' sake, which join them to the space before; as NFKC turns them
# into plain letters, no text holds them.
CAPITAL = "\u1d9c"  # modifier letter small c
CAPITALS = "\u1d2c"  # modifier letter capital a
NEWLINE = "\u2424"  # symbol for newline
_SPACE = "\u2581"  # SentencePiece's mark of a space
_LAST_CHARACTER = 0xFFFF
_NUM_SHOUTED = 4_000  # frequent words that have a rule for all capitals


def train(texts: Sequence[str], path: pathlib.Path, vocab_size: int) -> None:
    """Train a unigram vocabulary and write it to `path`.

    Byte fallback spells every text, digits are single pieces, a newline is a piece of
    its own. The last 100 of the `vocab_size` ids are the sentinels, which the
    SentencePiece file does not hold: `<extra_id_0>` is the last id, as in T5.

    Args:
        texts: Training text.
        path: File to write.
        vocab_size: Rows of the embedding table, sentinels included.
    """
    shuffled = list(texts)
    random.Random(0).shuffle(shuffled)
    with tempfile.TemporaryDirectory() as folder, path.open("wb") as file:
        rules = pathlib.Path(folder, "rules.tsv")
        undone = pathlib.Path(folder, "undone.tsv")
        words = _frequent_words(shuffled)
        _write_rules(rules, _rules(words))
        _write_rules(undone, _undone(words))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(shuffled),
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
            user_defined_symbols=[NEWLINE, _SPACE + CAPITAL, _SPACE + CAPITALS],
            normalization_rule_tsv=str(rules),
            denormalization_rule_tsv=str(undone),
            character_coverage=0.9995,
            num_threads=2,
            minloglevel=2,
        )


def _frequent_words(texts: Sequence[str]) -> list[str]:
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        counts.update(re.findall("[a-z]{2,}", text.lower()))
    return [word for word, _ in counts.most_common(_NUM_SHOUTED)]


def _small_letter(character: str) -> str | None:
    """The small letter of a capital one that is written back by `upper`."""
    small = character.lower()
    is_pair = len(small) == 1 and small != character and small.upper() == character
    return small if is_pair else None


def _rules(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What characters and words are spelled as, if not as themselves.

    Compatibility forms (ligatures, full-width letters) are written out; control
    characters vanish; every kind of space is a space.
    """
    yield "\n\n", f"{NEWLINE}{NEWLINE} "
    for word in words:
        yield word.upper(), f"{CAPITALS} {word}"
    for code in range(1, _LAST_CHARACTER + 1):
        character = chr(code)
        category = unicodedata.category(character)
        if 0xD800 <= code <= 0xDFFF or character in (NEWLINE, _SPACE):
            continue
        if character == "\n":
            yield character, f"{NEWLINE} "
        elif category == "Zs" or character in "\t\r":
            if character != " ":
                yield character, " "
        elif category == "Cc":
            yield character, ""
        else:
            written = unicodedata.normalize("NFKC", character)
            spelled = "".join(map(_spelled, written))
            if spelled != character:
                yield character, spelled


def _spelled(character: str) -> str:
    small = _small_letter(character)
    return character if small is None else f"{CAPITAL} {small}"


def _undone(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield f"{NEWLINE} ", "\n"
    yield NEWLINE, "\n"
    for word in words:
        yield f"{CAPITALS} {word}", word.upper()
    for code in range(ord("A"), _LAST_CHARACTER + 1):
        small = _small_letter(chr(code))
        if small is not None and unicodedata.normalize("NFKC", chr(code)) == chr(code):
            yield f"{CAPITAL} {small}", chr(code)


def _write_rules(path: pathlib.Path, rules: Iterator[tuple[str, str]]) -> None:
    def codes(text: str) -> str:
        return " ".join(f"{ord(character):X}" for character in text)

    lines = (f"{codes(source)}\t{codes(target)}\n" for source, target in rules)
    path.write_text("".join(lines), encoding="utf-8")


def sentinel(number: int, vocab_size: int) -> int:
    """Id of `<extra_id_number>`."""
    return vocab_size - 1 - number


def load(path: pathlib.Path) -> sentencepiece.SentencePieceProcessor:
    """The trained vocabulary."""
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
