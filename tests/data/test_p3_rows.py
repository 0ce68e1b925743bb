"""The rows of T0's mixtures: raw sets, P3's export, and P3 from the Hub."""

import itertools
import json
import pathlib
import sys
import types

import pytest

from tfew_jax.data import p3, p3_mixture, p3_rows, tables

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from one_line import message_of
from small_mixture import (
    AFTER,
    EXPORT,
    IS_IT,
    ROWS,
    SMALL,
    TASKS,
    exported_row,
)


def test_raw_rows_are_rendered_and_hyphens_in_columns_are_lines(small_mixture):
    pairs = [small_mixture.read(task, 2) for task in small_mixture.tasks]
    assert [(p.inputs, p.targets, p.choices) for p in pairs] == [
        ("Is blue warm?", "No", ("No", "Yes")),
        ("Say 2", "blue", ()),
        ("After 2?", "3", ()),
    ]


def test_rows_are_the_same_from_memory_jsonl_and_parquet(
    template_directory, write_rows, tmp_path
):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = write_rows({f"{name}/train.jsonl": rows for name, rows in ROWS.items()})
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
        found = p3_mixture.load(
            SMALL, p3_rows.RawSets(rows), directory=template_directory
        )
        streams.append(list(itertools.islice(found.examples(seed=1), 44)))
    assert streams[0] == streams[1] == streams[2]


def test_csv_rows_are_read(template_directory, tmp_path):
    (tmp_path / "numbers" / "v1.0").mkdir(parents=True)
    (tmp_path / "numbers" / "v1.0" / "train.csv").write_text("thing,label\nred,1\n")
    (tmp_path / "numbers" / "v1.0").rename(tmp_path / "colours")
    found = p3_mixture.load(
        SMALL,
        p3_rows.RawSets(tmp_path),
        directory=template_directory,
        allow_missing=["numbers/v1.0"],
        allow_partial=True,
    )
    assert found.read(found.tasks[0], 0).targets == "Yes"


def test_p3s_export_is_read(template_directory, write_rows):
    rows = dict(EXPORT)
    wrong = exported_row("Is red warm?", "Yes", is_correct=False)
    rows["colours_is_it_"] = [wrong, *rows["colours_is_it_"]]
    folder = write_rows({f"data/{name}/train-0.jsonl": r for name, r in rows.items()})
    source = p3_rows.Exported(folder)
    found = p3_mixture.load(SMALL, source, directory=template_directory)
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


def test_an_export_that_lacks_one_task_of_a_set_names_the_task(
    template_directory, write_rows
):
    folder = write_rows({f"{n}/train.jsonl": EXPORT[n] for n in TASKS if n != IS_IT})
    source = p3_rows.Exported(folder)
    said = message_of(p3_mixture.load, SMALL, source, directory=template_directory)
    assert f"no TASK/train* in {folder}: colours_is_it_;" in said
    found = p3_mixture.load(
        SMALL, source, directory=template_directory, allow_missing=[IS_IT]
    )
    assert [task.name for task in found.tasks] == TASKS[1:]


def test_p3s_token_ids_are_not_read_and_t_few_stops_at_its_cap(
    template_directory, tmp_path, monkeypatch
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
    found = p3_mixture.load(SMALL, source, directory=template_directory, rule="tfew")
    assert [task.cap for task in found.tasks] == [3, 3, 7]
    assert len(found.rows[AFTER]) == 7
    assert set(found.rows[AFTER][6]) == {"inputs_pretokenized", "targets_pretokenized"}
    assert found.read(found.tasks[2], 6).targets == "7"


def test_a_directory_is_p3s_if_it_holds_a_task_of_it(template_directory, write_rows):
    tasks, _ = p3.tasks(SMALL, directory=template_directory)
    folder = write_rows({"colours/train.jsonl": ROWS["colours"]})
    assert p3_rows.open_directory(folder, tasks).raw
    write_rows({f"{AFTER}/train.jsonl": EXPORT[AFTER]})
    assert not p3_rows.open_directory(folder, tasks).raw


def test_rows_without_input_or_target_are_written_only_as_t_few_does(
    template_directory,
):
    source = p3_rows.RawSets(ROWS, not_applicable="tfew")
    found = p3_mixture.load(SMALL, source, directory=template_directory)
    pair = found.read(found.tasks[0], 1)
    assert (pair.inputs, pair.targets) == ("<NO INPUT>", "<NO LABEL>")
    pair = found.read(found.tasks[1], 1)
    assert (pair.inputs, pair.targets) == ("Say 1", "<NO LABEL>")


def test_bad_rows_are_named(template_directory, write_rows):
    folder = write_rows({"colours/train.jsonl": [{"label": 1}] * 5})
    (folder / "numbers" / "v1.0").mkdir(parents=True)
    lines = folder / "numbers" / "v1.0" / "train.jsonl"
    lines.write_text("[1]\n\n{\n" + '{"n": 1}\n' * 10)
    source = p3_rows.RawSets(folder)
    found = p3_mixture.load(SMALL, source, directory=template_directory)
    is_it, _, after = found.tasks
    assert message_of(found.read, is_it, 0).startswith(
        f"colours, {folder}/colours/train.jsonl, line 1: template 1 of colours, "
        "'is it?': column 'thing' is missing"
    )
    said = message_of(found.read, after, 0)
    assert said == f"{lines}, line 1: expected one JSON object a line, found list"
    assert message_of(found.read, after, 1).startswith(f"{lines}, line 3: not JSON in")
    assert found.read(after, 11).targets == "2"


def test_rows_are_read_when_asked_for_and_not_before(template_directory, write_rows):
    folder = write_rows({"colours/train.jsonl": [{"label": 1}] * 5})
    lines = folder / "numbers" / "v1.0" / "train.jsonl"
    lines.parent.mkdir(parents=True)
    lines.write_text("[1]\n" * 12)
    source = p3_rows.RawSets(folder)
    found = p3_mixture.load(SMALL, source, directory=template_directory)
    assert found.num_rows(found.tasks[-1]) == 12
    said = message_of(found.read, found.tasks[-1], 7)
    assert said == f"{lines}, line 8: expected one JSON object a line, found list"


@pytest.mark.parametrize("label", [-1, "-1"])
def test_a_row_without_label_is_no_training_row(template_directory, label):
    row = {"thing": "red", "some-thing": "0", "label": label}
    rows = {**ROWS, "colours": [row] * 5}
    small_mixture = p3_mixture.load(
        SMALL, p3_rows.RawSets(rows), directory=template_directory
    )
    with pytest.raises(p3.MixtureError, match=r"colours, row 0: .* no label \(-1\)"):
        small_mixture.read(small_mixture.tasks[0], 0)


def test_an_export_without_one_of_its_files_is_an_error(template_directory, tmp_path):
    folder = tmp_path / "P3" / IS_IT
    folder.mkdir(parents=True)
    (folder / "train-00001-of-00003.parquet").touch()
    with pytest.raises(ValueError, match="should be 3, but missing or too many"):
        p3_mixture.load(
            SMALL, p3_rows.Exported(tmp_path / "P3"), directory=template_directory
        )


def test_an_exported_row_without_text_is_an_error(template_directory, write_rows):
    ids = EXPORT | {"numbers_v1.0_after": [{"inputs": [3, 1], "targets": "x"}]}
    folder = write_rows({f"{name}/train.jsonl": rows for name, rows in ids.items()})
    found = p3_mixture.load(
        SMALL, p3_rows.Exported(folder), directory=template_directory
    )
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


def test_p3_is_loaded_as_files_of_its_tasks_alone(
    template_directory, tmp_path, monkeypatch
):
    calls = []

    def load(repository, **options):
        calls.append((repository, options))
        for name, rows in EXPORT.items():
            (tmp_path / "to" / name).mkdir(parents=True)
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / "to" / name / "train.jsonl").write_text(text)

    fake_hub(monkeypatch, load)
    tasks, _ = p3.tasks(SMALL, directory=template_directory)
    source = p3_rows.download(tasks, tmp_path / "to", revision="abc")
    [(repository, options)] = calls
    assert repository == "bigscience/P3"
    assert options["repo_type"] == "dataset"
    assert options["revision"] == "abc"
    patterns = options["allow_patterns"]
    assert "colours_is_it_/train*.parquet" in patterns
    assert all(pattern.endswith("/train*.parquet") for pattern in patterns)
    assert (
        p3_mixture.load(SMALL, source, directory=template_directory).num_examples == 22
    )


def test_a_failed_load_is_one_line(template_directory, tmp_path, monkeypatch):
    def load(repository, **options):
        raise ConnectionError("no route\n  to the hub")

    fake_hub(monkeypatch, load)
    tasks, _ = p3.tasks(SMALL, directory=template_directory)
    said = message_of(p3_rows.download, tasks, tmp_path)
    assert said.startswith(f"bigscience/P3 cannot be loaded to {tmp_path} (no route to")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = message_of(p3_rows.download, tasks, tmp_path)
    assert "needs huggingface_hub; install tfew-jax[data]" in said
