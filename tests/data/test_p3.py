"""T0's mixtures: sets, templates, caps; their rows; their stream of examples."""

import collections
import dataclasses
import itertools
import json
import sys
import types

import pytest

from tfew_jax.data import p3, p3_mixture, p3_rows, promptsource_archive, tables

PLACE = "SET/train{.parquet,.jsonl,.csv,.tsv}"
COLOURS = """\
dataset: colours
templates:
  k1: !Template
    answer_choices: No ||| Yes
    jinja: '{% if thing %}Is {{thing}} warm? ||| {{answer_choices[label]}}{% endif %}'
    metadata: !TemplateMetadata {languages: [en], original_task: true}
    name: is it?
  k2: !Template
    jinja: 'Say {{some_thing}} ||| {{thing}}'
    metadata: !TemplateMetadata {}
    name: say-it
  k3: !Template
    jinja: 'Dis {{thing}} ||| {{thing}}'
    metadata: !TemplateMetadata {languages: [fr]}
    name: dis
"""
NUMBERS = """\
dataset: numbers
subset: v1.0
templates:
  k1: !Template
    jinja: 'After {{n}}? ||| {% set next = n + 1 %}{{next}}'
    metadata: !TemplateMetadata {}
    name: after
"""
ROWS = {
    "colours": [
        {"thing": thing, "some-thing": str(number), "label": number % 2}
        for number, thing in enumerate(["red", "", "blue", "green", ""])
    ],
    "numbers/v1.0": [{"n": n} for n in range(12)],
}
SMALL = p3.Definition(
    name="small",
    members=(
        p3.Member(set_name="colours", train_size=5),
        p3.Member(set_name="numbers/v1.0", train_size=12),
    ),
)
TASKS = ["colours_is_it_", "colours_say_it", "numbers_v1.0_after"]
IS_IT, _, AFTER = TASKS


def exported_row(inputs, targets, **more):
    return {"inputs_pretokenized": inputs, "targets_pretokenized": targets, **more}


EXPORT = {
    "colours_is_it_": [
        exported_row("Is red warm?", " No", answer_choices=["No", "Yes"])
    ],
    "colours_say_it": [exported_row("Say 0", "red"), exported_row("Say 2", "blue")],
    "numbers_v1.0_after": [exported_row(f"After {n}?", f"{n + 1}") for n in range(12)],
}


@pytest.fixture
def directory(tmp_path):
    """Of templates."""
    for name, text in {"colours": COLOURS, "numbers/v1.0": NUMBERS}.items():
        path = tmp_path / "templates" / name / "templates.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "templates"


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
def mixture(directory):
    return p3_mixture.load(SMALL, p3_rows.RawSets(ROWS), directory=directory)


def message_of(function, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What the mixtures are made of.


def test_the_mixtures_hold_t0s_sets_each_the_one_before():
    definitions = [p3.get(name) for name in p3.names()]
    assert [d.name for d in definitions] == ["t0_train", "t0_plus_train", "t0_pp_train"]
    assert [len(d.members) for d in definitions] == [38, 48, 54]
    smaller, larger = definitions[0].members, definitions[2].members
    assert larger[:38] == smaller
    assert p3.get("t0++_train") == definitions[2]
    sizes = {member.set_name: member.train_size for member in larger}
    assert sizes["gigaword"] == 3_803_957
    held_out = {"anli", "super_glue/cb", "super_glue/rte", "winogrande/winogrande_xl"}
    assert not held_out & set(sizes)


def test_an_unknown_mixture_is_an_error():
    assert message_of(p3.get, "t0_trian") == (
        "unknown mixture 't0_trian'; available: t0_train, t0_plus_train, t0_pp_train"
    )


@pytest.mark.parametrize(
    ("size", "num_templates", "t0", "tfew"),
    [
        (1_000, 10, 1_000, 1_000),
        (363_846, 6, 363_846, 83_333),
        (500_000, 7, 500_000, 71_428),
        (500_001, 7, 71_428, 71_428),
    ],
)
def test_caps_of_the_two_rules(size, num_templates, t0, tfew):
    assert p3.cap(size, num_templates, rule="t0") == t0
    assert p3.cap(size, num_templates, rule="tfew") == tfew


def test_an_unknown_rule_is_an_error(directory):
    said = "rule='t5'; choose from t0, tfew"
    assert message_of(p3.cap, 1, 1, rule="t5") == said
    assert message_of(p3.tasks, SMALL, rule="t5", directory=directory) == said


def test_tasks_are_english_templates_under_p3s_names(directory):
    tasks, missing = p3.tasks(SMALL, directory=directory)
    assert [task.name for task in tasks] == TASKS
    assert [task.cap for task in tasks] == [5, 5, 12]
    assert [task.num_templates for task in tasks] == [2, 2, 1]
    assert missing == []


@pytest.mark.parametrize(
    ("set_name", "template", "name"),
    [
        ("cos_e/v1.11", "aligned_with_common_sense", "cos_e_v1.11_aligned_with_"),
        ("samsum", "Summarize:", "samsum_Summarize_"),
        ("ai2_arc/ARC-Challenge", "pick (a) - b", "ai2_arc_ARC_Challenge_pick_a_b"),
    ],
)
def test_names_of_tasks_are_p3s(set_name, template, name):
    assert p3.task_name(set_name, template).startswith(name)


def test_a_blacklisted_template_counts_but_is_no_task(directory, monkeypatch):
    monkeypatch.setattr(p3, "BLACKLIST", {"colours_say_it"})
    tasks, _ = p3.tasks(SMALL, directory=directory)
    assert [(task.name, task.num_templates) for task in tasks] == [
        (IS_IT, 2),
        (AFTER, 1),
    ]


def test_sets_without_templates_are_listed_and_may_be_left_out(directory):
    more = dataclasses.replace(
        SMALL,
        members=(*SMALL.members, p3.Member(set_name="glue/mrpc", train_size=3_668)),
    )
    assert message_of(p3.tasks, more, directory=directory) == (
        "small lacks 1 of what it is made of: no templates in "
        f"{directory}: glue/mrpc; get them, or name those to go without in "
        "allow_missing"
    )
    tasks, missing = p3.tasks(more, directory=directory, allow_missing=["glue/mrpc"])
    assert len(tasks) == 3
    assert [item.name for item in missing] == ["glue/mrpc"]


def test_templates_whose_names_fall_together_are_an_error(directory):
    path = directory / "colours" / "templates.yaml"
    path.write_text(COLOURS.replace("name: say-it", "name: is it!"))
    assert message_of(p3.tasks, SMALL, directory=directory).startswith(
        "template 2 of colours, 'is it?' and template 1 of colours, 'is it!' have the "
        "same name in P3, colours_is_it_"
    )


def test_a_definition_without_sets_or_with_one_twice_is_an_error():
    assert "of no sets" in message_of(p3.Definition, name="none", members=())
    twice = message_of(p3.Definition, name="x", members=SMALL.members * 2)
    assert twice == "x: the set 'colours' stands twice"
    assert "train_size=0" in message_of(p3.Member, set_name="x", train_size=0)


# Rows.


def test_raw_rows_are_rendered_and_hyphens_in_columns_are_lines(mixture):
    pairs = [mixture.read(task, 2) for task in mixture.tasks]
    assert [(p.inputs, p.targets, p.choices) for p in pairs] == [
        ("Is blue warm?", "No", ("No", "Yes")),
        ("Say 2", "blue", ()),
        ("After 2?", "3", ()),
    ]


def test_rows_are_the_same_from_memory_jsonl_and_parquet(directory, write, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = write({f"{name}/train.jsonl": rows for name, rows in ROWS.items()})
    for name, rows in ROWS.items():
        place = tmp_path / "tables" / name
        place.mkdir(parents=True)
        half = len(rows) // 2
        for number, part in enumerate([rows[:half], rows[half:]]):
            table = arrow.Table.from_pylist(part)
            file = place / f"train-0000{number}-of-00002.parquet"
            parquet.write_table(table, file, row_group_size=2)
    streams = []
    for rows in (ROWS, folder, tmp_path / "tables"):
        found = p3_mixture.load(SMALL, p3_rows.RawSets(rows), directory=directory)
        streams.append(list(itertools.islice(found.examples(seed=1), 44)))
    assert streams[0] == streams[1] == streams[2]


def test_csv_rows_are_read(directory, tmp_path):
    (tmp_path / "numbers" / "v1.0").mkdir(parents=True)
    (tmp_path / "numbers" / "v1.0" / "train.csv").write_text("thing,label\nred,1\n")
    (tmp_path / "numbers" / "v1.0").rename(tmp_path / "colours")
    found = p3_mixture.load(
        SMALL,
        p3_rows.RawSets(tmp_path),
        directory=directory,
        allow_missing=["numbers/v1.0"],
        allow_partial=True,
    )
    assert found.read(found.tasks[0], 0).targets == "Yes"


def test_a_mixture_without_rows_of_a_set_says_what_it_lacks(directory, write):
    folder = write({"colours/train.jsonl": ROWS["colours"]})
    source = p3_rows.RawSets(folder)
    assert message_of(p3_mixture.load, SMALL, source, directory=directory) == (
        f"small lacks 1 of what it is made of: no {PLACE} in {folder}: numbers/v1.0; "
        "get them, or name those to go without in allow_missing"
    )
    allowed = ["numbers/v1.0"]
    left = p3_mixture.load(SMALL, source, directory=directory, allow_missing=allowed)
    assert left.report() == [
        "small by the rule 't0': 2 tasks of 1 sets, 10 examples an epoch",
        f"without numbers/v1.0 (1 tasks, 12 examples): no {PLACE} in {folder}",
    ]
    nothing = message_of(
        p3_mixture.load,
        SMALL,
        p3_rows.RawSets({}),
        directory=directory,
        allow_missing=["colours", "numbers/v1.0"],
    )
    assert nothing == (
        "nothing is left of small: not among the rows given: colours, numbers/v1.0"
    )


@pytest.mark.parametrize(
    ("allowed", "problem"),
    [
        (["colour"], "allow_missing names 'colour', which small does not hold"),
        ("colours", "allow_missing='colours' is one text; give a list of names"),
    ],
)
def test_misspelt_names_of_what_may_lack_are_an_error(directory, allowed, problem):
    said = message_of(p3.tasks, SMALL, directory=directory, allow_missing=allowed)
    assert said.startswith(problem)


def test_a_set_that_has_shrunk_is_an_error_unless_allowed(directory):
    few = ROWS | {"numbers/v1.0": ROWS["numbers/v1.0"][:3]}
    source = p3_rows.RawSets(few)
    assert message_of(p3_mixture.load, SMALL, source, directory=directory) == (
        "not the official training rows: numbers/v1.0 has 3 rows instead of 12; get "
        "them, or allow others with allow_partial"
    )
    found = p3_mixture.load(SMALL, source, directory=directory, allow_partial=True)
    assert [task.cap for task in found.tasks] == [5, 5, 3]
    assert found.report() == [
        "small by the rule 't0': 3 tasks of 2 sets, 13 examples an epoch",
        "numbers/v1.0: 3 rows a task, the set has 12",
    ]


def test_p3s_export_is_read(directory, write):
    rows = dict(EXPORT)
    wrong = exported_row("Is red warm?", "Yes", is_correct=False)
    rows["colours_is_it_"] = [wrong, *rows["colours_is_it_"]]
    folder = write({f"data/{name}/train-0.jsonl": r for name, r in rows.items()})
    source = p3_rows.Exported(folder)
    found = p3_mixture.load(SMALL, source, directory=directory)
    first = found.tasks[0]
    pair = p3_rows.Pair(inputs="Is red warm?", targets="No", choices=("No", "Yes"))
    assert found.read(first, 1) == pair
    with pytest.raises(ValueError, match="colours_is_it_: the row is wrong"):
        found.read(first, 0)
    drawn = itertools.islice(found.examples(seed=0), found.num_examples)
    assert {e.inputs for e in drawn if e.task == first.name} == {"Is red warm?"}
    assert found.report() == [
        "small by the rule 't0': 3 tasks of 2 sets, 22 examples an epoch",
        "colours: 2 rows a task, the set has 5",
    ]


def test_an_export_that_lacks_one_task_of_a_set_names_the_task(directory, write):
    folder = write({f"{n}/train.jsonl": EXPORT[n] for n in TASKS if n != IS_IT})
    source = p3_rows.Exported(folder)
    said = message_of(p3_mixture.load, SMALL, source, directory=directory)
    assert f"no TASK/train* in {folder}: colours_is_it_;" in said
    found = p3_mixture.load(SMALL, source, directory=directory, allow_missing=[IS_IT])
    assert [task.name for task in found.tasks] == TASKS[1:]


def test_p3s_token_ids_are_not_read_and_t_few_stops_at_its_cap(
    directory, tmp_path, monkeypatch
):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for name, rows in EXPORT.items():
        (tmp_path / "P3" / name).mkdir(parents=True)
        ids = [{**row, "inputs": [3, 1], "targets": [4, 1]} for row in rows]
        file = tmp_path / "P3" / name / "train-00000-of-00001.parquet"
        parquet.write_table(arrow.Table.from_pylist(ids), file, row_group_size=5)
    monkeypatch.setattr(p3, "MAX_EXAMPLES_PER_SET", 7)
    source = p3_rows.Exported(tmp_path / "P3")
    found = p3_mixture.load(SMALL, source, directory=directory, rule="tfew")
    assert [task.cap for task in found.tasks] == [3, 3, 7]
    assert len(found.rows[AFTER]) == 7
    assert set(found.rows[AFTER][6]) == {"inputs_pretokenized", "targets_pretokenized"}
    assert found.read(found.tasks[2], 6).targets == "7"


def test_a_directory_is_p3s_if_it_holds_a_task_of_it(directory, write):
    tasks, _ = p3.tasks(SMALL, directory=directory)
    folder = write({"colours/train.jsonl": ROWS["colours"]})
    assert p3_rows.open_directory(folder, tasks).raw
    write({f"{AFTER}/train.jsonl": EXPORT[AFTER]})
    assert not p3_rows.open_directory(folder, tasks).raw


def test_rows_without_input_or_target_are_written_only_as_t_few_does(directory):
    source = p3_rows.RawSets(ROWS, not_applicable="tfew")
    found = p3_mixture.load(SMALL, source, directory=directory)
    pair = found.read(found.tasks[0], 1)
    assert (pair.inputs, pair.targets) == ("<NO INPUT>", "<NO LABEL>")
    pair = found.read(found.tasks[1], 1)
    assert (pair.inputs, pair.targets) == ("Say 1", "<NO LABEL>")


def test_bad_rows_are_named(directory, write):
    folder = write({"colours/train.jsonl": [{"label": 1}] * 5})
    (folder / "numbers" / "v1.0").mkdir(parents=True)
    lines = folder / "numbers" / "v1.0" / "train.jsonl"
    lines.write_text("[1]\n\n{\n" + '{"n": 1}\n' * 10)
    source = p3_rows.RawSets(folder)
    found = p3_mixture.load(SMALL, source, directory=directory)
    is_it, _, after = found.tasks
    assert message_of(found.read, is_it, 0).startswith(
        f"colours, {folder}/colours/train.jsonl, line 1: template 1 of colours, "
        "'is it?': column 'thing' is missing"
    )
    said = message_of(found.read, after, 0)
    assert said == f"{lines}, line 1: expected one JSON object a line, found list"
    assert message_of(found.read, after, 1).startswith(f"{lines}, line 3: not JSON in")
    assert found.read(after, 11).targets == "2"


def test_rows_are_read_when_asked_for_and_not_before(directory, write):
    folder = write({"colours/train.jsonl": [{"label": 1}] * 5})
    lines = folder / "numbers" / "v1.0" / "train.jsonl"
    lines.parent.mkdir(parents=True)
    lines.write_text("[1]\n" * 12)
    source = p3_rows.RawSets(folder)
    found = p3_mixture.load(SMALL, source, directory=directory)
    assert found.num_rows(found.tasks[-1]) == 12
    said = message_of(found.read, found.tasks[-1], 7)
    assert said == f"{lines}, line 8: expected one JSON object a line, found list"


@pytest.mark.parametrize("label", [-1, "-1"])
def test_a_row_without_label_is_no_training_row(directory, label):
    row = {"thing": "red", "some-thing": "0", "label": label}
    rows = {**ROWS, "colours": [row] * 5}
    mixture = p3_mixture.load(SMALL, p3_rows.RawSets(rows), directory=directory)
    with pytest.raises(p3.MixtureError, match=r"colours, row 0: .* no label \(-1\)"):
        mixture.read(mixture.tasks[0], 0)


def test_an_export_without_one_of_its_files_is_an_error(directory, tmp_path):
    folder = tmp_path / "P3" / IS_IT
    folder.mkdir(parents=True)
    (folder / "train-00001-of-00003.parquet").touch()
    with pytest.raises(ValueError, match="should be 3, but missing or too many"):
        p3_mixture.load(SMALL, p3_rows.Exported(tmp_path / "P3"), directory=directory)


def test_an_exported_row_without_text_is_an_error(directory, write):
    ids = EXPORT | {"numbers_v1.0_after": [{"inputs": [3, 1], "targets": "x"}]}
    folder = write({f"{name}/train.jsonl": rows for name, rows in ids.items()})
    found = p3_mixture.load(SMALL, p3_rows.Exported(folder), directory=directory)
    assert message_of(found.read, found.tasks[2], 0).endswith(
        "line 1: not a row of P3's numbers_v1.0_after: expected text in "
        "inputs_pretokenized or inputs, found list"
    )


def test_bad_files_and_arguments_are_named(tmp_path):
    missing = tmp_path / "nowhere"
    for make in (p3_rows.RawSets, p3_rows.Exported):
        assert message_of(make, missing).startswith(f"{missing}: no such directory")
    assert message_of(p3_rows.RawSets, {}, not_applicable="drop") == (
        "not_applicable='drop'; choose from leave_out, tfew"
    )
    empty, torn = tmp_path / "train.jsonl", tmp_path / "train.parquet"
    empty.touch()
    torn.write_bytes(b"PAR1 and no more")
    assert message_of(tables.load, [empty]).endswith("expected a row or more")
    pytest.importorskip("pyarrow")
    assert f"{torn}: not a Parquet file (" in message_of(tables.load, [torn])
    assert message_of(tables.train_files, tmp_path).endswith(
        "holds training rows as .jsonl and as .parquet; keep one kind"
    )


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = message_of(tables.load, [tmp_path / "train.parquet"])
    assert "install tfew-jax[data], or give the rows as .jsonl" in said


# Loading P3.


def fake_hub(monkeypatch, load):
    hub = types.SimpleNamespace(snapshot_download=load)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)


def test_p3_is_loaded_as_files_of_its_tasks_alone(directory, tmp_path, monkeypatch):
    calls = []

    def load(repository, **options):
        calls.append((repository, options))
        for name, rows in EXPORT.items():
            (tmp_path / "to" / name).mkdir(parents=True)
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / "to" / name / "train.jsonl").write_text(text)

    fake_hub(monkeypatch, load)
    tasks, _ = p3.tasks(SMALL, directory=directory)
    source = p3_rows.download(tasks, tmp_path / "to", revision="abc")
    [(repository, options)] = calls
    assert repository == "bigscience/P3"
    assert options["repo_type"] == "dataset"
    assert options["revision"] == "abc"
    patterns = options["allow_patterns"]
    assert "colours_is_it_/train*.parquet" in patterns
    assert all(pattern.endswith("/train*.parquet") for pattern in patterns)
    assert p3_mixture.load(SMALL, source, directory=directory).num_examples == 22


def test_a_failed_load_is_one_line(directory, tmp_path, monkeypatch):
    def load(repository, **options):
        raise ConnectionError("no route\n  to the hub")

    fake_hub(monkeypatch, load)
    tasks, _ = p3.tasks(SMALL, directory=directory)
    said = message_of(p3_rows.download, tasks, tmp_path)
    assert said.startswith(f"bigscience/P3 cannot be loaded to {tmp_path} (no route to")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = message_of(p3_rows.download, tasks, tmp_path)
    assert "needs huggingface_hub; install tfew-jax[data]" in said


# The stream.


def test_an_epoch_holds_every_task_in_proportion_to_its_cap(mixture):
    for epoch in range(3):
        start = epoch * mixture.num_examples
        drawn = [mixture.example(start + i, seed=5) for i in range(22)]
        counts = collections.Counter(example.task for example in drawn)
        assert counts == {"colours_is_it_": 5, "colours_say_it": 5, AFTER: 12}
        rows = sorted(example.row for example in drawn if example.task == AFTER)
        assert rows == list(range(12))


def test_rows_that_do_not_apply_are_left_out(mixture):
    stream = list(itertools.islice(mixture.examples(seed=0), 220))
    is_it = [example for example in stream if example.task == IS_IT]
    assert {example.row for example in is_it} == {0, 2, 3}
    assert any(example.num_skipped for example in is_it)
    assert all(example.inputs and example.targets for example in stream)


def test_a_task_with_more_rows_than_its_cap_goes_on_in_the_next_epoch(
    directory, monkeypatch
):
    monkeypatch.setattr(p3, "MAX_EXAMPLES_PER_SET", 6)
    source = p3_rows.RawSets(ROWS)
    seen = {}
    for rule in p3.RULES:
        found = p3_mixture.load(SMALL, source, directory=directory, rule=rule)
        stream = itertools.islice(found.examples(seed=3), 2 * found.num_examples)
        rows = [example.row for example in stream if example.task == AFTER]
        seen[rule] = collections.Counter(rows)
    assert seen["t0"] == dict.fromkeys(range(12), 1)  # half of the rows an epoch
    assert seen["tfew"] == dict.fromkeys(range(6), 2)  # the first rows alone


def test_the_stream_is_a_function_of_seed_and_position(mixture):
    stream = list(itertools.islice(mixture.examples(seed=7), 60))
    resumed = list(itertools.islice(mixture.examples(seed=7, start=25), 35))
    assert stream[25:] == resumed
    other = list(itertools.islice(mixture.examples(seed=8), 60))
    assert [e.row for e in stream] != [e.row for e in other]


@pytest.mark.parametrize("start", [0, 7])
def test_shards_are_the_stream_dealt_out(mixture, start):
    stream = list(itertools.islice(mixture.examples(seed=7, start=start), 30))
    shards = [
        itertools.islice(
            mixture.examples(seed=7, start=start, shard=shard, num_shards=3), 10
        )
        for shard in range(3)
    ]
    merged = sorted(itertools.chain(*shards), key=lambda example: example.position)
    assert merged == stream


def test_bad_positions_and_shards_are_errors(mixture):
    assert "position -1 is negative" in message_of(mixture.example, -1, seed=0)
    for shard, num_shards in [(2, 2), (-1, 2), (0, 0)]:
        with pytest.raises(ValueError, match=f"shard={shard} of num_shards"):
            mixture.examples(seed=0, shard=shard, num_shards=num_shards)


def test_a_task_that_applies_to_no_row_is_an_error(directory):
    rows = ROWS | {"colours": [{"thing": "", "some-thing": "x", "label": 0}] * 5}
    found = p3_mixture.load(SMALL, p3_rows.RawSets(rows), directory=directory)
    message = r"colours_\w+ applies to none of its 5 rows; row \d: .* gives no target"
    with pytest.raises(p3.MixtureError, match=message):
        list(itertools.islice(found.examples(seed=0), 22))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 64, 100, 1000])
def test_permutations_are_permutations(size):
    for key in ("a", "b", "c"):
        found = [p3_mixture.permute(index, size, key) for index in range(size)]
        assert sorted(found) == list(range(size))


def test_permutations_put_each_thing_everywhere():
    counts = collections.Counter(p3_mixture.permute(0, 5, key) for key in range(5000))
    assert all(abs(counts[place] - 1000) < 150 for place in range(5))  # 5 deviations


# promptsource itself.


@pytest.fixture(scope="module")
def all_tasks():
    """Those of T0++, by T0's rule."""
    if not promptsource_archive.directory().is_dir():
        pytest.skip("needs promptsource's templates: `tfew templates fetch`")
    tasks, missing = p3.tasks(p3.get("t0_pp_train"))
    assert missing == []
    return tasks


@pytest.mark.parametrize(
    ("name", "num_tasks", "t0", "tfew"),
    [
        ("t0_train", 313, 17_277_798, 10_606_443),
        ("t0_plus_train", 392, 20_672_671, 12_937_480),
        ("t0_pp_train", 464, 23_118_591, 13_868_800),
    ],
)
def test_counts_with_promptsources_templates(all_tasks, name, num_tasks, t0, tfew):
    members = p3.get(name).members
    tasks = [task for task in all_tasks if task.member in members]
    assert len(tasks) == num_tasks
    assert sum(task.cap for task in tasks) == t0
    assert sum(dataclasses.replace(t, rule="tfew").cap for t in tasks) == tfew


def test_names_that_p3_is_known_to_have_are_among_the_tasks(all_tasks):
    known = {
        "adversarial_qa_dbert_answer_the_following_q",
        "ai2_arc_ARC_Challenge_qa_options",
        "cnn_dailymail_3.0.0_generate_story",
        "kilt_tasks_hotpotqa_final_exam",
        "samsum_Summarize_",
        "super_glue_wsc.fixed_does_p_stand_for",
    }
    assert known <= {task.name for task in all_tasks}
