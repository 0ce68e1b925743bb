import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tfew_jax import optim

KEPT = slice(None, None, 8)  # what tools/golden/adafactor.py writes of a dimension


def trajectory(optimizer, params, gradients, rates):
    """The parameters after each update."""
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, gradient, rate):
        updates, state = optimizer.update(gradient, state, params, learning_rate=rate)
        return optax.apply_updates(params, updates), state

    after = []
    for gradient, rate in zip(gradients, rates, strict=True):
        params, state = update(params, state, gradient, rate)
        after.append(params)
    return after


def plain_adafactor(**settings):
    return optim.adafactor(leading_axes={"x": 0}, **settings)


def one_update(gradient, *, param, rate=1.0, **settings):
    """What one update adds to a single tensor."""
    (after,) = trajectory(
        plain_adafactor(**settings), {"x": param}, [{"x": gradient}], [rate]
    )
    return after["x"] - param


def normal(seed, shape, scale=1.0):
    return scale * jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("warmup", [True, False])
def test_vectors_follow_the_reference_optimizer(shared, shape, warmup):
    golden = json.loads((shared / "fixtures/tfew/adafactor_golden.json").read_text())
    rate = golden["lr"]
    schedule = optim.linear_decay(rate, 1000) if warmup else optim.constant(rate)
    after = trajectory(
        plain_adafactor(max_grad_norm=None),
        {"x": jnp.ones(shape)},
        [{"x": jnp.array(g).reshape(shape)} for g in golden["grads"]],
        [schedule(jnp.int32(step)) for step in range(3)],
    )
    expected = golden[f"{shape}{'' if warmup else 'const'}"]
    for params, value in zip(after, expected, strict=True):
        np.testing.assert_allclose(params["x"].reshape(-1), value, rtol=2e-7)


def test_a_vector_of_zeros_moves_a_thousand_times_slower():
    # The first direction is the sign, and the least scale of a tensor is 1e-3.
    gradient = jnp.array([0.5, -0.1, 0.02, 0.0])
    update = one_update(gradient, param=jnp.zeros(4), rate=3e-3, max_grad_norm=None)
    np.testing.assert_allclose(update, [-3e-6, 3e-6, -3e-6, 0], rtol=1e-6)


def golden_values(shape, step):
    n = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    size = 10.0 ** (-3 + 2 * np.sin(0.37 * n + step))
    return jnp.asarray((size * np.sin(1.7 * n + 5 * step)).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "shape"), [("vector", (200,)), ("wide", (128, 160)), ("tall", (200, 130))]
)
@pytest.mark.parametrize("scale", [True, False])
def test_tensors_follow_the_peer_library(repository, name, shape, scale):
    golden = np.load(repository / "tests/golden/adafactor.npz")
    expected = golden[name if scale else f"{name}_unscaled"]
    after = trajectory(
        plain_adafactor(max_grad_norm=None, multiply_by_parameter_scale=scale),
        {"x": golden_values(shape, 0)},
        [{"x": golden_values(shape, step)} for step in range(1, len(expected) + 1)],
        [3e-2] * len(expected),
    )
    largest = np.abs(expected).max()
    for params, value in zip(after, expected, strict=True):
        kept = params["x"][tuple(KEPT for _ in shape)]
        np.testing.assert_allclose(kept, value, rtol=0, atol=1e-6 * largest)


def test_first_update_is_the_sign_times_the_size_of_the_parameter():
    update = one_update(jnp.array([0.5, -0.001]), param=jnp.array([3.0, 4.0]), rate=0.1)
    rms = np.sqrt(12.5)
    np.testing.assert_allclose(update, [-0.1 * rms, 0.1 * rms], rtol=1e-6)


def test_the_root_mean_square_of_an_update_is_clipped():
    # Second moments 0.43 * 1 + 0.57 * 100 after 1, so the direction is 10 / 7.6.
    after = trajectory(
        plain_adafactor(max_grad_norm=None),
        {"x": jnp.ones(2)},
        [{"x": jnp.ones(2)}, {"x": jnp.full(2, 10.0)}],
        [0.0, 0.1],
    )
    np.testing.assert_allclose(after[1]["x"], 1 - 0.1, rtol=1e-6)
    unclipped = trajectory(
        plain_adafactor(max_grad_norm=None, clip_threshold=None),
        {"x": jnp.ones(2)},
        [{"x": jnp.ones(2)}, {"x": jnp.full(2, 10.0)}],
        [0.0, 0.1],
    )
    beta = 1 - 2**-0.8
    direction = 10 / np.sqrt(beta + (1 - beta) * 100)
    np.testing.assert_allclose(unclipped[1]["x"], 1 - 0.1 * direction, rtol=1e-6)


def test_decay_offset_counts_updates_as_already_done():
    beta = 1 - 1_100_001**-0.8
    update = one_update(
        jnp.ones(2),
        param=jnp.ones(2),
        clip_threshold=None,
        max_grad_norm=None,
        decay_offset=1_100_000,
    )
    # Float32 holds 1 - beta, 1.5e-5, to 2^-24 only.
    np.testing.assert_allclose(update, -1 / np.sqrt(1 - beta), rtol=2e-3)


def test_weight_decay_is_not_multiplied_by_the_rate():
    settings = {"param": jnp.full(3, 2.0), "rate": 0.0, "weight_decay": 0.25}
    update = one_update(jnp.ones(3), **settings)
    np.testing.assert_allclose(update, -0.5, rtol=1e-6)


def test_gradients_are_clipped_to_one_norm_over_all_tensors():
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([0.0, 4.0])}
    params = jax.tree.map(jnp.ones_like, gradients)
    optimizer = optim.adafactor(leading_axes={"a": 0, "b": 0})
    state = optimizer.init(params)
    _, state = optimizer.update(gradients, state, params, learning_rate=0.0)
    # beta is 0 in the first update: the second moment is the squared gradient.
    second_moments = {name: state[1][name][0].v for name in gradients}
    np.testing.assert_allclose(second_moments["a"], [0.36], rtol=1e-6)
    np.testing.assert_allclose(second_moments["b"], [0, 0.64], rtol=1e-6, atol=1e-29)


def test_vectors_and_small_matrices_have_a_second_moment_for_each_entry():
    shapes = {"vector": (4096,), "small": (127, 4096), "large": (128, 130)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    state = optim.adafactor(leading_axes=dict.fromkeys(shapes, 0)).init(params)
    moments = {name: state[1][name][0] for name in shapes}
    assert moments["vector"].v.shape == (4096,)
    assert moments["small"].v.shape == (127, 4096)
    assert {moments["large"].v_row.shape, moments["large"].v_col.shape} == {
        (128,),
        (130,),
    }


@pytest.mark.parametrize("shape", [(48,), (130, 140)])
def test_stacked_layers_are_updated_as_layers_of_their_own(shape):
    num_layers, num_steps = 3, 6
    sizes = 10.0 ** jnp.arange(num_layers).reshape(-1, *(1,) * len(shape))
    params = sizes * normal(0, (num_layers, *shape))
    gradients = [
        sizes[::-1] * normal(1 + step, (num_layers, *shape))
        for step in range(num_steps)
    ]
    rates = [0.01] * num_steps
    stacked = trajectory(
        optim.adafactor(leading_axes={"x": 1}),
        {"x": params},
        [{"x": g} for g in gradients],
        rates,
    )
    apart = trajectory(
        optim.adafactor(leading_axes=dict.fromkeys("abc", 0)),
        dict(zip("abc", params, strict=True)),
        [dict(zip("abc", g, strict=True)) for g in gradients],
        rates,
    )
    for together, separate in zip(stacked, apart, strict=True):
        expected = jnp.stack([separate[name] for name in "abc"])
        np.testing.assert_allclose(together["x"], expected, rtol=2e-6, atol=1e-7)
    # The stack as one tensor is not the same, so the test can fail.
    as_one = trajectory(
        plain_adafactor(), {"x": params}, [{"x": g} for g in gradients], rates
    )
    assert np.abs(as_one[-1]["x"] / stacked[-1]["x"] - 1).max() > 0.01


def test_a_bank_of_many_adapters_is_not_taken_for_a_matrix():
    params, gradients = jnp.ones((130, 140)), normal(0, (130, 140))
    optimizer = plain_adafactor()
    state = jax.vmap(optimizer.init)({"x": params})
    updates, _ = jax.vmap(lambda g, s, p: optimizer.update(g, s, p, learning_rate=0.1))(
        {"x": gradients}, state, {"x": params}
    )
    alone = [
        one_update(g, param=p, rate=0.1)
        for g, p in zip(gradients[:3], params[:3], strict=True)
    ]
    np.testing.assert_allclose(updates["x"][:3], jnp.stack(alone), rtol=1e-5)


def test_stacked_axes_are_read_off_the_names_of_the_axes():
    boxed = {
        "layers": {"k": nn.LogicallyPartitioned(jnp.ones((2, 3)), ("layers", "mlp"))},
        "norm": nn.LogicallyPartitioned(jnp.ones(3), ("embed",)),
    }
    assert optim.stacked_axes(boxed) == {"layers": {"k": 1}, "norm": 0}


def test_parameters_without_names_of_axes_are_an_error():
    with pytest.raises(ValueError, match=r"\['a'\]\['b'\] has no axis names"):
        optim.stacked_axes({"a": {"b": jnp.ones(2)}})
    behind = nn.LogicallyPartitioned(jnp.ones((3, 2)), ("mlp", "layers"))
    with pytest.raises(ValueError, match=r"must come first"):
        optim.stacked_axes({"a": behind})


def test_leading_axes_of_other_parameters_are_an_error():
    with pytest.raises(ValueError, match="take it from the same parameters"):
        plain_adafactor().init({"y": jnp.ones(2)})


def test_linear_decay_is_the_schedule_of_t_few():
    schedule = optim.linear_decay(3e-3, 1000, warmup_ratio=0.06)
    steps = jnp.arange(1002)
    expected = [
        3e-3 * t / 60 if t < 60 else 3e-3 * (1000 - t) / 940 for t in range(1000)
    ]
    np.testing.assert_allclose(schedule(steps)[:1000], expected, rtol=1e-6)
    np.testing.assert_array_equal(schedule(steps)[1000:], 0)
    assert schedule(jnp.int32(0)) == 0
    np.testing.assert_allclose(schedule(jnp.int32(999)), 3e-3 / 940, rtol=1e-6)


def test_inverse_sqrt_is_the_schedule_of_t5():
    schedule = optim.inverse_sqrt(0.01)
    steps = jnp.array([0, 9_999, 10_000, 40_000, 1_000_000])
    expected = [1 / max(step, 1e4) ** 0.5 for step in steps.tolist()]
    np.testing.assert_allclose(schedule(steps), expected, rtol=1e-6)
    two = optim.inverse_sqrt(jnp.array([1.0, 0.5]), warmup_steps=4)
    np.testing.assert_allclose(two(jnp.array([16, 1])), [0.5, 0.5], rtol=1e-6)
    with pytest.raises(ValueError, match="warmup_steps=0; it must be a positive"):
        optim.inverse_sqrt(0.01, warmup_steps=0)


def test_warm_up_need_not_be_a_whole_number_of_steps():
    rates = optim.linear_decay(1.0, 30)(jnp.arange(3))  # 1.8 steps
    np.testing.assert_allclose(rates, [0, 1 / 1.8, 28 / 28.2], rtol=1e-6)


def test_without_warm_up_the_first_rate_is_the_peak():
    rates = optim.linear_decay(2.0, 4, warmup_steps=0)(jnp.arange(5))
    np.testing.assert_allclose(rates, [2, 1.5, 1, 0.5, 0], rtol=1e-6)


def test_each_adapter_can_have_its_own_rate():
    steps = jnp.array([1, 2])
    np.testing.assert_allclose(
        optim.linear_decay(np.array([1.0, 2.0]), 4, warmup_steps=2)(steps), [0.5, 2.0]
    )
    np.testing.assert_allclose(optim.constant(np.array([0.3, 0.1]))(steps), [0.3, 0.1])
    np.testing.assert_allclose(optim.constant(0.3)(steps), [0.3, 0.3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plain_adafactor(decay_rate=0.0), "decay_rate=0.0; it must be a pos"),
        (lambda: plain_adafactor(clip_threshold=-1.0), "clip_threshold=-1.0; it must"),
        (lambda: plain_adafactor(max_grad_norm=0.0), "max_grad_norm=0.0; it must be"),
        (lambda: plain_adafactor(weight_decay=-1.0), "weight_decay=-1.0; it must be"),
        (lambda: plain_adafactor(decay_offset=-5), "decay_offset=-5; it must be 0 or"),
        (lambda: optim.constant(-0.1), "rate=-0.1; a learning rate is 0 or"),
        (lambda: optim.constant(float("nan")), "rate=nan; a learning rate is 0 or"),
        (lambda: optim.linear_decay(1.0, 0), "num_steps=0; it must be a positive"),
        (
            lambda: optim.linear_decay(1.0, 10, warmup_steps=11),
            "the warm-up is 11 steps; it must be between 0 and num_steps=10",
        ),
        (
            lambda: optim.linear_decay(1.0, 10, warmup_steps=1, warmup_ratio=0.1),
            "give one of them",
        ),
    ],
)
def test_bad_settings_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
