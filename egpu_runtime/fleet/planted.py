"""The truth about a made-up fleet, written where only tests read it: what was planted and what would come next."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from egpu_runtime.fleet.fleet_spec import DAY_SECONDS, FleetSpec, Role
from egpu_runtime.fleet.recipes import WEEK_DAYS
from egpu_runtime.fleet.synthetic import FOR_EVER, FleetPlan, fleet_trace, plan_fleet, rows_of_day
from egpu_runtime.fleet.trace import Floats, Trace

WEEK_HOURS: Final = 168
_HOUR_SECONDS: Final = 3600

Expected = Literal["advised", "refused", "unchanged"]


@dataclass(frozen=True, slots=True)
class PlantedWorkload:
    """What one workload was made to be.

    ``idle_quota`` = what must become of its quota: ``advised`` (a smaller one that covers the next week), ``refused``
    with a reason that contains ``refusal``, or ``unchanged`` (use is near the quota: no advice; a refusal is fine).
    ``groupable`` is False where sharing a card must be refused. ``partner`` = the workload whose peaks never meet its
    own, or empty. ``trainable`` = compute is exactly 0 at the same hours every day; None where either answer is right.
    ``next_week_*``: 168 values, hour of the week after the trace's end from its first hour, greatest over the live
    replicas; bytes of memory, share of one card.
    """

    cluster: str
    namespace: str
    workload_kind: str
    workload: str
    container: str
    gpu_model: str
    role: Role
    idle_quota: Expected
    refusal: str
    growth_per_week: float
    groupable: bool
    partner: str
    trainable: bool | None
    replicas: int
    next_week_memory_bytes_max: tuple[float, ...]
    next_week_core_ratio_max: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fleet:
    """A made-up fleet: its trace and the truth about it."""

    trace: Trace
    planted: tuple[PlantedWorkload, ...]
    silent_days: tuple[tuple[str, int], ...]


_UNCHANGED: Final[frozenset[Role]] = frozenset({"training", "busy", "night_idle"})
_REFUSED: Final[dict[Role, str]] = {
    "preallocating": "pre-allocating",
    "young": "history",
    "unobserved": "unobserved",
}
_TRAINABLE_OR_NOT: Final[frozenset[Role]] = frozenset({"idle", "training", "young", "unobserved"})
_UNGROUPABLE: Final[frozenset[Role]] = frozenset({"preallocating", "young", "unobserved", "crowded"})


def synthesize(seed: int, spec: FleetSpec) -> Fleet:
    """Make a fleet; the same seed (>= 0) and spec give the same bytes."""
    plan = plan_fleet(seed, spec)
    return Fleet(fleet_trace(plan), _planted(plan), tuple(sorted(plan.silent_days)))


def _planted(plan: FleetPlan) -> tuple[PlantedWorkload, ...]:
    memory, core = _next_week(plan)
    found = []
    for number, workload in enumerate(plan.workloads):
        pods = [pod for pod in plan.pods if pod.workload == number]
        role, container = workload.role, pods[0].container
        found.append(
            PlantedWorkload(
                cluster=container.cluster,
                namespace=workload.namespace,
                workload_kind=workload.kind,
                workload=workload.name,
                container=container.container,
                gpu_model=workload.model.name,
                role=role,
                idle_quota="refused" if role in _REFUSED else "unchanged" if role in _UNCHANGED else "advised",
                refusal=_REFUSED.get(role, ""),
                growth_per_week=pods[0].load.growth_per_week,
                groupable=role not in _UNGROUPABLE,
                partner=plan.workloads[workload.partner].name if workload.partner >= 0 else "",
                trainable=None if role in _TRAINABLE_OR_NOT else role == "night_idle",
                replicas=sum(pod.end == FOR_EVER for pod in pods),
                next_week_memory_bytes_max=tuple(memory[number].tolist()),
                next_week_core_ratio_max=tuple(core[number].tolist()),
            )
        )
    return tuple(found)


def _next_week(plan: FleetPlan) -> tuple[Floats, Floats]:
    """Per workload and hour, the greatest memory and compute in the week after the end; 0 where nothing runs."""
    spec = plan.spec
    memory = np.zeros((len(plan.workloads), WEEK_HOURS))
    core = np.zeros((len(plan.workloads), WEEK_HOURS))
    workload_of = np.array([pod.workload for pod in plan.pods], np.int64)
    per_hour = DAY_SECONDS // _HOUR_SECONDS
    for day in range(WEEK_DAYS):
        rows = rows_of_day(plan, spec.days + day)
        hour = day * per_hour + (rows.timestamp_ms // (_HOUR_SECONDS * 1000)) % per_hour
        place = (workload_of[rows.container], hour)
        np.fmax.at(memory, place, rows.memory_used_bytes)
        np.fmax.at(core, place, rows.core_used_ratio)
    return memory, core
