"""Rows of series_windows_5m to an hour: the same series, times and aggregates that its samples would give.

A row is one series in one window. What a table needs beyond it is put together here: the rise from one window to the
next, the distinct times of several series, one target that several series speak of. Where rows cannot say what the
samples would, the target is named as ambiguous.
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.normalise import Series, SeriesTable
from pipeline.rollup import TIME_BITS, Floats, Grid, HourSamples, Ints, Numbers, Wanted, Windows, count_by_cell
from pipeline.window_merge import ROW, Merged, Rows, TimeLists, merge, step

_LABEL: Final = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED: Final = re.compile(r"\\(.)")
_CLUSTER: Final = r'[{,]cluster="(?P<cluster>(?:[^"\\]|\\.)*)"'

_TIMES_AT_ONCE: Final = 4_000_000
"""Sample times that are compared at once, count; bounds the memory of counting them."""

_VALUES: Final = {
    "value_max": "maximum",
    "value_mean": "mean",
    "value_p95": "p95",
    "value_first": "first",
    "value_last": "last",
    "value_rise": "rise",
}
"""Columns of the table to fields of a row; all scale with the unit."""


class DamagedRows(ValueError):  # noqa: N818 - reads as the sentence "raise DamagedRows(what)"
    """Rows are not what the table's definition says; the message says how."""


def parse_series(text: str) -> list[tuple[str, str]]:
    """(name, value) pairs, with ``__name__``, of a series in Prometheus notation; raises DamagedRows."""
    name, brace, rest = text.partition("{")
    if not name or (brace and not rest.endswith("}")):
        raise DamagedRows(f"{text!r} is no series")
    return [("__name__", name), *((label, _unescaped(value)) for label, value in _LABEL.findall(rest))]


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] == "n" else str(found[1]), value) if "\\" in value else value


@dataclass(frozen=True, slots=True)
class WindowsOfHour:
    """An hour of one cluster that comes as series windows."""

    series: tuple[Series, ...]
    last: Numbers
    rows: Rows
    lists: TimeLists
    grid: Grid

    def sample_times(self, metrics: Container[str], series_max: int) -> HourSamples:
        """When some series of some metrics have samples; the values are not known."""
        chosen = np.array([series.metric in metrics for series in self.series], np.bool_)
        chosen[np.flatnonzero(chosen)[series_max:]] = False
        rows = self.rows[chosen[self.rows["series"]]]
        lengths = self.lists.lengths(rows["times"])
        start = np.repeat(rows["column"], lengths) * self.grid.window_ms
        time = (self.lists.times(rows["times"]) + start).astype(np.int32)
        return HourSamples(np.repeat(rows["series"], lengths), time, np.full(len(time), np.nan))

    def roll_up(self, target_of_series: Numbers, wanted: Wanted) -> "RolledUpWindows":
        """Aggregates by target; series of target -1 are dropped."""
        target = target_of_series[self.rows["series"]]
        keep = target >= 0
        rows, target = self.rows[keep], target[keep]
        cell = target.astype(np.int64) * self.grid.columns + rows["column"]
        merged = merge(rows, cell, self.lists)
        inexact = ~merged.exact | (~merged.p95_exact & wanted.p95[merged.cell // self.grid.columns])
        ambiguous = np.unique(merged.cell[inexact] // self.grid.columns).astype(np.int32)
        windows = _spread(merged, (len(wanted.counter), self.grid.columns), wanted)
        return RolledUpWindows(windows, ambiguous, cell, rows["times"], self.lists, self.grid)


def _spread(merged: Merged, shape: tuple[int, int], wanted: Wanted) -> Windows:
    """Cells to tables by (target, window)."""
    count = np.zeros(shape, np.int64)
    count.flat[merged.cell] = merged.rows["count"]
    tables = {name: np.full(shape, np.nan) for name in _VALUES.values()}
    for name, table in tables.items():
        table.flat[merged.cell] = merged.rows[name]
    # Scaling must not lift a mean above the greatest value.
    mean = np.minimum(tables["mean"], tables["maximum"])
    tables["p95"][~wanted.p95] = np.nan
    increase = _increase(count, tables["first"], tables["last"], rise=tables["rise"])
    increase[~wanted.counter] = np.nan
    return Windows(count, tables["maximum"], mean, tables["last"], tables["p95"], increase)


def _increase(count: Ints, first: Floats, last: Floats, *, rise: Floats) -> Floats:
    """Rise within each window and from the last sample of the window before it."""
    before = np.full(first.shape, np.nan)
    before[:, 1:] = last[:, :-1]
    crossing = step(before, first)
    inside = np.where(count > 1, rise, np.nan)
    total: Floats = np.where(np.isnan(crossing), inside, crossing + np.nan_to_num(inside))
    return total


@dataclass(frozen=True, slots=True)
class RolledUpWindows:
    """Rolled up from series windows; ``cell`` = target and window of each row, ``times`` its list."""

    windows: Windows
    ambiguous: Numbers
    cell: Ints
    times: Numbers
    lists: TimeLists
    grid: Grid

    @property
    def sample_count(self) -> int:
        """Distinct (target, time) of the hour itself."""
        return int(self.windows.count[:, 1:].sum())

    def distinct_times(self, group_of_target: Numbers, *, group_count: int) -> Ints:
        """Distinct sample times of each group of targets (-1 = none) in each window, shape (group_count, columns)."""
        columns = self.grid.columns
        group = group_of_target[self.cell // columns].astype(np.int64)
        keep = group >= 0
        cell = group[keep] * columns + self.cell[keep] % columns
        # Most series of a node are asked at the same times: equal lists of a cell are opened once.
        pair = np.unique((cell << 32) | self.times[keep])
        cell, lists = pair >> 32, (pair & 0xFFFF_FFFF).astype(np.int32)
        lengths = self.lists.lengths(lists)
        count = np.zeros((group_count, columns), np.int64)
        for part in _parts(cell, lengths):
            each = np.repeat(cell[part], lengths[part])
            time = self.lists.times(lists[part]) + (each % columns) * self.grid.window_ms
            key = np.unique(((each // columns) << TIME_BITS) | time)
            count += count_by_cell(key, group_count=group_count, grid=self.grid)
        return count


def _parts(cell: Ints, lengths: Ints) -> Iterator[slice]:
    """Cut rows sorted by cell into parts of a bounded number of times, never within a cell."""
    until = np.cumsum(lengths)
    start = 0
    while start < len(cell):
        before = int(until[start - 1]) if start else 0
        end = max(int(np.searchsorted(until, before + _TIMES_AT_ONCE, side="right")), start + 1)
        end = int(np.searchsorted(cell, cell[end - 1], side="right"))
        yield slice(start, end)
        start = end


@dataclass(frozen=True, slots=True)
class WindowsTable:
    """Rows of series_windows_5m of one hour and of the window before it, which starts at ``start_ms`` (UTC)."""

    table: pa.Table
    start_ms: int
    grid: Grid

    @property
    def nameless_count(self) -> int:
        """Rows that name no series: what they measured is not known, so the hour is not either."""
        return int(self.table.column("series").null_count)

    def parts(self, *, cluster_default: str) -> Iterator[WindowsOfHour]:
        """The hour by cluster, in the order of their names, one empty part where there is none. Raises DamagedRows."""
        text, texts = _coded(self.table.column("series"))
        code, values = _coded(self.table.column("times"))
        times, lists = code.astype(np.int32), _time_lists(values)
        self._check(times, lists)
        cluster, cluster_count = _clusters(texts, cluster_default)
        cluster_of_row = np.append(cluster, -1)[text]
        reader = _Reader(texts, lists, self.grid, cluster_default)
        for number in range(max(cluster_count, 1)):
            chosen = np.flatnonzero(cluster_of_row == number)
            yield reader.part(self._rows(chosen, times), text[chosen])

    def _rows(self, chosen: Ints, times: Numbers) -> Rows:
        """Some rows, in the sender's unit; the series is filled in later."""
        part = self.table.select(["window_start_ms", "sample_count", *_VALUES]).take(chosen)
        rows = np.zeros(len(chosen), ROW)
        rows["column"] = (part.column("window_start_ms").to_numpy() - self.start_ms) // self.grid.window_ms
        rows["times"] = times[chosen]
        rows["count"] = part.column("sample_count").to_numpy()
        for name, field in _VALUES.items():
            rows[field] = part.column(name).to_numpy()
        return rows

    def _check(self, times: Numbers, lists: TimeLists) -> None:
        if not len(times):
            return
        after = self.table.column("window_start_ms").to_numpy() - self.start_ms
        if (after % self.grid.window_ms).any() or after.min() < 0 or after.max() >= self._length_ms:
            raise DamagedRows(f"a window is none of {self.grid.window_ms // 1000} s in its hour")
        count = self.table.column("sample_count").to_numpy()
        if times.min() < 0 or count.min() < 1 or (lists.lengths(times) != count).any():
            raise DamagedRows("sample_count and times do not agree")
        if lists.flat.min() < 0 or lists.flat.max() >= self.grid.window_ms:
            raise DamagedRows("a sample time lies outside its window")

    @property
    def _length_ms(self) -> int:
        return self.grid.columns * self.grid.window_ms


@dataclass(frozen=True, slots=True)
class _Reader:
    """What is shared by the clusters of an hour."""

    texts: Any
    lists: TimeLists
    grid: Grid
    cluster_default: str

    def part(self, rows: Rows, text: Ints) -> WindowsOfHour:
        """One cluster's rows, whose series are those numbered ``text``."""
        used, local = np.unique(text, return_inverse=True)
        table = SeriesTable(cluster_default=self.cluster_default)
        label_counts = np.zeros(len(used), np.int64)
        for index, each in enumerate(self.texts.take(used).to_pylist()):
            labels = parse_series(each)
            label_counts[index] = len(labels)
            table.add(labels)
        readings = table.readings
        for field in _VALUES.values():
            rows[field] *= readings.scale[local]
        first, second = readings.first[local], readings.second[local]
        rows = np.concatenate([rows, rows[second >= 0]])
        rows["series"] = np.concatenate([first, second[second >= 0]])
        labels_of_row = np.concatenate([label_counts[local], label_counts[local][second >= 0]])
        # Of the window before the hour only counters are of use: the rise to the hour's first sample.
        ours = rows["series"]
        chosen = np.flatnonzero(ours >= 0)
        chosen = chosen[(rows["column"][chosen] > 0) | table.counter[ours[chosen]]]
        rows = _plainest(rows[chosen], labels_of_row[chosen], self.lists, self.grid)
        rows = _distinct(rows, self.grid)
        present, rows["series"] = np.unique(rows["series"], return_inverse=True)
        last = np.full(len(present) * self.grid.columns, -1, np.int32)
        cell = rows["series"].astype(np.int64) * self.grid.columns + rows["column"]
        np.maximum.at(last, cell, self.lists.last(rows["times"]) + rows["column"] * np.int32(self.grid.window_ms))
        series = tuple(table.series[index] for index in present.tolist())
        return WindowsOfHour(series, last.reshape(-1, self.grid.columns), rows, self.lists, self.grid)


def _plainest(rows: Rows, label_counts: Ints, lists: TimeLists, grid: Grid) -> Rows:
    """Leave out what a series with fewer labels says already.

    The job names a card's series by the card alone, and once more with the pod that dcgm-exporter puts beside it; read
    as the card's, the second has some of the first one's samples.
    """
    cell = rows["series"].astype(np.int64) * grid.columns + rows["column"]
    several = np.flatnonzero((np.bincount(cell) > 1)[cell])
    several = several[np.lexsort((label_counts[several], cell[several]))]
    starts = np.flatnonzero(np.diff(cell[several], prepend=-1))
    plainest = several[np.repeat(starts, np.diff(starts, append=len(several)))]
    more = (label_counts[several] > label_counts[plainest]) & (rows["maximum"][several] <= rows["maximum"][plainest])
    several, plainest = several[more], plainest[more]
    keep = np.ones(len(rows), np.bool_)
    keep[several[lists.contain(rows["times"][plainest], rows["times"][several])]] = False
    return rows[keep]


def _distinct(rows: Rows, grid: Grid) -> Rows:
    """One of the rows of a series and window that have equal times and values.

    dcgm-exporter repeats a card's value for each pod on it; a job that is started anew may write a window again. The
    mean is not compared: it may differ by rounding.
    """
    cell = rows["series"].astype(np.int64) * grid.columns + rows["column"]
    several = np.flatnonzero((np.bincount(cell) > 1)[cell])
    if not len(several):
        return rows
    compared = np.stack(
        [
            cell[several],
            rows["times"][several].astype(np.int64),
            *(rows[name][several].view(np.int64) for name in ("maximum", "p95", "first", "last", "rise")),
        ],
        axis=1,
    )
    _, kept = np.unique(compared, axis=0, return_index=True)
    keep = np.ones(len(rows), np.bool_)
    keep[several] = False
    keep[several[kept]] = True
    return rows[keep]


def _coded(column: "pa.ChunkedArray[Any]") -> tuple[Ints, Any]:
    """A column as numbers of its distinct values (-1 = null), and those values."""
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole: Any = encoded.unify_dictionaries().combine_chunks()
    codes: Ints = pc.fill_null(whole.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, whole.dictionary


def _time_lists(values: "pa.Array[Any]") -> TimeLists:
    """Decode int32 little-endian."""
    values = values.cast(pa.large_binary())
    _, offsets, data = values.buffers()
    if not len(values) or offsets is None or data is None:
        return TimeLists(np.empty(0, np.int32), np.zeros(len(values) + 1, np.int64))
    start: Ints = np.frombuffer(memoryview(offsets), np.int64)[values.offset : values.offset + len(values) + 1]
    if (start % 4).any():
        raise DamagedRows("times are not whole numbers of 4 bytes")
    flat = np.frombuffer(memoryview(data), "<i4", count=int(start[-1]) // 4)
    return TimeLists(flat.astype(np.int32), start // 4)


def _clusters(texts: Any, cluster_default: str) -> tuple[Numbers, int]:
    """For each series text the place of its cluster among their sorted names, and how many there are."""
    found = pc.extract_regex(texts.cast(pa.string()), pattern=_CLUSTER).field("cluster")
    codes, values = _coded(pa.chunked_array([found]))
    names = [_unescaped(value) or cluster_default for value in values.to_pylist()] + [cluster_default]
    number = {name: index for index, name in enumerate(sorted({names[code] for code in np.unique(codes).tolist()}))}
    place = np.array([number.get(name, -1) for name in names], np.int32)
    result: Numbers = place[codes] if len(codes) else np.empty(0, np.int32)
    return result, len(number)
