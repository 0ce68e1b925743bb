import itertools

import jax
import numpy as np
import one_line
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfew_jax import models
from tfew_jax.data import packing
from tfew_jax.data.objectives import TokenPair

LENGTHS = {"inputs": 12, "targets": 7}
CONFIG = models.T5Config(
    vocab_size=64,
    emb_dim=8,
    num_heads=2,
    head_dim=4,
    mlp_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
)


def make_pair(num_inputs, num_targets, first=2):
    return TokenPair(
        inputs=np.arange(first, first + num_inputs, dtype=np.int32),
        targets=np.arange(first, first + num_targets, dtype=np.int32),
    )


PAIRS = st.lists(
    st.builds(make_pair, st.integers(1, 12), st.integers(1, 7), st.integers(2, 40)),
    max_size=40,
)


def content(pair):
    return tuple(pair.inputs.tolist()), tuple(pair.targets.tolist())


@given(pairs=PAIRS, open_rows=st.integers(1, 5))
def test_every_example_is_in_one_row_and_rows_are_never_too_long(pairs, open_rows):
    rows = list(packing.pack(pairs, LENGTHS, open_rows=open_rows))
    packed = [content(pair) for row in rows for pair in row]
    assert sorted(packed) == sorted(map(content, pairs))
    for row in rows:
        assert row
        assert sum(len(pair.inputs) for pair in row) <= 12
        assert sum(len(pair.targets) for pair in row) <= 7


def test_an_example_joins_the_oldest_row_with_room():
    long, short = make_pair(9, 3), make_pair(3, 2)
    rows = list(packing.pack([long, long, short, short, short], LENGTHS))
    assert [len(row) for row in rows] == [2, 2, 1]


def test_one_open_row_keeps_the_order():
    pairs = [make_pair(5, 2, first) for first in range(2, 9)]
    rows = packing.pack(pairs, LENGTHS, open_rows=1)
    order = [content(pair) for row in rows for pair in row]
    assert order == list(map(content, pairs))


def test_without_open_rows_each_example_has_its_own():
    pairs = [make_pair(2, 2, first) for first in range(2, 6)]
    assert [len(r) for r in packing.pack(pairs, LENGTHS, open_rows=0)] == [1] * 4


def test_rows_are_given_out_before_all_examples_are_read():
    endless = (make_pair(12, 7) for _ in itertools.count())
    assert len(next(packing.pack(endless, LENGTHS, open_rows=3))) == 1


@pytest.mark.parametrize("size", [(13, 2), (2, 8)])
def test_an_example_longer_than_a_row_is_refused(size):
    rows = packing.pack([make_pair(1, 1), make_pair(*size)], LENGTHS)
    with pytest.raises(
        ValueError, match=rf"example 1 has {size[0]} input and {size[1]}"
    ):
        list(rows)


def test_arrays_have_segments_positions_and_inputs_of_their_own():
    arrays = packing.to_arrays([[make_pair(3, 2, 5), make_pair(2, 3, 9)]], LENGTHS)
    batch = packing.to_batch(arrays, example_id=np.array([4]))
    expected = {
        "encoder_input_tokens": [5, 6, 7, 9, 10, 0, 0, 0, 0, 0, 0, 0],
        "encoder_segment_ids": [1, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0],
        "encoder_positions": [0, 1, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        "decoder_target_tokens": [5, 6, 9, 10, 11, 0, 0],
        "decoder_input_tokens": [0, 5, 0, 9, 10, 0, 0],
        "decoder_segment_ids": [1, 1, 2, 2, 2, 0, 0],
        "decoder_positions": [0, 1, 0, 1, 2, 0, 0],
        "decoder_loss_weights": [1, 1, 1, 1, 1, 0, 0],
    }
    for name, values in expected.items():
        assert batch[name].reshape(-1).tolist() == values, name
    assert batch["choice_mask"].tolist() == [[True]]
    assert batch["example_id"].tolist() == [4]


def test_positions_and_decoder_inputs_are_those_of_seqio(shared):
    with np.load(shared / "fixtures" / "t5x_tiny" / "logits.npz") as arrays:
        found = {n.removeprefix("packed_"): arrays[n] for n in arrays if "packed" in n}
    for side in ("encoder", "decoder"):
        positions = packing.positions(found[f"{side}_segment_ids"])
        np.testing.assert_array_equal(positions, found[f"{side}_positions"])
    inputs = packing.decoder_inputs(
        found["decoder_target_tokens"], found["decoder_segment_ids"]
    )
    np.testing.assert_array_equal(inputs, found["decoder_input_tokens"])


def test_a_packed_example_has_the_logits_that_it_has_alone():
    generator = np.random.default_rng(0)
    pairs = [
        TokenPair(
            inputs=generator.integers(2, 64, i).astype(np.int32),
            targets=generator.integers(2, 64, t).astype(np.int32),
        )
        for i, t in ((4, 2), (5, 3), (2, 2), (11, 6))
    ]
    rows = list(packing.pack(pairs, LENGTHS))
    assert [len(row) for row in rows] == [3, 1]
    params = models.init(CONFIG, None, jax.random.key(0))
    packed = log_probs(params, rows)
    for row, members in enumerate(rows):
        place = 0
        for pair in members:
            alone = log_probs(params, [[pair]])[0, 0]
            size = len(pair.targets)
            np.testing.assert_allclose(
                packed[row, 0, place : place + size], alone[:size], rtol=0, atol=2e-6
            )
            place += size
    others = [[pairs[0], make_pair(5, 3, 30), make_pair(2, 2, 50)], [pairs[3]]]
    np.testing.assert_array_equal(log_probs(params, others)[0, 0, :2], packed[0, 0, :2])


@pytest.mark.parametrize("empty", [(0, 3), (3, 0), (0, 0)])
def test_an_example_with_an_empty_side_is_left_out_counted_and_changes_nothing(empty):
    pairs = [make_pair(4, 2), make_pair(3, 2, 20)]
    complete = packing.Complete([pairs[0], make_pair(*empty), pairs[1]])
    rows = list(packing.pack(complete, LENGTHS))
    assert complete.num_left_out == 1
    assert [content(pair) for row in rows for pair in row] == [*map(content, pairs)]
    params = models.init(CONFIG, None, jax.random.key(0))
    np.testing.assert_array_equal(log_probs(params, rows), log_probs(params, [pairs]))


def test_targets_without_inputs_would_read_their_neighbours_and_are_not_packed():
    """What is refused is worth refusing: the model's numbers depend on neighbours."""
    params = models.init(CONFIG, None, jax.random.key(0))
    alone = make_pair(0, 3)
    rows = [[make_pair(5, 2, first), alone] for first in (2, 40)]
    first, second = log_probs(params, rows)[:, 0, 2:5]
    assert np.abs(first - second).max() > 1e-3
    for pads in (0, 2):
        no_inputs = TokenPair(np.zeros(pads, np.int32), alone.targets)
        message = one_line.message_of(
            list, packing.pack([make_pair(5, 2), no_inputs], LENGTHS)
        )
        assert message.startswith("example 1 has no inputs; leave out such examples")
    message = one_line.message_of(list, packing.pack([make_pair(5, 0)], LENGTHS))
    assert message.startswith("example 0 has no targets")


token_log_probs = jax.jit(models.token_log_probs, static_argnums=0)


def log_probs(params, rows):
    arrays = packing.to_arrays(rows, LENGTHS)
    batch = packing.to_batch(arrays, example_id=np.arange(len(rows)))
    return np.asarray(token_log_probs(models.T5(CONFIG), params, batch))
