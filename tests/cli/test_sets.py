"""`tfew fewshot --task` with the papers' sets and RAFT: the configuration it writes."""

import pytest
from one_line import error_of

from tfew_jax import experiment
from tfew_jax.cli import configuration, fewshot, main, packaged
from tfew_jax.data import benchmarks, raft


def config_text(*flags):
    return fewshot.config_text(main.make_parser().parse_args(["fewshot", *flags]))


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_set_has_a_gin_file_that_names_it(name):
    text = (packaged.directory() / "tasks" / f"{name}.gin").read_text()
    described = benchmarks.get(name)
    assert f"BENCHMARK = '{name}'" in text
    assert f"{described.num_shots} rows of the {described.train} split" in text
    assert f"{described.splits[described.evaluation].num_rows:,} to score" in text


def test_a_set_runs_by_tfews_protocol(tmp_path):
    text = config_text(
        *("--task", "rte", "--data-dir", str(tmp_path), "--out", str(tmp_path)),
        *("--eval-templates", "random,all,3", "--allow-partial-train"),
    )
    assert "include 'tasks/rte.gin'" in text and "include 'runs/tfew.gin'" in text
    assert f"DATA_DIR = '{tmp_path}'" in text
    assert "EVAL_TEMPLATES = ('random', 'all', 3)" in text
    assert "ALLOW_PARTIAL_TRAIN = True" in text
    assert "SEEDS" not in text  # runs/tfew.gin has T-Few's five
    with configuration.parsed(entry=experiment.train, text=text) as configured:
        assert callable(configured)


def test_a_partial_training_file_is_allowed_in_both_spellings():
    for flag in ("--allow-partial-train", "--allow_partial_train"):
        text = config_text("--task", "rte", "--data-dir", "d", flag)
        assert "ALLOW_PARTIAL_TRAIN = True" in text


@pytest.mark.parametrize("name", raft.NAMES)
def test_a_raft_task_is_cross_validated(tmp_path, name):
    text = config_text("--task", f"raft/{name}", "--data-dir", str(tmp_path))
    assert f"RAFT_TASK = '{name}'" in text and "SEEDS = (0,)" in text
    run = "raft_banking_77" if name == "banking_77" else "fewshot"
    assert f"include 'runs/{run}.gin'" in text
    with configuration.parsed(entry=experiment.train, text=text) as configured:
        assert callable(configured)


def test_other_sources_are_named_in_front_of_their_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = config_text("--task", "rte", "--data-dir", "tfds:here")
    assert f"DATA_DIR = 'tfds:{tmp_path / 'here'}'" in text
    assert "DATA_DIR = 'hub:'" in config_text("--task", "rte", "--data-dir", "hub:")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--task", "rte"], "--data-dir is missing: where the rows of rte are"),
        (["--task", "raft/overruling"], "--data-dir is missing"),
        (["--task", "raft/x", "--data-dir", "."], "unknown RAFT task 'x'"),
        (["--task", "customer_intent", "--data-dir", "."], "--data-dir is for the"),
        (
            ["--task", "raft/overruling", "--data-dir", ".", "--shots-dir", "."],
            "--shots-dir is for the papers' sets",
        ),
        (["--task", "benchmark", "--data-dir", "."], "unknown --task 'benchmark'"),
        (["--task", "rte", "--data-dir", "nowhere"], "no validation split of rte"),
        (["--task", "customer_intent", "--eval-templates", "9"], "indices 0 to 3"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(capsys, "fewshot", *flags)
    assert not (tmp_path / "fewshot_output").exists()


def test_an_unknown_way_of_scoring_lists_those_there_are(capsys):
    with pytest.raises(SystemExit):
        config_text("--task", "customer_intent", "--eval-templates", "some")
    assert "none of first, random, all" in capsys.readouterr().err


def test_a_method_has_a_rate_of_its_own_unless_one_is_given():
    words = ("--train", "a.csv", "--template", "{{a}}", "--choices", "a ||| b")
    text = config_text(*words, "--method", "prompt")
    assert "include 'methods/prompt.gin'" in text
    assert "LEARNING_RATE" not in text
    text = config_text(*words, "--method", "prompt", "--learning-rate", "0.1")
    assert "LEARNING_RATE = 0.1" in text
