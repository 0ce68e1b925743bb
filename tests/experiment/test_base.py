import shutil

import jax
import jax.numpy as jnp
import pytest

import tfew_jax
from tfew_jax import checkpoint, experiment
from tfew_jax.experiment import base as bases


def test_a_base_has_its_tokenizer_and_stacked_parameters(base):
    assert base.params["encoder"]["layers"]["mlp"]["wo"]["kernel"].shape == (2, 32, 16)
    assert base.tokenizer.vocab_size <= base.config.vocab_size
    assert base.config.dtype == "float32"  # on a CPU


def test_the_dtype_is_that_of_the_computation_and_of_the_frozen_parameters(
    base_directory,
):
    base = tfew_jax.load_base(base_directory, dtype="bfloat16")
    assert base.config.dtype == "bfloat16"
    assert base.params["token_embedder"]["embedding"].dtype == jnp.bfloat16


def test_the_fingerprint_tells_models_apart(base, base_directory):
    again = experiment.load_base(base_directory, dropout_rate=0.3)
    assert again.config.dropout_rate == 0.3
    assert again.fingerprint == base.fingerprint
    model = checkpoint.load_model(base_directory)
    model.params["decoder"]["decoder_norm"]["scale"] += 1e-3
    assert experiment.make_base(model).fingerprint != base.fingerprint


def test_the_weights_fingerprint_is_that_of_the_weights_alone(base, base_directory):
    for other in (
        experiment.load_base(base_directory, dtype="bfloat16"),
        experiment.load_base(base_directory, scan_layers=False),
    ):
        assert other.fingerprint != base.fingerprint
        assert other.weights_fingerprint == base.weights_fingerprint
    model = checkpoint.load_model(base_directory)
    model.params["token_embedder"]["embedding"] *= 1.1
    changed = experiment.make_base(model)
    assert changed.weights_fingerprint != base.weights_fingerprint


def test_a_model_that_does_not_fit_the_device_is_one_line(base_directory, monkeypatch):
    model = checkpoint.load_model(base_directory)

    def exhausted(leaf):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(bases.jnp, "asarray", exhausted)
    with pytest.raises(
        MemoryError, match=r"the frozen model takes 0\.00 GiB, more than"
    ):
        experiment.make_base(model)


def test_the_fingerprint_tells_vocabularies_apart(base, base_directory, tmp_path):
    other = tmp_path / "other.model"
    unknown_field = b"\xa2\x06\x01x"  # number 100, which SentencePiece skips
    other.write_bytes(base.tokenizer.model_file.read_bytes() + unknown_field)
    again = experiment.load_base(base_directory, vocabulary=other)
    assert again.fingerprint != base.fingerprint


def test_a_model_without_vocabulary_needs_one(base_directory, tmp_path):
    copy = shutil.copytree(base_directory, tmp_path / "model")
    vocabulary = (copy / "sentencepiece.model").rename(tmp_path / "words.model")
    with pytest.raises(ValueError, match="model holds no vocabulary"):
        experiment.load_base(copy)
    assert experiment.load_base(copy, vocabulary=vocabulary).source == str(copy)


def test_a_vocabulary_larger_than_the_embedding_is_refused(base):
    class Larger:
        vocab_size = 449

    with pytest.raises(ValueError, match="has 449 pieces, its embedding 448 rows"):
        bases.Base.__post_init__(
            type("B", (), {"tokenizer": Larger, "config": base.config, "source": "x"})
        )


def test_an_installation_without_the_embedded_base_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bases, "EMBEDDED", tmp_path / "none")
    with pytest.raises(ValueError, match="no embedded base model"):
        experiment.load_base()


def test_a_directory_that_holds_no_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        experiment.load_base(tmp_path)
