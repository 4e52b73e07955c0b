"""A plan, and what became of it, as rows of the tables ``recommendations``, ``savings`` and ``allocation_changes``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from advisor.contract import BackTest, Group, Plan, Resize, Slice, TrainWindow, WorkloadKey
from advisor.wording import hour_ranges
from egpu_runtime.contract.units import MIB, SECOND_MS
from pipeline.contract.advice_tables import ALLOCATION_CHANGES, RECOMMENDATIONS, SAVINGS
from pipeline.contract.tables import Table

Row = Mapping[str, object]
Outcome = Literal["committed", "already applied", "refused", "not found"]

_PERCENT: Final = 100
_METHOD: Final = (
    "cards holding a container on the last day against cards the joint plan needs; slices by history, "
    "groups by hour of the week"
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one workload's change; ``revision`` = the commit, empty where there is none."""

    workload: WorkloadKey
    outcome: Outcome
    reason: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Rows of one table for one plan."""

    table: Table
    rows: tuple[Row, ...]


def partition_of(plan: Plan) -> dict[str, str]:
    """The partition of a plan: the last day of its data, UTC, and its id."""
    last = datetime.fromtimestamp((plan.made_ms - 1) / SECOND_MS, UTC)
    return {"dt": last.strftime("%Y-%m-%d"), "plan_id": plan.plan_id}


def recorded_plan(plan: Plan) -> tuple[Recorded, ...]:
    """What ``scan --record`` keeps: every finding and refusal, and the expected savings."""
    return Recorded(RECOMMENDATIONS, tuple(_recommendations(plan))), Recorded(SAVINGS, tuple(_savings(plan)))


def recorded_changes(plan: Plan, applied: tuple[Applied, ...], *, branch: str, dialect: str) -> Recorded:
    """What ``apply --record`` keeps: one row a workload, with what was written where."""
    slices = {resize.workload: resize.after for resize in plan.resizes}
    groups = {member: group.name for group in plan.groups for member in group.members}
    rows = tuple(
        {
            **_workload(each.workload),
            "made_ms": plan.made_ms,
            "outcome": each.outcome,
            "reason": each.reason or None,
            "dialect": dialect,
            **_slice(slices.get(each.workload), "after"),
            "group_name": groups.get(each.workload),
            "branch": branch,
            "revision": each.revision or None,
        }
        for each in applied
    )
    return Recorded(ALLOCATION_CHANGES, rows)


def _workload(key: WorkloadKey) -> dict[str, object]:
    return {
        "cluster": key.cluster,
        "namespace": key.namespace,
        "workload_kind": key.kind,
        "workload": key.name,
        "container": key.container,
        "gpu_model": key.gpu_model,
    }


def _slice(quota: Slice | None, when: str) -> dict[str, object]:
    return {
        f"memory_quota_bytes_{when}": None if quota is None else float(quota.memory_mib * MIB),
        f"core_quota_ratio_{when}": None if quota is None else quota.core_percent / _PERCENT,
    }


def _judged(test: BackTest | None) -> dict[str, object]:
    return {"violated_ratio": test and test.violated_ratio, "backtest": test and test.label}


def _recommendations(plan: Plan) -> Iterator[Row]:
    for resize in plan.resizes:
        yield _advised(plan, resize, resize.workload) | _of_resize(resize)
    for group in plan.groups:
        for member in group.members:
            yield _advised(plan, group, member) | _of_group(group)
    for window in plan.train_windows:
        yield _advised(plan, window, window.workload) | _of_window(window, plan.time_zone)
    for refusal in plan.refusals:
        yield {
            **_workload(refusal.workload),
            "finding": refusal.finding,
            "made_ms": plan.made_ms,
            "decision": "refused",
            "reason": refusal.reason,
        }


def _advised(plan: Plan, advice: Resize | Group | TrainWindow, workload: WorkloadKey) -> dict[str, object]:
    return {
        **_workload(workload),
        "made_ms": plan.made_ms,
        "decision": "advised",
        "reason": advice.reason,
        "confidence": advice.confidence,
        **_judged(advice.backtest),
    }


def _of_resize(resize: Resize) -> dict[str, object]:
    return {
        "finding": "idle_quota",
        "replicas": resize.replicas,
        **_slice(resize.before, "before"),
        **_slice(resize.after, "after"),
    }


def _of_group(group: Group) -> dict[str, object]:
    return {
        "finding": "complementary_peaks",
        "group_name": group.name,
        "group_cards": group.cards,
        "oversubscribed": int(group.oversubscribed),
    }


def _of_window(window: TrainWindow, time_zone: str) -> dict[str, object]:
    return {
        "finding": "train_beside_inference",
        "replicas": window.replicas,
        "gpu_hours_per_week": window.gpu_hours_per_week,
        "train_hours": hour_ranges(window.windows),
        "time_zone": time_zone,
    }


def _savings(plan: Plan) -> Iterator[Row]:
    """One row a cluster and card model; the back-test is that of the whole plan."""
    slices, cards = plan.slices_backtest, plan.packing_backtest
    test = cards or slices
    for total in plan.cards:
        of = (total.cluster, total.gpu_model)
        resizes = [each for each in plan.resizes if (each.workload.cluster, each.workload.gpu_model) == of]
        windows = [each for each in plan.train_windows if (each.workload.cluster, each.workload.gpu_model) == of]
        memory_mib = sum(each.replicas * (each.before.memory_mib - each.after.memory_mib) for each in resizes)
        percent = sum(each.replicas * (each.before.core_percent - each.after.core_percent) for each in resizes)
        yield {
            "cluster": total.cluster,
            "gpu_model": total.gpu_model,
            "measure": "forecast",
            "made_ms": plan.made_ms,
            "history_days": plan.history_days,
            "cards_before": total.before,
            "cards_after": total.after,
            "cards_bound": total.bound,
            "memory_bytes_freed": float(memory_mib * MIB),
            "core_cards_freed": percent / _PERCENT,
            "gpu_hours_per_week": float(sum(each.gpu_hours_per_week for each in windows)),
            "method": _METHOD,
            "slice_violated_ratio": slices and slices.violated_ratio,
            "card_violated_ratio": cards and cards.violated_ratio,
            "backtest": test and test.label,
        }
