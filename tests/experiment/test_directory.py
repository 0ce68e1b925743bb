import json
import multiprocessing

import pytest
from one_line import message_of

from tfew_jax.experiment import directory, prepared

STEPS = {"base": "0123", "recipe.num_steps": 5}


def record(run, **more):
    return {"run": run, **more}


def test_records_are_read_back_in_the_order_they_were_added(tmp_path):
    records = directory.Records(tmp_path / "results.jsonl")
    for name in ("seed-1", "seed-0"):
        records.append(record(name, accuracy=0.5, text="naïve"))
    again = directory.Records(tmp_path / "results.jsonl")
    assert again.all() == records.all()
    assert [r["run"] for r in again.all()] == ["seed-1", "seed-0"]
    assert "seed-1" in again and "seed-2" not in again


@pytest.mark.parametrize("keep", [1, 5, 20])
def test_a_torn_last_line_is_cut_off_and_nothing_else(tmp_path, keep):
    path = tmp_path / "results.jsonl"
    directory.Records(path).append(record("seed-0"))
    whole = path.read_bytes()
    torn = (json.dumps(record("seed-1", accuracy=1.0)) + "\n").encode()[:keep]
    path.write_bytes(whole + torn)
    records = directory.Records(path)
    assert path.read_bytes() == whole
    records.append(record("seed-1"))
    runs = [json.loads(line)["run"] for line in path.read_text().splitlines()]
    assert runs == ["seed-0", "seed-1"]


def test_a_second_record_of_a_run_is_refused(tmp_path):
    records = directory.Records(tmp_path / "results.jsonl")
    records.append(record("seed-0"))
    with pytest.raises(ValueError, match="already holds a record of seed-0"):
        records.append(record("seed-0"))


def test_a_record_that_does_not_fit_on_the_disk_leaves_the_others(
    tmp_path, monkeypatch
):
    path = tmp_path / "results.jsonl"
    records = directory.Records(path)
    records.append(record("seed-0"))
    before = path.read_bytes()
    write = directory.os.write
    monkeypatch.setattr(directory.os, "write", lambda fd, data: write(fd, data[:7]))
    with pytest.raises(OSError, match="no space left"):
        records.append(record("seed-1"))
    assert path.read_bytes() == before


def test_a_damaged_record_is_named_by_its_line(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text('{"run": "a"}\nnot json\n')
    with pytest.raises(ValueError, match=r"results\.jsonl, line 2: not a record"):
        directory.Records(path)


def test_a_directory_with_the_same_settings_is_continued(tmp_path):
    for _ in range(2):
        with directory.open_directory(tmp_path / "out", settings={"seeds": (0, 1)}):
            pass


def test_other_settings_are_refused_and_the_differing_ones_named(tmp_path):
    with directory.open_directory(tmp_path, settings=STEPS | {"seeds": [0]}):
        pass
    other = {"recipe.num_steps": 6, "seeds": [0]}
    with pytest.raises(ValueError) as error:
        with directory.open_directory(tmp_path, settings=STEPS | other):
            pass
    assert "recipe.num_steps was 5, now 6" in str(error.value)
    assert "seeds" not in str(error.value)
    assert "--overwrite" in str(error.value)


def test_overwrite_removes_our_files_and_no_others(tmp_path):
    with directory.open_directory(tmp_path, settings=STEPS) as path:
        directory.Records(path / "results.jsonl").append(record("seed-0"))
        (path / "runs").mkdir()
        (path / "thesis.txt").write_text("mine")
    six = STEPS | {"recipe.num_steps": 6}
    with directory.open_directory(tmp_path, settings=six, overwrite=True):
        assert json.loads((tmp_path / "settings.json").read_text()) == six
        assert not (tmp_path / "results.jsonl").exists()
        assert not (tmp_path / "runs").exists()
        assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_files_of_ours_without_settings_are_not_written_over(tmp_path):
    (tmp_path / "predictions.csv").write_text("of another program")
    with pytest.raises(ValueError, match=r"holds predictions\.csv but no settings"):
        with directory.open_directory(tmp_path, settings={}):
            pass
    assert (tmp_path / "predictions.csv").read_text() == "of another program"


def test_overwrite_spares_what_bears_our_names_but_lacks_settings(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds adapter but no settings"):
        with directory.open_directory(tmp_path, settings={}, overwrite=True):
            pass
    assert (tmp_path / "adapter" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"editor.fontSize": 12}', "is of something else than a run of tfew_jax"),
        ('{"base": "dark", "kind": "theme"}', "is of something else"),
        ("[1]", "is of something else"),
        ("// my settings\n{}", "settings.json is not JSON"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_settings_of_another_program_and_what_is_beside_them_stay(
    tmp_path, text, message, overwrite
):
    (tmp_path / "settings.json").write_text(text)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "thesis.txt").write_text("mine")
    said = message_of(open_once, tmp_path, settings=STEPS, overwrite=overwrite)
    assert message in said and "name another directory" in said
    assert "--overwrite" not in said
    assert (tmp_path / "settings.json").read_text() == text
    assert (tmp_path / "runs" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "comparison"},
        {"kind": "sweep", "point.runs/rte/ia3": "0123"},
        {"protocol.seeds": [0], "base": "0123"},
    ],
)
def test_runs_of_all_kinds_can_be_replaced(tmp_path, settings):
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "runs").mkdir()
    open_once(tmp_path, settings=STEPS, overwrite=True)
    assert json.loads((tmp_path / "settings.json").read_text()) == STEPS
    assert not (tmp_path / "runs").exists()


def test_a_directory_without_a_name_is_not_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "has no name" in message_of(open_once, "", settings=STEPS)
    assert list(tmp_path.iterdir()) == []


def test_records_may_hold_unicodes_other_line_ends(tmp_path):
    path = tmp_path / "results.jsonl"
    text = "one\u2028two\x85three\x0bfour\rfive\n"
    directory.Records(path).append(record("seed-0", text=text))
    directory.Records(path).append(record("seed-1"))
    assert [r.get("text") for r in directory.Records(path).all()] == [text, None]


def open_once(path, **options):
    with directory.open_directory(path, **options):
        pass


def _hold(path, ready, done):
    with directory.open_directory(path, settings={}):
        ready.set()
        done.wait(60)


def test_a_second_process_on_the_same_directory_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, done))
    process.start()
    try:
        assert ready.wait(60)
        with pytest.raises(
            directory.DirectoryInUse, match=f"in use by process {process.pid}"
        ):
            with directory.open_directory(tmp_path, settings={}):
                pass
    finally:
        done.set()
        process.join()
    with directory.open_directory(tmp_path, settings={}):
        pass  # the lock went with the process


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*file/out"):
        with directory.open_directory(tmp_path / "file" / "out", settings={}):
            pass


def prediction(row, text, choices, scores):
    return prepared.Prediction(
        row=row,
        prediction=text,
        label=choices.index(text),
        choices=choices,
        scores=scores,
    )


def test_predictions_have_a_column_for_the_score_of_every_choice(tmp_path):
    path = tmp_path / "predictions.csv"
    choices = ("yes", "no, never")
    directory.write_predictions(
        path,
        [
            prediction(0, "no, never", choices, (-1.0, -0.5)),
            prediction(1, "yes", choices, (-0.25, -2.0)),
        ],
    )
    assert path.read_text().splitlines() == [
        'row,prediction,score:yes,"score:no, never"',
        '0,"no, never",-1.000000,-0.500000',
        "1,yes,-0.250000,-2.000000",
    ]


def test_rows_with_choices_of_their_own_have_numbered_columns(tmp_path):
    path = tmp_path / "predictions.csv"
    directory.write_predictions(
        path,
        [
            prediction(0, "a", ("a", "b", "c"), (0.0, -1.0, -2.0)),
            prediction(1, "d", ("d", "e"), (-0.5, -1.0)),
        ],
    )
    assert path.read_text().splitlines() == [
        "row,prediction,score_0,score_1,score_2",
        "0,a,0.000000,-1.000000,-2.000000",
        "1,d,-0.500000,-1.000000,",
    ]


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path, monkeypatch):
    directory.write_text(tmp_path / "summary.json", "before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        directory.write_text(tmp_path / "summary.json", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert (tmp_path / "summary.json").read_text() == "before"
