import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import train


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def adapter_of(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


def start(stand_in, seeds, optimizer):
    halves = [
        train.partition(stand_in.make_params(s), stand_in.Scales()) for s in seeds
    ]
    return train.init_state([half[0] for half in halves], optimizer), halves[0][1]


@pytest.fixture(scope="module")
def poisoned(stand_in):
    """A step whose rows with an `example_id` of 10,000 or more have no finite loss."""

    def log_probs_fn(params, batch, *, dropout_keys):
        log_probs = stand_in.log_probs_fn(params, batch, dropout_keys=dropout_keys)
        is_bad = (batch["example_id"] >= 10_000)[:, None, None]
        return log_probs + jnp.where(is_bad, jnp.nan, 0.0)

    return stand_in.make_step(log_probs_fn=log_probs_fn)


def poison(batch, rows):
    ids = batch["example_id"].copy()
    ids[rows] += 10_000
    return {**batch, "example_id": ids}


def test_each_update_counts_and_sees_the_batch_of_its_step(stand_in):
    seen = []

    def batch_at(step):
        seen.append(step)
        return stand_in.make_batch(step)

    infos = stand_in.run([0], made=stand_in.make_step(), batch_at=batch_at)
    assert [info.step for info in infos] == [1, 2, 3, 4, 5, 6]
    assert [int(info.state.step[0]) for info in infos] == [1, 2, 3, 4, 5, 6]
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_run_resumed_from_a_saved_state_ends_with_the_same_bits(stand_in):
    made = step_fn, optimizer = stand_in.make_step()
    whole = stand_in.run([4], made=made)
    _, frozen = start(stand_in, [4], optimizer)
    for cut in (1, 3, 5):
        saved = jax.tree.map(jnp.asarray, whole[cut - 1].state)
        resumed = [
            dataclasses.replace(info, state=jax.tree.map(np.array, info.state))
            for info in train.training_steps(
                saved,
                frozen,
                lambda step: stand_in.make_batch(40 + step),
                train.adapter_keys([4]),
                step_fn=step_fn,
                num_steps=6,
            )
        ]
        assert [info.step for info in resumed] == list(range(cut + 1, 7))
        for a, b in zip(resumed, whole[cut:], strict=True):
            assert_trees_equal(a.state, b.state)
            assert_trees_equal(a.metrics, b.metrics)


def test_a_state_that_has_done_all_steps_yields_nothing(stand_in):
    step_fn, optimizer = stand_in.make_step()
    state, frozen = start(stand_in, [0], optimizer)
    state = dataclasses.replace(state, step=jnp.array([6], jnp.int32))
    keys = train.adapter_keys([0])
    steps = train.training_steps(
        state, frozen, stand_in.make_batch, keys, step_fn=step_fn, num_steps=6
    )
    assert list(steps) == []


def test_the_frozen_half_is_not_touched(stand_in):
    step_fn, optimizer = stand_in.make_step()
    state, frozen = start(stand_in, [0], optimizer)
    before = jax.tree.map(np.array, frozen)
    keys = train.adapter_keys([0])
    for _ in train.training_steps(
        state, frozen, stand_in.make_batch, keys, step_fn=step_fn, num_steps=6
    ):
        pass
    assert_trees_equal(frozen, before)


def test_a_loss_that_is_not_finite_names_step_and_rows(stand_in, poisoned):
    def batch_at(step):
        batch = stand_in.make_batch(step)
        return poison(batch, [1, 3]) if step == 2 else batch

    step_fn, optimizer = poisoned
    state, frozen = start(stand_in, [0], optimizer)
    keys = train.adapter_keys([0])
    steps = train.training_steps(
        state, frozen, batch_at, keys, step_fn=step_fn, num_steps=6
    )
    good = [next(steps), next(steps)]
    assert all(np.isfinite(info.metrics["loss"]).all() for info in good)
    with pytest.raises(train.NonFiniteLoss) as caught:
        next(steps)
    assert (caught.value.adapter, caught.value.step) == (0, 2)
    assert caught.value.rows == [10201, 10203]
    assert np.isnan(caught.value.loss)
    assert "adapter 0: the loss is nan in step 2, rows [10201, 10203]" in str(
        caught.value
    )


def test_the_step_keeps_the_last_good_state_of_an_adapter_that_fails(
    stand_in, poisoned
):
    step_fn, optimizer = poisoned
    state, frozen = start(stand_in, [0], optimizer)
    keys = train.adapter_keys([0])
    good = train.stack_batches([stand_in.make_batch(0)])
    state, _ = step_fn(state, frozen, good, keys)
    before = jax.tree.map(np.array, state)
    bad = train.stack_batches([poison(stand_in.make_batch(1), [0])])
    state, metrics = step_fn(state, frozen, bad, keys)
    np.testing.assert_array_equal(metrics["row_is_finite"], [[False, *[True] * 3]])
    np.testing.assert_array_equal(state.failed, [True])
    assert_trees_equal(dataclasses.replace(state, failed=before.failed), before)
    # It is not trained any further either.
    state, _ = step_fn(state, frozen, good, keys)
    assert_trees_equal(dataclasses.replace(state, failed=before.failed), before)


def test_an_adapter_that_fails_does_not_touch_the_others(stand_in, poisoned):
    def batch_at(is_poisoned):
        def batch_at(step):
            pair = [stand_in.make_batch(step), stand_in.make_batch(10 + step)]
            if is_poisoned and step == 2:
                pair[0] = poison(pair[0], [2])
            return train.stack_batches(pair)

        return batch_at

    clean = stand_in.run([0, 1], made=poisoned, batch_at=batch_at(False))
    dirty = stand_in.run([0, 1], made=poisoned, batch_at=batch_at(True))
    for a, b in zip(clean, dirty, strict=True):
        assert_trees_equal(adapter_of(a.state, 1), adapter_of(b.state, 1))
    for info in dirty[2:]:
        np.testing.assert_array_equal(info.state.failed, [True, False])
        assert_trees_equal(
            adapter_of(info.state.trainable, 0), adapter_of(clean[1].state.trainable, 0)
        )
    assert [list(info.failures) for info in dirty] == [[], [], [0], [], [], []]
    assert dirty[2].failures[0].rows == [10202]


@pytest.mark.parametrize(("at", "batches"), [(4, [2, 3, 4, 5]), (6, [2, 3])])
def test_an_adapter_that_stands_ahead_goes_on_there_when_the_other_one_fails(
    stand_in, poisoned, at, batches
):
    def batch_at(step):
        seen.append(step)
        pair = [stand_in.make_batch(step), stand_in.make_batch(10 + step)]
        pair[0] = poison(pair[0], [2] if step >= 2 else [])
        return train.stack_batches(pair)

    seen = []
    whole = stand_in.run([0, 1], made=poisoned, batch_at=batch_at)
    step_fn, optimizer = poisoned
    _, frozen = start(stand_in, [0, 1], optimizer)
    joined = train.join_states(
        [
            train.adapter_state(jax.tree.map(jnp.asarray, whole[done - 1].state), index)
            for index, done in ((0, 2), (1, at))
        ]
    )
    seen = []
    infos = list(
        train.training_steps(
            joined,
            frozen,
            batch_at,
            train.adapter_keys([0, 1]),
            step_fn=step_fn,
            num_steps=6,
        )
    )
    assert [info.step for info in infos] == [3, *range(at + 1, 7)]
    assert list(infos[0].failures) == [0]
    assert seen == batches  # one of step 3 was made ahead
    ended = adapter_of(infos[-1].state, 1)
    assert_trees_equal(ended, adapter_of(whole[-1].state, 1))


def test_a_gradient_that_is_not_finite_stops_too_and_names_all_rows(stand_in):
    def log_probs_fn(params, batch, *, dropout_keys):
        log_probs = stand_in.log_probs_fn(params, batch, dropout_keys=dropout_keys)
        zero = params["mlp"]["out"]["scale"].sum() * 0
        return log_probs + jnp.sqrt(zero)  # 0, with an infinite derivative

    made = stand_in.make_step(log_probs_fn=log_probs_fn)
    with pytest.raises(train.NonFiniteLoss) as caught:
        stand_in.run([1], made=made)
    assert caught.value.rows == [1000, 1001, 1002, 1003]
    assert np.isfinite(caught.value.loss)
    assert str(caught.value).startswith("adapter 0: the norm of the gradient is nan")


def test_a_state_of_failed_adapters_is_an_error(stand_in, poisoned):
    step_fn, optimizer = poisoned
    state, frozen = start(stand_in, [0], optimizer)
    state = dataclasses.replace(state, failed=jnp.array([True]))
    steps = train.training_steps(
        state,
        frozen,
        stand_in.make_batch,
        train.adapter_keys([0]),
        step_fn=step_fn,
        num_steps=6,
    )
    with pytest.raises(ValueError, match="start again with other settings"):
        next(steps)


def test_stacking_batches_pads_to_the_longest():
    short = {"label": np.array([1]), "tokens": np.array([[5, 1]])}
    long = {"label": np.array([0]), "tokens": np.array([[5, 6, 1]])}
    stacked = train.stack_batches([short, long])
    np.testing.assert_array_equal(stacked["tokens"], [[[5, 1, 0]], [[5, 6, 1]]])
    np.testing.assert_array_equal(stacked["label"], [[1], [0]])


def test_batches_that_do_not_fit_are_errors(stand_in, poisoned):
    with pytest.raises(ValueError, match="same entries and number of rows"):
        train.stack_batches(
            [stand_in.make_batch(0, rows=2), stand_in.make_batch(0, rows=4)]
        )
    with pytest.raises(ValueError, match="batch for 2 adapters leads with an axis"):
        stand_in.run([0, 1], made=poisoned, batch_at=stand_in.make_batch)


def test_there_must_be_a_key_for_each_adapter(stand_in, poisoned):
    step_fn, optimizer = poisoned
    state, frozen = start(stand_in, [0, 1], optimizer)
    steps = train.training_steps(
        state,
        frozen,
        stand_in.make_batch,
        train.adapter_keys([0]),
        step_fn=step_fn,
        num_steps=6,
    )
    with pytest.raises(ValueError, match="1 keys for 2 adapters; give one each"):
        next(steps)
