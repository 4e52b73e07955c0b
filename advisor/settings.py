"""Every knob of the advisor. The defaults are the rules that held on unseen data of real traces."""

from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from egpu_runtime.contract.configuration import ProcessSettings
from egpu_runtime.contract.resources import DialectName

Fallback = Literal["auto", "on", "off"]
SliceRule = Literal["by_history", "plain"]

_AT_LEAST_ONE = frozenset(
    {"history_max_days", "memory_grain_mib", "pool_workload_count_max", "origin_train_days", "origin_test_days"}
)
_HOURS_BY_UNIT = {"h": 1.0, "d": 24.0}


def hours_of(duration: str) -> float:
    """Hours of a duration such as ``6h`` or ``3d``. Raises ValueError with one sentence for anything else."""
    number, unit = duration[:-1], duration[-1:]
    if unit not in _HOURS_BY_UNIT or not number.replace(".", "", 1).isdigit():
        raise ValueError(f"{duration!r} is not a duration such as 6h or 3d")
    return float(number) * _HOURS_BY_UNIT[unit]


@dataclass(frozen=True, kw_only=True)
class AdvisorSettings(ProcessSettings):
    """What the advisor can be told."""

    time_zone: str = "UTC"
    """IANA name of the zone in which an hour of the week is meant. Default UTC; set it to where the users live."""

    history_max_days: int = 35
    """Days of profiles that are read, counted back from the last one. Default 35: five weeks show a weekly shape
    and a monthly peak, older days describe another service."""

    history_min: str = "3d"
    """Shortest history that may change a slice, as ``6h`` or ``3d``. Default 3d: below it the measured share of
    workloads hit by a cut was 56 % at half a day."""

    observed_min_ratio: float = 0.8
    """Share of its life, 0-1, that a workload must have been observed. Default 0.8: a day's outage in a week passes,
    half a life unseen does not."""

    slice_rule: SliceRule = "by_history"
    """How a memory slice comes from the peak: ``by_history`` = multiplier that shrinks with history, plus the extra
    and the trend; ``plain`` = slice_multiplier x peak and nothing else. Default by_history."""

    slice_multiplier: float = 1.15
    """Multiplier of ``slice_rule = plain``, ratio. Default 1.15, the margin of krr, for comparison."""

    slice_extra_mib: int = 512
    """Added to every memory slice of ``by_history``, MiB. Default 512: tiny workloads carry most violations, and for
    them a fixed amount is nearly free."""

    memory_grain_mib: int = 64
    """Memory slices are rounded up to a multiple of this, MiB. Default 64, so that a quota is readable and does not
    change with every scan; enforcers take 1."""

    memory_floor_mib: int = 1024
    """No slice is advised below this, MiB. Default 1024: a CUDA context alone takes 300 to 600."""

    core_percentile: float = 99.0
    """Percentile, per hour of the week, of the hourly p95 of compute use that the slice covers. Default 99."""

    core_margin: float = 1.15
    """Multiplier of that percentile, ratio. Default 1.15; compute is compressible, a short excess only waits."""

    core_floor_percent: int = 5
    """No compute slice is advised below this, percent of a card. Default 5: less cannot be enforced smoothly."""

    change_min_ratio: float = 0.2
    """A slice is changed only by at least this share of the quota, 0-1. Default 0.2: a change restarts pods."""

    preallocated_min_ratio: float = 0.85
    """Constant use at or above this share of the quota is taken for pre-allocation, 0-1. Default 0.85: vLLM takes
    0.9 of what it sees, TensorFlow all."""

    validity_days: int = 7
    """Days for which advice must hold; growth is projected so far. Default 7: advice is renewed weekly."""

    sharing_history_min_days: int = 14
    """History, days, from which a group may exceed its card's memory by peaks at different hours. Default 14: two
    weeks, one to find the shape, one to calibrate the margin."""

    packing_margin_min: float = 1.1
    """Least margin on the load of a card shared over time, ratio. Default 1.1; the calibrated one may be larger."""

    oversubscription_fallback: Fallback = "auto"
    """Whether the enforcer moves pages to host memory when a card overflows: ``auto``, ``on`` or ``off``. Default auto
    = on in the dialect egpu, whose runtime does, else off: only groups whose slices fit the card."""

    pool_workload_count_max: int = 500
    """Workloads packed together at most. Default 500: the search stays within seconds and loses little beyond."""

    search_iteration_count: int = 300
    """Ruin-and-recreate rounds per pool. Default 300; the search ends earlier at the proven bound."""

    search_seed: int = 1
    """Seed of the searches. Default 1: the same data gives the same plan."""

    idle_peak_ratio: float = 0.05
    """Compute use up to this share of the workload's own peak is idle, 0-1. Default 0.05: stricter than the tenth of
    the peak request rate with which the rule was measured, since a model also works a little without requests."""

    idle_confirm_minutes: int = 60
    """A training job starts after this many idle minutes, and stops at the first busy one. Default 60: 0.97 % of the
    harvested time was busy on later data, 91 % of the idle time was found."""

    idle_hour_min_ratio: float = 0.7
    """An hour of the week is part of a window when it was idle in this share of the weeks or more, 0-1. Default 0.7."""

    train_window_min_hours: int = 2
    """Shortest training window, hours. Default 2: shorter ones go to loading and confirming."""

    sleeper_week_min_hours: int = 35
    """Hours of the week, without any use in any week, from which a workload is packed only with others like it.
    Default 35, five a night: one light but wakeful service would spoil the night of the whole card for training."""

    train_memory_min_mib: int = 8192
    """Memory that must be free beside the workload in its windows, MiB. Default 8192, a small fine-tuning job."""

    train_history_min_days: int = 7
    """Shortest history for a training window, days. Default 7: every hour of the week was seen once."""

    split_ratio: float = 0.3
    """Share of the history at its end on which the same rule, made from the part before, is judged. Default 0.3."""

    split_min_hours: int = 24
    """The judged part is at least this long, hours. Default 24: a day has a night and a peak."""

    origin_count: int = 10
    """Rolling origins of the plan's back-test, one day apart. Default 10; 0 turns them off. Each costs a packing."""

    origin_train_days: int = 14
    """Days before a rolling origin from which the plan is made. Default 14."""

    origin_test_days: int = 7
    """Days after a rolling origin on which the plan is judged. Default 7, the validity of the advice."""

    origin_workload_count_max: int = 5000
    """Rolling origins are computed up to this many workloads. Default 5000, about half a minute; for larger fleets
    raise it, or choose a part with ``--namespace``."""

    dialect: DialectName = "egpu"
    """Name of the dialect in which changes are written to manifests, ``egpu`` or ``hami``. Default egpu."""

    hive_answer_seconds: float = 120.0
    """Longest wait for one answer of HiveServer2, seconds; a query's own time is not bounded by it. Default 120: a busy
    server may need a minute to compile a statement."""

    hive_query_seconds: float = 3600.0
    """Longest query on HiveServer2, seconds; then it is cancelled. Default 3600."""

    def __post_init__(self) -> None:
        hours_of(self.history_min)
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{self.time_zone!r} is not a known time zone") from error
        for name, value in vars(self).items():
            if name.endswith("_ratio") and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie between 0 and 1")
            if isinstance(value, int) and value < (1 if name in _AT_LEAST_ONE else 0):
                raise ValueError(f"{name} is too small")
            if name.startswith("hive_") and not value > 0:
                raise ValueError(f"{name} must be above 0")

    @property
    def has_fallback(self) -> bool:
        """Whether a card may be filled beyond its memory at all."""
        if self.oversubscription_fallback == "auto":
            return self.dialect == "egpu"
        return self.oversubscription_fallback == "on"

    @property
    def history_min_days(self) -> float:
        """``history_min`` in days."""
        return hours_of(self.history_min) / 24
