"""SeqIO tasks over small official files, and over real ones where they are."""

import json

import numpy as np
import pytest

from tfew_jax.data import text_to_text

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")

from tfew_jax.data import seqio_cache, seqio_tasks, tokenizer  # noqa: E402

LENGTHS = {"inputs": 64, "targets": 8}


@pytest.fixture(autouse=True)
def own_registries(monkeypatch):
    """Each test begins with empty registries and no cache directories."""
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", {})
    before = seqio.get_global_cache_dirs()
    yield
    seqio.set_global_cache_dirs(list(before))


@pytest.fixture(scope="module")
def vocabulary(make_vocabulary):
    return seqio_tasks.load_vocabulary(make_vocabulary())


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def rte(number):
    label = ("entailment", "not_entailment")[number % 2]
    return {
        "premise": f"film {number} was good",
        "hypothesis": "it is bad",
        "label": label,
        "idx": number,
    }


def wsc(number, label):
    target = {"span1_text": "the film", "span1_index": 0}
    target |= {"span2_text": "it", "span2_index": 3}
    text = f"the film said it was {number}"
    return {"text": text, "target": target, "label": label, "idx": number}


def record(number):
    entity = {"start": 0, "end": 3}
    story = {"start": 11, "end": 15}
    answers = [{**entity, "text": "film"}, {**story, "text": "story"}]
    return {
        "passage": {"text": "film was a story", "entities": [entity, story]},
        "qas": [{"query": "the @placeholder", "answers": answers, "idx": number}],
        "idx": number,
    }


@pytest.fixture
def data_dir(tmp_path):
    for split, size in (("train", 50), ("val", 7)):
        write(tmp_path / "RTE" / f"{split}.jsonl", map(rte, range(size)))
        rows = [wsc(number, number % 3 == 0) for number in range(size)]
        write(tmp_path / "WSC" / f"{split}.jsonl", rows)
        write(tmp_path / "ReCoRD" / f"{split}.jsonl", map(record, range(size)))
    return tmp_path


@pytest.fixture
def registered(data_dir, vocabulary):
    splits = ("train", "validation")
    return seqio_tasks.register(data_dir, vocabulary, splits=splits)


def read(name, split="train", **options):
    task = seqio.get_mixture_or_task(name)
    dataset = task.get_dataset(LENGTHS, split=split, **options)
    return list(dataset.as_numpy_iterator())


def indices(examples):
    return [int(example["idx"]) for example in examples]


def same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        for name, value in a.items():
            np.testing.assert_array_equal(value, b[name])
            assert np.asarray(value).dtype == np.asarray(b[name]).dtype


def test_every_task_is_registered_with_the_task_word_and_without(registered):
    for name in text_to_text.names("super_glue"):
        assert f"tfew_super_glue_{name}" in registered
        assert f"tfew_taskless_super_glue_{name}" in registered
    for name in ("tfew_glue_qqp", "tfew_taskless_glue_sst2", "tfew_mrqa_duo_rc"):
        assert name in registered
    assert "tfew_squad" in registered  # it has no word to drop
    assert "tfew_taskless_squad" not in registered
    assert registered[-7:] == [
        "tfew_super_glue",
        "tfew_glue_mrpc_from_qqp_zeroshot",
        "tfew_glue_qqp_from_mrpc_zeroshot",
        "tfew_taskless_super_glue",
        "tfew_taskless_glue_mrpc_from_qqp_zeroshot",
        "tfew_taskless_glue_qqp_from_mrpc_zeroshot",
        "tfew_squad_to_mrqa",
    ]
    assert len(set(registered)) == len(registered)


def test_importing_registers_nothing_and_registering_twice_is_an_error(
    data_dir, vocabulary
):
    assert list(seqio.TaskRegistry.names()) == []
    seqio_tasks.register(data_dir, vocabulary)
    with pytest.raises(ValueError, match="duplicate"):
        seqio_tasks.register(data_dir, vocabulary)


def test_a_task_gives_the_tokens_of_its_text(registered, vocabulary):
    example = read("tfew_taskless_super_glue_rte", shuffle=False)[1]
    text = "hypothesis: it is bad premise: film 1 was good"
    assert example["inputs_pretokenized"].decode() == text
    assert example["targets_pretokenized"] == b"not_entailment"
    own = tokenizer.Tokenizer(vocabulary.sentencepiece_model_file)
    assert example["inputs"].tolist() == own.encode(text)
    full = own.encode("not_entailment")
    assert example["targets"].tolist() == tokenizer.truncate(full, LENGTHS["targets"])
    assert (example["label"], example["idx"]) == (1, 1)


def test_inputs_of_t0_have_no_end_of_sequence(data_dir, vocabulary):
    seqio_tasks.register(data_dir, vocabulary, add_inputs_eos=False)
    example = read("tfew_super_glue_rte", shuffle=False)[0]
    assert 1 not in example["inputs"]
    assert example["targets"][-1] == 1


def test_training_and_evaluation_rows_differ_as_in_t5(registered):
    name = "tfew_super_glue_wsc"
    assert indices(read(name, shuffle=False)) == list(range(0, 50, 3))
    assert indices(read(name, "validation", shuffle=False)) == list(range(7))
    assert seqio.TaskRegistry.get(name).num_input_examples("train") == 17
    trained = read("tfew_super_glue_record", shuffle=False)
    targets = [example["targets_pretokenized"] for example in trained]
    assert targets == [b"film", b"story"] * 50
    assert len(read("tfew_super_glue_record", "validation", shuffle=False)) == 7


def test_the_order_depends_on_the_seed_alone(registered):
    name = "tfew_super_glue_rte"
    first = indices(read(name, seed=3))
    assert indices(read(name, seed=3)) == first
    assert indices(read(name, seed=4)) != first
    assert sorted(first) == list(range(50))
    same(read(name, seed=3), read(name, seed=3))


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_shards_of_all_hosts_hold_each_row_once(registered, shuffle):
    name = "tfew_super_glue_rte"
    found = []
    for index in range(4):
        shard = seqio.ShardInfo(index=index, num_shards=4)
        # Without a seed hosts shuffle differently, and their shards stay disjoint.
        shard_rows = indices(read(name, shuffle=shuffle, shard_info=shard))
        assert {row % 4 for row in shard_rows} == {index}
        found += shard_rows
    assert sorted(found) == list(range(50))
    shard = seqio.ShardInfo(index=1, num_shards=4)
    one, other = (
        indices(read(name, seed=5, shuffle=shuffle, shard_info=shard)) for _ in "ab"
    )
    assert one == other


def test_a_second_epoch_has_all_rows_again(registered):
    rows = indices(read("tfew_super_glue_rte", seed=0, num_epochs=2))
    assert sorted(rows) == sorted([*range(50), *range(50)])


def test_an_iterator_can_be_saved_and_restored(registered, tmp_path):
    source = seqio.TaskRegistry.get("tfew_super_glue_rte").source
    iterator = iter(source.get_dataset("train", seed=1))
    for _ in range(10):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "iterator"))
    expected = [int(example["idx"]) for example in iterator]
    restored = iter(source.get_dataset("train", seed=1))
    tf.train.Checkpoint(iterator=restored).restore(path)
    assert [int(example["idx"]) for example in restored] == expected


@pytest.mark.parametrize("num_shards", [3, 16])
def test_a_cached_task_equals_the_uncached_one(registered, tmp_path, num_shards):
    for name in ("tfew_super_glue_rte", "tfew_super_glue_record"):
        seqio_cache.write(name, tmp_path / "cache", num_shards=num_shards)
    seqio.set_global_cache_dirs([str(tmp_path / "cache")])
    for name in ("tfew_super_glue_rte", "tfew_super_glue_record"):
        for split in ("train", "validation"):
            plain = read(name, split, shuffle=False)
            same(plain, read(name, split, shuffle=False, use_cached=True))
    task = seqio.TaskRegistry.get("tfew_super_glue_rte")
    stats = task.get_cached_stats("train")
    assert stats["examples"] == 50
    tokens = [len(e["inputs"]) - 1 for e in read(task.name, shuffle=False)]
    assert stats["inputs_tokens"] == sum(tokens)
    assert stats["inputs_max_tokens"] == max(tokens)


def test_hosts_share_the_files_of_a_cached_task(registered, tmp_path):
    name = "tfew_super_glue_rte"
    seqio_cache.write(name, tmp_path / "cache", num_shards=2)
    seqio.set_global_cache_dirs([str(tmp_path / "cache")])
    found = []
    for index in range(2):
        shard = seqio.ShardInfo(index=index, num_shards=2)
        found += indices(read(name, seed=0, shard_info=shard, use_cached=True))
    assert sorted(found) == list(range(50))
    shuffled = [read(name, seed=s, use_cached=True) for s in (7, 7, 8)]
    same(shuffled[0], shuffled[1])
    assert indices(shuffled[0]) != indices(shuffled[2])


def test_a_cache_that_cannot_be_written_is_one_line(registered, tmp_path):
    name = "tfew_super_glue_rte"
    seqio_cache.write(name, tmp_path / "cache")
    for arguments, says in (
        ((name, tmp_path / "cache"), "is there already; remove it"),
        (("tfew_rte", tmp_path), "unknown SeqIO task 'tfew_rte'"),
        ((name, tmp_path, 17), "num_shards=17; take 1 to 16"),
        ((name, tmp_path, 0), "num_shards=0; take 1 to 16"),
    ):
        with pytest.raises(ValueError) as caught:
            options = {"num_shards": arguments[2]} if len(arguments) > 2 else {}
            seqio_cache.write(*arguments[:2], **options)
        assert says in str(caught.value)
    task = seqio.TaskRegistry.get(name)
    seqio.TaskRegistry.add(
        "uncached",
        source=task.source,
        output_features=task.output_features,
        preprocessors=[seqio.preprocessors.tokenize],
    )
    with pytest.raises(ValueError, match=r"no seqio\.CacheDatasetPlaceholder"):
        seqio_cache.write("uncached", tmp_path)


def test_an_unfinished_cache_is_not_found_and_is_written_anew(registered, tmp_path):
    folder = tmp_path / "cache" / "tfew_super_glue_rte.unfinished"
    folder.mkdir(parents=True)
    (folder / "train.tfrecord-00000-of-00099").write_text("cut")
    written = seqio_cache.write("tfew_super_glue_rte", tmp_path / "cache")
    assert not folder.exists()
    assert not (written / "train.tfrecord-00000-of-00099").exists()


def test_a_mixture_becomes_model_batches_and_is_deterministic(registered):
    mixture = seqio.MixtureRegistry.get("tfew_super_glue")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates["tfew_super_glue_record"] == 138_854
    assert rates["tfew_super_glue_wsc"] == 259
    assert sum(rates.values()) == 184_351
    pair = seqio.MixtureRegistry.add(
        "pair", [("tfew_super_glue_rte", 1.0), ("tfew_super_glue_wsc", 1.0)]
    )
    converter = seqio.EncDecFeatureConverter(pack=False)

    def batches():
        dataset = pair.get_dataset(LENGTHS, split="train", seed=2, num_epochs=1)
        return list(converter(dataset, LENGTHS).as_numpy_iterator())

    first = batches()
    same(first, batches())
    assert set(first[0]) == {
        "encoder_input_tokens",
        "decoder_target_tokens",
        "decoder_input_tokens",
        "decoder_loss_weights",
    }
    assert first[0]["encoder_input_tokens"].shape == (64,)
    assert first[0]["decoder_target_tokens"].shape == (8,)


class Answers:
    """Outputs for SeqIO's metrics."""

    def __init__(self, name, split="validation"):
        self.task = seqio.TaskRegistry.get(name)
        self.examples = read(name, split, shuffle=False)

    def measure(self, outputs):
        post, (metric,) = self.task.postprocess_fn, self.task.metric_fns
        targets = [
            post(e["targets_pretokenized"].decode(), example=e, is_target=True)
            for e in self.examples
        ]
        values = [
            post(output, example=e, is_target=False)
            for output, e in zip(outputs, self.examples, strict=True)
        ]
        return metric(targets, values)


def test_metrics_of_a_task_are_those_of_t5_as_fractions(registered):
    outputs = ["entailment"] * 7
    scores = Answers("tfew_super_glue_rte").measure(outputs)
    assert scores == {"accuracy": pytest.approx(4 / 7)}
    scores = Answers("tfew_super_glue_wsc").measure(["film"] * 7)
    assert scores == {"accuracy": pytest.approx(3 / 7)}
    scores = Answers("tfew_super_glue_record").measure(["Story"] * 6 + [""])
    assert scores == {"em": pytest.approx(6 / 7), "f1": pytest.approx(6 / 7)}


def test_zero_shot_tasks_measure_in_the_words_of_the_other_set(tmp_path, vocabulary):
    table = (
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n0\t1\t2\ta\tc\n"
    )
    (tmp_path / "MRPC").mkdir()
    (tmp_path / "MRPC" / "dev.tsv").write_text(table)
    seqio_tasks.register(tmp_path, vocabulary, splits=("train", "validation"))
    answers = Answers("tfew_taskless_glue_mrpc_from_qqp")
    assert answers.task.splits == ("validation",)
    scores = answers.measure(["duplicate", "not_duplicate"])
    assert scores == {"f1": 1.0, "accuracy": 1.0}


def test_seqio_evaluates_a_task(registered):
    evaluator = seqio.Evaluator(
        mixture_or_task_name="tfew_super_glue_rte",
        feature_converter=seqio.EncDecFeatureConverter(pack=False),
        eval_split="validation",
        seed=0,
    )

    def predict(dataset):
        """Gives each row's target back, in another order."""
        rows = list(dataset.as_numpy_iterator())
        tokens = [(int(i), row["decoder_target_tokens"].tolist()) for i, row in rows]
        return tokens[::-1]

    metrics, _ = evaluator.evaluate(
        compute_metrics=True, step=0, predict_fn=predict, score_fn=lambda dataset: None
    )
    scores = metrics.result()["tfew_super_glue_rte"]
    # The toy vocabulary has no "_": three of seven targets cannot be said.
    assert scores == {"accuracy": pytest.approx(4 / 7)}


def test_missing_files_are_an_error_when_they_are_read(registered, data_dir):
    with pytest.raises(
        ValueError, match=r"no train split of cb \(looked for official files: CB/"
    ):
        read("tfew_super_glue_cb")
    with pytest.raises(ValueError, match="no split 'test'; available: train, valid"):
        seqio.TaskRegistry.get("tfew_super_glue_rte").source.get_dataset("test")


def test_a_bad_row_is_named_by_its_file_and_line(registered, data_dir):
    write(data_dir / "MultiRC" / "train.jsonl", [{"idx": 0, "passage": {}}])
    with pytest.raises(ValueError, match=r"train\.jsonl, line 1: not of multirc"):
        read("tfew_super_glue_multirc")


def test_real_rows_are_the_same_cached_and_uncached(shared, tmp_path):
    data = shared / "data"
    path = data / "t5_vocab" / "sentencepiece.model"
    vocabulary = seqio_tasks.load_vocabulary(path)
    assert vocabulary.vocab_size == 32_100
    folder = data / "superglue_32shot_and_dev"
    seqio_tasks.register(folder, vocabulary, splits=("train", "validation"))
    name = "tfew_taskless_super_glue_cb"
    seqio_cache.write(name, tmp_path)
    seqio.set_global_cache_dirs([str(tmp_path)])
    plain = read(name, "validation", shuffle=False)
    same(plain, read(name, "validation", shuffle=False, use_cached=True))
    own = tokenizer.Tokenizer(path)
    for example in plain:
        text = example["inputs_pretokenized"].decode()
        expected = own.encode(text, max_length=LENGTHS["inputs"])
        assert example["inputs"].tolist() == expected
    outputs = [example["targets_pretokenized"].decode() for example in plain]
    scores = Answers(name).measure(outputs)
    assert scores == {"mean_3class_f1": 1.0, "accuracy": 1.0}
