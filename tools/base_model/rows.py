"""Prompted rows as token arrays, for `tfew train` with runs/pretrain_ia3.gin.

Inputs are those of the prompted rows of the course, targets their right answers. Each
row holds one example. They are drawn with a seed that the course does not use, so that
an adapter is pre-trained on other rows of the same kinds.
"""

import pathlib
from collections.abc import Iterator

from base_model import batches
from base_model import course as course_lib
from tfew_jax.data import objectives, token_arrays, tokenizer

SEED = 1
_BATCH = 64


def write(
    *, work: pathlib.Path, out: pathlib.Path, count: int, course: course_lib.Course
) -> token_arrays.TokenArrays:
    """Write prompted rows of a work folder.

    Args:
        work: Folder that `prepare` wrote.
        out: Folder of the arrays, new.
        count: Number of rows.
        course: Says which kinds of rows are left out.

    Raises:
        ValueError: `count` is not positive, or `out` holds arrays already.
    """
    if count < 1:
        raise ValueError(f"--count is {count}; give at least one row")
    data = batches.Data(work, SEED, without=course.without)
    return token_arrays.write(
        out,
        ([pair] for pair in pairs(data, count)),
        lengths={"inputs": batches.MAX_INPUTS, "targets": batches.MAX_TARGETS},
        vocabulary=tokenizer.Tokenizer(work / "sentencepiece.model"),
        description={
            "made_of": "prompted rows of the base model's course",
            "seed": SEED,
            "without": list(course.without),
        },
    )


def pairs(data: batches.Data, count: int) -> Iterator[objectives.TokenPair]:
    """Inputs and the right answer of the first `count` prompted rows."""
    for start in range(0, count, _BATCH):
        batch = data.choice_batch(start // _BATCH, _BATCH)
        right = batch["target"].argmax(-1)
        for row in range(min(_BATCH, count - start)):
            tokens, answer = batch["tokens"][row], batch["choices"][row, right[row]]
            yield objectives.TokenPair(tokens[tokens > 0], answer[answer > 0])
