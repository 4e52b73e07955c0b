"""One day's rows of container_usage_5m to workload_profile_1d: all replicas of a workload pooled, hour by hour."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from egpu_runtime.contract.resources import ADVICE_OFF
from egpu_runtime.contract.units import HOUR_MS
from pipeline.columns import schema
from pipeline.contract.tables import ATTRIBUTED, CONTAINER_USAGE, GPU_USAGE, HOURS_PER_DAY, WORKLOAD_PROFILE
from pipeline.rollup import Flags, Floats, Ints

Column: TypeAlias = "pa.Array[Any]"
Columns: TypeAlias = dict[str, Column]

_KEY: Final = ("cluster", "namespace", "workload_kind", "workload", "container", "gpu_model")

READ_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    CONTAINER_USAGE.name: (
        *_KEY,
        *("attribution", "window_start_ms", "pod", "pod_uid", "node", "gpu_uuid", "tenant", "priority", "advice"),
        *("memory_quota_bytes", "core_quota_ratio", "memory_used_bytes_max", "observed_ratio"),
        *("core_used_ratio_mean", "core_used_ratio_max", "core_used_ratio_p95"),
    ),
    GPU_USAGE.name: ("cluster", "gpu_model", "memory_total_bytes"),
}
"""Columns of the tables by window that profiles are made from; a day has no use for the others."""

_P95: Final = 95
_MEDIAN: Final = 50


@dataclass(frozen=True, slots=True)
class _Coded:
    """A text column as numbers in text order."""

    code: Ints
    texts: list[str]


def _coded(column: "pa.ChunkedArray[Any]") -> _Coded:
    encoded = column.combine_chunks().dictionary_encode()
    texts = [str(text) for text in encoded.dictionary.to_pylist()]
    rank = np.empty(len(texts), np.int64)
    rank[np.argsort(np.array(texts, dtype=object), kind="stable")] = np.arange(len(texts))
    return _Coded(rank[encoded.indices.to_numpy(zero_copy_only=False)], sorted(texts))


def _numbered(columns: list[Ints]) -> tuple[Ints, Ints]:
    """Number equal combinations of codes, in order; returns the numbers and the first row of each."""
    number = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, number = np.unique(number * (int(column.max()) + 1) + column, return_inverse=True)
    _, first = np.unique(number, return_index=True)
    return number, first


def _floats(table: pa.Table, name: str) -> Floats:
    values: Floats = table.column(name).to_numpy()
    return values.astype(np.float64)


@dataclass(frozen=True)
class _Day:
    """The day's attributed rows, sorted by (group, window, pod, card); all arrays by row.

    ``group`` = workload, ``window`` = number of the window in the day.
    """

    table: pa.Table
    group: Ints
    window: Ints
    pod: Ints
    card: Ints
    group_count: int
    windows_per_hour: int

    def starts(self, *columns: Ints) -> Ints:
        """First rows of the runs in which all the columns stay the same."""
        change = np.zeros(len(self.group), np.bool_)
        change[:1] = True
        for column in columns:
            change[1:] |= column[1:] != column[:-1]
        return np.flatnonzero(change)

    @property
    def hour(self) -> Ints:
        """Hour of the day of each row."""
        return self.window // self.windows_per_hour


def _day(table: pa.Table, day_ms: int, window_ms: int) -> _Day:
    group, _ = _numbered([_coded(table.column(name)).code for name in _KEY])
    pod, _ = _numbered([_coded(table.column(name)).code for name in ("cluster", "namespace", "pod", "pod_uid")])
    card, _ = _numbered([_coded(table.column(name)).code for name in ("cluster", "node", "gpu_uuid")])
    window = (table.column("window_start_ms").to_numpy() - day_ms) // window_ms
    order = np.lexsort((card, pod, window, group))
    return _Day(
        table.take(order),
        group[order],
        window[order],
        pod[order],
        card[order],
        int(group.max()) + 1,
        HOUR_MS // window_ms,
    )


def _by_group(day: _Day, starts: Ints, values: Ints | Floats, reduce: np.ufunc) -> Floats:
    """Reduce values given by run (``starts``) over each group; every group has a run."""
    group = day.group[starts]
    first = np.flatnonzero(np.diff(group, prepend=-1))
    result: Floats = reduce.reduceat(values, first).astype(np.float64)
    return result


def _by_hour(day: _Day, starts: Ints, values: Floats, reduce: np.ufunc) -> Floats:
    """Reduce values given by run over each (group, hour); NaN where there is no run."""
    cell = day.group[starts] * HOURS_PER_DAY + day.hour[starts]
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    result = np.full(day.group_count * HOURS_PER_DAY, np.nan)
    result[cell[first]] = reduce.reduceat(values, first)
    return result.reshape(day.group_count, HOURS_PER_DAY)


def _rank(values: Floats, cell: Ints, *, cell_count: int, percent: int) -> Floats:
    """Nearest rank of the values (NaN left out) of each cell; NaN where a cell has none."""
    known = ~np.isnan(values)
    values, cell = values[known], cell[known]
    order = np.lexsort((values, cell))
    values, cell = values[order], cell[order]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    result = np.full(cell_count, np.nan)
    if len(starts):
        counts = np.diff(starts, append=len(cell))
        # The runs are sorted already, so the rank is a position.
        ranks = -(-percent * counts // 100) - 1
        result[cell[starts]] = values[starts + ranks]
    return result


def _mean(values: Floats, day: _Day, starts: Ints) -> Floats:
    """Mean by (group, hour) of values given by run, NaN left out."""
    known = ~np.isnan(values)
    total = _by_hour(day, starts, np.where(known, values, 0.0), np.add)
    count = _by_hour(day, starts, known.astype(np.float64), np.add)
    with np.errstate(invalid="ignore"):
        mean: Floats = total / count
    return mean


def _lists(values: Floats) -> Column:
    flat = pa.array(values.ravel(), pa.float64(), from_pandas=True)
    offsets = pa.array(range(0, values.size + 1, HOURS_PER_DAY), pa.int32())
    lists: Column = pa.ListArray.from_arrays(offsets, flat)
    return lists


def _load(day: _Day) -> Columns:
    """Columns about use."""
    windows = day.starts(day.group, day.window)
    every = np.arange(len(day.group))
    memory = _floats(day.table, "memory_used_bytes_max")
    core_mean = np.fmax.reduceat(_floats(day.table, "core_used_ratio_mean"), windows)
    core_max = np.fmax.reduceat(_floats(day.table, "core_used_ratio_max"), windows)
    p95 = _rank(
        _floats(day.table, "core_used_ratio_p95"),
        day.group * HOURS_PER_DAY + day.hour,
        cell_count=day.group_count * HOURS_PER_DAY,
        percent=_P95,
    )
    seen = _by_group(day, windows, (~np.isnan(core_max)).astype(np.int64), np.add)
    idle = _by_group(day, windows, (core_max == 0).astype(np.int64), np.add)
    observed = _floats(day.table, "observed_ratio")
    with np.errstate(invalid="ignore"):
        idle_ratio = idle / seen
    return {
        "hourly_memory_used_bytes_max": _lists(_by_hour(day, every, memory, np.fmax)),
        "hourly_core_used_ratio_mean": _lists(_mean(core_mean, day, windows)),
        "hourly_core_used_ratio_p95": _lists(p95.reshape(-1, HOURS_PER_DAY)),
        "memory_used_bytes_median": pa.array(
            _rank(memory, day.group, cell_count=day.group_count, percent=_MEDIAN), from_pandas=True
        ),
        "core_idle_window_ratio": pa.array(idle_ratio, from_pandas=True),
        "observed_ratio": pa.array(
            _by_group(day, every, observed, np.add) / np.bincount(day.group, minlength=day.group_count)
        ),
    }


def _replicas(day: _Day, last: Flags, live: Flags) -> Columns:
    """Columns about replicas; ``last`` = rows of each group's last window, ``live`` = groups alive at the end."""
    pods = day.starts(day.group, day.window, day.pod)
    windows = day.starts(day.group, day.window)
    pods_of_window = np.diff(np.searchsorted(pods, windows), append=len(pods))
    cards_of_pod = np.diff(pods, append=len(day.group))
    on_card = np.lexsort((day.card, day.window, day.group))
    group, window, card = day.group[on_card], day.window[on_card], day.card[on_card]
    new = np.ones(len(group), np.bool_)
    new[1:] = (group[1:] != group[:-1]) | (window[1:] != window[:-1]) | (card[1:] != card[:-1])
    starts = np.flatnonzero(new)
    pods_on_card = np.zeros(day.group_count, np.int64)
    np.maximum.at(pods_on_card, group[starts], np.diff(starts, append=len(group)))
    live_pods = np.bincount(day.group[pods][last[pods]], minlength=day.group_count)
    uuids: list[set[str]] = [set() for _ in range(day.group_count)]
    chosen = np.flatnonzero(last & live[day.group])
    names = day.table.column("gpu_uuid").take(chosen).to_pylist()
    for of_group, name in zip(day.group[chosen].tolist(), names, strict=True):
        uuids[of_group].add(name)
    return {
        "window_count": pa.array(np.bincount(day.group[pods], minlength=day.group_count), pa.int32()),
        "live_replicas": pa.array(np.where(live, live_pods, 0), pa.int32()),
        "replicas_max": pa.array(_by_group(day, windows, pods_of_window, np.maximum).astype(np.int32)),
        "replicas_per_card_max": pa.array(pods_on_card, pa.int32()),
        "cards_per_pod_max": pa.array(_by_group(day, pods, cards_of_pod, np.maximum).astype(np.int32)),
        "gpu_uuids": pa.array([sorted(each) for each in uuids], pa.list_(pa.string())),
    }


def _facts(day: _Day, last: Flags) -> Columns:
    """Key, facts and quota of each group; facts and quota are of its last window."""
    first = day.starts(day.group)
    columns: Columns = {name: day.table.column(name).take(first).combine_chunks() for name in _KEY}
    for name in ("tenant", "priority"):
        coded = _coded(day.table.column(name))
        # The greatest text of the last window in which the workload has one.
        packed = np.where(
            np.array([text != "" for text in coded.texts], np.bool_)[coded.code],
            day.window * (len(coded.texts) + 1) + coded.code + 1,
            0,
        )
        best = np.maximum.reduceat(packed, first) % (len(coded.texts) + 1)
        columns[name] = pa.array([coded.texts[code - 1] if code else "" for code in best.tolist()])
    advice = _coded(day.table.column("advice"))
    off = np.array([text == ADVICE_OFF for text in advice.texts], np.int64)[advice.code]
    columns["advice"] = pa.array([ADVICE_OFF if flag else "" for flag in np.maximum.reduceat(off, first).tolist()])
    for name in ("memory_quota_bytes", "core_quota_ratio"):
        quota = np.where(last, _floats(day.table, name), np.nan)
        columns[name] = pa.array(np.fmax.reduceat(quota, first), from_pandas=True)
    return columns


def _memory_totals(cards: pa.Table, columns: Columns) -> Column:
    """Greatest memory of a card of each row's model in its cluster."""
    totals: dict[tuple[str, str], float] = {}
    grouped = cards.group_by(["cluster", "gpu_model"]).aggregate([("memory_total_bytes", "max")]).to_pylist()
    for row in grouped:
        totals[(row["cluster"], row["gpu_model"])] = row["memory_total_bytes_max"]
    keys = zip(columns["cluster"].to_pylist(), columns["gpu_model"].to_pylist(), strict=True)
    return pa.array([totals.get((str(cluster), str(model))) for cluster, model in keys], pa.float64())


def _last_windows(table: pa.Table, day_ms: int, window_ms: int) -> dict[str, int]:
    """Number of the last window of the day that each cluster has rows for."""
    grouped = table.group_by(["cluster"]).aggregate([("window_start_ms", "max")]).to_pylist()
    return {row["cluster"]: (row["window_start_ms_max"] - day_ms) // window_ms for row in grouped}


def day_profile(containers: pa.Table, cards: pa.Table, *, day_ms: int, window_ms: int) -> pa.Table:
    """Rows of workload_profile_1d from the day's rows of container_usage_5m and gpu_usage_5m, in any order.

    Of the tables' columns :data:`READ_COLUMNS` are needed. Only attributed rows of a known workload count.
    """
    attributed = containers.filter((pc.field("attribution") == ATTRIBUTED) & (pc.field("workload") != ""))
    if attributed.num_rows == 0:
        return schema(WORKLOAD_PROFILE).empty_table()
    day = _day(attributed, day_ms, window_ms)
    ends = np.append(day.starts(day.group)[1:], len(day.group)) - 1
    last_window = day.window[ends]
    last = day.window == last_window[day.group]
    columns = _facts(day, last)
    end_of_cluster = _last_windows(containers, day_ms, window_ms)
    live = last_window == np.array([end_of_cluster[str(cluster)] for cluster in columns["cluster"].to_pylist()])
    columns["day_start_ms"] = pa.array(np.full(day.group_count, day_ms, np.int64))
    columns["memory_total_bytes"] = _memory_totals(cards, columns)
    columns.update(_load(day))
    columns.update(_replicas(day, last, live))
    target = schema(WORKLOAD_PROFILE)
    return pa.table({name: columns[name].cast(target.field(name).type) for name in target.names}, schema=target)
