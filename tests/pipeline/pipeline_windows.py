"""What the Flink job writes, made from samples in a few plain lines by the definitions of series_windows_5m."""

import itertools
import math
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pipeline_log import Sample

from pipeline.columns import schema
from pipeline.contract.tables import CONTAINER_USAGE, SERIES_WINDOWS
from pipeline.flink.series_table import SeriesRule, series_table

HOUR_MS = 3_600_000
_RULES: dict[str, list[SeriesRule]] = defaultdict(list)
for _rule in series_table():
    _RULES[_rule.name].append(_rule)

Row = dict[str, object]


def notation(labels: dict[str, str], kept: Iterable[str]) -> str:
    """A series in Prometheus notation, by the labels that are kept."""

    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    listed = [f'{name}="{escaped(labels[name])}"' for name in sorted(kept) if labels.get(name)]
    return f"{labels['__name__']}{{{','.join(listed)}}}"


def row_of(series: str, window: int, values: dict[int, float]) -> Row:
    """One row from the values at each time after the window's start."""
    times = sorted(values)
    ordered = [values[time] for time in times]
    rises = [b if b < a else b - a for a, b in itertools.pairwise(ordered)]
    return {
        "series": series,
        "window_start_ms": window,
        "sample_count": len(times),
        "value_max": max(ordered),
        "value_mean": sum(ordered) / len(ordered),
        "value_p95": sorted(ordered)[math.ceil(0.95 * len(ordered)) - 1],
        "value_first": ordered[0],
        "value_last": ordered[-1],
        "value_rise": float(sum(rises)),
        "times": struct.pack(f"<{len(times)}i", *times),
    }


def series_windows(samples: Iterable[Sample], *, window_ms: int = 300_000) -> list[Row]:
    """Rows of series_windows_5m; stale markers, NaN, infinities and unknown series are no samples."""
    found: dict[tuple[str, int], dict[int, float]] = defaultdict(dict)
    names: dict[frozenset[tuple[str, str]], set[tuple[str, float]]] = {}
    for labels, time, value in samples:
        key = frozenset(labels.items())
        if key not in names:
            rules = _RULES.get(labels["__name__"], ())
            names[key] = {(notation(dict(labels), rule.labels), rule.valid_max) for rule in rules}
        for name, bound in names[key]:
            if abs(value) < bound and time >= 0:
                window = found[(name, time // window_ms * window_ms)]
                after = time % window_ms
                window[after] = max(value, window.get(after, value))
    return [row_of(series, window, values) for (series, window), values in sorted(found.items())]


def table_of(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema(SERIES_WINDOWS))


def hour_of(rows: list[Row], hour_ms: int, *, window_ms: int = 300_000) -> list[Row]:
    """Rows of one hour and of the window before it."""
    return [row for row in rows if hour_ms - window_ms <= int(str(row["window_start_ms"])) < hour_ms + HOUR_MS]


def write_part(warehouse: Path, rows: list[Row], name: str = "part-a-0-0") -> None:
    """Write rows as the job does, an hour a folder, committed."""
    by_hour: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_hour[int(str(row["window_start_ms"])) // HOUR_MS].append(row)
    for hour, of_hour in by_hour.items():
        folder = warehouse / SERIES_WINDOWS.name / partition(hour * HOUR_MS)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table_of(of_hour), folder / name, compression="snappy")
        (folder / "_SUCCESS").touch()


def partition(hour_ms: int) -> str:
    """Folder of an hour."""
    time = datetime.fromtimestamp(hour_ms / 1000, UTC)
    return f"dt={time:%Y-%m-%d}/hour={time:%H}"


SUMMED = ("_mean", "_seconds", "swapped_bytes", "_count")


def differences(actual: list[Row], expected: list[Row]) -> Iterator[tuple[Row, str]]:
    """Rows that are not equal value for value, and how; what is a sum of floats to 1e-9."""
    assert [_key(row) for row in actual] == [_key(row) for row in expected]
    for ours, theirs in zip(actual, expected, strict=True):
        for name, value in theirs.items():
            given = ours[name]
            if given != value and not (name.endswith(SUMMED) and _close(given, value)):
                yield theirs, f"{name}: {given} and not {value} in {theirs}"


def _close(given: object, value: object) -> bool:
    return isinstance(value, float) and isinstance(given, float) and math.isclose(given, value, rel_tol=1e-9)


def _key(row: Row) -> tuple[object, ...]:
    return tuple(row.get(name) for name in CONTAINER_USAGE.key)
