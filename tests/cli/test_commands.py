"""The commands as a user types them, in one process."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest
from one_line import error_of

import tfew_jax
from tfew_jax.cli import fewshot, main
from tfew_jax.experiment import scoring

WORDS = {"bad": ("awful", "dull"), "good": ("lovely", "great")}
ROWS = [
    (f"{WORDS[label][i % 2]} {'plot ' * (i // 2)}film", label)
    for i in range(10)
    for label in WORDS
]
NEW_ROWS = [(f"{word} yes", label) for label in WORDS for word in WORDS[label]]


def write_rows(path, rows, *, labels=True):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "sentiment"] if labels else ["text"])
        writer.writerows(row if labels else row[:1] for row in rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    write_rows(folder / "rows.csv", ROWS)
    write_rows(folder / "test.csv", NEW_ROWS)
    write_rows(folder / "new.csv", NEW_ROWS[:3], labels=False)
    return folder


@pytest.fixture(scope="module")
def arguments(folder, base_directory):
    return [
        *("fewshot", "--train", str(folder / "rows.csv")),
        *("--template", r"Review: {{text}}\nSentiment?", "--choices", "bad ||| good"),
        *("--label", "sentiment", "--base", str(base_directory), "--steps", "4"),
    ]


@pytest.fixture(scope="module")
def finished(folder, arguments):
    """A finished run with test rows and rows to predict."""
    out = folder / "out"
    status = main.main(
        [
            *arguments,
            *("--test", str(folder / "test.csv"), "--seeds", "0,1", "--shots", "12"),
            *("--predict", str(folder / "new.csv"), "--out", str(out)),
        ]
    )
    assert status == 0
    return out


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(*argv):
    return main.main([str(word) for word in argv])


def test_fewshot_leaves_all_that_it_promises(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        *("adapter", "predictions.csv", "results.jsonl", "summary.json", "config.gin"),
        *("operative_config.gin", "log.txt", "tensorboard", "FINISHED"),
    }
    summary = json.loads((finished / "summary.json").read_text())
    for kind in ("zero_shot", "tuned", "majority", "tfidf"):
        assert set(summary[kind]) == {"median", "q1", "q3", "n"}
        assert 0 <= summary[kind]["q1"] <= summary[kind]["median"] <= 1
    assert summary["tuned"]["n"] == 2
    assert [row["row"] for row in table(finished / "predictions.csv")] == [
        "0",
        "1",
        "2",
    ]


def test_line_ends_in_a_template_may_be_written_as_backslash_n(finished):
    adapter = tfew_jax.load_adapter(finished / "adapter")
    assert adapter.task["templates"] == ["Review: {{text}}\nSentiment?"]


def test_fewshot_is_train_with_the_generated_config(finished, capsys):
    before = {
        path: path.read_bytes()
        for path in (finished / "results.jsonl", finished / "predictions.csv")
    }
    assert run("train", "--gin_file", finished / "config.gin") == 0
    captured = capsys.readouterr()
    assert "all 2 runs of 4 steps are done already" in captured.err
    assert "tuned" in captured.out
    assert before == {path: path.read_bytes() for path in before}


def test_train_with_another_setting_in_the_same_directory_is_refused(finished, capsys):
    line = error_of(
        capsys,
        *("train", "--gin_file", finished / "config.gin", "--gin.TRAIN_STEPS=5"),
    )
    assert "recipe.num_steps was 4, now 5" in line and "--overwrite" in line


def scoring_flags(finished, base_directory, rows):
    return [
        *("--gin_file", "models/embedded.gin"),
        f"--gin.INITIAL_CHECKPOINT_PATH='{base_directory}'",
        f"--gin.MIXTURE_OR_TASK_NAME='{rows}'",
        f"--gin.CHECKPOINT_PATH='{finished}'",
    ]


def test_infer_predicts_as_the_run_did(finished, folder, base_directory, capsys):
    flags = scoring_flags(finished, base_directory, folder / "new.csv")
    out = folder / "inferred"
    assert (
        run(
            "infer",
            *flags,
            "--gin_file=runs/infer.gin",
            f"--gin.INFER_OUTPUT_DIR='{out}'",
        )
        == 0
    )
    assert capsys.readouterr().out.strip() == str(out / "predictions.csv")
    mine, theirs = table(out / "predictions.csv"), table(finished / "predictions.csv")
    assert mine == theirs
    assert (out / "config.gin").exists()


def test_eval_scores_as_the_run_did(finished, folder, base_directory, capsys):
    flags = scoring_flags(finished, base_directory, folder / "test.csv")
    out = folder / "scored"
    assert (
        run(
            "eval", *flags, "--gin_file=runs/eval.gin", f"--gin.EVAL_OUTPUT_DIR='{out}'"
        )
        == 0
    )
    metrics = json.loads((out / "metrics.json").read_text())
    lines = (finished / "results.jsonl").read_text().splitlines()
    record = next(r for r in map(json.loads, lines) if r["run"] == "seed-0")
    assert metrics["accuracy"] == record["scores"]["accuracy"]
    assert metrics["confusion_matrix"] == record["scores"]["confusion_matrix"]
    assert f"accuracy {metrics['accuracy']:.4f}" in capsys.readouterr().out
    scores, _ = scoring.load(finished / record["choice_scores"])
    found = [
        [float(row[f"score:{choice}"]) for choice in ("bad", "good")]
        for row in table(out / "predictions.csv")
    ]
    np.testing.assert_allclose(found, scores, atol=1e-5)


@pytest.mark.parametrize("command, rows", [("eval", "test.csv"), ("infer", "new.csv")])
def test_the_directory_of_a_run_is_not_written_over(
    finished, folder, base_directory, capsys, command, rows
):
    before = {path: path.read_bytes() for path in finished.glob("*.*")}
    line = error_of(
        capsys,
        *(command, *scoring_flags(finished, base_directory, folder / rows)),
        f"--gin_file=runs/{command}.gin",
        f"--gin.{command.upper()}_OUTPUT_DIR='{finished}'",
    )
    assert f"{finished} holds a run" in line
    assert {path: path.read_bytes() for path in finished.glob("*.*")} == before


def test_an_output_directory_may_begin_with_the_home_directory(
    finished, folder, base_directory, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = scoring_flags(finished, base_directory, folder / "test.csv")
    files = ("--gin_file=runs/eval.gin", "--gin.EVAL_OUTPUT_DIR='~/scored'")
    assert run("eval", *flags, *files) == 0
    assert (tmp_path / "scored" / "metrics.json").exists()


def test_the_frozen_model_alone_scores_an_embedded_task(base_directory, tmp_path):
    status = run(
        *("eval", "--gin_file=models/embedded.gin", "--gin_file=runs/eval.gin"),
        *("--gin_file=tasks/product_reviews.gin", "--gin.BATCH_SIZE=64"),
        f"--gin.INITIAL_CHECKPOINT_PATH='{base_directory}'",
        f"--gin.EVAL_OUTPUT_DIR='{tmp_path}'",
    )
    assert status == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["num_rows"] == 250


def test_rows_without_adapter_have_no_template(
    folder, base_directory, tmp_path, capsys
):
    flags = scoring_flags("x", base_directory, folder / "new.csv")[:-1]
    line = error_of(
        capsys,
        *("infer", *flags, "--gin_file=runs/infer.gin"),
        f"--gin.INFER_OUTPUT_DIR='{tmp_path}'",
    )
    assert "is a file of rows without a template" in line


def test_a_run_that_is_not_finished_gives_no_adapter(
    folder, base_directory, tmp_path, capsys
):
    (tmp_path / "settings.json").write_text("{}")
    flags = scoring_flags(tmp_path, base_directory, folder / "new.csv")
    line = error_of(
        capsys,
        *("infer", *flags, "--gin_file=runs/infer.gin"),
        f"--gin.INFER_OUTPUT_DIR='{tmp_path}'",
    )
    assert f"the run in {tmp_path} is not finished" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "0"], "num_steps must be a positive integer, got 0"),
        (["--seeds", ","], "there is no seed"),
        (["--seeds", "a,b"], "not a list of whole numbers"),
        (["--shots", "99"], "there are 20 rows"),
        (["--label", "stars"], "stars"),
        (["--template", "{{text"], "template"),
        (["--template", "{{ text.__class__ }}"], "unsafe"),
        (["--choices", "bad ||| bad"], "twice"),
        (["--method", "lorra"], "unknown --method 'lorra'; available: full, ia3"),
        (["--train", "nowhere.csv"], "nowhere.csv"),
        (["--base", "nowhere"], "nowhere"),
        (["--task", "customer_intent"], "leave out --train"),
        (["--batch-size", "21"], "batch_size=21"),
        (["--learning-rate", "nan"], "--learning-rate must be a positive number"),
        (["--template", "Review: {text}"], "reads no column"),
        (["--wrong"], "unrecognized arguments: --wrong"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(
    arguments, tmp_path, monkeypatch, capsys, flags, message
):
    monkeypatch.chdir(tmp_path)
    assert message in error_of(capsys, *arguments, *flags)
    assert not (tmp_path / "fewshot_output").exists()


def test_missing_arguments_are_named(capsys):
    assert "--train is missing" in error_of(capsys, "fewshot")
    assert "--template is missing" in error_of(capsys, "fewshot", "--train", "a.csv")
    assert "--gin_file is missing" in error_of(capsys, "train")
    assert "unknown --task 'intent'; available: anli-r1, anli-r2" in error_of(
        capsys, "fewshot", "--task", "intent"
    )


def test_debug_shows_the_traceback(capsys):
    assert run("fewshot", "--debug") == 2
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.strip().splitlines()[-1].startswith("tfew fewshot: error: --train")


def test_ctrl_c_is_status_130(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(fewshot, "run", interrupted)
    assert run("fewshot") == 130
    assert capsys.readouterr().err.strip() == "tfew fewshot: interrupted"


def test_a_directory_in_use_is_refused(arguments, tmp_path, capsys):
    import fcntl

    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4321")
        lock.flush()
        line = error_of(capsys, *arguments, "--out", tmp_path / "out")
    assert "is in use by process 4321" in line


def test_a_read_only_directory_is_refused(arguments, tmp_path, monkeypatch, capsys):
    out, access = tmp_path / "out", os.access
    out.mkdir()

    def refuse(path, mode, **more):  # as for all users but root
        return pathlib.Path(path) != out and access(path, mode, **more)

    monkeypatch.setattr(os, "access", refuse)
    assert "read-only" in error_of(capsys, *arguments, "--out", out)
    assert list(out.iterdir()) == []


def test_a_full_disk_keeps_what_was_written(finished, monkeypatch, capsys):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    before = (finished / "summary.json").read_bytes()
    monkeypatch.setattr("tfew_jax.experiment.directory.write_bytes", full)
    assert run("train", "--gin_file", finished / "config.gin") == 2
    assert "error: [Errno 28] No space left on device" in capsys.readouterr().err
    assert (finished / "summary.json").read_bytes() == before


def test_the_generated_config_is_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = main.make_parser().parse_args(
        ["fewshot", "--task", "customer_intent", "--shots", "50", "--out", "here"]
    )
    text = fewshot.config_text(args)
    assert "include 'tasks/customer_intent.gin'" in text
    assert f"MODEL_DIR = '{tmp_path / 'here'}'" in text
    assert "NUM_SHOTS = 50" in text
    assert "SEEDS" not in text  # runs/fewshot.gin has T-Few's five


def test_cross_validation_takes_one_seed_unless_more_are_given():
    words = [
        "fewshot",
        "--train",
        "a.csv",
        "--template",
        "{{a}}",
        "--choices",
        "a ||| b",
    ]
    parser = main.make_parser()
    assert "SEEDS = (0,)" in fewshot.config_text(parser.parse_args(words))
    more = parser.parse_args([*words, "--seeds", "3,4"])
    assert "SEEDS = (3, 4)" in fewshot.config_text(more)
    tested = parser.parse_args([*words, "--test", "b.csv"])
    assert "SEEDS" not in fewshot.config_text(tested)


def test_demonstrations_take_the_place_of_a_method(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = main.make_parser()
    words = ["fewshot", "--task", "customer_intent", "--demonstrations", "7"]
    text = fewshot.config_text(parser.parse_args(words))
    assert "include 'runs/text_prompt.gin'" in text
    assert "NUM_DEMONSTRATIONS = 7" in text
    assert "methods/" not in text and "runs/fewshot.gin" not in text
    none = parser.parse_args([*words[:-1], "0"])
    assert "NUM_DEMONSTRATIONS = 0" in fewshot.config_text(none)
    of_set = ["fewshot", "--task", "rte", "--data-dir", "d", "--demonstrations", "4"]
    assert "EVAL_TEMPLATES = 'random'" in fewshot.config_text(parser.parse_args(of_set))
    first = parser.parse_args([*of_set, "--eval-templates", "first"])
    assert "EVAL_TEMPLATES = ('first',)" in fewshot.config_text(first)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "9"], "--steps is for tuning"),
        (["--method", "ia3"], "--method is for tuning"),
        (["--batch-size", "9"], "--batch-size is for tuning"),
        (["--learning-rate", "1"], "--learning-rate is for tuning"),
    ],
)
def test_what_is_for_tuning_is_refused_beside_demonstrations(words, message, capsys):
    given = ["--task", "product_reviews", "--demonstrations", "2", *words]
    assert message in error_of(capsys, "fewshot", *given)


def test_a_negative_number_of_demonstrations_is_refused(capsys):
    given = ["--task", "product_reviews", "--demonstrations", "-2"]
    assert "must be 0 or more, got -2" in error_of(capsys, "fewshot", *given)


def test_demonstrations_leave_records_and_predictions(arguments, tmp_path, capsys):
    dropped = arguments.index("--steps")
    given = [*arguments[:dropped], *arguments[dropped + 2 :]]
    out = tmp_path / "out"
    assert run(*given, "--demonstrations", "2", "--out", out) == 0
    assert "text prompt" in capsys.readouterr().out
    assert (out / "FINISHED").exists() and (out / "config.gin").exists()
    assert not (out / "adapter").exists()
    assert len(table(out / "predictions.csv")) > 0
    lines = (out / "results.jsonl").read_text().splitlines()
    assert "text_prompt" in {json.loads(line)["kind"] for line in lines}


@pytest.mark.parametrize("command", ["", *main._COMMANDS])
def test_help_explains_each_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main([*command.split(), "--help"])
    assert stop.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith(f"usage: tfew {command}".rstrip())
    about = "Tune a frozen T5 on a few labelled rows"
    text = main._COMMANDS[command].__doc__ if command else about
    assert " ".join(text.partition("\n\n")[0].split()) in shown


def test_help_and_import_take_no_time():
    """The best of three, on a machine that others use as well."""

    def seconds(*command):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        return min(times)

    python = seconds("-c", "pass")
    assert seconds("-c", "import tfew_jax") - python <= 0.3
    assert seconds("-m", "tfew_jax.cli.main", "--help") - python <= 1.0


def test_the_entry_point_of_the_package_is_this_main():
    text = (pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert 'tfew = "tfew_jax.cli.main:main"' in text
