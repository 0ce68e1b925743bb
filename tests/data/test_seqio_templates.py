"""SeqIO tasks of templates, over a few rows and templates of our own."""

import json

import numpy as np
import pytest

seqio = pytest.importorskip("seqio")

from tfew_jax.data import seqio_cache, seqio_tasks, seqio_templates  # noqa: E402

HEAD = "dataset: super_glue\nsubset: {name}\ntemplates:\n"
TEMPLATE = """\
  {key}: !Template
    answer_choices: {choices}
    id: {key}
    jinja: '{jinja}'
    metadata: !TemplateMetadata {{original_task: {original}}}
    name: {name}
    reference: ''
"""


def template(key, name, jinja, choices="Yes ||| No", original="true"):
    texts = {"name": json.dumps(name), "choices": json.dumps(choices)}
    return TEMPLATE.format(key=key, jinja=jinja, original=original, **texts)


def write_templates(folder, name, *texts):
    path = folder / "super_glue" / name / "templates.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(HEAD.format(name=name) + "".join(texts), encoding="utf-8")


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def rte(number, label):
    premise = f"film {number}"
    return {"premise": premise, "hypothesis": "bad", "label": label, "idx": number}


def copa(number):
    question = ("cause", "effect")[number % 2]
    sides = {"premise": "it was", "choice1": "good", "choice2": "bad"}
    return {**sides, "question": question, "label": number % 2, "idx": number}


LABELS = ["entailment", "not_entailment", "not_entailment"]


@pytest.fixture
def registered(tmp_path, make_vocabulary, monkeypatch):
    """The names of the tasks of RTE and COPA, with two and ten templates."""
    monkeypatch.setattr(seqio.TaskRegistry, "_REGISTRY", {})
    monkeypatch.setattr(seqio.MixtureRegistry, "_REGISTRY", {})
    for file in ("train", "val"):
        rows = [rte(*numbered) for numbered in enumerate(LABELS)]
        write_rows(tmp_path / "RTE" / f"{file}.jsonl", rows)
    test = [rte(n, None) for n in range(2)]
    write_rows(tmp_path / "RTE" / "test.jsonl", test)
    write_rows(tmp_path / "COPA" / "val.jsonl", map(copa, range(5)))
    ask = "{{premise}} ? {{hypothesis}} ||| {{answer_choices[label]}}"
    write_templates(
        tmp_path / "templates",
        "rte",
        template("a", "does it follow?", ask, "yes ||| no"),
        template("b", "a film", ask, "very good ||| bad"),
        template("c", "other task", ask, original="false"),
    )
    half = '{% if question == "cause" %}why {{premise}} ||| {{choice1}}{% endif %}'
    sides = "{{choice1}} ||| {{choice2}}"
    write_templates(
        tmp_path / "templates",
        "copa",
        *(template(f"k{n}", f"t{n}", "a ||| {{choice1}}", sides) for n in range(8)),
        template("k8", "…why", half, sides),
        template("k9", "…what", half, sides),
    )
    vocabulary = seqio_tasks.load_vocabulary(make_vocabulary())
    return seqio_templates.register(
        tmp_path, vocabulary, tmp_path / "templates", sets=("rte", "copa")
    )


def read(name, split="validation"):
    task = seqio.get_mixture_or_task(name)
    dataset = task.get_dataset(None, split=split, shuffle=False)
    return list(dataset.as_numpy_iterator())


def test_templates_of_the_original_task_have_tasks_and_score_evaluations(registered):
    names = [name for name in registered if "_rte" in name]
    assert names == [
        "tfew_super_glue_rte_a_film",
        "tfew_super_glue_rte_a_film_score_eval",
        "tfew_super_glue_rte_does_it_follow",
        "tfew_super_glue_rte_does_it_follow_score_eval",
        "tfew_super_glue_rte_all",
        "tfew_super_glue_rte_all_score_eval",
    ]
    mixture = seqio.MixtureRegistry.get("tfew_super_glue_rte_all")
    assert [(t.name, mixture.get_rate(t)) for t in mixture.tasks] == [
        ("tfew_super_glue_rte_a_film", 1.0),
        ("tfew_super_glue_rte_does_it_follow", 1.0),
    ]


def test_names_tell_the_rounds_of_anli_apart():
    name = seqio_templates.task_name("anli-r2", "GPT-3 style")
    assert name == "tfew_anli_r2_GPT_3_style"
    name = seqio_templates.task_name("wsc", "…p is/are r")
    assert name == "tfew_super_glue_wsc.fixed_p_is_are_r"


def test_a_task_has_the_text_of_its_template(registered):
    examples = read("tfew_super_glue_rte_does_it_follow")
    texts = [(e["inputs_pretokenized"], e["targets_pretokenized"]) for e in examples]
    assert texts == [
        (b"film 0 ? bad", b"yes"),
        (b"film 1 ? bad", b"no"),
        (b"film 2 ? bad", b"no"),
    ]


def test_score_evaluation_has_all_choices_in_their_order(registered):
    examples = read("tfew_super_glue_rte_a_film_score_eval")
    assert [tuple(e["idx"]) for e in examples] == [
        (r, c) for r in range(3) for c in (0, 1)
    ]
    assert [e["targets_pretokenized"] for e in examples] == [b"very good", b"bad"] * 3
    assert [int(e["is_correct"]) for e in examples] == [1, 0, 0, 1, 0, 1]


def test_rows_without_a_label_have_no_target_and_no_correct_choice(registered):
    examples = read("tfew_super_glue_rte_a_film", "test")
    assert [e["targets_pretokenized"] for e in examples] == [b"<unk>"] * 2
    examples = read("tfew_super_glue_rte_a_film_score_eval", "test")
    assert not any(e["is_correct"] for e in examples)
    assert len(examples) == 4


def test_rows_that_a_template_does_not_apply_to_are_left_out(registered):
    assert len(read("tfew_super_glue_copa_why")) == 3  # causes among five rows
    assert len(read("tfew_super_glue_copa_t0")) == 5
    mixture = seqio.MixtureRegistry.get("tfew_super_glue_copa_all")
    expected = [f"tfew_super_glue_copa_t{n}" for n in range(8)]
    assert [task.name for task in mixture.tasks] == expected


def evaluate(name, **functions):
    evaluator = seqio.Evaluator(
        mixture_or_task_name=name,
        feature_converter=seqio.EncDecFeatureConverter(pack=False),
        eval_split="validation",
        seed=0,
    )
    nothing = {"predict_fn": lambda dataset: None, "score_fn": lambda dataset: None}
    metrics, _ = evaluator.evaluate(
        compute_metrics=True, step=0, **{**nothing, **functions}
    )
    return metrics.result()[name]


def test_scores_decide_by_sum_and_by_mean(registered):
    name = "tfew_super_glue_rte_a_film_score_eval"
    lengths = [len(e["targets"]) for e in read(name)]
    # By the sum "bad" wins everywhere, as it has fewer tokens; by the mean it loses.
    assert lengths[0] > lengths[1]
    means = [-0.99, -1.0]
    values = [means[i % 2] * length for i, length in enumerate(lengths)]

    def score(dataset):
        return [(int(i), values[int(i)]) for i, _ in dataset.as_numpy_iterator()][::-1]

    assert evaluate(name, score_fn=score) == {
        "accuracy": pytest.approx(2 / 3),
        "accuracy_by_mean": pytest.approx(1 / 3),
    }


def test_generated_texts_are_measured_by_equality(registered):
    name = "tfew_super_glue_rte_does_it_follow"
    (metric,) = seqio.TaskRegistry.get(name).metric_fns
    assert metric(["yes", "no"], ["yes", "not"]) == {"accuracy": 0.5}


def test_a_cached_score_evaluation_equals_the_uncached_one(registered, tmp_path):
    name = "tfew_super_glue_rte_a_film_score_eval"
    task = seqio.TaskRegistry.get(name)
    before = seqio.get_global_cache_dirs()
    plain = read(name)
    seqio_cache.write(name, tmp_path / "cache", num_shards=2)
    try:
        seqio.set_global_cache_dirs([str(tmp_path / "cache")])
        dataset = task.get_dataset(
            None, split="validation", shuffle=False, use_cached=True
        )
        cached = list(dataset.as_numpy_iterator())
    finally:
        seqio.set_global_cache_dirs(list(before))
    assert len(cached) == len(plain) == 6
    for one, other in zip(cached, plain, strict=True):
        for feature, value in other.items():
            np.testing.assert_array_equal(one[feature], value)


def test_an_unknown_set_is_an_error(tmp_path, make_vocabulary):
    vocabulary = seqio_tasks.load_vocabulary(make_vocabulary())
    with pytest.raises(ValueError, match="unknown set 'nli'"):
        seqio_templates.register(tmp_path, vocabulary, tmp_path, sets=("nli",))
