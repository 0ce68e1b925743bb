"""`tfew tasks` as a user types it."""

import csv
import json

import one_line
import pytest

from tfew_jax.cli import main
from tfew_jax.data import p3

CB = """\
templates:
  k1: !Template
    answer_choices: Yes ||| No ||| Maybe
    jinja: '{{premise}} So {{hypothesis}}? ||| {{answer_choices[label]}}'
    metadata: !TemplateMetadata {original_task: true}
    name: so
  k2: !Template
    jinja: '{% if label == 0 %}Says {{premise}} ||| {{hypothesis}}{% endif %}'
    metadata: !TemplateMetadata {}
    name: follows
"""
SAY = """\
templates:
  k1: !Template
    jinja: 'Say {{text}} ||| {{text}}'
    metadata: !TemplateMetadata {}
    name: say it
"""
FILES = {
    "promptsource/templates/super_glue/cb/templates.yaml": CB,
    "promptsource/templates/imdb/templates.yaml": SAY,
    "promptsource/templates/gigaword/templates.yaml": SAY,
}


@pytest.fixture
def fetched(make_archive, tmp_path):
    assert main.main(["templates", "fetch", "--from", str(make_archive(FILES))]) == 0


@pytest.fixture
def no_templates(tmp_path, monkeypatch):
    monkeypatch.setenv("TFEW_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def write(tmp_path):
    """Writes JSONL files below a directory."""

    def make(files):
        for name, rows in files.items():
            path = tmp_path / "rows" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "rows"

    return make


@pytest.fixture
def cb(write):
    labels = {"train": "entailment", "val": "neutral"}
    row = {"premise": "It rained.", "hypothesis": "it was wet", "idx": 0}
    files = {
        f"CB/{split}.jsonl": [{**row, "label": label}] * 2
        for split, label in labels.items()
    }
    return write({**files, "CB/test.jsonl": [row]})


@pytest.fixture
def overruling(tmp_path):
    folder = tmp_path / "raft" / "overruling"
    folder.mkdir(parents=True)
    settings = [{"overruling": ["Sentence"]}, {"overruling": "Does it overrule?"}]
    place = tmp_path / "raft" / "prompt_construction_settings.jsonl"
    place.write_text("".join(json.dumps(line) + "\n" for line in settings))
    (folder / "task.json").write_text(
        json.dumps({"label_columns": {"Label": ["no", "yes"]}})
    )
    for name, rows in {
        "train": [["Sentence", "Label", "ID"], ["We affirm.", "no", "0"]],
        "test_unlabeled": [["Sentence", "ID"], ["We do.", "50"], ["We stop.", "51"]],
    }.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return tmp_path / "raft"


def run(*argv):
    return main.main(["tasks", *map(str, argv)])


def output_of(capsys, *argv):
    capsys.readouterr()
    assert run(*argv) == 0
    return capsys.readouterr().out.splitlines()


def error_of(capsys, *argv):
    return one_line.error_of(capsys, "tasks", *argv)


def test_list_has_every_kind_once(capsys):
    header, *lines = (line.split() for line in output_of(capsys, "list"))
    assert header == ["kind", "name", "rows"]
    kinds = [line[0] for line in lines]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "embedded": 2,
        "benchmark": 12,
        "RAFT": 11,
        "text-to-text": 23,
        "mixture": 3,
    }
    names = [line[1] for line in lines]
    assert len(set(names)) == len(names)
    assert [
        "benchmark",
        "copa",
        "train",
        "400,",
        "validation",
        "100,",
        "test",
        "500",
    ] in (lines)
    assert ["mixture", "t0_train", "train", "11,161,397", "of", "38", "sets"] in lines


def test_every_listed_name_can_be_shown_without_rows(no_templates, capsys):
    names = [line.split()[1] for line in output_of(capsys, "list")[1:]]
    mixtures = p3.names()
    for name in names:
        if name not in mixtures:  # these are made of templates
            assert output_of(capsys, "show", name)[0].startswith(f"== {name}: ")


def test_an_embedded_task_is_shown_and_counted(capsys):
    lines = output_of(capsys, "show", "product_reviews")
    assert lines[0].startswith("== product_reviews: Whether the writer of a product")
    assert "-- rows: train 250, test 250" in lines
    assert "-- template 0, choices bad ||| good" in lines
    assert lines[-1] in ("bad", "good")
    assert output_of(capsys, "count", "product_reviews")[:2] == [
        "     train        test  template (rendered rows)",
        "       250         250  0",
    ]


def test_a_benchmark_is_shown_with_a_rendered_row(fetched, cb, capsys):
    lines = output_of(capsys, "show", "cb", "--data-dir", cb)
    assert lines == [
        "== cb: 32 shots from train, accuracy on validation",
        "-- official rows: train 250, validation 56, test 250",
        "-- source: super.gluebenchmark.com, the archive of each task",
        "-- labels: entailment ||| contradiction ||| neutral",
        "-- templates of super_glue/cb: 2, of the original task 1",
        "    0  follows",
        "    1  so",
        f"-- input of {cb}/CB/train.jsonl, line 1",
        "It rained. So it was wet?",
        f"-- target of {cb}/CB/train.jsonl, line 1",
        "Yes",
        f"-- choices of {cb}/CB/train.jsonl, line 1",
        "Yes ||| No ||| Maybe",
    ]


def test_a_benchmark_without_labels_is_shown_without_a_target(fetched, cb, capsys):
    row = {"premise": "It rained.", "hypothesis": "it was wet", "idx": 0}
    (cb / "CB" / "train.jsonl").write_text(json.dumps(row) + "\n")
    lines = output_of(capsys, "show", "cb", "--data-dir", cb)
    assert lines[-3] == ""
    assert "Maybe" not in lines  # the last choice, which -1 would index


def test_a_benchmark_is_counted_with_what_does_not_apply_and_why(fetched, cb, capsys):
    lines = output_of(capsys, "count", "cb", "--data-dir", cb)
    assert lines[:-2] == [
        "train: 2 rows, officially 250",
        "validation: 2 rows, officially 56",
        "test: 1 rows, officially 250",
        "     train  validation        test  template (rendered rows)",
        "         2           0           0  0 follows",
        "         2           2           1  1 so",
    ]
    assert lines[-2].startswith(
        f"0 follows: not for 2 rows of validation: {cb}/CB/val.jsonl, line 1: template "
        "0 of super_glue/cb, 'follows': does not apply to this row: it gives no input"
    )
    assert lines[-1].startswith("0 follows: not for 1 rows of test: ")


def test_splits_that_are_not_there_are_named(no_templates, cb, capsys):
    (cb / "CB" / "test.jsonl").unlink()
    assert output_of(capsys, "count", "cb", "--data-dir", cb)[2:] == [
        f"without test: no such split in {cb}",
        "-- templates: those of super_glue/cb, once `tfew templates fetch` has run",
    ]
    assert error_of(capsys, "count", "copa", "--data-dir", cb).startswith(
        f"tfew tasks: error: {cb}: no train split of copa (looked for official files: "
        "COPA/train.jsonl, "
    )


def test_all_splits_of_the_hubs_files_are_counted(no_templates, tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (extra data)")
    parquet = pytest.importorskip("pyarrow.parquet")
    row = {"premise": "It rained.", "hypothesis": "it was wet", "label": 1, "idx": 0}
    folder = tmp_path / "hub" / "super_glue" / "cb"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        path = folder / f"{split}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    for source in (f"hub:{tmp_path / 'hub'}", f"{tmp_path / 'hub'}"):
        assert output_of(capsys, "count", "cb", "--data-dir", source)[:3] == [
            "train: 1 rows, officially 250",
            "validation: 1 rows, officially 56",
            f"without test: no such split in {source}",
        ]


def test_a_benchmark_without_templates_shows_the_row(no_templates, cb, capsys):
    lines = output_of(capsys, "show", "cb", "--data-dir", cb)
    assert "premise: It rained." in lines
    assert lines[-1] == "label: 0"


def test_a_raft_task_has_the_name_that_fewshot_gives_it_too(overruling, capsys):
    lines = output_of(capsys, "count", "raft/overruling", "--data-dir", overruling)
    assert lines == output_of(capsys, "count", "overruling", "--data-dir", overruling)


def test_a_raft_task_is_shown_and_counted(overruling, capsys):
    lines = output_of(capsys, "show", "overruling", "--data-dir", overruling)
    assert lines[1:5] == [
        "-- rows: train 1, test 2",
        "-- labels: no ||| yes",
        "-- fields: Sentence",
        f"-- input of {overruling}/overruling/train.csv, line 2",
    ]
    assert lines[5:8] == ["Does it overrule?", "Sentence: We affirm.", "Label:"]
    assert lines[-1] == "no"
    assert output_of(capsys, "count", "overruling", "--data-dir", overruling) == [
        "train: 1 rows",
        "  no: 1",
        "  yes: 0",
        "test: 2 rows without labels",
    ]


def test_a_text_to_text_task_is_shown_with_its_word_and_without(
    no_templates, cb, capsys
):
    place = f"{cb}/CB/train.jsonl, line 1"
    assert output_of(capsys, "show", "text/cb", "--data-dir", cb) == [
        "== text/cb: a task of SuperGLUE in T5's words",
        "-- official rows: train 250, validation 56, test 250",
        "-- source: super.gluebenchmark.com, the archive of each task",
        "-- targets: entailment ||| contradiction ||| neutral",
        f"-- input of {place}",
        "cb hypothesis: it was wet premise: It rained.",
        f"-- target of {place}",
        "entailment",
        f"-- input of {place}, without the task word",
        "hypothesis: it was wet premise: It rained.",
    ]


def test_rows_and_examples_of_a_text_to_text_task_are_counted(write, cb, capsys):
    assert output_of(capsys, "count", "text/cb", "--data-dir", cb) == [
        "train: 2 rows, 2 examples, officially 250 rows",
        "validation: 2 rows, 2 examples, officially 56 rows",
        "test: 1 rows, 1 examples, officially 250 rows",
    ]
    answers = [{"text": "Ann"}, {"text": "Bo"}]
    passage = {
        "idx": 0,
        "passage": {"text": "Ann, Bo", "entities": [{"start": 0, "end": 2}]},
        "qas": [{"query": "@placeholder", "idx": 0, "answers": answers}],
    }
    folder = write({"ReCoRD/train.jsonl": [passage], "ReCoRD/val.jsonl": [passage]})
    for name in ("record", "text/record"):
        assert output_of(capsys, "count", name, "--data-dir", folder) == [
            "train: 1 rows, 2 examples, officially 100,730 rows",
            "validation: 1 rows, 1 examples, officially 10,000 rows",
            f"without test: no such split in {folder}",
        ]


def test_a_question_has_no_task_word_and_any_split_will_do(write, capsys):
    question = {"id": "a", "question": "Who?", "answers": [{"text": "Bo"}]}
    paragraph = {"context": "Bo ran.", "qas": [question]}
    article = {"data": [{"title": "", "paragraphs": [paragraph]}]}
    folder = write({"dev-v1.1.json": [article]})
    lines = output_of(capsys, "show", "squad", "--data-dir", folder)
    assert lines[0] == "== text/squad: a task in T5's words"
    assert lines[3] == "-- targets: free text"
    assert lines[5:] == [
        "question: Who ? context: Bo ran . ",
        f"-- target of {folder}/dev-v1.1.json, article 0",
        "Bo",
    ]


def test_a_row_that_makes_no_example_is_passed_over_or_named(write, capsys):
    target = {"span1_index": 0, "span1_text": "Al", "span2_index": 3}
    target["span2_text"] = "he"
    wrong = {"text": "Al said that he ran .", "target": target, "idx": 0}
    folder = write({"WSC/train.jsonl": [{**wrong, "label": False}]})
    lines = output_of(capsys, "show", "text/wsc", "--data-dir", folder)
    assert lines[-1] == "-- none of the 1 rows of train is an example"
    lines = output_of(capsys, "count", "text/wsc", "--data-dir", folder)
    assert lines[0] == "train: 1 rows, 0 examples, officially 554 rows"
    lost = {**wrong, "text": "Al said so .", "label": True}
    folder = write({"WSC/train.jsonl": [lost]})
    said = error_of(capsys, "count", "text/wsc", "--data-dir", folder)
    assert f"{folder}/WSC/train.jsonl, line 1: wsc: the pronoun 'he' is not in" in said


def test_a_text_to_text_task_without_any_split_says_what_was_looked_for(
    tmp_path, capsys
):
    for action in ("show", "count"):
        said = error_of(capsys, action, "text/mrpc", "--data-dir", tmp_path)
        assert f"{tmp_path}: no train split of mrpc (looked for official files" in said


def test_a_mixture_is_shown_with_caps_and_what_it_lacks(fetched, capsys):
    lines = output_of(capsys, "show", "t0_train")
    assert lines[:5] == [
        "== t0_train: T0's training sets",
        "-- 38 sets, 2 tasks, 525,000 examples by the rule t0",
        "      cap  task",
        "  500,000  gigaword_say_it",
        "   25,000  imdb_say_it",
    ]
    assert len(lines[5:]) == 36
    assert lines[5].startswith("-- without adversarial_qa/dbert: no templates in ")
    assert output_of(capsys, "show", "t0++_train")[0].startswith("== t0_pp_train: T0++")


@pytest.mark.parametrize(("rule", "cap"), [("t0", "500,000"), ("tfew", "500,000")])
def test_a_mixture_is_counted_by_both_rules(fetched, capsys, rule, cap):
    lines = output_of(capsys, "count", "t0_train", "--rule", rule)
    assert lines[1].split() == ["3,803,957", "1", cap, cap, "gigaword"]
    assert lines[3] == f"2 tasks, 525,000 examples by the rule {rule}"
    assert len(lines[4:]) == 36


def test_a_mixture_is_counted_with_its_rows(fetched, write, capsys):
    rows = [{"text": text} for text in ("good", "", "ok")]
    folder = write({"imdb/train.jsonl": rows})
    lines = output_of(capsys, "count", "t0_train", "--data-dir", folder)
    assert lines[:4] == [
        "     rows   rendered        cap  task",
        "        3          2          3  imdb_say_it",
        "t0_train by the rule 't0': 1 tasks of 1 sets, 3 examples an epoch",
        "imdb: 3 rows a task, the set has 25,000",
    ]
    [missing] = [line for line in lines if line.startswith("without gigaword")]
    assert missing.startswith("without gigaword (1 tasks, 500,000 examples): no SET/tr")
    assert lines[-1].startswith(
        f"imdb_say_it: not for 1 rows: {folder}/imdb/train.jsonl, line 2: template 0 "
        "of imdb, 'say it': does not apply to this row: it gives no target"
    )


def test_a_mixture_is_shown_with_an_example_of_p3s_rows(fetched, write, capsys):
    row = {"inputs": "Say good", "targets": "good", "answer_choices": ["good", "bad"]}
    folder = write({"imdb_say_it/train.jsonl": [row]})
    lines = output_of(capsys, "show", "t0_train", "--data-dir", folder)
    assert lines[-6:] == [
        "-- input of row 0 of imdb_say_it",
        "Say good",
        "-- target of row 0 of imdb_say_it",
        "good",
        "-- choices of row 0 of imdb_say_it",
        "good ||| bad",
    ]


def test_a_mixture_without_any_rows_says_so(fetched, tmp_path, capsys):
    said = error_of(capsys, "count", "t0_train", "--data-dir", tmp_path)
    assert "nothing is left of t0_train: no templates in " in said
    assert said.endswith(f"in {tmp_path}: gigaword, imdb")


def test_a_row_without_the_columns_is_named(fetched, write, capsys):
    rows = [{"review": "good"}]
    folder = write({"imdb/train.jsonl": rows})
    said = error_of(capsys, "count", "t0_train", "--data-dir", folder)
    assert f"imdb, {folder}/imdb/train.jsonl, line 1: template 0 of imdb" in said
    assert "column 'text' is missing" in said


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["show", "coppa"], "unknown task 'coppa'; names like it: 'copa'"),
        (["show", "xyz"], "unknown task 'xyz'; `tfew tasks list` shows all"),
        (["count", "cb"], "the rows of cb are not in the package; say where they are"),
        (["count", "overruling"], "the rows of overruling are not in the package"),
        (["count", "text/cb"], "the rows of text/cb are not in the package; say"),
        (["show", "text/cbb"], "unknown task 'text/cbb'; names like it: 'text/cb'"),
        (["show", "text/mrqa"], "'text/mrqa/race'"),
        (["show", "text/sst2", "--rule", "t0"], "--rule t0 is for mixtures"),
        (["count", "cb", "--rule", "t0"], "--rule t0 is for mixtures (t0_train, "),
        (
            ["show", "product_reviews", "--data-dir", "."],
            "--data-dir: the rows of prod",
        ),
        (
            ["count", "t0_train", "--rule", "t5"],
            "argument --rule: invalid choice: 't5'",
        ),
        (["count"], "the following arguments are required: NAME"),
    ],
)
def test_mistakes_are_one_line(no_templates, capsys, argv, problem):
    assert problem in error_of(capsys, *argv)


def test_a_mixture_without_templates_says_how_to_get_them(no_templates, capsys):
    for action in ("show", "count"):
        said = error_of(capsys, action, "t0_train")
        assert said.endswith("get them with `tfew templates fetch`")


@pytest.mark.parametrize(("rule", "cap"), [("t0", "363,846"), ("tfew", "250,000")])
def test_the_rules_differ_where_templates_share_a_set(make_archive, capsys, rule, cap):
    second = SAY.replace("templates:\n", "").replace("k1", "k2")
    text = SAY + second.replace("say it", "say again")
    archive = make_archive({"promptsource/templates/glue/qqp/templates.yaml": text})
    assert main.main(["templates", "fetch", "--from", str(archive)]) == 0
    lines = output_of(capsys, "count", "t0_train", "--rule", rule)
    assert lines[1].split()[:3] == ["363,846", "2", cap]
