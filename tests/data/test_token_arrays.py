import functools
import itertools
import json

import numpy as np
import one_line
import pytest

from tfew_jax.data import objectives, packing, token_arrays, tokenizer

LENGTHS = {"inputs": 24, "targets": 12}
TEXTS = ["lovely film and a great plot", "awful plot", "no", "", "dull " * 40] * 5


@pytest.fixture(scope="module")
def vocabulary(base_directory):
    return tokenizer.Tokenizer(base_directory / "sentencepiece.model")


def pairs_of(vocabulary, objective=None, **options):
    return list(
        token_arrays.make_pairs(
            options.pop("texts", TEXTS),
            tokenizer=vocabulary,
            objective=objective or objectives.PrefixLM(),
            lengths=LENGTHS,
            **options,
        )
    )


@pytest.fixture
def written(vocabulary, tmp_path, monkeypatch):
    """Arrays in three parts."""
    monkeypatch.setattr(token_arrays, "ROWS_PER_PART", 9)
    span = objectives.SpanCorruption(tokenizer=vocabulary)
    rows = packing.pack(pairs_of(vocabulary, span), LENGTHS)
    arrays = token_arrays.write(
        tmp_path / "arrays",
        rows,
        lengths=LENGTHS,
        vocabulary=vocabulary,
        description={"objective": "span corruption"},
    )
    monkeypatch.undo()
    return arrays


def text_of(pair):
    return [*pair.inputs[:-1].tolist(), *pair.targets[:-1].tolist()]


def test_long_texts_are_cut_and_nothing_is_lost(vocabulary):
    pairs = pairs_of(vocabulary)
    size = objectives.PrefixLM().num_tokens(LENGTHS)
    lengths = [len(text_of(pair)) for pair in pairs]
    encoded = [vocabulary.encode(text, add_eos=False) for text in TEXTS]
    pieces = [ids[i : i + size] for ids in encoded for i in range(0, len(ids), size)]
    # A piece of one token is none.
    assert list(map(text_of, pairs)) == [piece for piece in pieces if len(piece) > 1]
    assert max(lengths) == size and min(lengths) < size


def test_joined_texts_give_pieces_of_one_length(vocabulary):
    pairs = pairs_of(vocabulary, join=True)
    size = objectives.PrefixLM().num_tokens(LENGTHS)
    assert {len(text_of(pair)) for pair in pairs[:-1]} == {size}
    expected = itertools.chain.from_iterable(
        vocabulary.encode(text, add_eos=False) for text in TEXTS
    )
    assert list(itertools.chain.from_iterable(map(text_of, pairs))) == list(expected)


def test_a_seed_decides_what_is_drawn(vocabulary):
    first, again, other = (
        [pair.inputs.tolist() for pair in pairs_of(vocabulary, seed=seed)]
        for seed in (3, 3, 4)
    )
    assert first == again != other


def test_rows_come_back_as_they_were_packed(written, vocabulary):
    span = objectives.SpanCorruption(tokenizer=vocabulary)
    rows = list(packing.pack(pairs_of(vocabulary, span), LENGTHS))
    expected = packing.to_arrays(rows, LENGTHS)
    assert written.num_rows == len(rows) > 18
    assert written.num_examples == sum(map(len, rows))
    for side, name in (("inputs", "encoder"), ("targets", "decoder")):
        is_real = expected[f"{name}_segment_ids"] > 0
        assert written.num_tokens[side] == is_real.sum()
    order = np.random.default_rng(0).permutation(len(rows))
    found = written.rows(order)
    for name, array in expected.items():
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], array[order])


def test_batches_visit_each_row_once_an_epoch_and_follow_from_the_step(written):
    batches = token_arrays.PackedBatches(written, batch_size=4, seed=1)
    num_rows = written.num_rows
    steps = -(-3 * num_rows // 4)
    ids = np.concatenate([batches.batch_at(s)["example_id"] for s in range(steps)])
    for epoch in range(3):
        part = ids[epoch * num_rows : (epoch + 1) * num_rows]
        assert sorted(part.tolist()) == list(range(num_rows))
    assert ids[:num_rows].tolist() != ids[num_rows : 2 * num_rows].tolist()
    alone = token_arrays.PackedBatches(written, batch_size=4, seed=1).batch_at(5)
    assert alone["example_id"].tolist() == ids[20:24].tolist()
    np.testing.assert_array_equal(
        alone["encoder_input_tokens"],
        written.rows(ids[20:24])["encoder_input_tokens"],
    )
    other = token_arrays.PackedBatches(written, batch_size=4, seed=2).batch_at(5)
    assert other["example_id"].tolist() != alone["example_id"].tolist()


def test_arrays_are_small_on_disk_and_found_again(written, vocabulary):
    again = token_arrays.load(written.folder)
    assert again.fingerprint == written.fingerprint
    assert again.description == {"objective": "span corruption"}
    assert again.lengths == LENGTHS
    again.check_vocabulary(vocabulary)
    tokens = np.load(written.folder / "encoder_input_tokens-00000.npy")
    segments = np.load(written.folder / "encoder_segment_ids-00000.npy")
    assert (tokens.dtype, segments.dtype) == (np.uint16, np.uint8)


message_of = functools.partial(one_line.message_of, error=token_arrays.TokenArraysError)


def test_a_folder_may_begin_with_the_home_directory(vocabulary, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pair = objectives.TokenPair(np.array([5, 1]), np.array([6, 1]))
    given = {"lengths": LENGTHS, "vocabulary": vocabulary}
    arrays = token_arrays.write("~/arrays", [[pair]], **given)
    assert arrays.folder == tmp_path / "arrays"
    assert token_arrays.load("~/arrays").num_rows == 1
    with pytest.raises(token_arrays.TokenArraysError, match="has no name"):
        token_arrays.write("", [[pair]], **given)


def test_finished_arrays_are_not_written_over(written, vocabulary):
    said = message_of(
        token_arrays.write, written.folder, [], lengths=LENGTHS, vocabulary=vocabulary
    )
    assert said.startswith(f"{written.folder} holds token arrays already")


def test_no_example_is_an_error(vocabulary, tmp_path):
    said = message_of(
        token_arrays.write, tmp_path, [], lengths=LENGTHS, vocabulary=vocabulary
    )
    assert "there is nothing to write" in said
    assert "was not finished" in message_of(token_arrays.load, tmp_path)


def test_another_vocabulary_is_refused(written, tmp_path, vocabulary):
    copy = tmp_path / "other.model"
    # A field at the end that readers pass over makes it another file.
    copy.write_bytes(vocabulary.model_file.read_bytes() + b"\xba\x3e\x01a")
    said = message_of(written.check_vocabulary, tokenizer.Tokenizer(copy))
    assert "tokens of another vocabulary than" in said


def test_damaged_arrays_are_named(written):
    part = written.folder / "decoder_segment_ids-00001.npy"
    data = part.read_bytes()
    part.write_bytes(data[:40])
    assert message_of(token_arrays.load, written.folder).startswith(f"{part}: missing")
    np.save(part, np.zeros((2, 12), np.uint8))
    assert "has the shape (2, 12), expected (9, 12)" in message_of(
        token_arrays.load, written.folder
    )
    part.write_bytes(data)
    path = written.folder / token_arrays.MANIFEST
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"version": 9}))
    assert "version 1 at most, found" in message_of(token_arrays.load, written.folder)
    path.write_text("{")
    assert message_of(token_arrays.load, written.folder).startswith(f"{path}: damaged")


def test_numbers_out_of_range_are_refused(written):
    with pytest.raises(ValueError, match="batch_size=0"):
        token_arrays.PackedBatches(written, batch_size=0)
    with pytest.raises(ValueError, match="step is -1"):
        token_arrays.PackedBatches(written, batch_size=1).batch_at(-1)
