import tracemalloc

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tfew_jax import interop, models
from tfew_jax.checkpoint import layout, tensors

ARRAYS = {
    "odd": np.arange(3, dtype=ml_dtypes.bfloat16),
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.arange(5, dtype=np.float16),
    "whole": np.arange(4, dtype=np.int64),
    "flag": np.array([True, False]),
    "scalar": np.float32(2.5).reshape(()),
    "empty": np.zeros((0, 4), np.float32),
    "jax": jnp.arange(7.0),
}


def test_the_library_reads_what_we_write(tmp_path):
    tensors.write(tmp_path / "a", ARRAYS, transposed={"matrix"}, metadata={"a": "b"})
    found = safetensors.numpy.load_file(tmp_path / "a")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        expected = np.asarray(array).T if name == "matrix" else np.asarray(array)
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)
    with safetensors.safe_open(tmp_path / "a", framework="np") as file:
        assert file.metadata() == {"a": "b"}


def test_we_read_what_the_library_writes(tmp_path):
    arrays = {name: np.asarray(array) for name, array in ARRAYS.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "a")
    with tensors.open_file(tmp_path / "a") as file:
        assert file.shapes == {name: array.shape for name, array in arrays.items()}
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.read(name), array)


def test_wide_numbers_are_aligned_behind_an_odd_count_of_narrow_ones(tmp_path):
    tensors.write(tmp_path / "a", {"a": ARRAYS["odd"], "b": ARRAYS["matrix"]})
    raw = (tmp_path / "a").read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    assert start % 8 == 0
    assert raw[start : start + 24] == ARRAYS["matrix"].tobytes()


def test_a_dtype_without_a_place_in_the_format_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="cannot hold dtype complex64"):
        tensors.write(tmp_path / "a", {"a": np.zeros(2, np.complex64)})


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_nan_and_infinity_are_found_and_nothing_else(dtype):
    largest = ml_dtypes.finfo(dtype).max
    array = np.array([0, -0.0, 1, largest, -largest], dtype)
    assert tensors.all_finite(array)
    for value in (np.nan, np.inf, -np.inf):
        array[2] = value
        assert not tensors.all_finite(array)


def test_tensors_are_written_and_read_one_at_a_time(tmp_path):
    whole, one = 24 * 2**20, 2**20  # bytes of all tensors, and of each
    arrays = {f"kernel_{n}": np.zeros((512, 512), np.float32) for n in range(24)}
    tracemalloc.start()
    try:
        tensors.write(tmp_path / "a", arrays, transposed=set(arrays))
        assert tracemalloc.get_traced_memory()[1] < 4 * one
        tracemalloc.reset_peak()
        held = {}
        with tensors.open_file(tmp_path / "a") as file:
            for name in file.shapes:
                held[name] = tensors.cast(file.read(name).T, "bfloat16")
        assert tracemalloc.get_traced_memory()[1] < whole / 2 + 4 * one
    finally:
        tracemalloc.stop()
    assert held.keys() == arrays.keys()


def test_loading_a_hugging_face_model_holds_one_copy(tmp_path):
    config = models.T5Config(
        vocab_size=64,
        emb_dim=256,
        num_heads=4,
        head_dim=64,
        mlp_dim=512,
        num_encoder_layers=8,
        num_decoder_layers=8,
    )
    flat = {
        path: np.full(shape, n, np.float32)
        for n, (path, shape) in enumerate(layout.model_shapes(config).items())
    }
    interop.huggingface.save_model(
        tmp_path / "a", config=config, params=layout.unflatten(flat)
    )
    whole = sum(leaf.nbytes for leaf in flat.values())
    largest = max(leaf.nbytes for leaf in flat.values())
    interop.load_model(tmp_path / "a")  # the first call imports and traces
    tracemalloc.start()
    try:
        loaded = interop.load_model(tmp_path / "a", dtype="bfloat16")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert loaded.config == config
    assert whole / 2 < peak < whole / 2 + 4 * largest + 2**20
