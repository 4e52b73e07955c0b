"""The rows of two warehouses side by side: equal row for row, value for value, or the smallest list of what differs."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from pipeline.contract.tables import DATA_FILE, TABLE_BY_NAME, Column, Table

COMPARED: Final = ("container_usage_5m", "gpu_usage_5m", "workload_profile_1d")
RELATIVE_TOLERANCE: Final = 1e-9
"""Of means and of sums of floating-point numbers, whose last digits depend on the order of adding."""

SHOWN_MAX: Final = 12
_SUMS: Final = frozenset({"memory_allocated_bytes", "core_allocated_ratio", "core_idle_window_ratio"})

Row = dict[str, object]
Rows = Mapping[str, list[Row]]


def read_rows(warehouse: Path) -> Rows:
    """All rows of the compared tables, with their partition, in order of key."""
    found = {}
    for name in COMPARED:
        table = TABLE_BY_NAME[name]
        rows: list[Row] = []
        for file in sorted((warehouse / name).rglob(DATA_FILE)):
            partition = dict(part.split("=", 1) for part in file.parent.parts if "=" in part)
            rows += [{**partition, **row} for row in pq.ParquetFile(file).read().to_pylist()]
        found[name] = sorted(rows, key=lambda row: tuple(str(row[each]) for each in table.key))
    return found


def is_exact(column: Column) -> bool:
    """Maxima, ranks, last values, counts and texts are equal to the bit; means and sums to nine digits."""
    if column.aggregate == "derived" and column.type in ("DOUBLE", "ARRAY<DOUBLE>"):
        return "mean" not in column.name and column.name not in _SUMS and column.name != "observed_ratio"
    return column.aggregate not in ("mean", "increase")


def same(expected: object, actual: object, *, exact: bool) -> bool:
    """Whether two values are equal; lists value by value."""
    if isinstance(expected, list) and isinstance(actual, list):
        pairs = zip(expected, actual, strict=False)
        return len(expected) == len(actual) and all(same(a, b, exact=exact) for a, b in pairs)
    if exact or not isinstance(expected, float) or not isinstance(actual, float):
        return expected == actual and type(expected) is type(actual)
    return math.isclose(expected, actual, rel_tol=RELATIVE_TOLERANCE, abs_tol=0.0)


def differences(expected: Rows, actual: Rows) -> list[str]:
    """One line a difference of the expected tables, at most SHOWN_MAX of each, with how many there are in all."""
    lines: list[str] = []
    for name in expected:
        found = list(_of_table(TABLE_BY_NAME[name], expected[name], actual[name]))
        if found:
            lines.append(f"{name}: {len(found)} differences, {len(expected[name])} and {len(actual[name])} rows")
            lines += found[:SHOWN_MAX]
    return lines


def _of_table(table: Table, expected: list[Row], actual: list[Row]) -> Iterator[str]:
    ours = _by_key(table, expected)
    theirs = _by_key(table, actual)
    for key in sorted(ours.keys() - theirs.keys()):
        yield f"  missing {key}"
    for key in sorted(theirs.keys() - ours.keys()):
        yield f"  beside {key}"
    columns = {column.name: is_exact(column) for column in table.columns} | dict.fromkeys(table.partitions, True)
    for key in sorted(ours.keys() & theirs.keys()):
        if len(ours[key]) != 1 or len(theirs[key]) != 1:
            yield f"  {len(ours[key])} and {len(theirs[key])} rows of {key}"
            continue
        (a,), (b,) = ours[key], theirs[key]
        for name, exact in columns.items():
            if not same(a[name], b[name], exact=exact):
                yield f"  {key} {name}: {a[name]!r} expected, {b[name]!r} found"


def _by_key(table: Table, rows: list[Row]) -> dict[tuple[str, ...], list[Row]]:
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(str(row[name]) for name in table.key), []).append(row)
    return found


def check_equal(expected: Rows, actual: Rows) -> None:
    """The door: fails with the differences; an empty expectation is a failure too."""
    assert expected
    for name, rows in expected.items():
        assert rows, f"no rows of {name} are expected: nothing would be compared"
    lines = differences(expected, actual)
    assert not lines, "\n".join(lines)
