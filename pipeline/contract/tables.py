"""The tables: columns, types, units, and how each value comes from samples. DDL and both engines are generated from it.

Layout on disk: ``TABLE/dt=YYYY-MM-DD/hour=HH/part-0.parquet`` (UTC) for tables by window, ``TABLE/dt=YYYY-MM-DD/``
for tables by day; beside each file a ``_manifest.json``. Times are BIGINT ms UTC; partition columns are strings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from egpu_runtime.contract import metrics

WAREHOUSE_SCHEMA_VERSION: Final = 2
"""Written into every manifest and Parquet file; older is migrated, newer is refused. 2: a place in the log
may have partitions; the rows are those of 1."""

DATA_FILE: Final = "part-0.parquet"
MANIFEST_FILE: Final = "_manifest.json"

HOURS_PER_DAY: Final = 24

Type = Literal["STRING", "BIGINT", "INT", "DOUBLE", "BINARY", "ARRAY<DOUBLE>", "ARRAY<STRING>"]
Aggregate = Literal["key", "window", "fact", "max", "mean", "p95", "last", "increase", "samples", "observed", "derived"]
"""How a column is made. ``key``/``window`` name the row; ``fact`` = a label (the value at the greatest timestamp);
``max mean p95 last increase`` = of the de-duplicated samples of ``metric`` in the window (p95 = nearest rank, last =
value at the greatest timestamp, increase = sum of rises with resets, from the last sample before the window if it is
at most one window old); ``samples`` = distinct timestamps of ``metric``; ``observed`` = those x sample interval /
window, at most 1; ``derived`` = by the rule in ``help``."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, unit, the series it is made from (empty for derived ones) and how."""

    name: str
    type: Type
    unit: str
    aggregate: Aggregate
    help: str
    metric: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table; ``key`` names its rows, ``partitions`` its folders, rows are sorted by key and time. ``files`` = the
    files of a folder that hold rows, as a glob."""

    name: str
    help: str
    columns: tuple[Column, ...]
    partitions: tuple[str, ...]
    files: str = DATA_FILE

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns if c.aggregate in ("key", "window"))

    def column_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)


def _key(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "STRING", "", "key", f"Label {name}.") for name in names)


def _fact(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "STRING", "", "fact", f"Label {name}.") for name in names)


def _use(metric: str, column: str, unit: str, *aggregates: Aggregate) -> tuple[Column, ...]:
    return tuple(
        Column(f"{column}_{how}", "DOUBLE", unit, how, f"{how} of {metric} in the window.", metric)
        for how in aggregates
    )


def _one(metric: str, column: str, unit: str, how: Aggregate, help_text: str = "") -> Column:
    kind: Type = "BIGINT" if how == "samples" else "DOUBLE"
    return Column(column, kind, unit, how, help_text or f"{how} of {metric} in the window.", metric)


_WINDOW: Final = Column("window_start_ms", "BIGINT", "ms", "window", "Start of the window [start, end), epoch ms UTC.")
_MEMORY: Final = metrics.CONTAINER_MEMORY_USED.name
_CORE: Final = metrics.CONTAINER_CORE_USED.name
_CARD_MEMORY: Final = metrics.GPU_MEMORY_USED.name
_CARD_CORE: Final = metrics.GPU_UTILIZATION.name

ATTRIBUTED: Final = "attributed"
"""Value of ``attribution`` where the container, its pod and its card are known; else the reason why not."""

CONTAINER_USAGE: Final = Table(
    "container_usage_5m",
    "One container on one card in one window: what it may use and what it used.",
    (
        *_key("cluster", "node", "gpu_uuid", "namespace", "pod", "pod_uid", "container"),
        _WINDOW,
        *_fact("gpu_model", "tenant", "workload_kind", "workload", "priority"),
        Column("advice", "STRING", "", "derived", "'off' where the pod opted out of advice, else empty."),
        Column(
            "attribution", "STRING", "", "derived", "'attributed', or why the use could not be given to a container."
        ),
        _one(
            metrics.CONTAINER_MEMORY_QUOTA.name,
            "memory_quota_bytes",
            "bytes",
            "last",
            "Quota, from the agent, else from the scheduler, else the whole card; NULL if none is known.",
        ),
        _one(
            metrics.CONTAINER_CORE_QUOTA.name,
            "core_quota_ratio",
            "ratio",
            "last",
            "Share of one card, 0-1, from the agent, else the scheduler, else 1.",
        ),
        *_use(_MEMORY, "memory_used_bytes", "bytes", "max", "mean", "last"),
        *_use(_CORE, "core_used_ratio", "ratio", "max", "mean", "p95"),
        *_use(metrics.CONTAINER_MEMORY_RESIDENT.name, "memory_resident_bytes", "bytes", "max"),
        *_use(metrics.CONTAINER_MEMORY_HOST.name, "memory_host_bytes", "bytes", "max"),
        _one(metrics.CONTAINER_GPU_BUSY.name, "gpu_busy_seconds", "seconds", "increase"),
        _one(metrics.CONTAINER_THROTTLED.name, "throttled_seconds", "seconds", "increase"),
        _one(metrics.CONTAINER_PREEMPTED.name, "preempted_seconds", "seconds", "increase"),
        _one(metrics.CONTAINER_SWAPPED.name, "swapped_bytes", "bytes", "increase"),
        _one(metrics.CONTAINER_OUT_OF_MEMORY.name, "out_of_memory_count", "count", "increase"),
        _one(_MEMORY, "sample_count", "count", "samples", "Distinct sample times of the memory use."),
        _one(_MEMORY, "observed_ratio", "ratio", "observed", "Share of the window that was observed, 0-1."),
    ),
    ("dt", "hour"),
)

GPU_USAGE: Final = Table(
    "gpu_usage_5m",
    "One card in one window: what it has, what was given away and what was used.",
    (
        *_key("cluster", "node", "gpu_uuid"),
        _WINDOW,
        *_fact("gpu_model"),
        _one(
            metrics.GPU_MEMORY_TOTAL.name,
            "memory_total_bytes",
            "bytes",
            "last",
            "Memory of the card; used + free + reserved where no exporter gives it.",
        ),
        *_use(_CARD_MEMORY, "memory_used_bytes", "bytes", "max", "mean", "last"),
        *_use(_CARD_CORE, "utilization_ratio", "ratio", "max", "mean", "p95"),
        *_use(metrics.GPU_MEMORY_BANDWIDTH.name, "memory_bandwidth_ratio", "ratio", "mean"),
        *_use(metrics.GPU_POWER.name, "power_watts", "watts", "mean"),
        *_use(metrics.GPU_TEMPERATURE.name, "temperature_celsius", "celsius", "max"),
        Column("memory_allocated_bytes", "DOUBLE", "bytes", "derived", "Sum of the quotas of the card's containers."),
        Column("core_allocated_ratio", "DOUBLE", "ratio", "derived", "Sum of the compute quotas on the card."),
        Column("container_count", "INT", "count", "derived", "Containers that hold a part of the card."),
        _one(_CARD_MEMORY, "sample_count", "count", "samples", "Distinct sample times of the memory use."),
        _one(_CARD_MEMORY, "observed_ratio", "ratio", "observed", "Share of the window that was observed, 0-1."),
    ),
    ("dt", "hour"),
)

WORKLOAD_PROFILE: Final = Table(
    "workload_profile_1d",
    "One workload on one day: its 24 hours over all replicas, alive and dead.",
    (
        *_key("cluster", "namespace", "workload_kind", "workload", "container", "gpu_model"),
        Column("day_start_ms", "BIGINT", "ms", "window", "Start of the day, epoch ms UTC."),
        *_fact("tenant", "priority"),
        Column("advice", "STRING", "", "derived", "'off' where any pod of the workload opted out on the day."),
        Column("memory_quota_bytes", "DOUBLE", "bytes", "derived", "Greatest quota of a replica in the last window."),
        Column("core_quota_ratio", "DOUBLE", "ratio", "derived", "Greatest compute quota of a replica, last window."),
        Column("memory_total_bytes", "DOUBLE", "bytes", "derived", "Memory of the card model it runs on."),
        Column(
            "hourly_memory_used_bytes_max",
            "ARRAY<DOUBLE>",
            "bytes",
            "derived",
            "24 values: greatest use of any replica in the hour; NULL where none was observed.",
        ),
        Column(
            "hourly_core_used_ratio_mean",
            "ARRAY<DOUBLE>",
            "ratio",
            "derived",
            "24 values: mean over the hour's windows of the greatest replica's mean; NULL where not observed.",
        ),
        Column(
            "hourly_core_used_ratio_p95",
            "ARRAY<DOUBLE>",
            "ratio",
            "derived",
            "24 values: nearest-rank p95, over replicas and windows of the hour, of the windows' p95.",
        ),
        Column(
            "memory_used_bytes_median",
            "DOUBLE",
            "bytes",
            "derived",
            "Nearest-rank median over replicas and windows of the windows' greatest use: tells a constant load.",
        ),
        Column(
            "core_idle_window_ratio",
            "DOUBLE",
            "ratio",
            "derived",
            "Share of observed windows in which no replica used compute (max of core use = 0).",
        ),
        Column("observed_ratio", "DOUBLE", "ratio", "derived", "Mean of observed_ratio over the windows it existed."),
        Column("window_count", "INT", "count", "derived", "Replica-windows it existed on the day."),
        Column(
            "live_replicas", "INT", "count", "derived", "Distinct pods in its last window, if that is the day's last."
        ),
        Column("replicas_max", "INT", "count", "derived", "Most pods alive in one window of the day."),
        Column("replicas_per_card_max", "INT", "count", "derived", "Most pods of it on one card in one window."),
        Column("cards_per_pod_max", "INT", "count", "derived", "Most cards one pod held in one window."),
        Column("gpu_uuids", "ARRAY<STRING>", "", "derived", "Cards its live replicas held in the last window, sorted."),
    ),
    ("dt",),
)

LATE_SAMPLES: Final = Table(
    "late_samples",
    "Samples that came after their hour was finalised; merged by the next finalise. Operational, not a report.",
    (
        Column("segment", "BIGINT", "", "key", "Log segment of the record, or its Kafka partition."),
        Column("row", "BIGINT", "", "key", "Row of the record in its segment, or its Kafka offset plus 1."),
        Column("window_start_ms", "BIGINT", "ms", "window", "Start of the hour the samples belong to, epoch ms UTC."),
        Column("received_ms", "BIGINT", "ms", "derived", "When the collector received them, ms UTC."),
        Column("sample_count", "BIGINT", "count", "derived", "Samples of the record that fall into the hour."),
        Column("decision", "STRING", "", "derived", "'pending', 'merged' or 'too_late'."),
    ),
    (),
)

SERIES_WINDOWS: Final = Table(
    "series_windows_5m",
    "One series in one window, as the Flink job rolled it up; finalise makes the other tables from it. Operational.",
    (
        Column(
            "series",
            "STRING",
            "",
            "key",
            'The labels that name the series, in Prometheus notation: name{label="value",...}, sorted by label.',
        ),
        _WINDOW,
        Column("sample_count", "BIGINT", "count", "samples", "Distinct sample times in the window."),
        Column("value_max", "DOUBLE", "", "max", "Greatest value; all values in the unit of the sender."),
        Column("value_mean", "DOUBLE", "", "mean", "Mean of the values, one for each time."),
        Column("value_p95", "DOUBLE", "", "p95", "Nearest-rank p95 of the values."),
        Column("value_first", "DOUBLE", "", "derived", "Value at the first time."),
        Column("value_last", "DOUBLE", "", "last", "Value at the greatest time."),
        Column("value_rise", "DOUBLE", "", "derived", "Sum of the rises between samples; after a fall from 0."),
        Column("times", "BINARY", "", "derived", "Sample times, ascending: int32 little-endian, ms after the start."),
    ),
    ("dt", "hour"),
)

TABLES: Final = (CONTAINER_USAGE, GPU_USAGE, WORKLOAD_PROFILE, LATE_SAMPLES, SERIES_WINDOWS)
TABLE_BY_NAME: Final[Mapping[str, Table]] = {table.name: table for table in TABLES}
