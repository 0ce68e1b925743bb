import gzip
import json
import math
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts
from flax import serialization

from tfew_jax import interop, models
from tfew_jax.checkpoint import layout

CONFIG = models.T5Config(
    vocab_size=19,
    emb_dim=6,
    num_heads=2,
    head_dim=5,
    mlp_dim=7,
    num_encoder_layers=3,
    num_decoder_layers=2,
    relpos_buckets=4,
)


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "fixtures" / "t5x_tiny"
    with np.load(folder / "logits.npz") as arrays:
        return folder, dict(arrays)


def forward(model, arrays, prefix="", **segments):
    tokens = jnp.asarray(arrays[f"{prefix}encoder_input_tokens"])
    inputs = jnp.asarray(arrays[f"{prefix}decoder_input_tokens"])[:, None]
    run = jax.jit(models.forward, static_argnums=0)
    logits, encoded = run(
        models.T5(model.config),
        models.stack_layers(model.params),
        encoder_input_tokens=tokens,
        decoder_input_tokens=inputs,
        **segments,
    )
    return logits[:, 0], encoded


def test_logits_and_encoder_outputs_agree_with_t5x(reference, parity):
    folder, arrays = reference
    model = interop.load_model(folder / "checkpoint_200")
    logits, encoded = forward(model, arrays)
    parity.assert_agree(encoded, arrays["encoded"], arrays["encoder_input_tokens"] > 0)
    is_target = arrays["decoder_target_tokens"] > 0
    parity.assert_agree(logits, arrays["logits"], is_target)


def test_scores_agree_with_t5x(reference):
    folder, arrays = reference
    model = interop.load_model(folder / "checkpoint_200")
    batch = {
        "encoder_input_tokens": jnp.asarray(arrays["encoder_input_tokens"]),
        "decoder_target_tokens": jnp.asarray(arrays["decoder_target_tokens"])[:, None],
    }
    log_probs = models.token_log_probs(
        models.T5(model.config), as_jax(models.stack_layers(model.params)), batch
    )
    np.testing.assert_allclose(
        log_probs.sum((1, 2)), arrays["score"], rtol=1e-5, atol=0
    )


def test_greedy_and_beam_outputs_are_those_of_t5x(reference):
    folder, arrays = reference
    model = interop.load_model(folder / "checkpoint_200")
    batch = {"encoder_input_tokens": arrays["encoder_input_tokens"]}
    for decode, name in (
        (models.greedy_decode, "greedy"),
        (models.beam_decode, "beam4"),
    ):
        run = jax.jit(decode, static_argnums=0, static_argnames="max_length")
        tokens, scores = run(
            models.T5(model.config),
            models.stack_layers(model.params),
            batch,
            max_length=24,
        )
        np.testing.assert_array_equal(tokens, arrays[f"{name}_decodes"])
        if name == "beam4":
            np.testing.assert_allclose(scores, arrays["beam4_scores"], rtol=1e-5)


def test_packed_logits_agree_with_t5x(reference, parity):
    folder, arrays = reference
    model = interop.load_model(folder / "checkpoint_200")
    logits, _ = forward(
        model,
        arrays,
        "packed_",
        encoder_segment_ids=jnp.asarray(arrays["packed_encoder_segment_ids"]),
        decoder_segment_ids=jnp.asarray(arrays["packed_decoder_segment_ids"])[:, None],
    )
    is_target = arrays["packed_decoder_target_tokens"] > 0
    parity.assert_agree(logits, arrays["packed_logits"], is_target)


def test_orbax_and_scanned_checkpoints_of_t5x_load(reference):
    folder, arrays = reference
    legacy = interop.load_model(folder / "checkpoint_200")
    orbax = interop.load_model(folder / "orbax_checkpoint_200")
    assert orbax.config == legacy.config
    assert layout.shapes_of(orbax.params) == layout.shapes_of(legacy.params)
    scanned = interop.load_model(folder / "scan_bf16_checkpoint_4")
    assert scanned.config.relpos_per_layer
    assert layout.shapes_of(scanned.params) == layout.model_shapes(scanned.config)
    tables = [
        layout.flatten(scanned.params)[f"encoder/layers_{i}/relpos_bias/rel_embedding"]
        for i in range(2)
    ]
    assert not np.array_equal(*tables)
    for model in (orbax, scanned):
        logits, _ = forward(model, arrays)
        assert bool(jnp.isfinite(logits).all())


def test_the_scanned_checkpoint_stays_bfloat16_unless_asked(reference):
    folder, _ = reference
    params = interop.load_model(folder / "scan_bf16_checkpoint_4").params
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"bfloat16"}
    params = interop.load_model(
        folder / "scan_bf16_checkpoint_4", dtype="float32"
    ).params
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float32"}


@pytest.mark.parametrize("form", ["legacy", "scanned", "orbax", "orbax_files"])
def test_every_form_gives_the_parameters_that_were_written(form, tmp_path):
    params = random_params(form == "scanned")
    write(tmp_path / "checkpoint_7", params, form)
    model = interop.load_model(tmp_path / "checkpoint_7")
    assert model.config == config_of(form)
    found = layout.flatten(model.params)
    assert found.keys() == params.keys()
    for path, leaf in params.items():
        np.testing.assert_array_equal(found[path], leaf, err_msg=path)


@pytest.mark.parametrize("form", ["legacy", "scanned", "orbax"])
def test_sizes_and_embedding_are_read_without_the_rest(form, tmp_path):
    params = random_params(form == "scanned")
    write(tmp_path / "checkpoint_7", params, form)
    assert interop.load_config(tmp_path / "checkpoint_7") == config_of(form)
    table, vocabulary = interop.load_embedding(tmp_path / "checkpoint_7")
    np.testing.assert_array_equal(table, params["token_embedder/embedding"])
    assert vocabulary is None


def test_a_checkpoint_without_an_embedding_is_an_error(tmp_path):
    params = random_params()
    del params["token_embedder/embedding"]
    write(tmp_path / "checkpoint_7", params, "legacy")
    with pytest.raises(ValueError, match="has no token_embedder/embedding"):
        interop.load_embedding(tmp_path / "checkpoint_7")


def test_bfloat16_arrays_load_and_are_cast(tmp_path):
    params = random_params()
    write(tmp_path / "a", params, "legacy", dtype=ml_dtypes.bfloat16)
    found = layout.flatten(interop.load_model(tmp_path / "a", dtype="float32").params)
    for path, leaf in params.items():
        rounded = leaf.astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(found[path], rounded)


def test_a_checkpoint_written_to_a_bucket_loads_from_a_folder(tmp_path):
    params = random_params()
    write(tmp_path / "a", params, "legacy", bucket=True)
    found = layout.flatten(interop.load_model(tmp_path / "a").params)
    for path, leaf in params.items():
        np.testing.assert_array_equal(found[path], leaf)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("largest_chunk", [2**30, 100])
def test_arrays_inside_the_msgpack_file_load_whole_and_in_chunks(
    dtype, largest_chunk, tmp_path, monkeypatch
):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", largest_chunk)
    params = random_params()
    write(tmp_path / "a", params, "legacy", inline=set(params), dtype=dtype)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["checkpoint"]
    found = layout.flatten(interop.load_model(tmp_path / "a").params)
    for path, leaf in params.items():
        assert found[path].dtype == dtype
        np.testing.assert_array_equal(found[path], leaf.astype(dtype))


def test_sizes_that_shapes_do_not_tell_are_settings(tmp_path):
    write(tmp_path / "a", random_params(), "legacy")
    config = interop.load_model(
        tmp_path / "a", relpos_max_distance=20, mlp_activations=("silu", "linear")
    ).config
    assert config.relpos_max_distance == 20
    assert config.mlp_activations == ("silu", "linear")
    with pytest.raises(ValueError, match=r"relpos_bias/rel_embedding has shape"):
        interop.load_model(tmp_path / "a", num_heads=5)


def test_a_tied_ungated_checkpoint_is_t5_1_0(tmp_path):
    params = {
        path.replace("wi_0", "wi"): leaf
        for path, leaf in random_params().items()
        if "wi_1" not in path and "logits_dense" not in path
    }
    write(tmp_path / "a", params, "legacy")
    config = interop.load_model(tmp_path / "a").config
    assert config.mlp_activations == ("relu",)
    assert config.logits_via_embedding and config.scale_decoder_outputs


@pytest.mark.parametrize("form", ["legacy", "orbax", "orbax_files"])
def test_a_missing_array_is_an_error_that_names_it(form, tmp_path):
    directory = tmp_path / "checkpoint_7"
    params = random_params()
    write(directory, params, form)
    name = "target.encoder.layers_1.mlp.wo.kernel"
    if form == "orbax":
        path = directory / "state" / "manifest.ocdbt"
        path.unlink()
        name = "missing or damaged"
    else:
        (array,) = directory.rglob(name)
        shutil.rmtree(array)
        name = "encoder.layers_1.mlp.wo.kernel is missing"
    if form == "legacy":
        name = "encoder/layers_1/mlp/wo/kernel is missing"
    with pytest.raises(ValueError, match=name) as caught:
        interop.load_model(directory)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_chunk_is_an_error_and_never_zeros(tmp_path):
    directory = tmp_path / "checkpoint_7"
    write(directory, random_params(), "legacy")
    (directory / "target.token_embedder.embedding" / "0.0").unlink()
    with pytest.raises(ValueError, match="token_embedder/embedding cannot be read"):
        interop.load_model(directory)


def test_a_cut_off_chunk_is_an_error(tmp_path):
    directory = tmp_path / "checkpoint_7"
    write(directory, random_params(), "legacy")
    chunk = directory / "target.token_embedder.embedding" / "0.0"
    chunk.write_bytes(chunk.read_bytes()[:-9])
    with pytest.raises(ValueError, match="token_embedder/embedding cannot be read"):
        interop.load_model(directory)


def test_a_cut_off_checkpoint_file_is_an_error(tmp_path):
    write(tmp_path / "a", random_params(), "legacy")
    path = tmp_path / "a" / "checkpoint"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"checkpoint is not a whole T5X checkpoint"):
        interop.load_model(tmp_path / "a")


def test_missing_and_unexpected_parameters_are_named(tmp_path):
    params = random_params()
    lacking = {k: v for k, v in params.items() if k != "decoder/decoder_norm/scale"}
    write(tmp_path / "a", lacking, "legacy")
    with pytest.raises(ValueError, match="lacks decoder/decoder_norm/scale"):
        interop.load_model(tmp_path / "a")
    more = {**params, "encoder/prompt/prompt": np.ones((2, 6), np.float32)}
    write(tmp_path / "b", more, "legacy")
    with pytest.raises(ValueError, match="unexpected encoder/prompt/prompt"):
        interop.load_model(tmp_path / "b")


def test_the_folder_above_names_the_checkpoints_to_give(tmp_path):
    write(tmp_path / "checkpoint_7", random_params(), "legacy")
    with pytest.raises(ValueError, match="holds the T5X checkpoints checkpoint_7"):
        interop.load_model(tmp_path)


def as_jax(tree):
    return jax.tree.map(jnp.asarray, tree)


def config_of(form):
    per_layer = {"relpos_per_layer": True} if form == "scanned" else {}
    return models.T5Config.from_dict({**CONFIG.to_dict(), **per_layer})


def random_params(per_layer=False):
    """Unstacked parameters by path."""
    config = config_of("scanned" if per_layer else "legacy")
    rng = np.random.default_rng(11)
    shapes = layout.model_shapes(config)
    return {p: rng.normal(size=shapes[p]).astype(np.float32) for p in sorted(shapes)}


def write(directory, params, form, **settings):
    """Writes parameters in one of T5X's forms."""
    if form == "legacy":
        write_legacy(directory, params, **settings)
    elif form == "scanned":
        write_legacy(directory, scanned(params), **settings)
    else:
        write_orbax(directory, params, use_ocdbt=form == "orbax")


def scanned(params):
    """Layers on axis 1, heads apart, one relative position table a layer."""
    stacks = {}
    for path, leaf in params.items():
        stack, layer, rest = ([*path.split("/", 2), ""])[:3]
        if not layer.startswith("layers_"):
            stacks[path] = leaf
            continue
        if rest.endswith("out/kernel"):
            leaf = leaf.reshape(CONFIG.num_heads, CONFIG.head_dim, -1)
        elif "attention/" in rest and rest.endswith("/kernel"):
            leaf = leaf.reshape(-1, CONFIG.num_heads, CONFIG.head_dim)
        stacks.setdefault(f"{stack}/{stack}/{rest}", {})[int(layer[7:])] = leaf
    return {
        path: np.stack([v[i] for i in range(len(v))], 1) if isinstance(v, dict) else v
        for path, v in stacks.items()
    }


def write_legacy(directory, params, *, dtype=None, bucket=False, inline=()):
    target, state = {}, {"step": np.int32(7)}
    directory.mkdir(parents=True)
    for path, leaf in params.items():
        name = "target." + path.replace("/", ".")
        leaf = leaf if dtype is None else leaf.astype(dtype)
        store = {"driver": "file", "path": f"{name}/"}
        if bucket:
            store = {"driver": "gcs", "bucket": "t5x-dummy-bucket"} | {
                "path": f"somewhere/else/{name}/"
            }
        value = {"driver": "zarr", "dtype": str(leaf.dtype), "kvstore": store}
        if path in inline:
            value = leaf
        else:
            write_zarr(directory / name, leaf)
        *parents, last = path.split("/")
        node = target
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    content = {"version": 3, "optimizer": {"target": target, "state": state}}
    (directory / "checkpoint").write_bytes(serialization.msgpack_serialize(content))


def write_zarr(directory, array):
    """A zarr-2 array of gzip chunks, by hand, two chunks on the first axis."""
    directory.mkdir()
    rows = math.ceil(array.shape[0] / 2)
    chunk = [rows, *array.shape[1:]]
    kind = "bfloat16" if array.dtype == ml_dtypes.bfloat16 else array.dtype.str
    settings = {
        "zarr_format": 2,
        "shape": list(array.shape),
        "chunks": chunk,
        "dtype": kind,
        "compressor": {"id": "gzip", "level": 1},
        "fill_value": None,
        "filters": None,
        "order": "C",
        "dimension_separator": ".",
    }
    (directory / ".zarray").write_text(json.dumps(settings))
    for n in range(math.ceil(array.shape[0] / rows)):
        part = array[n * rows : (n + 1) * rows]
        padding = [(0, rows - len(part))] + [(0, 0)] * (array.ndim - 1)
        name = ".".join(["0"] * array.ndim).replace("0", str(n), 1)
        raw = np.pad(part, padding).tobytes()
        (directory / name).write_bytes(gzip.compress(raw, 1))


def write_orbax(directory, params, *, use_ocdbt):
    """The layout that orbax gives a T5X train state, with one optimizer slot."""
    state = directory / "state"
    state.mkdir(parents=True)
    arrays = {("target", *path.split("/")): leaf for path, leaf in params.items()}
    arrays["state", "step"] = np.asarray(7, np.int32)
    metadata = {}
    for key, leaf in arrays.items():
        name = ".".join(key)
        store = {"driver": "file", "path": f"{state / name}/"}
        if use_ocdbt:
            base = {"driver": "file", "path": f"{state}/"}
            store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        spec = {"driver": "zarr", "kvstore": store}
        opened = ts.open(
            ts.Spec(spec), create=True, dtype=leaf.dtype.name, shape=leaf.shape
        ).result()
        opened.write(leaf).result()
        metadata[str(key)] = {
            "key_metadata": [{"key": part, "key_type": 2} for part in key],
            "value_metadata": {"value_type": "jax.Array"},
        }
    metadata["('target', 'none')"] = {
        "key_metadata": [{"key": "target", "key_type": 2}, {"key": "none"}],
        "value_metadata": {"value_type": "None"},
    }
    content = {"tree_metadata": metadata, "use_ocdbt": use_ocdbt, "use_zarr3": False}
    (state / "_METADATA").write_text(json.dumps(content))
