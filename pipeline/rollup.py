"""Samples of one hour to aggregates by window: each (series, time) counts once, whatever order they came in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from egpu_runtime.contract.units import HOUR_MS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = NDArray[np.int32]
Flags = NDArray[np.bool_]

TIME_BITS: Final = 23
"""Bits of a time within an hour and the window before it, ms: 2 x 3,600,000 < 2**23."""

_TIME_MASK: Final = (1 << TIME_BITS) - 1
_P95: Final = 95


@dataclass(frozen=True, slots=True)
class Grid:
    """The windows of an hour. Times count in ms from one window before the hour; column 0 is that window."""

    window_ms: int

    @property
    def columns(self) -> int:
        """Windows of the hour and the one before it."""
        return HOUR_MS // self.window_ms + 1


@dataclass(frozen=True, slots=True)
class HourSamples:
    """Samples of one hour in any order, three columns of equal length; ``time`` in ms as :class:`Grid` counts."""

    series: Numbers
    time: Numbers
    value: Floats


@dataclass(frozen=True, slots=True)
class Sorted:
    """Samples sorted by (target, time), one for each; of several values at one time the greatest."""

    target: Numbers
    time: Numbers
    value: Floats


@dataclass(frozen=True, slots=True)
class Windows:
    """Aggregates, each of shape (targets, columns of the grid); NaN (0 for ``count``) where there is no value.

    ``increase`` is filled for counters, ``p95`` for targets that were asked for.
    """

    count: Ints
    maximum: Floats
    mean: Floats
    last: Floats
    p95: Floats
    increase: Floats


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an hour's targets are asked for beside count, greatest, mean and last: flags by target."""

    p95: Flags
    counter: Flags


class RolledUp(Protocol):
    """What was measured of an hour's targets."""

    @property
    def windows(self) -> Windows:
        """Aggregates by target and window."""

    @property
    def sample_count(self) -> int:
        """Distinct (target, time) of the hour itself."""

    @property
    def ambiguous(self) -> Numbers:
        """Targets of which a window could not be worked out exactly, ascending."""

    def distinct_times(self, group_of_target: Numbers, *, group_count: int) -> Ints:
        """Distinct sample times of each group of targets (-1 = none) in each window, shape (group_count, columns)."""


@dataclass(frozen=True, slots=True)
class RolledUpSamples:
    """Rolled up from samples: always exact."""

    ordered: Sorted
    windows: Windows
    grid: Grid

    @property
    def sample_count(self) -> int:
        """Distinct (target, time) of the hour itself."""
        return int((self.ordered.time >= self.grid.window_ms).sum())

    @property
    def ambiguous(self) -> Numbers:
        """None."""
        return np.empty(0, np.int32)

    def distinct_times(self, group_of_target: Numbers, *, group_count: int) -> Ints:
        """Distinct sample times of each group of targets (-1 = none) in each window, shape (group_count, columns)."""
        group = group_of_target[self.ordered.target]
        keep = group >= 0
        key = (group[keep].astype(np.int64) << TIME_BITS) | self.ordered.time[keep]
        return count_by_cell(np.unique(key), group_count=group_count, grid=self.grid)


def roll_up(samples: HourSamples, target_of_series: Numbers, *, wanted: Wanted, grid: Grid) -> RolledUpSamples:
    """Samples to aggregates by target; series of target -1 are dropped."""
    ordered = sort(samples, target_of_series)
    windows = aggregate(ordered, grid=grid, p95_wanted=wanted.p95, counter=wanted.counter)
    return RolledUpSamples(ordered, windows, grid)


def concatenate(chunks: Sequence[HourSamples]) -> HourSamples:
    """One block of samples from many."""
    return HourSamples(
        np.concatenate([chunk.series for chunk in chunks]) if chunks else np.empty(0, np.int32),
        np.concatenate([chunk.time for chunk in chunks]) if chunks else np.empty(0, np.int32),
        np.concatenate([chunk.value for chunk in chunks]) if chunks else np.empty(0, np.float64),
    )


def last_times(samples: HourSamples, *, series_count: int, grid: Grid) -> NDArray[np.int32]:
    """Greatest sample time of each series in each window, shape (series_count, columns), -1 where it gave none."""
    times = np.full(series_count * grid.columns, -1, np.int32)
    cell = samples.series.astype(np.int64) * grid.columns + samples.time // np.int32(grid.window_ms)
    np.maximum.at(times, cell, samples.time)
    return times.reshape(series_count, grid.columns)


def sort(samples: HourSamples, target_of_series: Numbers) -> Sorted:
    """Sort by the target of each sample's series (-1 = dropped) and time, and keep one value for each."""
    target = target_of_series[samples.series]
    time, value = samples.time, samples.value
    if len(target) and target.min() < 0:
        keep = target >= 0
        target, time, value = target[keep], time[keep], value[keep]
    key = (target.astype(np.int64) << TIME_BITS) | time
    # Timsort: samples mostly arrive by time, so the keys are a few hundred ascending runs.
    order = np.argsort(key, kind="stable")
    key, value = key[order], value[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    if len(starts) < len(key):
        key, value = key[starts], np.maximum.reduceat(value, starts)
    return Sorted((key >> TIME_BITS).astype(np.int32), (key & _TIME_MASK).astype(np.int32), value)


def aggregate(samples: Sorted, *, grid: Grid, p95_wanted: Flags, counter: Flags) -> Windows:
    """Aggregates by target and window; ``p95_wanted`` and ``counter`` are flags by target."""
    shape = (len(counter), grid.columns)
    cell = samples.target.astype(np.int64) * grid.columns + samples.time // np.int32(grid.window_ms)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    cells = cell[starts]
    counts = np.diff(starts, append=len(cell))
    count = np.zeros(shape, np.int64)
    count.flat[cells] = counts
    maximum, mean, last, p95 = (np.full(shape, np.nan) for _ in range(4))
    if len(starts):
        greatest = np.maximum.reduceat(samples.value, starts)
        maximum.flat[cells] = greatest
        # Rounding must not lift a mean above the greatest value.
        mean.flat[cells] = np.minimum(np.add.reduceat(samples.value, starts) / counts, greatest)
        last.flat[cells] = samples.value[starts + counts - 1]
        wanted = p95_wanted[cells // grid.columns]
        p95.flat[cells[wanted]] = nearest_rank(samples.value, starts[wanted], counts=counts[wanted], percent=_P95)
    return Windows(count, maximum, mean, last, p95, _increase(samples, cell, grid=grid, counter=counter))


def nearest_rank(value: Floats, starts: Ints, *, counts: Ints, percent: int) -> Floats:
    """The ceil(percent/100 x n)-th smallest of each run ``value[start : start + count]``; counts are at least 1."""
    result = np.empty(len(starts))
    for count in np.unique(counts):
        rank = int(-(-percent * count // 100)) - 1
        runs = np.flatnonzero(counts == count)
        block = value[starts[runs, None] + np.arange(count)]
        result[runs] = np.partition(block, rank, axis=1)[:, rank]
    return result


def _increase(samples: Sorted, cell: Ints, *, grid: Grid, counter: Flags) -> Floats:
    """Sum of rises by target and window; a fall is a reset, after which the counter rose from 0.

    The first sample of a window rises from the last one before it, if that is at most one window before its start.
    """
    result = np.full((len(counter), grid.columns), np.nan)
    chosen = counter[samples.target]
    if not chosen.any():
        return result
    target, time, value, cell = samples.target[chosen], samples.time[chosen], samples.value[chosen], cell[chosen]
    rise = np.where(value[1:] < value[:-1], value[1:], value[1:] - value[:-1])
    window_start = time[1:] // np.int32(grid.window_ms) * np.int32(grid.window_ms)
    valid = (target[1:] == target[:-1]) & (time[:-1] >= window_start - grid.window_ms)
    pairs = cell[1:][valid]
    size = result.size
    total = np.bincount(pairs, weights=rise[valid], minlength=size)
    seen = np.bincount(pairs, minlength=size) > 0
    result.flat[np.flatnonzero(seen)] = total[seen]
    return result


def count_by_cell(key: Ints, *, group_count: int, grid: Grid) -> Ints:
    """How many keys (group << TIME_BITS | time) fall into each (group, window)."""
    cell = (key >> TIME_BITS) * grid.columns + (key & _TIME_MASK) // grid.window_ms
    return np.bincount(cell, minlength=group_count * grid.columns).reshape(group_count, grid.columns)
