import jax
import numpy as np
import pytest
from flax import traverse_util

from tfew_jax import checkpoint, experiment, models
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
