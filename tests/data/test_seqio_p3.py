"""T0's mixtures in SeqIO: the same examples, sampled by their caps."""

import collections

import pytest

pytest.importorskip("tensorflow")
seqio = pytest.importorskip("seqio")

from tfew_jax.data import p3, p3_mixture, p3_rows, seqio_p3  # noqa: E402

TEMPLATES = """\
templates:
  k1: !Template
    jinja: 'say {{text}} ||| {{text}}'
    metadata: !TemplateMetadata {}
    name: say it
"""
ROWS = {
    "one": [{"text": text} for text in ["good film", "", "bad film"]],
    "glue/two": [{"text": text} for text in ["yes", "no", "not sure"] * 3],
}
DEFINITION = p3.Definition(
    name="both",
    members=tuple(p3.Member(set_name=n, train_size=len(r)) for n, r in ROWS.items()),
)
LENGTHS = {"inputs": 16, "targets": 8}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")
    for name in ROWS:
        (folder / name).mkdir(parents=True)
        (folder / name / "templates.yaml").write_text(TEMPLATES)
    return p3_mixture.load(DEFINITION, p3_rows.RawSets(ROWS), directory=folder)


@pytest.fixture(scope="module")
def vocabulary(make_vocabulary):
    return seqio.SentencePieceVocabulary(str(make_vocabulary()))


@pytest.fixture(scope="module")
def registered(mixture, vocabulary):
    return seqio_p3.register(mixture, vocabulary=vocabulary)


def texts(dataset, vocabulary):
    return [
        tuple(
            vocabulary.decode(example[name].tolist()) for name in ("inputs", "targets")
        )
        for example in dataset.as_numpy_iterator()
    ]


def test_a_task_gives_the_rows_that_apply_in_their_order(registered, vocabulary):
    task = seqio.get_mixture_or_task("one_say_it")
    dataset = task.get_dataset(LENGTHS, split="train", shuffle=False)
    assert texts(dataset, vocabulary) == [
        ("say good film", "good film"),
        ("say bad film", "bad film"),
    ]
    assert task.num_input_examples("train") == 3


def test_only_targets_end_with_eos_unless_asked(mixture, registered, vocabulary):
    name = seqio_p3.register(
        mixture, vocabulary=vocabulary, prefix="eos_", add_eos_to_inputs=True
    )
    assert name == "eos_both"
    ends = {}
    for prefix in ("", "eos_"):
        task = seqio.get_mixture_or_task(f"{prefix}one_say_it")
        dataset = task.get_dataset(LENGTHS, split="train", shuffle=False)
        example = next(iter(dataset.as_numpy_iterator()))
        ends[prefix] = [int(example[n][-1]) == 1 for n in ("inputs", "targets")]
    assert ends == {"": [False, True], "eos_": [True, True]}


def test_shuffled_rows_are_the_same_rows_in_an_order_of_the_seed(
    registered, vocabulary
):
    task = seqio.get_mixture_or_task("glue_two_say_it")
    orders = [
        texts(task.get_dataset(LENGTHS, split="train", seed=seed), vocabulary)
        for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert collections.Counter(orders[0]) == collections.Counter(orders[2])


def test_the_mixture_samples_by_the_caps(registered, vocabulary):
    found = seqio.get_mixture_or_task(registered)
    assert registered == "both"
    rates = {task.name: found.get_rate(task) for task in found.tasks}
    assert rates == {"one_say_it": 3.0, "glue_two_say_it": 9.0}
    dataset = found.get_dataset(LENGTHS, split="train", seed=0, num_epochs=None)
    drawn = texts(dataset.take(400), vocabulary)
    share = sum("film" in inputs for inputs, _ in drawn) / len(drawn)
    assert abs(share - 0.25) < 0.11  # five deviations


def test_names_that_are_taken_are_an_error(mixture, registered, vocabulary):
    with pytest.raises(ValueError) as caught:
        seqio_p3.register(mixture, vocabulary=vocabulary)
    assert str(caught.value) == (
        "SeqIO already has 'both' (3 of the names that both needs); register it with "
        "another prefix"
    )
