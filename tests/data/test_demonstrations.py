import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfew_jax.data import demonstrations, tokenized
from tfew_jax.data.templates import Rendered

CHOICES = ("no", "yes")
ROWS = [
    Rendered("film a bad story?", CHOICES, 0),
    Rendered("review very good?", CHOICES, 1),
    Rendered("so what?", CHOICES, 0),
]


def prompt(count, **changed):
    return demonstrations.TextPrompt(num_demonstrations=count, **changed)


def test_each_demonstration_is_its_input_with_the_right_choice_and_a_blank_line():
    assert prompt(2).render(ROWS[:2], "is it?") == (
        "film a bad story? no\n\nreview very good? yes\n\nis it?"
    )
    assert prompt(1, separator="\n", joiner=" ## ").render(ROWS[1:2], "is it?") == (
        "review very good?\nyes ## is it?"
    )
    assert prompt(0).render([], "is it?") == "is it?"


def test_every_class_is_shown_before_one_is_shown_again():
    labels = [0] * 50 + [1] * 3 + [2]
    for seed in range(5):
        of = [labels[i] for i in prompt(3).draw(labels, seed)]
        assert sorted(of) == [0, 1, 2]
        counts = collections.Counter(labels[i] for i in prompt(9).draw(labels, seed))
        assert counts == {0: 5, 1: 3, 2: 1}  # a class that is used up leaves room


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=30),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_rows_are_drawn_once_and_fewer_are_some_of_the_more(labels, seed, data):
    more = data.draw(st.integers(0, len(labels)))
    fewer = data.draw(st.integers(0, more))
    drawn = prompt(more).draw(labels, seed).tolist()
    assert len(set(drawn)) == more and set(drawn) <= set(range(len(labels)))
    assert set(prompt(fewer).draw(labels, seed).tolist()) <= set(drawn)
    shown = collections.Counter(labels[i] for i in drawn)
    full = collections.Counter(labels)
    least = min((shown[c] for c in full if shown[c] < full[c]), default=0)
    assert all(count <= least + 1 for c, count in shown.items() if shown != full)


def test_draw_and_order_are_those_of_the_seed():
    labels = [0, 1] * 10
    drawn = [tuple(prompt(6).draw(labels, seed).tolist()) for seed in range(8)]
    assert drawn == [tuple(prompt(6).draw(labels, seed).tolist()) for seed in range(8)]
    assert len(set(drawn)) == 8
    orders = {tuple(labels[i] for i in rows) for rows in drawn}
    assert len(orders) > 4  # classes do not stand in turn


def test_demonstrations_that_do_not_fit_are_left_out_from_the_front(words):
    whole = prompt(3)
    lengths = [
        len(words.encode(whole.render(ROWS[n:], "is it the story?"))) for n in range(4)
    ]
    assert sorted(lengths, reverse=True) == lengths
    for limit in range(3, lengths[0] + 2):
        ids, lost = whole.spell(ROWS, "is it the story?", words, max_length=limit)
        fitting = [n for n in range(4) if lengths[n] <= limit]
        assert lost == (fitting[0] if fitting else 3)
        assert ids == words.encode(
            whole.render(ROWS[lost:], "is it the story?"), max_length=limit
        )


def test_the_row_itself_is_as_it_is_alone_however_long_the_demonstrations(words):
    alone = words.encode("is it the story?")
    ids, lost = prompt(3).spell(
        ROWS, "is it the story?", words, max_length=len(alone), input_eos=True
    )
    assert (ids, lost) == (alone, 3)
    without, lost = prompt(0).spell([], "is it the story?", words, max_length=4)
    assert (without, lost) == (words.encode("is it the story?", max_length=4), 0)
    no_eos = words.encode("is it the story?", add_eos=False)
    ids, _ = prompt(1).spell(
        ROWS[:1], "is it the story?", words, max_length=99, input_eos=False
    )
    assert ids[-len(no_eos) :] == no_eos


def put(words, count, *, template, max_length=256):
    """Two rows by two templates behind the first `count` of `ROWS`."""
    texts = [["is it bad?", "is it a very good story?"], ["bad?", "very good story?"]]
    rendered = [[Rendered(text, CHOICES, 1) for text in some] for some in texts]
    lengths = {"inputs": max_length, "targets": 8}
    tokens = tokenized.tokenize(rendered, words, feature_lengths=lengths)
    other = [Rendered(f"what {row.inputs}", CHOICES, row.label) for row in ROWS]
    made = demonstrations.put_in_front(
        prompt(count),
        [ROWS[:count], other[:count]],
        rendered,
        tokens,
        words,
        views=[np.asarray(template)],
    )
    return tokens, made


def test_rows_and_demonstrations_have_the_same_template(words):
    _, made = put(words, 2, template=[0, 1])
    assert made.tokens.inputs[0][0].tolist() == words.encode(
        "film a bad story? no\n\nreview very good? yes\n\nis it bad?"
    )
    assert made.tokens.inputs[1][1].tolist() == words.encode(
        "what film a bad story? no\n\nwhat review very good? yes\n\nvery good story?"
    )


def test_what_no_view_reads_stays_and_lengths_are_of_what_is_read(words):
    tokens, made = put(words, 2, template=[0, 1])
    np.testing.assert_array_equal(made.tokens.inputs[1][0], tokens.inputs[1][0])
    lengths = [len(made.tokens.inputs[0][0]), len(made.tokens.inputs[1][1])]
    assert made.tokens.all_lengths.tolist() == lengths
    np.testing.assert_array_equal(made.tokens.label, tokens.label)
    np.testing.assert_array_equal(made.tokens.choice_sets, tokens.choice_sets)


def test_without_demonstrations_the_rows_are_as_they_are(words):
    tokens, made = put(words, 0, template=[0, 0])
    assert made.tokens is tokens
    assert made.losses(np.array([0, 0])) == {}


def test_rows_are_counted_by_the_demonstrations_they_lost(words):
    short = len(words.encode("film a bad story? no\n\nis it a very good story?"))
    _, made = put(words, 3, template=[0, 0], max_length=short)
    lost = [
        prompt(3).spell(ROWS, text, words, max_length=short)[1]
        for text in ("is it bad?", "is it a very good story?")
    ]
    assert all(lost) and lost == made.num_dropped[0].tolist()
    assert made.losses(np.array([0, 0])) == {
        str(number): count for number, count in collections.Counter(lost).items()
    }
    assert not made.tokens.is_cut.any()
    assert max(len(ids) for ids in made.tokens.inputs[0]) <= short


def test_runs_that_share_lengths_are_padded_to_the_same_ones(words):
    parts = [put(words, count, template=[0, 0])[1] for count in (1, 3)]
    shared = demonstrations.share_lengths(parts)
    lengths = [part.tokens.all_lengths.tolist() for part in parts]
    for part, before in zip(shared, parts, strict=True):
        assert part.tokens.all_lengths.tolist() == [*lengths[0], *lengths[1]]
        assert part.tokens.inputs == before.tokens.inputs
    assert demonstrations.share_lengths([]) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_demonstrations": -1}, "num_demonstrations must be 0 or more, got -1"),
        ({"joiner": ""}, "the joiner of demonstrations is empty"),
        ({"separator": ""}, "the separator of demonstrations is empty"),
    ],
)
def test_prompts_that_cannot_be_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        demonstrations.TextPrompt(**changed)


def test_more_demonstrations_than_rows_are_refused():
    with pytest.raises(ValueError, match="num_demonstrations=4, but there are 3 rows"):
        prompt(4).draw([0, 1, 0], 0)


def test_a_joiner_that_the_vocabulary_cannot_spell_is_refused(words):
    prompt(1).check(words)
    with pytest.raises(ValueError, match="cannot spell the joiner of demonstrations"):
        prompt(1, joiner=" § ").check(words)


def test_line_ends_stay_with_the_embedded_vocabulary(repository):
    from tfew_jax.data import tokenizer

    file = repository / "tfew_jax" / "assets" / "base" / "sentencepiece.model"
    embedded = tokenizer.Tokenizer(file)
    prompt(2).check(embedded)
    text = prompt(2).render(ROWS[:2], "Is it?")
    assert embedded.decode(embedded.encode(text)) == text
