import pytest

from tfew_jax.experiment import selection


def test_the_best_step_is_the_first_of_the_highest_and_never_before_training():
    assert selection.best_step({0: 0.9, 10: 0.2, 20: 0.7, 30: 0.7, 40: 0.1}) == 20
    assert selection.best_step({0: 0.9}) is None
    assert selection.best_step({}) is None


@pytest.mark.parametrize(
    "scores, patience, expected",
    [
        ({0: 0.9, 10: 0.5, 20: 0.4}, 2, False),
        ({0: 0.9, 10: 0.5, 20: 0.4, 30: 0.5}, 2, True),  # an equal one is no better
        ({10: 0.5, 20: 0.4, 30: 0.6}, 2, False),
        ({10: 0.5, 20: 0.4, 30: 0.6, 40: 0.1}, 1, True),
        ({10: 0.5, 20: 0.4, 30: 0.3, 40: 0.2}, None, False),
        ({0: 0.5}, 1, False),
        ({}, 1, False),
    ],
)
def test_a_run_stops_after_patience_many_scores_without_a_better_one(
    scores, patience, expected
):
    assert selection.stops(scores, patience) is expected


def test_convergence_is_the_first_step_within_one_percent_of_a_level():
    scores = {0: 0.9, 10: 0.5, 20: 0.7920, 30: 0.80}
    assert selection.first_step_near(scores, 0.8) == 20
    assert selection.first_step_near(scores, 0.805) == 30
    assert selection.first_step_near(scores, 0.9) is None
