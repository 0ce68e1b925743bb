"""`tfew compare` as a user types it, on a toy model."""

import dataclasses
import json

import one_line
import pytest

from tfew_jax import experiment
from tfew_jax.cli import configuration, main
from tfew_jax.experiment import comparing
from tfew_jax.peft import ia3

ADAPTATION = ["methods/ia3.gin", "tasks/csv.gin", "experiments/adaptation_length.gin"]
SIZE = ["tasks/csv.gin", "experiments/size.gin"]
PROMPTS = ["tasks/csv.gin", "experiments/prompt_length.gin"]
NEEDED = {  # of what is given, by some of the experiments only
    "SPAN_BASE": ADAPTATION,
    "TOKEN_ARRAYS": ADAPTATION,
    "FAMILY": SIZE,
    "BASE": PROMPTS,
}


@pytest.fixture
def given(base_directory, tmp_path):
    """Small files of rows, and what makes the comparison small."""
    rows = [
        f"{'lovely' if n % 2 else 'dull'} film {'plot ' * n},{n % 2}" for n in range(8)
    ]
    for name in ("films", "test"):
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
        rows = [f"great {row}" for row in rows[:4]]
    return {
        "OUT": f"'{tmp_path / 'out'}'",
        "TRAIN_FILE": f"'{tmp_path / 'films.csv'}'",
        "TEST_FILE": f"'{tmp_path / 'test.csv'}'",
        "TEMPLATES": "'Review: {{text}} Sentiment?'",
        "CHOICES": "'bad ||| good'",
        "LABEL": "'label'",
        "SPAN_BASE": f"'{base_directory}'",
        "TOKEN_ARRAYS": "'arrays'",
        "FAMILY": f"['{base_directory}']",
        "BASE": f"'{base_directory}'",
        "SEEDS": "(0,)",
        "TRAIN_STEPS": "2",
        "MAX_OUTPUT_LENGTH": "3",
    }


def arguments(files, given):
    return [
        *("compare", *(f"--gin_file={file}" for file in files)),
        *(f"--gin.{k}={v}" for k, v in given.items() if NEEDED.get(k, files) is files),
    ]


def error_of(capsys, files, given):
    return one_line.error_of(capsys, *arguments(files, given))


def test_one_command_leaves_table_chart_runs_and_configuration(given, tmp_path, capsys):
    given["CONDITIONS"] = "[@sentinel/experiment.Condition()]"
    assert main.main(arguments(ADAPTATION, given)) == 0
    out = tmp_path / "out"
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "films"
    assert "span corruption + sentinel  ia3" in printed.out
    assert f"table and chart in {out}" in printed.err
    assert {path.name for path in out.iterdir()} >= {
        *("comparison.json", "comparison.md", "comparison.png", "log.txt", "runs"),
        *("config.gin", "operative_config.gin", "frozen"),
    }
    (point,) = json.loads((out / "comparison.json").read_text())["points"]
    settings = json.loads((out / point["run"] / "settings.json").read_text())
    assert settings["protocol.target_prefix"] == "<extra_id_0>"
    assert settings["recipe.learning_rate"] == 3e-3  # of methods/ia3.gin
    assert settings["recipe.num_steps"] == 2
    # The saved configuration is the command's, and finds everything done.
    assert main.main(["compare", f"--gin_file={out / 'operative_config.gin'}"]) == 0
    assert "all 1 runs of 2 steps are done already" in capsys.readouterr().err
    assert main.main(["report", str(out / "runs")]) == 0
    assert "ia3, span corruption + sentinel" in capsys.readouterr().out


def configured(files, given, monkeypatch):
    """What the files make of a comparison, which is not done."""
    words = arguments(files, given)[1 + len(files) :]
    seen = {}

    class Seen(Exception):
        """The comparison is made and was not yet checked."""

    def check(self, **settings):
        seen.update(vars(self) | settings)
        raise Seen

    monkeypatch.setattr(comparing._Comparer, "check", check)
    with (
        configuration.parsed(
            entry=experiment.compare,
            files=files,
            bindings=[word.removeprefix("--gin.") for word in words],
            kind="experiments",
        ) as call,
        pytest.raises(Seen),
    ):
        call()
    return seen


def test_the_conditions_of_the_adaptation_are_the_papers(given, monkeypatch):
    given["LENGTHS"] = "(250, 1000)"
    given["ADAPTATION_LEARNING_RATE"] = "2e-3"
    seen = configured(ADAPTATION, given, monkeypatch)
    span, sentinel, *lengths = seen["conditions"]
    assert (span.x, span.target_prefix, span.adaptation) == (None, "", None)
    assert sentinel.target_prefix == "<extra_id_0>"
    assert [c.x for c in lengths] == [250, 1000]
    assert {c.base for c in (span, sentinel, *lengths)} == {span.base}
    recipe = lengths[1].adaptation.recipe
    assert (recipe.num_steps, recipe.schedule) == (1000, "constant")
    assert (recipe.learning_rate, recipe.batch_size) == (2e-3, 128)
    assert lengths[0].adaptation.is_start_of(lengths[1].adaptation)
    (line,) = seen["lines"]
    assert (line.name, line.recipe.schedule) == ("ia3", "linear_decay")
    assert (line.recipe.num_steps, line.recipe.learning_rate) == (2, 3e-3)
    assert seen["log_x"] and seen["max_output_length"] == 3


def test_every_method_of_the_sizes_has_its_own_recipe(given, monkeypatch):
    given["LINES"] = "[@ia3/experiment.Line(), @model/experiment.Line()]"
    seen = configured(SIZE, given, monkeypatch)
    few, model = seen["lines"]
    assert few.method == ia3.IA3() and few.name == "(IA)^3"
    assert few.recipe.loss.unlikelihood == few.recipe.loss.length_normalized == 1.0
    assert (few.recipe.learning_rate, few.recipe.schedule) == (3e-3, "linear_decay")
    assert model.method.name == "full"
    assert model.recipe.loss.unlikelihood == model.recipe.loss.length_normalized == 0.0
    assert (model.recipe.learning_rate, model.recipe.schedule) == (1e-3, "constant")
    assert dict(model.recipe.adafactor) == {"max_grad_norm": None}
    (family,) = seen["conditions"]
    assert family.x == "parameters"


def test_lengths_and_starts_of_prompts_are_the_papers(given, monkeypatch):
    seen = configured(PROMPTS, given, monkeypatch)
    assert [c.settings["length"] for c in seen["conditions"]] == [1, 5, 20, 100, 150]
    assert [c.x for c in seen["conditions"]] == [1, 5, 20, 100, 150]
    starts = [line.method.init for line in seen["lines"]]
    assert starts == ["uniform", "sampled_vocabulary", "class_labels"]
    for line in seen["lines"]:
        assert line.method_on(seen["conditions"][2]) == dataclasses.replace(
            line.method, length=20
        )
        assert line.method.init_range == (-0.5, 0.5)
        assert line.method.init_vocabulary == 5000
        recipe = line.recipe
        assert (recipe.learning_rate, recipe.schedule) == (0.3, "constant")
        assert recipe == seen["lines"][0].recipe
        assert recipe.loss.unlikelihood == recipe.loss.length_normalized == 0.0
        assert dict(recipe.adafactor) == {
            "multiply_by_parameter_scale": False,
            "weight_decay": 1e-5,
            "max_grad_norm": None,
        }


def test_mistakes_are_one_line(given, tmp_path, capsys):
    line = error_of(capsys, ADAPTATION, given | {"LENGHTS": "(1,)"})
    assert "nothing uses the macro LENGHTS; did you mean" in line
    line = error_of(capsys, ADAPTATION, given | {"LENGTHS": "(500, 250)"})
    assert "lengths must be positive and increase, got [500, 250]" in line
    line = error_of(capsys, ADAPTATION, given | {"SPAN_BASE": "'nowhere'"})
    assert "the base of span corruption: model nowhere is not a directory" in line
    line = error_of(capsys, ADAPTATION, given)
    assert "arrays holds no token arrays" in line
    line = error_of(capsys, PROMPTS, given | {"LENGTHS": "(1, 0)"})
    assert "0 positions is at 0, which a logarithmic axis does not have" in line
    text = "sentinel/experiment.Condition.target_prefix"
    line = error_of(capsys, ADAPTATION, given | {text: "3"})
    assert "target_prefix must be str, got 3" in line
    rows = {k: v for k, v in given.items() if k in ("TEMPLATES", "CHOICES", "LABEL")}
    rows |= {name: given[name] for name in ("TRAIN_FILE", "TEST_FILE")}
    line = error_of(capsys, ["tasks/csv.gin"], rows)
    assert "no gin file configures compare; give one of experiments/adaptation" in line
    assert not (tmp_path / "out").exists()
