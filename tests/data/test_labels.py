import json

import numpy as np
import pytest

from tfew_jax.data import labels

CHOICES = ("bad", "good", "Not  sure")


@pytest.mark.parametrize(
    "cell, index",
    [
        *[(0, 0), (2, 2), ("1", 1), (" 1 ", 1), (1.0, 1), ("1.0", 1), (np.int64(2), 2)],
        *[("bad", 0), ("good", 1), ("Good", 1), (" GOOD ", 1), ("not sure", 2)],
        *[(None, None), ("", None), ("  ", None), (float("nan"), None)],
        *[(-1, None), ("-1", None), (-1.0, None)],
    ],
)
def test_a_label_is_an_index_a_text_or_nothing(cell, index):
    assert labels.label_index(cell, CHOICES) == index


@pytest.mark.parametrize("cell", [3, "3", -2, 0.5, "goo", "0 1", True, [0], "²"])
def test_a_label_outside_the_choices_names_value_choices_and_indices(cell):
    with pytest.raises(ValueError) as caught:
        labels.label_index(cell, CHOICES)
    message = str(caught.value)
    assert repr(cell) in message
    assert "'bad', 'good', 'Not  sure'" in message
    assert "from 0 to 2" in message


def test_exact_text_wins_over_index_and_over_other_spellings():
    assert labels.label_index("US", ("us", "US")) == 1
    with pytest.raises(ValueError, match="'Us' is none of"):
        labels.label_index("Us", ("us", "US"))


def test_where_choices_are_integers_cells_are_their_texts_only():
    stars = ("1", "2", "3")
    assert [labels.label_index(c, stars) for c in (1, "2", "3")] == [0, 1, 2]
    with pytest.raises(ValueError, match="label 0 is none"):
        labels.label_index(0, stars)


def test_booleans_are_texts_first_and_then_indices_of_two_choices():
    assert labels.label_index(True, ("no", "yes")) == 1
    assert labels.label_index(False, ("no", "yes")) == 0
    assert labels.label_index(True, ("true", "false")) == 0


def test_many_choices_are_not_all_shown():
    with pytest.raises(ValueError, match=r"'c11' and 65 more"):
        labels.label_index("x", [f"c{i}" for i in range(77)])


def test_a_label_indexes_compares_and_prints():
    label = labels.Label(1, "good")
    assert ["a", "b"][label] == "b"
    assert label == 1 and label == "good" and label != 0 and label != "bad"
    assert f"{label!s}" == "good"
    assert {0: "a", 1: "b"}[label] == "b"
    assert json.dumps(int(label)) == "1"
