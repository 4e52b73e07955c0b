"""How a plan's figures are said, the same in every report and commit message."""

import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from advisor.contract import BackTest, HourRange, Plan
from advisor.settings import AdvisorSettings

MIB_PER_GIB: Final = 1024
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FINDING_TITLES: Final = {
    "idle_quota": "idle quota",
    "complementary_peaks": "complementary peaks",
    "train_beside_inference": "train beside inference",
}

FALSE_IDLE_MEANING: Final = "the share of the harvested time in which the workload turned out to be busy"
FALSE_IDLE: Final = f"False idle: {FALSE_IDLE_MEANING}."
GROUP_ANNOTATION: Final = (
    "Members whose slices fit need no annotation: they share a card when the scheduler bin-packs them; "
    "members of an oversubscribed group are bound by the annotation."
)

Judged = Literal["slices", "slice", "cards", "card", "hours"]
"""What a back-test is of: all slices or one, all cards or those of one group, or the hours of one train window."""

_KEPT: Final[dict[Judged, str]] = {
    "slices": "no slice was exceeded",
    "slice": "the slice was not exceeded",
    "cards": "no card was exceeded",
    "card": "no card was exceeded",
    "hours": "the workload was never busy",
}
_BROKEN: Final[dict[Judged, str]] = {
    "slices": "{time} of the time above, {hit} of the workloads touched",
    "slice": "{time} of the time above",
    "cards": "{time} of the time above, {hit} of the cards touched",
    "card": "{time} of the time above, {hit} of the cards touched",
    "hours": "the workload was busy in {time} of the harvested time",
}
_NUMBER_AND_UNIT: Final = re.compile(r"(\d) (%|[KMGT]iB|[smhd]\b)")


def percent(ratio: float, digits: int = 0) -> str:
    """A ratio as ``12 %``."""
    return f"{ratio * 100:.{digits}f} %"


def units_together(text: str) -> str:
    """Every number and its unit joined by a no-break space, for text that is about to be wrapped."""
    return _NUMBER_AND_UNIT.sub("\\1\u00a0\\2", text)


def wrapped(text: str, width: int, *, indent: str = "") -> str:
    """Text in lines of ``width`` columns, a number and its unit on one line, later lines after ``indent``."""
    lines = textwrap.fill(
        units_together(text), width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    return lines.replace("\u00a0", " ")


def gibibytes(memory_mib: float) -> str:
    """MiB as GiB with at most one decimal, below 1 GiB as MiB."""
    if abs(memory_mib) < MIB_PER_GIB:
        return f"{memory_mib:.0f} MiB"
    return f"{memory_mib / MIB_PER_GIB:.1f}".removesuffix(".0") + " GiB"


def backtest_short(backtest: BackTest | None, missing: str = "-") -> str:
    """A back-test for a table cell: share of time violated, and on how many later days; ``missing`` without one."""
    return missing if backtest is None else f"{percent(backtest.violated_ratio, 2)} on next {backtest.test_days:.1f} d"


def backtest_sentence(
    backtest: BackTest | None, judged: Judged = "slices", *, missing: str = "none, the history is too short to split"
) -> str:
    """A back-test in one clause; ``missing`` without one."""
    if backtest is None:
        return missing
    windows = f"{duration(backtest.resolution_seconds)} windows"
    if backtest.violated_ratio == 0 and backtest.hit_ratio == 0:
        return f"{backtest.label}: {_KEPT[judged]} in the {backtest.test_days:.1f} days after ({windows})"
    broken = _BROKEN[judged].format(time=percent(backtest.violated_ratio, 2), hit=percent(backtest.hit_ratio, 1))
    return f"{backtest.label}: {broken} ({windows})"


def duration(seconds: int) -> str:
    """A grain as an adjective: ``5-minute``, ``1-hour``, ``15-second``."""
    if seconds % 3600 == 0:
        return f"{seconds // 3600}-hour"
    return f"{seconds // 60}-minute" if seconds % 60 == 0 else f"{seconds}-second"


def group_untested(plan: Plan) -> str:
    """Why a group has no back-test: nothing could be split, or the earlier part did not lead to this group."""
    if plan.slices_backtest is None and plan.packing_backtest is None:
        return "none, the history is too short to split"
    return "not made by the earlier rule"


def origins_missing(plan: Plan) -> str:
    """Why a plan has no rolling origins."""
    train, test = AdvisorSettings.origin_train_days, AdvisorSettings.origin_test_days
    if plan.history_days < train + test:
        return f"none: needs {train} + {test} days of history"
    return "none: not computed"


def resize_facts(plan: Plan) -> str:
    """How many workloads change in memory and how many in compute: ``memory of 5, compute of 27 workloads``."""
    memory = sum(each.before.memory_mib != each.after.memory_mib for each in plan.resizes)
    compute = sum(each.before.core_percent != each.after.core_percent for each in plan.resizes)
    return f"memory of {memory}, compute of {count(compute, 'workload')}"


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
