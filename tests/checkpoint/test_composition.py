"""Several adapters made into one."""

import dataclasses

import numpy as np
import pytest

from tfew_jax import checkpoint
from tfew_jax.checkpoint import layout

KEY = "encoder/layers_1/attention/ia3_key/scale"
VALUE = "encoder/layers_1/attention/ia3_value/scale"
ROWS = "encoder_input/prompt/embedding"
DECODER_ROWS = "decoder_input/prompt/embedding"


def arrays(adapter):
    return layout.flatten(adapter.params)


def test_vectors_are_multiplied_and_absent_ones_are_one(config, make_adapter):
    one = make_adapter(config, seed=1, sites=("key",))
    two = make_adapter(config, seed=2)
    both = checkpoint.compose([one, two])
    assert both.method == two.method
    product = arrays(one)[KEY] * arrays(two)[KEY]
    np.testing.assert_allclose(arrays(both)[KEY], product, rtol=1e-7)
    np.testing.assert_array_equal(arrays(both)[VALUE], arrays(two)[VALUE])


def test_vectors_are_summed_by_weights_that_need_not_be_shares(config, make_adapter):
    one = make_adapter(config, seed=1, sites=("key",))
    two = make_adapter(config, seed=2)
    both = checkpoint.compose([one, two], weights=[0.5, 2])
    expected = 0.5 * arrays(one)[KEY] + 2 * arrays(two)[KEY]
    np.testing.assert_allclose(arrays(both)[KEY], expected, rtol=1e-6)
    expected = 0.5 + 2 * arrays(two)[VALUE]
    np.testing.assert_allclose(arrays(both)[VALUE], expected, rtol=1e-6)


def test_prompts_are_joined_in_their_order(config, make_adapter):
    parts = [
        make_adapter(config, "prompt", seed=1, length=2, decoder_length=3),
        make_adapter(config, "prompt", seed=2, length=4),
        make_adapter(config, "prompt", seed=3, length=0, decoder_length=1),
    ]
    joined = checkpoint.compose(parts)
    assert (joined.method.length, joined.method.decoder_length) == (6, 4)
    for path, owners in ((ROWS, (0, 1)), (DECODER_ROWS, (0, 2))):
        rows = np.concatenate([arrays(parts[owner])[path] for owner in owners])
        np.testing.assert_array_equal(arrays(joined)[path], rows)
    turned = checkpoint.compose(parts[::-1])
    rows = np.concatenate([arrays(parts[owner])[ROWS] for owner in (1, 0)])
    np.testing.assert_array_equal(arrays(turned)[ROWS], rows)


def test_prompts_of_one_length_have_weighted_sums(config, make_adapter):
    one, two = (make_adapter(config, "prompt", seed=n, length=3) for n in (1, 2))
    between = checkpoint.compose([one, two], weights=[0.25, 0.75])
    assert between.method.length == 3
    expected = 0.25 * arrays(one)[ROWS] + 0.75 * arrays(two)[ROWS]
    np.testing.assert_allclose(arrays(between)[ROWS], expected, rtol=1e-6)
    longer = make_adapter(config, "prompt", length=4)
    with pytest.raises(ValueError, match="3, 4 rows at encoder_input have no weighted"):
        checkpoint.compose([one, longer], weights=[0.5, 0.5])


def test_one_adapter_alone_is_itself(config, make_adapter):
    for method, settings in (("ia3", {"sites": ("value",)}), ("prompt", {"length": 2})):
        adapter = make_adapter(config, method, **settings)
        for weights in (None, [1.0]):
            same = checkpoint.compose([adapter], weights=weights)
            assert same.method == adapter.method
            assert same.fingerprint == adapter.fingerprint


def test_what_is_known_of_all_parts_is_kept(config, make_adapter):
    task = {"template": "{{text}}"}
    about = {"base": "b", "base_fingerprint": "f", "seed": 1, "train_rows": ["x", "y"]}
    one = make_adapter(config, seed=1, task=task, metadata=about)
    other = about | {"seed": 2, "base": "c", "train_rows": ["z", "y"]}
    two = make_adapter(config, seed=2, task=task, metadata=other)
    both = checkpoint.compose([one, two], weights=[0.5, 0.5])
    assert both.task == task
    assert both.metadata == {
        "composed_of": [one.fingerprint, two.fingerprint],
        "weights": [0.5, 0.5],
        "base_fingerprint": "f",
        "train_rows": ["x", "y", "z"],
    }
    assert checkpoint.compose([one, make_adapter(config)]).task is None


def test_the_result_is_an_adapter_as_any_other(config, make_adapter, tmp_path):
    one, two = (make_adapter(config, seed=seed) for seed in (1, 2))
    both = checkpoint.compose([one, two])
    bank = checkpoint.Bank(adapters={"one": one}, capacity=2).add("both", both)
    assert bank.index(["both"]).tolist() == [2]
    bank.save(tmp_path / "bank")
    again = checkpoint.load_bank(tmp_path / "bank")["both"]
    assert again.fingerprint == both.fingerprint and again.metadata == both.metadata


def test_what_cannot_be_composed_is_refused(config, make_adapter):
    one, prompt = make_adapter(config), make_adapter(config, "prompt", length=2)
    wide = make_adapter(dataclasses.replace(config, mlp_dim=12))
    for parts, weights, message in (
        ([], None, "nothing to compose; give at least one adapter"),
        ([one, one], [1.0], "1 weights for 2 adapters; give one each"),
        ([one, one], [1.0, np.nan], "weights must be finite numbers"),
        ([one, prompt], None, "is of the method 'prompt', not 'ia3'"),
        ([prompt, one], None, "is of the method 'ia3', not 'prompt'"),
        ([one, wide], None, r"adapter 1 of those to compose: .* expected \(10,\)"),
        ([one, one], [1e39, 1e39], "composed adapter: .* holds NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            checkpoint.compose(parts, weights)
        assert len(str(error.value).splitlines()) == 1
