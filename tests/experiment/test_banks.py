"""Banks from the directories that people have."""

import logging
import shutil

import numpy as np
import pytest

import tfew_jax
from tfew_jax import checkpoint, experiment, interop


@pytest.fixture
def adapter(tested):
    return tested.adapter


@pytest.fixture
def folder(adapter, tested, tmp_path):
    """Adapters of three kinds, and what is none."""
    folder = tmp_path / "adapters"
    adapter.save(folder / "ours")
    interop.peft.save_adapter(folder / "theirs", adapter)
    interop.tfew.save_adapter(folder / "official.pt", adapter)
    run = folder / "run"
    run.mkdir()
    for name in ("settings.json", "FINISHED"):
        shutil.copy(tested.directory / name, run)
    adapter.save(run / "adapter")
    adapter.save(folder / ".hidden")
    (folder / "README.md").write_text("Adapters of films.")
    return folder


def prompt_file(path, base, length):
    rows = np.ones((length, base.config.emb_dim), np.float32)
    np.save(path, rows)
    return path


def test_a_directory_of_adapters_is_a_bank(folder, adapter, base):
    bank = experiment.load_bank(folder, base, capacity=8)
    assert bank.names == ("official", "ours", "run", "theirs")
    assert bank.capacity == 8
    fingerprints = {member.fingerprint for member in bank.values()}
    assert fingerprints == {adapter.fingerprint}
    assert bank["run"].task == adapter.task and bank["theirs"].task is None


def test_the_seeds_of_a_run_are_a_bank(tested):
    bank = tfew_jax.load_bank(tested.directory / "runs")
    assert bank.names == ("seed-1", "seed-3")
    bank = tfew_jax.load_bank([tested.directory / "runs" / "seed-3", tested.directory])
    assert bank.names == ("seed-3", tested.directory.name)


def test_paths_and_names_choose_adapters(folder, adapter, base, tmp_path):
    bank = tfew_jax.load_bank([folder / "run" / "adapter", folder / "ours"])
    assert bank.names == ("run", "ours")
    bank = tfew_jax.load_bank({"a": folder / "run", "b": adapter}, base)
    assert bank.names == ("a", "b")
    bank.save(tmp_path / "saved")
    for source in (tmp_path / "saved", str(tmp_path / "saved")):
        assert isinstance(tfew_jax.load_bank(source, base), tfew_jax.Bank)
    more = tfew_jax.load_bank([tmp_path / "saved", folder / "theirs"], base)
    assert more.names == ("a", "b", "theirs")
    assert tfew_jax.load_bank(folder / "ours").names == ("ours",)


def test_prompts_of_numpy_files_are_a_bank(base, tmp_path):
    for name, length in (("short", 2), ("long", 5)):
        prompt_file(tmp_path / f"{name}.npy", base, length)
    bank = experiment.load_bank(tmp_path, base)
    assert {name: bank[name].method.length for name in bank} == {"short": 2, "long": 5}


def test_an_adapter_of_other_weights_is_noted_by_its_name(
    adapter, base_directory, caplog
):
    model = checkpoint.load_model(base_directory)
    model.params["token_embedder"]["embedding"] *= 1.1
    caplog.set_level(logging.WARNING)
    experiment.load_bank({"films": adapter}, experiment.make_base(model))
    assert "adapter films was trained on another model" in caplog.text


def test_what_is_no_bank_is_told_in_one_line(folder, adapter, base, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    unfinished = tmp_path / "unfinished"
    shutil.copytree(folder / "run", unfinished)
    (unfinished / "FINISHED").unlink()
    foreign = tmp_path / "foreign"
    (foreign / "notes").mkdir(parents=True)
    prompt = prompt_file(tmp_path / "prompt.npy", base, 3)
    for source, message in (
        ([], "no adapters to load; give at least one"),
        ({}, "no adapters to load; give at least one"),
        (empty, r"empty: expected tfew_bank\.json or a sub-directory for each"),
        (tmp_path / "none", "none: there is no such directory"),
        (unfinished, "unfinished is not finished"),
        (foreign, "notes: expected a directory with tfew_adapter"),
        ([folder / "ours", folder / "ours"], "two adapters are named 'ours', .*ours"),
        ([adapter], "adapter 0 has no name; give a mapping"),
        ({"__base__": adapter}, "'__base__' is no name for an adapter"),
        ({"": adapter}, "'' is no name for an adapter"),
        ([folder / "ours", prompt], "adapter prompt: .* of the method 'prompt', not"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            experiment.load_bank(source, base)
        assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match="theirs needs its model's config"):
        experiment.load_bank(folder / "theirs")


def test_an_adapter_of_another_model_is_named(adapter, base, tmp_path):
    rows = np.ones((3, base.config.emb_dim + 1), np.float32)
    np.save(tmp_path / "wide.npy", rows)
    with pytest.raises(ValueError, match=r"wide\.npy has rows of 17 numbers"):
        experiment.load_bank(tmp_path, base)
