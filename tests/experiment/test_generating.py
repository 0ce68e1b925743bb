import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import traverse_util

from tfew_jax import checkpoint, experiment, metrics, models
from tfew_jax.checkpoint import layout
from tfew_jax.data import fewshot
from tfew_jax.experiment import generating
from tfew_jax.peft import ia3

SPEC = fewshot.TaskSpec(
    templates="Review: {{text}} Sentiment?", choices="bad ||| good", name="films"
)
ROWS = [{"text": "lovely plot"}, {"text": "dull"}, {"text": "great film yes no"}]


@pytest.fixture(scope="module")
def adapter(base):
    """An adapter far from the frozen model, which carries its task."""
    generator = np.random.default_rng(0)
    shapes = layout.adapter_shapes(base.config, ia3.IA3())
    vectors = {
        path: generator.normal(size=shape).astype(np.float32)
        for path, shape in shapes.items()
    }
    return checkpoint.Adapter(
        method=ia3.IA3(),
        params=traverse_util.unflatten_dict(vectors, sep="/"),
        config=base.config,
        task={**SPEC.to_dict(), "lengths": {"inputs": 64, "targets": 6}},
    )


def generate(base, adapter, **settings):
    settings = {"batch_size": 4, "max_length": 6, **settings}
    return experiment.generate(base, adapter, ROWS, **settings)


def test_texts_are_those_of_the_tokens_that_the_adapted_model_decodes(base, adapter):
    generations = generate(base, adapter, max_length=None)  # 6, as the adapter says
    assert [generation.row for generation in generations] == [0, 1, 2]
    params = models.stack_layers(adapter.attach(models.unstack_layers(base.params)))
    model = models.T5(base.config, adapter.method)
    decode = jax.jit(
        models.greedy_decode, static_argnums=0, static_argnames="max_length"
    )
    for generation, row in zip(generations, ROWS, strict=True):
        assert generation.inputs == f"Review: {row['text']} Sentiment?"
        assert generation.legal == ("bad", "good")
        ids = np.zeros((1, 40), np.int32)
        spelled = base.tokenizer.encode(generation.inputs)
        ids[0, : len(spelled)] = spelled
        batch = {"encoder_input_tokens": ids}
        tokens, scores = decode(model, params, batch, max_length=6)
        assert generation.text == generating._text(
            np.asarray(tokens[0]), base.tokenizer
        )
        np.testing.assert_allclose(generation.score, scores[0], rtol=1e-5)


def test_the_frozen_model_generates_other_texts_and_needs_a_spec(base, adapter):
    frozen = generate(base, None, spec=SPEC)
    adapted = generate(base, adapter)
    assert [g.inputs for g in frozen] == [g.inputs for g in adapted]
    assert [g.score for g in frozen] != [g.score for g in adapted]
    with pytest.raises(
        ValueError, match="carries no template and choices; give a spec"
    ):
        generate(base, None)


def test_settings_of_the_search_reach_it(base, adapter):
    with pytest.raises(ValueError, match="num_beams=0; expected 1 or more"):
        generate(base, adapter, num_beams=0)
    with pytest.raises(ValueError, match="max_length=0; expected 1 or more"):
        generate(base, adapter, max_length=0)
    with pytest.raises(ValueError, match=r"alpha=-1\.0; expected a number of at"):
        generate(base, adapter, num_beams=1, alpha=-1.0)


def test_an_adapter_saved_with_its_task_generates_from_its_directory(
    base, adapter, tmp_path
):
    adapter.save(tmp_path / "adapter")
    assert generate(base, tmp_path / "adapter") == generate(base, adapter)


def test_ids_that_only_pad_the_embedding_are_unknown_pieces(base):
    size = base.tokenizer.vocab_size
    assert size < base.config.vocab_size
    good = base.tokenizer.encode("good", add_eos=False)
    text = generating._text(np.array([*good, size, 1, 0, 0]), base.tokenizer)
    assert text == base.tokenizer.decode([*good, 2, 1, 0, 0]) != "good"


def test_illegal_texts_are_counted_by_kind():
    def generation(text):
        return experiment.Generation(
            row=0,
            text=text,
            score=-1.0,
            inputs="Review: dull plot Sentiment?",
            legal=("bad", "good"),
        )

    texts = ["bad", "dull plot", "<extra_id_0> bad", "awful"]
    assert experiment.illegal_outputs([*map(generation, texts)]) == {
        "illegal": 0.75,
        "empty": 0.0,
        "sentinel": 0.25,
        "copied": 0.25,
        "other": 0.25,
    }


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_texts_of_a_files_rows_are_written_with_their_kinds(base, adapter, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("text\n" + "\n".join(row["text"] for row in ROWS) + "\n")
    shares = experiment.write_generations(
        output_dir=tmp_path / "out", base=base, task=rows, adapter=adapter
    )
    expected = generate(base, adapter, max_length=None)
    found = read_csv(tmp_path / "out" / "generations.csv")
    assert [row["text"] for row in found] == [g.text for g in expected]
    assert [row["kind"] for row in found] == [g.kind for g in expected]
    assert shares == experiment.illegal_outputs(expected)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {name: metrics[name] for name in shares} == shares
    assert metrics["num_rows"] == 3


def test_a_text_to_text_task_is_measured_by_what_the_model_writes(
    base, tmp_path, monkeypatch
):
    labels = ["entailment", "not_entailment", "entailment"]
    rows = [
        {"premise": "a" * (3 * n + 1), "hypothesis": "b", "label": label, "idx": n}
        for n, label in enumerate(labels)
    ]
    (tmp_path / "RTE").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "RTE" / "val.jsonl").write_text(text)
    seen = []
    answers = ["entailment", "", "a" * 7]

    def write(base, adapter, batches, *, max_length, **settings):
        for batch in batches:
            order = batch["example_id"]
            seen.extend(order[order >= 0].tolist())
            assert (batch["encoder_input_tokens"][:, 0] > 0).all()
        return answers, [-1.0, -2.0, -3.0]

    def evaluate(folder, **settings):
        return experiment.evaluate_text(
            output_dir=tmp_path / folder,
            base=base,
            task="rte",
            data_dir=tmp_path,
            lengths={"inputs": 64, "targets": 4},
            batch_size=2,
            **settings,
        )

    numbers = evaluate("real")  # what the toy model writes is no label
    assert (numbers["accuracy"], numbers["illegal"], numbers["num_rows"]) == (0, 1, 3)
    monkeypatch.setattr(generating, "write", write)
    numbers = evaluate("out")
    assert sorted(seen) == [0, 1, 2]
    assert numbers["accuracy"] == pytest.approx(1 / 3)
    assert numbers["empty"] == numbers["copied"] == pytest.approx(1 / 3)
    table = read_csv(tmp_path / "out" / "generations.csv")
    assert [row["kind"] for row in table] == ["legal", "empty", "copied"]
    assert [row["target"] for row in table] == [*labels]
    with pytest.raises(ValueError, match="unknown text-to-text task 'xyz'"):
        experiment.evaluate_text(
            output_dir=tmp_path, base=base, task="xyz", data_dir=tmp_path
        )
    with pytest.raises(ValueError, match="no test split of rte"):
        evaluate("test", split="test")


def test_of_several_adapters_the_text_that_most_write_is_measured(
    base, adapter, text_data, tmp_path
):
    def evaluate_text(name, adapters):
        return experiment.evaluate_text(
            output_dir=tmp_path / name,
            base=base,
            task="rte",
            data_dir=text_data,
            adapter=adapters,
            lengths={"inputs": 48, "targets": 6},
            batch_size=4,
        )

    turned = jax.tree.map(lambda leaf: -leaf, adapter.params)
    other = dataclasses.replace(adapter, params=turned)
    members = {"1": adapter, "2": other}
    alone = {name: evaluate_text(name, one) for name, one in members.items()}
    numbers = evaluate_text("vote", [*members.values()])
    found = read_csv(tmp_path / "vote" / "members.csv")
    texts = {
        name: [row["text"] for row in found if row["member"] == name]
        for name in members
    }
    scores = {
        name: [float(row["score"]) for row in found if row["member"] == name]
        for name in members
    }
    for name, single in alone.items():
        own = read_csv(tmp_path / name / "generations.csv")
        assert texts[name] == [row["text"] for row in own]
        assert numbers["members"][name]["accuracy"] == single["accuracy"]
    votes = metrics.vote_on_texts([*texts.values()], [*scores.values()])
    written = read_csv(tmp_path / "vote" / "generations.csv")
    assert [row["text"] for row in written] == [text for text, _, _ in votes]
    assert numbers["agreement"] == np.mean([share for _, _, share in votes])
    assert numbers["vote"].keys() == {*alone["1"].keys()} - {"num_rows"}
    assert numbers["num_rows"] == len(votes) == 5
