"""Mixtures with rows, and the stream of their examples."""

import collections
import itertools
import pathlib
import sys

import pytest

from tfew_jax.data import p3, p3_mixture, p3_rows

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from one_line import message_of
from small_mixture import AFTER, IS_IT, PLACE, ROWS, SMALL


def test_a_mixture_without_rows_of_a_set_says_what_it_lacks(
    template_directory, write_rows
):
    folder = write_rows({"colours/train.jsonl": ROWS["colours"]})
    source = p3_rows.RawSets(folder)
    assert message_of(p3_mixture.load, SMALL, source, directory=template_directory) == (
        f"small lacks 1 of what it is made of: no {PLACE} in {folder}: numbers/v1.0; "
        "get them, or name those to go without in allow_missing"
    )
    allowed = ["numbers/v1.0"]
    left = p3_mixture.load(
        SMALL, source, directory=template_directory, allow_missing=allowed
    )
    assert left.report() == [
        "small by the rule 't0': 2 tasks of 1 sets, 10 examples an epoch",
        f"without numbers/v1.0 (1 tasks, 12 examples): no {PLACE} in {folder}",
    ]
    nothing = message_of(
        p3_mixture.load,
        SMALL,
        p3_rows.RawSets({}),
        directory=template_directory,
        allow_missing=["colours", "numbers/v1.0"],
    )
    assert nothing == (
        "nothing is left of small: not among the rows given: colours, numbers/v1.0"
    )


def test_a_set_that_has_shrunk_is_an_error_unless_allowed(template_directory):
    few = ROWS | {"numbers/v1.0": ROWS["numbers/v1.0"][:3]}
    source = p3_rows.RawSets(few)
    assert message_of(p3_mixture.load, SMALL, source, directory=template_directory) == (
        "not the official training rows: numbers/v1.0 has 3 rows instead of 12; get "
        "them, or allow others with allow_partial"
    )
    found = p3_mixture.load(
        SMALL, source, directory=template_directory, allow_partial=True
    )
    assert [task.cap for task in found.tasks] == [5, 5, 3]
    assert found.report() == [
        "small by the rule 't0': 3 tasks of 2 sets, 13 examples an epoch",
        "numbers/v1.0: 3 rows a task, the set has 12",
    ]


# The stream.


def test_an_epoch_holds_every_task_in_proportion_to_its_cap(small_mixture):
    for epoch in range(3):
        start = epoch * small_mixture.num_examples
        drawn = [small_mixture.example(start + i, seed=5) for i in range(22)]
        counts = collections.Counter(example.task for example in drawn)
        assert counts == {"colours_is_it_": 5, "colours_say_it": 5, AFTER: 12}
        rows = sorted(example.row for example in drawn if example.task == AFTER)
        assert rows == list(range(12))


def test_rows_that_do_not_apply_are_left_out(small_mixture):
    stream = list(itertools.islice(small_mixture.examples(seed=0), 220))
    is_it = [example for example in stream if example.task == IS_IT]
    assert {example.row for example in is_it} == {0, 2, 3}
    assert any(example.num_skipped for example in is_it)
    assert all(example.inputs and example.targets for example in stream)


def test_a_task_with_more_rows_than_its_cap_goes_on_in_the_next_epoch(
    template_directory, monkeypatch
):
    monkeypatch.setattr(p3, "MAX_EXAMPLES_PER_SET", 6)
    source = p3_rows.RawSets(ROWS)
    seen = {}
    for rule in p3.RULES:
        found = p3_mixture.load(SMALL, source, directory=template_directory, rule=rule)
        stream = itertools.islice(found.examples(seed=3), 2 * found.num_examples)
        rows = [example.row for example in stream if example.task == AFTER]
        seen[rule] = collections.Counter(rows)
    assert seen["t0"] == dict.fromkeys(range(12), 1)  # half of the rows an epoch
    assert seen["tfew"] == dict.fromkeys(range(6), 2)  # the first rows alone


def test_the_stream_is_a_function_of_seed_and_position(small_mixture):
    stream = list(itertools.islice(small_mixture.examples(seed=7), 60))
    resumed = list(itertools.islice(small_mixture.examples(seed=7, start=25), 35))
    assert stream[25:] == resumed
    other = list(itertools.islice(small_mixture.examples(seed=8), 60))
    assert [e.row for e in stream] != [e.row for e in other]


@pytest.mark.parametrize("start", [0, 7])
def test_shards_are_the_stream_dealt_out(small_mixture, start):
    stream = list(itertools.islice(small_mixture.examples(seed=7, start=start), 30))
    shards = [
        itertools.islice(
            small_mixture.examples(seed=7, start=start, shard=shard, num_shards=3), 10
        )
        for shard in range(3)
    ]
    merged = sorted(itertools.chain(*shards), key=lambda example: example.position)
    assert merged == stream


def test_bad_positions_and_shards_are_errors(small_mixture):
    assert "position -1 is negative" in message_of(small_mixture.example, -1, seed=0)
    for shard, num_shards in [(2, 2), (-1, 2), (0, 0)]:
        with pytest.raises(ValueError, match=f"shard={shard} of num_shards"):
            small_mixture.examples(seed=0, shard=shard, num_shards=num_shards)


def test_a_task_that_applies_to_no_row_is_an_error(template_directory):
    rows = ROWS | {"colours": [{"thing": "", "some-thing": "x", "label": 0}] * 5}
    found = p3_mixture.load(SMALL, p3_rows.RawSets(rows), directory=template_directory)
    message = r"colours_\w+ applies to none of its 5 rows; row \d: .* gives no target"
    with pytest.raises(p3.MixtureError, match=message):
        list(itertools.islice(found.examples(seed=0), 22))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 64, 100, 1000])
def test_permutations_are_permutations(size):
    for key in ("a", "b", "c"):
        found = [p3_mixture.permute(index, size, key) for index in range(size)]
        assert sorted(found) == list(range(size))


def test_permutations_put_each_thing_everywhere():
    counts = collections.Counter(p3_mixture.permute(0, 5, key) for key in range(5000))
    assert all(abs(counts[place] - 1000) < 150 for place in range(5))  # 5 deviations
