"""What every parameter-efficient method must keep; methods are found by their files."""

import functools

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import experiment, models, peft, train
from tfew_jax.checkpoint import layout
from tfew_jax.cli import configuration

CONFIG = models.T5Config(
    vocab_size=61,
    emb_dim=16,
    num_heads=3,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=3,
    num_decoder_layers=2,
)
BATCH = {
    "encoder_input_tokens": np.arange(1, 19).reshape(2, 9),
    "decoder_target_tokens": np.arange(1, 31).reshape(2, 3, 5),
}

methods = pytest.mark.parametrize("name", peft.names())
adding = pytest.mark.parametrize(
    "name", [name for name in peft.names() if peft.get(name).adds_parameters]
)
folding = pytest.mark.parametrize(
    "name", [name for name in peft.names() if peft.get(name).folds]
)
unfolding = pytest.mark.parametrize(
    "name", [name for name in peft.names() if not peft.get(name).folds]
)
lengthening = pytest.mark.parametrize(
    "name", [name for name in peft.names() if peft.get(name)().lengthens]
)
selecting = pytest.mark.parametrize(
    "name", [name for name in peft.names() if not peft.get(name).adds_parameters]
)


def trainable(method, params):
    paths = method.trainable_paths(params)
    flat = jax.tree.leaves_with_path(params)
    named = {"/".join(str(k.key) for k in path): leaf for path, leaf in flat}
    return {path: named[path] for path in paths}


def moved(method, params):
    """The parameters with every trainable one moved, as training would."""
    paths = method.trainable_paths(params)
    rng = np.random.default_rng(0)

    def move(path, leaf):
        if "/".join(str(k.key) for k in path) not in paths:
            return leaf
        return leaf + 0.3 * rng.standard_normal(leaf.shape).astype(np.float32)

    return jax.tree.map_with_path(move, params)


token_log_probs = jax.jit(models.token_log_probs, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def logits(method, params):
    return models.forward(
        models.T5(CONFIG, method),
        params,
        encoder_input_tokens=BATCH["encoder_input_tokens"],
        decoder_input_tokens=BATCH["decoder_target_tokens"],
    )[0]


@folding
def test_a_new_method_computes_what_the_frozen_model_computes(name, key):
    method = peft.get(name)()
    params = models.init(CONFIG, method, key)
    _, frozen = train.partition(params, method)
    plain = frozen if method.adds_parameters else params
    np.testing.assert_array_equal(logits(method, params), logits(None, plain))
    np.testing.assert_array_equal(
        logits(method, params), logits(None, method.fold(params))
    )


@unfolding
def test_a_method_that_does_not_fold_says_so_and_keeps_the_model(name, key):
    method = peft.get(name)()
    params = models.init(CONFIG, method, key)
    with pytest.raises(ValueError, match="does not fold"):
        method.fold(params)
    _, frozen = train.partition(params, method)
    plain = models.abstract_params(CONFIG)
    assert jax.tree.map(jnp.shape, frozen) == jax.tree.map(jnp.shape, plain)


@lengthening
def test_examples_that_a_method_lengthens_cannot_be_packed(name, key):
    method = peft.get(name)()
    params = models.init(CONFIG, method, key)
    segments = jnp.ones((2, 9), jnp.int32)
    with pytest.raises(ValueError, match="give one example a row"):
        models.forward(
            models.T5(CONFIG, method),
            params,
            encoder_input_tokens=BATCH["encoder_input_tokens"],
            decoder_input_tokens=BATCH["decoder_target_tokens"],
            encoder_segment_ids=segments,
        )


@methods
def test_the_stated_recipe_is_that_of_the_gin_file(name):
    files = ["models/embedded.gin", f"methods/{name}.gin"]
    files += ["tasks/csv.gin", "runs/fewshot.gin"]
    values = {"TRAIN_FILE": "'a.csv'", "CHOICES": "'a ||| b'", "TEMPLATES": "['{{a}}']"}
    bindings = [f"{k}={v}" for k, v in values.items()] + ["MODEL_DIR='out'"]
    with configuration.parsed(entry=experiment.train, files=files, bindings=bindings):
        given = gin.get_configurable(experiment.Recipe)()
    stated = experiment.Recipe.for_method(peft.get(name)())
    assert given == stated


@methods
def test_the_stated_number_of_parameters_is_the_real_one(name):
    method = peft.get(name)()
    for config in (CONFIG, models.SIZES["xl"]):
        leaves = trainable(method, models.abstract_params(config, method)).values()
        assert sum(leaf.size for leaf in leaves) == method.num_parameters(config)


@folding
def test_the_folded_model_equals_the_adapted_one_and_the_base_is_kept(name, key):
    method = peft.get(name)()
    params = moved(method, models.init(CONFIG, method, key))
    before = jax.tree.map(np.array, params)
    folded = method.fold(params)
    expected = logits(method, params)
    np.testing.assert_allclose(
        logits(None, folded),
        expected,
        rtol=0,
        atol=1e-5 * float(jnp.abs(expected).max()),
    )
    jax.tree.map(np.testing.assert_array_equal, params, before)


@folding
def test_folding_is_the_same_for_stacked_and_unstacked_layers(name, key):
    method = peft.get(name)()
    params = moved(method, models.init(CONFIG, method, key))
    stacked = models.unstack_layers(method.fold(params))
    unstacked = method.fold(models.unstack_layers(params))
    jax.tree.map(np.testing.assert_array_equal, stacked, unstacked)


@methods
def test_a_method_survives_its_dictionary_and_refuses_unknown_settings(name):
    method = peft.get(name)()
    assert peft.from_dict(method.to_dict()) == method
    assert method.difference(peft.from_dict(method.to_dict())) == ""
    with pytest.raises(ValueError, match=r"unknown settings \['sights'\]"):
        peft.from_dict(method.to_dict() | {"sights": 1})


@methods
def test_a_method_has_a_gin_file(name, repository):
    assert (repository / "gin_configs" / "methods" / f"{name}.gin").is_file()


@adding
def test_a_plain_tree_has_nothing_to_train(name, key):
    method = peft.get(name)()
    with pytest.raises(ValueError, match="no parameter path matches"):
        method.trainable_paths(models.init(CONFIG, None, key))


@selecting
def test_what_a_method_selects_is_there_in_the_plain_model(name, key):
    method = peft.get(name)()
    plain = models.init(CONFIG, None, key)
    assert method.trainable_paths(plain) == method.trainable_paths(
        models.init(CONFIG, method, key)
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        train.combine(
            train.partition(plain, method)[0], train.frozen_half(plain, method)
        ),
        plain,
    )


@selecting
def test_the_model_itself_has_no_bank(name):
    with pytest.raises(ValueError, match="num_adapters must be None"):
        peft.get(name)(num_adapters=2)


banking = pytest.mark.parametrize(
    "name", [name for name in peft.names() if peft.get(name).banks]
)
bankless = pytest.mark.parametrize(
    "name", [name for name in peft.names() if not peft.get(name).banks]
)


def flat_arrays(method, key):
    params = moved(method, models.init(CONFIG, method, key))
    return {
        path: np.asarray(leaf)
        for path, leaf in trainable(method, models.unstack_layers(params)).items()
    }


@banking
def test_a_slot_holds_an_adapter_as_it_is_or_changes_nothing(name, key):
    method = peft.get(name)()
    arrays = flat_arrays(method, key)
    bank = method.bank([method], 3)
    assert bank == peft.get(name)(num_adapters=3)
    shapes = layout.added_shapes(CONFIG, bank)
    shapes = {path: shape[1:] for path, shape in shapes.items()}
    slot, free = method.slot(arrays, shapes), method.slot({}, shapes)
    for filled in (slot, free):
        assert {path: leaf.shape for path, leaf in filled.items()} == shapes
    for path, leaf in arrays.items():
        np.testing.assert_array_equal(slot[path], leaf)
    base = models.init(CONFIG, None, key)
    held = {path: np.stack([free[path], slot[path]]) for path in shapes}
    merged = layout.merge(base, models.stack_layers(layout.unflatten(held)))
    in_free_slot = token_log_probs(
        models.T5(CONFIG, method.bank([method], 2)),
        merged,
        {**BATCH, "adapter_index": np.zeros(2, np.int32)},
    )
    plain = token_log_probs(models.T5(CONFIG), base, BATCH)
    np.testing.assert_allclose(in_free_slot, plain, rtol=0, atol=5e-6)


@banking
def test_adapters_of_a_method_compose_to_one(name, key):
    method = peft.get(name)()
    arrays = flat_arrays(method, key)
    part = (method, arrays)
    for weights in (None, [1.0]):
        same, composed = method.compose([part], weights)
        assert same == method and composed.keys() == arrays.keys()
        for path, leaf in arrays.items():
            assert composed[path].dtype == np.float32
            np.testing.assert_array_equal(composed[path], leaf)
    half, composed = method.compose([part, part], [0.25, 0.75])
    assert half == method
    for path, leaf in arrays.items():
        np.testing.assert_allclose(composed[path], leaf, rtol=1e-6)
    both, composed = method.compose([part, part], None)
    shapes = {path: leaf.shape for path, leaf in composed.items()}
    assert shapes == layout.adapter_shapes(CONFIG, both)


@bankless
def test_a_method_without_a_bank_says_so(name):
    method = peft.get(name)()
    with pytest.raises(ValueError, match=f"the method {name!r} have no bank"):
        method.bank([], 2)
    with pytest.raises(ValueError, match=f"the method {name!r} do not compose"):
        method.compose([(method, {})], None)


@banking
def test_adapters_of_other_methods_do_not_share_a_bank(name):
    method = peft.get(name)()
    for other in set(peft.names()) - {name}:
        with pytest.raises(ValueError, match=f"is of the method {other!r}, not"):
            method.bank([peft.get(other)()], 2)


@adding
def test_each_row_of_a_bank_computes_what_its_adapter_computes_alone(name, key):
    single, bank = peft.get(name)(), peft.get(name)(num_adapters=3)
    params = models.init(CONFIG, bank, key)
    params = moved(bank, params)
    index = jnp.array([2, 0])
    rows = token_log_probs(
        models.T5(CONFIG, bank), params, {**BATCH, "adapter_index": index}
    )
    axes = jax.tree.map(
        lambda box: box.names,
        models.boxed_abstract_params(CONFIG, bank),
        is_leaf=lambda x: hasattr(x, "names"),
    )
    for row, adapter in enumerate([2, 0]):
        alone = jax.tree.map(
            lambda leaf, names, adapter=adapter: (
                jnp.take(leaf, adapter, axis=names.index("adapters"))
                if "adapters" in names
                else leaf
            ),
            params,
            axes,
        )
        expected = token_log_probs(models.T5(CONFIG, single), alone, BATCH)
        np.testing.assert_array_equal(rows[row], expected[row])


@methods
def test_a_method_says_whether_it_acts_in_the_encoder(name):
    method = peft.get(name)()
    assert method.acts_in_encoder
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32),
        models.abstract_params(CONFIG, method),
    )
    encode = jax.jit(
        lambda params: models.T5(CONFIG, method).apply(
            {"params": params},
            jnp.asarray(BATCH["encoder_input_tokens"]),
            method="encode",
        )
    )
    before, after = (encode(each)[0] for each in (params, moved(method, params)))
    assert np.abs(before - after).max() > 0.01


@adding
def test_a_bank_without_an_index_is_an_error(name, key):
    bank = peft.get(name)(num_adapters=3)
    params = models.init(CONFIG, bank, key)
    with pytest.raises(ValueError, match="needs adapter_index, one entry a row"):
        logits(bank, params)


def test_an_unknown_method_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown PEFT method 'lorra'; available: full"
    ):
        peft.get("lorra")
