"""Stacked and unstacked layers are the same parameters."""

import jax
import numpy as np
import pytest

from tfew_jax import models

TREE = {
    "token_embedder": {"embedding": np.zeros(2)},
    "encoder": {
        "layers_0": {"mlp": {"scale": np.full(3, 0.0)}},
        "layers_1": {"mlp": {"scale": np.full(3, 1.0)}},
        "encoder_norm": {"scale": np.ones(2)},
    },
}


def test_layers_are_stacked_in_their_order():
    stacked = models.stack_layers(TREE)
    scale = stacked["encoder"]["layers"]["mlp"]["scale"]
    np.testing.assert_array_equal(scale, [[0.0] * 3, [1.0] * 3])
    assert set(stacked["encoder"]) == {"layers", "encoder_norm"}


def test_unstacking_inverts_stacking():
    again = models.unstack_layers(models.stack_layers(TREE))
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    jax.tree.map(np.testing.assert_array_equal, again, TREE)


def test_stacking_twice_changes_nothing():
    stacked = models.stack_layers(TREE)
    again = models.stack_layers(stacked)
    assert jax.tree.structure(again) == jax.tree.structure(stacked)
    jax.tree.map(np.testing.assert_array_equal, again, stacked)


def test_ten_layers_keep_their_numeric_order():
    layers = {f"layers_{i}": {"scale": np.array([i])} for i in range(11)}
    stacked = models.stack_layers({"decoder": layers})
    np.testing.assert_array_equal(
        stacked["decoder"]["layers"]["scale"][:, 0], np.arange(11)
    )


def test_a_missing_layer_is_an_error():
    layers = {"layers_0": {"scale": np.ones(1)}, "layers_2": {"scale": np.ones(1)}}
    with pytest.raises(ValueError, match=r"decoder has layers \[0, 2\]"):
        models.stack_layers({"decoder": layers})


def test_layers_with_other_parameters_are_an_error():
    layers = {"layers_0": {"scale": np.ones(1)}, "layers_1": {"bias": np.ones(1)}}
    with pytest.raises(ValueError, match="layers of encoder do not hold the same"):
        models.stack_layers({"encoder": layers})
