"""Answer choices of a row as one decoder sequence in which what they share stands once.

Every choice is decoded from the same start token, behind the same rows of a method, so
that these positions have the same outputs for all choices:

    start a_1 a_2  |  start b_1 b_2   ->   start a_1 a_2 b_1 b_2

A position keeps its number and sees its own choice and what is shared, no other choice:
the outputs are those of the choices apart. Of two choices with two tokens each a fourth
of the decoder's work is saved. Dropout would draw one mask for all choices, so that
training with it keeps them apart.
"""

import numpy as np
from jaxtyping import Bool, Int


def positions(
    num_choices: int, target_length: int, *, num_in_front: int = 0
) -> Int[np.ndarray, "folded"]:
    """The number that each position has in its own choice.

    Args:
        num_choices: Choices of a row.
        target_length: Decoder inputs of a choice, the start token among them.
        num_in_front: Positions that a method puts before the start token.
    """
    shared = num_in_front + 1
    own = np.arange(shared, shared + target_length - 1)
    return np.concatenate([np.arange(shared), np.tile(own, num_choices)])


def mask(
    num_choices: int, target_length: int, *, num_in_front: int = 0
) -> Bool[np.ndarray, "folded folded"]:
    """True where a query may see a key. Arguments as in `positions`."""
    number = positions(num_choices, target_length, num_in_front=num_in_front)
    shared = num_in_front + 1
    owner = np.repeat(np.arange(num_choices), target_length - 1)
    owner = np.concatenate([np.full(shared, -1), owner])
    is_earlier = number[None, :] <= number[:, None]
    is_own = (owner[None, :] == owner[:, None]) | (owner[None, :] == -1)
    return is_earlier & is_own
