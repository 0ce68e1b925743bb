"""Which rows share a forward pass."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfew_jax.experiment import row_tasks
from tfew_jax.serving import passes, requests, snapshot


@pytest.fixture(scope="module")
def current(base, marked):
    return snapshot.Snapshot.make(base, marked)


def make_request(current, length=16, choices=2, target_length=4, adapter=None):
    row = row_tasks.SpelledRow(
        inputs=np.ones(length, np.int32),
        targets=np.ones((choices, target_length), np.int32),
        choices=tuple(map(str, range(choices))),
        normalization="mean",
    )
    return requests.Request(row=row, name="", adapter=adapter, snapshot=current)


def groups(current, waiting):
    found = passes.plan(waiting, current=current, max_rows=32)
    return [[waiting.index(request) for request in group] for _, group in found]


@pytest.mark.parametrize("large", [{"choices": 77}, {"length": 2000}])
def test_a_large_row_does_not_make_small_ones_as_large(current, large):
    waiting = [make_request(current) for _ in range(31)]
    waiting.insert(3, make_request(current, **large))
    rest = [number for number in range(32) if number != 3]
    assert groups(current, waiting) == [rest, [3]]
    waiting.insert(0, waiting.pop(3))
    assert groups(current, waiting) == [[0], list(range(1, 32))]  # the oldest first


def test_rows_of_nearly_one_size_share_a_pass(current):
    waiting = [make_request(current, choices=2 + n % 2) for n in range(32)]
    assert groups(current, waiting) == [list(range(32))]


def test_rows_whose_adapter_is_gone_are_answered_by_their_own_bank(current, base, mark):
    bank = current.bank.remove("b")
    later = snapshot.Snapshot.make(base, bank, earlier=current)
    waiting = [make_request(current, adapter=current.bank[name]) for name in "abc"]
    first, second = passes.plan(waiting, current=later, max_rows=32)
    assert first == (later, [waiting[0], waiting[2]])
    assert second == (current, [waiting[1]])


@hypothesis.given(
    st.lists(
        st.tuples(st.integers(1, 99), st.integers(2, 99), st.integers(1, 20)),
        min_size=1,
        max_size=32,
    )
)
def test_every_row_has_one_pass_and_waits_for_no_younger_one(current, sizes):
    found = groups(current, [make_request(current, *size) for size in sizes])
    assert sorted(n for group in found for n in group) == list(range(len(sizes)))
    assert found == sorted(sorted(group) for group in found)
