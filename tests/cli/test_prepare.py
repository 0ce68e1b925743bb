import json
import lzma

import pytest

from tfew_jax import checkpoint
from tfew_jax.cli import main
from tfew_jax.data import token_arrays

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
    said = capsys.readouterr()
    assert "3 steps done, validation loss" in said.out
    assert "tokens/s" not in said.err or "steps/s" in said.err
    folder = tmp_path / "run"
    model = checkpoint.load_model(folder / "final_model")
    assert (model.config.emb_dim, model.config.vocab_size) == (64, 448)
    assert model.config.dropout_rate == 0.0
    assert (folder / "operative_config.gin").read_text().count("new_base") > 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["arrays"]["objective"] == "span_corruption"


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
