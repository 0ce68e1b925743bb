import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfew_jax.data import objectives, tokenizer

EOS = 1


@pytest.fixture(scope="module")
def vocabulary(base_directory):
    return tokenizer.Tokenizer(base_directory / "sentencepiece.model")


@pytest.fixture(scope="module")
def span(vocabulary):
    return objectives.SpanCorruption(tokenizer=vocabulary)


def make_tokens(size):
    return np.arange(3, 3 + size) % 200 + 3


def generator(seed=0):
    return np.random.default_rng(seed)


def restored(pair, vocabulary):
    """The text that inputs and targets together say."""
    numbers = {vocabulary.sentinel(n): n for n in range(100)}
    spans: dict[int, list[int]] = {}
    for token in pair.targets[:-1].tolist():
        if token in numbers:
            spans[token] = []
        else:
            spans[next(reversed(spans))].append(token)
    text: list[int] = []
    for token in pair.inputs[:-1].tolist():
        text += spans.pop(token) if token in numbers else [token]
    assert not spans  # each stood in the inputs
    return text


@given(size=st.integers(2, 600), seed=st.integers(0, 2**16))
def test_inputs_and_targets_together_are_the_text(span, vocabulary, size, seed):
    pair = span.make_pair(make_tokens(size), generator(seed))
    assert restored(pair, vocabulary) == make_tokens(size).tolist()
    assert pair.inputs[-1] == pair.targets[-1] == EOS


@given(size=st.integers(2, 600), seed=st.integers(0, 2**16))
def test_sentinels_are_numbered_in_order_in_both(span, vocabulary, size, seed):
    pair = span.make_pair(make_tokens(size), generator(seed))
    ids = [vocabulary.sentinel(n) for n in range(100)]
    marks = [t for t in pair.inputs.tolist() if t in ids]
    assert marks == [t for t in pair.targets.tolist() if t in ids] == ids[: len(marks)]


@given(seed=st.integers(0, 2**16))
def test_the_counts_are_those_of_t5(span, vocabulary, seed):
    # 568 tokens: 15 % are 85, in spans of three on average, so 28.
    pair = span.make_pair(make_tokens(568), generator(seed))
    assert len(pair.targets) == 85 + 28 + 1 == 114
    assert len(pair.inputs) == 568 - 85 + 28 + 1 == 512


def test_the_lengths_are_those_of_t5(span):
    assert span.num_tokens({"inputs": 512, "targets": 114}) == 568
    assert span.num_tokens({"inputs": 512, "targets": 113}) < 568
    assert span.num_tokens({"inputs": 3, "targets": 3}) == 2


@given(
    inputs=st.integers(3, 300),
    targets=st.integers(3, 100),
    density=st.floats(0.05, 0.6),
    mean=st.floats(1, 10),
    seed=st.integers(0, 2**16),
)
def test_texts_of_that_many_tokens_and_fewer_fit(
    vocabulary, inputs, targets, density, mean, seed
):
    span = objectives.SpanCorruption(
        tokenizer=vocabulary, noise_density=density, mean_span_length=mean
    )
    most = span.num_tokens({"inputs": inputs, "targets": targets})
    for size in (2, most // 2 + 1, most):
        pair = span.make_pair(make_tokens(size), generator(seed))
        assert len(pair.inputs) <= inputs and len(pair.targets) <= targets
        assert restored(pair, vocabulary) == make_tokens(size).tolist()


def test_every_place_but_the_first_token_is_removed_about_as_often(span):
    removed = np.zeros(40)
    for seed in range(2000):
        pair = span.make_pair(make_tokens(40), generator(seed))
        removed += ~np.isin(make_tokens(40), pair.inputs)
    assert removed[0] == 0
    shares = removed / 2000
    assert abs(shares[2:].mean() - 0.15) < 0.02
    assert shares[5:-5].max() < 0.25 and shares[5:].min() > 0.05


@given(size=st.integers(2, 60), seed=st.integers(0, 2**16))
def test_a_prefix_and_what_follows_it_are_the_text(size, seed):
    pair = objectives.PrefixLM().make_pair(make_tokens(size), generator(seed))
    assert len(pair.inputs) > 1 and len(pair.targets) > 1
    text = [*pair.inputs[:-1], *pair.targets[:-1]]
    assert text == make_tokens(size).tolist()
    assert pair.inputs[-1] == pair.targets[-1] == EOS


def test_each_place_to_cut_is_as_likely():
    objective = objectives.PrefixLM()
    pairs = [objective.make_pair(make_tokens(5), generator(s)) for s in range(2000)]
    counts = np.bincount([len(pair.inputs) - 1 for pair in pairs])
    assert counts[0] == 0 and len(counts) == 5
    assert counts[1:].min() > 420 and counts[1:].max() < 580


def test_a_cut_text_fits_wherever_it_is_cut():
    objective = objectives.PrefixLM()
    most = objective.num_tokens({"inputs": 12, "targets": 20})
    assert most == 12
    for seed in range(50):
        pair = objective.make_pair(make_tokens(most), generator(seed))
        assert len(pair.inputs) <= 12 and len(pair.targets) <= 20


@pytest.mark.parametrize("size", [0, 1])
def test_a_text_too_short_gives_nothing(span, size):
    for objective in (span, objectives.PrefixLM()):
        assert objective.make_pair(make_tokens(size), generator()) is None


def test_the_same_generator_gives_the_same_pair(span):
    first, second = (span.make_pair(make_tokens(90), generator(7)) for _ in range(2))
    np.testing.assert_array_equal(first.inputs, second.inputs)
    np.testing.assert_array_equal(first.targets, second.targets)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_density": 0.0}, "noise_density is 0.0"),
        ({"noise_density": 1.0}, "noise_density is 1.0"),
        ({"mean_span_length": 0.5}, "mean_span_length is 0.5"),
        ({"mean_span_length": float("nan")}, "mean_span_length is nan"),
    ],
)
def test_settings_out_of_range_are_refused(vocabulary, settings, message):
    with pytest.raises(ValueError, match=message):
        objectives.SpanCorruption(tokenizer=vocabulary, **settings)


def test_lengths_that_hold_nothing_are_refused(span):
    with pytest.raises(ValueError, match="too short for span corruption"):
        span.num_tokens({"inputs": 2, "targets": 30})
    with pytest.raises(ValueError, match="too short for a prefix"):
        objectives.PrefixLM().num_tokens({"inputs": 30, "targets": 1})
