"""Adapters and a vocabulary of toy size."""

import dataclasses

import numpy as np
import pytest
import sentencepiece

from tfew_jax import checkpoint, inspection, models
from tfew_jax.checkpoint import layout
from tfew_jax.data import tokenizer
from tfew_jax.peft import ia3

TINY = models.SIZES["tiny"]


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory):
    """Whole words as pieces, a random table with rows for sentinels and five more."""
    prefix = tmp_path_factory.mktemp("words") / "words"
    words = "bad good film plot very dull great bright dark long short new old song"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words]),
        model_prefix=str(prefix),
        model_type="word",
        vocab_size=len(words.split()) + 3,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    made = tokenizer.Tokenizer(prefix.with_suffix(".model"))
    table = np.random.default_rng(1).standard_normal((made.vocab_size + 5, 32))
    return inspection.Vocabulary(
        table=table.astype(np.float32), tokenizer=made, source="words"
    )


@pytest.fixture
def adapter():
    """(IA)^3 of a tiny model: ones, but for two units of the decoder."""
    shapes = layout.adapter_shapes(TINY, ia3.IA3())
    flat = {path: np.ones(shape, np.float32) for path, shape in shapes.items()}
    flat["decoder/layers_1/mlp/ia3_mlp_hidden/scale"][[3, 5]] = [-0.25, 2.5]
    made = checkpoint.Adapter(
        method=ia3.IA3(), params=layout.unflatten(flat), config=TINY
    )
    task = {"templates": ["{{text}}"], "choices": ["bad ||| good"]}
    return dataclasses.replace(made, task=task, metadata={"base": "a tiny model"})
