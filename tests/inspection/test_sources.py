"""What can be inspected is read; what cannot is named in one line."""

import dataclasses
import pathlib

import numpy as np
import pytest

from tfew_jax import checkpoint, inspection, interop, models
from tfew_jax.checkpoint import layout
from tfew_jax.peft import full, prompt

MLP = "decoder/layers_1/mlp/ia3_mlp_hidden/scale"


@pytest.fixture
def _two_sizes(monkeypatch):
    """Fewer sizes to try, which is faster."""
    sizes = {name: models.SIZES[name] for name in ("tiny", "small")}
    monkeypatch.setattr(models, "SIZES", sizes)


def save_prompt(path, prompt):
    with open(path, "wb") as file:
        np.save(file, prompt)
    return path


def test_a_native_adapter_gives_vectors_labels_and_its_base(adapter, tmp_path):
    adapter.save(tmp_path / "a")
    learned = inspection.load(tmp_path / "a")
    assert learned.vectors[MLP][3] == -0.25 and not learned.prompts
    assert learned.labels == ("bad", "good")
    assert (learned.method, learned.base) == ("ia3", "a tiny model")


def test_a_finished_run_gives_its_adapter_and_an_unfinished_one_none(adapter, tmp_path):
    adapter.save(tmp_path / "adapter")
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(ValueError, match="is not finished"):
        inspection.load(tmp_path)
    (tmp_path / "FINISHED").touch()
    assert inspection.load(tmp_path).vectors.keys() >= {MLP}


@pytest.mark.usefixtures("_two_sizes")
def test_other_programs_vectors_are_read_at_the_size_they_fit(adapter, tmp_path):
    interop.tfew.save_adapter(tmp_path / "finish.pt", adapter)
    interop.peft.save_adapter(tmp_path / "peft", adapter)
    for name in ("finish.pt", "peft"):
        learned = inspection.load(tmp_path / name)
        np.testing.assert_array_equal(learned.vectors[MLP][[3, 5]], [-0.25, 2.5])


@pytest.mark.usefixtures("_two_sizes")
def test_vectors_of_another_size_need_their_model(adapter, tmp_path):
    config = dataclasses.replace(adapter.config, num_encoder_layers=1)
    params = dict(adapter.params) | {
        "encoder": {"layers_0": adapter.params["encoder"]["layers_0"]}
    }
    odd = dataclasses.replace(adapter, config=config, params=params)
    interop.tfew.save_adapter(tmp_path / "finish.pt", odd)
    with pytest.raises(ValueError, match=r"fits none of T5 1.1's sizes"):
        inspection.load(tmp_path / "finish.pt")
    assert len(inspection.load(tmp_path / "finish.pt", config).vectors) == 13
    with pytest.raises(ValueError, match=r"lacks encoder.block.1"):
        inspection.load(tmp_path / "finish.pt", adapter.config)


def test_a_damaged_file_of_another_program_is_not_taken_for_one_of_another_size(
    adapter, tmp_path
):
    path = tmp_path / "finish.pt"
    interop.tfew.save_adapter(path, adapter)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"not a whole file of torch.save"):
        inspection.load(path)


def test_a_method_that_leaves_nothing_to_show_is_refused(tmp_path):
    config = models.SIZES["tiny"]
    shapes = layout.model_shapes(config)
    params = layout.unflatten({p: np.ones(s, np.float32) for p, s in shapes.items()})
    made = checkpoint.Adapter(method=full.Full(), params=params, config=config)
    made.save(tmp_path / "a")
    with pytest.raises(
        ValueError, match="the method 'full', of which there is nothing"
    ):
        inspection.load(tmp_path / "a")


@pytest.mark.parametrize("name", ["prompt.npy", "encoder.prompt.prompt.prompt"])
def test_a_numpy_file_is_a_prompt_whatever_its_suffix(tmp_path, name):
    prompt = np.arange(6, dtype=np.float32).reshape(2, 3)
    learned = inspection.load(save_prompt(tmp_path / name, prompt))
    np.testing.assert_array_equal(learned.prompts["encoder_input"], prompt)
    assert (learned.method, learned.labels) == ("prompt", ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.ones(3), r"one row a position; it holds shape \(3,\), dtype float64"),
        (np.ones((1, 2, 3)), r"shape \(1, 2, 3\)"),
        (np.ones((0, 3)), r"shape \(0, 3\)"),
        (np.ones((2, 3), int), "dtype int64"),
        (np.array([[1, np.inf]]), "holds NaN or infinity"),
        (np.array([[{}]], object), "it is damaged"),
        (b"\x93NUMPY\x01", "it is damaged"),
        (b"", "expected a NumPy file of a prompt, which numpy.save writes"),
        (b"row,label\n", "expected a NumPy file of a prompt, which numpy.save writes"),
    ],
)
def test_a_file_that_is_no_prompt_is_refused(tmp_path, content, message):
    path = tmp_path / "prompt.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(ValueError, match=message) as error:
        inspection.load(path)
    assert str(path) in str(error.value)


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere does not exist; give an adapter"):
        inspection.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: expected a directory with tfew_adapt"):
        inspection.load(tmp_path / "empty")


PROMPT = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
OWN_START = {"initial": None}  # what our training writes where it made the start


def load_prompt(path, *, metadata, task=None, **settings):
    """A prompt adapter of some settings as it is read again."""
    made = checkpoint.Adapter(
        method=prompt.Prompt(length=3, **settings),
        params={"encoder_input": {"prompt": {"embedding": PROMPT}}},
        config=models.SIZES["tiny"],
        task=task,
        metadata=metadata,
    )
    made.save(path)
    return inspection.load(path)


def test_a_prompt_adapter_gives_its_prompt_and_what_it_started_from(tmp_path):
    labels = ("no", "yes")
    learned = load_prompt(tmp_path / "a", metadata=OWN_START, init_labels=labels)
    np.testing.assert_array_equal(learned.prompts["encoder_input"], PROMPT)
    assert learned.init == "class_labels"
    assert learned.labels == learned.start_labels == labels


@pytest.mark.parametrize(
    "metadata",
    [{"source": "PEFT"}, {"composed_of": ["a", "b"]}, {"initial": "0123abcd"}, {}],
    ids=["PEFT", "composed", "went on from another adapter", "a NumPy file"],
)
def test_a_start_that_our_training_did_not_make_is_not_told(tmp_path, metadata):
    task = {"choices": ["bad ||| good"]}
    learned = load_prompt(tmp_path / "a", metadata=metadata, task=task)
    assert (learned.init, learned.start_labels) == (None, ())
    assert learned.labels == ("bad", "good")


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({}, ("yes", "no")),
        ({"init": "uniform"}, ()),
        ({"init": "sampled_vocabulary"}, ()),
        ({"init_labels": ("maybe", "maybe")}, ("maybe", "maybe")),
    ],
    ids=["class labels", "uniform", "sampled", "given"],
)
def test_only_labels_that_the_prompt_started_from_have_a_place(
    tmp_path, settings, start
):
    task = {"choices": ["yes ||| no", "True ||| no"]}
    learned = load_prompt(tmp_path / "a", metadata=OWN_START, task=task, **settings)
    assert learned.start_labels == start
    looked_for = settings.get("init_labels") or ("yes", "no", "True")
    assert learned.labels == looked_for


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("rte", ("entailment", "not_entailment")),
        ("wsc", ("commonsense", "pronoun", "resolution")),
        ("mrqa/race", ()),
        ("of a later version", ()),
    ],
)
def test_an_adapter_of_a_text_to_text_task_has_its_labels(tmp_path, name, labels):
    metadata = OWN_START | {"text_task": {"name": name}}
    learned = load_prompt(tmp_path / "a", metadata=metadata)
    assert learned.labels == learned.start_labels == labels


def test_choices_that_come_from_a_row_are_no_labels(adapter, tmp_path):
    task = {"choices": ["{{a}} ||| {{b}}", "yes ||| no", "no ||| maybe"]}
    dataclasses.replace(adapter, task=task).save(tmp_path / "a")
    assert inspection.load(tmp_path / "a").labels == ("yes", "no", "maybe")


def test_only_pieces_that_stand_for_text_count(vocabulary):
    tokenizer = vocabulary.tokenizer
    assert len(vocabulary.is_text) == len(vocabulary.table)
    assert vocabulary.is_text.sum() == tokenizer.num_pieces - 3  # pad, end, unknown
    assert not vocabulary.is_text[:3].any()
    assert not vocabulary.is_text[tokenizer.num_pieces :].any()


def test_every_row_has_a_name(vocabulary):
    size = vocabulary.tokenizer.vocab_size
    assert vocabulary.piece(0) == "<pad>"
    assert vocabulary.piece(size - 1) == "<extra_id_0>"
    assert vocabulary.piece(size) == f"<row {size}>"


def test_a_table_may_stand_in_a_file_of_its_own(base_directory, tmp_path):
    whole = inspection.load_vocabulary(base_directory)
    file = base_directory / "sentencepiece.model"
    path = save_prompt(tmp_path / "table.npy", whole.table)
    alone = inspection.load_vocabulary(embedding=path, vocabulary=file)
    np.testing.assert_array_equal(alone.table, whole.table)
    assert alone.source == str(path)
    with pytest.raises(ValueError, match="holds no vocabulary; give its SentencePiece"):
        inspection.load_vocabulary(embedding=path)
    save_prompt(path, whole.table[:100])
    with pytest.raises(ValueError, match=r"pieces, the embedding of .* 100 rows"):
        inspection.load_vocabulary(embedding=path, vocabulary=file)


def test_without_a_model_it_is_the_embedded_base():
    found = inspection.load_vocabulary()
    assert found.source == "the embedded base"
    assert found.tokenizer.vocab_size <= len(found.table)


def test_the_published_vectors_of_t0_3b_are_read(shared):
    path = shared / "data" / "tfew_pretrained" / "t03b_ia3_finish.pt"
    learned = inspection.load(path, models.SIZES["xl"])
    report = inspection.inspect_vectors(learned, top=1)
    assert [(u.half, u.site, round(u.value, 3)) for u in report.inhibited] == [
        ("decoder", "mlp_hidden", -0.788)
    ]
    assert round(report.amplified[0].value, 3) == 2.049
    places = report.to_dict()["places"]
    keys = places["encoder self-attention, key"]
    rounded = [round(keys[name], 3) for name in ("std", "min", "max")]
    assert rounded == [0.078, 0.358, 1.907] and round(keys["mean"], 4) == 0.9996
    assert report.to_dict()["summary"]["num_negative"] == 12


@pytest.mark.parametrize(
    ("name", "norm"), [("sst2", 1385), ("rte", 903), ("mrpc", 868)]
)
def test_released_prompts_are_read(shared, name, norm):
    path = shared / "data" / "prompts_lm100k_base" / f"{name}.npy"
    prompt = inspection.load(path).prompts["encoder_input"]
    assert prompt.shape == (100, 768)
    assert round(float(np.linalg.norm(prompt, axis=1).mean())) == norm


def test_a_home_directory_may_be_written_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_prompt(tmp_path / "p.npy", np.ones((1, 2)))
    assert inspection.load("~/p.npy").source == str(pathlib.Path(tmp_path, "p.npy"))
