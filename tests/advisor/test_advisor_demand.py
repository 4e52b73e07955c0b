"""Peaks, history, growth and gaps of demand, with numbers."""

import numpy as np
import pytest

from advisor.demand import daily_peaks, filled, growth_per_day, history_days, peaks, span

NAN = np.nan


def hourly(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def days(*daily: float) -> np.ndarray:
    """One workload whose peak of each day is given; half of it in the other hours."""
    return np.concatenate([np.r_[np.full(23, value / 2), value] for value in daily])[None, :].astype(np.float32)


def check(given: object, expected: object) -> None:
    assert np.array_equal(np.asarray(given, np.float64), np.asarray(expected, np.float64), equal_nan=True)


def test_history_spans_from_first_to_last_seen_hour() -> None:
    check(history_days(hourly(NAN, 1, NAN, NAN, 1, NAN)), [4 / 24])
    check(history_days(hourly(NAN, NAN)), [0])


def test_peaks_ignore_gaps() -> None:
    check(peaks(hourly(NAN, 3, 7, NAN)), [7])
    check(peaks(hourly(NAN, NAN)), [NAN])


def test_daily_peaks_count_back_from_the_end() -> None:
    use = np.arange(30, dtype=np.float32)[None, :]
    check(daily_peaks(use), [[29]])


@pytest.mark.parametrize(
    ("daily", "slope"),
    [
        (range(100, 128), 1.0),
        ([100] * 14, 0.0),
        (range(128, 100, -1), 0.0),
        ([100] * 13 + [900], 0.0),
        ([10, 20], 0.0),
    ],
    ids=["grows", "flat", "shrinks", "one spike is no growth", "two days tell nothing"],
)
def test_growth(daily: list[float], slope: float) -> None:
    assert growth_per_day(days(*daily))[0] == pytest.approx(slope)


def test_growth_is_not_moved_by_a_spike_or_a_gap() -> None:
    daily = [100.0 + 2 * day for day in range(20)]
    use = days(*daily)
    use[0, 5 * 24 : 6 * 24] = NAN
    use[0, 3 * 24 + 4] = 5000
    assert growth_per_day(use)[0] == pytest.approx(2.0, rel=0.05)


def test_unobserved_is_never_idle() -> None:
    """A gap takes the greatest value at its hour of the week, else the peak."""
    use = np.full((1, 3 * 168), 10, np.float32)
    use[0, 20], use[0, 168 + 20], use[0, 336 + 20] = 70, NAN, 30
    use[0, [5, 173, 341]] = NAN
    check(filled(use)[0, [188, 5, 173, 341, 356]], [70, 70, 70, 70, 30])


def test_span_is_said_in_hours_or_days() -> None:
    assert [span(9 / 24), span(3.0), span(19.6)] == ["9 h", "3 d", "19.6 d"]
