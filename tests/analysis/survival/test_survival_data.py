import numpy as np
import pytest

from analysis.survival.data import SurvivalData, as_risk, pool


def test_event_numbers_become_bool_and_are_counted() -> None:
    data = SurvivalData([5, 3, 8], [1, 0, 1])
    assert data.event.dtype == np.bool_
    assert data.time_days.dtype == np.float64
    assert (data.n, data.n_events) == (3, 2)


def test_the_arrays_given_can_change_without_changing_the_data() -> None:
    days = np.array([1.0, 2.0])
    data = SurvivalData(days, np.array([True, False]))
    days[0] = 99
    assert data.time_days[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        data.time_days[0] = 5


@pytest.mark.parametrize(
    ("days", "event", "message"),
    [
        ([], [], "no patients"),
        ([1, 2], [1], "2 entries but event has 1"),
        ([1, np.nan], [1, 0], "time_days is missing .* 1 of 2 .*position 1"),
        ([1, np.inf], [1, 0], "infinite"),
        ([1, -2], [1, 0], "negative"),
        ([1, 2], [1, 2], "neither 0"),
        ([1, 2], [1, np.nan], "neither 0"),
        ([[1, 2]], [[1, 0]], "one-dimensional"),
        (["a", "b"], [1, 0], "numbers only"),
    ],
)
def test_bad_input_is_refused_in_words(days: list, event: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SurvivalData(days, event)


def test_event_on_the_horizon_day_counts_and_later_ones_are_censored_there() -> None:
    closed = SurvivalData([3, 10, 11], [1, 1, 1]).censored_at(10)
    assert closed.time_days.tolist() == [3, 10, 10]
    assert closed.event.tolist() == [True, True, False]
    with pytest.raises(ValueError, match="horizon_days"):
        closed.censored_at(0)


def test_risk_must_fit_the_patients() -> None:
    data = SurvivalData([1, 2], [1, 0])
    with pytest.raises(ValueError, match="3 entries for 2 patients"):
        as_risk(data, [1, 2, 3])
    with pytest.raises(ValueError, match="risk of run A is missing"):
        as_risk(data, [1, np.nan], "The risk of run A")


def test_subset_and_pool_are_inverse() -> None:
    data = SurvivalData([1, 2, 3], [1, 0, 1])
    halves = data.subset(np.array([True, True, False])), data.subset(np.array([2]))
    assert pool(halves).time_days.tolist() == [1, 2, 3]
    assert pool(halves).event.tolist() == [True, False, True]
