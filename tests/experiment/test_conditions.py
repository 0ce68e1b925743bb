"""What is compared, and what cannot be: said before anything compiles or is written."""

import dataclasses

import pytest

from tfew_jax import experiment
from tfew_jax.data import fewshot, objectives, packing, tasks, token_arrays, tokenizer
from tfew_jax.experiment import conditions as conditions_lib
from tfew_jax.peft import ia3

CONSTANT = experiment.Recipe(schedule="constant")


def lengths_of(*lengths, **more):
    return experiment.adaptation_lengths(
        base="base", arrays="arrays", lengths=lengths, recipe=CONSTANT, **more
    )


def test_a_length_is_the_same_adaptation_for_so_many_steps():
    short, long = lengths_of(250, 1000, dropout_rate=0.1)
    assert (short.name, long.name) == (
        "LM-adapted, 250 steps",
        "LM-adapted, 1,000 steps",
    )
    assert (short.x, long.x) == (250, 1000)
    assert short.base == long.base == "base"
    assert long.adaptation == dataclasses.replace(
        short.adaptation, recipe=dataclasses.replace(CONSTANT, num_steps=1000)
    )
    assert long.adaptation.dropout_rate == 0.1


def test_an_adaptation_passes_the_end_of_shorter_ones_that_are_the_same():
    short, long = (c.adaptation for c in lengths_of(250, 1000))
    assert short.is_start_of(long)
    assert not long.is_start_of(short)
    assert not short.is_start_of(short)
    assert not short.is_start_of(dataclasses.replace(long, seed=1))
    (decaying,) = experiment.adaptation_lengths(
        base="base", arrays="arrays", lengths=[500], recipe=experiment.Recipe()
    )
    (longer,) = experiment.adaptation_lengths(
        base="base", arrays="arrays", lengths=[900], recipe=experiment.Recipe()
    )
    assert not decaying.adaptation.is_start_of(longer.adaptation)


def test_the_models_of_a_family_are_named_by_their_folders():
    family = experiment.model_family(["models/3m", "runs/7m/final_model/", None])
    assert [c.name for c in family] == ["3m", "7m", "embedded"]
    assert {c.x for c in family} == {"parameters"}


def test_a_line_is_named_by_its_method():
    line = experiment.Line()
    assert (line.name, line.method) == ("ia3", ia3.IA3())
    assert experiment.Line(name="(IA)^3").name == "(IA)^3"
    with pytest.raises(ValueError, match="unknown PEFT method 'lorra'"):
        experiment.Line(method="lorra")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("(IA)^3", "IA-3"),
        ("span corruption + sentinel", "span-corruption-+-sentinel"),
        ("LM-adapted, 1,000 steps", "LM-adapted-1-000-steps"),
        ("../..", "-"),
        ("größer", "größer"),
    ],
)
def test_names_are_folders_below_the_comparison(name, folder):
    assert conditions_lib.folder(name) == folder


def test_lengths_and_places_that_cannot_be():
    for lengths in ((), (0, 10), (500, 250), (250, 250)):
        with pytest.raises(ValueError, match="lengths must be positive and increase"):
            lengths_of(*lengths)
    with pytest.raises(ValueError, match="x must be a number, 'parameters' or None"):
        experiment.Condition(name="a", x="size")
    with pytest.raises(ValueError, match="a: x must be finite, got inf"):
        experiment.Condition(name="a", x=float("inf"))


@pytest.fixture(scope="module")
def task(rows, test_rows):
    spec = fewshot.TaskSpec(templates="{{text}}?", choices="bad ||| good", name="films")
    return tasks.Task(spec=spec, train=rows, test=test_rows)


@pytest.fixture
def error_of(base_directory, task, tmp_path):
    """The message of a comparison that cannot be, and leaves nothing."""

    def run(**changed):
        given = {
            "conditions": [experiment.Condition(name="one", base=base_directory)],
            "lines": [experiment.Line()],
            "tasks": [task],
            "seeds": (0,),
            "num_shots": 16,
            "quiet": True,
        }
        with pytest.raises(ValueError) as error:
            experiment.compare(out=tmp_path / "out", **(given | changed))
        assert not (tmp_path / "out").exists()
        return str(error.value)

    return run


def test_what_is_missing_is_named(error_of, task):
    assert "there is no condition to compare" in error_of(conditions=[])
    assert "there is no line to compare" in error_of(lines=[])
    assert "there is no task to compare" in error_of(tasks=[])
    assert "there are no seeds" in error_of(seeds=())
    no_test = dataclasses.replace(task, test=None)
    assert "task films has no test rows" in error_of(tasks=[no_test])


def test_two_of_one_name_are_refused(error_of, base_directory, task):
    two = [experiment.Condition(name=n, base=base_directory) for n in ("a b", "a  b")]
    message = error_of(conditions=two)
    assert message == (
        "two conditions, 'a b' and 'a  b', would share the directory a-b; give each "
        "its own name"
    )
    lines = [experiment.Line(), experiment.Line(name="ia3")]
    assert "two lines, 'ia3' and 'ia3'" in error_of(lines=lines)
    assert "two tasks, 'films' and 'films'" in error_of(tasks=[task, task])


def test_bases_that_cannot_be_loaded_name_their_condition(error_of, base_directory):
    good = experiment.Condition(name="good", base=base_directory)
    bad = experiment.Condition(name="bad", base=base_directory / "nowhere")
    message = error_of(conditions=[good, bad])
    assert message.startswith("the base of bad: model ")
    assert "is not a directory" in message


def test_arrays_of_another_vocabulary_are_refused(
    error_of, base, base_directory, tmp_path
):
    file = tmp_path / "other.model"
    file.write_bytes(base.tokenizer.model_file.read_bytes() + b"\xba\x3e\x01a")
    sizes = {"inputs": 16, "targets": 12}
    pairs = token_arrays.make_pairs(
        ["good film plot"] * 4,
        tokenizer=base.tokenizer,
        objective=objectives.PrefixLM(),
        lengths=sizes,
    )
    token_arrays.write(
        tmp_path / "arrays",
        packing.pack(pairs, sizes),
        lengths=sizes,
        vocabulary=tokenizer.Tokenizer(file),
    )
    adapted = experiment.adaptation_lengths(
        base=base_directory,
        arrays=tmp_path / "arrays",
        lengths=[1],
        recipe=CONSTANT,
    )
    assert "tokens of another vocabulary" in error_of(conditions=adapted)
    missing = dataclasses.replace(adapted[0].adaptation, arrays=tmp_path / "no")
    condition = dataclasses.replace(adapted[0], adaptation=missing)
    assert "holds no token arrays" in error_of(conditions=[condition])


def test_rows_and_recipes_are_checked_for_every_line(error_of):
    large = experiment.Line(recipe=experiment.Recipe(batch_size=64))
    assert "64" in error_of(lines=[experiment.Line(name="small"), large])
    assert "max_output_length must be positive" in error_of(max_output_length=0)
    assert "checkpoint_period must be positive" in error_of(checkpoint_period=0)


def test_a_logarithmic_axis_has_no_zero(error_of, base_directory):
    condition = experiment.Condition(name="none", base=base_directory, x=0)
    message = error_of(conditions=[condition], log_x=True)
    assert message.startswith("none is at 0, which a logarithmic axis does not have")
