import json
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfew_jax.data import fewshot, sources

REVIEW = "Review: {{text}} ||| {{answer_choices[label]}}"
QUESTION = "Is it good? {{text}} ||| {{answer_choices[label]}}"


def spec(templates=REVIEW, choices="bad ||| good", **options):
    return fewshot.TaskSpec(templates=templates, choices=choices, **options)


def message_of(rows, task, **options):
    with pytest.raises(ValueError) as caught:
        fewshot.render_rows(rows, task, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_rows_are_rendered_with_every_template():
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": "good"}]
    rendered = fewshot.render_rows(rows, spec([REVIEW, QUESTION]))
    assert [[row.inputs for row in rows] for rows in rendered] == [
        ["Review: a", "Review: b"],
        ["Is it good? a", "Is it good? b"],
    ]
    assert [[row.label for row in rows] for rows in rendered] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    "choices, expected",
    [
        ("bad ||| good", [("bad", "good"), ("bad", "good")]),
        (["bad", "good"], [("bad", "good"), ("bad", "good")]),
        (["bad ||| good", "no ||| yes"], [("bad", "good"), ("no", "yes")]),
    ],
)
def test_choices_are_given_once_or_for_each_template(choices, expected):
    task = spec([REVIEW, QUESTION], choices)
    rendered = fewshot.render_rows([{"text": "a", "label": 1}], task)
    assert [row.choices for [row] in rendered] == expected


@pytest.mark.parametrize(
    "choices, says",
    [
        (["bad ||| good"], "neither a list of choices"),
        (["bad ||| good", "yes"], "neither a list of choices"),
        (["bad", ""], "choice 1 is empty"),
        ([], "no answer choices"),
    ],
)
def test_choices_in_a_mixed_form_are_an_error(choices, says):
    with pytest.raises(ValueError, match=says):
        spec([REVIEW, QUESTION], choices)


def test_a_task_without_templates_is_an_error():
    with pytest.raises(ValueError, match="no templates"):
        spec([])


def test_a_broken_template_among_several_is_named_at_construction():
    with pytest.raises(ValueError, match="template 2 of 2: not a jinja2 template"):
        spec([REVIEW, "{{text"])


def test_a_spec_survives_json():
    task = spec([REVIEW, QUESTION], label_column="gold", name="reviews")
    assert fewshot.TaskSpec.from_dict(json.loads(json.dumps(task.to_dict()))) == task
    with pytest.raises(
        ValueError, match=r"unknown: \['shots'\], missing: \[.choices.\]"
    ):
        fewshot.TaskSpec.from_dict({"templates": "x", "shots": 3})


def test_an_error_names_the_file_and_the_line(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nfine,good\nmeh,so-so\n")
    message = message_of(sources.load_rows(path), spec())
    assert message.startswith(f"{path}, line 3: template 'Review: ")
    assert "label 'so-so' is none of the choices 'bad', 'good'" in message
    assert "row 1: " in message_of([{"text": "a", "label": 0}, {"label": 0}], spec())


def test_a_row_without_label_is_an_error_unless_it_is_to_be_predicted():
    assert "column 'label' has no label; fill in" in message_of(
        [{"text": "a", "label": ""}], spec()
    )
    assert "no column 'label' among 'text'; name the column" in message_of(
        [{"text": "a"}], spec()
    )
    assert "no column 'gold' among 'text', 'label'" in message_of(
        [{"text": "a", "label": 1}], spec(label_column="gold")
    )
    rows = [{"text": "a"}, {"text": "b", "label": "?"}]
    [rendered] = fewshot.render_rows(rows, spec(), with_labels=False)
    assert [row.label for row in rendered] == [None, None]


def test_templates_that_disagree_on_the_label_are_an_error():
    task = spec([REVIEW, QUESTION], ["bad ||| good", "good ||| bad"])
    assert "do not agree on the label" in message_of(
        [{"text": "a", "label": "bad"}], task
    )


def test_no_rows_are_an_error():
    assert "no rows" in message_of([], spec())


# Drawing rows


def test_a_draw_is_the_beginning_of_a_seeded_shuffle():
    labels = [0, 1] * 50
    order = np.arange(100)
    np.random.RandomState(42).shuffle(order)
    np.testing.assert_array_equal(fewshot.draw_shots(labels, 32, 42), order[:32])


@pytest.mark.parametrize("seed", [0, 1, 32, 42, 1024])
@pytest.mark.parametrize("name, num_rows", [("rte", 2490), ("cb", 250), ("copa", 400)])
def test_draws_are_the_published_splits_of_t_few(shared, name, num_rows, seed):
    file = shared / "data" / "tfew_splits" / name / "32_shot" / f"{seed}_seed.jsonl"
    published = [row["idx"] for row in sources.load_rows(file)]
    labels = np.arange(num_rows) % 2
    assert fewshot.draw_shots(labels, 32, seed).tolist() == published


FIRST = {  # of 32 rows, by the number of rows and the seed
    2490: {0: [2325, 1450, 1047, 2390], 42: [1057, 478, 976, 422]},
    250: {1: [67, 249, 230, 161], 32: [17, 127, 233, 23]},
    400: {1024: [114, 218, 372, 105]},
}


@pytest.mark.parametrize("num_rows", FIRST)
def test_draws_begin_as_they_did_when_they_were_compared_with_the_published(num_rows):
    for seed, first in FIRST[num_rows].items():
        drawn = fewshot.draw_shots(np.arange(num_rows) % 2, 32, seed)
        assert drawn[:4].tolist() == first


@pytest.mark.parametrize("num_shots", [0, -1, 11])
def test_a_draw_takes_between_one_and_all_rows(num_shots):
    with pytest.raises(ValueError, match=f"num_shots={num_shots}, but there are 10"):
        fewshot.draw_shots([0, 1] * 5, num_shots, 0)
    assert sorted(fewshot.draw_shots([0, 1] * 5, 10, 0)) == list(range(10))


def test_a_draw_of_a_single_class_is_an_error():
    with pytest.raises(
        ValueError, match="draw of 3 rows, seed 0: all rows have the lab"
    ):
        fewshot.draw_shots([1] * 9, 3, 0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_numpy_does_not_take_is_an_error(seed):
    with pytest.raises(ValueError, match=f"seed {seed} is not between"):
        fewshot.draw_shots([0, 1], 2, seed)


def test_a_lone_row_of_a_class_is_tested_once_like_all_others():
    folds = fewshot.stratified_folds([0] * 49 + [1], 5, seed=0)
    assert sorted(row for _, test in folds for row in test) == list(range(50))
    assert sum(49 in train for train, _ in folds) == 4


def test_a_seed_that_is_no_whole_number_is_an_error():
    with pytest.raises(ValueError, match=r"seed 0\.5 is not a whole number"):
        fewshot.check_seed(0.5)


@pytest.mark.parametrize("template", ["Review: {text}", "{{answer_choices}} ||| bad"])
def test_a_template_that_reads_no_column_is_an_error(template):
    with pytest.raises(ValueError, match=r"reads no column.* written \{\{column\}\}"):
        spec(template)


def test_choices_of_each_row_may_stand_under_the_same_input():
    task = spec("Which is likelier?", "{{choice1}} ||| {{choice2}}")
    [[row]] = fewshot.render_rows([{"choice1": "a", "choice2": "b", "label": 1}], task)
    assert row.choices == ("a", "b")


@hypothesis.given(
    labels=st.lists(st.integers(0, 2), min_size=10, max_size=40),
    num_folds=st.integers(2, 5),
    seed=st.integers(0, 5),
)
def test_folds_test_every_row_once_and_spread_the_classes(labels, num_folds, seed):
    counts = np.bincount(labels, minlength=3)
    hypothesis.assume(np.sort(counts)[-2] > num_folds)
    folds = fewshot.stratified_folds(labels, num_folds, seed)
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(len(labels)))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(len(labels)))
        held_out = np.bincount(np.asarray(labels)[test], minlength=3)
        assert (np.abs(held_out - counts / num_folds) < 1).all()


def test_folds_depend_on_the_seed_alone():
    def tests_of(seed):
        folds = fewshot.stratified_folds([0, 1] * 20, 5, seed)
        return [test.tolist() for _, test in folds]

    assert tests_of(3) == tests_of(3)
    assert tests_of(3) != tests_of(4)


def test_classes_with_fewer_rows_than_folds_are_no_obstacle():
    with_rare = fewshot.stratified_folds([0] * 8 + [1] * 8 + [2], 5, 0)
    assert sorted(np.concatenate([test for _, test in with_rare])) == list(range(17))
    all_rare = fewshot.stratified_folds(list(range(10)), 5, 0)
    assert [len(test) for _, test in all_rare] == [2] * 5


@pytest.mark.parametrize(
    "labels, num_folds, says",
    [
        ([0, 1, 0], 5, "num_folds=5 with 3 rows"),
        ([0, 1, 0], 1, "num_folds=1 with 3 rows"),
        ([0] * 9, 3, "the 9 rows: all rows have the label 0"),
    ],
)
def test_folds_that_cannot_be_made_are_an_error(labels, num_folds, says):
    with pytest.raises(ValueError, match=says):
        fewshot.stratified_folds(labels, num_folds, 0)


def test_a_row_that_is_nested_too_deeply_is_named():
    nested = "x"
    for _ in range(sys.getrecursionlimit()):
        nested = [nested]
    rows = [{"text": "a"}, {"text": "b", "more": nested}]
    message = message_of(rows, spec(), with_labels=False)
    assert message == "row 1: nested too deeply; flatten the row"


@pytest.mark.parametrize(
    "row, choices", [({"text": "\ud800"}, "a ||| b"), ({"text": "a"}, "a ||| b\udfff")]
)
def test_half_a_character_is_refused_with_its_row(row, choices):
    rows = [sources.Row(row, where="new.jsonl, line 7")]
    message = message_of(rows, spec("{{text}}", choices), with_labels=False)
    assert message.startswith("new.jsonl, line 7: \\ud")
    assert "is half of a surrogate pair" in message
