import pickle

import hypothesis
import pytest
from hypothesis import strategies as st

from tfew_jax.data import tokenizer

EOS, UNK = 1, 2


def test_text_is_spelled_with_an_end_of_sequence_that_can_be_left_out(words):
    ids = words.encode("good film")
    assert ids[-1] == EOS
    assert words.encode("good film", add_eos=False) == ids[:-1]
    assert words.decode(ids) == "good film"
    assert words.encode("") == [EOS]


def test_cutting_keeps_the_end_of_sequence(words):
    ids = words.encode("it was a very good film and so on")
    assert words.encode("it was a very good film and so on", max_length=4) == [
        *ids[:3],
        EOS,
    ]
    assert words.encode("it was a", add_eos=False, max_length=2) == ids[:2]
    assert words.encode("it was a", max_length=4) == words.encode("it was a")
    with pytest.raises(ValueError, match="max_length is 0"):
        words.encode("good", max_length=0)


def test_one_hundred_sentinels_stand_above_the_pieces_in_falling_order(words):
    assert words.vocab_size == words.num_pieces + 100
    assert words.sentinel(0) == words.vocab_size - 1
    assert words.sentinel(99) == words.num_pieces
    ids = words.encode("good <extra_id_0> film <extra_id_99>")
    assert ids.count(words.sentinel(0)) == ids.count(words.sentinel(99)) == 1
    assert words.decode(ids) == "good <extra_id_0> film <extra_id_99>"
    with pytest.raises(ValueError, match="no sentinel <extra_id_100>"):
        words.sentinel(100)


def test_sentinels_inside_the_vocabulary_are_not_added_again(make_vocabulary):
    symbols = [f"<extra_id_{number}>" for number in (1, 0)]
    own = tokenizer.Tokenizer(make_vocabulary(user_defined_symbols=symbols))
    assert own.vocab_size == own.num_pieces
    assert own.encode("good <extra_id_0>").count(own.sentinel(0)) == 1
    assert own.decode(own.encode("good <extra_id_1> film")) == "good <extra_id_1> film"
    with pytest.raises(ValueError, match="no sentinel <extra_id_2>"):
        own.sentinel(2)


def test_control_pieces_in_a_text_stay_text(words):
    ids = words.encode("good </s> <pad> film", add_eos=False)
    assert EOS not in ids
    assert 0 not in ids


def test_decoding_stops_at_the_end_and_skips_pads(words):
    good, film = (words.encode(word, add_eos=False) for word in ("good", "film"))
    assert words.decode([*good, 0, *film, EOS, *good]) == "good film"
    with pytest.raises(ValueError, match="has no id 9999"):
        words.decode([9999])


def test_unknown_pieces_are_counted(words):
    ids = words.encode("good ☃ film ☂☃")
    assert words.count_unknown(ids) == 2
    assert not words.is_unknown(ids)
    assert words.is_unknown(words.encode("☃"))


def test_choices_that_the_vocabulary_cannot_spell_are_an_error(words):
    with pytest.raises(ValueError, match="cannot spell the choice '☃'") as caught:
        words.encode_choices(["good", "☃"])
    assert "\n" not in str(caught.value)


def test_choices_with_equal_tokens_are_an_error(words):
    with pytest.raises(ValueError, match="'good ☃', 'good ☂' have the same tokens"):
        words.encode_choices(["bad", "good ☃", "good ☂"])
    with pytest.raises(ValueError, match="same tokens within 3 tokens"):
        words.encode_choices(["very good film", "very good story"], max_length=3)
    choices = words.encode_choices(["bad", "good"])
    assert choices == [words.encode("bad"), words.encode("good")]


def test_byte_fallback_spells_everything(make_vocabulary):
    pieces = tokenizer.Tokenizer(make_vocabulary(vocab_size=340, byte_fallback=True))
    ids = pieces.encode("good ☃")
    assert pieces.count_unknown(ids) == 0
    assert pieces.decode(ids) == "good ☃"
    pieces.encode_choices(["☃", "☂"])


def test_a_vocabulary_with_other_ids_is_an_error(make_vocabulary):
    path = make_vocabulary(pad_id=-1, unk_id=0, bos_id=1, eos_id=2)
    with pytest.raises(ValueError, match=r"ids \(-1, 2, 0\), expected \(0, 1, 2\)"):
        tokenizer.Tokenizer(path)


def test_a_missing_or_broken_vocabulary_is_one_line(tmp_path, words):
    with pytest.raises(ValueError, match="no such vocabulary"):
        tokenizer.Tokenizer(tmp_path / "absent.model")
    broken = tmp_path / "broken.model"
    for data in (b"", b"text\n" * 9, words.model_file.read_bytes()[:1000]):
        broken.write_bytes(data)
        with pytest.raises(ValueError, match="not a SentencePiece model") as caught:
            tokenizer.Tokenizer(broken)
        assert "\n" not in str(caught.value)


def test_a_tokenizer_survives_pickling(words):
    assert pickle.loads(pickle.dumps(words)).encode("good") == words.encode("good")


@hypothesis.given(text=st.text(max_size=40), max_length=st.integers(1, 12))
def test_a_cut_text_is_its_beginning_and_never_too_long(words, text, max_length):
    whole = words.encode(text)
    cut = words.encode(text, max_length=max_length)
    assert cut == whole if len(whole) <= max_length else len(cut) == max_length
    assert cut[:-1] == whole[: len(cut) - 1]
    assert cut[-1] == EOS
    assert whole.count(EOS) == 1


def test_the_t5_vocabulary_has_its_published_ids(shared):
    t5 = tokenizer.Tokenizer(shared / "data" / "t5_vocab" / "sentencepiece.model")
    assert (t5.num_pieces, t5.vocab_size, t5.sentinel(0)) == (32000, 32100, 32099)
    # Two sentences whose ids T5's documentation in other libraries shows.
    assert t5.encode("translate English to German: The house is wonderful.") == [
        *(13959, 1566, 12, 2968, 10, 37, 629, 19, 1627, 5, 1)
    ]
    assert t5.encode("a\nb") == t5.encode("a b")
    assert t5.count_unknown(t5.encode("😀")) == 1
    assert t5.encode("The <extra_id_0> walks in <extra_id_1> park") == [
        *(37, 32099, 10681, 16, 32098, 2447, 1)
    ]


def test_every_id_is_written_as_its_piece_or_sentinel(words):
    ids = words.encode("good film")
    assert "".join(words.piece(token) for token in ids) == "▁good▁film</s>"
    assert words.piece(words.sentinel(7)) == "<extra_id_7>"
    with pytest.raises(ValueError, match="has no id"):
        words.piece(words.vocab_size)


def test_pads_ends_unknown_pieces_sentinels_and_what_is_beyond_stand_for_no_text(
    words,
):
    assert [words.is_text(token) for token in (0, 1, 2)] == [False] * 3
    assert all(words.is_text(t) for t in words.encode("good", add_eos=False))
    assert not words.is_text(words.sentinel(0))
    assert not words.is_text(words.vocab_size) and not words.is_text(-1)
