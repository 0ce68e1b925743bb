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
from jaxtyping import Array, Float, Key

from tfew_jax import types
from tfew_jax.peft._base import StartContext


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
    """The prompt of a numpy file, whatever its name ends with.

    Raises:
        ValueError: If it is not there, no numpy file, cut off, no matrix of floating
            point numbers, or holds NaN.
    """
    path = pathlib.Path(path).expanduser()
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"prompt {path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"prompt {path} is not a numpy file of numbers "
            f"({' '.join(str(error).split())}); give one that numpy.save wrote"
        ) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise ValueError(f"prompt {path} holds several arrays; give one as .npy")
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        raise ValueError(
            f"prompt {path} is {array.dtype} of shape {array.shape}; expected floating "
            "point numbers [prompt, embed]"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"prompt {path} holds NaN or infinite numbers")
    return array.astype(np.float32)
