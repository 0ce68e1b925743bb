"""The embedded base model: what is in the package is what the card says."""

import pathlib
import re
import sys

import numpy as np
import pytest
import sentencepiece
from flax import traverse_util

import tfew_jax
from tfew_jax import checkpoint

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from base_model import corpora, vocabulary  # noqa: E402

BASE = pathlib.Path(tfew_jax.__file__).parent / "assets" / "base"


@pytest.fixture(scope="module")
def pieces() -> sentencepiece.SentencePieceProcessor:
    return vocabulary.load(BASE / "sentencepiece.model")


@pytest.fixture(scope="module")
def base() -> checkpoint.Model:
    return checkpoint.load_model(BASE)


def test_the_folder_holds_four_files_of_at_most_20_megabytes_and_maybe_curves():
    files = {path.name: path.stat().st_size for path in BASE.iterdir()}
    names = {"README.md", "config.json", "model.safetensors", "sentencepiece.model"}
    assert set(files) - {"curves.png"} == names
    assert files.get("curves.png", 0) < 60_000
    assert sum(files.values()) <= 20_000_000


def test_the_model_has_between_5_and_12_million_parameters_as_its_card_says(base):
    count = sum(leaf.size for leaf in traverse_util.flatten_dict(base.params).values())
    assert 5_000_000 <= count <= 12_000_000
    assert f"| parameters | {count:,}," in (BASE / "README.md").read_text("utf-8")


def test_the_card_names_every_corpus_with_its_licence_and_a_hash():
    card = (BASE / "README.md").read_text("utf-8")
    for corpus in corpora.CORPORA:
        row = next(x for x in card.splitlines() if x.startswith(f"| {corpus.name} |"))
        assert corpus.licence in row
        assert re.search(r"`[0-9a-f]{64}`", row)
    assert "gcide" not in card.lower()


def test_the_card_says_what_the_teacher_was_trained_on():
    card = (BASE / "README.md").read_text("utf-8")
    for word in ("all-MiniLM-L6-v2", "MultiNLI", "SQuAD", "SST-2", "Quora"):
        assert word in card


def test_pad_end_and_unknown_have_t5s_ids(pieces):
    assert (pieces.pad_id(), pieces.eos_id(), pieces.unk_id()) == (0, 1, 2)
    assert pieces.bos_id() == -1


def test_the_last_hundred_rows_are_the_sentinels(base, pieces):
    assert pieces.get_piece_size() + vocabulary.NUM_SENTINELS == base.config.vocab_size
    assert vocabulary.sentinel(0, base.config.vocab_size) == base.config.vocab_size - 1


@pytest.mark.parametrize(
    "text",
    [
        "Where is my parcel?",
        "first line\nsecond line\n\nafter an empty one",
        "naïve ☃ 東京 Ωmega",
        "tel. 0123456789",
        "McDonald's iPhone, NASA and the QVXs: LOVE it (Élan, ÉLAN)",
        "Ω and ω, Straße and STRASSE",
    ],
)
def test_text_survives_the_vocabulary_without_unknowns(pieces, text):
    ids = pieces.encode(text)
    assert pieces.unk_id() not in ids
    assert pieces.decode(ids) == text


def test_every_digit_is_a_piece_of_its_own(pieces):
    found = [p.strip("▁") for p in pieces.encode("1984 20x30", out_type=str)]
    assert [p for p in found if p.isdigit()] == list("19842030")
    assert not any(
        re.search(r"\d.", pieces.id_to_piece(n).strip("▁"))
        for n in range(pieces.get_piece_size())
        if not pieces.is_byte(n)
    )


def test_a_newline_is_one_piece(pieces):
    assert pieces.id_to_piece(pieces.encode("a\nb")[1]) == vocabulary.NEWLINE
    assert len(pieces.encode("a\n\nb")) == len(pieces.encode("a b")) + 2


def test_a_word_has_the_same_pieces_wherever_it_stands_and_however_it_is_written(
    pieces,
):
    word = pieces.encode("terrible")
    for text in ("so terrible", "so\nterrible", "So\n\nTerrible", "TERRIBLE"):
        assert pieces.encode(text)[-len(word) :] == word
        assert pieces.decode(pieces.encode(text)) == text


def test_characters_outside_the_vocabulary_are_spelled_in_bytes(pieces):
    ids = pieces.encode("☃")
    assert sum(pieces.is_byte(i) for i in ids) == len("☃".encode())


def test_all_weights_are_finite_and_none_is_constant(base):
    for path, leaf in traverse_util.flatten_dict(base.params).items():
        values = np.asarray(leaf, np.float32)
        assert np.isfinite(values).all(), path
        assert values.std() > 0, path
