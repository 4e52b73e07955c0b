"""Traces in files: CSV (also .gz) and Parquet, read in bounded pieces, checked whole before the first row is used."""

import csv
import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from egpu_runtime.contract.units import MINUTE_MS
from egpu_runtime.fleet.trace import COLUMNS, Container, Integers, Rows, Trace, TraceError, TraceReader

_BLOCK_BYTES: Final = 4 << 20
"""CSV text turned into rows at once: some 20,000 rows."""

_BATCH_ROWS: Final = 65_536
"""Rows of a Parquet file held at once."""


SINGLE_ROW_INTERVAL_MS: Final = MINUTE_MS
"""Scrape interval assumed for a trace that shows none, because it holds one point in time only."""


class Extent:
    """When each container was seen last and how often it is seen: gathered over a pass, read at its end."""

    def __init__(self) -> None:
        self.first_ms = -1
        self.last_ms = -1
        self._last: Integers = np.empty(0, np.int64)
        self._gap: Integers = np.empty(0, np.int64)

    def add(self, rows: Rows) -> None:
        """The next rows of the pass."""
        if not len(rows):
            return
        self.first_ms = int(rows.timestamp_ms[0]) if self.first_ms < 0 else self.first_ms
        self.last_ms = int(rows.timestamp_ms[-1])
        more = int(rows.container.max()) + 1 - len(self._last)
        if more > 0:
            self._last = np.concatenate((self._last, np.full(more, -1, np.int64)))
            self._gap = np.concatenate((self._gap, np.full(more, np.iinfo(np.int64).max, np.int64)))
        order = np.argsort(rows.container, kind="stable")
        container, times = rows.container[order], rows.timestamp_ms[order]
        before = np.concatenate(([-1], times[:-1]))
        starts = np.concatenate(([True], np.diff(container) != 0))
        before[starts] = self._last[container[starts]]
        gaps = np.where((before >= 0) & (times > before), times - before, np.iinfo(np.int64).max)
        np.minimum.at(self._gap, container, gaps)
        np.maximum.at(self._last, container, times)

    def ends_ms(self, containers: Sequence[Container]) -> Integers:
        """One scrape after the last row of each container's pod; the shortest gap seen stands for the interval."""
        unknown = np.iinfo(np.int64).max
        usual = int(self._gap.min()) if len(self._gap) else unknown
        usual = SINGLE_ROW_INTERVAL_MS if usual == unknown else usual
        last: dict[tuple[str, ...], int] = {}
        gap: dict[tuple[str, ...], int] = {}
        for container, seen, interval in zip(containers, self._last, self._gap, strict=True):
            pod = container.pod_key
            last[pod] = max(last.get(pod, -1), int(seen))
            gap[pod] = min(gap.get(pod, unknown), int(interval))
        return np.array(
            [last[c.pod_key] + (usual if gap[c.pod_key] == unknown else gap[c.pod_key]) for c in containers], np.int64
        )


def open_trace(path: Path) -> Trace:
    """Read and check the whole file, then give it as a trace that can be read again.

    Raises TraceError naming the file, and row and column where there is one.
    """
    source = os.fspath(path)
    reader, extent = TraceReader(source), Extent()
    for batch in _batches(path, reader):
        extent.add(reader.rows(batch))
    if not reader.row_count:
        raise TraceError(f"{source}: has no rows")
    return Trace(
        containers=tuple(reader.containers),
        end_ms=extent.ends_ms(reader.containers),
        first_ms=extent.first_ms,
        last_ms=extent.last_ms,
        row_count=reader.row_count,
        chunks=lambda: _chunks(path),
    )


def _chunks(path: Path) -> Iterator[Rows]:
    reader = TraceReader(os.fspath(path))
    for batch in _batches(path, reader):
        yield reader.rows(batch)


def _batches(path: Path, reader: TraceReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from _parquet(path, reader) if path.suffix == ".parquet" else _csv(path, reader)
    except UnicodeDecodeError as error:  # only names of columns are decoded without the reader's own check
        raise TraceError(f"{path}: the header is not UTF-8") from error
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        # Arrow's sentence about the system's errors says the path, the number and the sentence twice.
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise TraceError(f"{path}: cannot be read{_where(path, reader)}: {_one_line(why)}") from error


def _where(path: Path, reader: TraceReader) -> str:
    """Behind which row reading ended; nothing where not even the header could be had."""
    lines = _whole_lines(path) if path.suffix == ".gz" else 0
    last = max(reader.row_count, lines - 1)
    return f" after row {last}" if last else " at row 1" if lines else ""


def _whole_lines(path: Path) -> int:
    """Header and rows before the place at which a packed file breaks: read again, since arrow tells blocks only."""
    count = 0
    try:
        with gzip.open(path, "rt", newline="", errors="replace") as file:
            for row in csv.reader(file):
                count += bool(row)
    except (OSError, EOFError, zlib.error, csv.Error):
        pass  # the place looked for
    return count


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _parquet(path: Path, reader: TraceReader) -> Iterator[pa.RecordBatch]:
    with pyarrow.parquet.ParquetFile(path) as file:
        reader.check_columns(file.schema_arrow.names)
        yield from file.iter_batches(batch_size=_BATCH_ROWS)


def _csv(path: Path, reader: TraceReader) -> Iterator[pa.RecordBatch]:
    broken: list[str] = []
    stream: Any  # arrow's stubs know only Python's own files

    def on_broken_row(row: pyarrow.csv.InvalidRow) -> Literal["skip", "error"]:
        broken.append(f"{row.actual_columns} values where the header has {row.expected_columns}")
        return "error"

    as_they_stand = {column.name: pa.binary() for column in COLUMNS}
    try:
        with (
            pa.input_stream(path) as stream,
            pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=on_broken_row),
                convert_options=pyarrow.csv.ConvertOptions(column_types=as_they_stand, strings_can_be_null=False),
            ) as file,
        ):
            reader.check_columns(file.schema.names)
            yield from file
    except pa.ArrowInvalid as error:
        if broken:
            raise TraceError(f"{path}: {_row_of(str(error), reader)}: {broken[0]}") from error
        raise


def _row_of(message: str, reader: TraceReader) -> str:
    """Arrow counts the lines of the file, the header as 1: ``CSV parse error: Row #3: Expected ...``."""
    number = message.partition("Row #")[2].partition(":")[0]
    return f"row {int(number) - 1}" if number.isdigit() else f"a row after row {reader.row_count}"
