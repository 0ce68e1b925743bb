import dataclasses
import pickle
import zipfile

import numpy as np
import pytest

from tfew_jax import interop, models
from tfew_jax.checkpoint import layout


def test_the_published_vectors_equal_their_peft_version(shared):
    config = models.SIZES["xl"]
    pretrained = shared / "data" / "tfew_pretrained" / "t03b_ia3_finish.pt"
    ours = layout.flatten(interop.load_adapter(pretrained, config).params)
    directory = shared / "fixtures" / "peft" / "ia3_t03b_real"
    theirs = layout.flatten(interop.load_adapter(directory, config).params)
    assert sum(leaf.size for leaf in ours.values()) == 540_672
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[path], err_msg=path)


def test_the_tiny_vectors_compute_what_peft_computed(fixture_files, parity):
    model = interop.load_model(fixture_files.folder / "base")
    path = fixture_files.folder / "ia3" / "tfew" / "finish.pt"
    adapter = interop.load_adapter(path, model.config)
    inputs, expected = fixture_files.load("ia3")
    parity.assert_parity(parity.outputs(model, inputs, adapter), expected, inputs)


def test_a_file_of_torch_loads_without_torch(finish, v1_1):
    path, vectors = finish(v1_1.config)
    flat = layout.flatten(interop.load_adapter(path, v1_1.config).params)
    key = "decoder.block.2.layer.1.EncDecAttention.v.multi_lora_b"
    np.testing.assert_array_equal(
        flat["decoder/layers_2/encoder_decoder_attention/ia3_value/scale"],
        vectors[key][:, 0],
    )
    key = "encoder.block.1.layer.1.DenseReluDense.wi_1.multi_lora_b"
    np.testing.assert_array_equal(
        flat["encoder/layers_1/mlp/ia3_mlp_hidden/scale"], vectors[key][:, 0]
    )
    assert len(flat) == len(vectors)


def test_the_ungated_model_has_no_feed_forward_vector_in_this_format(finish, v1_0):
    path, vectors = finish(v1_0.config)
    adapter = interop.load_adapter(path, v1_0.config)
    assert adapter.method.sites == ("key", "value")
    assert len(layout.flatten(adapter.params)) == len(vectors)


@pytest.mark.parametrize("base", ["v1_1", "v1_0"])
def test_saving_and_loading_keeps_every_bit(base, request, finish, tmp_path):
    config = request.getfixturevalue(base).config
    path, _ = finish(config)
    adapter = interop.load_adapter(path, config)
    interop.tfew.save_adapter(tmp_path / "again.pt", adapter)
    loaded = interop.load_adapter(tmp_path / "again.pt", config)
    assert loaded.method == adapter.method
    ours, theirs = layout.flatten(loaded.params), layout.flatten(adapter.params)
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name])


def test_torch_loads_what_we_save(finish, v1_1, tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra peer")
    path, vectors = finish(v1_1.config)
    adapter = interop.load_adapter(path, v1_1.config)
    interop.tfew.save_adapter(tmp_path / "again.pt", adapter)
    loaded = torch.load(tmp_path / "again.pt", weights_only=True)
    assert loaded.keys() == vectors.keys()
    for name, vector in vectors.items():
        np.testing.assert_array_equal(loaded[name].numpy(), vector)


def test_what_torch_saves_loads(finish, v1_1, tmp_path):
    torch = pytest.importorskip("torch", reason="needs the extra peer")
    path, vectors = finish(v1_1.config)
    tensors = {
        name: torch.nn.Parameter(torch.from_numpy(vector))
        for name, vector in vectors.items()
    }
    torch.save(tensors, tmp_path / "theirs.pt")
    ours = layout.flatten(interop.load_adapter(path, v1_1.config).params)
    theirs = layout.flatten(
        interop.load_adapter(tmp_path / "theirs.pt", v1_1.config).params
    )
    assert ours.keys() == theirs.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name])


def test_an_adapter_at_other_sites_is_not_written(finish, v1_1, v1_0, tmp_path):
    path, _ = finish(v1_0.config)
    adapter = interop.load_adapter(path, v1_0.config)
    elsewhere = dataclasses.replace(adapter, config=v1_1.config)
    with pytest.raises(ValueError, match="at key, value, mlp_hidden on this model"):
        interop.tfew.save_adapter(tmp_path / "a.pt", elsewhere)
    assert not (tmp_path / "a.pt").exists()


def test_missing_and_unexpected_vectors_are_named(finish, v1_1):
    key = "encoder.block.0.layer.0.SelfAttention.k.multi_lora_b"
    path, _ = finish(v1_1.config, without=key)
    with pytest.raises(ValueError, match=f"lacks {key}"):
        interop.load_adapter(path, v1_1.config)
    path, _ = finish(v1_1.config, also="encoder.block.0.multi_lora_a")
    with pytest.raises(ValueError, match=r"unexpected encoder\.block\.0\.multi_lora_a"):
        interop.load_adapter(path, v1_1.config)


def test_vectors_of_another_size_are_an_error(finish, v1_1):
    path, _ = finish(v1_1.config)
    wide = models.T5Config.from_dict({**v1_1.config.to_dict(), "mlp_dim": 99})
    with pytest.raises(ValueError, match=r"has shape \(28, 1\), expected \(99, 1\)"):
        interop.load_adapter(path, wide)


def test_a_cut_off_file_is_an_error_that_names_it(finish, v1_1):
    path, _ = finish(v1_1.config)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"finish\.pt is not a whole file"):
        interop.load_adapter(path, v1_1.config)


@pytest.mark.parametrize("member", ["data.pkl", "data/0"])
def test_damaged_bytes_are_an_error(member, finish, v1_1):
    path, _ = finish(v1_1.config)
    with zipfile.ZipFile(path) as archive:
        content = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in content.items():
            archive.writestr(name, raw[:-8] if name.endswith(member) else raw)
    with pytest.raises(ValueError, match=r"finish\.pt is not a whole file"):
        interop.load_adapter(path, v1_1.config)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path, v1_1):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "finish.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("finish/data.pkl", pickle.dumps({"a": Trap()}, 2))
    with pytest.raises(ValueError, match="it names"):
        interop.load_adapter(path, v1_1.config)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_archive_is_an_error(tmp_path, v1_1):
    (tmp_path / "finish.pt").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="not a whole file of torch"):
        interop.load_adapter(tmp_path / "finish.pt", v1_1.config)


@pytest.fixture
def finish(tmp_path):
    """Writes a finish.pt byte by byte as torch.save does, without torch."""

    def write(config, *, without="", also=""):
        rng = np.random.default_rng(5)
        vectors = {
            f"{module}.multi_lora_b": rng.normal(1, 0.2, (size, 1)).astype(np.float32)
            for module, size in modules(config)
        }
        vectors.pop(without, None)
        if also:
            vectors[also] = np.ones((3, 1), np.float32)
        path = tmp_path / "finish.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("finish/data.pkl", pickle_of(vectors))
            for n, vector in enumerate(vectors.values()):
                archive.writestr(f"finish/data/{n}", vector.tobytes())
        return path, vectors

    return write


def modules(config):
    inner, hidden = config.joined_kv, config.mlp_dim
    gated = len(config.mlp_activations) == 2
    for stack, attentions, layers in (
        ("encoder", ["SelfAttention"], config.num_encoder_layers),
        ("decoder", ["SelfAttention", "EncDecAttention"], config.num_decoder_layers),
    ):
        for i in range(layers):
            for n, attention in enumerate(attentions):
                yield f"{stack}.block.{i}.layer.{n}.{attention}.k", inner
                yield f"{stack}.block.{i}.layer.{n}.{attention}.v", inner
            if gated:
                n = len(attentions)
                yield f"{stack}.block.{i}.layer.{n}.DenseReluDense.wi_1", hidden


def pickle_of(vectors):
    """Opcodes of protocol 2 that rebuild tensors from storages."""

    def text(value):
        raw = value.encode()
        return b"X" + len(raw).to_bytes(4, "little") + raw

    def integer(value):
        return b"J" + value.to_bytes(4, "little")

    parts = [b"\x80\x02}("]
    for n, (name, vector) in enumerate(vectors.items()):
        storage = (
            b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(str(n))
        ) + (text("cpu") + integer(vector.size) + b"tQ")
        shape = integer(vector.shape[0]) + integer(vector.shape[1]) + b"\x86"
        strides = integer(1) + integer(1) + b"\x86"
        parts += [
            text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage,
            integer(0) + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR",
        ]
    return b"".join(parts) + b"u."
