"""The fleet's history from the tables: which rows are asked for, and how they become arrays.

One set of SELECTs for every engine; where its words differ is in ``pipeline.contract.dialect``. An engine gives rows
in batches, so memory is bounded by the arrays that are filled; every SELECT names the days (``dt``) it needs, so that
other days are not opened. Workloads are told apart here and not by a temporary table: a reader may write nothing.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import gcd
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from advisor.backtest import Later
from advisor.contract import WorkloadKey
from advisor.demand import CORE_UNITS, HOURS_PER_DAY, Doubles, Facts, Fleet, Floats, Ints
from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.resources import ADVICE_OFF
from egpu_runtime.contract.units import DAY_MS, HOUR_MS, MIB, SECOND_MS
from pipeline.contract.dialect import Dialect
from pipeline.contract.tables import ATTRIBUTED, CONTAINER_USAGE, WORKLOAD_PROFILE, Table

_KEYS: Final = "cluster, namespace, workload_kind, workload, container, gpu_model"
_FACTS: Final = (
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
_PROFILE_ROWS: Final = 20_000
"""Rows of a batch of profiles, each two arrays of 24."""

_DAY_ROWS: Final = 1_000
"""Rows of a batch of usage, each three arrays of a day's windows."""

_WINDOWS_MAX: Final = 4_000_000
"""Windows of use that one SELECT gathers into arrays; bounds the engine's memory, 100 MB in DuckDB."""

_WINDOWS_PER_HOUR: Final = 12
_UNSEEN: Final = -1.0
"""Stands for NULL inside gathered arrays; use is never negative."""

Held = dict[tuple[str, str], frozenset[str]]
"""By (cluster, card model): uuids of cards that are held by who is not advised."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which workloads are advised: in any of ``namespaces`` (empty = all) and whose name holds a match of the regex."""

    namespaces: tuple[str, ...] = ()
    workload: str = ""


class Tables(Protocol):
    """The tables behind one engine; as text it is what a person named. Raises Failure where they cannot be read."""

    @property
    def dialect(self) -> Dialect:
        """Words of the engine."""

    def days(self, table: Table) -> Sequence[str]:
        """Values of ``dt`` that a table has, ascending; empty where there is no such table."""

    def batches(self, query: str, rows_max: int) -> Iterator[pa.RecordBatch]:
        """Rows of a SELECT, at most about so many at a time; arrays as Arrow lists."""


def _day(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / SECOND_MS, UTC).strftime("%Y-%m-%d")


def _day_start_ms(day: str) -> int:
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * SECOND_MS


class History:
    """The selected workloads of some tables."""

    def __init__(self, tables: Tables, selection: Selection) -> None:
        try:
            re.compile(selection.workload)
        except re.error as error:
            raise Failure(f"--workload {selection.workload!r} is not a regular expression: {error}") from error
        self._tables = tables
        self._selected = _selected(selection, tables.dialect)
        self._positions: dict[tuple[str, ...], int] = {}

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        batches = self._tables.batches(query, _PROFILE_ROWS)
        return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]

    def read_fleet(self, *, days_max: int) -> tuple[Fleet, Held]:
        """Profiles of the selected workloads over the last ``days_max`` days, and cards that others hold.

        The hours begin and end with the first and last one in which anything was observed.
        """
        days = self._tables.days(WORKLOAD_PROFILE)
        if not days:
            raise Failure(f"{self._tables}: table {WORKLOAD_PROFILE.name} is empty; run egpu-pipeline first")
        first_ms = _day_start_ms(days[-1]) - (days_max - 1) * DAY_MS
        last_days = self._last_days(first_ms)
        keys, facts = self._facts(first_ms, last_days)
        if not keys:
            raise Failure("no workload matches --namespace and --workload")
        self._positions = {tuple(key): position for position, key in enumerate(keys)}
        memory = np.full((len(keys), days_max * HOURS_PER_DAY), np.nan, np.float32)
        core = np.full_like(memory, np.nan)
        self._fill_profiles(memory, core, first_ms)
        hours = np.flatnonzero(~np.isnan(memory).all(axis=0) | ~np.isnan(core).all(axis=0))
        if hours.size == 0:
            raise Failure(f"{self._tables}: no workload was ever observed in the last {days_max} days")
        first, end = int(hours[0]), int(hours[-1]) + 1
        named = tuple(WorkloadKey(*key) for key in keys)
        fleet = Fleet(named, facts, first_ms + first * HOUR_MS, memory[:, first:end], core[:, first:end])
        return fleet, self._held(last_days)

    def _last_days(self, first_ms: int) -> dict[str, int]:
        """By cluster the start of its last day, ms."""
        rows = self._rows(
            f"SELECT cluster, max(day_start_ms) AS last_ms FROM {WORKLOAD_PROFILE.name} "
            f"WHERE dt >= '{_day(first_ms)}' GROUP BY cluster"
        )
        return {str(cluster): int(last_ms) for cluster, last_ms in rows}

    def _facts(
        self, first_ms: int, last_days: Mapping[str, int]
    ) -> tuple[tuple[tuple[str, ...], ...], tuple[Facts, ...]]:
        """Keys, ascending, and newest facts; who has no row on its cluster's last day has no live replica."""
        newest = ", ".join(f"{self._tables.dialect.newest(name, 'day_start_ms')} AS {name}" for name in _FACTS)
        rows = self._rows(
            f"SELECT {_KEYS}, {newest}, max(day_start_ms) AS last_ms, "
            "sum(observed_ratio * window_count) / nullif(sum(window_count), 0) AS observed "
            f"FROM {WORKLOAD_PROFILE.name} WHERE dt >= '{_day(first_ms)}'{self._selected} GROUP BY {_KEYS}"
        )
        found = {_key(row[:6]): row[6:] for row in rows}
        keys = tuple(sorted(found))
        return keys, tuple(_fact(found[key], on_last_day=found[key][-2] == last_days.get(key[0])) for key in keys)

    def _positions_of(self, batch: pa.RecordBatch) -> Ints:
        """Row of the fleet for each row of a batch, whose first columns are the keys; -1 = not selected."""
        keys = zip(*(batch.column(number).to_pylist() for number in range(6)), strict=True)
        return np.fromiter((self._positions.get(_key(key), -1) for key in keys), np.int64, batch.num_rows)

    def _fill_profiles(self, memory: Floats, core: Floats, first_ms: int) -> None:
        length = self._tables.dialect.length_of
        columns = ("hourly_memory_used_bytes_max", "hourly_core_used_ratio_p95")
        query = (
            f"SELECT {_KEYS}, day_start_ms, {', '.join(columns)} FROM {WORKLOAD_PROFILE.name} "
            f"WHERE dt >= '{_day(first_ms)}'{self._selected}"
            + "".join(f" AND {length(column)} = {HOURS_PER_DAY}" for column in columns)
        )
        by_day = (memory.reshape(len(memory), -1, HOURS_PER_DAY), core.reshape(len(core), -1, HOURS_PER_DAY))
        for batch in self._tables.batches(query, _PROFILE_ROWS):
            position = self._positions_of(batch)
            day = (_numbers(batch.column(6)).astype(np.int64) - first_ms) // DAY_MS
            known = (position >= 0) & (day >= 0) & (day < by_day[0].shape[1])
            position, day = position[known], day[known]
            by_day[0][position, day] = np.ceil(_lists(batch.column(7))[known] / MIB)
            by_day[1][position, day] = np.round(_lists(batch.column(8))[known] * CORE_UNITS)

    def _held(self, last_days: Mapping[str, int]) -> Held:
        """Cards held on the last day by workloads that are not selected, and by containers nobody is known for."""
        held: dict[tuple[str, str], set[str]] = defaultdict(set)
        days = ", ".join(f"'{day}'" for day in sorted({_day(last_ms) for last_ms in last_days.values()}))
        query = (
            f"SELECT {_KEYS}, day_start_ms, gpu_uuids FROM {WORKLOAD_PROFILE.name} "
            f"WHERE dt IN ({days}) AND live_replicas > 0"
        )
        for *key, day_ms, uuids in self._rows(query):
            if _key(key) not in self._positions and day_ms == last_days.get(str(key[0])):
                held[(str(key[0]), str(key[5] or ""))] |= set(uuids or ())
        for cluster, model, uuid in self._unattributed():
            held[(str(cluster), str(model or ""))].add(str(uuid or ""))
        return {of: frozenset(uuids - {""}) for of, uuids in held.items() if uuids - {""}}

    def _unattributed(self) -> list[tuple[Any, ...]]:
        """(cluster, card model, uuid) of cards whose container is not known, in the last window of all."""
        days = self._tables.days(CONTAINER_USAGE)
        if not days:
            return []
        on_day = f"FROM {CONTAINER_USAGE.name} WHERE dt = '{days[-1]}'"
        ((last_ms,),) = self._rows(f"SELECT max(window_start_ms) AS last_ms {on_day}")
        if last_ms is None:
            return []
        hour = f"{last_ms % DAY_MS // HOUR_MS:02d}"
        return self._rows(
            f"SELECT DISTINCT cluster, gpu_model, gpu_uuid {on_day} AND hour = '{hour}' "
            f"AND window_start_ms = {last_ms} AND attribution <> '{ATTRIBUTED}'"
        )

    def read_later(self, fleet: Fleet, first_ms: int) -> Later:
        """Use from ``first_ms`` on by windows of the usage table; by hours of the profiles where it is missing."""
        end_ms = fleet.start_ms + fleet.hours * HOUR_MS
        days = [day for day in self._tables.days(CONTAINER_USAGE) if _day(first_ms) <= day <= _day(end_ms)]
        step_ms = self._step_ms(first_ms, days)
        if step_ms is None:
            first = (first_ms - fleet.start_ms) // HOUR_MS
            return Later(first_ms, HOUR_MS // SECOND_MS, fleet.memory[:, first:], fleet.core[:, first:])
        memory = np.full((len(fleet.keys), (end_ms - first_ms) // step_ms), np.nan, np.float32)
        core = np.full_like(memory, np.nan)
        for chosen in stretches(days, workload_count=len(fleet.keys)):
            query = _usage_query(f"{chosen} AND window_start_ms >= {first_ms}{self._selected}", self._tables.dialect)
            for batch in self._tables.batches(query, _DAY_ROWS):
                times, used, busy = _columns(batch, 7, 8, 9)
                position = np.repeat(self._positions_of(batch), _lengths(times))
                step = (_numbers(times.flatten()).astype(np.int64) - first_ms) // step_ms
                inside = (position >= 0) & (step >= 0) & (step < memory.shape[1])
                position, step = position[inside], step[inside]
                memory[position, step] = _seen(used)[inside] / MIB
                core[position, step] = np.round(_seen(busy)[inside] * CORE_UNITS)
        return Later(first_ms, step_ms // SECOND_MS, memory, core)

    def _step_ms(self, first_ms: int, days: Sequence[str]) -> int | None:
        """Length of the usage table's windows: the greatest that divides all their starts; None without data."""
        if not days:
            return None
        rows = self._rows(
            f"SELECT DISTINCT window_start_ms % {HOUR_MS} AS start_ms FROM {CONTAINER_USAGE.name} "
            f"WHERE dt >= '{days[0]}' AND window_start_ms >= {first_ms}"
        )
        return gcd(HOUR_MS, *(int(row[0]) for row in rows)) if rows else None


def stretches(days: Sequence[str], *, workload_count: int) -> Iterator[str]:
    """Conditions on ``dt`` and ``hour`` that together name every hour of the days once, each few enough windows."""
    hours = max(_WINDOWS_MAX // (workload_count * _WINDOWS_PER_HOUR), 1)
    whole_days = hours // HOURS_PER_DAY
    if whole_days:
        for first in range(0, len(days), whole_days):
            some = days[first : first + whole_days]
            yield f"dt >= '{some[0]}' AND dt <= '{some[-1]}'"
        return
    for day in days:
        for hour in range(0, HOURS_PER_DAY, hours):
            yield f"dt = '{day}' AND hour >= '{hour:02d}' AND hour <= '{min(hour + hours, HOURS_PER_DAY) - 1:02d}'"


def _usage_query(where: str, dialect: Dialect) -> str:
    """Use of each workload on each day as three arrays over its windows: start (ms), memory, compute.

    Arrays, since a row of HiveServer2 costs its client as much as some hundred numbers inside one.
    """
    return (
        f"SELECT {_KEYS}, dt, {dialect.list_of('window_start_ms')} AS times, "
        f"{dialect.list_of('memory')} AS memory, {dialect.list_of('core')} AS core FROM ("
        f"SELECT {_KEYS}, dt, window_start_ms, coalesce(max(memory_used_bytes_max), {_UNSEEN:e}) AS memory, "
        f"coalesce(max(core_used_ratio_p95), {_UNSEEN:e}) AS core FROM {CONTAINER_USAGE.name} "
        f"WHERE {where} AND attribution = '{ATTRIBUTED}' GROUP BY {_KEYS}, dt, window_start_ms"
        f") windows GROUP BY {_KEYS}, dt"
    )


def _selected(selection: Selection, dialect: Dialect) -> str:
    """Further conditions of a WHERE."""
    where = ""
    if selection.namespaces:
        where += f" AND namespace IN ({', '.join(map(dialect.literal, selection.namespaces))})"
    if selection.workload:
        where += f" AND {dialect.matches('workload', selection.workload)}"
    return where


def _key(values: Sequence[object]) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in values)


def _fact(row: tuple[Any, ...], *, on_last_day: bool) -> Facts:
    quota, core_quota, total, live, per_card, per_pod, cards, advice, tenant, _, observed = row
    alive = int(live or 0) if on_last_day else 0
    return Facts(
        memory_quota_mib=_mib(quota),
        core_quota_percent=100 if core_quota is None else max(round(float(core_quota) * 100), 1),
        card_memory_mib=_mib(total),
        live_replicas=alive,
        replicas_per_card_max=int(per_card or 1),
        cards_per_pod_max=int(per_pod or 1),
        cards=tuple(sorted(map(str, cards or ()))) if alive else (),
        advice_off=advice == ADVICE_OFF,
        observed_ratio=round(float(observed), 6) if observed is not None else 0.0,  # sums in any order
        tenant=str(tenant or ""),
    )


def _mib(amount: float | None) -> int | None:
    return None if amount is None else round(amount / MIB)


def _numbers(column: Any) -> Doubles:
    """An Arrow column of numbers as float64, NULL as NaN."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _lists(column: Any) -> Doubles:
    """An Arrow column of 24 values each as [rows, 24], NULL as NaN."""
    return _numbers(column.flatten()).reshape(-1, HOURS_PER_DAY)


def _columns(batch: pa.RecordBatch, *numbers: int) -> list[Any]:
    return [batch.column(number) for number in numbers]


def _lengths(column: Any) -> Ints:
    """Number of elements of each array of an Arrow column."""
    offsets = np.asarray(column.offsets.to_numpy(zero_copy_only=False), np.int64)
    return offsets[1:] - offsets[:-1]


def _seen(column: Any) -> Doubles:
    """The gathered values of a batch in one row, NaN where nothing was seen."""
    values = _numbers(column.flatten())
    return np.where(values < 0, np.nan, values)
