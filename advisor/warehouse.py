"""The tables as arrays: the advisor's one door to DuckDB. Rows arrive in batches, so that memory stays bounded."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import gcd
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from advisor.backtest import Later
from advisor.contract import WorkloadKey
from advisor.demand import CORE_UNITS, HOURS_PER_DAY, Doubles, Facts, Fleet, Floats
from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.resources import ADVICE_OFF
from egpu_runtime.contract.units import DAY_MS, HOUR_MS, MIB, SECOND_MS
from pipeline.contract.ddl import duckdb_ddl
from pipeline.contract.tables import (
    ATTRIBUTED,
    CONTAINER_USAGE,
    MANIFEST_FILE,
    WAREHOUSE_SCHEMA_VERSION,
    WORKLOAD_PROFILE,
    Table,
)

_BATCH_ROWS: Final = 20_000
_MEMORY_LIMIT: Final = "1GB"
_MANIFEST_VERSION_KEY: Final = "schema_version"

_KEY_COLUMNS: Final = ("cluster", "namespace", "workload_kind", "workload", "container", "gpu_model")
_KEYS: Final = ", ".join(_KEY_COLUMNS)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which workloads are advised: in any of ``namespaces`` (empty = all) and whose name holds a match of the regex."""

    namespaces: tuple[str, ...] = ()
    workload: str = ""


class Warehouse:
    """A folder of Hive-partitioned Parquet, read only. Raises Failure with one sentence where it cannot be read."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise Failure(f"{folder}: no such folder; give --warehouse the one that egpu-pipeline writes")
        self._folder = folder
        if not self._has(WORKLOAD_PROFILE):
            raise Failure(f"{folder}: no table {WORKLOAD_PROFILE.name} in it; run egpu-pipeline first")
        self._connection = duckdb.connect(
            config={"memory_limit": _MEMORY_LIMIT, "temp_directory": tempfile.gettempdir()}
        )
        self._connection.execute("SET preserve_insertion_order = false")
        for table in (WORKLOAD_PROFILE, CONTAINER_USAGE):
            if self._has(table):
                self._check_version(table)
                self._rows(duckdb_ddl(table, str(folder)))

    def _has(self, table: Table) -> bool:
        return any(self._manifest_or_data(table))

    def _manifest_or_data(self, table: Table) -> Iterator[Path]:
        depth = "*/" * len(table.partitions)
        return (self._folder / table.name).glob(f"{depth}*.parquet")

    def _check_version(self, table: Table) -> None:
        """Versions are told by the newest manifest: a warehouse is written by one program at a time."""
        depth = "*/" * len(table.partitions)
        newest = max((self._folder / table.name).glob(f"{depth}{MANIFEST_FILE}"), default=None)
        if newest is None:
            return
        try:
            version = msgspec.json.decode(newest.read_bytes(), type=dict[str, object]).get(_MANIFEST_VERSION_KEY, 0)
        except msgspec.DecodeError as error:
            raise Failure(f"{newest}: not a manifest: {error}") from error
        if isinstance(version, int) and version > WAREHOUSE_SCHEMA_VERSION:
            raise Failure(
                f"{self._folder}: table {table.name} has schema version {version}, "
                f"this program reads up to {WAREHOUSE_SCHEMA_VERSION}; update it"
            )

    def _rows(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except duckdb.Error as error:
            raise Failure(f"{self._folder}: {_first_line(error)}") from error

    def _batches(self, query: str, *parameters: object) -> Iterator[pa.RecordBatch]:
        try:
            reader = self._connection.sql(query, params=parameters).to_arrow_reader(_BATCH_ROWS)
            if reader is not None:
                yield from reader
        except duckdb.Error as error:
            raise Failure(f"{self._folder}: {_first_line(error)}") from error

    def read_fleet(self, selection: Selection, *, days_max: int) -> tuple[Fleet, dict[tuple[str, str], frozenset[str]]]:
        """Profiles of the selected workloads over the last ``days_max`` days, and cards that others hold.

        The hours begin and end with the first and last one in which anything was observed.
        """
        ((last_ms,),) = self._rows(f"SELECT max(day_start_ms) FROM {WORKLOAD_PROFILE.name}")
        if not isinstance(last_ms, int):
            raise Failure(f"{self._folder}: table {WORKLOAD_PROFILE.name} is empty")
        first_ms = last_ms - (days_max - 1) * DAY_MS
        self._rows(
            "CREATE OR REPLACE TEMP TABLE last_days AS "
            f"SELECT cluster, max(day_start_ms) AS last_ms FROM {WORKLOAD_PROFILE.name} GROUP BY cluster"
        )
        self._select(selection, first_ms)
        keys = tuple(WorkloadKey(*map(str, row)) for row in self._rows(f"SELECT {_KEYS} FROM chosen ORDER BY position"))
        if not keys:
            raise Failure("no workload matches --namespace and --workload")
        memory = np.full((len(keys), days_max * HOURS_PER_DAY), np.nan, np.float32)
        core = np.full_like(memory, np.nan)
        self._fill_profiles(memory, core, first_ms)
        facts = self._facts(first_ms)
        hours = np.flatnonzero(~np.isnan(memory).all(axis=0) | ~np.isnan(core).all(axis=0))
        if hours.size == 0:
            raise Failure(f"{self._folder}: no workload was ever observed in the last {days_max} days")
        first, end = int(hours[0]), int(hours[-1]) + 1
        fleet = Fleet(keys, facts, first_ms + first * HOUR_MS, memory[:, first:end], core[:, first:end])
        return fleet, self._held()

    def _select(self, selection: Selection, first_ms: int) -> None:
        """Temporary table ``chosen``: the selected workloads, numbered in the order of their keys."""
        where = "day_start_ms >= ?"
        values: list[object] = [first_ms]
        if selection.namespaces:
            where += f" AND namespace IN ({', '.join('?' * len(selection.namespaces))})"
            values += selection.namespaces
        if selection.workload:
            try:
                re.compile(selection.workload)
            except re.error as error:
                raise Failure(f"--workload {selection.workload!r} is not a regular expression: {error}") from error
            where += " AND regexp_matches(workload, ?)"
            values.append(selection.workload)
        self._rows(
            f"CREATE OR REPLACE TEMP TABLE chosen AS "
            f"SELECT row_number() OVER (ORDER BY {_KEYS}) - 1 AS position, {_KEYS} "
            f"FROM (SELECT DISTINCT {_KEYS} FROM {WORKLOAD_PROFILE.name} WHERE {where})",
            *values,
        )

    def _fill_profiles(self, memory: Floats, core: Floats, first_ms: int) -> None:
        query = (
            "SELECT position, (day_start_ms - $1) // 86400000 AS day, hourly_memory_used_bytes_max AS memory, "
            f"hourly_core_used_ratio_p95 AS core FROM {WORKLOAD_PROFILE.name} JOIN chosen USING ({_KEYS}) "
            "WHERE day_start_ms >= $1 AND len(hourly_memory_used_bytes_max) = 24 "
            "AND len(hourly_core_used_ratio_p95) = 24"
        )
        by_day = (memory.reshape(len(memory), -1, HOURS_PER_DAY), core.reshape(len(core), -1, HOURS_PER_DAY))
        for batch in self._batches(query, first_ms):
            position, day = (_numbers(batch.column(name)).astype(np.int64) for name in ("position", "day"))
            by_day[0][position, day] = np.ceil(_lists(batch.column("memory")) / MIB)
            by_day[1][position, day] = np.round(_lists(batch.column("core")) * CORE_UNITS)

    def _facts(self, first_ms: int) -> tuple[Facts, ...]:
        """Newest facts of each workload; who has no row on its cluster's last day has no live replica."""
        columns = (
            "memory_quota_bytes",
            "core_quota_ratio",
            "memory_total_bytes",
            "live_replicas",
            "replicas_per_card_max",
            "cards_per_pod_max",
            "gpu_uuids",
            "advice",
            "tenant",
        )
        newest = ", ".join(f"arg_max({name}, day_start_ms) AS {name}" for name in columns)
        query = (
            f"SELECT {newest}, max(day_start_ms) = any_value(last_ms), "
            "sum(observed_ratio * window_count) / nullif(sum(window_count), 0) "
            f"FROM {WORKLOAD_PROFILE.name} JOIN chosen USING ({_KEYS}) JOIN last_days USING (cluster) "
            "WHERE day_start_ms >= ? GROUP BY position ORDER BY position"
        )
        return tuple(_fact(row) for row in self._rows(query, first_ms))

    def _held(self) -> dict[tuple[str, str], frozenset[str]]:
        """Cards held on the last day by workloads that are not selected, and by containers nobody is known for."""
        rows = self._rows(
            f"SELECT cluster, gpu_model, unnest(gpu_uuids) FROM {WORKLOAD_PROFILE.name} "
            f"ANTI JOIN chosen USING ({_KEYS}) JOIN last_days USING (cluster) "
            "WHERE day_start_ms = last_ms AND live_replicas > 0"
        )
        if self._has(CONTAINER_USAGE):
            rows += self._rows(
                f"SELECT DISTINCT cluster, gpu_model, gpu_uuid FROM {CONTAINER_USAGE.name} WHERE attribution <> ? "
                f"AND window_start_ms = (SELECT max(window_start_ms) FROM {CONTAINER_USAGE.name} WHERE dt = ("
                f"SELECT max(dt) FROM {CONTAINER_USAGE.name}))",
                ATTRIBUTED,
            )
        held: dict[tuple[str, str], set[str]] = defaultdict(set)
        for cluster, model, uuid in rows:
            if uuid:
                held[(str(cluster), str(model or ""))].add(str(uuid))
        return {model: frozenset(uuids) for model, uuids in held.items()}

    def read_later(self, fleet: Fleet, first_ms: int) -> Later:
        """Use from ``first_ms`` on by windows of the usage table; by hours of the profiles where it is missing."""
        end_ms = fleet.start_ms + fleet.hours * HOUR_MS
        step_ms = self._step_ms(first_ms)
        if step_ms is None:
            first = (first_ms - fleet.start_ms) // HOUR_MS
            return Later(first_ms, HOUR_MS // SECOND_MS, fleet.memory[:, first:], fleet.core[:, first:])
        memory = np.full((len(fleet.keys), (end_ms - first_ms) // step_ms), np.nan, np.float32)
        core = np.full_like(memory, np.nan)
        query = (
            "SELECT position, (window_start_ms - $1) // $2 AS step, max(memory_used_bytes_max) AS memory, "
            f"max(core_used_ratio_p95) AS core FROM {CONTAINER_USAGE.name} JOIN chosen USING ({_KEYS}) "
            f"WHERE dt = $3 AND window_start_ms >= $1 AND attribution = '{ATTRIBUTED}' GROUP BY ALL"
        )
        first_day = datetime.fromtimestamp(first_ms / 1000, UTC).strftime("%Y-%m-%d")
        days = self._rows(f"SELECT DISTINCT dt FROM {CONTAINER_USAGE.name} WHERE dt >= ? ORDER BY dt", first_day)
        for (day,) in days:
            for batch in self._batches(query, first_ms, step_ms, day):
                position, step = (_numbers(batch.column(name)).astype(np.int64) for name in ("position", "step"))
                inside = step < memory.shape[1]
                memory[position[inside], step[inside]] = _numbers(batch.column("memory"))[inside] / MIB
                core[position[inside], step[inside]] = np.round(_numbers(batch.column("core"))[inside] * CORE_UNITS)
        return Later(first_ms, step_ms // SECOND_MS, memory, core)

    def _step_ms(self, first_ms: int) -> int | None:
        """Length of the usage table's windows: the greatest that divides all their starts; None without data."""
        if not self._has(CONTAINER_USAGE):
            return None
        rows = self._rows(
            f"SELECT DISTINCT window_start_ms % {HOUR_MS} FROM {CONTAINER_USAGE.name} WHERE window_start_ms >= ?",
            first_ms,
        )
        return gcd(HOUR_MS, *(int(str(row[0])) for row in rows)) if rows else None


def _fact(row: tuple[object, ...]) -> Facts:
    quota, core_quota, total, live, per_card, per_pod, cards, advice, tenant, on_last_day, observed = row
    alive = int(str(live or 0)) if on_last_day else 0
    return Facts(
        memory_quota_mib=_mib(quota),
        core_quota_percent=100 if core_quota is None else max(round(float(str(core_quota)) * 100), 1),
        card_memory_mib=_mib(total),
        live_replicas=alive,
        replicas_per_card_max=int(str(per_card or 1)),
        cards_per_pod_max=int(str(per_pod or 1)),
        cards=tuple(sorted(map(str, cards))) if alive and isinstance(cards, list) else (),
        advice_off=advice == ADVICE_OFF,
        observed_ratio=round(float(str(observed)), 6) if observed is not None else 0.0,  # sums in any order
        tenant=str(tenant or ""),
    )


def _mib(amount: object) -> int | None:
    return None if amount is None else round(float(str(amount)) / MIB)


def _numbers(column: Any) -> Doubles:
    """An Arrow column of numbers as float64, NULL as NaN."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _lists(column: Any) -> Doubles:
    """An Arrow column of 24 values each as [rows, 24], NULL as NaN."""
    return _numbers(column.flatten()).reshape(-1, HOURS_PER_DAY)


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]
