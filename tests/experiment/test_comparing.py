"""A comparison is its single runs, done once, with what adapters write beside them."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import one_line
import pytest

from tfew_jax import experiment, metrics
from tfew_jax.data import fewshot, objectives, packing, tasks, token_arrays
from tfew_jax.experiment import comparing, generating, tuning
from tfew_jax.peft import prompt

LENGTHS = {"inputs": 16, "targets": 12}
WORDS = "review bad good awful lovely dull great plot film".split()
RECIPE = experiment.Recipe(num_steps=2, learning_rate=0.02)
FAST = experiment.Recipe(num_steps=2, learning_rate=0.2)
LINES = (
    experiment.Line(recipe=RECIPE),
    experiment.Line(name="fast (IA)^3", recipe=FAST),
)
ADAPTATION = experiment.Recipe(batch_size=4, schedule="constant")


def make_arrays(folder, vocabulary):
    generator = np.random.default_rng(0)
    starts = generator.integers(len(WORDS), size=40)
    pairs = token_arrays.make_pairs(
        [" ".join((WORDS * 2)[start : start + 6]) for start in starts],
        tokenizer=vocabulary,
        objective=objectives.PrefixLM(),
        lengths=LENGTHS,
    )
    rows = packing.pack(pairs, LENGTHS)
    token_arrays.write(folder, rows, lengths=LENGTHS, vocabulary=vocabulary)
    return folder


@pytest.fixture(scope="module")
def arrays(base, tmp_path_factory):
    return make_arrays(tmp_path_factory.mktemp("arrays") / "train", base.tokenizer)


@pytest.fixture(scope="module")
def task(rows, test_rows):
    spec = fewshot.TaskSpec(
        templates="Review: {{text}} Sentiment?", choices="bad ||| good", name="films"
    )
    return tasks.Task(spec=spec, train=rows, test=test_rows)


@pytest.fixture(scope="module")
def base_directory(base_directory, tmp_path_factory):
    """The toy base, with dropout in training."""
    copy = tmp_path_factory.mktemp("dropping") / "base"
    shutil.copytree(base_directory, copy)
    config = read(copy / "config.json")
    config["model"]["dropout_rate"] = 0.1
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.fixture(scope="module")
def base(base_directory):
    return experiment.load_base(base_directory)


@pytest.fixture(scope="module")
def conditions(base_directory, arrays):
    """The model alone, with a sentinel before its targets, and after an adaptation."""
    (adapted,) = experiment.adaptation_lengths(
        base=base_directory,
        arrays=arrays,
        lengths=[3],
        recipe=ADAPTATION,
    )
    return [
        experiment.Condition(
            name="span", base=base_directory, target_prefix="<extra_id_0>"
        ),
        [adapted],
    ]


@pytest.fixture(scope="module")
def compare(conditions, task):
    def run(out, **changed):
        given = {
            "conditions": conditions,
            "lines": LINES,
            "tasks": [task],
            "seeds": (3, 1),
            "num_shots": 16,
            "max_output_length": 4,
            "quiet": True,
        }
        return experiment.compare(out=out, **(given | changed))

    return run


@pytest.fixture(scope="module")
def compared(compare, tmp_path_factory):
    return compare(tmp_path_factory.mktemp("compared"))


def read(path):
    return json.loads(path.read_text())


def without_clock(path):
    """Every record below a directory without what the clock says."""
    found = {}
    for file in sorted(path.rglob("results.jsonl")):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        for record in records:
            record.pop("wall_time_s", None)
            record.pop("first_step", None)
        found[str(file.relative_to(path))] = records
    return found


def test_there_is_a_point_for_each_task_line_and_condition(compared, base):
    places = [(p.task, p.line, p.condition, p.x) for p in compared.points]
    assert places == [
        ("films", line, condition, x)
        for line in ("ia3", "fast (IA)^3")
        for condition, x in (("span", None), ("LM-adapted, 3 steps", 3.0))
    ]
    total = sum(leaf.size for leaf in jax.tree.leaves(base.params))
    assert [p.num_parameters for p in compared.points] == [total] * 4
    trained = LINES[0].made.num_parameters(base.config)
    assert [p.num_trainable for p in compared.points] == [trained] * 4


def test_the_numbers_are_those_of_the_single_runs(compared):
    for point in compared.points:
        summary = read(compared.directory / point.run / "summary.json")
        assert point.accuracy == summary["tuned"]
        assert point.macro_f1 == summary["macro_f1"]["tuned"]
        assert point.zero_shot == summary["zero_shot"]
        assert point.num_trainable == summary["adapter"]["num_parameters"]
        assert summary["variant"] == f"{point.line}, {point.condition}"
    span, adapted = (
        read(compared.directory / p.run / "settings.json") for p in compared.points[:2]
    )
    assert span["protocol.target_prefix"] == "<extra_id_0>"
    assert adapted["protocol.target_prefix"] == ""
    assert span["base"] != adapted["base"]
    assert span["dropout_rate"] == adapted["dropout_rate"] == 0.1


def test_a_run_of_a_comparison_is_one_of_train(compared, task, base, tmp_path):
    alone = experiment.train(
        model_dir=tmp_path,
        base=base,
        task=task,
        recipe=RECIPE,
        seeds=(3, 1),
        num_shots=16,
        target_prefix="<extra_id_0>",
        variant="ia3, span",
        quiet=True,
    )
    point = compared.points[0]
    assert alone.summary["tuned"] == point.accuracy
    own = without_clock(compared.directory / point.run)
    assert without_clock(tmp_path) == own


def test_illegal_outputs_are_those_of_every_seeds_adapter(compared, task, base):
    point = compared.points[0]
    expected = []
    for seed in (3, 1):
        run = compared.directory / point.run / "runs" / f"seed-{seed}"
        written = experiment.generate(base, run / "adapter", task.test, max_length=4)
        assert all(g.prefix == "<extra_id_0>" for g in written)
        expected.append(experiment.illegal_outputs(written))
        numbers = read(run / "generation" / "metrics.json")
        assert {name: numbers[name] for name in expected[-1]} == expected[-1]
    assert point.illegal == metrics.summarize([e["illegal"] for e in expected])
    for kind in metrics.ILLEGAL_KINDS:
        mean = sum(shares[kind] for shares in expected) / 2
        assert point.illegal_kinds[kind] == mean
    frozen = experiment.generate(base, None, task.test, spec=task.spec, max_length=4)
    assert compared.points[0].frozen_illegal == experiment.illegal_outputs(frozen)


def test_shares_are_counted_by_hand(compare, conditions, tmp_path, monkeypatch):
    texts = ["<extra_id_0> bad", "good", "", "<extra_id_0>", "<extra_id_1> bad"]
    texts += ["dull", "no film", "bad", "good", "<extra_id_0> good"]

    def write(base, adapter, batches, **settings):
        return texts, [-1.0] * len(texts)

    monkeypatch.setattr(generating, "write", write)
    (point,) = compare(
        tmp_path, conditions=conditions[:1], lines=LINES[:1], seeds=(3,)
    ).points
    # Rows: the sentinel that stands before every choice is no part of an answer.
    assert point.illegal == {"median": 0.5, "q1": 0.5, "q3": 0.5, "n": 1}
    assert point.illegal_kinds["empty"] == 0.2
    assert point.illegal_kinds["sentinel"] == 0.1
    assert point.illegal_kinds["copied"] + point.illegal_kinds["other"] == 0.2


def test_what_is_done_is_not_done_again(compare, compared, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("done again")

    monkeypatch.setattr(tuning.Tuner, "train", never)
    monkeypatch.setattr(generating, "write", never)
    assert compare(compared.directory) == compared
    assert experiment.load_comparison(compared.directory) == compared


def test_a_comparison_that_was_killed_again_and_again_ends_the_same(
    compare, compared, tmp_path, monkeypatch
):
    class Killed(BaseException):
        """Nothing catches it, as SIGKILL."""

    write_files, left = generating.write_files, 0

    def deadly(*args):
        nonlocal left
        left -= 1
        if not left:
            raise Killed
        write_files(*args)

    monkeypatch.setattr(generating, "write_files", deadly)
    for calls in (1, 3, 2, 4):  # of the frozen model's texts and of adapters'
        left = calls
        with pytest.raises(Killed):
            compare(tmp_path / "out")
        assert not (tmp_path / "out" / "comparison.json").exists()
    again = compare(tmp_path / "out")
    assert again.points == compared.points
    assert without_clock(tmp_path / "out") == without_clock(compared.directory)


def test_conditions_and_lines_may_be_added_later(compare, conditions, tmp_path):
    first = compare(tmp_path, conditions=conditions[:1], lines=LINES[:1])
    both = compare(tmp_path, conditions=conditions[:1])
    assert both.points[0] == first.points[0]
    assert [point.line for point in both.points] == ["ia3", "fast (IA)^3"]


def test_a_condition_may_change_what_is_tuned_on_one_model(
    compare, base_directory, base, tmp_path, monkeypatch
):
    written = []

    def write(base, adapter, batches, **settings):
        written.append(adapter)
        return ["bad"] * 10, [-1.0] * 10

    monkeypatch.setattr(generating, "write", write)
    lengths = experiment.prompt_lengths([1, 3], base=base_directory)
    random = prompt.Prompt(init="uniform")
    line = experiment.Line(name="random", method=random, recipe=RECIPE)
    short, long = compare(
        tmp_path, conditions=[lengths], lines=[line], seeds=(3,)
    ).points
    assert (short.condition, long.condition) == ("1 position", "3 positions")
    assert (short.x, long.x) == (1.0, 3.0)
    width = base.config.emb_dim
    assert (short.num_trainable, long.num_trainable) == (width, 3 * width)
    assert read(tmp_path / long.run / "settings.json")["method"]["length"] == 3
    assert len(written) == 3  # the frozen model once, and two adapters


@pytest.mark.parametrize(
    "settings, says",
    [
        ({"lenght": 3}, "labels, x: unknown settings ['lenght'] of method 'prompt'"),
        ({"length": 0}, "labels, x: length and decoder_length are 0"),
    ],
)
def test_a_setting_that_a_method_does_not_have_names_line_and_condition(
    compare, base_directory, tmp_path, settings, says
):
    condition = experiment.Condition(name="x", base=base_directory, settings=settings)
    line = experiment.Line(name="labels", method="prompt", recipe=RECIPE)
    message = one_line.message_of(
        compare, tmp_path / "out", conditions=[condition], lines=[line]
    )
    assert message.startswith(says)
    assert not (tmp_path / "out").exists()


def test_another_length_of_outputs_is_written_anew(
    compare, conditions, tmp_path, monkeypatch
):
    given = {"conditions": conditions[:1], "lines": LINES[:1], "seeds": (3,)}
    seen = []

    def write(base, adapter, batches, *, max_length, **settings):
        seen.append(max_length)
        return ["bad"] * 10, [-1.0] * 10

    monkeypatch.setattr(generating, "write", write)
    for length in (4, 4, 2):
        compare(tmp_path, **given, max_output_length=length)
    assert seen == [4, 4, 2, 2]  # of the frozen model and of the adapter
    (file,) = (tmp_path / "runs").rglob("generation/metrics.json")
    assert read(file)["settings"]["max_length"] == 2


def test_longer_adaptations_go_on_from_shorter_ones(
    compare, base_directory, arrays, tmp_path, monkeypatch
):
    """Which run each adaptation goes on from; that it ends the same is pretrain's."""
    calls = []

    def pretrain(*, model_dir, on_start, recipe, base, **settings):
        calls.append((recipe.num_steps, on_start))
        assert base.config.dropout_rate == 0.0
        model_dir.mkdir(parents=True)
        (model_dir / "FINISHED").touch()
        return SimpleNamespace(path=base_directory)

    class Tuned(Exception):
        """The adaptations are done."""

    def train(**settings):
        assert settings["base"].config.dropout_rate == 0.1
        if len(calls) == 3:
            raise Tuned
        numbers = {"median": 0.5, "q1": 0.5, "q3": 0.5, "n": 1}
        return SimpleNamespace(
            summary={
                **dict.fromkeys(("tuned", "zero_shot"), numbers),
                "macro_f1": {"tuned": numbers},
                "adapter": {"num_parameters": 1},
                "config_hash": "c0ffee",
            }
        )

    shares = dict.fromkeys(("illegal", *metrics.ILLEGAL_KINDS), 0.0)
    monkeypatch.setattr(comparing.outputs, "illegal_shares", lambda *a, **k: shares)
    monkeypatch.setattr(comparing.continuing, "from_end_of", lambda run: run.name)
    monkeypatch.setattr(comparing.pretraining, "pretrain", pretrain)
    monkeypatch.setattr(comparing.jobs, "train", train)
    lengths = experiment.adaptation_lengths(
        base=base_directory, arrays=arrays, lengths=[2, 3, 5], recipe=ADAPTATION
    )
    with pytest.raises(Tuned):
        compare(tmp_path, conditions=lengths, lines=LINES[:1], seeds=(3,))
    assert calls == [
        (2, None),
        (3, "LM-adapted-2-steps"),
        (5, "LM-adapted-3-steps"),
    ]
