"""How a plan's figures are said, the same in every report and commit message."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from advisor.contract import BackTest, HourRange

MIB_PER_GIB: Final = 1024
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FINDING_TITLES: Final = {
    "idle_quota": "idle quota",
    "complementary_peaks": "complementary peaks",
    "train_beside_inference": "train beside inference",
}


def gibibytes(memory_mib: float) -> str:
    """MiB as GiB with at most one decimal, below 1 GiB as MiB."""
    if abs(memory_mib) < MIB_PER_GIB:
        return f"{memory_mib:.0f} MiB"
    return f"{memory_mib / MIB_PER_GIB:.1f}".removesuffix(".0") + " GiB"


def backtest_short(backtest: BackTest | None) -> str:
    """A back-test for a table cell: share of time violated, and on how many later days."""
    return "-" if backtest is None else f"{backtest.violated_ratio * 100:.2f} % on next {backtest.test_days:.1f} d"


def backtest_sentence(backtest: BackTest | None) -> str:
    """A back-test in one clause."""
    if backtest is None:
        return "none, the history is too short to split"
    return (
        f"{backtest.label}: {backtest.violated_ratio * 100:.2f} % of the time above, "
        f"{backtest.hit_ratio * 100:.1f} % of those judged hit, at a grain of {backtest.resolution_seconds} s"
    )


def hour_ranges(windows: Iterable[HourRange]) -> str:
    """Windows of a week, days with equal hours put together: ``Mon-Fri 00-07+20-24, Sat+Sun 00-24``."""
    hours_by_day: dict[int, list[str]] = defaultdict(list)
    for window in sorted(windows, key=lambda window: (window.weekday, window.start_hour)):
        hours_by_day[window.weekday].append(f"{window.start_hour:02d}-{window.end_hour:02d}")
    days_by_hours: dict[str, list[int]] = defaultdict(list)
    for day, hours in hours_by_day.items():
        days_by_hours["+".join(hours)].append(day)
    return ", ".join(f"{_days(days)} {hours}" for hours, days in days_by_hours.items())


def _days(days: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for day in days:
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    names = []
    for run in runs:
        join = "-" if len(run) > 2 else "+"
        names.append(WEEKDAYS[run[0]] if len(run) == 1 else f"{WEEKDAYS[run[0]]}{join}{WEEKDAYS[run[-1]]}")
    return "+".join(names)


def day_and_hour(time_ms: int, time_zone: str) -> str:
    """An instant as ``2026-03-01 14:00`` in the plan's time zone, in UTC where the machine does not know the zone."""
    return datetime.fromtimestamp(time_ms / 1000, _zone(time_zone)).strftime("%Y-%m-%d %H:%M")


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def count(number: int, noun: str) -> str:
    """``1 card``, ``2 cards``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
