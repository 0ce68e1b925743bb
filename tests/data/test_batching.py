import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfew_jax.data import batching, templates, tokenized

CHOICES = ("no", "yes")
WORDS = "good bad film story it is was the a and very so I you".split()


def text(number, length):
    return " ".join(WORDS[(number + i) % len(WORDS)] for i in range(length))


def make_rows(words, lengths, num_templates=1, labels=None, **options):
    labels = [n % 2 for n in range(len(lengths))] if labels is None else labels
    pairs = list(enumerate(zip(lengths, labels, strict=True)))
    return tokenized.tokenize(
        [
            [
                templates.Rendered(text(n, length + 3 * t), CHOICES, label)
                for n, (length, label) in pairs
            ]
            for t in range(num_templates)
        ],
        words,
        **options,
    )


def ids_of(batches):
    return [batch["example_id"].tolist() for batch in batches]


def unpadded(batch):
    return [ids[ids > 0].tolist() for ids in batch["encoder_input_tokens"]]


# Training batches


@hypothesis.given(
    num_rows=st.integers(2, 17), batch_size=st.integers(1, 17), seed=st.integers(0, 99)
)
def test_every_epoch_has_every_row_once_whatever_is_left_over(
    words, num_rows, batch_size, seed
):
    hypothesis.assume(batch_size <= num_rows)
    train = batching.TrainBatches(make_rows(words, [3] * num_rows), batch_size, seed)
    num_steps = -(-3 * num_rows // batch_size)
    seen = [*itertools.chain(*ids_of(map(train.batch_at, range(num_steps))))]
    assert len(seen) == num_steps * batch_size
    for start in range(0, 3 * num_rows, num_rows):
        assert sorted(seen[start : start + num_rows]) == list(range(num_rows))


@hypothesis.given(steps=st.lists(st.integers(0, 500), min_size=1, max_size=12))
def test_a_batch_follows_from_its_step_whatever_was_asked_before(words, steps):
    rows = make_rows(words, [2, 5, 9, 4, 3], num_templates=3)
    used = batching.TrainBatches(rows, 2, 7)
    for step in steps:
        fresh = batching.TrainBatches(rows, 2, 7).batch_at(step)
        batch = used.batch_at(step)
        assert batch.keys() == fresh.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], fresh[name])


def test_another_seed_is_another_order(words):
    rows = make_rows(words, [3] * 12)
    first, second = (
        ids_of(map(batching.TrainBatches(rows, 4, seed).batch_at, range(6)))
        for seed in (0, 1)
    )
    assert first != second
    assert first[:3] != first[3:]


def test_the_order_is_the_same_for_ever(words):
    # A resumed run needs the order of the release that began it.
    train = batching.TrainBatches(make_rows(words, [3] * 6), 4, 42)
    assert ids_of(map(train.batch_at, range(3))) == [
        *([3, 5, 4, 0], [1, 2, 5, 0], [2, 1, 3, 4])
    ]


def test_batches_hold_the_rows_they_name(words):
    rows = make_rows(words, [2, 5, 9, 4, 3, 7])
    batch = batching.TrainBatches(rows, 4, 0).batch_at(0)
    assert set(batch) == {
        *("encoder_input_tokens", "decoder_target_tokens", "choice_mask"),
        *("label", "example_id"),
    }
    for row, number in enumerate(batch["example_id"]):
        assert unpadded(batch)[row] == rows.inputs[0][number].tolist()
        assert batch["label"][row] == number % 2
    assert batch["choice_mask"].all()
    assert batch["decoder_target_tokens"].shape == (4, 2, rows.choice_sets.shape[2])
    dtypes = {str(value.dtype) for value in batch.values()}
    assert dtypes == {"int32", "bool"}


def test_each_visit_of_a_row_takes_a_random_template(words):
    rows = make_rows(words, [2, 5], num_templates=3)
    train = batching.TrainBatches(rows, 2, 0)
    counts = np.zeros((2, 3), int)
    for step in range(600):
        batch = train.batch_at(step)
        for ids, number in zip(unpadded(batch), batch["example_id"], strict=True):
            by_template = [rows.inputs[t][number].tolist() for t in range(3)]
            counts[number, by_template.index(ids)] += 1
    assert counts.sum(axis=1).tolist() == [600, 600]
    # Five standard deviations of a binomial count around a third.
    assert np.abs(counts - 200).max() < 5 * np.sqrt(600 * 2 / 9)


def test_seeds_and_folds_of_the_same_rows_share_their_shapes(words):
    rows = make_rows(words, [3] * 20 + [40] * 20)
    short = batching.TrainBatches(rows.take(range(20)), 4, 0)
    mixed = batching.TrainBatches(rows.take(range(10, 30)), 4, 1)
    assert short.buckets == mixed.buckets


@pytest.mark.parametrize("batch_size", [0, 6])
def test_a_batch_takes_at_most_all_rows(words, batch_size):
    rows = make_rows(words, [3] * 5)
    with pytest.raises(ValueError, match=f"batch_size={batch_size}, but there are 5"):
        batching.TrainBatches(rows, batch_size, 0)
    assert sorted(batching.TrainBatches(rows, 5, 0).batch_at(0)["example_id"]) == [
        *range(5)
    ]


def test_rows_without_label_cannot_be_trained_on(words):
    rows = make_rows(words, [3] * 4, labels=[0, None, 1, None])
    with pytest.raises(ValueError, match=r"2 rows to train on have no label.*\[1, 3\]"):
        batching.TrainBatches(rows, 2, 0)


def test_right_choices_stand_alone(words):
    rows = make_rows(words, [3] * 4, labels=[1, 0, 1, 0])
    batch = batching.TrainBatches(rows, 4, 0).batch_at(0)
    alone = batching.right_choices(batch)
    for row, label in enumerate(batch["label"]):
        np.testing.assert_array_equal(
            alone["decoder_target_tokens"][row, 0],
            batch["decoder_target_tokens"][row, label],
        )
    assert alone["choice_mask"].tolist() == [[True]] * 4
    assert alone["label"].tolist() == [0] * 4
    assert alone["example_id"] is batch["example_id"]
    assert batching.right_choices(alone) is alone


def test_steps_and_seeds_below_zero_are_an_error(words):
    rows = make_rows(words, [3] * 4)
    with pytest.raises(ValueError, match="step is -1"):
        batching.TrainBatches(rows, 2, 0).batch_at(-1)
    with pytest.raises(ValueError, match="seed -1"):
        batching.TrainBatches(rows, 2, -1)


# Evaluation batches


@hypothesis.given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    batch_size=st.integers(1, 9),
)
def test_every_row_is_scored_once_in_batches_of_few_shapes(words, lengths, batch_size):
    rows = make_rows(words, lengths)
    batches = list(batching.eval_batches(rows, batch_size))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert len({batch["encoder_input_tokens"].shape for batch in batches}) <= 3
    seen = np.concatenate([batch["example_id"] for batch in batches])
    assert sorted(seen[seen >= 0]) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch["label"]) == batch_size
        is_row = batch["example_id"] >= 0
        np.testing.assert_array_equal(batch["choice_mask"].any(axis=1), is_row)
        assert (batch["label"][~is_row] == -1).all()
        assert not batch["decoder_target_tokens"][~is_row].any()
        assert (batch["encoder_input_tokens"][:, 0] > 0).all()
        for ids, number in zip(unpadded(batch), batch["example_id"], strict=True):
            assert number < 0 or ids == rows.inputs[0][number].tolist()


def test_a_template_is_chosen_for_all_rows_or_for_each(words):
    rows = make_rows(words, [3, 9], num_templates=2)
    [batch] = batching.eval_batches(rows, 2, template=1)
    order = batch["example_id"]
    assert unpadded(batch) == [rows.inputs[1][n].tolist() for n in order]
    [batch] = batching.eval_batches(rows, 2, template=np.array([1, 0]))
    order = batch["example_id"]
    assert unpadded(batch) == [rows.inputs[1 - n][n].tolist() for n in order]


@pytest.mark.parametrize("template", [-1, 2, np.array([0, 2])])
def test_a_template_out_of_range_is_an_error_at_once(words, template):
    rows = make_rows(words, [3, 9], num_templates=2)
    with pytest.raises(ValueError, match="not one of the 2 templates"):
        batching.eval_batches(rows, 2, template=template)
    with pytest.raises(ValueError, match="batch_size=0"):
        batching.eval_batches(rows, 0)


# Buckets


def test_one_length_is_one_bucket_rounded_up():
    assert batching.choose_buckets(np.array([9] * 50), max_length=256) == (16,)
    assert batching.choose_buckets(np.array([9] * 50), max_length=12) == (12,)


def test_a_few_long_inputs_get_a_bucket_of_their_own():
    lengths = np.array([10] * 90 + [200] * 10)
    assert batching.choose_buckets(lengths, max_length=256) == (16, 200)
    # Nearly every batch of 64 has a long input, so a short bucket saves nothing.
    assert batching.choose_buckets(lengths, max_length=256, batch_size=64) == (200,)


@hypothesis.given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=40),
    batch_size=st.integers(1, 8),
)
def test_buckets_are_the_cheapest_of_all_that_could_be_chosen(lengths, batch_size):
    lengths = np.array(lengths)
    buckets = batching.choose_buckets(lengths, max_length=100, batch_size=batch_size)
    cut = np.minimum(lengths, 100)

    def cost(candidate):
        below = [np.mean(cut <= bucket) ** batch_size for bucket in candidate]
        return np.dot(np.diff([0, *below]), candidate)

    sizes = sorted({min(-(-int(length) // 8) * 8, 100) for length in cut})
    assert buckets[-1] == sizes[-1] and set(buckets) <= set(sizes)

    def least(count):
        some = itertools.combinations(sizes[:-1], count - 1)
        return min(cost((*shorter, sizes[-1])) for shorter in some)

    number = len(buckets)
    assert number <= 3
    assert cost(buckets) <= least(number) + 1e-9
    for count in range(2, number + 1):  # each saves a tenth
        assert least(count) <= 0.9 * least(count - 1) + 1e-9
    if number < min(3, len(sizes)):
        assert least(number + 1) > 0.9 * least(number) - 1e-9


def test_every_row_stands_once_for_each_member_of_an_ensemble():
    batch = {
        "encoder_input_tokens": np.array([[5, 1], [6, 1], [1, 0]]),
        "example_id": np.array([3, 0, -1]),
    }
    (found,) = batching.for_members([batch], [4, 2], num_rows=5)
    assert found["encoder_input_tokens"][:, 0].tolist() == [5, 6, 1, 5, 6, 1]
    assert found["adapter_index"].tolist() == [4, 4, 4, 2, 2, 2]
    assert found["example_id"].tolist() == [3, 0, -1, 8, 5, -1]
