import json
import lzma

import numpy as np
import pytest

from tfew_jax import checkpoint
from tfew_jax.cli import main
from tfew_jax.data import objectives, p3, token_arrays, tokenizer
from tfew_jax.experiment import base

TEXT = "\n\n".join(
    f"The film number {n} is dull, the next one great." for n in range(40)
)


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts" / "films.txt.xz"
    path.parent.mkdir()
    path.write_bytes(lzma.compress(TEXT.encode()))
    return path.parent


def prepare(*arguments):
    return main.main(["prepare", *map(str, arguments)])


def test_texts_become_arrays_and_arrays_a_model(
    texts, base_directory, tmp_path, capsys
):
    sizes = ("--inputs", 64, "--targets", 64, "--base", base_directory)
    for objective in ("span_corruption", "prefix_lm"):
        out = tmp_path / objective
        assert prepare(texts, "--objective", objective, "--out", out, *sizes) == 0
        assert "40 examples in" in capsys.readouterr().out
    arrays = token_arrays.load(tmp_path / "span_corruption")
    assert arrays.description["objective"] == "span_corruption"
    common = [
        f"--gin.MODEL_DIR='{tmp_path / 'run'}'",
        f"--gin.TOKEN_ARRAYS='{arrays.folder}'",
        f"--gin.VALIDATION_ARRAYS='{arrays.folder}'",
        "--gin.TRAIN_STEPS=3",
        "--gin.BATCH_SIZE=2",
    ]
    arguments = ["train", "--gin_file", "models/tiny.gin"]
    arguments += ["--gin_file", "runs/pretrain.gin", *common]
    arguments += [f"--gin.VOCABULARY='{base_directory / 'sentencepiece.model'}'"]
    arguments += ["--gin.T5Config.vocab_size=448"]
    assert main.main(arguments) == 0
    assert "3 steps done, validation loss" in capsys.readouterr().out
    folder = tmp_path / "run"
    model = checkpoint.load_model(folder / "final_model")
    assert (model.config.emb_dim, model.config.vocab_size) == (64, 448)
    assert model.config.dropout_rate == 0.0
    assert (folder / "operative_config.gin").read_text().count("new_base") > 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["arrays"]["objective"] == "span_corruption"


def test_the_vocabulary_is_the_embedded_one_unless_another_is_given(texts, tmp_path):
    assert prepare(texts, "--unit", "line", "--out", tmp_path / "out") == 0
    words = tokenizer.Tokenizer(base.EMBEDDED / "sentencepiece.model")
    token_arrays.load(tmp_path / "out").check_vocabulary(words)


IMDB = """\
templates:
  k1: !Template
    jinja: 'Say {{text}} ||| {{text}}'
    metadata: !TemplateMetadata {}
    name: say it
"""


@pytest.fixture
def mixture(make_archive, tmp_path):
    """Arguments for the one set of a mixture that is there."""
    archive = make_archive({"promptsource/templates/imdb/templates.yaml": IMDB})
    assert main.main(["templates", "fetch", "--from", str(archive)]) == 0
    rows = tmp_path / "rows" / "imdb" / "train.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text("".join(json.dumps({"text": f"film {n}"}) + "\n" for n in range(9)))
    sets = [member.set_name for member in p3.get("t0_train").members]
    lacking = [f"--allow-missing={name}" for name in sets if name != "imdb"]
    return ["--mixture", "t0_train", "--data-dir", str(tmp_path / "rows"), *lacking]


@pytest.mark.parametrize("rule", ["t0", "tfew"])
def test_a_mixture_becomes_arrays(mixture, base_directory, tmp_path, capsys, rule):
    given = [*mixture, "--allow-partial", "--rule", rule, "--limit", 6]
    given += ["--base", base_directory, "--out", tmp_path / "out", "--open-rows", 0]
    assert prepare(*given) == 0
    assert "6 examples in 6 rows of" in capsys.readouterr().out
    arrays = token_arrays.load(tmp_path / "out")
    assert arrays.lengths == (
        {"inputs": 256, "targets": 256}
        if rule == "tfew"
        else {"inputs": 1024, "targets": 256}
    )
    words = tokenizer.Tokenizer(base_directory / "sentencepiece.model")
    rows = arrays.rows(np.arange(6))
    for inputs, targets in zip(
        rows["encoder_input_tokens"], rows["decoder_target_tokens"], strict=True
    ):
        said, text = words.decode(inputs.tolist()), words.decode(targets.tolist())
        assert text.startswith("film ") and said == f"Say {text}"
        assert (1 in inputs) == (rule == "tfew")  # the end of sequence
        assert 1 in targets
    assert len({*map(bytes, rows["encoder_input_tokens"])}) == 6


def test_examples_without_inputs_are_left_out_and_counted(
    texts, base_directory, tmp_path, capsys, monkeypatch
):
    make_pairs = token_arrays.make_pairs

    def with_empty_ones(*args, **kwargs):
        for pair in make_pairs(*args, **kwargs):
            yield pair
            yield objectives.TokenPair(np.zeros(0, np.int32), pair.targets)

    monkeypatch.setattr(token_arrays, "make_pairs", with_empty_ones)
    given = ["--base", base_directory, "--limit", 3, "--out", tmp_path / "out"]
    assert prepare(texts, *given) == 0
    out, err = capsys.readouterr()
    assert out.startswith("3 examples in ")
    assert "left out: 3 examples without inputs or targets\n" in err
    assert token_arrays.load(tmp_path / "out").num_examples == 3


MODULE = """
import seqio, tensorflow as tf

def register(name, vocabulary):
    feature = seqio.Feature(seqio.SentencePieceVocabulary(vocabulary, extra_ids=100))
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None: tf.data.Dataset.from_tensor_slices(
                {"inputs": ["one", "two", "three"], "targets": ["no", "yes", "no"]}
            ),
            splits=["train"],
        ),
        preprocessors=[seqio.preprocessors.tokenize_and_append_eos],
        output_features={"inputs": feature, "targets": feature},
    )
    return name

seqio.MixtureRegistry.add("both", [(register("three", VOCABULARY), 1.0)])
"""


@pytest.fixture
def module(tmp_path, monkeypatch, base_directory):
    """A Python module that registers a task and a mixture."""
    seqio = pytest.importorskip("seqio", reason="needs the extra `data`")
    pytest.importorskip("tensorflow", reason="needs the extra `data`")
    name = f"tasks_of_{tmp_path.name}"
    file = base_directory / "sentencepiece.model"
    (tmp_path / f"{name}.py").write_text(f"VOCABULARY = {str(file)!r}\n{MODULE}")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    seqio.MixtureRegistry.remove("both")
    seqio.TaskRegistry.remove("three")


def test_a_seqio_task_is_read_once_and_of_a_mixture_so_many_examples(
    module, base_directory, tmp_path, capsys
):
    given = ["--module", module, "--base", base_directory, "--out"]
    sizes = ["--inputs", 12, "--targets", 6, "--open-rows", 0]
    assert prepare("--seqio", "three", *given, tmp_path / "task", *sizes) == 0
    words = tokenizer.Tokenizer(base_directory / "sentencepiece.model")
    arrays = token_arrays.load(tmp_path / "task")
    inputs = arrays.rows(np.arange(arrays.num_rows))["encoder_input_tokens"]
    assert sorted(words.decode(row.tolist()) for row in inputs) == [
        "one",
        "three",
        "two",
    ]
    some = [*sizes, "--limit", 7]
    assert prepare("--seqio", "both", *given, tmp_path / "mixture", *some) == 0
    assert token_arrays.load(tmp_path / "mixture").num_examples == 7
    capsys.readouterr()
    for wrong, message in (
        (["--seqio", "four"], "SeqIO has no task or mixture 'four'"),
        (["--seqio", "three", "--module", "no.such"], "no.such cannot be imported"),
        (["--seqio", "three", "--split", "test"], "three has no split 'test'"),
        (["--seqio", "both"], "a mixture has no end; give --limit"),
        (["--seqio", "three", "--base", base.EMBEDDED], "three has tokens of"),
    ):
        assert prepare(*given, tmp_path / "no", *sizes, *wrong) == 2
        assert message in capsys.readouterr().err


def test_superglue_is_a_mixture_whose_inputs_begin_with_the_tasks_name(
    base_directory, tmp_path, monkeypatch
):
    seqio = pytest.importorskip("seqio", reason="needs the extra `data`")
    pytest.importorskip("tensorflow", reason="needs the extra `data`")
    from tfew_jax.data import seqio_tasks

    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio_tasks, "SUPERGLUE_RATES", {"rte": 3, "wic": 1})
    word = {"word": "film", "sentence1": "a film", "sentence2": "film", "idx": 0}
    word |= dict.fromkeys(("start1", "start2", "end1", "end2"), 1)
    rte = {"premise": "film", "hypothesis": "good", "label": "entailment", "idx": 0}
    for folder, row in (("RTE", rte), ("WiC", {**word, "label": True})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.jsonl").write_text(f"{json.dumps(row)}\n" * 5)
    given = ["--data-dir", tmp_path, "--base", base_directory, "--limit", 40]
    given += ["--inputs", 64, "--targets", 16, "--open-rows", 0]
    assert prepare("--seqio", "tfew_super_glue", *given, "--out", tmp_path / "out") == 0
    arrays = token_arrays.load(tmp_path / "out")
    words = tokenizer.Tokenizer(base_directory / "sentencepiece.model")
    inputs = arrays.rows(np.arange(arrays.num_rows))["encoder_input_tokens"]
    names = [words.decode(row.tolist()).split()[0] for row in inputs]
    assert {*names} == {"rte", "wic"}
    assert names.count("rte") > names.count("wic")


def test_what_a_mixture_lacks_is_said(mixture, base_directory, tmp_path, capsys):
    given = ["--limit", 6, "--base", base_directory, "--out", tmp_path / "out"]
    assert prepare(*mixture[:4], *given) == 2
    assert "adversarial_qa" in capsys.readouterr().err
    assert prepare(*mixture, *given) == 2
    assert "imdb" in capsys.readouterr().err
    assert not (tmp_path / "out" / token_arrays.MANIFEST).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.txt"], "none.txt: no such file or folder"),
        (["TEXTS", "--unit", "word"], "unit is 'word'"),
        (["TEXTS", "--inputs", "2"], "too short for span corruption"),
        (["TEXTS", "--noise-density", "1.5"], "noise_density is 1.5"),
        (["TEXTS", "--base", "TEXTS"], "holds no vocabulary"),
        (["TEXTS", "--base", "x", "--vocabulary", "y"], "give one of them"),
        (["TEXTS", "--vocabulary", "y.model"], "y.model: no such vocabulary"),
        (["TEXTS", "--limit", "0"], "there is nothing to write"),
        (["TEXTS", "--limit", "-1"], "--limit is -1"),
        (["TEXTS", "--open-rows", "-1"], "--open-rows is -1"),
        (["TEXTS", "--targets", "0"], "--targets is 0"),
        ([], "give files of texts, --mixture or --seqio"),
        (["TEXTS", "--mixture", "t0_train"], "one of them"),
        (["--seqio", "x"], "a SeqIO task needs --inputs and --targets"),
        (["--mixture", "t0_train"], "a mixture needs --data-dir"),
    ],
)
def test_bad_arguments_are_one_line(
    texts, base_directory, tmp_path, capsys, arguments, message
):
    given = [str(texts) if a == "TEXTS" else a for a in arguments]
    if not {"--base", "--vocabulary"} & {*given}:
        given += ["--base", str(base_directory)]
    assert prepare(*given, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
