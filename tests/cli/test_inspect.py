"""`tfew inspect` as a user types it."""

import csv
import json

import numpy as np
import one_line
import pytest

from tfew_jax import checkpoint, interop, models
from tfew_jax.checkpoint import layout
from tfew_jax.cli import main
from tfew_jax.peft import full, ia3

TINY = models.SIZES["tiny"]


def run(*argv):
    return main.main(["inspect", *map(str, argv)])


def error_of(capsys, *argv):
    return one_line.error_of(capsys, "inspect", *argv)


@pytest.fixture
def vectors(tmp_path):
    """A native (IA)^3 adapter of a tiny model: one unit turned round, one amplified."""
    shapes = layout.adapter_shapes(TINY, ia3.IA3())
    flat = {path: np.ones(shape, np.float32) for path, shape in shapes.items()}
    flat["decoder/layers_1/mlp/ia3_mlp_hidden/scale"][[3, 5]] = [-0.25, 2.5]
    adapter = checkpoint.Adapter(
        method=ia3.IA3(), params=layout.unflatten(flat), config=TINY
    )
    adapter.save(tmp_path / "vectors")
    return tmp_path / "vectors"


@pytest.fixture
def prompt(tmp_path, base_directory):
    """Two pieces of the toy base's table, one of them twice, ten times as long."""
    table = interop.load_embedding(base_directory).table
    np.save(tmp_path / "prompt.npy", 10 * np.asarray(table)[[40, 41, 40]])
    return tmp_path / "prompt.npy"


def test_vectors_are_summed_up_by_place_with_their_extremes(vectors, capsys):
    assert run(vectors) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:3] == ["place", "layers", "units"]
    assert "decoder cross-attention, value 2 128 1.0000".split() == lines[7][:6]
    last = "decoder feed-forward, hidden layer 2 256".split()
    assert last == lines[8][:6] and lines[8][-3:] == ["2.5000", "99.2%", "1"]
    place = "decoder feed-forward, hidden layer 1".split()
    assert [*place, "3", "-0.2500"] in lines and [*place, "5", "2.5000"] in lines


def test_vectors_are_written_as_json_csv_and_a_heat_map(vectors, tmp_path, capsys):
    out = tmp_path / "deep" / "shown"
    assert run(vectors, "--out", out, "--top", 1, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((out / "inspection.json").read_text())
    assert shown["method"] == "ia3" and shown["inhibited"][0]["value"] == -0.25
    with open(out / "units.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["unit"], row["value"]) for row in rows] == [
        ("inhibited", "3", "-0.25"),
        ("amplified", "5", "2.5"),
    ]
    assert (out / "heatmap.png").read_bytes().startswith(b"\x89PNG")


def test_a_prompt_is_shown_with_its_nearest_entries(prompt, base_directory, capsys):
    from tfew_jax.data import tokenizer

    assert run(prompt, "--base", base_directory, "--top", 2) == 0
    out = capsys.readouterr().out
    pieces = tokenizer.Tokenizer(base_directory / "sentencepiece.model")
    lines = [line.split() for line in out.splitlines()]
    assert lines[1] == ["position", "norm", "cosine"]
    for at, row in enumerate([40, 41, 40]):
        found = lines[2 + at]
        assert found[0] == str(at) and found[2:4] == ["1.000", pieces.piece(row)]
    assert "positions that share their nearest entry 2 0".split() in lines
    assert "label" not in out


def test_a_prompt_is_written_as_json_csv_and_a_chart(
    prompt, base_directory, tmp_path, capsys
):
    out = tmp_path / "shown"
    flags = ("--base", base_directory, "--labels", "good ||| bad", "--out", out)
    assert run(prompt, *flags) == 0
    assert "at its own position" in capsys.readouterr().out
    content = json.loads((out / "inspection.json").read_text())
    (report,) = content["prompts"]
    assert [label["text"] for label in report["labels"]] == ["good", "bad"]
    assert content["embedding"] == str(base_directory)
    with open(out / "neighbours.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 5
    assert {row["kind"] for row in rows} == {"learned", "control"}
    assert [row["id"] for row in rows if row["rank"] == "1"][:3] == ["40", "41", "40"]
    assert (out / "neighbours.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_alone_is_enough(prompt, base_directory, tmp_path, capsys):
    np.save(tmp_path / "table.npy", interop.load_embedding(base_directory).table)
    words = base_directory / "sentencepiece.model"
    flags = ("--embedding", tmp_path / "table.npy", "--vocabulary", words)
    assert run(prompt, *flags) == 0
    alone = capsys.readouterr().out
    assert run(prompt, "--base", base_directory) == 0
    assert capsys.readouterr().out == alone


def test_other_programs_vectors_are_shown(vectors, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "SIZES", {"tiny": TINY})  # others take time to try
    assert run(vectors) == 0
    expected = capsys.readouterr().out
    adapter = checkpoint.load_adapter(vectors)
    interop.peft.save_adapter(tmp_path / "peft", adapter)
    interop.tfew.save_adapter(tmp_path / "finish.pt", adapter)
    for name in ("peft", "finish.pt"):
        assert run(tmp_path / name) == 0
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "nowhere does not exist; give an adapter, a finished run"),
        (["prompt.npy", "--top", "0"], "--top must be 1 or more, got 0"),
        (["prompt.npy", "--base", "BASE", "--top", "449"], "top must be from 1 to the"),
        (["prompt.npy", "--base", "nowhere"], "model nowhere is not a directory"),
        (["nan.npy", "--base", "BASE"], "nan.npy: a prompt holds NaN or infinity"),
        (["wide.npy", "--base", "BASE"], "has 17 columns, the embedding of"),
        (["text.csv"], "text.csv: expected a NumPy file of a prompt"),
        (["prompt.npy", "--labels", "a ||| a"], "names a label twice or an empty one"),
        (["prompt.npy", "--labels", "a |||"], "names a label twice or an empty one"),
        (["prompt.npy", "--embedding", "t.npy"], "needs its SentencePiece file"),
        (["prompt.npy", "--embedding", "t.npy", "--base", "b"], "both name an embedd"),
        (["vectors", "--labels", "a ||| b"], "--labels is for prompts; vectors holds"),
        (["vectors", "--all-rows"], "--all-rows is for prompts"),
        (["vectors", "--base", "BASE"], "has shape (64,), expected (16,)"),
        (["vectors", "--out", "text.csv"], "cannot write to"),
        (["full"], "the method 'full', of which there is nothing to show"),
        ([], "the following arguments are required: ADAPTER"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(
    argv, message, vectors, prompt, base_directory, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    np.save("nan.npy", np.full((2, 16), np.nan))
    np.save("wide.npy", np.ones((2, 17)))
    (tmp_path / "text.csv").write_text("text,label\n")
    if argv == ["full"]:
        shapes = layout.model_shapes(TINY)
        params = layout.unflatten({p: np.ones(s, "f4") for p, s in shapes.items()})
        made = checkpoint.Adapter(method=full.Full(), params=params, config=TINY)
        made.save("full")
    given = [str(base_directory) if word == "BASE" else word for word in argv]
    assert message in error_of(capsys, *given)
