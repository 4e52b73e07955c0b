"""A plan as flat rows, one a finding or refusal: for spreadsheets."""

import csv
import io
from collections.abc import Iterator
from typing import Final

from advisor.contract import BackTest, Group, Plan, Refusal, Resize, TrainWindow, WorkloadKey
from advisor.wording import hour_ranges

COLUMNS: Final = (
    "plan_id",
    "finding",
    "status",
    "cluster",
    "namespace",
    "kind",
    "name",
    "container",
    "gpu_model",
    "replicas",
    "memory_mib_before",
    "memory_mib_after",
    "memory_mib_peak",
    "core_percent_before",
    "core_percent_after",
    "core_percent_peak",
    "group",
    "members",
    "cards",
    "load_mib_peak",
    "capacity_mib",
    "windows",
    "free_memory_mib",
    "gpu_hours_per_week",
    "false_idle_ratio",
    "backtest",
    "backtest_violated_ratio",
    "backtest_hit_ratio",
    "confidence",
    "reason",
)
"""Columns in this order in every file; a column that does not apply to a row is empty."""

Row = dict[str, object]


def as_csv(plan: Plan) -> str:
    """RFC 4180 text with a header line and line feeds."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"plan_id": plan.plan_id, **row} for row in rows(plan))
    return text.getvalue()


def rows(plan: Plan) -> Iterator[Row]:
    """Rows in the plan's order: resizes, groups (one row each), train windows, refusals."""
    yield from (_resize(resize) for resize in plan.resizes)
    yield from (_group(group) for group in plan.groups)
    yield from (_train_window(window) for window in plan.train_windows)
    yield from (_refusal(refusal) for refusal in plan.refusals)


def _workload(workload: WorkloadKey) -> Row:
    return {
        "cluster": workload.cluster,
        "namespace": workload.namespace,
        "kind": workload.kind,
        "name": workload.name,
        "container": workload.container,
        "gpu_model": workload.gpu_model,
    }


def _backtest(backtest: BackTest | None) -> Row:
    if backtest is None:
        return {}
    return {
        "backtest": backtest.label,
        "backtest_violated_ratio": backtest.violated_ratio,
        "backtest_hit_ratio": backtest.hit_ratio,
    }


def _resize(resize: Resize) -> Row:
    return {
        "finding": "idle_quota",
        "status": "advised",
        **_workload(resize.workload),
        "replicas": resize.replicas,
        "memory_mib_before": resize.before.memory_mib,
        "memory_mib_after": resize.after.memory_mib,
        "memory_mib_peak": resize.memory_peak_mib,
        "core_percent_before": resize.before.core_percent,
        "core_percent_after": resize.after.core_percent,
        "core_percent_peak": resize.core_peak_percent,
        **_backtest(resize.backtest),
        "confidence": resize.confidence,
        "reason": resize.reason,
    }


def _group(group: Group) -> Row:
    return {
        "finding": "complementary_peaks",
        "status": "advised",
        "cluster": group.cluster,
        "gpu_model": group.gpu_model,
        "group": group.name,
        "members": ";".join(str(member) for member in group.members),
        "cards": group.cards,
        "load_mib_peak": max(group.load_mib, default=0),
        "capacity_mib": group.capacity_mib,
        **_backtest(group.backtest),
        "confidence": group.confidence,
        "reason": group.reason,
    }


def _train_window(window: TrainWindow) -> Row:
    return {
        "finding": "train_beside_inference",
        "status": "advised",
        **_workload(window.workload),
        "replicas": window.replicas,
        "windows": hour_ranges(window.windows),
        "free_memory_mib": window.free_memory_mib,
        "gpu_hours_per_week": window.gpu_hours_per_week,
        "false_idle_ratio": window.false_idle_ratio,
        **_backtest(window.backtest),
        "confidence": window.confidence,
        "reason": window.reason,
    }


def _refusal(refusal: Refusal) -> Row:
    return {
        "finding": refusal.finding,
        "status": "refused",
        **_workload(refusal.workload),
        "reason": refusal.reason,
    }
