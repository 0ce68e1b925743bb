"""What the parity tests share: running a model, and where it must agree."""

import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from tfew_jax import checkpoint, interop, models


def _forward(model, method, params, inputs, adapter_index=None):
    tokens, mask = inputs["input_ids"], inputs.get("attention_mask")
    mask = tokens > 0 if mask is None else mask > 0
    decoder_tokens = inputs.get("decoder_input_ids")
    if decoder_tokens is None:
        labels = jnp.maximum(jnp.asarray(inputs["labels"], jnp.int32), 0)
        decoder_tokens = models.shift_right(labels[:, None])[:, 0]
    logits, encoded = _jitted(
        models.T5(model.config, method),
        models.stack_layers(params),
        encoder_input_tokens=jnp.asarray(tokens, jnp.int32),
        decoder_input_tokens=jnp.asarray(decoder_tokens, jnp.int32)[:, None],
        encoder_mask=jnp.asarray(mask),
        adapter_index=adapter_index,
    )
    return logits[:, 0], encoded


_jitted = jax.jit(models.forward, static_argnums=0)


def _outputs(model, inputs, adapter=None, adapter_index=None):
    """Logits and encoder outputs of a model with an adapter, a bank or neither."""
    params = model.params if adapter is None else adapter.attach(model.params)
    method = None if adapter is None else adapter.method
    logits, encoded = _forward(model, method, params, inputs, adapter_index)
    return {
        "logits": np.asarray(logits),
        "encoder_last_hidden_state": np.asarray(encoded),
    }


def _loss_and_grads(model, inputs, adapter):
    """Mean negative log-likelihood of the labels, and its gradient by path."""
    labels = jnp.asarray(inputs["labels"], jnp.int32)
    counted = labels > 0

    def loss(vectors):
        params = checkpoint.layout.merge(model.params, vectors)
        logits, _ = _forward(model, adapter.method, params, inputs)
        targets = jnp.maximum(labels, 0)[:, None]
        log_probs = models.target_log_probs(
            logits[:, None], targets, mask=counted[:, None]
        )
        return -log_probs.sum() / counted.sum()

    value, grads = jax.jit(jax.value_and_grad(loss))(adapter.params)
    return value, checkpoint.layout.flatten(grads)


def _assert_agree(actual, expected, where, *, tolerance=2e-5):
    """Compares at the given positions, relative to the largest number there."""
    actual, expected = np.asarray(actual)[where], np.asarray(expected)[where]
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=tolerance * _top(expected)
    )


def _top(x):
    return float(np.abs(x).max())


def _assert_parity(actual, expected, inputs):
    """At every position that is not padding."""
    is_input = inputs["input_ids"] > 0
    is_target = inputs["labels"] > 0
    name = "encoder_last_hidden_state"
    _assert_agree(actual[name], expected[name], is_input)
    _assert_agree(actual["logits"], expected["logits"], is_target)


@pytest.fixture(scope="session")
def parity():
    """Functions of the parity tests."""
    return SimpleNamespace(
        outputs=_outputs,
        loss_and_grads=_loss_and_grads,
        assert_agree=_assert_agree,
        assert_parity=_assert_parity,
    )


@pytest.fixture(scope="session")
def golden(repository):
    """The golden models and adapters of a clone, with inputs and outputs."""
    folder = repository / "tests" / "golden"
    with np.load(folder / "huggingface.npz") as arrays:
        huggingface = dict(arrays)
    with np.load(folder / "peft.npz") as arrays:
        peft = dict(arrays)
    inputs = {
        name.removeprefix("inputs."): value
        for name, value in huggingface.items()
        if name.startswith("inputs.")
    }
    return SimpleNamespace(
        folder=folder, inputs=inputs, huggingface=huggingface, peft=peft
    )


@pytest.fixture
def v1_1(golden):
    """The golden gated model."""
    return interop.load_model(golden.folder / "huggingface" / "v1_1")


@pytest.fixture
def v1_0(golden):
    """The golden ungated, tied model."""
    return interop.load_model(golden.folder / "huggingface" / "v1_0")


@pytest.fixture
def copied(tmp_path):
    """Copies a directory to a place where its files may be changed."""

    def copy(source, **json_changes):
        target = tmp_path / f"copy_{source.name}"
        shutil.copytree(source, target)
        for path in target.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        if json_changes:
            edit_json(target, **json_changes)
        return target

    return copy


def edit_json(directory, **changes):
    """Changes fields of the one config in a directory; `...` removes a field."""
    (path,) = [*directory.glob("config.json"), *directory.glob("adapter_config.json")]
    content = json.loads(path.read_text()) | changes
    content = {name: value for name, value in content.items() if value is not ...}
    path.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def fixture_files(shared):
    """Inputs and expected outputs beside the repository."""
    folder = shared / "fixtures" / "peft"

    def load(name, base="base"):
        inputs = load_file(folder / base / "inputs.safetensors")
        return inputs, load_file(folder / name / "outputs.safetensors")

    return SimpleNamespace(folder=folder, load=load)
