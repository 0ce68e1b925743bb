"""Which units (IA)^3 inhibits and amplifies."""

import numpy as np
import pytest

from tfew_jax.inspection import units

PARAMS = {
    "decoder/layers_0/mlp/ia3_mlp_hidden/scale": np.array([1, -0.5, 1, 3]),
    "encoder/layers_10/attention/ia3_key/scale": np.array([0.9, 1.0005]),
    "encoder/layers_2/attention/ia3_value/scale": np.array([1.1, 0.9]),
    "decoder/layers_0/encoder_decoder_attention/ia3_key/scale": np.array([0.2, 1.0]),
    "encoder/layers_2/attention/ia3_key/scale": np.array([1.0, 1.0]),
    "decoder/layers_0/self_attention/ia3_key/scale": np.array([2.0, 1.0]),
}


@pytest.fixture
def vectors():
    return units.vectors_of(PARAMS)


def test_vectors_come_in_the_order_of_the_model(vectors):
    assert [(v.half, v.layer, v.block, v.site) for v in vectors] == [
        ("encoder", 2, "attention", "key"),
        ("encoder", 2, "attention", "value"),
        ("encoder", 10, "attention", "key"),
        ("decoder", 0, "self_attention", "key"),
        ("decoder", 0, "encoder_decoder_attention", "key"),
        ("decoder", 0, "mlp", "mlp_hidden"),
    ]
    assert vectors[-1].place == "decoder feed-forward, hidden layer"


def test_the_lowest_factors_are_inhibited_and_the_highest_amplified(vectors):
    inhibited, amplified = units.extremes(vectors, 3)
    assert [(u.place, u.layer, u.unit) for u in inhibited] == [
        ("decoder feed-forward, hidden layer", 0, 1),
        ("decoder cross-attention, key", 0, 0),
        ("encoder self-attention, value", 2, 1),  # before its equal in layer 10
    ]
    assert [(u.place, u.unit, u.value) for u in amplified[:2]] == [
        ("decoder feed-forward, hidden layer", 3, 3.0),
        ("decoder self-attention, key", 0, 2.0),
    ]


def test_units_at_one_are_neither_inhibited_nor_amplified(vectors):
    assert units.extremes(vectors[:1]) == ([], [])
    inhibited, amplified = units.extremes(vectors[-1:])
    assert [u.unit for u in inhibited] == [1] and [u.unit for u in amplified] == [3]


def test_the_summary_is_that_of_the_hand():
    values = np.array([1, 1.0009, -0.5, 3])
    (vector,) = units.vectors_of({next(iter(PARAMS)): values})
    found = units.summary([vector])
    assert (found["units"], found["num_negative"]) == (4, 1)
    assert found["share_near_one"] == 0.5
    assert (found["min"], found["max"]) == (-0.5, 3.0)
    np.testing.assert_allclose(found["mean"], 4.5009 / 4, rtol=1e-6)
    np.testing.assert_allclose(found["std"], np.std([1, 1.0009, -0.5, 3]), rtol=1e-6)


def test_places_gather_the_layers_in_order(vectors):
    places = units.by_place(vectors)
    assert list(places) == [
        "encoder self-attention, key",
        "encoder self-attention, value",
        "decoder self-attention, key",
        "decoder cross-attention, key",
        "decoder feed-forward, hidden layer",
    ]
    assert [v.layer for v in places["encoder self-attention, key"]] == [2, 10]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"encoder/layers_0/attention/key/kernel": np.ones(2)}, "no vector of"),
        ({"encoder/layers_0/norm/ia3_key/scale": np.ones(2)}, "no vector of"),
        ({next(iter(PARAMS)): np.array([1, np.nan])}, "holds NaN or infinity"),
    ],
)
def test_what_is_no_vector_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        units.vectors_of(params)


def test_no_unit_cannot_be_asked_for(vectors):
    with pytest.raises(ValueError, match="top must be 1 or more, got 0"):
        units.extremes(vectors, 0)
