"""What workloads needed, hour by hour: the fleet as arrays, its peaks, history and growth.

Memory is in whole MiB and compute in 0.01 % of a card, both rounded before anything else is computed; the arrays are
float32 with NaN for *not observed*, and every sum of such whole numbers below 2**24 is exact, so that a plan does not
depend on the order of additions.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from advisor.contract import WorkloadKey
from egpu_runtime.contract.units import HOUR_MS

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

HOURS_PER_DAY: Final = 24
DAYS_PER_WEEK: Final = 7
HOURS_PER_WEEK: Final = 168
CORE_UNITS: Final = 10_000
"""Compute units of one card: 0.01 %."""

_GROWTH_DAYS_MAX: Final = 28
_GROWTH_SCORE_MIN: Final = 2.0
"""Mann-Kendall score from which daily peaks are called growing; 2 standard deviations."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a workload on its last day. Memory in MiB (None = unknown), compute in percent of a card.

    ``live_replicas`` = 0 when it is gone; ``cards`` = uuids of the cards its live replicas hold.
    """

    memory_quota_mib: int | None
    core_quota_percent: int
    card_memory_mib: int | None
    live_replicas: int
    replicas_per_card_max: int
    cards_per_pod_max: int
    cards: tuple[str, ...]
    advice_off: bool
    observed_ratio: float
    tenant: str


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """All workloads over the same hours: row i of each [n, hours] array belongs to ``keys[i]``.

    ``start_ms`` = first hour, epoch ms UTC. ``memory`` = greatest use of any replica in the hour, MiB; ``core`` =
    nearest-rank p95 of compute use in the hour, 0.01 % of a card. NaN = not observed.
    """

    keys: tuple[WorkloadKey, ...]
    facts: tuple[Facts, ...]
    start_ms: int
    memory: Floats
    core: Floats

    @property
    def hours(self) -> int:
        return int(self.memory.shape[1])

    def between(self, first_hour: int, end_hour: int) -> "Fleet":
        """The same workloads in the hours [first_hour, end_hour) only; facts stay those of the last day."""
        return replace(
            self,
            start_ms=self.start_ms + first_hour * HOUR_MS,
            memory=self.memory[:, first_hour:end_hour],
            core=self.core[:, first_hour:end_hour],
        )

    def only(self, rows: Ints) -> "Fleet":
        """The workloads of ``rows`` (indices), in that order."""
        return replace(
            self,
            keys=tuple(self.keys[row] for row in rows),
            facts=tuple(self.facts[row] for row in rows),
            memory=self.memory[rows],
            core=self.core[rows],
        )


def history_days(memory: Floats) -> Doubles:
    """Days between the first and the last observed hour, both included; 0 where nothing was observed. Shape [n]."""
    seen = ~np.isnan(memory)
    first = seen.argmax(axis=1)
    last = memory.shape[1] - seen[:, ::-1].argmax(axis=1)
    return np.where(seen.any(axis=1), (last - first) / HOURS_PER_DAY, 0.0)


def span(days: float) -> str:
    """A length of history as said in a sentence: hours below two days, else days."""
    return f"{days * HOURS_PER_DAY:.0f} h" if days < 2 else f"{days:.1f}".removesuffix(".0") + " d"


def peaks(use: Floats) -> Floats:
    """Greatest observed value of each row; NaN where nothing was observed. Shape [n]."""
    if use.shape[1] == 0:
        return np.full(use.shape[0], np.nan, np.float32)
    return np.asarray(np.fmax.reduce(use, axis=1), np.float32)


def daily_peaks(use: Floats) -> Floats:
    """Greatest value of each 24 hours, counted back from the last hour (a first part of a day is left out)."""
    days = use.shape[1] // HOURS_PER_DAY
    if days == 0:
        return np.empty((use.shape[0], 0), np.float32)
    whole = use[:, use.shape[1] - days * HOURS_PER_DAY :].reshape(use.shape[0], days, HOURS_PER_DAY)
    return np.asarray(np.fmax.reduce(whole, axis=2), np.float32)


def growth_per_day(use: Floats) -> Doubles:
    """Slope of the daily peaks where they grow, else 0. Shape [n], the unit of ``use`` per day.

    Theil and Sen's median of pairwise slopes over the last 28 daily peaks, counted only where Mann and Kendall's
    score says that the rise is not chance: neither is moved by a single spike. From two weeks on only days of the same
    weekday are compared (the seasonal form of both), so that a weekend is no growth.
    """
    peak = daily_peaks(use)[:, -_GROWTH_DAYS_MAX:]
    days = peak.shape[1]
    if days < 3:
        return np.zeros(peak.shape[0])
    season = DAYS_PER_WEEK if days >= 2 * DAYS_PER_WEEK else 1
    early, late = np.triu_indices(days, 1)
    same = (late - early) % season == 0
    early, late = early[same], late[same]
    rise = peak[:, late] - peak[:, early]
    slopes = np.sort(rise / (late - early).astype(np.float32), axis=1)  # NaN sorts last
    count = (~np.isnan(slopes)).sum(axis=1)
    rows = np.arange(len(slopes))
    middle = np.maximum(count - 1, 0)
    median = (slopes[rows, middle // 2] + slopes[rows, (middle + 1) // 2]) / 2.0
    score = np.nansum(np.sign(rise), axis=1) / np.maximum(np.sqrt(_score_variance(peak, season)), 1.0)
    growing = (count >= 2) & (score >= _GROWTH_SCORE_MIN) & (median > 0)
    return np.where(growing, median, 0.0)


def _score_variance(peak: Floats, season: int) -> Doubles:
    """Variance of Mann and Kendall's score without growth, summed over the seasons. Shape [n]."""
    total: Doubles = np.zeros(peak.shape[0])
    for day in range(season):
        seen = (~np.isnan(peak[:, day::season])).sum(axis=1)
        total += seen * (seen - 1) * (2 * seen + 5) / 18.0
    return total


def trend_level(use: Floats, growth: Doubles, *, days_ahead: int) -> Doubles:
    """Greatest daily peak of the last week, each moved along the growth to ``days_ahead`` after the end. Shape [n].

    0 where nothing was observed in that week. A week, since the day of the week that is fullest comes again.
    """
    peak = daily_peaks(use)[:, -DAYS_PER_WEEK:]
    ahead = days_ahead + np.arange(peak.shape[1])[::-1]
    moved = np.nan_to_num(peak, nan=-np.inf) + growth[:, None] * ahead
    return np.asarray(moved.max(axis=1, initial=0.0), np.float64)


def week_shape(use: Floats) -> Floats:
    """Greatest value at each hour of the week, counted from the first hour. Shape [n, 168], NaN = never observed."""
    shape = np.full((use.shape[0], HOURS_PER_WEEK), np.nan, np.float32)
    for start in range(0, use.shape[1], HOURS_PER_WEEK):
        week = use[:, start : start + HOURS_PER_WEEK]
        shape[:, : week.shape[1]] = np.fmax(shape[:, : week.shape[1]], week)
    return shape


def filled(use: Floats) -> Floats:
    """Hours that were not observed take the greatest value at that hour of the week, else the peak, else 0.

    Unobserved is never idle: a workload that started late counts in full before its start as well.
    """
    missing = np.isnan(use)
    if not missing.any():
        return use
    shape = week_shape(use)
    peak = np.nan_to_num(peaks(use), nan=0.0)
    shape = np.where(np.isnan(shape), peak[:, None], shape)
    week = np.arange(use.shape[1]) % HOURS_PER_WEEK
    return np.where(missing, shape[:, week], use)
