import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tfew_jax import checkpoint, interop, models
from tfew_jax.checkpoint import layout


def test_a_model_comes_back_bit_by_bit(saved, config, params):
    model = checkpoint.load_model(saved)
    assert model.config == config
    assert model.path == saved
    assert_same(model.params, params)


def test_arrays_of_jax_are_saved_like_those_of_numpy(tmp_path, config, params):
    on_device = jax.tree.map(jnp.asarray, params)
    checkpoint.save_model(tmp_path / "a", config=config, params=on_device)
    assert_same(checkpoint.load_model(tmp_path / "a").params, params)


def test_bfloat16_is_kept_and_cast(tmp_path, config, params):
    half = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
    checkpoint.save_model(tmp_path / "a", config=config, params=half)
    assert_same(checkpoint.load_model(tmp_path / "a").params, half)
    single = jax.tree.map(lambda x: x.astype(np.float32), half)
    assert_same(checkpoint.load_model(tmp_path / "a", dtype="float32").params, single)


def test_vocabulary_and_card_travel_with_the_model(tmp_path, config, params):
    (tmp_path / "words").write_bytes(b"pieces")
    checkpoint.save_model(
        tmp_path / "a",
        config=config,
        params=params,
        vocabulary=tmp_path / "words",
        card="# Where it comes from\n",
    )
    vocabulary = checkpoint.load_model(tmp_path / "a").vocabulary
    assert vocabulary is not None and vocabulary.read_bytes() == b"pieces"
    assert (tmp_path / "a" / "README.md").read_text() == "# Where it comes from\n"


def test_the_directory_is_readable_for_others(saved):
    assert saved.stat().st_mode & 0o444 == 0o444


def test_saving_again_replaces_the_model(saved, config, params):
    doubled = jax.tree.map(lambda x: 2 * x, params)
    checkpoint.save_model(saved, config=config, params=doubled)
    assert_same(checkpoint.load_model(saved).params, doubled)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_directory_of_something_else_is_never_replaced(tmp_path, config, params):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds other files and no config\.json"):
        checkpoint.save_model(tmp_path, config=config, params=params)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(ValueError, match="is a file"):
        checkpoint.save_model(tmp_path / "thesis.tex", config=config, params=params)


def test_a_full_disk_leaves_the_earlier_model_alone(saved, config, params, full_disk):
    doubled = jax.tree.map(lambda x: 2 * x, params)
    with full_disk(1000), pytest.raises(OSError, match="could not be written") as error:
        checkpoint.save_model(saved, config=config, params=doubled)
    assert len(str(error.value).splitlines()) == 1
    assert_same(checkpoint.load_model(saved).params, params)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_place_that_cannot_be_written_is_an_error(config, params):
    with pytest.raises(OSError, match="could not be written"):
        checkpoint.save_model("/proc/no/model", config=config, params=params)


def test_a_missing_vocabulary_is_an_error_before_anything_is_written(
    tmp_path, config, params
):
    with pytest.raises(ValueError, match=r"vocabulary .* does not exist"):
        checkpoint.save_model(
            tmp_path / "a", config=config, params=params, vocabulary=tmp_path / "none"
        )
    assert not any(tmp_path.iterdir())


def test_stacked_parameters_are_refused(tmp_path, config, params):
    with pytest.raises(ValueError, match="save the unstacked parameters"):
        checkpoint.save_model(
            tmp_path / "a", config=config, params=models.stack_layers(params)
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "format version 99; this tfew_jax reads up to 1"),
        ({"version": "one"}, "version must be a positive integer"),
        ({"format": "else"}, r"not a config of a tfew_jax model"),
        ({"model": None}, "model must hold the model's settings"),
        ({"model": {"emb_dim": 6}}, "lacks .*num_heads"),
    ],
)
def test_a_config_that_cannot_be_read_is_an_error(change, message, saved):
    edit(saved / "config.json", **change)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load_model(saved)
    assert "config.json" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mlp_dim": 12}, r"has shape \(6, 10\), expected \(6, 12\)"),
        ({"num_decoder_layers": 2}, "lacks decoder/layers_1"),
        ({"emb_dim": "six"}, "emb_dim must be int, got 'six'"),
        ({"num_heads": True}, "num_heads must be int, got True"),
        ({"colour": "red"}, "unknown model fields"),
    ],
)
def test_a_config_of_another_model_is_an_error(settings, message, saved, config):
    edit(saved / "config.json", model={**config.to_dict(), **settings})
    with pytest.raises(ValueError, match=message):
        checkpoint.load_model(saved)


@pytest.mark.parametrize("kept", [0, 4, 100, 1000])
def test_a_cut_off_file_is_an_error_that_names_it(kept, saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole"):
        checkpoint.load_model(saved)


def test_a_cut_off_config_is_an_error_that_names_it(saved):
    path = saved / "config.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        checkpoint.load_model(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_an_error_that_names_it(name, saved):
    (saved / name).unlink()
    with pytest.raises(ValueError, match=name):
        checkpoint.load_model(saved)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_holds_nan_is_refused(dtype, value, tmp_path, config, params):
    flat = {p: leaf.astype(dtype) for p, leaf in layout.flatten(params).items()}
    flat["encoder/layers_1/mlp/wo/kernel"][1, 2] = value
    checkpoint.save_model(tmp_path / "a", config=config, params=layout.unflatten(flat))
    with pytest.raises(ValueError, match="encoder/layers_1/mlp/wo/kernel holds NaN"):
        checkpoint.load_model(tmp_path / "a")


def test_any_loader_recognises_the_directory_and_takes_settings(saved, config):
    model = interop.load_model(saved, dtype="bfloat16", dropout_rate=0.0)
    assert model.config == dataclasses.replace(config, dropout_rate=0.0)
    leaves = jax.tree.leaves(model.params)
    assert {str(leaf.dtype) for leaf in leaves} == {"bfloat16"}
    with pytest.raises(ValueError, match="expected"):
        interop.load_model(saved, mlp_dim=12)


def test_what_is_no_model_is_an_error_that_says_what_is_expected(tmp_path):
    with pytest.raises(
        ValueError, match="is not a directory; expected a tfew_jax model"
    ):
        interop.load_model(tmp_path / "none")
    with pytest.raises(ValueError, match="expected a tfew_jax model"):
        interop.load_model(tmp_path)


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_listed_shapes_are_those_of_the_model(per_layer, gated, tied, config):
    config = dataclasses.replace(
        config,
        relpos_per_layer=per_layer,
        mlp_activations=("gelu", "linear") if gated else ("relu",),
        logits_via_embedding=tied,
        scan_layers=False,
    )
    expected = layout.shapes_of(models.abstract_params(config))
    assert layout.model_shapes(config) == expected


def test_sizes_read_off_the_shapes_are_those_of_the_model(config):
    read = layout.config_from_shapes(layout.model_shapes(config), source="here")
    assert read == config


@pytest.fixture
def saved(tmp_path, config, params):
    directory = tmp_path / "model"
    checkpoint.save_model(directory, config=config, params=params)
    return directory


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_same(one, other):
    ours, theirs = layout.flatten(one), layout.flatten(other)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        assert leaf.dtype == theirs[path].dtype
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
