"""How far apart samples come, to tell a wrong ``sample_interval_seconds``: observed_ratio is made with it."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from egpu_runtime.contract.metrics import CONTAINER_MEMORY_USED, GPU_MEMORY_USED
from egpu_runtime.contract.units import SECOND_MS
from pipeline.finalise import HourFacts
from pipeline.normalise import Series
from pipeline.rollup import TIME_BITS, HourSamples

MEMORY_USE: Final = frozenset({CONTAINER_MEMORY_USED.name, GPU_MEMORY_USED.name})
"""Series whose samples are counted for observed_ratio."""

SERIES_MAX: Final = 64
"""Series that are looked at, evenly among all: enough to know a scrape interval."""

_GAPS_MIN: Final = 8
_GAP_TOLERANCE: Final = 0.1
_REGULAR_SHARE: Final = 0.5
_HOURS: Final = 3
_FACTOR: Final = 1.2


def regular_gap_ms(samples: HourSamples, series: Sequence[Series]) -> int:
    """Median gap between samples of memory use, ms; 0 where they do not come regularly: few gaps, or less than half
    of them near it. ``series`` is by the numbers in ``samples.series``."""
    present = np.bincount(samples.series, minlength=len(series)) > 0
    measured = [index for index in np.flatnonzero(present).tolist() if series[index].metric in MEMORY_USE]
    chosen = np.zeros(len(series), np.bool_)
    chosen[measured[:: -(-len(measured) // SERIES_MAX) or 1]] = True
    some = chosen[samples.series]
    key = np.unique((samples.series[some].astype(np.int64) << TIME_BITS) | samples.time[some])
    gaps = np.diff(key)[np.diff(key >> TIME_BITS) == 0]
    if len(gaps) < _GAPS_MIN:
        return 0
    median = int(np.partition(gaps, len(gaps) // 2)[len(gaps) // 2])
    near = np.abs(gaps - median) <= median * _GAP_TOLERANCE
    return median if near.mean() >= _REGULAR_SHARE else 0


def other_interval_seconds(hours: Mapping[int, HourFacts], setting_seconds: float) -> float | None:
    """How far apart samples came in the last hours, seconds, where they came regularly and not as the setting says."""
    last = (hours[hour_ms].interval_ms for hour_ms in sorted(hours)[-_HOURS:])
    seen = sorted(interval_ms for interval_ms in last if interval_ms)
    if not seen or not setting_seconds:
        return None
    seconds = seen[len(seen) // 2] / SECOND_MS
    same = 1 / _FACTOR <= seconds / setting_seconds <= _FACTOR
    return None if same else seconds


def interval_sentence(hours: Mapping[int, HourFacts], setting_seconds: float) -> str | None:
    """What is wrong with the setting, None when nothing is or it is not known."""
    seen = other_interval_seconds(hours, setting_seconds)
    if seen is None:
        return None
    return f"samples come every {seen:g} s but sample_interval_seconds is {setting_seconds:g}: observed_ratio is wrong"
