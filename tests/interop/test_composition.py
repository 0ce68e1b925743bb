"""Mixed batches and composed adapters against PEFT's, one adapter at a time."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from tfew_jax import checkpoint, interop


@pytest.fixture(scope="module")
def pair(golden):
    """The golden model with two adapters, and what PEFT computed with them."""
    model = interop.load_model(golden.folder / "huggingface" / "v1_1")
    adapters = {
        name: interop.load_adapter(golden.folder / "peft" / name, model.config)
        for name in ("t5", "t5_b")
    }
    with np.load(golden.folder / "composition.npz") as arrays:
        expected = {
            name.removesuffix(".logits"): value
            for name, value in arrays.items()
            if name.endswith(".logits")
        }
        return model, adapters, expected, arrays["weights"].tolist()


def assert_logits(parity, actual, expected, inputs):
    parity.assert_agree(actual["logits"], expected, inputs["labels"] > 0)


def test_rows_of_a_golden_batch_each_have_their_adapter(pair, golden, parity):
    model, adapters, expected, _ = pair
    expected = expected | {"__base__": golden.huggingface["v1_1.logits"]}
    bank = checkpoint.Bank(adapters=adapters, capacity=3)
    for names in (["t5_b", "__base__", "t5"], ["t5", "t5", "t5_b"]):
        actual = parity.outputs(model, golden.inputs, bank, bank.index(names))
        rows = [expected[name][row] for row, name in enumerate(names)]
        assert_logits(parity, actual, np.stack(rows), golden.inputs)


def test_composed_golden_adapters_are_those_of_peft(pair, golden, parity):
    model, adapters, expected, weights = pair
    both = checkpoint.compose([*adapters.values()])
    weighted = checkpoint.compose([*adapters.values()], weights)
    for name, adapter in (("two_active", both), ("weighted", weighted)):
        actual = parity.outputs(model, golden.inputs, adapter)
        assert_logits(parity, actual, expected[name], golden.inputs)


def test_mixed_and_composed_adapters_agree_with_the_fixtures(fixture_files, parity):
    folder = fixture_files.folder
    model = interop.load_model(folder / "base")
    adapters = {
        name: interop.load_adapter(folder / path, model.config)
        for name, path in (("a", "ia3"), ("b", "ia3_b"))
    }
    inputs, _ = fixture_files.load("ia3")
    bank = checkpoint.Bank(adapters=adapters)
    names = json.loads((folder / "ia3" / "mixed_expected.json").read_text())
    index = bank.index(names["adapter_names"])
    expected = load_file(folder / "ia3" / "mixed_expected.safetensors")
    actual = parity.outputs(model, inputs, bank, index)
    assert_logits(parity, actual, expected["logits_mixed_expected"], inputs)

    for weights, file, key in (
        (None, "two_active", "logits_a_times_b"),
        ([0.25, 0.75], "weighted_025a_075b", "logits"),
    ):
        one = checkpoint.compose([*adapters.values()], weights)
        expected = load_file(folder / "ia3" / f"{file}.safetensors")[key]
        actual = parity.outputs(model, inputs, one)
        assert_logits(parity, actual, expected, inputs)


def test_five_prompts_in_one_batch_agree_with_the_fixtures(fixture_files, parity):
    folder = fixture_files.folder
    model = interop.load_model(folder / "base")
    names = [f"p{number}" for number in range(5)]
    bank = checkpoint.Bank(
        adapters={
            name: interop.load_adapter(folder / "prompt_ensemble" / name, model.config)
            for name in names
        }
    )
    inputs = load_file(folder / "base" / "inputs.safetensors")
    num_rows = len(inputs["input_ids"])
    batch = {name: np.tile(value, (5, 1)) for name, value in inputs.items()}
    index = bank.index([name for name in names for _ in range(num_rows)])
    actual = parity.outputs(model, batch, bank, index)
    path = folder / "prompt_ensemble" / "per_prompt_logits.safetensors"
    expected = load_file(path)["per_prompt_logits"]
    assert_logits(parity, actual, expected.reshape(-1, *expected.shape[2:]), batch)
