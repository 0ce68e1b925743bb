"""T5's tasks on C4, of a C4 of a few texts that TFDS itself wrote."""

import numpy as np
import pytest
from one_line import error_of

from tfew_jax.cli import main
from tfew_jax.data import objectives, sources, token_arrays, tokenizer

seqio = pytest.importorskip("seqio", reason="needs the extra `data`")
pytest.importorskip("tensorflow", reason="needs the extra `data`")

from tfew_jax.data import seqio_objectives  # noqa: E402

SPAN, PREFIX = seqio_objectives.C4_TASKS
LENGTHS = {"inputs": 24, "targets": 12}


def texts(start, count):
    return [f"lovely film number {n} and a great plot" for n in range(start, count)]


def features(tfds):
    text = tfds.features.Text()
    return tfds.features.FeaturesDict({"text": text, "url": text})


@pytest.fixture(scope="module")
def write_c4(store, tmp_path_factory):
    """Writes versions of C4, with one number of texts each, into a new directory."""

    def write(**counts):
        folder = tmp_path_factory.mktemp("tfds_c4")
        for version, count in counts.items():
            train = [{"text": text, "url": "x"} for text in texts(0, count)]
            splits = {"train": train, "validation": train[:2]}
            number = version.removeprefix("v").replace("_", ".")
            store("c4", "en", splits, features, number=number, folder=folder)
        return folder

    return write


@pytest.fixture(scope="module")
def c4(write_c4):
    return write_c4(v2_2_0=20, v3_1_0=3)


@pytest.fixture(scope="module")
def words(base_directory):
    return tokenizer.Tokenizer(base_directory / "sentencepiece.model")


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", {})


def read(name, split="train"):
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        LENGTHS, split=split, shuffle=False, seed=0
    )
    return [
        {side: example[side].tolist() for side in ("inputs", "targets")}
        for example in dataset.as_numpy_iterator()
    ]


def test_importing_registers_nothing_and_names_are_those_of_t5(c4, words):
    assert not [*seqio.TaskRegistry.names()]
    assert seqio_objectives.register_c4(c4, words) == [
        *("c4_v220_span_corruption", "c4_v220_prefix_lm")
    ]
    assert {*seqio.get_mixture_or_task(SPAN).splits} == {"train", "validation"}


def test_span_corruption_joins_texts_and_prefix_lm_does_not(c4, words):
    seqio_objectives.register_c4(c4, words)
    spelled = [words.encode(text, add_eos=False) for text in texts(0, 20)]
    pieces = sorted(e["inputs"][:-1] + e["targets"][:-1] for e in read(PREFIX))
    cut = [ids[i : i + 12] for ids in spelled for i in range(0, len(ids), 12)]
    assert pieces == sorted(piece for piece in cut if len(piece) > 1)

    span = objectives.SpanCorruption(tokenizer=words)
    size = span.num_tokens(LENGTHS)
    full = span.make_pair(np.arange(size), np.random.default_rng(0))
    assert full is not None
    *examples, _ = read(SPAN)
    assert len(examples) == sum(map(len, spelled)) // size
    for example in examples:
        assert len(example["inputs"]) == len(full.inputs)
        assert len(example["targets"]) == len(full.targets)
        assert words.sentinel(0) in example["inputs"]
    assert 0 < len(read(SPAN, "validation")) < len(examples)


def test_version_2_2_0_is_read_or_else_the_newest(c4, write_c4, words):
    seqio_objectives.register_c4(c4, words)
    assert seqio.get_mixture_or_task(SPAN).num_input_examples("train") == 20
    seqio.TaskRegistry.remove(SPAN)
    seqio.TaskRegistry.remove(PREFIX)
    seqio_objectives.register_c4(write_c4(v3_0_1=4, v3_1_0=5), words)
    assert seqio.get_mixture_or_task(SPAN).num_input_examples("train") == 5


def test_prepare_knows_them_by_name(c4, base_directory, tmp_path, words):
    given = ["prepare", "--seqio", PREFIX, "--data-dir", c4, "--base", base_directory]
    given += ["--inputs", 24, "--targets", 12, "--open-rows", 0, "--limit", 5]
    assert main.main([*map(str, given), "--out", str(tmp_path / "out")]) == 0
    arrays = token_arrays.load(tmp_path / "out")
    assert arrays.num_examples == 5
    rows = arrays.rows(np.arange(5))
    known = "".join(texts(0, 20)).replace(" ", "")
    for inputs, targets in zip(
        rows["encoder_input_tokens"], rows["decoder_target_tokens"], strict=True
    ):
        ids = [*inputs[inputs > 1].tolist(), *targets[targets > 1].tolist()]
        assert words.decode(ids).replace(" ", "") in known


def test_c4_that_is_not_there_is_one_line(capsys, base_directory, tmp_path, words):
    with pytest.raises(sources.SourceError, match="no c4/en with a split train"):
        seqio_objectives.register_c4(tmp_path, words)
    given = ["prepare", "--seqio", SPAN, "--base", base_directory, "--inputs", 24]
    given += ["--targets", 12, "--out", tmp_path / "out"]
    assert f"{SPAN} reads C4 as TFDS prepared it" in error_of(capsys, *given)
    line = error_of(capsys, *given, "--data-dir", tmp_path)
    assert "no c4/en with a split train; give the directory" in line
