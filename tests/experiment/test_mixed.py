"""Rows that each name their adapter."""

import csv
import json
import re

import bank_of_tasks
import numpy as np
import pytest
from one_line import message_of

import tfew_jax
from tfew_jax import evaluate, experiment
from tfew_jax.cli import main
from tfew_jax.data import fewshot
from tfew_jax.experiment import banks, mixed, prepared, row_tasks, scoring

NAMES = ["plots", "films", "own", "yes", "films", "own", "plots", "yes", "films"]
OWN = {"template": "Film: {{text}}", "choices": "lovely ||| dull great"}


@pytest.fixture(scope="module")
def bank(base):
    return bank_of_tasks.make_bank(base)


@pytest.fixture(scope="module")
def rows():
    return [bank_of_tasks.make_row(name, n) for n, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def alone(base, bank, rows):
    """What each row's adapter says of it alone."""
    found = {
        name: experiment.predict(base, bank[name], rows) for name in sorted({*NAMES})
    }
    return [found[name][number] for number, name in enumerate(NAMES)]


@pytest.fixture(scope="module")
def directory(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    for name, adapter in bank.items():
        adapter.save(folder / name)
    return folder


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one.prediction, one.label) == (other.prediction, other.label)
        assert one.choices == other.choices
        largest = np.abs(other.scores).max()
        np.testing.assert_allclose(
            one.scores, other.scores, rtol=0, atol=1e-5 * largest
        )


@pytest.mark.parametrize("batch_size", [32, 4])
def test_each_row_gets_what_its_adapter_alone_says(base, bank, rows, alone, batch_size):
    found = tfew_jax.predict(base, bank, rows, adapters=NAMES, batch_size=batch_size)
    assert [p.row for p in found] == list(range(len(rows)))
    assert [p.adapter for p in found] == NAMES
    assert_same(found, alone)
    assert len({p.scores for p in found}) == len(rows)


def test_any_mix_is_one_forward_pass(base, bank, rows, monkeypatch):
    shapes, score_choices = [], evaluate.score_choices

    def spy(model, params, batches, **settings):
        shapes.extend(batch["decoder_target_tokens"].shape for batch in batches)
        return score_choices(model, params, batches, **settings)

    monkeypatch.setattr(evaluate, "score_choices", spy)
    experiment.predict(base, bank, rows, adapters=NAMES)
    assert shapes == [(16, 4, 8)]  # 9 rows, 2 and 3 choices


def test_rows_may_name_their_adapters(base, bank, rows, alone):
    named = [{**row, "who": name} for row, name in zip(rows, NAMES, strict=True)]
    found = experiment.predict(base, bank, named, adapter_field="who")
    assert_same(found, alone)


def test_rows_may_choose_by_slot(base, bank, rows, alone):
    slots = bank.index(NAMES).tolist()
    found = experiment.predict(base, bank, rows, adapters=[*slots[:4], *NAMES[4:]])
    assert_same(found, alone)
    assert [p.adapter for p in found] == NAMES
    named = [{**row, "adapter": slot} for row, slot in zip(rows, slots, strict=True)]
    found = experiment.predict(base, bank, named)
    assert_same(found, alone)
    assert [p.adapter for p in found] == NAMES
    [found] = experiment.predict(base, bank, rows[1:2], adapters=1)
    assert found.adapter == "films"
    [found] = experiment.predict(base, bank, [{**rows[0], **OWN}], adapters=[0])
    assert found.adapter == "__base__"


def test_scores_that_are_nan_name_the_row_and_its_adapter(
    base, bank, rows, tmp_path, monkeypatch
):
    def score(model, params, rows, index, shape):
        scores = [np.zeros(len(row.targets), np.float32) for row in rows]
        scores[list(index).index(2)][1] = np.nan
        return scores

    monkeypatch.setattr(mixed, "score", score)
    names = ["films", "yes", "plots", "own"]
    said = "the scores of adapter plots hold NaN; it or the model diverged, use an"
    four = [bank_of_tasks.make_row(name, n) for n, name in enumerate(names)]
    error = message_of(experiment.predict, base, bank, four, adapters=names)
    assert error.startswith(f"row 2: {said}")
    file = tmp_path / "rows.jsonl"
    named = [{**row, "adapter": n} for row, n in zip(four, names, strict=True)]
    file.write_text("".join(json.dumps(row) + "\n" for row in named))
    error = message_of(mixed.infer_bank, base=base, bank=bank, rows=file)
    assert error.startswith(f"{file}, line 3: {said}")


def test_an_output_that_is_the_input_or_a_directory_is_refused_first(
    base, tmp_path, monkeypatch
):
    monkeypatch.setattr(banks, "load_bank", None)  # nothing is loaded
    file = tmp_path / "rows.jsonl"
    file.write_text('{"adapter": "a", "text": "x"}\n')
    (tmp_path / "link.jsonl").symlink_to(file)
    (tmp_path / "out.csv").mkdir()
    for name, message in (
        ("rows.jsonl", "holds the rows, which the predictions would replace; give"),
        ("link.jsonl", "holds the rows, which the predictions would replace; give"),
        ("out.csv", "is a directory; give the output the name of a file"),
    ):
        error = message_of(
            mixed.infer_bank, base=base, bank="x", rows=file, output=tmp_path / name
        )
        assert error.startswith(f"{tmp_path / name} {message}")
    assert file.read_text() == '{"adapter": "a", "text": "x"}\n'


def test_rows_of_the_frozen_model_bring_their_template(base, bank, rows):
    mixed_rows = [{**rows[0], **OWN}, rows[1]]
    found = experiment.predict(base, bank, mixed_rows, adapters=["__base__", "films"])
    assert found[0].adapter == "__base__"
    assert found[0].choices == ("lovely", "dull great")
    spec = fewshot.TaskSpec(templates=OWN["template"], choices=OWN["choices"])
    split = prepared.prepare(
        rows[:1], spec, base.tokenizer, lengths=None, with_labels=False
    )
    frozen = scoring.score_split(
        base, split, adapter=None, batch_size=1, normalization="mean"
    )
    assert_same(found[:1], frozen)


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        ({}, ["nobody"], "row 0: unknown adapter 'nobody'; known: __base__, films, pl"),
        ({}, None, "row 0: the field 'adapter' must name the row's adapter"),
        ({"adapter": True}, None, "found True"),
        ({"adapter": 9}, None, "row 0: there is no adapter 9; 0 is __base__, the othe"),
        ({}, [5], "row 0: there is no adapter 5; 0 is __base__, the others are 1 to 4"),
        ({}, True, "row 0: unknown adapter True; known: __base__, films, plots"),
        ({}, ["films", "films"], "2 names of adapters for 1 rows"),
        ({}, ["__base__"], "row 0: __base__ carries no template and choices; give"),
        (OWN | {"choices": "a"}, ["__base__"], "row 0: template 'Film: {{text}}', ch"),
        (OWN | {"template": "x"}, ["__base__"], "row 0: template 'x': reads no column"),
        ({"text": ""}, ["films"], "row 0: template 'Review: {{text}} Sentiment?': col"),
        ({"b": "lovely"}, ["own"], "choice 'lovely' stands twice"),
    ],
)
def test_a_row_that_cannot_be_predicted_is_named_before_anything_compiles(
    base, bank, rows, monkeypatch, change, names, message
):
    monkeypatch.setattr(evaluate, "score_choices", None)
    with pytest.raises(ValueError, match=re.escape(message)):
        experiment.predict(base, bank, [{**rows[0], **change}], adapters=names)


def test_settings_that_do_not_fit_are_refused(base, bank, rows):
    with pytest.raises(ValueError, match="batch_size=0"):
        experiment.predict(base, bank, rows, adapters="films", batch_size=0)
    with pytest.raises(ValueError, match="there are no rows"):
        experiment.predict(base, bank, [], adapters="films")
    with pytest.raises(ValueError, match="names the adapters of a bank"):
        experiment.predict(base, bank["films"], rows, adapters="films")


def test_rows_may_be_kept_from_bringing_templates(base, bank, rows):
    tasks = row_tasks.RowTasks(bank, base.tokenizer, own_templates=False)
    with pytest.raises(
        ValueError,
        match="row 0: __base__ carries no template and choices, and rows may",
    ):
        tasks.spell({**rows[0], **OWN}, adapter=None, place="row 0")


def test_batches_have_few_shapes():
    sizes = [mixed.padded_rows(n, 50) for n in range(1, 51)]
    assert sorted(set(sizes)) == [1, 4, 16, 50]
    assert all(size >= n for n, size in enumerate(sizes, 1))
    assert [mixed.power_of_two(n, 16) for n in (1, 16, 17, 256)] == [16, 16, 32, 256]


def run(*words):
    return main.main([str(word) for word in words])


def write_rows(path, rows):
    named = [{**row, "adapter": name} for row, name in zip(rows, NAMES, strict=True)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in named))
        return path
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, named[0])
        writer.writeheader()
        writer.writerows(named)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_the_command_writes_adapter_prediction_and_scores(
    base_directory, directory, rows, alone, tmp_path, capsys, kind
):
    output = tmp_path / "new" / f"predictions.{kind}"
    words = ["infer", "--adapters", directory, "--base", base_directory]
    words += ["--input", write_rows(tmp_path / f"rows.{kind}", rows)]
    assert run(*words, "--output", output) == 0
    assert capsys.readouterr().out.strip() == str(output)
    if kind == "csv":
        with output.open(newline="") as file:
            found = list(csv.DictReader(file))
        scores = [float(row["score_0"]) for row in found]
        np.testing.assert_allclose(scores, [p.scores[0] for p in alone], rtol=1e-5)
        assert found[1]["score_2"] == ""
    else:
        found = [json.loads(line) for line in output.read_text().splitlines()]
        assert [tuple(row["scores"]) for row in found] == [p.choices for p in alone]
    assert [row["adapter"] for row in found] == NAMES
    assert [row["prediction"] for row in found] == [p.prediction for p in alone]


def test_gin_files_do_what_the_flags_do(
    base_directory, directory, rows, alone, tmp_path, capsys
):
    status = run(
        *("infer", "--gin_file=models/embedded.gin", "--gin_file=runs/infer_bank.gin"),
        f"--gin.INITIAL_CHECKPOINT_PATH='{base_directory}'",
        f"--gin.ADAPTERS='{directory}'",
        f"--gin.INPUT_FILE='{write_rows(tmp_path / 'rows.jsonl', rows)}'",
    )
    assert status == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(len(alone)))
    found = [json.loads(line)["prediction"] for line in lines]
    assert found == [p.prediction for p in alone]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--adapters", "DIR"], "--input is missing"),
        (["--input", "rows.jsonl"], "--input is for rows that name their adapters"),
        (["--adapters", "nowhere", "--input", "ROWS"], "there is no such directory"),
        (["--adapters", "DIR", "--input", "nowhere.csv"], "no such file"),
        (["--adapters", "DIR", "--input", "ROWS", "--output", "a.txt"], ".jsonl or .c"),
        (
            ["--adapters", "DIR", "--input", "ROWS", "--adapter-field", "text"],
            "rows.jsonl, line 1: unknown adapter 'great'; known: __base__, films, own",
        ),
    ],
)
def test_a_mistake_is_one_line(
    base_directory, directory, rows, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    file = write_rows(tmp_path / "rows.jsonl", rows)
    given = [{"DIR": directory, "ROWS": file}.get(word, word) for word in words]
    assert run("infer", *given, "--base", base_directory) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tfew infer: error: ") and message in line
