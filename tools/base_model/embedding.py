"""Initial token embeddings, read off the teacher."""

from typing import Any

import numpy as np
from jaxtyping import Float

from base_model import teacher as teacher_lib
from base_model import vocabulary

_SPACE = "▁"
_MARKS = str.maketrans("", "", vocabulary.CAPITAL + vocabulary.CAPITALS)
_SENTENCE_WEIGHT = 1.0  # of the teacher's output for the piece, beside its input table


def _standardise(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    return x / np.sqrt((x**2).sum(1).mean())


def initial(
    encoder: teacher_lib.Teacher, pieces: Any, vocab_size: int, emb_dim: int
) -> Float[np.ndarray, "vocab embed"]:
    """Embeddings of every piece, entries of standard deviation one.

    A piece gets what the teacher makes of its text: the mean of its WordPieces' input
    embeddings beside its sentence vector, projected on the leading principal
    components. Control, byte and sentinel pieces and marks get small random rows.

    Args:
        encoder: The teacher.
        pieces: SentencePieceProcessor of the vocabulary.
        vocab_size: Rows of the table, sentinels included.
        emb_dim: Columns of the table.
    """
    ids, texts, rows = [], [], []
    words = encoder.words
    for number in range(pieces.get_piece_size()):
        piece = pieces.id_to_piece(number).translate(_MARKS)
        text = piece.replace(_SPACE, " ").strip()
        special = pieces.is_byte(number) or pieces.is_control(number)
        if special or pieces.is_unknown(number) or text in ("", vocabulary.NEWLINE):
            continue
        wordpieces = _wordpieces(encoder, piece)
        if wordpieces:
            ids.append(number)
            texts.append(text)
            rows.append(words[wordpieces].mean(0))
    inputs = _standardise(np.array(rows))
    outputs = _standardise(encoder.vectors(texts).astype(np.float32))
    features = np.concatenate([inputs, _SENTENCE_WEIGHT * outputs], axis=1)
    _, _, directions = np.linalg.svd(features, full_matrices=False)
    directions = directions[:emb_dim]
    table = np.random.default_rng(0).normal(size=(vocab_size, emb_dim)) * 0.3
    projected = features @ directions.T
    # Random rotation: spreads the variance over all dimensions, so that no head or
    # normalisation sees a few dominant ones.
    rotation, _ = np.linalg.qr(
        np.random.default_rng(1).normal(size=(len(directions), len(directions)))
    )
    projected = projected @ rotation
    table[ids, : len(directions)] = projected / projected.std()
    return table.astype(np.float32)


def _wordpieces(encoder: teacher_lib.Teacher, piece: str) -> list[int]:
    """WordPieces of a piece; one inside a word is looked up as a continuation."""
    text = piece.replace(_SPACE, " ").strip().lower()
    if not piece.startswith(_SPACE) and f"##{text}" in encoder.tokenizer.ids:
        return [encoder.tokenizer.ids[f"##{text}"]]
    return encoder.tokenizer.encode(text)
