"""Initial token embeddings, read off the teacher.

They are principal components of what the teacher makes of the pieces, turned by a fixed
rotation. Turned back, a wide table's first columns are those of a narrow one, so that
one prepared table serves models of every width up to its own.
"""

import pathlib
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
    components = features @ directions[:emb_dim].T
    return _table(components, np.array(ids), (vocab_size, emb_dim))


def load(work: pathlib.Path, vocab_size: int, emb_dim: int) -> np.ndarray:
    """The prepared table for a model of the same or a smaller width.

    Args:
        work: Folder that `prepare` wrote.
        vocab_size: Rows that the model needs.
        emb_dim: Columns that it needs.

    Returns:
        float32 [vocab, embed].

    Raises:
        ValueError: The table has other rows, or too few columns.
    """
    table = np.load(work / "embedding.npy")
    if table.shape[0] != vocab_size or table.shape[1] < emb_dim:
        raise ValueError(
            f"embedding.npy is {table.shape}, the model needs {(vocab_size, emb_dim)}; "
            "prepare again with --gin.PREPARED_WIDTH of the widest model"
        )
    if table.shape[1] == emb_dim:
        return table
    num_features = 2 * np.load(work / "vectors.npy", mmap_mode="r").shape[1]
    return narrowed(table, emb_dim, num_features)


def narrowed(
    table: Float[np.ndarray, "vocab embed"], emb_dim: int, num_features: int
) -> Float[np.ndarray, "vocab narrow"]:
    """What `initial` makes for a smaller width, up to rounding.

    Args:
        table: What it made for a larger width.
        emb_dim: Columns wanted.
        num_features: What the teacher says of a piece, twice its width.
    """
    ids = np.flatnonzero((table != _filler(table.shape)).any(1))
    size = min(table.shape[1], num_features, len(ids))
    components = table[ids, :size] @ _rotation(size).T
    return _table(components[:, :emb_dim], ids, (len(table), emb_dim))


def _table(
    components: Float[np.ndarray, "pieces components"],
    ids: np.ndarray,
    shape: tuple[int, int],
) -> Float[np.ndarray, "vocab embed"]:
    """Components of some pieces as rows of a table, entries of standard deviation one.

    The rotation spreads the variance over all dimensions, so that no head or
    normalisation sees a few dominant ones.
    """
    table = _filler(shape)
    size = components.shape[1]
    turned = components @ _rotation(size)
    table[ids, :size] = turned / turned.std()
    return table


def _filler(shape: tuple[int, ...]) -> Float[np.ndarray, "vocab embed"]:
    """Rows of the pieces that the teacher says nothing of."""
    return (np.random.default_rng(0).normal(size=shape) * 0.3).astype(np.float32)


def _rotation(size: int) -> Float[np.ndarray, "size size"]:
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(size, size)))
    return rotation


def _wordpieces(encoder: teacher_lib.Teacher, piece: str) -> list[int]:
    """WordPieces of a piece; one inside a word is looked up as a continuation."""
    text = piece.replace(_SPACE, " ").strip().lower()
    if not piece.startswith(_SPACE) and f"##{text}" in encoder.tokenizer.ids:
        return [encoder.tokenizer.ids[f"##{text}"]]
    return encoder.tokenizer.encode(text)
