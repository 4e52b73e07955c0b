"""The plan: what the advisor found, refused and would change. Ideas make it; reports and write-back read it.

Memory is in MiB (the grain of the enforcers), compute in percent of one card, times in epoch milliseconds UTC.
Everything here is plain data and turns into JSON by ``msgspec.json.encode`` as it stands.
"""

from dataclasses import dataclass
from typing import Final, Literal

PLAN_SCHEMA_VERSION: Final = 1
"""Version of the plan as JSON."""

Finding = Literal["idle_quota", "complementary_peaks", "train_beside_inference"]
Confidence = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True, order=True)
class WorkloadKey:
    """The unit of advice: all replicas of one container of one owner on one card model, alive and dead."""

    cluster: str
    namespace: str
    kind: str
    name: str
    container: str
    gpu_model: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}/{self.container}"


@dataclass(frozen=True, slots=True)
class Slice:
    """Quota of one replica on one card: memory in MiB, compute in percent of the card (100 = no limit)."""

    memory_mib: int
    core_percent: int


@dataclass(frozen=True, slots=True)
class BackTest:
    """The same rule made from the data before ``split_ms`` and judged on the data after it.

    ``resolution_seconds`` is the grain of the judged data; ``violated_ratio`` = share of observed time above the
    slice (or card capacity); ``hit_ratio`` = share of judged workloads (or cards) with any violation. ``label`` says
    in words what was judged, e.g. ``made from 19.6 d, judged on the next 8.4 d``. ``kept_ratio`` = what the advice of
    the first part kept: sum of slices over sum of quotas, or cards after over cards before; None for single advice.
    """

    split_ms: int
    train_days: float
    test_days: float
    resolution_seconds: int
    violated_ratio: float
    hit_ratio: float
    label: str
    kept_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Resize:
    """Idle quota: change the slice of every replica from ``before`` to ``after``."""

    workload: WorkloadKey
    replicas: int
    before: Slice
    after: Slice
    memory_peak_mib: int
    core_peak_percent: int
    history_days: float
    reason: str
    confidence: Confidence
    backtest: BackTest | None


@dataclass(frozen=True, slots=True)
class Group:
    """Complementary peaks: workloads that share cards, each card holding at most one replica of each member.

    ``load_mib`` and ``capacity_mib`` are per card; ``load_mib`` has one value per hour of the week (168, Monday
    00:00 first, in the plan's time zone), the sum of the members' greatest use at that hour, and ``member_load_mib``
    the same per member. ``oversubscribed`` = the slices, memory or compute, add up to more than the card, so
    members join one ``egpu.io/oversubscription-group``; ``backtest`` is None where the rule would not have put these
    members together from the earlier part.
    """

    name: str
    cluster: str
    gpu_model: str
    members: tuple[WorkloadKey, ...]
    cards: int
    capacity_mib: int
    margin: float
    oversubscribed: bool
    load_mib: tuple[int, ...]
    member_load_mib: tuple[tuple[int, ...], ...]
    reason: str
    confidence: Confidence
    backtest: BackTest | None


@dataclass(frozen=True, slots=True)
class HourRange:
    """Hours [start, end) of one weekday (0 = Monday), in the plan's time zone."""

    weekday: int
    start_hour: int
    end_hour: int


@dataclass(frozen=True, slots=True)
class TrainWindow:
    """Train beside inference: when a low-priority training job may run on this workload's card.

    The job starts after ``confirm_minutes`` idle minutes and stops at the first busy one. ``false_idle_ratio`` =
    share of the harvested time in which the workload was busy on later data; ``gpu_hours_per_week`` = card-hours
    harvested by that rule, all replicas.
    """

    workload: WorkloadKey
    replicas: int
    windows: tuple[HourRange, ...]
    free_memory_mib: int
    confirm_minutes: int
    gpu_hours_per_week: float
    idle_ratio: float
    false_idle_ratio: float
    reason: str
    confidence: Confidence
    backtest: BackTest | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """No is an answer with a reason: the finding was looked for and must not, or cannot safely, be acted on."""

    finding: Finding
    workload: WorkloadKey
    reason: str


@dataclass(frozen=True, slots=True)
class CardTotal:
    """Cards of one cluster and model: held on the last day, needed by the plan, and the proven lower bound."""

    cluster: str
    gpu_model: str
    before: int
    after: int
    bound: int


@dataclass(frozen=True, slots=True)
class Origin:
    """One rolling origin of the plan's back-test: the plan made at ``split_ms``, judged on the days after."""

    split_ms: int
    cards_before: int
    cards_after: int
    slice_violated_ratio: float
    card_violated_ratio: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One joint plan; the same slack is never counted twice. Reproducible: ``plan_id`` is a hash of its content."""

    schema_version: int
    plan_id: str
    made_ms: int
    time_zone: str
    history_days: float
    workload_count: int
    resizes: tuple[Resize, ...]
    groups: tuple[Group, ...]
    train_windows: tuple[TrainWindow, ...]
    refusals: tuple[Refusal, ...]
    cards: tuple[CardTotal, ...]
    slices_backtest: BackTest | None
    packing_backtest: BackTest | None
    origins: tuple[Origin, ...]

    @property
    def cards_before(self) -> int:
        return sum(total.before for total in self.cards)

    @property
    def cards_after(self) -> int:
        return sum(total.after for total in self.cards)

    @property
    def cards_bound(self) -> int:
        return sum(total.bound for total in self.cards)

    @property
    def finding_count(self) -> int:
        return len(self.resizes) + len(self.groups) + len(self.train_windows)

    @property
    def gpu_hours_per_week(self) -> float:
        return sum(window.gpu_hours_per_week for window in self.train_windows)
