"""Prompts of PEFT and of google-research/prompt-tuning, in and out."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfew_jax import checkpoint, interop, models
from tfew_jax.checkpoint import layout
from tfew_jax.peft import ia3, prompt

PATH = "encoder_input/prompt/embedding"
GRADIENT = "grad.prompt_encoder.embedding.weight"


@pytest.fixture(params=["prompt", "prompt_encoder"])
def peft_golden(request, golden, v1_1):
    """Name, adapter and what PEFT computed."""
    name = request.param
    adapter = load(golden.folder / "peft" / name, v1_1.config)
    values = {
        key.removeprefix(f"{name}."): value
        for key, value in golden.peft.items()
        if key.startswith(f"{name}.")
    }
    return name, adapter, values


def load(directory, config):
    content = json.loads((directory / "adapter_config.json").read_text())
    if content["num_transformer_submodules"] == 1:
        return interop.load_adapter(directory, config)
    with pytest.warns(
        UserWarning, match=r"reads the first \d+ of \d+ rows; the others"
    ):
        return interop.load_adapter(directory, config)


def rows_of(adapter):
    return np.asarray(layout.flatten(adapter.params)[PATH])


def assert_gradient(grads, expected):
    """PEFT has a gradient at the rows that it reads, and none at the others."""
    assert grads.keys() == {PATH}
    length = len(grads[PATH])
    largest = np.abs(expected).max()
    np.testing.assert_allclose(
        grads[PATH], expected[:length], rtol=0, atol=5e-5 * largest
    )
    np.testing.assert_array_equal(expected[length:], 0)


def test_golden_prompts_compute_and_learn_what_they_do_in_peft(
    peft_golden, golden, v1_1, parity
):
    _, adapter, values = peft_golden
    assert adapter.method.to_dict() == prompt.Prompt(length=4).to_dict()
    logits = parity.outputs(v1_1, golden.inputs, adapter)["logits"]
    parity.assert_agree(logits, values["logits"], golden.inputs["labels"] > 0)
    loss, grads = parity.loss_and_grads(v1_1, golden.inputs, adapter)
    np.testing.assert_allclose(loss, values["loss"], rtol=1e-5)
    assert_gradient(grads, values[GRADIENT])


@pytest.mark.parametrize("name", ["prompt", "prompt_enc_only"])
def test_prompts_agree_with_the_fixtures(name, fixture_files, parity):
    model = interop.load_model(fixture_files.folder / "base")
    adapter = load(fixture_files.folder / name, model.config)
    inputs, expected = fixture_files.load(name)
    actual = parity.outputs(model, inputs, adapter)
    parity.assert_agree(actual["logits"], expected["logits"], inputs["labels"] > 0)
    seen = np.pad(inputs["input_ids"] > 0, ((0, 0), (6, 0)), constant_values=True)
    encoded = "encoder_last_hidden_state"
    assert actual[encoded].shape == expected[encoded].shape
    parity.assert_agree(actual[encoded], expected[encoded], seen)
    loss, grads = parity.loss_and_grads(model, inputs, adapter)
    np.testing.assert_allclose(loss, expected["loss"][0], rtol=1e-5)
    gradient = expected["grad.prompt_encoder.default.embedding.weight"]
    assert_gradient(grads, gradient)

    decode = jax.jit(
        models.greedy_decode, static_argnums=0, static_argnames="max_length"
    )
    tokens, _ = decode(
        models.T5(model.config, adapter.method),
        models.stack_layers(adapter.attach(model.params)),
        {"encoder_input_tokens": inputs["input_ids"].astype(np.int32)},
        max_length=8,
    )
    np.testing.assert_array_equal(tokens, expected["generate_greedy"][:, 1:])


def test_saving_what_peft_wrote_gives_its_file_back(peft_golden, golden, tmp_path):
    name, adapter, _ = peft_golden
    adapter.save(tmp_path / "native")  # rows that PEFT does not read stay, too
    kept = checkpoint.load_adapter(tmp_path / "native")
    for number, each in enumerate((adapter, kept)):
        saved = tmp_path / str(number)
        interop.peft.save_adapter(saved, each)
        source = golden.folder / "peft" / name
        theirs = load_file(source / "adapter_model.safetensors")
        ours = load_file(saved / "adapter_model.safetensors")
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value)
        contents = [
            json.loads((folder / "adapter_config.json").read_text())
            for folder in (source, saved)
        ]
        del contents[0]["peft_version"]
        assert contents[0] == contents[1]


def test_peft_itself_loads_what_we_save(golden, v1_1, tmp_path, parity):
    torch = pytest.importorskip("torch", reason="needs the extra peer")
    transformers = pytest.importorskip("transformers", reason="needs the extra peer")
    library = pytest.importorskip("peft", reason="needs the extra peer")
    adapter = random_prompt(v1_1.config)
    interop.peft.save_adapter(tmp_path / "saved", adapter)
    theirs = library.PeftModel.from_pretrained(
        transformers.T5ForConditionalGeneration.from_pretrained(
            golden.folder / "huggingface" / "v1_1", dtype=torch.float32
        ),
        tmp_path / "saved",
    )
    inputs = {key: torch.from_numpy(value) for key, value in golden.inputs.items()}
    with torch.no_grad():
        logits = theirs.eval()(**inputs).logits.numpy()
    ours = parity.outputs(v1_1, golden.inputs, adapter)["logits"]
    parity.assert_agree(ours, logits, golden.inputs["labels"] > 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_virtual_tokens": 5}, r"has shape \(8, 20\), expected \(10, 20\)"),
        ({"num_virtual_tokens": 0}, "num_virtual_tokens must be a positive integer"),
        ({"num_transformer_submodules": ...}, "num_transformer_submodules must be"),
        ({"peft_type": "P_TUNING"}, "'P_TUNING'; only IA3 and PROMPT_TUNING are read"),
    ],
)
def test_a_config_that_does_not_fit_is_an_error(changes, message, golden, copied, v1_1):
    directory = copied(golden.folder / "peft" / "prompt")
    path = directory / "adapter_config.json"
    content = json.loads(path.read_text()) | changes
    content = {name: value for name, value in content.items() if value is not ...}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        interop.load_adapter(directory, v1_1.config)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_that_are_no_prompt_of_the_model_are_an_error(golden, copied, v1_1):
    directory = copied(golden.folder / "peft" / "prompt_encoder")
    path = directory / "adapter_model.safetensors"
    rows = load_file(path)["prompt_embeddings"]
    save_file({"prompt_embeddings": rows[:, :16]}, path)
    with pytest.raises(ValueError, match=r"shape \(4, 16\), expected \(4, 20\)"):
        interop.load_adapter(directory, v1_1.config)
    save_file({"embeddings": rows}, path)
    with pytest.raises(ValueError, match="lacks prompt_embeddings"):
        interop.load_adapter(directory, v1_1.config)
    rows[2, 3] = np.nan
    save_file({"prompt_embeddings": rows}, path)
    with pytest.raises(ValueError, match="encoder_input/prompt/embedding holds NaN"):
        interop.load_adapter(directory, v1_1.config)


def test_unknown_fields_are_ignored_with_a_warning(golden, copied, v1_1):
    directory = copied(golden.folder / "peft" / "prompt_encoder", colour="blue")
    with pytest.warns(UserWarning, match="ignoring unknown fields colour"):
        interop.load_adapter(directory, v1_1.config)


@pytest.mark.parametrize("name", ["sst2", "mrpc", "rte"])
def test_released_prompts_are_adapters_of_t5_base(name, shared, tmp_path):
    source = shared / "data" / "prompts_lm100k_base" / f"{name}.npy"
    adapter = interop.load_adapter(source, models.SIZES["base"])
    assert adapter.method.num_parameters(adapter.config) == 76_800
    np.testing.assert_array_equal(rows_of(adapter), np.load(source))
    interop.numpy_prompt.save_adapter(tmp_path / "again.npy", adapter)
    assert (tmp_path / "again.npy").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", ["mine.npy", "encoder.prompt.prompt.prompt"])
def test_a_prompt_survives_its_numpy_file(name, v1_1, tmp_path):
    adapter = random_prompt(v1_1.config)
    interop.numpy_prompt.save_adapter(tmp_path / name, adapter)
    loaded = interop.load_adapter(tmp_path / name, v1_1.config)
    assert loaded.method == adapter.method
    np.testing.assert_array_equal(rows_of(loaded), rows_of(adapter))


def test_files_that_are_no_prompt_of_the_model_are_errors(v1_1, tmp_path):
    path = tmp_path / "wide.npy"
    np.save(path, np.zeros((3, 24), np.float32))
    with pytest.raises(ValueError, match=r"rows of 24 numbers, .* have 20"):
        interop.load_adapter(path, v1_1.config)
    with pytest.raises(ValueError, match="needs its model's config"):
        interop.load_adapter(path)
    with pytest.raises(ValueError, match="no such file"):
        interop.load_adapter(tmp_path / "absent.npy", v1_1.config)
    with pytest.raises(ValueError, match=r"finish\.pt or a prompt as \.npy"):
        interop.load_adapter(tmp_path / "absent", v1_1.config)


def test_what_the_formats_cannot_hold_is_refused(v1_1, tmp_path):
    both = random_prompt(v1_1.config, decoder_length=2)
    other = checkpoint.Adapter(
        method=ia3.IA3(),
        params=layout.unflatten(
            {
                path: np.ones(shape, np.float32)
                for path, shape in layout.adapter_shapes(v1_1.config, ia3.IA3()).items()
            }
        ),
        config=v1_1.config,
    )
    with pytest.raises(
        ValueError, match=r"prompt of the encoder alone; .* decoder_inp"
    ):
        interop.peft.save_adapter(tmp_path / "a", both)
    with pytest.raises(ValueError, match="the numpy file holds a prompt of the encod"):
        interop.numpy_prompt.save_adapter(tmp_path / "a.npy", both)
    with pytest.raises(ValueError, match="is 'ia3'; the numpy file needs 'prompt'"):
        interop.numpy_prompt.save_adapter(tmp_path / "a.npy", other)
    assert list(tmp_path.iterdir()) == []


def random_prompt(config, **settings):
    method = prompt.Prompt(length=5, **settings)
    rng = np.random.default_rng(3)
    flat = {
        path: rng.normal(0, 1, shape).astype(np.float32)
        for path, shape in layout.adapter_shapes(config, method).items()
    }
    return checkpoint.Adapter(
        method=method, params=layout.unflatten(flat), config=config
    )
