import dataclasses
import json

import numpy as np
import one_line
import pytest
import wrong_tasks
from safetensors.numpy import load_file, save_file

from tfew_jax import checkpoint, interop
from tfew_jax.checkpoint import layout
from tfew_jax.peft import ia3

TASK = {"template": "Wie war's? {{text}}", "choices": ["schlecht", "gut"]}


def test_an_adapter_comes_back_bit_by_bit(saved, adapter):
    assert_same(checkpoint.load_adapter(saved), adapter)


def test_any_loader_recognises_the_directory(saved, adapter):
    assert_same(interop.load_adapter(saved), adapter)
    assert_same(interop.load_adapter(saved, adapter.config), adapter)


def test_an_adapter_is_some_kilobytes_and_holds_no_base(saved):
    assert sum(path.stat().st_size for path in saved.iterdir()) < 5000
    names = load_file(saved / "adapter.safetensors")
    assert all("/ia3_" in name for name in names)


def test_saving_twice_gives_the_same_bytes(saved, adapter, tmp_path):
    adapter.save(tmp_path / "again")
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_attaching_keeps_the_base_and_adds_the_vectors(adapter, params):
    merged = layout.flatten(adapter.attach(params))
    assert merged.keys() == {*layout.flatten(params), *layout.flatten(adapter.params)}
    path = "decoder/layers_0/mlp/wo/kernel"
    assert merged[path] is layout.flatten(params)[path]


def test_a_full_disk_leaves_the_earlier_adapter_alone(saved, adapter, full_disk):
    doubled = {p: 2 * leaf for p, leaf in layout.flatten(adapter.params).items()}
    other = dataclasses.replace(adapter, params=layout.unflatten(doubled))
    with full_disk(300), pytest.raises(OSError, match="could not be written"):
        other.save(saved)
    assert_same(checkpoint.load_adapter(saved), adapter)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "format version 2; this tfew_jax reads up to 1"),
        ({"format": "x"}, "does not describe a tfew_jax adapter"),
        ({"method": {"name": "lorra"}}, "unknown PEFT method 'lorra'"),
        ({"method": {"name": "ia3", "rank": 3}}, r"unknown settings \['rank'\]"),
        ({"method": {"name": "ia3", "sites": ["query"]}}, r"can act at key, value"),
        ({"method": None}, "method must hold the method's name"),
        ({"model": {}}, "lacks emb_dim"),
    ],
)
def test_settings_that_cannot_be_read_are_an_error(changes, message, saved):
    edit(saved, **changes)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load_adapter(saved)
    assert "tfew_adapter.json" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(("changes", "message"), wrong_tasks.CASES)
def test_a_task_or_metadata_that_cannot_be_read_is_an_error(changes, message, saved):
    edit(saved, **changes)
    error = one_line.message_of(checkpoint.load_adapter, saved)
    assert "tfew_adapter.json: " in error and message in error


def test_a_task_that_cannot_be_read_is_not_saved(adapter, tmp_path):
    broken = dataclasses.replace(adapter, task={"normalization": "median"})
    error = one_line.message_of(broken.save, tmp_path / "broken")
    assert "normalization of the task must be 'mean' or 'sum'" in error


def test_a_task_may_leave_open_what_has_a_default(adapter, tmp_path):
    task = {"lengths": None, "label_column": None, "template_names": None, "own": 5}
    dataclasses.replace(adapter, task=task, metadata={}).save(tmp_path / "open")
    edit(tmp_path / "open", metadata=None)
    loaded = checkpoint.load_adapter(tmp_path / "open")
    assert (loaded.task, loaded.metadata) == (task, {})


def test_vectors_of_other_sites_than_the_method_are_named(saved):
    edit(saved, method={"name": "ia3", "sites": ["key", "value"]})
    with pytest.raises(ValueError, match=r"unexpected .*ia3_mlp_hidden/scale"):
        checkpoint.load_adapter(saved)


def test_a_missing_vector_is_named(saved):
    path = saved / "adapter.safetensors"
    arrays = load_file(path)
    name = "encoder/layers_1/attention/ia3_value/scale"
    save_file({k: v for k, v in arrays.items() if k != name}, path)
    with pytest.raises(ValueError, match=f"lacks {name}"):
        checkpoint.load_adapter(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_named(value, saved):
    path = saved / "adapter.safetensors"
    arrays = load_file(path)
    arrays["encoder/layers_1/attention/ia3_value/scale"][3] = value
    save_file(arrays, path)
    with pytest.raises(
        ValueError, match="layers_1/attention/ia3_value/scale holds NaN"
    ):
        checkpoint.load_adapter(saved)


def test_an_adapter_of_another_size_is_refused(saved, config):
    wide = dataclasses.replace(config, mlp_dim=12)
    with pytest.raises(ValueError, match=r"has shape \(10,\), expected \(12,\)"):
        checkpoint.load_adapter(saved, wide)
    deep = dataclasses.replace(config, num_encoder_layers=3)
    with pytest.raises(ValueError, match="lacks encoder/layers_2"):
        checkpoint.load_adapter(saved, deep)


def test_an_adapter_for_the_same_shapes_serves_a_model_with_other_numerics(
    saved, config
):
    checkpoint.load_adapter(saved, dataclasses.replace(config, dtype="bfloat16"))


@pytest.mark.parametrize("name", ["tfew_adapter.json", "adapter.safetensors"])
def test_a_cut_off_or_missing_file_is_an_error_that_names_it(name, saved):
    path = saved / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=name):
        checkpoint.load_adapter(saved)
    path.unlink()
    with pytest.raises(ValueError, match=name):
        checkpoint.load_adapter(saved)


def test_an_adapter_with_nan_is_not_saved(adapter, tmp_path):
    flat = layout.flatten(adapter.params)
    flat = {p: np.full_like(leaf, np.nan) for p, leaf in flat.items()}
    broken = dataclasses.replace(adapter, params=layout.unflatten(flat))
    with pytest.raises(ValueError, match="holds NaN"):
        broken.save(tmp_path / "broken")
    assert not any(tmp_path.iterdir())


def test_a_bank_is_not_saved_as_one_adapter(adapter, tmp_path):
    bank = dataclasses.replace(adapter, method=ia3.IA3(num_adapters=2))
    with pytest.raises(ValueError, match="holds 2 adapters"):
        bank.save(tmp_path / "bank")


def test_an_adapter_given_as_the_model_is_told_so(saved):
    with pytest.raises(ValueError, match="is an adapter"):
        interop.load_model(saved)


def test_what_is_no_adapter_is_an_error_that_says_what_is_expected(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"expected a directory with tfew_adapter"):
            interop.load_adapter(path)


@pytest.fixture
def adapter(config):
    rng = np.random.default_rng(1)
    shapes = layout.adapter_shapes(config, ia3.IA3())
    flat = {p: rng.normal(1, 0.2, s).astype(np.float32) for p, s in shapes.items()}
    return checkpoint.Adapter(
        method=ia3.IA3(),
        params=layout.unflatten(flat),
        config=config,
        task=TASK,
        metadata={"seed": 42},
    )


@pytest.fixture
def saved(adapter, tmp_path):
    directory = tmp_path / "runs" / "adapter"
    adapter.save(directory)
    return directory


def edit(directory, **changes):
    path = directory / "tfew_adapter.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_same(one, other):
    assert (one.method, one.config) == (other.method, other.config)
    assert (one.task, one.metadata) == (other.task, other.metadata)
    ours, theirs = layout.flatten(one.params), layout.flatten(other.params)
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)
