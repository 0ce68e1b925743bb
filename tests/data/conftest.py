"""A vocabulary of a few words, trained on the spot, and a mixture of two small sets."""

import importlib.resources.abc
import json
import pathlib
import random
import sys
import unittest.mock

import pytest
import sentencepiece

from tfew_jax.data import p3_mixture, p3_rows, tokenizer

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from small_mixture import COLOURS, NUMBERS, ROWS, SMALL

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


@pytest.fixture
def template_directory(tmp_path):
    """Templates of the small mixture."""
    for name, text in {"colours": COLOURS, "numbers/v1.0": NUMBERS}.items():
        path = tmp_path / "templates" / name / "templates.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "templates"


@pytest.fixture
def write_rows(tmp_path):
    """Writes JSONL files below a directory."""

    def make(files):
        for name, rows in files.items():
            path = tmp_path / "rows" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "rows"

    return make


@pytest.fixture
def small_mixture(template_directory):
    return p3_mixture.load(SMALL, p3_rows.RawSets(ROWS), directory=template_directory)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Writes rows as a TFDS dataset; returns the data directory."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS (extra data)")
    pytest.importorskip("tensorflow", reason="needs TensorFlow (extra data)")
    folder = tmp_path_factory.mktemp("tfds")

    def write(name, config, splits, features, number="1.0.2", folder=folder):
        version = tfds.core.Version(number)
        identity = tfds.core.dataset_builder.BuilderConfig(name=config or "default")

        class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = version
            BUILDER_CONFIGS = (identity,) if config else ()
            pkg_dir_path = tmp_path_factory.mktemp("package")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=features(tfds))

            def _split_generators(self, manager):
                return {split: iter(enumerate(rows)) for split, rows in splits.items()}

            def _generate_examples(self):
                raise NotImplementedError

        Tiny.name = name
        options = tfds.download.DownloadConfig(num_shards=2)
        # Builders import this package, which TFDS does not bring along.
        backport = {"importlib_resources": importlib.resources}
        with unittest.mock.patch.dict(sys.modules, backport):
            Tiny(data_dir=str(folder)).download_and_prepare(download_config=options)
        return folder

    return write
