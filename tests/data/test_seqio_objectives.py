"""The objectives as SeqIO tasks, packed by SeqIO's converter as T5X does."""

import itertools

import numpy as np
import pytest

from tfew_jax.data import objectives, packing, texts, tokenizer

seqio = pytest.importorskip("seqio", reason="needs the extra `data`")
pytest.importorskip("tensorflow", reason="needs the extra `data`")

from tfew_jax.data import seqio_objectives  # noqa: E402

LENGTHS = {"inputs": 24, "targets": 12}
TEXTS = [
    "lovely film and a great plot " * (n % 4 + 1) + f"number {n}" for n in range(30)
]


@pytest.fixture(scope="module")
def words(base_directory):
    return tokenizer.Tokenizer(base_directory / "sentencepiece.model")


@pytest.fixture(scope="module")
def vocabulary(words):
    return seqio.SentencePieceVocabulary(str(words.model_file), extra_ids=100)


@pytest.fixture
def files(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(TEXTS))
    return {"train": [str(path)]}


@pytest.fixture
def register(files, words, vocabulary):
    """Registers a task for one test."""
    names = []

    def make(objective, **options):
        name = seqio_objectives.register(
            f"objective_{len(names)}",
            source=seqio_objectives.TextSource(files),
            objective=objective,
            vocabulary=vocabulary,
            **options,
        )
        names.append(name)
        return name

    yield make
    for name in names:
        seqio.TaskRegistry.remove(name)


def read(name, *, shuffle=False, seed=0, shard=None, lengths=LENGTHS):
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        lengths,
        split="train",
        shuffle=shuffle,
        seed=seed,
        shard_info=shard and seqio.ShardInfo(*shard),
    )
    return [
        {side: example[side].tolist() for side in ("inputs", "targets")}
        for example in dataset.as_numpy_iterator()
    ]


def restored(example, words):
    """The text that inputs and targets together say."""
    numbers = {words.sentinel(n): n for n in range(100)}
    spans: dict[int, list[int]] = {}
    for token in example["targets"][:-1]:
        if token in numbers:
            spans[token] = []
        else:
            spans[next(reversed(spans))].append(token)
    text: list[int] = []
    for token in example["inputs"][:-1]:
        text += spans.pop(token) if token in numbers else [token]
    assert not spans
    return text


def encoded(words, some=TEXTS):
    return [words.encode(text.strip(), add_eos=False) for text in some]


@pytest.mark.parametrize("join", [True, False])
def test_span_corruption_keeps_the_texts_and_t5s_counts(register, words, join):
    span = objectives.SpanCorruption(tokenizer=words)
    examples = read(register(span, join=join))
    pieces = [restored(example, words) for example in examples]
    size = span.num_tokens(LENGTHS)
    streams = encoded(words)
    if join:
        streams = [list(itertools.chain.from_iterable(streams))]
    expected = [s[i : i + size] for s in streams for i in range(0, len(s), size)]
    assert pieces == [piece for piece in expected if len(piece) > 1]
    for example, piece in zip(examples, pieces, strict=True):
        pair = span.make_pair(np.array(piece), np.random.default_rng(0))
        assert len(example["inputs"]) == len(pair.inputs)
        assert len(example["targets"]) == len(pair.targets)
        assert example["inputs"][-1] == example["targets"][-1] == 1


def test_a_prefix_and_what_follows_it_are_the_text(register, words):
    examples = read(register(objectives.PrefixLM(), join=False))
    pieces = [e["inputs"][:-1] + e["targets"][:-1] for e in examples]
    expected = [s[i : i + 12] for s in encoded(words) for i in range(0, len(s), 12)]
    assert pieces == [piece for piece in expected if len(piece) > 1]
    assert len({len(e["inputs"]) for e in examples}) > 5
    assert min(len(e["targets"]) for e in examples) > 1


def test_a_seed_decides_what_is_drawn(register, words):
    name = register(objectives.SpanCorruption(tokenizer=words))
    lengths = {"inputs": 64, "targets": 32}  # a single span is always the last one
    first, again, other = (read(name, seed=seed, lengths=lengths) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    shuffled = read(name, seed=1, shuffle=True, lengths=lengths)
    assert shuffled == read(name, seed=1, shuffle=True, lengths=lengths)
    assert shuffled != first


def test_the_shards_of_all_hosts_hold_each_text_once(register):
    name = register(objectives.PrefixLM(), join=False)

    def pieces(shard):
        return [e["inputs"][:-1] + e["targets"][:-1] for e in read(name, shard=shard)]

    shards = [piece for index in range(3) for piece in pieces((index, 3))]
    assert sorted(shards) == sorted(pieces(None))


def test_t5s_lengths_fill_rows_of_512_and_114(register, words, files):
    span = objectives.SpanCorruption(tokenizer=words)
    lengths = {"inputs": 512, "targets": 114}
    *full, _ = read(register(span), lengths=lengths)
    assert full
    for example in full:
        assert (len(example["inputs"]), len(example["targets"])) == (512, 114)


def test_the_converter_of_t5x_packs_them_with_our_positions(register):
    name = register(objectives.PrefixLM(), join=False)
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        LENGTHS, split="train", shuffle=False, seed=0
    )
    converter = seqio.EncDecFeatureConverter(pack=True)
    rows = list(converter(dataset, LENGTHS).as_numpy_iterator())
    assert max(row["encoder_segment_ids"].max() for row in rows) > 1
    for row in rows:
        for side in ("encoder", "decoder"):
            np.testing.assert_array_equal(
                packing.positions(row[f"{side}_segment_ids"]), row[f"{side}_positions"]
            )
        np.testing.assert_array_equal(
            packing.decoder_inputs(
                row["decoder_target_tokens"], row["decoder_segment_ids"]
            ),
            row["decoder_input_tokens"],
        )


def test_bad_input_is_named(register, files, words, vocabulary):
    name = register(objectives.PrefixLM())
    with pytest.raises(ValueError, match="SeqIO already has 'objective_0'"):
        seqio_objectives.register(
            name,
            source=seqio_objectives.TextSource(files),
            objective=objectives.PrefixLM(),
            vocabulary=vocabulary,
        )
    source = seqio_objectives.TextSource({"train": ["none.txt"]})
    with pytest.raises(texts.TextsError, match=r"none\.txt: no such file"):
        source.get_dataset("train")
    with pytest.raises(ValueError, match="no split 'test'; available: train"):
        source.get_dataset("test")
