"""All of the papers' sets through the whole pipeline, on tiny copies.

Official files, promptsource's own templates, T-Few's protocol, two steps of a toy
model.
"""

import json
import pathlib
import sys

import pytest

from tfew_jax import experiment
from tfew_jax.data import benchmarks, fewshot, tasks

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "data"))

import official_rows

# Set: templates that ask for its own task and apply to every row.
NUM_TEMPLATES = {
    **{"copa": 8, "h-swag": 4, "storycloze": 5, "winogrande": 5, "wsc": 10, "wic": 10},
    **{"rte": 10, "cb": 15, "anli-r1": 15, "anli-r2": 15, "anli-r3": 15, "boolq": 10},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return official_rows.write_official(tmp_path_factory.mktemp("official"))


def make_task(name, data_dir, promptsource_directory):
    return tasks.benchmark(
        name,
        data_dir=data_dir,
        templates_dir=promptsource_directory,
        seeds=(0, 1),
        num_shots=4,
        allow_partial_train=True,
    )


@pytest.mark.parametrize("name", benchmarks.names())
def test_a_set_runs_from_official_files_to_records(
    base, data_dir, promptsource_directory, name
):
    task = make_task(name, data_dir, promptsource_directory)
    assert task.test is not None
    rendered = fewshot.render_rows(task.test, task.spec)
    assert {len(rows) for rows in rendered} == {official_rows.NUM_ROWS}
    for rows in rendered:
        for row, rendered_row in zip(task.test, rows, strict=True):
            assert rendered_row.label == row["label"]
    # The made-up rows are the same in all splits; what is scored is not trained on.
    others = [dict(row) | _changed(row, name) for row in task.train]
    result = experiment.train(
        model_dir=None,
        base=base,
        task=tasks.Task(spec=task.spec, train=others, test=task.test, draws=task.draws),
        recipe=experiment.Recipe(num_steps=2, batch_size=2),
        seeds=(0, 1),
        lengths={"inputs": 64, "targets": 32},
        eval_templates="random",
        quiet=True,
    )
    tuned = [r for r in result.records if r["kind"] == "tuned"]
    assert [(r["task"], r["seed"], r["template"]) for r in tuned] == [
        *((name, seed, "random") for seed in (0, 1))
    ]
    assert all(r["num_scored_rows"] == official_rows.NUM_ROWS for r in tuned)
    assert len(task.spec.templates) >= NUM_TEMPLATES[name]


def _changed(row, name):
    """The text that all templates show with a word in front: no test row any more."""
    shown = {"copa": "premise", "h-swag": "ctx_a", "storycloze": "input_sentence_1"}
    shown |= {"winogrande": "sentence", "wsc": "text", "wic": "sentence1"}
    shown |= {"boolq": "passage"}
    column = shown.get(name, "premise")
    return {column: f"Once {row[column]}"} | (
        {"ctx": f"Once {row['ctx']}"} if name == "h-swag" else {}
    )


@pytest.mark.parametrize("name", ["rte", "cb", "copa", "wic", "wsc", "boolq"])
def test_real_rows_render_by_every_template(shared, promptsource_directory, name):
    described = benchmarks.get(name)
    task = tasks.benchmark(
        name,
        data_dir=shared / "data" / "superglue_32shot_and_dev",
        shots_dir=shared / "data" / "tfew_splits",
        templates_dir=promptsource_directory,
        seeds=(0, 1),
    )
    assert task.test is not None
    test = task.test[:100]
    rendered = fewshot.render_rows(test, task.spec)
    assert len(rendered) == NUM_TEMPLATES[name]
    assert len(task.test) == described.splits[described.evaluation].num_rows
    assert len(task.train) == 2 * described.num_shots
    for rows in rendered:
        assert [row.label for row in rows] == [row["label"] for row in test]
    for line in task.train:
        json.dumps(dict(line))  # what an adapter's settings may hold
