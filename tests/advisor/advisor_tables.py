"""Writes tables as the pipeline would, from a few arrays: the advisor's input in its tests."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from advisor.demand import Facts
from egpu_runtime.contract.units import DAY_MS, GIB, HOUR_MS
from pipeline.contract.tables import ATTRIBUTED, CONTAINER_USAGE, DATA_FILE, WORKLOAD_PROFILE, Table

MONDAY_MS = 1_767_571_200_000
"""2026-01-05 00:00 UTC."""

FACTS = Facts(
    memory_quota_mib=81920,
    core_quota_percent=100,
    card_memory_mib=81920,
    live_replicas=1,
    replicas_per_card_max=1,
    cards_per_pod_max=1,
    cards=("GPU-1",),
    advice_off=False,
    observed_ratio=1.0,
    tenant="t",
)
"""A live workload alone on an 80 GiB card."""

TYPES = {
    "STRING": pa.string(),
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "DOUBLE": pa.float64(),
    "ARRAY<DOUBLE>": pa.list_(pa.float64()),
    "ARRAY<STRING>": pa.list_(pa.string()),
}


@dataclass
class Made:
    """One workload: ``memory_gib`` and ``core`` (share of a card) per hour from the first day; NaN = not observed."""

    name: str
    memory_gib: np.ndarray
    core: np.ndarray
    cards: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def profile_rows(made: Made) -> Iterable[dict[str, Any]]:
    """Rows of workload_profile_1d, one a day."""
    days = len(made.memory_gib) // 24
    for day in range(days):
        hours = slice(day * 24, day * 24 + 24)
        memory = [None if np.isnan(value) else float(value) * GIB for value in made.memory_gib[hours]]
        core = [None if np.isnan(value) else float(value) for value in made.core[hours]]
        row: dict[str, Any] = {
            "cluster": "c1",
            "namespace": "ns",
            "workload_kind": "Deployment",
            "workload": made.name,
            "container": "main",
            "gpu_model": "A100",
            "day_start_ms": MONDAY_MS + day * DAY_MS,
            "tenant": "t",
            "priority": "0",
            "advice": "",
            "memory_quota_bytes": 80.0 * GIB,
            "core_quota_ratio": 1.0,
            "memory_total_bytes": 80.0 * GIB,
            "hourly_memory_used_bytes_max": memory,
            "hourly_core_used_ratio_mean": core,
            "hourly_core_used_ratio_p95": core,
            "memory_used_bytes_median": 0.0,
            "core_idle_window_ratio": 0.0,
            "observed_ratio": 1.0,
            "window_count": 288,
            "live_replicas": len(made.cards) or 1,
            "replicas_max": 1,
            "replicas_per_card_max": 1,
            "cards_per_pod_max": 1,
            "gpu_uuids": list(made.cards or (f"GPU-{made.name}",)),
        }
        if all(value is None for value in memory):
            continue
        yield row | dict(made.facts)


def usage_rows(made: Made, *, per_hour: int = 12) -> Iterable[dict[str, Any]]:
    """Rows of container_usage_5m: every window of an hour uses what the hour used at most."""
    for hour, (memory, core) in enumerate(zip(made.memory_gib, made.core, strict=True)):
        if np.isnan(memory):
            continue
        for window in range(per_hour):
            yield {
                "cluster": "c1",
                "node": "n",
                "gpu_uuid": (made.cards or (f"GPU-{made.name}",))[0],
                "namespace": "ns",
                "pod": f"{made.name}-0",
                "pod_uid": made.name,
                "container": "main",
                "window_start_ms": MONDAY_MS + hour * HOUR_MS + window * HOUR_MS // per_hour,
                "gpu_model": "A100",
                "workload_kind": "Deployment",
                "workload": made.name,
                "attribution": ATTRIBUTED,
                "memory_used_bytes_max": float(memory) * GIB,
                "core_used_ratio_p95": float(core),
            }


def write(folder: Path, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows into the table's folders; columns that a row lacks are NULL."""
    time_column = "day_start_ms" if table is WORKLOAD_PROFILE else "window_start_ms"
    parts: dict[Path, list[Mapping[str, Any]]] = {}
    for row in rows:
        moment = datetime.fromtimestamp(row[time_column] / 1000, UTC)
        place = folder / table.name / f"dt={moment:%Y-%m-%d}"
        if "hour" in table.partitions:
            place /= f"hour={moment:%H}"
        parts.setdefault(place, []).append(row)
    schema = pa.schema([(column.name, TYPES[column.type]) for column in table.columns])
    for place, members in parts.items():
        place.mkdir(parents=True, exist_ok=True)
        full = [{column.name: row.get(column.name) for column in table.columns} for row in members]
        pq.write_table(pa.Table.from_pylist(full, schema), place / DATA_FILE)


def write_fleet(folder: Path, fleet: Iterable[Made], *, usage: bool = False) -> Path:
    """A warehouse of these workloads; with ``usage`` their 5-minute rows too."""
    workloads = list(fleet)
    write(folder, WORKLOAD_PROFILE, (row for made in workloads for row in profile_rows(made)))
    if usage:
        write(folder, CONTAINER_USAGE, (row for made in workloads for row in usage_rows(made)))
    return folder


def daily(days: int, *, low: float, high: float, hours: range) -> np.ndarray:
    """``high`` in the given hours of every day, else ``low``."""
    day = np.full(24, float(low))
    day[list(hours)] = high
    return np.tile(day, days)
