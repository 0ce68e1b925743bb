"""Where the rows of a prompt start: Lester et al., 2021, Section 3.2 and Figure 3b.

All are rows of the frozen model's token embedding, or rows of a file. Where labels or a
text fill only a part, the other rows are sampled from the vocabulary.
"""

import os
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped

from tfew_jax import types
from tfew_jax.peft._base import StartContext

_NUMPY = b"\x93NUMPY"  # what such files begin with


def check_vocabulary(
    embedding: Float[types.Array, "vocab embed"], *, vocabulary: int, offset: int
) -> None:
    """Refuses to sample rows that the embedding does not have.

    Raises:
        ValueError: If there are fewer rows.
    """
    if offset + vocabulary > len(embedding):
        raise ValueError(
            f"init_vocabulary={vocabulary} rows from row init_offset={offset} on are "
            f"more than the {len(embedding)} rows of the model's embedding; give a "
            "smaller init_vocabulary"
        )


def sampled(
    key: Key[Array, ""],
    embedding: Float[types.Array, "vocab embed"],
    *,
    length: int,
    vocabulary: int,
    offset: int,
) -> Float[Array, "{length} embed"]:
    """Rows of the embedding, each once unless there are fewer than `length`.

    Args:
        key: Draws the rows.
        embedding: The token embedding.
        length: How many.
        vocabulary: From how many rows.
        offset: The first of these.
    """
    ids = jax.random.choice(key, vocabulary, (length,), replace=length > vocabulary)
    return _embedded(embedding, offset + ids)


def of_labels(
    labels: Sequence[str], context: StartContext
) -> Float[Array, "labels embed"]:
    """The mean of the embedded tokens of each label.

    Raises:
        ValueError: If a label has no token.
    """
    rows = []
    for label in labels:
        ids = context.encode(label)
        if not ids:
            raise ValueError(
                f"the class label {label!r} has no token to start a row of the prompt "
                "from; give other init_labels"
            )
        rows.append(_embedded(context.embedding, jnp.array(ids)).mean(axis=0))
    return jnp.stack(rows)


def of_text(text: str, context: StartContext) -> Float[Array, "tokens embed"]:
    """The embedded tokens of a text, one a row.

    Raises:
        ValueError: If it has no token.
    """
    ids = context.encode(text)
    if not ids:
        raise ValueError(f"init_text {text!r} has no token; give a longer text")
    return _embedded(context.embedding, jnp.array(ids))


def _embedded(embedding: types.Array, ids: Array) -> Float[Array, "rows embed"]:
    return jnp.take(jnp.asarray(embedding), ids, axis=0).astype(jnp.float32)


def read_file(path: str | os.PathLike[str]) -> Float[np.ndarray, "prompt embed"]:
    """The prompt of a NumPy file, whatever its name ends with.

    Raises:
        ValueError: See `read_matrix`.
    """
    return read_matrix(path, "a prompt").astype(np.float32)


def read_matrix(
    path: str | os.PathLike[str], what: str
) -> Shaped[np.ndarray, "rows columns"]:
    """A matrix of floats in their own dtype.

    Args:
        path: A NumPy file, whatever its name ends with.
        what: What it holds, for messages.

    Raises:
        ValueError: If it is not there, no NumPy file of one array, cut off, no matrix
            of floats, or not finite.
    """
    path = pathlib.Path(path).expanduser()
    expected = f"{path}: expected a NumPy file of {what}"
    try:
        with path.open("rb") as file:
            is_numpy = file.read(len(_NUMPY)) == _NUMPY
        array = np.load(path, allow_pickle=False) if is_numpy else None
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give a NumPy file of {what}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from None
    except (ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{expected}; it is damaged ({reason})") from None
    if array is None:
        raise ValueError(f"{expected}, which numpy.save writes; it is none")
    if array.ndim != 2 or not array.size or array.dtype.kind != "f":
        raise ValueError(
            f"{expected}, a matrix of floats with one row a position; it holds shape "
            f"{array.shape}, dtype {array.dtype}"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{path}: {what} holds NaN or infinity; the file is damaged or the "
            "training that wrote it diverged"
        )
    return array
