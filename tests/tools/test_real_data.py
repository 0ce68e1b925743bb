"""tools/real_data.py reads the public sets as they are published."""

import pathlib
import runpy
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import real_data

from tfew_jax.data import promptsource_archive


@pytest.fixture
def folder(tmp_path):
    """AG News and TREC as published; the last training question of TREC is tested."""
    news = tmp_path / "classification" / "agnews"
    news.mkdir(parents=True)
    rows = [f'{1 + i % 4},"Title {i}","Text, {i}"' for i in range(120)]
    text = "\n".join(["Class Index,Title,Description", *rows])
    (news / "test.csv").write_text(text + "\n", "utf-8")
    questions = tmp_path / "classification" / "trec"
    questions.mkdir()
    train = "HUM:ind Who is it ?\nLOC:city Where is it ?\nNUM:count How many ?\n"
    (questions / "train.txt").write_text(train, "latin-1")
    (questions / "test.txt").write_text("NUM:count How many ?\n", "latin-1")
    return tmp_path


@pytest.fixture
def templates(tmp_path_factory, monkeypatch):
    """Templates of our own under the names and numbers that the tool reads."""
    monkeypatch.setenv("TFEW_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
    for name, count, column, label, num_classes in (
        ("trec", 18, "text", "label_coarse", 6),
        ("ag_news", 7, "text", "label", 4),
        ("glue/sst2", 5, "sentence", "label", 2),
    ):
        path = promptsource_archive.directory() / name / "templates.yaml"
        path.parent.mkdir(parents=True)
        choices = " ||| ".join(f"c{n}" for n in range(num_classes))
        made = (
            f"  k{n}: !Template\n    name: t{n:02}\n    answer_choices: {choices}\n"
            f"    jinja: '{{{{{column}}}}} ||| {{{{answer_choices[{label}]}}}}'\n"
            "    metadata: !TemplateMetadata {original_task: true}\n"
            for n in range(count)
        )
        path.write_text("templates:\n" + "".join(made), "utf-8")


@pytest.mark.usefixtures("templates")
def test_each_seed_of_ag_news_is_scored_on_all_rows_that_it_did_not_draw(folder):
    parts = real_data.make_tasks("agnews", folder)
    assert list(parts) == [(seed,) for seed in real_data.SEEDS]
    everything = {f"Title {i} Text, {i}" for i in range(120)}
    for task in parts.values():
        drawn, rest = (
            {row["text"] for row in rows} for rows in (task.train, task.test)
        )
        assert len(drawn) == 50 and len(rest) == 70
        assert drawn | rest == everything
    assert len({tuple(row["text"] for row in t.train) for t in parts.values()}) == 5


def test_trecs_tested_questions_leave_its_training_rows(folder):
    train, test = real_data.trec(folder)
    assert [row["text"] for row in train] == ["Who is it ?", "Where is it ?"]
    assert test == [{"text": "How many ?", "label_coarse": 4}]


def test_a_method_takes_settings_from_the_command_line():
    method = real_data.make_method("prompt", ["length=20", "init=uniform"])
    assert (method.length, method.init) == (20, "uniform")
    with pytest.raises(ValueError, match="unknown settings"):
        real_data.make_method("ia3", ["length=20"])


@pytest.mark.usefixtures("templates")
def test_a_vote_is_shown_beside_its_members(folder, monkeypatch):
    asked = {}

    def evaluate(**given):
        asked.update(given)
        numbers = ("mean_of_members", "best_of_members", "vote", "mean_probability")
        scores = {name: {"accuracy": i / 10} for i, name in enumerate(numbers)}
        return {**scores, "agreement": 0.75}

    monkeypatch.setattr(real_data.experiment, "evaluate", evaluate)
    line = real_data.row_of_votes("trec", None, folder, folder / "out")
    assert line == "| trec | 0.000 | 0.100 | 0.200 | 0.300 | 0.750 |"
    assert [path.parts[-2] for path in asked["adapter"]] == [
        f"seed-{seed}" for seed in real_data.SEEDS
    ]
    assert asked["task"].test == [{"text": "How many ?", "label_coarse": 4}]


@pytest.mark.usefixtures("templates")
def test_seeds_with_test_rows_of_their_own_cannot_vote(folder):
    with pytest.raises(ValueError, match="no test rows in common"):
        real_data.row_of_votes("agnews", None, folder, folder / "out")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--only", "sst2,foo"], "foo"),
        (["--only", "trec", "--data", "nowhere"], "nowhere"),
        (["--method", "lorra"], "lorra"),
        (["--losses", "all"], "unknown losses"),
    ],
)
@pytest.mark.usefixtures("templates")
def test_bad_arguments_end_with_one_line_and_status_2(
    tmp_path, monkeypatch, capsys, given, message
):
    monkeypatch.chdir(tmp_path)
    reviews = tmp_path / "classification" / "sst2"
    reviews.mkdir(parents=True)
    for part in ("train", "test"):
        (reviews / f"stsa.binary.{part}").write_text("1 good\n0 bad\n")
    argv = ["real_data.py", "--out", "out", *given]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(real_data.__file__), run_name="__main__")
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("real_data.py: error: ") and message in line
    assert not (tmp_path / "out").exists()


def test_random_weights_have_the_vocabulary_of_a_base_in_any_format(base_directory):
    from tfew_jax import experiment

    base = experiment.load_base(base_directory)
    spiece = base_directory / "spiece.model"
    base.tokenizer.model_file = spiece
    spiece.write_bytes((base_directory / "sentencepiece.model").read_bytes())
    try:
        found = real_data.random_base(base)
    finally:
        spiece.unlink()
    assert found.tokenizer.model_file == spiece
    assert found.config == base.config
