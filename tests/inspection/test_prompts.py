"""Nearest entries, repetitions, labels and the control, on tables made by hand."""

import ml_dtypes
import numpy as np
import pytest

from tfew_jax.inspection import prompts

TABLE = np.array([[1, 0], [0, 2], [3, 3], [-1, 0]], np.float32)
PROMPT = np.array([[2, 0], [1, 1], [0, -3]], np.float32)
HALF = np.float32(np.sqrt(0.5))


def test_neighbours_are_the_rows_of_largest_cosine_and_ties_go_to_the_lower_id():
    found = prompts.nearest(PROMPT, TABLE, top=3)
    assert found.ids.tolist() == [[0, 2, 1], [2, 0, 1], [0, 3, 2]]
    expected = [[1, HALF, 0], [1, HALF, HALF], [0, 0, -HALF]]
    np.testing.assert_allclose(found.cosines, expected, atol=1e-6)
    np.testing.assert_allclose(found.norms, [2, np.sqrt(2), 3], rtol=1e-6)


def test_tightness_is_the_mean_cosine_of_the_entries_two_by_two():
    found = prompts.nearest(PROMPT, TABLE, top=3)
    # Rows 0, 1, 2: cosines 0, 1/sqrt 2, 1/sqrt 2. Rows 0, 3, 2: -1 and +-1/sqrt 2.
    expected = [2 * HALF / 3, 2 * HALF / 3, -1 / 3]
    np.testing.assert_allclose(found.tightness, expected, atol=1e-6)
    assert prompts.nearest(PROMPT, TABLE, top=1).tightness is None


def test_rows_that_do_not_count_are_never_near():
    candidates = np.array([False, True, True, False])
    found = prompts.nearest(PROMPT, TABLE, top=2, candidates=candidates)
    assert found.ids.tolist() == [[2, 1], [2, 1], [2, 1]]


def test_a_table_in_blocks_gives_what_the_whole_gives(monkeypatch):
    rng = np.random.default_rng(1)
    table = rng.standard_normal((50, 8)).astype(np.float32)
    table[40] = table[3]  # equal rows in two blocks
    prompt = np.concatenate([rng.standard_normal((5, 8)), 9 * table[3:4]])
    whole = prompts.nearest(prompt, table, candidates=np.arange(50) != 7)
    monkeypatch.setattr(prompts, "_BLOCK", 7)
    blocks = prompts.nearest(prompt, table, candidates=np.arange(50) != 7)
    assert blocks.ids.tolist() == whole.ids.tolist()
    assert whole.ids[5, :2].tolist() == [3, 40]
    np.testing.assert_allclose(blocks.cosines, whole.cosines, atol=1e-6)
    np.testing.assert_array_equal(blocks.norms, whole.norms)


def test_a_bfloat16_table_is_compared_in_float32():
    table = np.array([[1, 0.01], [1, 0.0]], ml_dtypes.bfloat16)
    found = prompts.nearest(table[:1], table, top=1)
    assert found.ids.tolist() == [[0]]
    assert found.cosines.dtype == np.float32


def test_a_vector_of_zeros_is_near_to_nothing():
    found = prompts.nearest(np.zeros((1, 2), np.float32), TABLE, top=2)
    assert found.cosines.tolist() == [[0, 0]] and found.norms.tolist() == [0]


@pytest.mark.parametrize(
    ("prompt", "table", "options", "message"),
    [
        (PROMPT, TABLE, {"top": 0}, "top must be from 1 to the 4 entries.*got 0"),
        (PROMPT, TABLE, {"top": 5}, "top must be from 1 to the 4 entries.*got 5"),
        (PROMPT[:, :1], TABLE, {}, "1 columns, the embedding table 2"),
        (PROMPT * np.nan, TABLE, {}, "the prompt holds NaN or infinity"),
        (
            PROMPT,
            np.where(TABLE > 2, np.inf, TABLE),
            {},
            "the embedding table holds NaN",
        ),
        (PROMPT, TABLE, {"candidates": np.zeros(4, bool)}, "no row of the embedding"),
    ],
)
def test_what_cannot_be_compared_is_refused(prompt, table, options, message):
    with pytest.raises(ValueError, match=message):
        prompts.nearest(prompt, table, **{"top": 2, **options})


def test_the_control_has_the_mean_and_deviation_of_the_rows_that_count(monkeypatch):
    monkeypatch.setattr(prompts, "_BLOCK", 3)
    rng = np.random.default_rng(1)
    table = (rng.standard_normal((40, 2)) * [1, 5] + [3, -2]).astype(np.float32)
    table[:20] = 1e6
    candidates = np.arange(40) >= 20
    drawn = prompts.random_vectors(4000, table, candidates=candidates)
    assert drawn.shape == (4000, 2) and drawn.dtype == np.float32
    np.testing.assert_allclose(drawn.mean(0), table[20:].mean(0), atol=0.3)
    np.testing.assert_allclose(drawn.std(0), table[20:].std(0), rtol=0.05)


def test_the_control_is_the_same_for_a_seed_and_constant_where_the_table_is():
    table = np.array([[1, 7], [3, 7]], np.float32)
    one = prompts.random_vectors(3, table)
    np.testing.assert_array_equal(one, prompts.random_vectors(3, table, seed=0))
    assert (one != prompts.random_vectors(3, table, seed=1))[:, 0].all()
    assert one[:, 1].tolist() == [7, 7, 7]


def test_positions_with_the_same_key_are_grouped_the_largest_group_first():
    assert prompts.repeated("abcbaxa") == [(0, 4, 6), (1, 3)]
    assert prompts.repeated([frozenset({1, 2}), frozenset({2, 1})]) == [(0, 1)]
    assert prompts.repeated("abc") == []


@pytest.mark.parametrize(
    ("piece", "word"),
    [("▁Technology", "technology"), ("ment", "ment"), ("▁", "▁"), ("▁TRUE", "true")],
)
def test_a_word_is_a_piece_without_mark_and_capitals(piece, word):
    assert prompts.word_of(piece) == word


def test_words_are_counted_once_for_a_position():
    words = [["science", "science", "art"], ["science", "music"], ["art", "music"]]
    found = prompts.frequent_words(words)
    assert found == [("art", 2), ("music", 2), ("science", 2)]


def test_a_label_is_kept_where_its_own_position_has_all_its_words():
    words = [["good", "great"], ["bad", "good"], ["en", "ment"], ["good", "x"]]
    labels = [("good", ["good"]), ("awful", ["awful"]), ("enment", ["en", "ment"])]
    start = [text for text, _ in labels]
    good, awful, several = prompts.find_labels(words, labels, start=start)
    assert good.kept and good.position == 0 and good.positions == (0, 1, 3)
    assert awful.kept is False and awful.positions == ()
    assert several.kept and several.num_kept == 2 and several.positions == (2,)


def test_a_label_with_some_of_its_words_near_is_not_kept():
    labels = [("enment", ["en", "ment"])]
    (label,) = prompts.find_labels([["en", "x"]], labels, start=["enment"])
    assert label.kept is False and label.num_kept == 1


def test_a_label_with_more_words_than_neighbours_needs_as_many_as_there_are():
    labels = [("abc", ["a", "b", "c"])]
    (label,) = prompts.find_labels([["a", "b"]], labels, start=["abc"])
    assert label.kept and label.num_kept == 2


def test_a_label_beyond_the_prompt_has_no_position():
    labels = [("c", ["c"]), ("b", ["b"])]
    _, label = prompts.find_labels([["a", "b"]], labels, start=["c", "b"])
    assert (label.position, label.kept, label.positions) == (None, None, (0,))


def test_a_label_that_started_two_positions_shifts_no_other():
    words, labels = [["a"], ["x"], ["b"]], [("b", ["b"]), ("a", ["a"])]
    b, a = prompts.find_labels(words, labels, start=["a", "a", "b"])
    assert (a.position, a.kept, b.position, b.kept) == (0, True, 2, True)
    (c,) = prompts.find_labels(words, [("c", ["c"])], start=["a", "a", "b"])
    assert (c.position, c.kept) == (None, None)


def test_a_label_without_pieces_is_refused():
    with pytest.raises(ValueError, match="no piece for the label '🙂'"):
        prompts.find_labels([["a"]], [("🙂", [])])
