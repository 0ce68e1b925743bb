import dataclasses
import logging

import jax
import pytest

from tfew_jax import checkpoint, evaluate, experiment
from tfew_jax.data import fewshot
from tfew_jax.experiment import applying, prepared


@pytest.fixture
def another_base(base_directory):
    model = checkpoint.load_model(base_directory)
    model.params["token_embedder"]["embedding"] *= 1.1
    return experiment.make_base(model)


def notes(caplog):
    return [r.getMessage() for r in caplog.records if r.name.startswith("tfew_jax")]


def test_an_adapter_of_other_weights_is_noted_once(
    tested, base, another_base, test_rows, tmp_path, caplog
):
    caplog.set_level(logging.WARNING)
    path = tested.directory / "adapter"
    file = tmp_path / "rows.csv"
    file.write_text("text,label\nlovely film plot,1\nawful film plot,0\n")
    experiment.predict(base, path, test_rows)
    assert notes(caplog) == []
    experiment.predict(another_base, path, test_rows)
    [note] = notes(caplog)
    assert note.startswith(f"note: {path} was trained on another model")
    caplog.clear()
    applying.score_rows(output_dir=tmp_path, base=another_base, task=file, adapter=path)
    assert len(notes(caplog)) == 1
    caplog.clear()
    experiment.write_generations(
        output_dir=tmp_path, base=another_base, task=file, adapter=path
    )
    assert len(notes(caplog)) == 1


def test_a_device_without_memory_is_told_what_helps_scoring(
    tested, base, test_rows, monkeypatch
):
    def exhausted(*args, **kwargs):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(evaluate, "score_choices", exhausted)
    with pytest.raises(MemoryError) as error:
        experiment.predict(base, tested.adapter, test_rows, batch_size=7)
    message = str(error.value)
    assert "7 rows with all their choices" in message
    assert "EVAL_BATCH_SIZE" in message and "TASK_FEATURE_LENGTHS" in message


def test_texts_that_templates_cut_are_counted(base):
    long = {"text": "film " * 500, "note": "x", "label": 1}
    rows = [{"text": "film", "note": "x" * 3000, "label": 0}, long]
    spec = fewshot.TaskSpec(
        templates="{{text}} ||| {{answer_choices[label]}}", choices="bad ||| good"
    )
    split = prepared.prepare(rows, spec, base.tokenizer, lengths=None)
    assert split.counts()["num_cut_texts"] == 1
    assert split.notes()[-1].startswith("1 of 2 rows have a text of more than 2,048 ch")
    uncut = dataclasses.replace(spec, dialect="uncut")
    split = prepared.prepare(rows, uncut, base.tokenizer, lengths=None)
    assert split.counts()["num_cut_texts"] == 0


def test_the_vectors_of_the_package_fit_the_embedded_base():
    base = experiment.load_base()
    adapter = applying.load_adapter("embedded", base)
    assert adapter.method.name == "ia3"
    assert adapter.metadata["base_fingerprint"] == base.weights_fingerprint
