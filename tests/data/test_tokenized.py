import json

import numpy as np
import pytest

from tfew_jax.data import fewshot, templates, tokenized

TEXTS = ["good film", "bad story", "it was a very good film", "what ☃ film", "so bad"]
LABELS = [1, 0, 1, 1, 0]


def rendered(texts=TEXTS, labels=LABELS, choices=("no", "yes", "not sure")):
    pairs = zip(texts, labels, strict=True)
    return [[templates.Rendered(text, choices, label) for text, label in pairs]]


def test_rows_become_ids_and_choices_are_padded(words):
    rows = tokenized.tokenize(rendered(), words)
    assert rows.num_rows == 5 and rows.num_templates == 1 and rows.num_choices == 3
    assert [ids.tolist() for ids in rows.inputs[0]] == [words.encode(t) for t in TEXTS]
    assert rows.label.tolist() == LABELS
    longest = len(words.encode("not sure"))
    expected = np.zeros((1, 3, longest), np.int32)
    for number, choice in enumerate(("no", "yes", "not sure")):
        ids = words.encode(choice)
        expected[0, number, : len(ids)] = ids
    np.testing.assert_array_equal(rows.choice_sets, expected)
    assert rows.choice_sets.dtype == np.int32
    assert rows.choice_masks.all()


def test_rows_with_fewer_choices_are_masked(words):
    rows = [
        templates.Rendered("good film", ("no", "yes"), 1),
        templates.Rendered("bad film", ("no", "yes", "not sure"), 2),
    ]
    result = tokenized.tokenize([rows], words)
    assert result.choice_masks[result.choice_set[0]].tolist() == [
        [True, True, False],
        [True, True, True],
    ]
    assert not result.choice_sets[result.choice_set[0, 0], 2].any()
    assert result.class_names is None
    assert result.report().class_counts == {"0": 0, "1": 1, "2": 1}


def test_the_end_of_sequence_of_inputs_can_be_left_out_but_not_of_choices(words):
    rows = tokenized.tokenize(rendered(), words, input_eos=False)
    assert all(1 not in ids for ids in rows.inputs[0])
    assert (rows.choice_sets == 1).sum() == 3


def test_a_sentinel_may_stand_before_every_choice_and_names_stay(words):
    plain = tokenized.tokenize(rendered(), words)
    rows = tokenized.tokenize(rendered(), words, target_prefix="<extra_id_0>")
    assert (rows.choice_sets[:, :, 0] == words.sentinel(0)).all()
    np.testing.assert_array_equal(rows.choice_sets[:, :, 1:], plain.choice_sets)
    assert rows.class_names == plain.class_names


def test_cut_rows_are_counted(words):
    limits = {"inputs": 5, "targets": 3}
    rows = tokenized.tokenize(
        rendered(choices=("no", "not sure yes")), words, feature_lengths=limits
    )
    lengths = [len(words.encode(text)) for text in TEXTS]
    assert max(len(ids) for ids in rows.inputs[0]) == 5
    assert all(ids[-1] == 1 for ids in rows.inputs[0])
    report = rows.report()
    assert report.num_cut_inputs == sum(length > 5 for length in lengths) > 0
    assert report.num_cut_choices == 5
    notes = " ".join(report.notes())
    assert f"{report.num_cut_inputs} of 5 rows have inputs longer than 5" in notes
    assert "5 of 5 rows have choices longer than 3 tokens" in notes
    assert tokenized.tokenize(rendered(), words).report().num_cut_inputs == 0


def test_the_share_of_unknown_tokens_is_reported(words):
    report = tokenized.tokenize(rendered(), words).report()
    num_tokens = sum(len(words.encode(text)) for text in TEXTS)
    assert report.unknown_share == 1 / num_tokens
    assert any("<unk>" in note for note in report.notes())
    spelled = tokenized.tokenize(rendered(["a", "b"], [0, 1], ("no", "yes")), words)
    assert spelled.report().notes() == []


def test_a_class_without_rows_is_noted(words):
    report = tokenized.tokenize(rendered(), words).report()
    assert report.class_counts == {"no": 2, "yes": 3, "not sure": 0}
    assert "no row has the label 'not sure'" in report.notes()


def test_rows_without_label_have_label_minus_one(words):
    rows = tokenized.tokenize(rendered(labels=[None] * 5), words)
    assert rows.label.tolist() == [-1] * 5
    assert rows.report().num_unlabelled == 5
    assert not any("no row has the label" in note for note in rows.report().notes())


def test_a_report_is_json(words):
    report = tokenized.tokenize(rendered(), words).report()
    assert json.loads(json.dumps(report.to_dict()))["num_rows"] == 5


def test_taking_rows_keeps_ids_and_the_common_shapes(words):
    rows = tokenized.tokenize(rendered(), words)
    taken = rows.take([3, 0])
    assert taken.example_id.tolist() == [3, 0]
    assert taken.label.tolist() == [1, 1]
    assert [ids.tolist() for ids in taken.inputs[0]] == [
        words.encode(TEXTS[3]),
        words.encode(TEXTS[0]),
    ]
    assert taken.choice_sets.shape == rows.choice_sets.shape
    np.testing.assert_array_equal(taken.all_lengths, rows.all_lengths)
    assert taken.report().num_rows == 2
    assert taken.take([1]).example_id.tolist() == [0]


def test_several_templates_share_labels_and_may_have_choices_of_their_own(words):
    task = fewshot.TaskSpec(
        templates=["{{text}}", "what {{text}}"],
        choices=["bad ||| good", "no ||| not sure"],
    )
    rows = [{"text": "film", "label": 1}, {"text": "story", "label": 0}]
    result = tokenized.tokenize(fewshot.render_rows(rows, task), words)
    assert result.num_templates == 2
    assert result.choice_set.tolist() == [[0, 0], [1, 1]]
    assert result.class_names == ("bad", "good")
    assert result.inputs[1][0].tolist() == words.encode("what film")


@pytest.mark.parametrize("limits", [{"inputs": 1}, {"targets": 0}, {"input": 64}])
def test_limits_that_make_no_sense_are_an_error(words, limits):
    with pytest.raises(ValueError, match="TASK_FEATURE_LENGTHS is"):
        tokenized.tokenize(rendered(), words, feature_lengths=limits)


def test_a_limit_is_a_whole_number():
    with pytest.raises(ValueError, match=r"64\.5.* and a whole number"):
        tokenized.limits_of({"inputs": 64.5})


def test_choices_the_vocabulary_cannot_tell_apart_are_an_error(words):
    with pytest.raises(ValueError, match="have the same tokens"):
        tokenized.tokenize(rendered(choices=("yes ☃", "yes ☂")), words)
    with pytest.raises(ValueError, match="within 2 tokens"):
        choices = ("not sure", "not yes")
        tokenized.tokenize(
            rendered(choices=choices), words, feature_lengths={"targets": 2}
        )


def test_no_rows_are_an_error(words):
    for nothing in ([], [[]]):
        with pytest.raises(ValueError, match="no rows to tokenise"):
            tokenized.tokenize(nothing, words)
