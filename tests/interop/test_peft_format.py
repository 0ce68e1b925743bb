import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfew_jax import checkpoint, interop, models, peft
from tfew_jax.checkpoint import layout
from tfew_jax.peft import ia3

GOLDEN = [("t5", "v1_1"), ("mt5", "v1_1"), ("ungated", "v1_0")]
FIXTURES = ["ia3", "ia3_b", "ia3_wi1"]


@pytest.mark.parametrize(("name", "base"), GOLDEN)
def test_golden_adapters_compute_what_peft_computed(
    name, base, golden, request, parity
):
    model = request.getfixturevalue(base)
    adapter = interop.load_adapter(golden.folder / "peft" / name, model.config)
    logits = parity.outputs(model, golden.inputs, adapter)["logits"]
    is_target = golden.inputs["labels"] > 0
    parity.assert_agree(logits, golden.peft[f"{name}.logits"], is_target)


@pytest.mark.parametrize(("name", "base"), GOLDEN)
def test_golden_gradients_are_those_of_peft(name, base, golden, request, parity):
    model = request.getfixturevalue(base)
    adapter = interop.load_adapter(golden.folder / "peft" / name, model.config)
    loss, grads = parity.loss_and_grads(model, golden.inputs, adapter)
    np.testing.assert_allclose(loss, golden.peft[f"{name}.loss"], rtol=1e-5)
    expected = {
        path_of(key.removeprefix(f"{name}.grad.")): np.ravel(value)
        for key, value in golden.peft.items()
        if key.startswith(f"{name}.grad.")
    }
    assert grads.keys() == expected.keys()
    largest = max(np.abs(value).max() for value in expected.values())
    for path, value in expected.items():
        np.testing.assert_allclose(
            grads[path], value, rtol=0, atol=5e-5 * largest, err_msg=path
        )


@pytest.mark.parametrize("name", FIXTURES)
def test_adapters_agree_with_the_fixtures(name, fixture_files, parity):
    model = interop.load_model(fixture_files.folder / "base")
    adapter = interop.load_adapter(fixture_files.folder / name, model.config)
    inputs, expected = fixture_files.load(name)
    parity.assert_parity(parity.outputs(model, inputs, adapter), expected, inputs)


def test_adapters_generate_what_peft_generates(fixture_files):
    model = interop.load_model(fixture_files.folder / "base")
    decode = jax.jit(
        models.greedy_decode, static_argnums=0, static_argnames="max_length"
    )
    for name in FIXTURES:
        adapter = interop.load_adapter(fixture_files.folder / name, model.config)
        inputs, expected = fixture_files.load(name)
        tokens, _ = decode(
            models.T5(model.config, adapter.method),
            models.stack_layers(adapter.attach(model.params)),
            {"encoder_input_tokens": inputs["input_ids"].astype(np.int32)},
            max_length=8,
        )
        generated = expected["generate_greedy"][:, 1:]  # without the start token
        np.testing.assert_array_equal(tokens, generated, err_msg=name)


@pytest.mark.parametrize("name", FIXTURES)
def test_every_gradient_agrees_with_the_fixtures(name, fixture_files, parity):
    model = interop.load_model(fixture_files.folder / "base")
    adapter = interop.load_adapter(fixture_files.folder / name, model.config)
    inputs, expected = fixture_files.load(name)
    loss, grads = parity.loss_and_grads(model, inputs, adapter)
    np.testing.assert_allclose(loss, expected["loss"][0], rtol=1e-5)
    gradients = {
        path_of(key.removeprefix("grad.").removesuffix(".default")): np.ravel(value)
        for key, value in expected.items()
        if key.startswith("grad.")
    }
    assert grads.keys() == gradients.keys()
    largest = max(np.abs(value).max() for value in gradients.values())
    for path, value in gradients.items():
        np.testing.assert_allclose(
            grads[path], value, rtol=0, atol=5e-5 * largest, err_msg=path
        )


def test_folding_gives_the_base_that_peft_merged(fixture_files, parity):
    model = interop.load_model(fixture_files.folder / "base")
    adapter = interop.load_adapter(fixture_files.folder / "ia3", model.config)
    folded = layout.flatten(adapter.method.fold(adapter.attach(model.params)))
    merged = interop.load_model(fixture_files.folder / "ia3" / "merged_base")
    expected = layout.flatten(merged.params)
    assert folded.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_allclose(folded[path], leaf, rtol=1e-6, err_msg=path)
    inputs, outputs = fixture_files.load("ia3")
    parity.assert_parity(parity.outputs(merged, inputs), outputs, inputs)


def test_the_published_vectors_of_t0_3b_are_540672_numbers(fixture_files):
    adapter = interop.load_adapter(
        fixture_files.folder / "ia3_t03b_real", models.SIZES["xl"]
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(adapter.params)) == 540_672
    assert adapter.method == ia3.IA3()


@pytest.mark.parametrize("style", ["t5", "mt5"])
def test_saving_and_loading_keeps_every_bit(style, v1_1, tmp_path):
    adapter = random_adapter(v1_1.config)
    interop.peft.save_adapter(tmp_path / "saved", adapter, style=style)
    loaded = interop.load_adapter(tmp_path / "saved", v1_1.config)
    assert loaded.method == adapter.method
    assert_same_params(loaded, adapter)


def test_saving_what_peft_wrote_gives_its_file_back(golden, v1_1, tmp_path):
    source = golden.folder / "peft" / "t5"
    adapter = interop.load_adapter(source, v1_1.config)
    interop.peft.save_adapter(tmp_path / "saved", adapter)
    theirs = load_file(source / "adapter_model.safetensors")
    ours = load_file(tmp_path / "saved" / "adapter_model.safetensors")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value)


@pytest.mark.parametrize(
    ("style", "base"), [("t5", "v1_1"), ("mt5", "v1_1"), ("t5", "v1_0")]
)
def test_peft_itself_loads_what_we_save(style, base, golden, request, tmp_path, parity):
    torch = pytest.importorskip("torch", reason="needs the extra peer")
    transformers = pytest.importorskip("transformers", reason="needs the extra peer")
    library = pytest.importorskip("peft", reason="needs the extra peer")
    model = request.getfixturevalue(base)
    adapter = random_adapter(model.config)
    interop.peft.save_adapter(tmp_path / "saved", adapter, style=style)
    theirs = library.PeftModel.from_pretrained(
        transformers.T5ForConditionalGeneration.from_pretrained(
            golden.folder / "huggingface" / base, dtype=torch.float32
        ),
        tmp_path / "saved",
    )
    inputs = {key: torch.from_numpy(value) for key, value in golden.inputs.items()}
    with torch.no_grad():
        logits = theirs.eval()(**inputs).logits.numpy()
    ours = parity.outputs(model, golden.inputs, adapter)["logits"]
    parity.assert_agree(ours, logits, golden.inputs["labels"] > 0)


def test_some_sites_alone_are_saved_and_loaded(v1_1, tmp_path):
    adapter = random_adapter(v1_1.config, sites=("value", "mlp_hidden"))
    interop.peft.save_adapter(tmp_path / "saved", adapter)
    content = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert content["target_modules"] == ["v", "wo"]
    loaded = interop.load_adapter(tmp_path / "saved", v1_1.config)
    assert loaded.method.sites == ("value", "mlp_hidden")
    assert_same_params(loaded, adapter)


@pytest.mark.parametrize(
    "targets",
    [
        r".*\.(k|v|wo)",
        r".*(SelfAttention|EncDecAttention|DenseReluDense)\.(k|v|wo)",
        ["wo", "EncDecAttention.v", "SelfAttention.v", "k"],
    ],
)
def test_modules_may_be_given_as_pattern_or_list(targets, golden, copied, v1_1):
    source = golden.folder / "peft" / "t5"
    directory = copied(source, target_modules=targets, feedforward_modules=r".*\.wo")
    expected = interop.load_adapter(source, v1_1.config)
    assert_same_params(interop.load_adapter(directory, v1_1.config), expected)


def test_places_that_peft_leaves_alone_get_ones(golden, copied, v1_1):
    directory = copied(
        golden.folder / "peft" / "t5", target_modules=r"decoder\..*\.(k|v|wo)"
    )
    path = directory / "adapter_model.safetensors"
    weights = load_file(path)
    save_file({k: v for k, v in weights.items() if ".decoder." in k}, path)
    with pytest.warns(UserWarning, match=r"6 places .* get vectors of ones"):
        adapter = interop.load_adapter(directory, v1_1.config)
    flat = layout.flatten(adapter.params)
    np.testing.assert_array_equal(flat["encoder/layers_0/attention/ia3_key/scale"], 1)
    key = "base_model.model.decoder.block.2.layer.0.SelfAttention.k.ia3_l"
    np.testing.assert_array_equal(
        flat["decoder/layers_2/self_attention/ia3_key/scale"], weights[key][:, 0]
    )


def test_unknown_fields_of_the_config_are_ignored_with_a_warning(golden, copied, v1_1):
    directory = copied(golden.folder / "peft" / "t5", colour="blue")
    with pytest.warns(UserWarning, match="ignoring unknown fields colour"):
        interop.load_adapter(directory, v1_1.config)


def test_a_pickled_adapter_of_older_peft_loads(golden, copied, v1_1):
    torch = pytest.importorskip("torch", reason="needs the extra peer")
    source = golden.folder / "peft" / "t5"
    directory = copied(source)
    path = directory / "adapter_model.safetensors"
    weights = {key: torch.from_numpy(v) for key, v in load_file(path).items()}
    path.unlink()
    torch.save(weights, directory / "adapter_model.bin")
    expected = interop.load_adapter(source, v1_1.config)
    assert_same_params(interop.load_adapter(directory, v1_1.config), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LORA"}, "peft_type is 'LORA'; only IA3 and PROMPT_TUNING"),
        ({"target_modules": ["q", "v"]}, r"scales the output of .*\.q, where"),
        ({"target_modules": "all-linear"}, r"scales the output of .*, where"),
        ({"feedforward_modules": []}, r"scales the output of .*\.wo, where"),
        ({"feedforward_modules": ["k"]}, r"scales the input of .*\.k, where"),
        ({"target_modules": ["k", "v", "wo", "wi_1"]}, "both wi_1 and wo"),
        ({"target_modules": ["key"]}, "matches no module of T5"),
        ({"target_modules": ["k", "v"]}, r"unexpected base_model.*\.wo\.ia3_l"),
        ({"exclude_modules": ["v"]}, r"unexpected base_model.*\.v\.ia3_l"),
    ],
)
def test_what_cannot_be_expressed_is_an_error(changes, message, golden, copied, v1_1):
    directory = copied(golden.folder / "peft" / "t5", **changes)
    with pytest.raises(ValueError, match=message) as caught:
        interop.load_adapter(directory, v1_1.config)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_and_unexpected_keys_are_named(golden, copied, v1_1):
    directory = copied(golden.folder / "peft" / "t5")
    path = directory / "adapter_model.safetensors"
    weights = load_file(path)
    key = "base_model.model.decoder.block.1.layer.1.EncDecAttention.v.ia3_l"
    save_file({k: v for k, v in weights.items() if k != key}, path)
    with pytest.raises(ValueError, match=rf"lacks {key}"):
        interop.load_adapter(directory, v1_1.config)
    save_file({**weights, "base_model.model.lm_head.weight": weights[key]}, path)
    with pytest.raises(ValueError, match=r"unexpected base_model\.model\.lm_head"):
        interop.load_adapter(directory, v1_1.config)


def test_an_adapter_of_another_model_is_an_error(golden, v1_0, v1_1):
    with pytest.raises(ValueError, match=r"has unexpected .*block\.2"):
        interop.load_adapter(golden.folder / "peft" / "t5", v1_0.config)
    with pytest.raises(ValueError, match=r"has shape .*expected"):
        wide = models.T5Config.from_dict({**v1_1.config.to_dict(), "mlp_dim": 32})
        interop.load_adapter(golden.folder / "peft" / "t5", wide)


def test_an_adapter_needs_its_models_config(golden):
    with pytest.raises(ValueError, match="needs its model's config"):
        interop.load_adapter(golden.folder / "peft" / "t5")


def test_nan_is_an_error(golden, copied, v1_1):
    directory = copied(golden.folder / "peft" / "t5")
    path = directory / "adapter_model.safetensors"
    weights = load_file(path)
    weights["base_model.model.encoder.block.0.layer.0.SelfAttention.k.ia3_l"][2] = (
        np.nan
    )
    save_file(weights, path)
    with pytest.raises(ValueError, match="layers_0/attention/ia3_key/scale holds NaN"):
        interop.load_adapter(directory, v1_1.config)


def test_styles_that_do_not_fit_are_refused(v1_0, tmp_path):
    adapter = random_adapter(v1_0.config)
    with pytest.raises(ValueError, match="needs a gated model"):
        interop.peft.save_adapter(tmp_path / "a", adapter, style="mt5")
    with pytest.raises(ValueError, match="style must be one of t5, mt5"):
        interop.peft.save_adapter(tmp_path / "a", adapter, style="wo")


def path_of(key):
    """Our path of a gradient that is named after a PEFT parameter."""
    module = key.removeprefix("base_model.model.").removesuffix(".ia3_l")
    scales_input = module.endswith(".wo")
    return interop.peft.ia3_sites.path_of(module, scales_input=scales_input, gated=True)


def random_adapter(config, **settings):
    method = peft.get("ia3")(**settings)
    rng = np.random.default_rng(3)
    flat = {
        path: rng.normal(1, 0.3, shape).astype(np.float32)
        for path, shape in layout.adapter_shapes(config, method).items()
    }
    return checkpoint.Adapter(
        method=method, params=layout.unflatten(flat), config=config
    )


def assert_same_params(one, other):
    ours, theirs = layout.flatten(one.params), layout.flatten(other.params)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
