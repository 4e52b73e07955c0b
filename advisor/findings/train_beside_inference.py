"""Train beside inference: hours of the week in which a workload is idle and its card has memory to spare.

A forecast finds long clean windows, a confirmation keeps false idleness low: within the windows a job starts once the
workload was idle for an hour, and stops at the first busy moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from advisor.backtest import Later
from advisor.contract import HourRange
from advisor.demand import HOURS_PER_DAY, HOURS_PER_WEEK, Bools, Fleet, Floats, Ints, peaks
from advisor.settings import AdvisorSettings
from egpu_runtime.contract.units import HOUR_MS, SECOND_MS

_SECONDS_PER_HOUR: Final = 3600
_JOB_SUFFIX: Final = "Job"


_ASLEEP_RATIO_MAX: Final = 0.95
"""Who sleeps longer is an idle service, not one with a night."""

_AT_WORK_RATIO_MIN: Final = 0.95
"""Share of its waking hours in which a workload with a rhythm works."""


@dataclass(frozen=True, slots=True)
class Harvest:
    """What the rule took on some data: hours run on one card, hours of those in which a member was busy, all hours."""

    hours_run: float
    hours_busy: float
    hours_of_data: float

    @property
    def false_idle_ratio(self) -> float:
        return self.hours_busy / self.hours_run if self.hours_run else 0.0

    @property
    def hours_per_week(self) -> float:
        return self.hours_run / self.hours_of_data * HOURS_PER_WEEK if self.hours_of_data else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Tenancy:
    """Workloads on one kind of card of theirs alone: rows in the fleet, how many such cards, memory of one."""

    rows: Ints
    cards: int
    capacity_mib: int


def serves(kind: str) -> bool:
    """Whether a kind of workload serves rather than runs to an end: Job, CronJob, PyTorchJob and their like do not."""
    return not kind.endswith(_JOB_SUFFIX)


def hours_of_week(start_ms: int, count: int, time_zone: str) -> Ints:
    """Hour of the week, 0-167 from Monday 00:00 in the zone, of each of ``count`` hours from ``start_ms``."""
    zone = ZoneInfo(time_zone)
    first = datetime.fromtimestamp(start_ms / 1000, UTC)
    local = ((first + timedelta(hours=hour)).astimezone(zone) for hour in range(count))
    return np.fromiter((moment.weekday() * HOURS_PER_DAY + moment.hour for moment in local), np.int64, count)


def week_maxima(use: Floats, week_hour: Ints) -> Floats:
    """Greatest use at each hour of the week, [n, 168]; NaN where that hour was never observed."""
    shape = np.full((use.shape[0], HOURS_PER_WEEK), np.nan, np.float32)
    for hour in np.unique(week_hour):
        shape[:, hour] = peaks(use[:, week_hour == hour])
    return shape


def sleepers(fleet: Fleet, settings: AdvisorSettings) -> Bools:
    """Workloads that serve by a rhythm: no compute at all at the same hours of every week, some at all others. [n]

    Use now and then is no rhythm, and who sleeps nearly always is an idle service.
    """
    week_hour = hours_of_week(fleet.start_ms, fleet.hours, settings.time_zone)
    asleep = week_maxima(fleet.core, week_hour) == 0
    sleep_hours = asleep.sum(axis=1)
    awake = ~asleep[:, week_hour] & ~np.isnan(fleet.core)
    at_work = (awake & (fleet.core > 0)).sum(axis=1)
    serving = np.array([serves(key.kind) for key in fleet.keys], bool)
    return np.asarray(
        serving
        & (sleep_hours >= settings.sleeper_week_min_hours)
        & (sleep_hours <= _ASLEEP_RATIO_MAX * HOURS_PER_WEEK)
        & (at_work >= _AT_WORK_RATIO_MIN * awake.sum(axis=1))
    )


def all_idle(core: Floats, limits: Floats) -> tuple[Bools, Bools]:
    """Whether every member is idle, and whether every member was observed. ``core`` [members, windows]."""
    return np.asarray((core <= limits[:, None]).all(axis=0)), np.asarray(~np.isnan(core).any(axis=0))


def idle_limits(core: Floats, settings: AdvisorSettings) -> Floats:
    """Use up to which each member is idle: a share of its own peak; nothing where it was never observed. [members]"""
    return np.asarray(np.nan_to_num(peaks(core)) * np.float32(settings.idle_peak_ratio), np.float32)


def open_hours(fleet: Fleet, tenancy: Tenancy, settings: AdvisorSettings, *, memory_free_mib: int) -> Bools:
    """Hours of the week, [168], in which a job may run on the tenancy's cards.

    All members idle in ``idle_hour_min_ratio`` of the weeks that were observed, ``memory_free_mib`` free in all of
    them, and part of a long enough run.
    """
    core, memory = fleet.core[tenancy.rows], fleet.memory[tenancy.rows]
    week_hour = hours_of_week(fleet.start_ms, fleet.hours, settings.time_zone)
    is_idle, seen = all_idle(core, idle_limits(core, settings))
    idle_count = np.bincount(week_hour, is_idle, HOURS_PER_WEEK)
    seen_count = np.bincount(week_hour, seen, HOURS_PER_WEEK)
    often = (seen_count > 0) & (idle_count >= settings.idle_hour_min_ratio * seen_count)
    used = np.nansum(week_maxima(memory, week_hour), axis=0)
    fits = tenancy.capacity_mib - used >= memory_free_mib
    return long_runs(often & fits, settings.train_window_min_hours)


def free_memory_mib(fleet: Fleet, tenancy: Tenancy, settings: AdvisorSettings, *, open_hour: Bools) -> int:
    """Memory of a card that no member ever used in the open hours, MiB."""
    week_hour = hours_of_week(fleet.start_ms, fleet.hours, settings.time_zone)
    used = np.nansum(week_maxima(fleet.memory[tenancy.rows], week_hour), axis=0)
    return int(tenancy.capacity_mib - used[open_hour].max(initial=0.0))


def idle_ratio(fleet: Fleet, tenancy: Tenancy, settings: AdvisorSettings) -> float:
    """Share of the observed hours in which all members were idle."""
    core = fleet.core[tenancy.rows]
    is_idle, seen = all_idle(core, idle_limits(core, settings))
    return float(is_idle.sum() / max(int(seen.sum()), 1))


def long_runs(open_hour: Bools, hours_min: int) -> Bools:
    """Only the runs of at least ``hours_min`` hours in a circular week, [168]."""
    if open_hour.all() or not open_hour.any():
        return open_hour
    start = int(np.argmin(open_hour))  # a closed hour: counted from here no run goes around the end
    turned = np.roll(open_hour, -start)
    kept = np.zeros_like(turned)
    for first, end in _runs(turned):
        kept[first:end] = end - first >= hours_min
    return np.roll(kept, start)


def _runs(open_hour: Bools) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], open_hour.astype(np.int8), [0]])))
    return ((int(first), int(end)) for first, end in edges.reshape(-1, 2))


def ranges(open_hour: Bools) -> Iterator[HourRange]:
    """The open hours of a week, [168], as ranges within each weekday."""
    for weekday in range(HOURS_PER_WEEK // HOURS_PER_DAY):
        day = open_hour[weekday * HOURS_PER_DAY : (weekday + 1) * HOURS_PER_DAY]
        for first, end in _runs(day):
            yield HourRange(weekday, first, end)


def harvest(later: Later, rows: Ints, open_hour: Bools, *, limits: Floats, settings: AdvisorSettings) -> Harvest:
    """What the rule takes on one card: start after the confirmation, stop at the first busy window.

    The busy window at which a job stops counts as run and as busy. Unobserved windows stop it and count as neither.
    ``limits`` [members] = use up to which each member is idle, made from earlier data.
    """
    is_idle, seen = all_idle(later.core[rows], limits)
    position = np.arange(len(is_idle))
    last_not_idle = np.maximum.accumulate(np.where(is_idle, -1, position))
    streak = np.concatenate([[0], (position - last_not_idle)[:-1]])[: len(position)]
    confirm = -(-settings.idle_confirm_minutes * 60 // later.step_seconds)
    running = _within(later, open_hour, settings) & (streak >= confirm) & seen
    hours = later.step_seconds / _SECONDS_PER_HOUR
    return Harvest(float(running.sum() * hours), float((running & ~is_idle).sum() * hours), len(position) * hours)


def _within(later: Later, open_hour: Bools, settings: AdvisorSettings) -> Bools:
    """Per window of ``later``: whether it lies in an open hour of the week."""
    windows = later.core.shape[1]
    first_hour = later.start_ms // HOUR_MS
    hour = (later.start_ms + np.arange(windows) * later.step_seconds * SECOND_MS) // HOUR_MS - first_hour
    count = int(hour[-1]) + 1 if windows else 0
    return np.asarray(open_hour[hours_of_week(first_hour * HOUR_MS, count, settings.time_zone)[hour]], bool)
