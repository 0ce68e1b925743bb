"""Reading directories: what is found, what is damaged, what is not finished."""

import json

import pytest

from tfew_jax import report
from tfew_jax.report import records


def test_experiments_are_found_at_any_depth_and_each_once(experiment, tuned):
    inner = experiment("deep/er/b", tuned("cb", (0.5,), seeds=(0,)))
    outer = experiment("a", tuned("rte", (0.5,), seeds=(0,)))
    # What an experiment holds is no experiment of its own.
    experiment("a/runs/seed-0", tuned("wsc", (0.5,), seeds=(0,)))
    root = outer.parent
    assert [e.path for e in report.load_records(root)] == [outer, inner]
    assert [e.path for e in report.load_records([inner, root])] == [inner, outer]
    named = report.load_records([root], variants={str(outer): "mine"})
    assert [e.variant for e in named] == ["mine", "ia3"]
    assert [e.path for e in report.load_records([], variants={inner: "x"})] == [inner]


def test_a_name_stands_for_what_was_tuned_and_not_for_baselines(
    experiment, tuned, record
):
    rows = [*tuned("cb", (0.5,), seeds=(0,)), record("zero_shot", 0.4, task="cb")]
    [loaded] = report.load_records([], variants={experiment("a", rows): "mine"})
    assert [r.variant for r in loaded.records] == ["mine", "ia3"]


def test_fields_of_templates_are_read(experiment, tuned):
    rows = [
        *tuned("cb", (0.5,), seeds=(0,), template=3, template_name="can we infer"),
        *tuned("cb", (0.5,), seeds=(0,), template="random", variant="slow"),
    ]
    [loaded] = report.load_records(experiment("a", rows))
    read = [(r.variant, r.template, r.template_name) for r in loaded.records]
    assert read == [("ia3", 3, "can we infer"), ("slow", "random", None)]


def test_a_folder_without_experiments_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}: no experiment.*results.jsonl"):
        report.load_records(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file; give the directory"):
        report.load_records(tmp_path / "file")
    with pytest.raises(ValueError, match="nowhere does not exist; give the directory"):
        report.load_records(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no directory to report on"):
        report.load_records([])


@pytest.mark.parametrize(
    "line, says",
    [
        ("{'kind'}", "not a record (Expecting property name"),
        ("", "not a record (Expecting value"),
        ("[1]", "a JSON object is expected, not list"),
        ('{"run": "seed-0"}', "not a record (no 'kind')"),
        ('{"kind": "best"}', "kind 'best' is none of tuned, text_prompt, zero_shot"),
        ('{"kind": "tuned", "scores": 0.5}', "scores are neither an object nor null"),
        ('{"kind": "tuned", "scores": {"accuracy": NaN}}', "accuracy nan is no frac"),
        ('{"kind": "tuned", "scores": {"macro_f1": 64}}', "macro_f1 64 is no fraction"),
        ('{"kind": "tuned", "scores": null, "template": -1}', "template -1 is no"),
        ('{"kind": "tuned", "scores": null, "template": "x"}', "template 'x' is no"),
    ],
)
def test_a_damaged_line_is_named(experiment, tuned, line, says):
    good = json.dumps(tuned("cb", (0.5,), seeds=(1,))[0])
    path = experiment("a", tuned("cb", (0.5,), seeds=(0,)), tail=f"{line}\n{good}\n")
    with pytest.raises(ValueError) as caught:
        report.load_records(path)
    assert str(caught.value).startswith(f"{path}/results.jsonl, line 2: ")
    assert says in str(caught.value)
    assert "restore the file" in str(caught.value)


def test_bytes_that_are_no_text_are_a_damaged_line(experiment, tuned):
    path = experiment("a", tuned("cb", (0.5,), seeds=(0,)))
    with open(path / "results.jsonl", "ab") as file:
        file.write(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="line 2: not a record"):
        report.load_records(path)


@pytest.mark.parametrize("name", ["settings.json", "summary.json"])
def test_damaged_settings_are_named(experiment, tuned, name):
    path = experiment("a", tuned("cb", (0.5,), seeds=(0,)))
    (path / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is not JSON"):
        report.load_records(path)
    (path / name).write_text("[]")
    with pytest.raises(ValueError, match=f"{name} holds no JSON object"):
        report.load_records(path)


def test_an_unfinished_experiment_says_what_is_missing(experiment, tuned):
    rows = tuned("cb", (0.5, 0.6), seeds=(0, 1))
    path = experiment("a", rows, finished=False, tail='{"run": "seed-')
    before = (path / "results.jsonl").read_bytes()
    [loaded] = report.load_records(path)
    assert loaded.unfinished() == (
        f"{path} is not finished: 2 of 5 seeds have scores, the record at the end is "
        "cut off and left out"
    )
    assert len(loaded.records) == 2
    assert (path / "results.jsonl").read_bytes() == before


def test_an_unfinished_cross_validation_says_which_folds_it_has(experiment, tuned):
    rows = tuned("cb", (0.5,), seeds=(0,), fold=1, split="fold")
    changed = {"protocol.seeds": [0], "protocol.num_folds": 5}
    [loaded] = report.load_records(experiment("a", rows, finished=False, **changed))
    assert (loaded.unfinished() or "").endswith(
        "is not finished: 1 of 1 seeds have scores, seed 0 has 1 of 5 folds"
    )


def test_a_finished_file_may_lack_its_last_line_end(experiment, tuned):
    last = json.dumps(tuned("cb", (0.5,), seeds=(1,))[0])
    path = experiment("a", tuned("cb", (0.5,), seeds=(0,)), tail=last)
    [loaded] = report.load_records(path)
    assert [r.seed for r in loaded.records] == [0, 1]
    assert loaded.unfinished() is None
    with open(path / "results.jsonl", "a") as file:
        file.write("{")
    with pytest.raises(ValueError, match="line 2: not a record"):
        report.load_records(path)


def test_two_names_for_one_directory_are_refused(experiment, tuned):
    path = experiment("a", tuned("cb", (0.5,), seeds=(0,)))
    with pytest.raises(ValueError, match="is given two variants, x and y"):
        report.load_records([], variants={path: "x", path.parent: "y"})


def test_records_with_and_without_scores_are_told_apart(experiment, tuned, record):
    rows = [*tuned("cb", (0.5,), seeds=(0,)), record("tuned", None, task="cb", seed=0)]
    loaded = report.load_records(experiment("a", rows))
    assert len(list(records.scored(loaded))) == 1
