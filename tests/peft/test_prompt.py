"""Prompts: rows that are tokens in all but name, of the encoder and of the decoder."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tfew_jax import evaluate, experiment, models, optim, sharding, train
from tfew_jax.experiment import tuning
from tfew_jax.peft import ia3, prompt

CONFIG = models.T5Config(
    vocab_size=61,
    emb_dim=16,
    num_heads=3,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=2,
    num_decoder_layers=2,
    relpos_buckets=8,
    relpos_max_distance=12,
)
UNROLLED = dataclasses.replace(CONFIG, scan_layers=False)
INPUTS = np.array([[5, 6, 7, 8, 1], [9, 10, 1, 0, 0]])
TARGETS = np.arange(2, 26).reshape(2, 3, 4)
ENCODER_TOKENS, DECODER_TOKENS = np.array([40, 41, 42]), np.array([50, 51])
BOTH = prompt.Prompt(length=3, decoder_length=2)

forward = jax.jit(models.forward, static_argnums=0)


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=tolerance * float(jnp.abs(expected).max())
    )


def plain_params(config=CONFIG):
    return models.init(config, None, jax.random.key(0))


def prompted(method, params, *, encoder=(), decoder=()):
    """The model with a prompt of the embeddings of tokens."""
    table = params["token_embedder"]["embedding"]
    added = {
        f"{half}_input": {"prompt": {"embedding": table[np.array(tokens)]}}
        for half, tokens in (("encoder", encoder), ("decoder", decoder))
        if len(tokens)
    }
    return models.T5(CONFIG, method), {**params, **added}


@pytest.mark.parametrize("config", [CONFIG, UNROLLED], ids=["scanned", "unrolled"])
def test_a_prompt_of_real_tokens_is_these_tokens_in_front_of_the_text(config):
    params = plain_params(config)
    method = prompt.Prompt(length=3)
    _, both = prompted(method, params, encoder=ENCODER_TOKENS)
    logits, encoded = forward(
        models.T5(config, method),
        both,
        encoder_input_tokens=INPUTS,
        decoder_input_tokens=TARGETS,
    )
    longer = np.concatenate([np.tile(ENCODER_TOKENS, (2, 1)), INPUTS], axis=1)
    expected_logits, expected = forward(
        models.T5(config),
        params,
        encoder_input_tokens=longer,
        decoder_input_tokens=TARGETS,
    )
    close(logits, expected_logits)
    close(encoded[longer > 0], expected[longer > 0])


def test_a_prompt_of_the_decoder_is_tokens_before_the_start_token():
    params = plain_params()
    model, both = prompted(BOTH, params, encoder=ENCODER_TOKENS, decoder=DECODER_TOKENS)
    logits, _ = forward(
        model, both, encoder_input_tokens=INPUTS, decoder_input_tokens=TARGETS
    )
    front = np.tile(DECODER_TOKENS, (2, 3, 1))
    expected, _ = forward(
        models.T5(CONFIG),
        params,
        encoder_input_tokens=np.concatenate(
            [np.tile(ENCODER_TOKENS, (2, 1)), INPUTS], axis=1
        ),
        decoder_input_tokens=np.concatenate([front, TARGETS], axis=-1),
    )
    assert logits.shape == (*TARGETS.shape, CONFIG.vocab_size)
    close(logits, expected[:, :, 2:])


def test_the_decoder_alone_may_have_a_prompt():
    params = plain_params()
    method = prompt.Prompt(length=0, decoder_length=2)
    model, both = prompted(method, params, decoder=DECODER_TOKENS)
    logits, encoded = forward(
        model, both, encoder_input_tokens=INPUTS, decoder_input_tokens=TARGETS
    )
    front = np.tile(DECODER_TOKENS, (2, 3, 1))
    expected, same = forward(
        models.T5(CONFIG),
        params,
        encoder_input_tokens=INPUTS,
        decoder_input_tokens=np.concatenate([front, TARGETS], axis=-1),
    )
    close(logits, expected[:, :, 2:])
    np.testing.assert_array_equal(encoded, same)
    assert method.num_parameters(CONFIG) == 2 * 16


def test_scores_of_choices_are_those_of_a_loop_over_texts():
    params = plain_params()
    model, both = prompted(BOTH, params, encoder=ENCODER_TOKENS, decoder=DECODER_TOKENS)
    targets = np.where(np.arange(4) < [[[4], [2], [3]], [[1], [4], [2]]], TARGETS, 0)
    batch = {
        "encoder_input_tokens": INPUTS,
        "decoder_target_tokens": targets,
        "choice_mask": np.ones((2, 3), bool),
        "example_id": np.arange(2),
        "label": np.zeros(2, np.int32),
    }
    scores, _ = evaluate.score_choices(model, both, [batch])
    one = jax.jit(functools.partial(models.forward, models.T5(CONFIG)))
    for row, choice in np.ndindex(2, 3):
        tokens = INPUTS[row][INPUTS[row] > 0]
        target = targets[row, choice][targets[row, choice] > 0]
        inputs = np.concatenate([DECODER_TOKENS, [0], target[:-1]])
        logits, _ = one(
            params,
            encoder_input_tokens=np.concatenate([ENCODER_TOKENS, tokens])[None],
            decoder_input_tokens=inputs[None, None],
        )
        log_probs = jax.nn.log_softmax(logits[0, 0, 2:])
        expected = log_probs[np.arange(len(target)), target].mean()
        np.testing.assert_allclose(scores[row, choice], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "num_beams"), [(CONFIG, None), (UNROLLED, 2)], ids=["greedy", "beams"]
)
def test_generation_by_steps_is_what_one_pass_finds_likeliest(config, num_beams):
    params = plain_params(config)
    _, both = prompted(BOTH, params, encoder=ENCODER_TOKENS, decoder=DECODER_TOKENS)
    model = models.T5(config, BOTH)
    tokens, scores, _ = evaluate.generate_tokens(
        model,
        both,
        [{"encoder_input_tokens": INPUTS, "example_id": np.arange(2)}],
        max_length=4,
        num_beams=num_beams,
        alpha=0.0,
    )
    logits, _ = forward(
        model,
        both,
        encoder_input_tokens=INPUTS,
        decoder_input_tokens=models.shift_right(jnp.asarray(tokens)[:, None]),
    )
    log_probs = np.asarray(jax.nn.log_softmax(logits[:, 0]))
    for row, score in enumerate(scores):
        ends = np.flatnonzero(tokens[row] == 1)
        length = ends[0] + 1 if len(ends) else 4
        steps = log_probs[row, np.arange(length), tokens[row, :length]]
        np.testing.assert_allclose(score, steps.sum(), rtol=1e-5)
        if num_beams is None:
            best = log_probs[row, :length].argmax(-1)
            np.testing.assert_array_equal(tokens[row, :length], best)


def test_scanned_and_unrolled_layers_compute_the_same():
    method = BOTH
    params = models.init(CONFIG, method, jax.random.key(1))
    arguments = {"encoder_input_tokens": INPUTS, "decoder_input_tokens": TARGETS}
    scanned, _ = forward(models.T5(CONFIG, method), params, **arguments)
    unrolled, _ = forward(
        models.T5(UNROLLED, method), models.unstack_layers(params), **arguments
    )
    close(unrolled, scanned)


def test_pads_behind_the_text_change_nothing():
    params = models.init(CONFIG, BOTH, jax.random.key(1))
    model = models.T5(CONFIG, BOTH)
    short, _ = forward(
        model, params, encoder_input_tokens=INPUTS, decoder_input_tokens=TARGETS
    )
    padded, _ = forward(
        model,
        params,
        encoder_input_tokens=np.pad(INPUTS, ((0, 0), (0, 4))),
        decoder_input_tokens=TARGETS,
    )
    close(padded, short)


@pytest.mark.parametrize(
    ("size", "embed"),
    [("small", 512), ("base", 768), ("large", 1024), ("xl", 2048), ("xxl", 4096)],
)
def test_a_prompt_has_as_many_numbers_as_table_4_says(size, embed):
    config = models.SIZES[size]
    for length in (1, 5, 20, 50, 100, 150):
        assert prompt.Prompt(length=length).num_parameters(config) == length * embed
    params = models.abstract_params(config, prompt.Prompt())
    assert params["encoder_input"]["prompt"]["embedding"].shape == (100, embed)
    assert "decoder_input" not in params


def test_the_numbers_of_t_few_are_counted():
    config = models.SIZES["xl"]
    for length, number in ((10, 40_960), (100, 409_600)):
        method = prompt.Prompt(length=length, decoder_length=length)
        assert method.num_parameters(config) == number


def test_every_device_holds_the_whole_prompt():
    mesh = sharding.make_mesh(num_fsdp_shards=2, num_model_shards=2)
    boxed = models.boxed_abstract_params(CONFIG, BOTH)
    shardings = sharding.param_shardings(boxed, mesh)
    for half in ("encoder_input", "decoder_input"):
        assert shardings[half]["prompt"]["embedding"].is_fully_replicated


def test_a_tree_that_lacks_a_prompt_of_the_method_is_an_error():
    params = models.abstract_params(CONFIG, prompt.Prompt(length=3))
    with pytest.raises(ValueError, match="have no decoder_input/prompt/embedding"):
        BOTH.trainable_paths(params)


def test_the_first_update_is_the_sign_times_the_rate_and_the_decay():
    # beta is 0, so the direction is the sign; its root mean square is 1.
    recipe = experiment.Recipe.for_method(prompt.Prompt(), num_steps=30_000)
    optimizer = optim.adafactor(leading_axes={"x": 0}, **dict(recipe.adafactor))
    before = jnp.array([[300.0, -2.0], [0.5, 0.0]])
    gradient = jnp.array([[1e-3, -20.0], [4.0, -1e-6]])
    rate = recipe.make_schedule()(jnp.int32(0))
    updates, _ = optimizer.update(
        {"x": gradient},
        optimizer.init({"x": before}),
        {"x": before},
        learning_rate=rate,
    )
    after = optax.apply_updates({"x": before}, updates)["x"]
    expected = np.float64(1 - 1e-5) * np.asarray(before) - 0.3 * np.sign(gradient)
    np.testing.assert_allclose(after, expected, rtol=1e-6)


def test_a_prompt_of_150_rows_is_factored_and_one_of_100_is_not():
    # As in T5X, whose rule for matrices is the least side of 128.
    recipe = experiment.Recipe.for_method(prompt.Prompt())
    optimizer = optim.adafactor(leading_axes={"x": 0}, **dict(recipe.adafactor))
    sizes = {}
    for length in (100, 150):
        state = jax.eval_shape(optimizer.init, {"x": jnp.zeros((length, 768))})
        sizes[length] = max(leaf.size for leaf in jax.tree.leaves(state))
    assert sizes == {100: 76_800, 150: 768}


TEXTS = [("lovely film", 1), ("awful plot", 0)] * 6
ROWS = [{"text": text, "label": label} for text, label in TEXTS]


@pytest.fixture(scope="module")
def base(base_directory):
    return experiment.load_base(base_directory)


def fewshot(base, out, **settings):
    return experiment.fewshot(
        base,
        ROWS,
        template="{{text}} ||| {{answer_choices[label]}}",
        choices="bad ||| good",
        num_folds=0,
        num_steps=3,
        out=out,
        quiet=True,
        **settings,
    )


def test_a_run_changes_the_prompt_alone_and_its_adapter_predicts(base, tmp_path):
    before = jax.tree.map(np.array, base.params)
    method = prompt.Prompt(length=4, decoder_length=1, init_vocabulary=300)
    start = tuning.Tuner(
        base, method, tuning.Recipe(), class_labels=("bad", "good")
    ).init_state(seed=0)
    result = fewshot(base, tmp_path / "run", method=method)
    jax.tree.map(np.testing.assert_array_equal, base.params, before)
    first = train.adapter_params(start)
    assert jax.tree.structure(result.adapter.params) == jax.tree.structure(first)
    for now, then in zip(
        jax.tree.leaves(result.adapter.params), jax.tree.leaves(first), strict=True
    ):
        # Three updates of root mean square 1 at the method's own rate.
        assert (now != then).all()
        assert 0.1 < np.sqrt(np.mean((now - then) ** 2)) <= 0.91
    again, loaded = (
        experiment.predict(base, adapter, ROWS[:2])
        for adapter in (result.adapter, tmp_path / "run" / "adapter")
    )
    assert again == loaded
    assert result.summary["adapter"]["num_parameters"] == 5 * 16
    records = [r for r in result.records if r["kind"] == "trained"]
    assert all(r["method"]["length"] == 4 for r in records)


def test_a_run_starts_from_another_prompt_whatever_that_started_from(base, tmp_path):
    source = prompt.Prompt(length=4, init="uniform")
    first = fewshot(base, tmp_path / "first", method=source).adapter
    method = prompt.Prompt(length=4, init="text", init_text="lovely", init_vocabulary=9)
    tuner = tuning.Tuner(base, method, tuning.Recipe(), initial=first)
    start = train.adapter_params(tuner.init_state(seed=3))
    jax.tree.map(np.testing.assert_array_equal, start, first.params)
    for other, message in (
        (prompt.Prompt(length=5, init="uniform"), r"has length=4, not 5 as this run"),
        (
            prompt.Prompt(length=4, decoder_length=1, init="uniform"),
            r"has decoder_length=0, not 1 as",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            tuning.Tuner(base, other, tuning.Recipe(), initial=first)
    with pytest.raises(ValueError, match=r"is of the method 'prompt', not 'ia3'"):
        tuning.Tuner(base, ia3.IA3(), tuning.Recipe(), initial=first)


def test_packed_arrays_are_refused_before_anything_is_read(base, tmp_path):
    with pytest.raises(ValueError, match="cannot train on packed examples"):
        experiment.pretrain(
            model_dir=tmp_path, base=base, arrays="nowhere", method="prompt"
        )


def test_banks_of_equal_lengths_are_equal_whatever_the_prompts_started_from():
    """A bank's method is part of what compiled programs are found by."""
    of_text = prompt.Prompt(length=2, init="text", init_text="a film")
    of_numbers = prompt.Prompt(length=2, init="uniform", init_range=(0.0, 1.0))
    expected = prompt.Prompt(length=2, num_adapters=3)
    assert of_text.bank([of_numbers], 3) == expected
    assert of_numbers.bank([of_text], 3) == expected
