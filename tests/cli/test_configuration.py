"""Errors of gin files and flags: one line that says what to do."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gin
import pytest

from tfew_jax import experiment
from tfew_jax.cli import binding_types, configuration

FILES = [
    "models/embedded.gin",
    "methods/ia3.gin",
    "tasks/customer_intent.gin",
    "runs/train.gin",
]
GIVEN = ["MODEL_DIR='out'"]


def parse(*, files=FILES, bindings=GIVEN, **kwargs):
    return configuration.parsed(
        entry=experiment.train, files=files, bindings=bindings, **kwargs
    )


def error_of(**kwargs):
    with pytest.raises(ValueError) as error, parse(**kwargs):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_later_files_and_flags_win(tmp_path):
    (tmp_path / "mine.gin").write_text("TRAIN_STEPS = 7\nBATCH_SIZE = 4\n")
    with parse(
        files=[*FILES, "mine.gin"],
        bindings=[*GIVEN, "BATCH_SIZE=2"],
        search_paths=[f"nowhere,{tmp_path}"],
    ):
        assert gin.query_parameter("TRAIN_STEPS/macro.value") == 7
        assert gin.query_parameter("BATCH_SIZE/macro.value") == 2


def test_files_may_come_in_any_order():
    with parse(files=FILES[::-1]):
        assert gin.query_parameter("LEARNING_RATE/macro.value") == 3e-3


def test_an_ablation_that_the_file_of_the_run_would_undo_is_refused():
    message = error_of(files=["ablations/sum_score.gin", *FILES])
    assert message.startswith("ablations/sum_score.gin stands before runs/train.gin")
    assert "give it after" in message
    with parse(files=[*FILES, "ablations/sum_score.gin"]):
        assert gin.query_parameter("SCORE/macro.value") == "sum"


def test_a_parameter_deep_inside_can_be_bound():
    with parse(bindings=[*GIVEN, "losses.TFewLoss.unlikelihood=0.5"]):
        assert gin.query_parameter("losses.TFewLoss.unlikelihood") == 0.5


def test_packaged_files_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with parse() as configured:
        assert configured.__name__ == "train"


@pytest.mark.parametrize("is_package", [False, True])
def test_folders_called_as_packaged_ones_where_modules_are_found_change_nothing(
    tmp_path, monkeypatch, is_package
):
    for file in FILES:
        folder = (tmp_path / file).parent
        folder.mkdir()
        if is_package:
            (folder / "__init__.py").touch()
            (tmp_path / file).write_text("NO_MACRO_OF_OURS = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    readers = list(gin.config._FILE_READERS)
    with parse() as configured:
        assert configured.__name__ == "train"
        assert gin.query_parameter("LEARNING_RATE/macro.value") == 3e-3
    assert readers == gin.config._FILE_READERS


def test_a_file_that_is_not_there_lists_where_it_was_looked_for(tmp_path):
    message = error_of(files=[*FILES, "runs/trian.gin"], search_paths=[str(tmp_path)])
    assert "'runs/trian.gin' not found; searched" in message
    assert str(tmp_path) in message and "gin_configs" in message
    assert "did you mean runs/train.gin" in message


def test_a_misspelt_macro_is_refused_with_what_comes_close():
    message = error_of(bindings=[*GIVEN, "LEARNING_RAT=0.1"])
    assert message.startswith("nothing uses the macro LEARNING_RAT; did you mean")
    assert "LEARNING_RATE" in message


def test_a_misspelt_macro_in_a_file_is_refused_as_well(tmp_path):
    (tmp_path / "mine.gin").write_text("TRAIN_STEP = 7\n")
    message = error_of(files=[*FILES, str(tmp_path / "mine.gin")])
    assert "nothing uses the macro TRAIN_STEP; did you mean TRAIN_STEPS" in message


def test_a_macro_that_only_other_runs_use_is_refused_in_a_file_of_ones_own(tmp_path):
    (tmp_path / "base.gin").write_text("SEEDS = (0, 1)\n")
    (tmp_path / "mine.gin").write_text("include 'base.gin'\nTRAIN_STEPS = 7\n")
    message = error_of(files=[*FILES, "mine.gin"], search_paths=[str(tmp_path)])
    assert "nothing uses the macro SEEDS" in message


def test_a_macro_of_another_run_is_refused():
    message = error_of(bindings=[*GIVEN, "SEEDS=(0, 1)"])
    assert "nothing uses the macro SEEDS" in message


def test_what_packaged_files_define_beyond_the_run_is_no_mistake():
    with configuration.parsed(
        entry=experiment.infer,
        files=["models/embedded.gin", "methods/ia3.gin", "runs/infer.gin"],
        bindings=["INFER_OUTPUT_DIR='out'", "MIXTURE_OR_TASK_NAME='a.csv'"],
    ) as configured:
        assert callable(configured)


def test_a_macro_without_value_is_named_with_the_files_that_provide_it():
    message = error_of(files=FILES[1:], bindings=[])
    assert "MODEL_DIR has no value; give --gin.MODEL_DIR=VALUE" in message
    assert "DROPOUT_RATE has no value" in message
    assert "a gin file such as models/" in message


def test_a_required_value_of_a_users_file_is_named(tmp_path):
    (tmp_path / "mine.gin").write_text("TRAIN_STEPS = %gin.REQUIRED\n")
    message = error_of(files=[*FILES, str(tmp_path / "mine.gin")])
    assert message.startswith("TRAIN_STEPS has no value; give --gin.TRAIN_STEPS=VALUE")


def test_an_unknown_parameter_is_refused_with_what_comes_close():
    message = error_of(bindings=[*GIVEN, "experiment.Recipe.learning_rat=0.1"])
    assert "'learning_rat'" in message and "did you mean learning_rate" in message
    assert message.startswith("--gin.experiment.Recipe.learning_rat=0.1: ")


def test_an_unknown_configurable_is_refused():
    assert "'experiment.Recip'" in error_of(
        bindings=[*GIVEN, "experiment.Recip.num_steps=1"]
    )


def test_an_unknown_module_in_a_file_is_refused_with_file_and_line(tmp_path):
    (tmp_path / "mine.gin").write_text(
        "from __gin__ import dynamic_registration\nimport tfew_jaxx\n"
    )
    message = error_of(files=[*FILES, str(tmp_path / "mine.gin")])
    assert "tfew_jaxx" in message and "mine.gin" in message and "line 2" in message


def test_a_string_without_quotes_is_shown_with_quotes():
    message = error_of(bindings=["MODEL_DIR=/tmp/out"])
    assert "--gin.MODEL_DIR=\"'/tmp/out'\"" in message


def test_a_flag_without_value_is_refused():
    assert "--gin.MODEL_DIR has no value" in error_of(bindings=["MODEL_DIR"])


def test_files_that_configure_nothing_name_the_runs():
    message = error_of(files=["methods/ia3.gin"], bindings=[])
    assert "runs/train.gin" in message


def test_the_saved_configuration_parses_again_to_the_same(tmp_path):
    with parse(bindings=[*GIVEN, "TRAIN_STEPS=7"]):
        configuration.save(tmp_path)
        first = gin.config_str()
    with parse(files=[str(tmp_path / "config.gin")], bindings=[]):
        assert gin.config_str() == first


def test_nothing_of_one_configuration_is_left_for_the_next(tmp_path):
    with parse(search_paths=[str(tmp_path)]):
        pass
    assert gin.config_str().strip() == ""
    assert str(tmp_path) not in gin.config._LOCATION_PREFIXES


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("TRAIN_STEPS='ten'", "TRAIN_STEPS must be int, got 'ten'"),
        ("BATCH_SIZE=2.5", "BATCH_SIZE must be int, got 2.5"),
        ("LEARNING_RATE='x'", "LEARNING_RATE must be float, got 'x'"),
        ("DROPOUT_RATE=(1,)", "DROPOUT_RATE must be float or None, got (1,)"),
        ("TASK_FEATURE_LENGTHS=7", "must be Mapping[str, int] or None, got 7"),
        (
            "TASK_FEATURE_LENGTHS={'inputs': '256'}",
            "must be Mapping[str, int] or None, got {'inputs': '256'}",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_binding(
    binding, message
):
    assert message in error_of(bindings=[*GIVEN, binding])


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True),
        (True, int, False),
        (None, int | None, True),
        ((0, 1), Sequence[int], True),
        ((0, "a"), Sequence[int], False),
        ("01", Sequence[int], False),
        ("ab", Sequence[str], True),
        (["a"], tuple[str, ...], True),
        ((), tuple[str, ...], True),
        ((1,), tuple[str, ...], False),
        ("a", tuple[str, ...], False),
        ((0, 0.5), tuple[float, float], True),
        ((1,), tuple[float, float], False),
        (("a", "b"), tuple[float, float], False),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        ({"a": 1}, Mapping[str, int], True),
        ({"a": 64.5}, Mapping[str, int], False),
        ({1: 1}, Mapping[str, int], False),
        ({"a": 1}, Mapping[str, str | int | None] | None, True),
        ({"a": object()}, Mapping[str, Any], True),
        ({"a": (1, "b")}, dict[str, Sequence[int]], False),
        (3, str | os.PathLike[str], False),
        (object(), "a forward reference", True),
    ],
)
def test_values_are_compared_with_annotations(value, hint, expected):
    assert binding_types.matches(value, hint) is expected


def test_of_several_entries_the_one_that_is_configured_is_yielded():
    files = ["models/embedded.gin", "runs/generate.gin"]
    bindings = ["MIXTURE_OR_TASK_NAME='rows.csv'", "INFER_OUTPUT_DIR='out'"]
    entries = (experiment.infer, experiment.write_generations)
    with configuration.parsed(entry=entries, files=files, bindings=bindings) as entry:
        assert entry.__name__ == "write_generations"
    both = [*files, "runs/infer.gin"]
    with (
        pytest.raises(ValueError, match="configure predict_rows or write_generations"),
        configuration.parsed(entry=entries, files=both, bindings=bindings),
    ):
        pass
