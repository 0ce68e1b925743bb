"""`tfew templates` as a user types it."""

import json
import os
import subprocess
import sys

import one_line
import pytest

from tfew_jax.cli import main

COLOURS = """\
dataset: colours
templates:
  k1: !Template
    answer_choices: No ||| Yes
    id: k1
    jinja: '{% if thing %}Is {{thing}} warm? ||| {{answer_choices[label]}}{% endif %}'
    metadata: !TemplateMetadata
      choices_in_prompt: false
      languages: [en]
      metrics: [Accuracy]
      original_task: true
    name: is it
    reference: a test
  k2: !Template
    answer_choices: null
    id: k2
    jinja: 'Name {{ ["a", "one"] | choice }} colour ||| {{thing}}'
    metadata: !TemplateMetadata {}
    name: name it
    reference: ''
  k3: !Template
    answer_choices: '{{thing}} ||| {{other}}'
    id: k3
    jinja: 'Which? ||| {{thing}}'
    metadata: !TemplateMetadata {original_task: true}
    name: which
    reference: ''
"""
FILES = {
    "promptsource/templates/colours/templates.yaml": COLOURS,
    "promptsource/templates/glue/x/templates.yaml": COLOURS,
}


@pytest.fixture
def fetched(make_archive):
    path = make_archive(FILES)
    assert run("fetch", "--from", path) == 0
    return path


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    things = ["red", "", "blue"]
    path.write_text(
        "".join(json.dumps({"thing": t, "label": 1}) + "\n" for t in things)
    )
    return path


def run(*argv):
    return main.main(["templates", *map(str, argv)])


def output_of(capsys, *argv):
    capsys.readouterr()
    assert run(*argv) == 0
    return capsys.readouterr().out.splitlines()


def error_of(capsys, *argv):
    return one_line.error_of(capsys, "templates", *argv)


def test_fetch_says_where_and_how_many_and_when_it_was_done(make_archive, capsys):
    path = make_archive(FILES)
    [line] = output_of(capsys, "fetch", "--from", path)
    assert line.startswith("promptsource 0.2.3 is in ")
    assert line.endswith("cache/promptsource-0.2.3: 2 sets")
    [line] = output_of(capsys, "fetch")
    assert line.startswith("promptsource 0.2.3 is already in ")


def test_list_shows_sets_and_templates(fetched, capsys):
    lines = [line.split() for line in output_of(capsys, "list")]
    assert lines[1:] == [["3", "2", "colours"], ["3", "2", "glue/x"]]
    assert output_of(capsys, "list", "glue/x") == [
        "index  original task  choices  name",
        "    0  yes            2        is it",
        "    1  no             none     name it",
        "    2  yes            by row   which",
    ]


def test_show_prints_the_source_and_an_example(fetched, capsys):
    lines = output_of(capsys, "show", "colours", "--name", "is it")
    assert lines == [
        "== template 0 of colours, 'is it': the original task; choices in the input: "
        "no; metrics: Accuracy; languages: en",
        "-- reference: a test",
        "-- template",
        "{% if thing %}Is {{thing}} warm? ||| {{answer_choices[label]}}{% endif %}",
        "-- choices",
        "No ||| Yes",
        "-- input of placeholders",
        "Is <thing> warm?",
        "-- target of placeholders",
        "No",
    ]
    assert output_of(capsys, "show", "colours", "--index", "0") == lines
    everything = output_of(capsys, "show", "colours")
    assert everything[: len(lines)] == lines
    assert sum(line.startswith("== ") for line in everything) == 3
    assert "-- choices" not in output_of(capsys, "show", "colours", "--index", "1")


def test_show_says_why_a_template_has_no_example(make_archive, capsys):
    template = COLOURS.replace("{{thing}} warm", "{{thing | round}} warm")
    archive = make_archive({"promptsource/templates/colours/templates.yaml": template})
    assert run("fetch", "--from", archive) == 0
    capsys.readouterr()
    last = output_of(capsys, "show", "colours", "--index", "0")[-1]
    assert last.startswith("-- no example of placeholders (")
    assert last.endswith("give rows with --rows")


def test_show_renders_rows_and_counts_those_it_applies_to(fetched, rows, capsys):
    options = ("show", "colours", "--index", 0, "--rows", rows)
    lines = output_of(capsys, *options)
    assert lines[6:18] == [
        f"-- input of {rows}, line 1",
        "Is red warm?",
        f"-- target of {rows}, line 1",
        "Yes",
        f"-- choices of {rows}, line 1: the target is 1",
        "No ||| Yes",
        f"-- input of {rows}, line 3",
        "Is blue warm?",
        f"-- target of {rows}, line 3",
        "Yes",
        f"-- choices of {rows}, line 3: the target is 1",
        "No ||| Yes",
    ]
    assert lines[18].startswith(f"-- applies to 2 of 3 rows; {rows}, line 2: ")
    assert lines[18].endswith("it gives no input; it reads 'label', 'thing'")
    few = output_of(capsys, *options, "--num-rows", 1)
    assert few == lines[:12] + lines[18:]


def test_a_hidden_label_is_not_shown_as_the_last_choice(fetched, rows, capsys):
    rows.write_text('{"thing": "red", "label": -1}\n{"thing": "blue", "label": 0}\n')
    lines = output_of(capsys, "show", "colours", "--index", 0, "--rows", rows)
    assert lines[6:] == [
        f"-- input of {rows}, line 2",
        "Is blue warm?",
        f"-- target of {rows}, line 2",
        "No",
        f"-- choices of {rows}, line 2: the target is 0",
        "No ||| Yes",
        f"-- applies to 1 of 2 rows; {rows}, line 1: the row has no label (-1)",
    ]
    lines = output_of(capsys, "show", "colours", "--index", 1, "--rows", rows)
    assert lines[-1] == "-- applies to 2 of 2 rows"  # reads no label


def test_show_draws_words_by_the_seed(fetched, rows, capsys):
    options = ("show", "colours", "--index", 1, "--rows", rows, "--seed")
    shown = [tuple(output_of(capsys, *options, seed)) for seed in range(9)]
    assert len(set(shown)) > 1
    assert shown[0] == tuple(output_of(capsys, *options, 0))


def test_a_reader_that_has_seen_enough_is_no_error(fetched):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "tfew_jax.cli.main", "templates", "list"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "argv, says",
    [
        (["list", "colour"], "no set 'colour'; names like it: 'colours'"),
        (["show", "colours", "--name", "x"], "colours has no template 'x'"),
        (["show", "colours", "--index", "3"], "colours has no template 3"),
        (["show", "colours", "--index", "0", "--name", "x"], "not allowed with"),
        (["show", "colours", "--rows", "nowhere.csv"], "nowhere.csv: no such file"),
        (["show", "colours", "--num-rows", "-1"], "--num-rows -1 is negative"),
        (["show"], "required: SET"),
        ([], "required: ACTION"),
    ],
)
def test_a_mistake_is_one_line(fetched, capsys, argv, says):
    assert says in error_of(capsys, *argv)


def test_rows_of_another_set_are_an_error_that_names_the_row(fetched, rows, capsys):
    message = error_of(capsys, "show", "colours", "--index", "2", "--rows", rows)
    assert f"{rows}, line 1: template 2 of colours, 'which', choices: " in message
    assert (
        "column 'other' is missing; the row's columns are 'thing', 'label'" in message
    )


def test_without_templates_list_says_how_to_fetch_them(make_archive, capsys):
    make_archive(FILES)
    assert "`tfew templates fetch`" in error_of(capsys, "list")


def test_debug_may_stand_behind_the_action(fetched, capsys):
    capsys.readouterr()
    for argv in (["--debug", "list", "x"], ["list", "x", "--debug"]):
        assert run(*argv) == 2
        assert "Traceback" in capsys.readouterr().err
