"""A vocabulary of a few words, trained on the spot."""

import pathlib
import random

import pytest
import sentencepiece

from tfew_jax.data import tokenizer

_WORDS = "good bad film story it is was the a and very so I you not sure yes no"
_WORDS += " review sentiment what"


def train_vocabulary(path: pathlib.Path, **options) -> pathlib.Path:
    generator = random.Random(0)
    words = _WORDS.split()
    lines = [" ".join(generator.choices(words, k=8)) for _ in range(400)]
    settings = {
        "vocab_size": 90,
        "pad_id": 0,
        "eos_id": 1,
        "unk_id": 2,
        "bos_id": -1,
        "hard_vocab_limit": False,
        "minloglevel": 2,
    }
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, **(settings | options)
        )
    return path


@pytest.fixture(scope="session")
def make_vocabulary(tmp_path_factory):
    """Trains a small vocabulary with other settings."""

    def make(**options) -> pathlib.Path:
        folder = tmp_path_factory.mktemp("vocabulary")
        return train_vocabulary(folder / "sentencepiece.model", **options)

    return make


@pytest.fixture(scope="session")
def words(make_vocabulary) -> tokenizer.Tokenizer:
    """A tokenizer whose pieces are lower-case English words and letters."""
    return tokenizer.Tokenizer(make_vocabulary())
