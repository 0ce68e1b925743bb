"""A bank's directory: every adapter comes back, and what is broken is told."""

import dataclasses
import json

import numpy as np
import one_line
import pytest
import wrong_tasks
from safetensors.numpy import load_file, save_file

import tfew_jax
from tfew_jax import checkpoint
from tfew_jax.checkpoint import layout

TASK = {"template": "Wie war's? {{text}}", "choices": ["schlecht", "gut"]}


@pytest.fixture
def bank(config, make_adapter):
    return checkpoint.Bank(
        adapters={
            "rte": make_adapter(config, seed=1, task=TASK, metadata={"seed": 42}),
            "Wie war's?": make_adapter(config, seed=2, sites=("value",)),
            "a": make_adapter(config, seed=3),
        },
        capacity=5,
    )


@pytest.fixture
def saved(bank, tmp_path):
    directory = tmp_path / "banks" / "three"
    bank.save(directory)
    return directory


def test_a_bank_comes_back_bit_by_bit_in_its_order(bank, saved, config):
    for loaded in (checkpoint.load_bank(saved), tfew_jax.load_bank(saved)):
        assert loaded.names == bank.names and loaded.config == config
        assert loaded.capacity == len(bank)
        for name, adapter in bank.items():
            assert_same(loaded[name], adapter)


def test_prompts_of_several_lengths_come_back(config, make_adapter, tmp_path):
    lengths = [(3, 0), (7, 2), (0, 1)]
    bank = checkpoint.Bank(
        adapters={
            str(n): make_adapter(config, "prompt", seed=n, length=a, decoder_length=b)
            for n, (a, b) in enumerate(lengths)
        }
    )
    bank.save(tmp_path / "prompts")
    loaded = checkpoint.load_bank(tmp_path / "prompts")
    for name, adapter in bank.items():
        assert_same(loaded[name], adapter)


def test_no_array_of_the_file_has_an_adapters_axis(bank, saved, config):
    arrays = load_file(saved / "bank.safetensors")
    assert len(arrays) == sum(len(layout.flatten(a.params)) for a in bank.values())
    for name, array in arrays.items():
        owner, _, path = name.partition("/")
        assert array.shape == layout.adapter_shapes(config, bank[owner].method)[path]


def test_an_adapter_taken_out_of_a_bank_is_saved_alone(bank, saved, tmp_path):
    checkpoint.load_bank(saved)["rte"].save(tmp_path / "alone")
    assert_same(checkpoint.load_adapter(tmp_path / "alone"), bank["rte"])


def test_a_full_disk_leaves_the_earlier_bank_alone(bank, saved, full_disk):
    fewer = bank.remove("a")
    with full_disk(300), pytest.raises(OSError, match="could not be written"):
        fewer.save(saved)
    assert checkpoint.load_bank(saved).names == bank.names
    fewer.save(saved)
    assert checkpoint.load_bank(saved).names == fewer.names
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_bank_does_not_replace_what_is_no_bank(bank, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds other files and no tfew_bank\.json"):
        bank.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", ".a", "__a__", "a\nb"])
def test_names_that_cannot_stand_in_a_file_are_refused(name, bank, saved):
    with pytest.raises(ValueError, match="cannot name an adapter in a file"):
        bank.rename("a", name).save(saved.parent / "other")
    edit_adapter(saved, 1, name=name)
    with pytest.raises(ValueError, match="cannot name an adapter in a file") as error:
        checkpoint.load_bank(saved)
    assert "tfew_bank.json" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "format version 2; this tfew_jax reads up to 1"),
        ({"format": "tfew_jax adapter"}, "does not describe a tfew_jax bank"),
        ({"adapters": []}, "must be a list of at least one adapter"),
        ({"adapters": [{"method": {"name": "ia3"}}]}, "adapter 0 of the list has no"),
        ({"adapters": ["rte"]}, "adapter 0 of the list has no name"),
        ({"model": {}}, "lacks emb_dim"),
    ],
)
def test_settings_that_cannot_be_read_are_an_error(changes, message, saved):
    edit(saved, **changes)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load_bank(saved)
    assert "tfew_bank.json" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "rte"}, "describes two adapters named 'rte'"),
        ({"name": "b"}, r"has a/.*, but tfew_bank\.json has no adapter 'a'"),
        ({"method": {"name": "lorra"}}, "adapter a: method: unknown PEFT method"),
        ({"method": None}, "adapter a: method must hold the method's name"),
        ({"method": {"name": "ia3", "sites": ["key"]}}, "adapter a has unexpected"),
    ],
)
def test_an_adapter_that_does_not_fit_its_description_is_named(changes, message, saved):
    edit_adapter(saved, 2, **changes)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load_bank(saved)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("changes", "message"), wrong_tasks.CASES)
def test_a_task_or_metadata_that_cannot_be_read_is_named(changes, message, saved):
    edit_adapter(saved, 2, **changes)
    error = one_line.message_of(checkpoint.load_bank, saved)
    assert "tfew_bank.json, adapter a: " in error and message in error


def test_an_array_that_is_missing_or_not_finite_is_named(saved):
    path = saved / "bank.safetensors"
    arrays = load_file(path)
    name = "a/encoder/layers_1/attention/ia3_value/scale"
    save_file({k: v for k, v in arrays.items() if k != name}, path)
    with pytest.raises(ValueError, match="adapter a lacks encoder/layers_1/attention"):
        checkpoint.load_bank(saved)
    save_file(arrays | {name: np.full_like(arrays[name], np.nan)}, path)
    with pytest.raises(ValueError, match="ia3_value/scale holds NaN"):
        checkpoint.load_bank(saved)


@pytest.mark.parametrize("name", ["tfew_bank.json", "bank.safetensors"])
def test_a_cut_off_or_missing_file_is_an_error_that_names_it(name, saved):
    path = saved / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=name):
        checkpoint.load_bank(saved)
    path.unlink()
    with pytest.raises(ValueError, match=name):
        checkpoint.load_bank(saved)


def test_a_bank_of_another_model_is_refused(saved, config):
    wide = dataclasses.replace(config, mlp_dim=12)
    with pytest.raises(ValueError, match=r"adapter rte, for the .* expected \(12,\)"):
        checkpoint.load_bank(saved, wide)


def edit(directory, **changes):
    path = directory / "tfew_bank.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_adapter(directory, number, **changes):
    content = json.loads((directory / "tfew_bank.json").read_text())
    content["adapters"][number] |= changes
    edit(directory, **content)


def assert_same(one, other):
    assert (one.method, one.config) == (other.method, other.config)
    assert (one.task, one.metadata) == (other.task, other.metadata)
    ours, theirs = layout.flatten(one.params), layout.flatten(other.params)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
