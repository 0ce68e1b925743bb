"""Decoding by steps computes what one forward pass computes; beams are the best."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import models
from tfew_jax.models import cache as caches
from tfew_jax.peft import ia3

EOS = 1
CONFIG = models.T5Config(
    vocab_size=5,
    emb_dim=16,
    num_heads=3,
    head_dim=4,
    mlp_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=2,
    relpos_buckets=8,
    relpos_max_distance=12,
)
UNROLLED = dataclasses.replace(CONFIG, scan_layers=False)
METHOD = ia3.IA3(num_adapters=3)
LENGTH = 14  # beyond the distance at which relative positions stop to differ
INPUTS = np.array([[3, 2, 4, 2, 1], [2, 4, 1, 0, 0], [4, 4, 3, 1, 0], [3, 1, 0, 0, 0]])
INDEX = np.array([2, 0, 1, 0])
BATCH = {"encoder_input_tokens": INPUTS, "adapter_index": INDEX}


@pytest.fixture(scope="module")
def params():
    """Parameters off their initial values, with nothing alike in two adapters."""
    flat, tree = jax.tree.flatten(models.init(CONFIG, METHOD, jax.random.key(3)))
    keys = jax.random.split(jax.random.key(4), len(flat))
    moved = [
        x + 0.3 * jax.random.normal(key, x.shape)
        for x, key in zip(flat, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


def with_bias(params, bias):
    """Adds a bias to the logits of all steps.

    One feature of every embedding is so large that the norm makes it a constant.
    """
    embedding = params["token_embedder"]["embedding"].at[:, 0].set(1e3)
    kernel = params["decoder"]["logits_dense"]["kernel"]
    scale = jnp.sqrt(16.0) * params["decoder"]["decoder_norm"]["scale"][0]
    kernel = kernel.at[0].set(jnp.asarray(bias) / scale)
    decoder = params["decoder"] | {"logits_dense": {"kernel": kernel}}
    return params | {"token_embedder": {"embedding": embedding}, "decoder": decoder}


@functools.partial(jax.jit, static_argnames=("config", "max_length", "num_beams"))
def decode(params, batch, *, config=CONFIG, max_length=LENGTH, num_beams=3):
    """Greedy outputs with scores, beams with scores; one program for both."""
    model = models.T5(config, METHOD)
    greedy = models.greedy_decode(model, params, batch, max_length=max_length)
    return greedy, models.beam_decode(
        model, params, batch, max_length=max_length, num_beams=num_beams
    )


@functools.partial(jax.jit, static_argnames="config")
def forward(params, inputs, *, config=CONFIG):
    logits, _ = models.forward(
        models.T5(config, METHOD),
        params,
        encoder_input_tokens=INPUTS,
        decoder_input_tokens=inputs,
        adapter_index=INDEX,
    )
    return logits


@functools.partial(jax.jit, static_argnames="config")
def step_by_step(params, inputs, *, config=CONFIG):
    """The logits of `forward`, one position at a time."""
    apply = functools.partial(
        models.T5(config, METHOD).apply,
        {"params": params},
        adapter_index=jnp.asarray(INDEX),
    )
    encoded, mask = apply(jnp.asarray(INPUTS), method="encode")
    rows, choices, length = inputs.shape
    cache = caches.make_cache(
        config, batch_size=rows, num_choices=choices, max_length=length
    )
    first, cache = apply(
        inputs[..., 0], jnp.int32(0), cache, mask, encoded=encoded, method="decode_step"
    )

    def step(cache, position):
        tokens = jnp.take(inputs, position, axis=-1)
        logits, cache = apply(tokens, position, cache, mask, method="decode_step")
        return cache, logits

    _, others = jax.lax.scan(step, cache, jnp.arange(1, length))
    return jnp.concatenate([first[:, :, None], jnp.moveaxis(others, 0, 2)], axis=2)


def decoder_inputs(choices=2, length=LENGTH):
    tokens = np.random.default_rng(0).integers(0, 5, (4, choices, length))
    tokens[..., 0] = 0
    return tokens


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def assert_same_outputs(a, b):
    for (tokens, scores), (other_tokens, other_scores) in zip(a, b, strict=True):
        np.testing.assert_array_equal(tokens, other_tokens)
        np.testing.assert_allclose(scores, other_scores, rtol=1e-5)


def rows_of(outputs, rows):
    return jax.tree.map(lambda x: x[np.asarray(rows)], outputs)


@pytest.mark.parametrize(
    "change", [{}, {"scan_layers": False}, {"relpos_per_layer": True}]
)
def test_steps_give_the_logits_of_one_forward_pass(change, params):
    config = dataclasses.replace(CONFIG, **change)
    if config.relpos_per_layer:
        params = models.init(config, METHOD, jax.random.key(5))
    elif not config.scan_layers:
        params = models.unstack_layers(params)
    inputs = decoder_inputs()
    whole = forward(params, inputs, config=config)
    assert_close(step_by_step(params, inputs, config=config), whole)


def test_greedy_takes_the_argmax_of_the_full_forward_pass_at_every_step(params):
    (tokens, scores), _ = decode(params, BATCH)
    inputs = np.zeros((4, 2, LENGTH), int)
    expected = np.zeros((4, LENGTH), int)
    totals, ended = np.zeros(4), np.zeros(4, bool)
    for position in range(LENGTH):
        logits = forward(params, inputs)[:, 0, position]
        best = np.where(ended, 0, np.argmax(logits, axis=-1))
        totals += np.where(ended, 0, np.max(jax.nn.log_softmax(logits), axis=-1))
        expected[:, position] = best
        ended |= best == EOS
        inputs[:, 0, position + 1 : position + 2] = best[:, None]
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, totals, rtol=1e-5)
    assert tokens.dtype == jnp.int32 and scores.dtype == jnp.float32
    assert len({tuple(row) for row in expected.tolist()}) > 1


def log_prob_table(params, max_length):
    """Log-probabilities of the next token of every row after every prefix."""
    prefixes = list(itertools.product(range(5), repeat=max_length - 1))
    inputs = np.zeros((4, len(prefixes), max_length), int)
    inputs[..., 1:] = np.array(prefixes)[None]
    log_probs = np.asarray(jax.nn.log_softmax(forward(params, inputs)), np.float64)
    return [
        {
            prefix[:n]: log_probs[row, i, n]
            for i, prefix in enumerate(prefixes)
            for n in range(max_length)
        }
        for row in range(4)
    ]


def score_of(log_prob, length):
    return log_prob / ((5 + length) / 6) ** 0.6


def padded(sequence, max_length):
    return [*sequence, *[0] * (max_length - len(sequence))]


def test_wide_beams_hold_every_output_there_is_in_order_of_score(params):
    # 3 tokens at most: 1 + 4 + 16 outputs end, and 64 beams never drop one.
    _, (tokens, scores) = decode(params, BATCH, max_length=3, num_beams=64)
    assert tokens.shape == (4, 64, 3) and tokens.dtype == jnp.int32
    for row, table in enumerate(log_prob_table(params, 3)):
        outputs = {}
        for n in range(3):
            for stem in itertools.product((0, 2, 3, 4), repeat=n):
                output = (*stem, EOS)
                total = sum(table[output[:i]][t] for i, t in enumerate(output))
                outputs[output] = score_of(total, n + 1)
        assert len(outputs) == 21
        ranked = sorted(outputs, key=outputs.__getitem__)
        expected = [padded(output, 3) for output in ranked]
        np.testing.assert_array_equal(tokens[row, 43:], expected)
        np.testing.assert_allclose(
            scores[row, 43:], [outputs[o] for o in ranked], rtol=1e-5
        )
        assert np.all(scores[row, :43] == -np.inf)
        assert np.all(tokens[row, :43] == 0)


def beam_search(table, max_length, num_beams):
    """The algorithm on a table, without early stop; outputs with scores, best last."""
    live, finished = {(): 0.0}, {}
    for n in range(max_length):
        extended = {
            (*prefix, token): total + table[prefix][token]
            for prefix, total in live.items()
            for token in range(5)
        }
        best = sorted(extended, key=extended.__getitem__)[-2 * num_beams :]
        finished |= {o: score_of(extended[o], n + 1) for o in best if o[-1] == EOS}
        live = {o: extended[o] for o in best if o[-1] != EOS}
        live = {o: live[o] for o in [*live][-num_beams:]}
    outputs = finished or live
    return sorted(outputs.items(), key=lambda item: item[1])[-num_beams:]


@pytest.mark.parametrize("bias", [None, (0.0, 3.0, 1.0, 0.0, 0.0)])
def test_narrow_beams_find_what_the_algorithm_finds_by_hand(bias, params):
    if bias is not None:  # ends early
        params = with_bias(params, bias)
    _, (tokens, scores) = decode(params, BATCH, max_length=4, num_beams=3)
    for row, table in enumerate(log_prob_table(params, 4)):
        found = beam_search(table, 4, 3)
        found = [((), -np.inf)] * (3 - len(found)) + found
        np.testing.assert_array_equal(
            tokens[row], [padded(output, 4) for output, _ in found]
        )
        np.testing.assert_allclose(
            scores[row], [score for _, score in found], rtol=1e-5
        )


def test_scanned_and_unrolled_layers_decode_alike(params):
    unrolled = decode(models.unstack_layers(params), BATCH, config=UNROLLED)
    assert_same_outputs(unrolled, decode(params, BATCH))


def test_the_order_of_rows_and_their_neighbours_do_not_matter(params):
    outputs = decode(params, BATCH)
    order = [2, 0, 3, 1]
    shuffled = {name: array[order] for name, array in BATCH.items()}
    assert_same_outputs(decode(params, shuffled), rows_of(outputs, order))
    other = {name: array.copy() for name, array in BATCH.items()}
    other["encoder_input_tokens"][2:] = [[2, 2, 2, 1, 0], [4, 1, 0, 0, 0]]
    other["adapter_index"][2:] = [1, 1]
    kept, expected = (rows_of(o, [0, 1]) for o in (decode(params, other), outputs))
    jax.tree.map(np.testing.assert_array_equal, kept, expected)


def test_padding_of_inputs_does_not_matter(params):
    inputs = np.pad(INPUTS, ((0, 0), (0, 3)))
    longer = decode(params, BATCH | {"encoder_input_tokens": inputs})
    assert_same_outputs(longer, decode(params, BATCH))


def test_each_row_decodes_with_its_own_adapter(params):
    def change_second(path, x):
        return x.at[..., 1, :].mul(-1.5) if "ia3" in jax.tree_util.keystr(path) else x

    changed = jax.tree_util.tree_map_with_path(change_second, params)
    before, after = decode(params, BATCH), decode(changed, BATCH)
    jax.tree.map(
        np.testing.assert_array_equal,
        rows_of(before, [0, 1, 3]),
        rows_of(after, [0, 1, 3]),
    )
    assert abs(before[0][1][2] - after[0][1][2]) > 1e-3


def test_a_model_that_never_ends_fills_every_position_with_tokens(params):
    never = with_bias(params, (-np.inf, -np.inf, 0.0, 0.3, 0.2))
    (tokens, scores), (beams, beam_scores) = decode(never, BATCH)
    assert np.all(np.asarray(tokens) > EOS) and np.all(np.asarray(beams) > EOS)
    # Live outputs: log-probabilities without brevity penalty, the best one last.
    assert np.all(np.diff(beam_scores) >= 0)
    same = np.all(beams[:, -1] == tokens, axis=-1)
    assert same.any()
    np.testing.assert_allclose(beam_scores[same, -1], scores[same], rtol=1e-5)


def test_a_model_that_ends_at_once_gives_the_end_and_pads(params):
    at_once = with_bias(params, (0.0, 50.0, 0.0, 0.0, 0.0))
    (tokens, scores), (beams, beam_scores) = decode(at_once, BATCH)
    ended = [EOS, *[0] * (LENGTH - 1)]
    np.testing.assert_array_equal(tokens, [ended] * 4)
    np.testing.assert_array_equal(beams[:, -1], [ended] * 4)
    np.testing.assert_allclose(scores, 0, atol=1e-6)
    np.testing.assert_allclose(beam_scores[:, -1], 0, atol=1e-6)
    second = np.asarray(beams)[:, :-1]
    assert np.all(np.sum(second == EOS, axis=-1) == 1)


def test_outputs_of_one_token_are_the_likeliest_first_tokens(params):
    (tokens, scores), (beams, beam_scores) = decode(
        params, BATCH, max_length=1, num_beams=2
    )
    log_probs = np.stack([table[()] for table in log_prob_table(params, 3)])
    np.testing.assert_array_equal(tokens[:, 0], log_probs.argmax(axis=-1))
    np.testing.assert_allclose(scores, log_probs.max(axis=-1), rtol=1e-5)
    order = np.argsort(log_probs, axis=-1)
    for row in range(4):
        best = order[row, -4:]
        if EOS in best:  # the only output that ended stands alone
            assert beams[row].tolist() == [[0], [EOS]]
            expected = [-np.inf, log_probs[row, EOS]]
        else:
            assert beams[row, :, 0].tolist() == best[-2:].tolist()
            expected = log_probs[row, best[-2:]]
        np.testing.assert_allclose(beam_scores[row], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "extra", "message"),
    [
        ({"max_length": 0}, {}, "max_length=0; expected 1 or more"),
        ({"num_beams": 0}, {}, "num_beams=0; expected 1 or more"),
        ({"alpha": -0.5}, {}, "alpha=-0.5; expected a number of at least 0"),
        ({}, {"encoder_segment_ids": INPUTS}, "packed examples cannot be decoded"),
    ],
)
def test_settings_and_batches_that_cannot_be_decoded_are_refused(
    settings, extra, message, params
):
    model, settings = models.T5(CONFIG, METHOD), {"max_length": 2, **settings}
    with pytest.raises(ValueError, match=message):
        models.beam_decode(model, params, BATCH | extra, **settings)
    if set(settings) == {"max_length"}:
        with pytest.raises(ValueError, match=message):
            models.greedy_decode(model, params, BATCH | extra, **settings)
