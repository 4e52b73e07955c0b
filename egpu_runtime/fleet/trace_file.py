"""Traces in files: CSV (also .gz) and Parquet, read in bounded pieces, checked whole before the first row is used."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from egpu_runtime.fleet.trace import COLUMNS, Extent, Rows, Trace, TraceError, TraceReader

_BLOCK_BYTES: Final = 4 << 20
"""CSV text turned into rows at once: some 20,000 rows."""

_BATCH_ROWS: Final = 65_536
"""Rows of a Parquet file held at once."""


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
    except (OSError, EOFError, pa.ArrowInvalid) as error:
        row = f" after row {reader.row_count}" if reader.row_count else ""
        why = " ".join(str(error).split()).rstrip(".")
        raise TraceError(f"{path}: cannot be read{row}: {why}") from error


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

    texts = {column.name: pa.string() for column in COLUMNS}
    try:
        with (
            pa.input_stream(path) as stream,
            pyarrow.csv.open_csv(
                stream,
                read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                parse_options=pyarrow.csv.ParseOptions(invalid_row_handler=on_broken_row),
                convert_options=pyarrow.csv.ConvertOptions(column_types=texts, strings_can_be_null=False),
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
