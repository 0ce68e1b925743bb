"""Training on made-up rows of text-to-text tasks in their official form."""

import json
import tempfile

import jax
import numpy as np
import pytest
from flax import traverse_util

from tfew_jax import checkpoint, experiment
from tfew_jax.data import text_transfer
from tfew_jax.experiment import generating, text_measuring, text_run

LENGTHS = {"inputs": 48, "targets": 16}
RECIPE = experiment.Recipe(
    num_steps=6, batch_size=4, learning_rate=0.02, schedule="constant"
)
SENTENCES = {"premise": "film good", "hypothesis": "good film"}


def write(path, rows):
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def train(base, text_data, model_dir, **options):
    given = {
        "task": "rte",
        "recipe": RECIPE,
        "eval_period": 2,
        "lengths": LENGTHS,
        "checkpoint_period": 3,
        "eval_batch_size": 4,
        "quiet": True,
    }
    return experiment.train_text(
        model_dir=model_dir, base=base, data_dir=text_data, **(given | options)
    )


@pytest.fixture(scope="module")
def trained(base, text_data, tmp_path_factory):
    """Two seeds on RTE, measured on CB as well, by what the toy really writes."""
    return train(
        base, text_data, tmp_path_factory.mktemp("run"), seeds=(3, 1), eval_tasks=["cb"]
    )


def read_steps(result, seed, kind=text_run.VALIDATION):
    return [
        record["step"]
        for record in result.records
        if record["kind"] == kind and record["seed"] == seed
    ]


def test_every_validation_and_every_set_has_a_record(trained):
    runs = [record["run"] for record in trained.records]
    assert runs == [
        f"seed-{seed}{rest}"
        for seed in (3, 1)
        for rest in (*(f"-validation-{s}" for s in (0, 2, 4, 6)), "-cb-validation", "")
    ]
    kinds = {record["kind"]: record for record in trained.records}
    shifted, best = kinds[text_run.SHIFTED], kinds[text_run.BEST]
    assert (shifted["task"], shifted["measured_as"]) == ("cb", "rte")
    assert (best["task"], best["measured_as"], best["split"]) == (
        *("rte", "rte"),
        "validation",
    )
    assert set(best["scores"]) == set(shifted["scores"]) == {"accuracy"}
    assert best["illegal"]["illegal"] == 1  # what the toy writes is no label
    assert best["score"] == best["scores"]["accuracy"] == 0
    assert best["num_scored_rows"] == 5


def test_the_summary_has_the_spread_over_seeds_of_every_set(trained):
    summary = json.loads((trained.directory / "summary.json").read_text())
    assert summary == trained.summary
    rte, cb = summary["sets"]
    assert (rte["task"], cb["task"], cb["measured_as"]) == ("rte", "cb", "rte")
    nothing = {"median": 0.0, "q1": 0.0, "q3": 0.0, "n": 2}
    assert rte["score"] == rte["metrics"]["accuracy"] == nothing
    assert rte["illegal"] == nothing | {"median": 1.0, "q1": 1.0, "q3": 1.0}
    # Of equal scores the first is the best; the one before any update is none.
    assert summary["runs"] == [
        {"seed": seed, "best_step": 2, "best_score": 0.0, "last_step": 6}
        for seed in (3, 1)
    ]
    assert summary["epochs"] == 6 * 4 / 8
    table = experiment.text_table(summary)
    assert "rte, validation" in table and "illegal 1.000" in table


def arrays(adapter):
    return jax.tree.map(np.asarray, adapter.params)


def test_the_best_adapter_of_the_first_seed_and_the_last_ones_are_kept(trained, base):
    def load(path):
        return checkpoint.load_adapter(trained.directory / path, base.config)

    jax.tree.map(
        np.testing.assert_array_equal,
        arrays(load("adapter")),
        arrays(load("runs/seed-3/adapter")),
    )
    assert load("adapter").task is None
    assert load("adapter").metadata["step"] == 2
    assert load("runs/seed-3/last_adapter").metadata["step"] == 6
    assert load("runs/seed-1/adapter").metadata["text_task"]["name"] == "rte"


def test_evaluating_the_run_gives_the_numbers_of_its_record(
    trained, base, text_data, tmp_path
):
    numbers = experiment.evaluate_text(
        output_dir=tmp_path,
        base=base,
        task="cb",
        trained_on="rte",
        data_dir=text_data,
        adapter=trained.directory,
        lengths=LENGTHS,
        batch_size=4,
    )
    file = trained.directory / "runs/seed-3/eval/cb-validation/generations.csv"
    assert (tmp_path / "generations.csv").read_text() == file.read_text()
    record = next(r for r in trained.records if r["kind"] == text_run.SHIFTED)
    assert numbers == {**record["scores"], **record["illegal"], "num_rows": 5}


def test_a_model_learns_to_write_the_answers(base, text_data, tmp_path):
    recipe = experiment.Recipe(
        num_steps=40,
        batch_size=4,
        learning_rate=0.02,
        schedule="constant",
        adafactor={"multiply_by_parameter_scale": False},
    )
    result = train(
        base,
        text_data,
        tmp_path,
        task="squad",
        method="full",
        recipe=recipe,
        eval_period=20,
    )
    [of_set] = result.summary["sets"]
    assert of_set["metrics"]["em"]["median"] == of_set["score"]["median"] == 1.0
    assert of_set["illegal"] is None
    first = result.records[0]
    assert (first["step"], first["scores"]["em"]) == (0, 0.0)


# --- a measure that the tests make up


def moved(params):
    """How far (IA)^3 is from its start, which grows with the first updates."""
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    vectors = [np.asarray(leaf) for path, leaf in flat.items() if "ia3" in path]
    return float(np.sqrt(sum(np.sum((v - 1) ** 2) for v in vectors)))


def measured_as(score, questions):
    generations = [
        generating.Generation(
            row=row, text="x", score=0.0, inputs=example["inputs"], legal=("x",)
        )
        for row, example in enumerate(questions.examples)
    ]
    return text_measuring.Measured(
        scores={"accuracy": score}, score=score, illegal=None, generations=generations
    )


def rising(base, model, params, questions, *, batch_size):
    return measured_as(moved(params), questions)


def falling(base, model, params, questions, *, batch_size):
    return measured_as(1 / (1 + moved(params)), questions)


def scripted(scores):
    left = iter(scores)

    def answer(base, model, params, questions, *, batch_size):
        return measured_as(next(left), questions)

    return answer


def test_the_step_with_the_best_score_is_kept_though_later_ones_fall(
    base, text_data, tmp_path, monkeypatch
):
    snapshots = {}
    save = checkpoint.Adapter.save

    def spy(self, path):
        snapshots.setdefault((path.name, self.metadata["step"]), arrays(self))
        save(self, path)

    monkeypatch.setattr(checkpoint.Adapter, "save", spy)
    monkeypatch.setattr(text_measuring, "answer", scripted([1.0, 0.2, 0.7, 0.6, 0.7]))
    result = train(base, text_data, tmp_path)
    assert result.summary["runs"] == [
        {"seed": 0, "best_step": 4, "best_score": 0.7, "last_step": 6}
    ]
    assert list(snapshots) == [
        *(("adapter", 2), ("adapter", 4)),  # 1.0 was before any update
        ("last_adapter", 6),
    ]
    jax.tree.map(
        np.testing.assert_array_equal, arrays(result.adapter), snapshots["adapter", 4]
    )
    last = checkpoint.load_adapter(tmp_path / "runs/seed-0/last_adapter")
    with pytest.raises(AssertionError):
        jax.tree.map(
            np.testing.assert_array_equal, arrays(result.adapter), arrays(last)
        )


def test_a_run_stops_after_patience_many_validations(
    base, text_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(text_measuring, "answer", falling)
    result = train(base, text_data, tmp_path, patience=2, eval_period=1)
    assert read_steps(result, 0) == [0, 1, 2, 3]
    assert result.summary["runs"][0]["best_step"] == 1
    assert result.summary["runs"][0]["last_step"] == 3
    last = checkpoint.load_adapter(tmp_path / "runs/seed-0/last_adapter")
    assert last.metadata["step"] == 3


def test_convergence_is_measured_against_the_mean_of_the_best_scores(
    base, text_data, tmp_path, monkeypatch
):
    of_seeds = [0.0, 0.5, 0.6, 0.7, 0.7], [0.0, 0.4, 0.9, 0.5, 0.9]  # last: in the end
    scores = [score for of_seed in of_seeds for score in of_seed]
    monkeypatch.setattr(text_measuring, "answer", scripted(scores))
    found = train(base, text_data, tmp_path, seeds=(0, 1)).summary["convergence"]
    assert found["mean_best_score"] == pytest.approx(0.8)
    first, second = found["first_step_within_1_percent"]
    assert first == {"seed": 0, "step": None, "wall_time_s": None}
    assert (second["seed"], second["step"]) == (1, 4)
    assert second["wall_time_s"] > 0


def test_fewer_rows_are_validated_in_training_and_all_in_the_end(
    base, text_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(text_measuring, "answer", rising)
    result = train(base, text_data, tmp_path, max_eval_rows=3)
    sizes = [record["num_scored_rows"] for record in result.records]
    assert sizes == [3, 3, 3, 3, 5]


def test_without_a_validation_split_the_last_step_is_kept_and_measured(
    base, text_data, tmp_path
):
    result = train(
        base,
        text_data,
        tmp_path,
        validation=None,
        eval_tasks=[("cb", "train"), ("rte", "validation", str(text_data))],
    )
    kinds = [(record["kind"], record["task"]) for record in result.records]
    shifted = text_run.SHIFTED
    assert kinds == [(shifted, "cb"), (shifted, "rte"), (text_run.BEST, "rte")]
    assert result.adapter.metadata["step"] == 6
    assert result.summary["convergence"] is None


def test_nothing_is_left_on_the_disk_without_a_directory(
    base, text_data, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = train(base, text_data, None)
    assert result.directory is None
    assert len(result.records) == 5
    assert list(tmp_path.iterdir()) == []


def test_questions_of_one_paragraph_are_drawn_together():
    def example(paragraph, question):
        return {"idx/paragraph": paragraph, "idx/question": question, "inputs": ""}

    numbers = [(p, q) for p in range(3) for q in range(2) for _ in range(3)]
    questions = text_measuring.Questions(
        name="multirc",
        split="validation",
        reading=text_transfer.reading("multirc"),
        examples=[example(*number) for number in numbers],
        inputs=[np.array([n], np.int32) for n in range(len(numbers))],
        limits=LENGTHS,
    )
    drawn = questions.drawn(5)
    kept = [(e["idx/paragraph"], e["idx/question"]) for e in drawn.examples]
    assert len(kept) == 6 and len(set(kept)) == 2
    assert [numbers[int(ids[0])] for ids in drawn.inputs] == kept
    assert questions.drawn(100) is questions
    assert [int(ids[0]) for ids in questions.drawn(5).inputs] == [
        int(ids[0]) for ids in drawn.inputs
    ]


def test_a_prefix_stands_before_targets_and_is_taken_off_outputs(base, text_data):
    form = text_measuring.Format(lengths=LENGTHS, target_prefix="<extra_id_0>")
    examples = text_measuring.load_examples(
        "rte", "train", str(text_data), task_word=True
    )
    tokens = text_measuring.training_tokens(base, examples, form)
    assert tokens.choice_sets[0, 0, 0] == base.tokenizer.sentinel(0)
    questions = text_measuring.load_questions(
        base, "rte", "validation", str(text_data), form=form
    )
    texts = ["<extra_id_0> entailment", "not_entailment", "", "", ""]
    measured = text_measuring.measure(base, questions, texts, [0.0] * 5)
    assert measured.score == 2 / 5
    assert [g.text for g in measured.generations][:2] == [
        "entailment",
        "not_entailment",
    ]


# --- bad input


def message_of(base, text_data, folder, **options):
    with pytest.raises(ValueError) as caught:
        train(base, text_data, folder / "run", **options)
    assert "\n" not in str(caught.value)
    assert not (folder / "run").exists()  # nothing is written, nothing compiles
    return str(caught.value)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"task": "xyz"}, "unknown text-to-text task 'xyz'"),
        ({"validation": "dev"}, "rte has no split 'dev'"),
        ({"task": "mrqa/race"}, "mrqa/race has no split 'train'"),
        ({"validation": "test"}, "without a label or answer to measure by"),
        ({"validation": None}, "nothing would be measured"),
        ({"validation": None, "patience": 2}, "patience=2 counts validations"),
        ({"patience": 0}, "patience must be positive, got 0"),
        ({"eval_period": 0}, "eval_period must be positive, got 0"),
        ({"max_eval_rows": 0}, "max_eval_rows must be positive, got 0"),
        ({"checkpoint_period": 0}, "checkpoint_period must be positive, got 0"),
        ({"seeds": ()}, r"seeds are []; give one or more"),
        ({"seeds": (1, 1)}, r"seeds are [1, 1]; give one or more, each once"),
        ({"eval_tasks": ["sst2"]}, "a model of rte say nothing about sst2"),
        ({"eval_tasks": ["rte"]}, "rte-validation is to be measured twice"),
        ({"eval_tasks": [("cb", "x")]}, "cb has no split 'x'"),
        ({"eval_tasks": [()]}, "each is a set, a set and a split"),
        ({"eval_tasks": ["cb"], "task": "squad"}, "of squad say nothing about cb"),
        ({"recipe": experiment.Recipe(batch_size=32)}, "there are 8 rows to train on"),
        ({"lengths": {"inputs": 1}}, "each 2 tokens or more"),
        ({"method": "lorra"}, "unknown PEFT method 'lorra'"),
    ],
)
def test_bad_input_is_refused_before_anything_compiles(
    options, expected, base, text_data, tmp_path
):
    assert expected in message_of(base, text_data, tmp_path, **options)


def test_rows_without_a_label_are_not_trained_on(base, text_data, tmp_path):
    rows = [{**SENTENCES, "idx": n, "label": "entailment"} for n in range(8)]
    del rows[5]["label"]
    write(tmp_path / "RTE" / "train.jsonl", rows)
    message = message_of(base, tmp_path, tmp_path)
    assert "train.jsonl, line 6: a row of rte without a label" in message
    assert "to train on" in message


def test_a_missing_validation_file_is_named(base, text_data, tmp_path):
    rows = [{**SENTENCES, "idx": n, "label": "entailment"} for n in range(8)]
    write(tmp_path / "RTE" / "train.jsonl", rows)
    assert "no validation split of rte" in message_of(base, tmp_path, tmp_path)


def test_an_adapter_of_another_method_is_no_start(base, text_data, trained, tmp_path):
    message = message_of(
        base, text_data, tmp_path, method="full", initial_adapter=trained.adapter
    )
    assert "give one of the same method" in message


def test_a_run_starts_from_an_adapter_of_its_method(
    base, text_data, trained, monkeypatch
):
    monkeypatch.setattr(text_measuring, "answer", rising)
    result = train(base, text_data, None, initial_adapter=trained.adapter)
    [first, *_] = result.records
    assert first["score"] == pytest.approx(moved(trained.adapter.params))


def test_other_settings_in_the_same_directory_are_refused(trained, base, text_data):
    with pytest.raises(
        ValueError, match=r"other settings: protocol\.eval_period was 2"
    ):
        train(
            base,
            text_data,
            trained.directory,
            seeds=(3, 1),
            eval_tasks=["cb"],
            eval_period=3,
        )


def test_a_finished_run_is_not_done_again(trained, base, text_data, capsys):
    again = train(
        base,
        text_data,
        trained.directory,
        seeds=(3, 1),
        eval_tasks=["cb"],
        quiet=False,
    )
    assert again.records == trained.records
    assert again.summary == trained.summary
    assert "all 2 runs are done already" in capsys.readouterr().err
