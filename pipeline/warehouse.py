"""Reports from the tables by DuckDB: each is one SELECT that a person can read, in words Hive and Spark know too."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import duckdb

from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import GIB, SECOND_MS
from pipeline.contract.ddl import duckdb_ddl
from pipeline.contract.tables import ATTRIBUTED, CONTAINER_USAGE, DATA_FILE, GPU_USAGE, WORKLOAD_PROFILE

Subject = Literal["cards", "workloads", "tenants"]

_VIEWS: Final = (CONTAINER_USAGE, GPU_USAGE, WORKLOAD_PROFILE)

_CARDS: Final = f"""
SELECT cluster, node, gpu_uuid, gpu_model,
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
GROUP BY cluster, node, gpu_uuid, gpu_model
ORDER BY utilization_percent_mean NULLS LAST, memory_used_percent NULLS LAST, cluster, node, gpu_uuid
"""

_WORKLOADS: Final = f"""
SELECT cluster, namespace, workload_kind, workload, container, gpu_model,
       count(DISTINCT concat(pod, '/', pod_uid)) AS pods,
       max(memory_quota_bytes) / {GIB}         AS memory_quota_gib,
       max(memory_used_bytes_max) / {GIB}      AS memory_used_gib_max,
       avg(memory_used_bytes_mean) / {GIB}     AS memory_used_gib_mean,
       100 * max(memory_used_bytes_max) / nullif(max(memory_quota_bytes), 0) AS memory_used_percent,
       100 * max(core_quota_ratio)             AS core_quota_percent,
       100 * avg(core_used_ratio_mean)         AS core_used_percent_mean,
       100 * max(core_used_ratio_p95)          AS core_used_percent_p95,
       100 * avg(observed_ratio)               AS observed_percent,
       100 * avg(CAST(attribution = '{ATTRIBUTED}' AS INT)) AS attributed_percent
FROM container_usage_5m
WHERE {{period}}
GROUP BY cluster, namespace, workload_kind, workload, container, gpu_model
ORDER BY memory_used_percent NULLS LAST, core_used_percent_mean NULLS LAST, cluster, namespace, workload, container
"""

_TENANTS: Final = f"""
WITH tenant_window AS (
  SELECT coalesce(nullif(tenant, ''), namespace) AS tenant, window_start_ms,
         count(DISTINCT concat(cluster, '/', gpu_uuid)) AS cards,
         sum(memory_quota_bytes)                 AS memory_quota_bytes,
         sum(memory_used_bytes_max)              AS memory_used_bytes,
         sum(CASE WHEN memory_used_bytes_max IS NOT NULL THEN memory_quota_bytes END) AS memory_quota_bytes_observed,
         sum(core_quota_ratio)                   AS core_quota,
         sum(core_used_ratio_mean)               AS core_used,
         sum(CASE WHEN core_used_ratio_mean IS NOT NULL THEN core_quota_ratio END) AS core_quota_observed,
         avg(observed_ratio)                     AS observed_ratio
  FROM container_usage_5m
  WHERE {{period}}
  GROUP BY coalesce(nullif(tenant, ''), namespace), window_start_ms
)
SELECT tenant,
       max(cards)                              AS cards_max,
       avg(memory_quota_bytes) / {GIB}         AS memory_quota_gib_mean,
       avg(memory_used_bytes) / {GIB}          AS memory_used_gib_mean,
       max(memory_used_bytes) / {GIB}          AS memory_used_gib_max,
       100 * sum(memory_used_bytes) / nullif(sum(memory_quota_bytes_observed), 0) AS memory_used_percent,
       avg(core_quota)                         AS core_quota_cards_mean,
       avg(core_used)                          AS core_used_cards_mean,
       100 * sum(core_used) / nullif(sum(core_quota_observed), 0) AS core_used_percent,
       100 * avg(observed_ratio)               AS observed_percent
FROM tenant_window
GROUP BY tenant
ORDER BY memory_used_percent NULLS LAST, core_used_percent NULLS LAST, tenant
"""

_SELECTS: Final[Mapping[Subject, str]] = {"cards": _CARDS, "workloads": _WORKLOADS, "tenants": _TENANTS}

_UNATTRIBUTED: Final = """
SELECT attribution, count(*) AS row_count
FROM container_usage_5m
WHERE dt = (SELECT max(dt) FROM container_usage_5m)
GROUP BY attribution
ORDER BY row_count DESC, attribution
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of a SELECT: column names, rows, and the SELECT itself. NULL is None: not observed, never idle."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    sql: str


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
    """The SELECT of a report: quota against use in a period, the idle first, what was not observed last."""
    return _SELECTS[subject].format(period=_period(since, until)).strip()


def _ask(folder: Path, sql: str) -> Answer:
    if not folder.is_dir():
        raise Failure(f"no warehouse folder {folder}")
    with duckdb.connect() as connection:
        try:
            for table in (view for view in _VIEWS if view.name in sql):
                if not any((folder / table.name).rglob(DATA_FILE)):
                    raise Failure(f"no finalised hour in the warehouse {folder} yet: run egpu-pipeline run")
                connection.execute(duckdb_ddl(table, str(folder)))
            cursor = connection.execute(sql)
            columns = tuple(column[0] for column in cursor.description or ())
            return Answer(columns, tuple(cursor.fetchall()), sql)
        except duckdb.Error as error:
            # Its first line names the file where there is one to blame.
            raise Failure(f"cannot read the tables in {folder}: {str(error).splitlines()[0]}") from error


def report(folder: Path, sql: str) -> Answer:
    """Run a report's SELECT over the finalised hours of a warehouse folder."""
    return _ask(folder, sql)


def attribution_of_last_day(folder: Path) -> Answer:
    """How many rows of the last day have which attribution."""
    return _ask(folder, _UNATTRIBUTED)
