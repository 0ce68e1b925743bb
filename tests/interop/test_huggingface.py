import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfew_jax import checkpoint, interop, models
from tfew_jax.checkpoint import layout


@pytest.mark.parametrize("name", ["v1_1", "v1_0"])
def test_golden_models_compute_what_transformers_computed(name, golden, parity):
    model = interop.load_model(golden.folder / "huggingface" / name)
    expected = {
        key.removeprefix(f"{name}."): value for key, value in golden.huggingface.items()
    }
    parity.assert_parity(parity.outputs(model, golden.inputs), expected, golden.inputs)


def test_the_golden_models_cover_gated_and_ungated_tied_and_untied(v1_1, v1_0):
    gated, ungated = v1_1.config, v1_0.config
    assert gated.mlp_activations == ("gelu", "linear")
    assert ungated.mlp_activations == ("relu",)
    assert not gated.logits_via_embedding and ungated.logits_via_embedding
    assert not gated.scale_decoder_outputs and ungated.scale_decoder_outputs
    assert gated.joined_kv != gated.emb_dim
    assert gated.num_encoder_layers != gated.num_decoder_layers


@pytest.mark.parametrize("style", ["config.json", "config.hub_style.json"])
def test_base_agrees_with_the_fixture_under_both_styles_of_config(
    style, fixture_files, copied, parity
):
    directory = copied(fixture_files.folder / "base")
    (directory / style).rename(directory / "config.json")
    inputs, expected = fixture_files.load("base")
    model = interop.load_model(directory)
    parity.assert_parity(parity.outputs(model, inputs), expected, inputs)


def test_base_square_agrees_with_the_fixture(fixture_files, parity):
    inputs, expected = fixture_files.load("base_square", base="base_square")
    model = interop.load_model(fixture_files.folder / "base_square")
    parity.assert_parity(parity.outputs(model, inputs), expected, inputs)


def test_both_styles_of_config_mean_the_same(golden, copied, v1_1):
    source = golden.folder / "huggingface" / "v1_1"
    old = copied(source, tie_word_embeddings=False, scale_decoder_outputs=...)
    assert interop.load_model(old).config == v1_1.config


def test_an_lm_head_equal_to_the_embedding_is_tied(golden, copied, v1_0):
    directory = copied(golden.folder / "huggingface" / "v1_0")
    weights = load_file(directory / "model.safetensors")
    for copy in ("lm_head", "encoder.embed_tokens", "decoder.embed_tokens"):
        weights[f"{copy}.weight"] = weights["shared.weight"]
    save_file(weights, directory / "model.safetensors")
    model = interop.load_model(directory)
    assert model.config == v1_0.config
    assert layout.shapes_of(model.params) == layout.shapes_of(v1_0.params)


def test_the_embedding_may_stand_under_its_other_names_only(golden, copied, v1_1):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    weights = load_file(directory / "model.safetensors")
    weights["encoder.embed_tokens.weight"] = weights.pop("shared.weight")
    save_file(weights, directory / "model.safetensors")
    assert_same_params(interop.load_model(directory), v1_1)


@pytest.mark.parametrize("name", ["v1_0", "v1_1"])
def test_sizes_and_embedding_are_read_without_the_rest(name, golden, request):
    model = request.getfixturevalue(name)
    directory = golden.folder / "huggingface" / name
    assert interop.load_config(directory) == model.config
    table, _ = interop.load_embedding(directory)
    expected = model.params["token_embedder"]["embedding"]
    np.testing.assert_array_equal(table, expected)


def test_the_embedding_under_another_name_and_its_vocabulary_are_found(golden, copied):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    arrays = load_file(directory / "model.safetensors")
    expected = arrays["encoder.embed_tokens.weight"] = arrays.pop("shared.weight")
    save_file(arrays, directory / "model.safetensors")
    (directory / "spiece.model").touch()
    table, vocabulary = interop.load_embedding(directory)
    np.testing.assert_array_equal(table, expected)
    assert vocabulary == directory / "spiece.model"
    del arrays["encoder.embed_tokens.weight"]
    save_file(arrays, directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"has no shared.weight; is it a T5"):
        interop.load_embedding(directory)


def test_a_native_model_gives_its_sizes_and_embedding(base_directory):
    model = interop.load_model(base_directory)
    assert interop.load_config(base_directory) == model.config
    table, vocabulary = interop.load_embedding(base_directory)
    np.testing.assert_array_equal(table, model.params["token_embedder"]["embedding"])
    assert vocabulary == model.vocabulary


def test_a_directory_without_a_model_has_neither_sizes_nor_embedding(tmp_path):
    for load in (interop.load_config, interop.load_embedding):
        with pytest.raises(ValueError, match="expected a tfew_jax model"):
            load(tmp_path)


def test_shards_load_like_a_single_file(golden, copied, v1_1):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    assert_same_params(interop.load_model(shard(directory)), v1_1)


def test_sizes_are_read_off_the_shapes_where_there_is_no_config(golden, copied, v1_1):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    (directory / "config.json").unlink()
    assert interop.load_model(directory).config.relpos_max_distance == 128
    model = interop.load_model(directory, relpos_max_distance=12)
    assert model.config == v1_1.config
    assert_same_params(model, v1_1)


def test_ungated_sizes_are_read_off_the_shapes_as_t5_1_0(golden, copied, v1_0):
    directory = copied(golden.folder / "huggingface" / "v1_0")
    (directory / "config.json").unlink()
    assert interop.load_model(directory, relpos_max_distance=12).config == v1_0.config


def test_parameters_are_cast_on_the_way(golden, v1_1):
    model = interop.load_model(golden.folder / "huggingface" / "v1_1", dtype="bfloat16")
    for path, leaf in layout.flatten(model.params).items():
        expected = layout.flatten(v1_1.params)[path].astype(leaf.dtype)
        assert str(leaf.dtype) == "bfloat16"
        np.testing.assert_array_equal(leaf, expected)


def test_other_dtypes_are_refused(golden):
    with pytest.raises(ValueError, match="must be float32 or bfloat16, got 'float16'"):
        interop.load_model(golden.folder / "huggingface" / "v1_1", dtype="float16")


def test_float16_is_loaded_as_float32(golden, copied, v1_1):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    weights = load_file(directory / "model.safetensors")
    half = {name: array.astype(np.float16) for name, array in weights.items()}
    save_file(half, directory / "model.safetensors")
    params = layout.flatten(interop.load_model(directory).params)
    assert {str(leaf.dtype) for leaf in params.values()} == {"float32"}
    for path, leaf in layout.flatten(v1_1.params).items():
        expected = np.asarray(leaf).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(params[path], expected)


@pytest.mark.parametrize("name", ["v1_1", "v1_0"])
def test_saving_and_loading_keeps_config_and_every_bit(name, request, tmp_path):
    model = request.getfixturevalue(name)
    interop.huggingface.save_model(
        tmp_path / "saved", config=model.config, params=model.params
    )
    loaded = interop.load_model(tmp_path / "saved")
    assert loaded.config == model.config
    assert_same_params(loaded, model)


@pytest.mark.parametrize("name", ["v1_1", "v1_0"])
def test_transformers_loads_what_we_save(name, request, golden, tmp_path, parity):
    torch = pytest.importorskip("torch", reason="needs the extra peer")
    transformers = pytest.importorskip("transformers", reason="needs the extra peer")
    model = request.getfixturevalue(name)
    interop.huggingface.save_model(
        tmp_path / "saved", config=model.config, params=model.params
    )
    theirs = transformers.T5ForConditionalGeneration.from_pretrained(
        tmp_path / "saved", dtype=torch.float32
    )
    inputs = {key: torch.from_numpy(value) for key, value in golden.inputs.items()}
    with torch.no_grad():
        logits = theirs.eval()(**inputs).logits.numpy()
    expected = golden.huggingface[f"{name}.logits"]
    parity.assert_agree(logits, expected, ..., tolerance=2e-6)


def test_a_model_with_a_position_table_a_layer_is_not_written(tmp_path):
    config = models.T5Config(
        vocab_size=9,
        emb_dim=4,
        num_heads=1,
        head_dim=4,
        mlp_dim=4,
        num_encoder_layers=1,
        num_decoder_layers=1,
        relpos_per_layer=True,
    )
    shapes = layout.model_shapes(config)
    params = layout.unflatten({path: np.ones(s) for path, s in shapes.items()})
    with pytest.raises(ValueError, match="one relative position table a layer"):
        interop.huggingface.save_model(tmp_path / "a", config=config, params=params)
    assert not (tmp_path / "a").exists()


def test_missing_and_unexpected_weights_are_named(golden, copied):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    weights = load_file(directory / "model.safetensors")
    name = "encoder.block.1.layer.1.DenseReluDense.wo.weight"
    moved = {**weights, "encoder.block.1.layer.1.adapter.weight": weights[name]}
    save_file(moved, directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"unexpected encoder\.block\.1.*adapter"):
        interop.load_model(directory)
    del weights[name]
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(ValueError, match="lacks encoder/layers_1/mlp/wo/kernel"):
        interop.load_model(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_ff": 29}, r"mlp/wi_0/kernel has shape \(20, 28\), expected \(20, 29\)"),
        ({"vocab_size": 100}, r"has shape \(20, 90\), expected \(20, 100\)"),
        ({"num_decoder_layers": 2}, "unexpected decoder/layers_2"),
        ({"feed_forward_proj": "gated-tanh"}, "feed_forward_proj is 'gated-tanh'"),
        ({"model_type": "umt5"}, "model_type is 'umt5'; only t5 and mt5"),
        ({"num_heads": 0}, "num_heads must be positive"),
        ({"d_model": "big"}, "config.json: emb_dim must be int, got 'big'"),
    ],
)
def test_a_config_that_does_not_fit_is_an_error(changes, message, golden, copied):
    directory = copied(golden.folder / "huggingface" / "v1_1", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        interop.load_model(directory)
    assert len(str(caught.value).splitlines()) == 1


def test_a_cut_off_file_is_an_error_that_names_it(golden, copied):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole"):
        interop.load_model(directory)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.safetensors is not a whole"):
        interop.load_model(directory)


def test_a_missing_shard_is_an_error_that_names_it(golden, copied):
    directory = shard(copied(golden.folder / "huggingface" / "v1_1"))
    (directory / "model-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model-2\.safetensors does not exist"):
        interop.load_model(directory)


def test_nan_is_an_error_that_names_the_tensor(golden, copied):
    directory = copied(golden.folder / "huggingface" / "v1_1")
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.weight"][3, 4] = np.nan
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"lm_head\.weight holds NaN"):
        interop.load_model(directory)


def test_a_pickled_model_is_refused_with_a_way_out(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"save_pretrained"):
        interop.load_model(tmp_path)


def test_unknown_settings_are_refused(golden):
    with pytest.raises(ValueError, match=r"unknown model fields \['num_head'\]"):
        interop.load_model(golden.folder / "huggingface" / "v1_1", num_head=2)


def test_a_given_config_takes_the_place_of_the_file(golden, copied, v1_1):
    directory = copied(golden.folder / "huggingface" / "v1_1", num_heads=3)
    assert_same_params(interop.load_model(directory, config=v1_1.config), v1_1)


def shard(directory):
    """Splits a single file into two shards with an index."""
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    index = {}
    for n in (1, 2):
        part = {k: weights[k] for k in sorted(weights)[n - 1 :: 2]}
        save_file(part, directory / f"model-{n}.safetensors")
        index |= dict.fromkeys(part, f"model-{n}.safetensors")
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return directory


def assert_same_params(one: checkpoint.Model, other: checkpoint.Model):
    ours, theirs = layout.flatten(one.params), layout.flatten(other.params)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
