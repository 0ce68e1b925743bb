import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import optim, train
from tfew_jax.peft import ia3

KEYS = ia3.IA3(sites=("key",))


def params():
    return {
        "encoder": {"attention": {"kernel": 1, "ia3_key": {"scale": 2}}, "norm": 3},
        "embedding": 4,
    }


def test_partition_has_every_leaf_in_one_half():
    trainable, frozen = train.partition(params(), KEYS)
    assert trainable == {"encoder": {"attention": {"ia3_key": {"scale": 2}}}}
    assert frozen == {
        "encoder": {"attention": {"kernel": 1}, "norm": 3},
        "embedding": 4,
    }


def test_combine_is_the_inverse_of_partition():
    assert train.combine(*train.partition(params(), KEYS)) == params()


def test_a_method_that_trains_nothing_is_an_error():
    without = {"encoder": {"norm": 3}}
    with pytest.raises(ValueError, match=r"nothing would be trained.*encoder/norm"):
        train.partition(without, KEYS)


def test_halves_that_share_a_path_are_an_error():
    with pytest.raises(ValueError, match="frozen at once, the first is embedding"):
        train.combine({"embedding": 1}, params())


def test_the_state_of_one_adapter_leads_with_an_axis_of_one():
    optimizer = optim.adafactor(leading_axes={"scale": 0})
    state = train.init_state({"scale": jnp.ones(3, jnp.bfloat16)}, optimizer)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state)} == {1}
    assert state.trainable["scale"].dtype == jnp.float32
    np.testing.assert_array_equal(state.step, [0])
    np.testing.assert_array_equal(state.failed, [False])


def test_the_slice_of_an_adapter_is_the_state_of_its_single_run():
    optimizer = optim.adafactor(leading_axes={"scale": 0})
    trees = [{"scale": jnp.full(3, value)} for value in (1.0, 2.0)]
    together = train.init_state(trees, optimizer)
    for index, tree in enumerate(trees):
        alone = train.init_state(tree, optimizer)
        jax.tree.map(
            lambda a, b, i=index: np.testing.assert_array_equal(a[i : i + 1], b),
            together,
            alone,
        )
        np.testing.assert_array_equal(
            train.adapter_params(together, index)["scale"], tree["scale"]
        )


def test_an_adapter_that_is_not_there_is_an_error():
    optimizer = optim.adafactor(leading_axes={"scale": 0})
    state = train.init_state({"scale": jnp.ones(3)}, optimizer)
    for index in (1, -1):
        with pytest.raises(ValueError, match=f"adapter {index} is not there"):
            train.adapter_params(state, index)


def test_the_stream_of_an_adapter_follows_from_its_seed_alone():
    keys = train.adapter_keys([3, 0, 3])
    bits = [jax.random.bits(key) for key in keys]
    assert bits[0] == bits[2] != bits[1]
    assert bits[1] == jax.random.bits(train.adapter_keys([0])[0])
    assert str(jax.random.key_impl(keys)) == "threefry2x32"


def test_every_row_and_step_has_its_own_key():
    (key,) = train.adapter_keys([0])
    keys = [train.row_keys(key, jnp.int32(step), 4) for step in range(3)]
    bits = np.concatenate([jax.vmap(jax.random.bits)(k) for k in keys])
    assert len(set(bits.tolist())) == 12
