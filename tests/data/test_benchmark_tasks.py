"""The papers' sets and RAFT as tasks, from tiny copies in their own forms."""

import csv
import json

import pytest

from tfew_jax.data import fewshot, promptsource_archive, raft, tasks

YAML = """dataset: super_glue
subset: copa
templates:
  a1: !Template
    answer_choices: '{{choice1}} ||| {{choice2}}'
    id: a1
    jinja: '{% if question == "cause" %}{{premise}} because{% else %}{{premise}} so
      {% endif %} ||| {% if label != -1 %}{{answer_choices[label]}}{% endif %}'
    metadata: !TemplateMetadata
      choices_in_prompt: true
      metrics: [Accuracy]
      original_task: true
    name: whole
    reference: ''
  b2: !Template
    answer_choices: '{{choice1}} ||| {{choice2}}'
    id: b2
    jinja: '{% if question == "cause" %}{{premise}} why? ||| {{answer_choices[label]}}{%
      endif %}'
    metadata: !TemplateMetadata
      choices_in_prompt: true
      metrics: [Accuracy]
      original_task: true
    name: half
    reference: ''
  c3: !Template
    answer_choices: null
    id: c3
    jinja: '{{choice1}} ||| {{premise}}'
    metadata: !TemplateMetadata
      choices_in_prompt: false
      metrics: [BLEU]
      original_task: false
    name: other
    reference: ''
"""


def copa_row(number):
    return {
        "premise": f"Premise {number}.",
        "choice1": f"First {number}.",
        "choice2": f"Second {number}.",
        "question": ("cause", "effect")[number % 2],
        "label": number % 2,
        "idx": number,
    }


def write_jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def places(tmp_path):
    write_jsonl(tmp_path / "data/COPA/train.jsonl", map(copa_row, range(60)))
    write_jsonl(tmp_path / "data/COPA/val.jsonl", map(copa_row, range(60, 70)))
    folder = tmp_path / "templates" / "super_glue" / "copa"
    folder.mkdir(parents=True)
    (folder / promptsource_archive.FILE).write_text(YAML, encoding="utf-8")
    return {"data_dir": tmp_path / "data", "templates_dir": tmp_path / "templates"}


def test_a_set_has_draws_of_every_seed_and_templates_that_fit_all_rows(places):
    task = tasks.benchmark("copa", **places, seeds=(0, 1), allow_partial_train=True)
    assert task.draws is not None and task.test is not None
    assert {seed: len(rows) for seed, rows in task.draws.items()} == {0: 32, 1: 32}
    drawn = fewshot.draw_shots([n % 2 for n in range(60)], 32, 1).tolist()
    assert [task.train[row]["idx"] for row in task.draws[1]] == drawn
    assert task.spec.template_names == ("whole",)
    assert task.notes == (
        "accuracy is on 10 rows, the official validation split of copa has 100",
        "1 templates do not apply to every row and are left out: 'half'",
    )
    (rendered,) = fewshot.render_rows(task.test, task.spec)
    assert rendered[0].inputs == "Premise 60. because"
    assert rendered[1].choices == ("First 61.", "Second 61.")
    assert [row.label for row in rendered] == [0, 1] * 5


def test_a_spec_with_promptsources_templates_survives_its_file(places):
    spec = tasks.benchmark("copa", **places, allow_partial_train=True).spec
    assert fewshot.TaskSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_published_rows_stand_in_for_draws(places, tmp_path):
    shots = [copa_row(n) for n in range(100, 132)]
    write_jsonl(tmp_path / "shots/copa/32_shot/0_seed.jsonl", shots)
    task = tasks.benchmark("copa", **places, shots_dir=tmp_path / "shots", seeds=(0,))
    assert [row["idx"] for row in task.train] == list(range(100, 132))


def test_shots_of_another_number_are_read_from_their_own_folder(places, tmp_path):
    shots = [copa_row(n) for n in range(100, 116)]
    write_jsonl(tmp_path / "shots/copa/16_shot/0_seed.jsonl", shots)
    options = {"shots_dir": tmp_path / "shots", "seeds": (0,)}
    task = tasks.benchmark("copa", **places, **options, num_shots=16)
    assert len(task.train) == 16
    with pytest.raises(ValueError, match="32_shot"):
        tasks.benchmark("copa", **places, **options)


def test_a_row_without_label_is_named(places):
    rows = [copa_row(n) for n in range(60, 70)]
    del rows[7]["label"]
    write_jsonl(places["data_dir"] / "COPA/val.jsonl", rows)
    with pytest.raises(ValueError, match=r"val\.jsonl, line 8: the row has no label"):
        tasks.benchmark("copa", **places, seeds=())


def test_a_set_that_no_template_fits_says_why(places, tmp_path):
    shots = [copa_row(n) for n in range(32)]
    shots[5]["label"] = 2
    write_jsonl(tmp_path / "shots/copa/32_shot/0_seed.jsonl", shots)
    with pytest.raises(ValueError) as caught:
        tasks.benchmark("copa", **places, shots_dir=tmp_path / "shots", seeds=(0,))
    assert "no template applies to every row; " in str(caught.value)
    assert "0_seed.jsonl, line 6" in str(caught.value)


def test_nothing_is_drawn_where_there_are_no_seeds(places):
    task = tasks.benchmark("copa", **places, seeds=())
    assert not task.train and len(task.test or ()) == 10


def test_named_templates_are_taken_by_name_or_index(places):
    task = tasks.benchmark("copa", **places, seeds=(), templates=["whole"])
    assert task.spec.template_names == ("whole",)
    with pytest.raises(ValueError, match="has no answer choices to rank"):
        tasks.benchmark("copa", **places, seeds=(), templates=[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (0,)}, "--allow_partial_train"),
        ({"data_dir": "nowhere"}, "no validation split of copa"),
        ({"templates": ["hole"]}, "its templates are 'whole'"),
    ],
)
def test_what_cannot_be_a_task_is_one_line(places, change, message):
    with pytest.raises(ValueError, match=message):
        tasks.benchmark("copa", **(places | {"seeds": ()} | change))


@pytest.fixture
def raft_dir(tmp_path):
    settings = [
        {"overruling": ["Sentence"]},
        {"overruling": "Say whether the sentence overrules. "},
    ]
    write_jsonl(tmp_path / "prompt_construction_settings.jsonl", settings)
    labels = {"label_columns": {"Label": ["not overruling", "overruling"]}}
    write_jsonl(tmp_path / "overruling" / "task.json", [labels])
    for name, labelled in (("train", True), ("test_unlabeled", False)):
        with (tmp_path / "overruling" / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Sentence", "ID", *(["Label"] if labelled else [])])
            for number in range(6):
                label = [("overruling", "not overruling")[number % 2]]
                words = "word " * 600 if number == 0 else f"case {number}"
                writer.writerow([words, 50 + number, *(label if labelled else [])])
    return tmp_path


def test_a_raft_task_is_cut_to_the_inputs_and_makes_a_submission(raft_dir, words):
    task = tasks.raft_task("overruling", data_dir=raft_dir)(words, 40)
    (rendered,) = fewshot.render_rows(task.train, task.spec)
    assert [row.label for row in rendered] == [1, 0] * 3
    for row in rendered:
        assert row.inputs.endswith("Label:")
        assert len(words.encode(row.inputs)) <= 40
    assert task.submission is not None
    assert task.submission([1, 0, 0, 1, 0, 0]).splitlines()[:3] == [
        *("ID,Label", "50,overruling", "51,not overruling")
    ]


def test_another_number_of_labelled_rows_than_rafts_is_noted(raft_dir, words):
    task = tasks.raft_task("overruling", data_dir=raft_dir)(words, 40)
    assert task.notes == ("overruling has 6 labelled rows here, RAFT's tasks have 50",)


def test_a_long_raft_prompt_is_not_cut_at_2048_characters(raft_dir, words):
    task = tasks.raft_task("overruling", data_dir=raft_dir)(words, 10_000)
    (rendered,) = fewshot.render_rows(task.train, task.spec)
    assert len(rendered[0].inputs) > 2_500 and rendered[0].inputs.endswith("Label:")


def test_an_unknown_raft_task_lists_those_there_are(raft_dir):
    with pytest.raises(raft.RaftError, match="available: ade_corpus_v2"):
        tasks.raft_task("overruled", data_dir=raft_dir)
