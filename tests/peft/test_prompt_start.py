"""What the rows of a prompt start from."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_line import message_of

from tfew_jax.peft import StartContext, prompt

VOCAB, EMBED = 30, 4
TABLE = np.arange(VOCAB * EMBED, dtype=np.float32).reshape(VOCAB, EMBED)
WORDS = {"good": [5, 8], "bad": [7], "so": [9, 11, 13], "": []}
KEY = jax.random.key(0)


def context(class_labels=(), table=TABLE):
    return StartContext(
        embedding=table,
        encode=lambda text: [i for word in text.split(" ") for i in WORDS[word]],
        class_labels=class_labels,
    )


def started(method, *, key=KEY, **kwargs):
    """The rows of the encoder's prompt; those the module made are zeros."""
    shape = (method.length, EMBED)
    if method.num_adapters is not None:
        shape = (method.num_adapters, *shape)
    params = {"encoder_input": {"prompt": {"embedding": jnp.zeros(shape)}}}
    initial = method.initial(params, key, context(**kwargs))
    return np.asarray(initial["encoder_input"]["prompt"]["embedding"])


def ids_of(rows):
    """Which rows of the table they are."""
    ids = rows[..., 0].astype(int) // EMBED
    np.testing.assert_array_equal(TABLE[ids], rows)
    return ids


def vocabulary(length, size=12, **kwargs):
    return prompt.Prompt(
        length=length, init="sampled_vocabulary", init_vocabulary=size, **kwargs
    )


def test_sampled_rows_are_different_ones_of_the_first():
    ids = ids_of(started(vocabulary(12)))
    assert sorted(ids) == list(range(12))
    assert list(ids) != list(range(12))


def test_the_padding_the_end_and_the_unknown_can_be_left_out():
    ids = ids_of(started(vocabulary(5, size=5, init_offset=3)))
    assert sorted(ids) == [3, 4, 5, 6, 7]


def test_only_a_prompt_longer_than_the_vocabulary_repeats_rows():
    ids = ids_of(started(vocabulary(40, size=6)))
    assert len(ids) == 40 and set(ids) <= set(range(6))


def test_no_limit_is_the_whole_table():
    ids = ids_of(started(vocabulary(VOCAB, size=None)))
    assert sorted(ids) == list(range(VOCAB))


def test_the_same_key_gives_the_same_rows_and_another_key_others():
    method = vocabulary(12)
    first, same, other = (
        started(method, key=jax.random.key(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


def test_adapters_of_a_bank_start_from_different_rows():
    rows = started(vocabulary(12, num_adapters=2))
    assert rows.shape == (2, 12, EMBED)
    assert (rows[0] != rows[1]).any()


def test_a_class_label_is_the_mean_of_its_tokens():
    method = prompt.Prompt(length=6, init_vocabulary=12)
    rows = started(method, class_labels=("bad", "good"))
    np.testing.assert_array_equal(rows[0], TABLE[7])
    np.testing.assert_array_equal(rows[1], (TABLE[5] + TABLE[8]) / 2)
    assert set(ids_of(rows[2:])) <= set(range(12))
    assert method.check_start(context(("bad", "good"))) == []


def test_labels_that_are_given_take_the_place_of_the_tasks():
    method = prompt.Prompt(length=2, init_vocabulary=12, init_labels=("good bad",))
    rows = started(method, class_labels=("bad", "good"))
    np.testing.assert_allclose(rows[0], TABLE[[5, 8, 7]].mean(axis=0), rtol=1e-6)


def test_of_more_labels_than_rows_the_first_are_taken_and_this_is_said():
    method = prompt.Prompt(length=1)
    rows = started(method, class_labels=("bad", "good"))
    np.testing.assert_array_equal(rows, TABLE[[7]])
    (note,) = method.check_start(context(("bad", "good")))
    assert "of 2 class labels the first 1 start a row" in note


def test_without_labels_all_rows_are_sampled_and_this_is_said():
    method = prompt.Prompt(length=3, init_vocabulary=12)
    assert set(ids_of(started(method))) <= set(range(12))
    (note,) = method.check_start(context())
    assert "no class labels" in note and "sampled" in note


def test_a_text_starts_a_row_with_each_token():
    method = prompt.Prompt(
        length=4, init="text", init_text="so bad", init_vocabulary=12
    )
    assert list(ids_of(started(method))) == [9, 11, 13, 7]
    longer = prompt.Prompt(length=2, init="text", init_text="so bad")
    assert list(ids_of(started(longer))) == [9, 11]
    (note,) = longer.check_start(context())
    assert "of 4 tokens of init_text the first 2" in note


@pytest.mark.parametrize("name", ["rows.npy", "encoder.prompt.prompt.prompt"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_file_is_taken_as_it_is_whatever_its_ending(name, dtype, tmp_path):
    expected = np.arange(3 * EMBED, dtype=dtype).reshape(3, EMBED) / 8
    with open(tmp_path / name, "wb") as file:
        np.save(file, expected)
    method = prompt.Prompt(length=3, init="file", init_file=str(tmp_path / name))
    rows = started(method)  # nothing is sampled of the 30 rows of the table
    np.testing.assert_array_equal(rows, expected.astype(np.float32))


def test_the_decoder_is_sampled_whatever_the_encoder_starts_from():
    method = prompt.Prompt(
        length=1, decoder_length=3, init="text", init_text="bad", init_vocabulary=12
    )
    zeros = {
        "encoder_input": {"prompt": {"embedding": jnp.zeros((1, EMBED))}},
        "decoder_input": {"prompt": {"embedding": jnp.zeros((3, EMBED))}},
    }
    initial = method.initial(zeros, KEY, context())
    ids = ids_of(np.asarray(initial["decoder_input"]["prompt"]["embedding"]))
    assert len(set(ids)) == 3 and set(ids) <= set(range(12))


@pytest.mark.parametrize(
    ("init_range", "low", "high"), [((-0.5, 0.5), -0.5, -0.4), ((0.0, 0.5), 0.0, 0.05)]
)
def test_random_numbers_are_uniform_in_the_range(init_range, low, high):
    module = prompt.Rows(50, init_range)
    x = jnp.zeros((1, 2, EMBED))
    made = nn.unbox(module.init(KEY, x, x[..., 0] == 0, None))["params"]
    rows = made["embedding"]
    method = prompt.Prompt(length=50, init="uniform", init_range=init_range)
    kept = method.initial({"encoder_input": {"prompt": made}}, KEY, context())
    np.testing.assert_array_equal(kept["encoder_input"]["prompt"]["embedding"], rows)
    assert rows.shape == (50, EMBED)
    assert low <= rows.min() <= high and 0.45 <= rows.max() < 0.5
    middle = sum(init_range) / 2
    spread = (init_range[1] - init_range[0]) / np.sqrt(12 * rows.size)
    assert abs(float(rows.mean()) - middle) < 4 * spread


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": -1}, "length must be 0 or more, got -1"),
        ({"decoder_length": -2}, "decoder_length must be 0 or more, got -2"),
        ({"length": 0}, "length and decoder_length are 0"),
        ({"init": "zeros"}, "init must be uniform, sampled_vocabulary, .*'zeros'"),
        ({"init_vocabulary": 0}, "init_vocabulary must be positive or None, got 0"),
        ({"init_range": (0.5, 0.5)}, "two finite numbers, the lower first"),
        ({"init_range": (0.0, float("inf"))}, "two finite numbers"),
        ({"init_offset": -3}, "init_offset must be 0 or more"),
        ({"init": "text"}, "init='text' needs init_text"),
        ({"init": "file"}, "init='file' needs init_file"),
        ({"init_text": "so"}, "give init='text' or leave it out"),
        ({"init": "uniform", "init_labels": ("a",)}, "'uniform' does not read it"),
        (
            {"init": "file", "init_file": "a", "length": 0, "decoder_length": 1},
            "init_file fills the encoder's rows, but length is 0",
        ),
        ({"num_adapters": 0}, "num_adapters must be positive"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        prompt.Prompt(**settings)


def unchecked(**settings):
    """A prompt of a caller whose types nothing checks, as outside of these tests."""
    made = prompt.Prompt()
    for name, value in settings.items():
        object.__setattr__(made, name, value)
    made.__post_init__()
    return made


def test_lists_are_as_good_as_tuples():
    listed = unchecked(init_labels=["bad", "good"], init_range=[-1.0, 1.0])
    given = prompt.Prompt(init_labels=("bad", "good"), init_range=(-1.0, 1.0))
    assert listed == given and hash(listed) == hash(given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_range": (1,)}, "two finite numbers, the lower first; got (1,)"),
        ({"init_range": 0.5}, "two finite numbers, the lower first; got 0.5"),
        ({"init_range": "ab"}, "two finite numbers, the lower first; got 'ab'"),
        ({"init_labels": "good"}, "must be a tuple of texts, got 'good'; write a sing"),
        ({"init_labels": (1, 2)}, "must be a tuple of texts, got (1, 2)"),
    ],
)
def test_a_start_of_another_type_is_refused(settings, message):
    assert message in message_of(unchecked, **settings)


@pytest.mark.parametrize(
    ("settings", "labels", "message"),
    [
        ({"init_vocabulary": 31}, (), r"=31 rows .* more than the 30 rows"),
        ({"init_offset": 26, "init_vocabulary": 5}, (), r"init_offset=26 on are more"),
        ({}, ("bad", ""), "the class label '' has no token"),
        ({"init": "text", "init_text": "so"}, (), "more than the 30 rows"),
        ({"init_vocabulary": 9, "init": "text", "init_text": " "}, (), "has no token"),
    ],
)
def test_a_start_that_the_model_cannot_make_is_refused(settings, labels, message):
    method = prompt.Prompt(**{"length": 4, **settings})
    for make in (method.check_start, lambda c: method.initial({}, KEY, c)):
        with pytest.raises(ValueError, match=message) as caught:
            make(context(labels))
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"not numpy", "expected a NumPy file of a prompt, which numpy.save writes"),
        (b"\x93NUMPY\x01\x00", "expected a NumPy file of a prompt; it is damaged"),
        (np.zeros((3, 4), np.float32), r"shape \(3, 4\); length=2 .* needs \(2, 4\)"),
        (np.zeros((2, 3), np.float32), r"shape \(2, 3\); length=2 .* needs \(2, 4\)"),
        (np.zeros((2, 4), np.int32), "a matrix of floats .* dtype int32"),
        (np.zeros(4, np.float32), r"one row a position; it holds shape \(4,\)"),
        (np.full((2, 4), np.nan, np.float32), "holds NaN"),
        (np.array([{}], object), "it is damaged"),
    ],
)
def test_a_file_that_is_no_such_prompt_is_refused(content, message, tmp_path):
    path = tmp_path / "prompt.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    method = prompt.Prompt(length=2, init="file", init_file=str(path))
    with pytest.raises(ValueError, match=message) as caught:
        method.check_start(context())
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def test_a_file_of_several_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros(2), b=np.zeros(2))
    with pytest.raises(ValueError, match=": expected a NumPy file of a prompt"):
        prompt.read_file(tmp_path / "two.npz")
