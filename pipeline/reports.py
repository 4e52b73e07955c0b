"""The reports: each is one SELECT that a person can read, the same text for DuckDB and Hive, and a view by day of it.

A report over a period is asked by ``egpu-pipeline report``; the view of the same name keeps ``dt`` beside every row,
so that a tool which filters by ``dt`` opens those days only. What was not observed is NULL and never idle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import DAY_MS, GIB, HOUR_MS, SECOND_MS
from pipeline.contract.tables import ATTRIBUTED, CONTAINER_USAGE, GPU_USAGE, Table

Subject = Literal["cards", "workloads", "tenants", "idle", "hours"]

_TENANT: Final = "coalesce(nullif(tenant, ''), namespace)"
_EPOCH_WEEKDAY: Final = 3
"""1 January 1970 was a Thursday; Monday is 0."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report. ``select`` takes ``{period}`` = a condition on windows and ``{day}`` = columns before the others of
    every SELECT and GROUP BY; ``order`` is the order of its rows. ``view`` is its name as a view."""

    view: str
    title: str
    table: Table
    select: str
    order: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of a SELECT: column names, rows, and the SELECT itself. NULL is None: not observed, never idle."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    sql: str


_CARDS: Final = f"""
SELECT {{day}}cluster, node, gpu_uuid, gpu_model,
       max(memory_total_bytes) / {GIB}         AS memory_total_gib,
       avg(memory_allocated_bytes) / {GIB}     AS memory_allocated_gib,
       max(memory_used_bytes_max) / {GIB}      AS memory_used_gib_max,
       avg(memory_used_bytes_mean) / {GIB}     AS memory_used_gib_mean,
       100 * max(memory_used_bytes_max) / nullif(max(memory_total_bytes), 0) AS memory_used_percent,
       100 * avg(utilization_ratio_mean)       AS utilization_percent_mean,
       100 * max(utilization_ratio_p95)        AS utilization_percent_p95,
       max(container_count)                    AS container_count_max,
       100 * avg(observed_ratio)               AS observed_percent
FROM gpu_usage_5m
WHERE {{period}}
GROUP BY {{day}}cluster, node, gpu_uuid, gpu_model
"""

_WORKLOADS: Final = f"""
SELECT {{day}}cluster, namespace, workload_kind, workload, container, gpu_model,
       count(DISTINCT concat(pod, '/', pod_uid)) AS pods,
       max(memory_quota_bytes) / {GIB}         AS memory_quota_gib,
       max(memory_used_bytes_max) / {GIB}      AS memory_used_gib_max,
       avg(memory_used_bytes_mean) / {GIB}     AS memory_used_gib_mean,
       100 * max(memory_used_bytes_max) / nullif(max(memory_quota_bytes), 0) AS memory_used_percent,
       100 * max(core_quota_ratio)             AS core_quota_percent,
       100 * avg(core_used_ratio_mean)         AS core_used_percent_mean,
       100 * max(core_used_ratio_p95)          AS core_used_percent_p95,
       100 * avg(observed_ratio)               AS observed_percent,
       100 * avg(CASE WHEN attribution = '{ATTRIBUTED}' THEN 1 ELSE 0 END) AS attributed_percent
FROM container_usage_5m
WHERE {{period}}
GROUP BY {{day}}cluster, namespace, workload_kind, workload, container, gpu_model
"""

_SUMS: Final = """\
sum(memory_quota_bytes)                 AS memory_quota_bytes,
         sum(memory_used_bytes_max)              AS memory_used_bytes,
         sum(CASE WHEN memory_used_bytes_max IS NOT NULL THEN memory_quota_bytes END) AS memory_quota_bytes_observed,
         sum(core_quota_ratio)                   AS core_quota,
         sum(core_used_ratio_mean)               AS core_used,
         sum(CASE WHEN core_used_ratio_mean IS NOT NULL THEN core_quota_ratio END) AS core_quota_observed,
         avg(observed_ratio)                     AS observed_ratio"""
"""Sums over the containers of one window; use is compared with the quota of those whose use was observed."""

_QUOTA_AGAINST_USE: Final = f"""\
avg(memory_quota_bytes) / {GIB}         AS memory_quota_gib_mean,
       avg(memory_used_bytes) / {GIB}          AS memory_used_gib_mean,
       max(memory_used_bytes) / {GIB}          AS memory_used_gib_max,
       100 * sum(memory_used_bytes) / nullif(sum(memory_quota_bytes_observed), 0) AS memory_used_percent,
       avg(core_quota)                         AS core_quota_cards_mean,
       avg(core_used)                          AS core_used_cards_mean,
       100 * sum(core_used) / nullif(sum(core_quota_observed), 0) AS core_used_percent,
       100 * avg(observed_ratio)               AS observed_percent"""
"""Columns over the windows of such sums."""

_TENANTS: Final = f"""
SELECT {{day}}tenant,
       max(cards)                              AS cards_max,
       {_QUOTA_AGAINST_USE}
FROM (
  SELECT {{day}}{_TENANT} AS tenant, window_start_ms,
         count(DISTINCT concat(cluster, '/', gpu_uuid)) AS cards,
         {_SUMS}
  FROM container_usage_5m
  WHERE {{period}}
  GROUP BY {{day}}{_TENANT}, window_start_ms
) tenant_windows
GROUP BY {{day}}tenant
"""

_IDLE: Final = f"""
SELECT {{day}}cluster, tenant, namespace, workload_kind, workload, container, gpu_model,
       100 * sum(idle_count) / nullif(sum(observed_count), 0) AS idle_percent,
       avg(memory_quota_bytes_observed - memory_used_bytes) / {GIB} AS memory_idle_gib_mean,
       avg(core_quota_observed - core_used)    AS core_idle_cards_mean,
       {_QUOTA_AGAINST_USE}
FROM (
  SELECT {{day}}cluster, {_TENANT} AS tenant, namespace, workload_kind, workload, container, gpu_model,
         window_start_ms,
         count(CASE WHEN core_used_ratio_max = 0 THEN 1 END) AS idle_count,
         count(core_used_ratio_max)              AS observed_count,
         {_SUMS}
  FROM container_usage_5m
  WHERE {{period}}
  GROUP BY {{day}}cluster, {_TENANT}, namespace, workload_kind, workload, container, gpu_model,
           window_start_ms
) workload_windows
GROUP BY {{day}}cluster, tenant, namespace, workload_kind, workload, container, gpu_model
HAVING sum(observed_count) > 0
"""

_HOURS: Final = f"""
SELECT {{day}}cluster, tenant, day_of_week, hour_of_day,
       {_QUOTA_AGAINST_USE}
FROM (
  SELECT {{day}}cluster, {_TENANT} AS tenant, window_start_ms,
         (CAST(floor(window_start_ms / {DAY_MS}) AS BIGINT) + {_EPOCH_WEEKDAY}) % 7 AS day_of_week,
         CAST(floor(window_start_ms / {HOUR_MS}) AS BIGINT) % 24 AS hour_of_day,
         {_SUMS}
  FROM container_usage_5m
  WHERE {{period}}
  GROUP BY {{day}}cluster, {_TENANT}, window_start_ms
) tenant_windows
GROUP BY {{day}}cluster, tenant, day_of_week, hour_of_day
"""

REPORTS: Final[Mapping[Subject, Report]] = {
    "cards": Report(
        "report_cards",
        "cards: quota against use, the idle first",
        GPU_USAGE,
        _CARDS,
        "utilization_percent_mean NULLS LAST, memory_used_percent NULLS LAST, cluster, node, gpu_uuid, gpu_model",
    ),
    "workloads": Report(
        "report_workloads",
        "workloads: quota against use, the idle first",
        CONTAINER_USAGE,
        _WORKLOADS,
        "memory_used_percent NULLS LAST, core_used_percent_mean NULLS LAST, cluster, namespace, workload, container, "
        "workload_kind, gpu_model",
    ),
    "tenants": Report(
        "report_tenants",
        "tenants: quota against use, the idle first",
        CONTAINER_USAGE,
        _TENANTS,
        "memory_used_percent NULLS LAST, core_used_percent NULLS LAST, tenant",
    ),
    "idle": Report(
        "report_idle",
        "idle: who holds quota and computes nothing, the idlest first",
        CONTAINER_USAGE,
        _IDLE,
        "idle_percent DESC NULLS LAST, memory_idle_gib_mean DESC NULLS LAST, cluster, namespace, workload, container, "
        "workload_kind, gpu_model",
    ),
    "hours": Report(
        "report_hour_of_week",
        "hours of the week, UTC, day 0 = Monday: quota against use",
        CONTAINER_USAGE,
        _HOURS,
        "cluster, tenant, day_of_week, hour_of_day",
    ),
}

UNATTRIBUTED: Final = """
SELECT attribution, count(*) AS row_count
FROM container_usage_5m
WHERE dt = (SELECT max(dt) FROM container_usage_5m)
GROUP BY attribution
ORDER BY row_count DESC, attribution
"""
"""How many rows of the last day have which attribution."""


def parse_time(text: str, option: str) -> datetime:
    """A date or time in ISO 8601, in UTC; without a zone it is UTC. Raises Failure naming the option."""
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Failure(f"{option} {text!r} is no date or time as 2026-01-31 or 2026-01-31T14:00") from error


def _period(since: datetime | None, until: datetime | None) -> str:
    """Condition on window starts, [since, until), UTC; on ``dt`` too, so that other days are not opened."""
    conditions = []
    if since is not None:
        conditions.append(f"dt >= '{since.date()}' AND window_start_ms >= {int(since.timestamp() * SECOND_MS)}")
    if until is not None:
        conditions.append(f"dt <= '{until.date()}' AND window_start_ms < {int(until.timestamp() * SECOND_MS)}")
    return " AND ".join(conditions) or "true"


def report_sql(subject: Subject, *, since: datetime | None, until: datetime | None) -> str:
    """The SELECT of a report over a period: the idle first, what was not observed last."""
    report = REPORTS[subject]
    return report.select.format(period=_period(since, until), day="").strip() + f"\nORDER BY {report.order}"


def view_ddl(report: Report) -> str:
    """CREATE VIEW of a report by day, for DuckDB and Hive; it stands on the tables' own names."""
    select = report.select.format(period="true", day="dt, ").strip()
    return f"CREATE OR REPLACE VIEW {report.view} AS\n{select};\n"
