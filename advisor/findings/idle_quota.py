"""Idle quota: the slice a workload needs, from its peak, its history and its growth.

Memory cannot be squeezed, so its slice comes from the greatest use ever seen; any percentile below it failed on unseen
data for most workloads. Compute can wait, so a high percentile per hour of the week is enough.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from advisor.demand import (
    CORE_UNITS,
    HOURS_PER_WEEK,
    Bools,
    Doubles,
    Facts,
    Fleet,
    Floats,
    Ints,
    growth_per_day,
    history_days,
    peaks,
    span,
    trend_level,
)
from advisor.settings import AdvisorSettings
from advisor.wording import gibibytes

_HISTORY_DAYS: Final = (3.0, 5.0, 7.0, 10.0, 14.0, 21.0)
_MULTIPLIERS: Final = (4.0, 2.5, 2.0, 1.75, 1.3, 1.0)
"""Multiplier on the peak by days of history, measured on a real trace at equal share of violations. Between the days
it is interpolated, so that one day more of history never moves a slice by a jump. At 14 days 1.2 is enough over all
workloads, but only 1.3 keeps the changed ones below 0.05 % of their time in every rolling origin."""

_CONSTANT_WITHIN: Final = 0.97
_CONSTANT_HOUR_RATIO: Final = 0.9
"""Use is constant when so many of its hours lie within 3 % of the peak."""

PERCENT_UNITS: Final = CORE_UNITS // 100


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Per workload of a fleet, [n] each: what it may use now (``before``), what it should (``after``), and why not.

    Memory in MiB, compute in percent of a card. ``after`` equals ``before`` where nothing is changed; ``before_memory``
    is the whole card where no quota is known. ``advised`` = the rule stands by ``after`` and is judged by it (with a
    least change of 0 also where it needs the whole quota). ``refusals[i]`` is empty, or says why workload i is not to
    be judged; ``trend`` = memory to which the last week's growth leads while the advice holds; ``preallocating`` =
    constant use near the quota, as of frameworks that allocate all at start.
    """

    before_memory: Ints
    before_core: Ints
    after_memory: Ints
    after_core: Ints
    memory_advised: Bools
    core_advised: Bools
    memory_peak: Floats
    core_peak: Floats
    history: Doubles
    growth: Doubles
    trend: Doubles
    preallocating: Bools
    refusals: tuple[str, ...]

    @property
    def acted(self) -> Bools:
        """Whether the workload's slice is changed."""
        return np.asarray((self.after_memory != self.before_memory) | (self.after_core != self.before_core))


def multiplier(history: Doubles, settings: AdvisorSettings) -> Doubles:
    """Multiplier on the memory peak for each history in days."""
    if settings.slice_rule == "plain":
        return np.full(history.shape, settings.slice_multiplier)
    return np.interp(history, _HISTORY_DAYS, _MULTIPLIERS)


def _memory_needed(fleet: Fleet, history: Doubles, trend: Doubles, settings: AdvisorSettings) -> Doubles:
    """MiB before rounding: multiplier x peak or the trend when the advice ends, the greater, plus the extra."""
    needed = multiplier(history, settings) * np.nan_to_num(peaks(fleet.memory), nan=0.0)
    return needed if settings.slice_rule == "plain" else np.maximum(needed, trend) + settings.slice_extra_mib


def core_percentile(core: Floats, percentile: float) -> Floats:
    """Greatest over the hours of the week of the nearest-rank percentile over the weeks. Shape [n]."""
    workloads, hours = core.shape
    weeks = -(-hours // HOURS_PER_WEEK)
    padded = np.full((workloads, weeks * HOURS_PER_WEEK), np.nan, np.float32)
    padded[:, :hours] = core
    by_hour = np.sort(padded.reshape(workloads, weeks, HOURS_PER_WEEK), axis=1)  # NaN sorts last
    count = (~np.isnan(by_hour)).sum(axis=1, keepdims=True)
    rank = np.maximum(np.ceil(percentile / 100 * count).astype(np.int64), 1) - 1
    return peaks(np.take_along_axis(by_hour, rank, axis=1)[:, 0, :])


def is_constant(memory: Floats, peak: Floats) -> Bools:
    """Whether nearly all observed hours lie at the peak, as with frameworks that allocate once. Shape [n]."""
    near = (memory >= _CONSTANT_WITHIN * peak[:, None]).sum(axis=1)
    seen = (~np.isnan(memory)).sum(axis=1)
    return np.asarray((seen > 0) & (near >= _CONSTANT_HOUR_RATIO * seen))


def size(fleet: Fleet, settings: AdvisorSettings) -> Slices:
    """The slice of every workload of the fleet, made from all its hours."""
    facts = fleet.facts
    quota = np.array([_quota_mib(fact) for fact in facts], np.int64)
    core_quota = np.array([fact.core_quota_percent for fact in facts], np.int64)
    peak, history = peaks(fleet.memory), history_days(fleet.memory)
    growth = growth_per_day(fleet.memory)
    constant = is_constant(fleet.memory, peak)
    refusals = tuple(
        _refusal(fact, (float(peak[i]), float(history[i]), bool(constant[i])), settings) for i, fact in enumerate(facts)
    )
    open_rows = np.array([not reason for reason in refusals], bool)
    trend = trend_level(fleet.memory, growth, days_ahead=settings.validity_days)
    memory = _snapped(
        _memory_needed(fleet, history, trend, settings), settings.memory_grain_mib, settings.memory_floor_mib
    )
    core_high = np.nan_to_num(core_percentile(fleet.core, settings.core_percentile), nan=float(CORE_UNITS))
    core_growth = growth_per_day(fleet.core)
    core_trend = trend_level(fleet.core, core_growth, days_ahead=settings.validity_days)
    core_needed = np.maximum(core_high * settings.core_margin, np.where(core_growth > 0, core_trend, 0.0))
    core = _snapped(core_needed / PERCENT_UNITS, 1, settings.core_floor_percent)
    return Slices(
        before_memory=quota,
        before_core=core_quota,
        after_memory=np.where(open_rows & _large(quota, memory, settings), np.minimum(memory, quota), quota),
        after_core=np.where(open_rows & _large(core_quota, core, settings), np.minimum(core, core_quota), core_quota),
        memory_advised=open_rows & _large(quota, memory, settings),
        core_advised=open_rows & _large(core_quota, core, settings),
        memory_peak=peak,
        core_peak=peaks(fleet.core),
        history=history,
        growth=growth,
        trend=trend,
        preallocating=constant & (peak >= settings.preallocated_min_ratio * quota) & (quota > 0),
        refusals=refusals,
    )


def _quota_mib(fact: Facts) -> int:
    return fact.memory_quota_mib or fact.card_memory_mib or 0


def _snapped(needed: Doubles, grain: int, floor: int) -> Ints:
    up = (np.ceil(needed / grain - 1e-9) * grain).astype(np.int64)
    return np.maximum(up, floor)


def _large(before: Ints, needed: Ints, settings: AdvisorSettings) -> Bools:
    """A change is worth a restart when it gives back the least share; a slice is never raised above its quota."""
    return np.asarray(before - np.minimum(needed, before) >= settings.change_min_ratio * before)


def _refusal(fact: Facts, seen: tuple[float, float, bool], settings: AdvisorSettings) -> str:
    """Why the slice must not be judged, with figures; empty if it may. ``seen`` = peak, history, constant."""
    peak, history, constant = seen
    quota = _quota_mib(fact)
    reason = general_refusal(fact, history, settings)
    if reason:
        return reason
    if quota == 0:
        return "no memory quota and no size of the card is known"
    share = f"{peak / quota:.0%}"
    if peak > quota:
        figures = f"{gibibytes(peak)} of {gibibytes(quota)}"
        return f"uses {share} of its quota ({figures}): the quota is not enforced, raise it first"
    if constant and peak >= settings.preallocated_min_ratio * quota:
        return f"constant at {share} of quota: pre-allocating framework, its memory use tells nothing"
    return ""


def general_refusal(fact: Facts, history: float, settings: AdvisorSettings) -> str:
    """Reasons that hold for every kind of advice; empty if there is none."""
    if fact.advice_off:
        return "opted out of advice"
    if fact.live_replicas == 0:
        return "no live replica on the last day"
    if history < settings.history_min_days:
        return f"history {span(history)} < {span(settings.history_min_days)}"
    if fact.observed_ratio < settings.observed_min_ratio:
        return f"unobserved {1 - fact.observed_ratio:.0%} of the time"
    return ""
