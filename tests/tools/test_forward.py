import importlib.util
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tfew_jax import checkpoint, interop

HUGGINGFACE = pathlib.Path("tests", "golden", "huggingface")
PEFT = pathlib.Path("tests", "golden", "peft")


@pytest.fixture
def forward(repository, tmp_path, monkeypatch, capsys):
    """Runs the tool; returns its outputs and what it said on stderr."""
    path = repository / "tools" / "forward.py"
    spec = importlib.util.spec_from_file_location("forward", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(repository)

    def run(*arguments, inputs, status=0):
        files = ["--inputs", str(tmp_path / "inputs.safetensors")]
        files += ["--out", str(tmp_path / "out.safetensors")]
        save_file(inputs, files[1])
        capsys.readouterr()
        assert module.main([*map(str, arguments), *files]) == status
        outputs = load_file(files[3]) if pathlib.Path(files[3]).exists() else {}
        return outputs, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def golden(repository):
    folder = repository / "tests" / "golden"
    with np.load(folder / "huggingface.npz") as arrays:
        base = dict(arrays)
    with np.load(folder / "peft.npz") as arrays:
        adapters = dict(arrays)
    inputs = {
        name: base[f"inputs.{name}"]
        for name in ("input_ids", "attention_mask", "labels")
    }
    return {"inputs": inputs, **base, **adapters}


def assert_parity(actual, expected, inputs):
    """At every position that is not padding, relative to the largest."""
    for name, value in expected.items():
        ids = inputs["labels" if name == "logits" else "input_ids"]
        assert actual[name].shape == value.shape
        assert actual[name].dtype == np.float32
        largest = np.abs(value[ids > 0]).max()
        np.testing.assert_allclose(
            actual[name][ids > 0], value[ids > 0], rtol=0, atol=2e-5 * largest
        )


def test_logits_and_encoder_outputs_of_a_hugging_face_model(forward, golden):
    inputs = golden["inputs"]
    outputs, _ = forward("--model", HUGGINGFACE / "v1_1", inputs=inputs)
    expected = {
        name: golden[f"v1_1.{name}"] for name in ("logits", "encoder_last_hidden_state")
    }
    assert outputs.keys() == expected.keys()
    assert_parity(outputs, expected, inputs)


def test_a_peft_adapter_and_given_decoder_inputs(forward, golden):
    labels = np.maximum(golden["inputs"]["labels"], 0)
    shifted = np.pad(labels[:, :-1], ((0, 0), (1, 0)))
    inputs = {"input_ids": golden["inputs"]["input_ids"], "decoder_input_ids": shifted}
    outputs, _ = forward(
        *("--model", HUGGINGFACE / "v1_1", "--adapter", PEFT / "mt5"),
        inputs=inputs,
    )
    expected = {"logits": golden["mt5.logits"]}
    assert_parity(outputs, expected, golden["inputs"])


def test_a_prompt_and_the_encoder_outputs_of_its_rows(forward, golden):
    model = ("--model", HUGGINGFACE / "v1_1")
    with pytest.warns(UserWarning, match="PEFT reads the first 4 of 8 rows"):
        outputs, _ = forward(
            *model, "--adapter", PEFT / "prompt", inputs=golden["inputs"]
        )
    assert outputs["encoder_last_hidden_state"].shape == (3, 4 + 19, 20)
    expected = {"logits": golden["prompt.logits"]}
    assert_parity(outputs, expected, golden["inputs"])


def test_native_model_and_adapter_give_the_same(forward, golden, tmp_path, repository):
    model = interop.load_model(repository / HUGGINGFACE / "v1_0")
    checkpoint.save_model(tmp_path / "model", config=model.config, params=model.params)
    adapter = interop.load_adapter(repository / PEFT / "ungated", model.config)
    adapter.save(tmp_path / "adapter")
    outputs, _ = forward(
        *("--model", tmp_path / "model", "--adapter", tmp_path / "adapter"),
        inputs=golden["inputs"],
    )
    assert_parity(outputs, {"logits": golden["ungated.logits"]}, golden["inputs"])


def test_settings_take_the_place_of_a_missing_config(
    forward, golden, tmp_path, repository
):
    weights = tmp_path / "model" / "model.safetensors"
    weights.parent.mkdir()
    shutil.copyfile(repository / HUGGINGFACE / "v1_0" / weights.name, weights)
    outputs, _ = forward(
        *("--model", weights.parent, "--relpos-max-distance", 12, "--num-heads", 2),
        *("--activation", "relu", "--scale-decoder-outputs", "true"),
        *("--layer-norm-epsilon", "1e-6"),
        inputs=golden["inputs"],
    )
    assert_parity(outputs, {"logits": golden["v1_0.logits"]}, golden["inputs"])


def test_a_t5x_checkpoint_and_all_adapters_of_the_fixtures(forward, shared):
    folder = shared / "fixtures"
    with np.load(folder / "t5x_tiny" / "logits.npz") as arrays:
        inputs = {
            "input_ids": arrays["encoder_input_tokens"],
            "decoder_input_ids": arrays["decoder_input_tokens"],
            "labels": arrays["decoder_target_tokens"],
        }
        expected = {
            "logits": arrays["logits"],
            "encoder_last_hidden_state": arrays["encoded"],
        }
    model = folder / "t5x_tiny" / "checkpoint_200"
    outputs, _ = forward("--model", model, inputs=inputs)
    assert_parity(outputs, expected, inputs)

    inputs = load_file(folder / "peft" / "base" / "inputs.safetensors")
    expected = load_file(folder / "peft" / "ia3" / "outputs.safetensors")
    expected = {name: expected[name] for name in outputs}
    for adapter in ("ia3", "ia3/tfew/finish.pt"):
        outputs, _ = forward(
            *("--model", folder / "peft" / "base"),
            *("--adapter", folder / "peft" / adapter),
            inputs=inputs,
        )
        assert_parity(outputs, expected, inputs)


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        (["--model", "nowhere"], {}, "error: model nowhere is not a directory"),
        (
            ["--model", HUGGINGFACE / "v1_0", "--adapter", PEFT / "t5"],
            {},
            "adapter_model.safetensors has unexpected",
        ),
        (
            ["--model", HUGGINGFACE / "v1_0"],
            {"input_ids": np.full((3, 19), 90)},
            "input_ids go from 90 to 90; the model has ids 0 to 89",
        ),
        (
            ["--model", HUGGINGFACE / "v1_0"],
            {"labels": np.ones((2, 4), np.int64)},
            "must be [batch, target_length] with batch 3; got (2, 4)",
        ),
        (
            ["--model", HUGGINGFACE / "v1_0"],
            {"attention_mask": np.ones((3, 4), np.int64)},
            "must have one shape [batch, length]; got (3, 19) and (3, 4)",
        ),
        (["--model", HUGGINGFACE / "v1_0", "--num-heads", "0"], {}, "--num-heads must"),
        (
            ["--model", HUGGINGFACE / "v1_0", "--activation", "tanh"],
            {},
            "mlp_activations must be",
        ),
    ],
)
def test_errors_are_one_line_and_exit_with_2(
    arguments, change, message, forward, golden
):
    inputs = golden["inputs"] | change
    outputs, words = forward(*arguments, inputs=inputs, status=2)
    assert outputs == {}
    assert len(words.splitlines()) == 1
    assert message in words


def test_debug_shows_the_traceback(forward, golden):
    with pytest.raises(ValueError, match="is not a directory"):
        forward("--model", "nowhere", "--debug", inputs=golden["inputs"])


def test_as_a_command_it_exits_with_2_and_no_traceback(repository):
    command = [sys.executable, "tools/forward.py", "--model", "nowhere"]
    command += ["--inputs", "nothing", "--out", "nothing"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: model nowhere is not a directory")
    assert len(done.stderr.splitlines()) == 1


def test_missing_inputs_are_named(forward, golden):
    model = ("--model", HUGGINGFACE / "v1_0")
    inputs = {"tokens": golden["inputs"]["input_ids"]}
    _, words = forward(*model, inputs=inputs, status=2)
    assert "lacks input_ids; it has ['tokens']" in words
    inputs = {"input_ids": golden["inputs"]["input_ids"]}
    _, words = forward(*model, inputs=inputs, status=2)
    assert "neither decoder_input_ids nor labels" in words
