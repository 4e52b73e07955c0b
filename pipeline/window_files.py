"""What the Flink job writes into the warehouse folder: committed hours of series windows, and files of late samples.

Names that begin with ``.`` or ``_`` are hidden, as in Hive: files that are still written, marks and checksums.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collector.contract.record import Position
from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import HOUR_MS
from pipeline.columns import schema
from pipeline.contract.tables import DATA_FILE, LATE_SAMPLES, SERIES_WINDOWS
from pipeline.hours import LateRecord
from pipeline.partitions import partition_path, partition_start_ms
from pipeline.series_windows import DamagedRows

_COMMITTED: Final = "_SUCCESS"
"""Flink writes this file when the watermark has passed the hour's end; later files of the hour write it again."""

_DIGEST_BYTES: Final = 8
_CODED: Final = ["series", "times"]
"""Columns whose values repeat: read as numbers of their distinct values."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Data files of one committed hour, by name."""

    hour_ms: int
    names: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Short text that another set of files does not have: Flink gives each file a name of its own."""
        return hashlib.blake2b("\n".join(self.names).encode(), digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class LateFound:
    """Late records by (position, hour), and the files that tell of them."""

    records: tuple[LateRecord, ...]
    files: tuple[Path, ...]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name[0] not in "._" and path.is_file())


def _read(path: Path, table_schema: pa.Schema, coded: Sequence[str]) -> pa.Table:
    """A file's rows with the columns of a table. Raises DamagedRows."""
    try:
        table = pq.ParquetFile(path, read_dictionary=list(coded)).read(table_schema.names)
        plain = [name for name in table_schema.names if name not in coded]
        for name in plain:
            index = table.schema.get_field_index(name)
            table = table.set_column(index, name, table.column(name).cast(table_schema.field(name).type))
        return table
    except (OSError, pa.ArrowException) as error:
        raise DamagedRows(f"cannot read {path}: {' '.join(str(error).split())}") from error


class WindowFiles:
    """The job's files under one warehouse folder. Raises Failure where a person can act."""

    def __init__(self, warehouse: Path) -> None:
        self._windows = warehouse / SERIES_WINDOWS.name
        self._late = warehouse / LATE_SAMPLES.name

    def committed(self) -> dict[int, Parts]:
        """Hours (starts, ms UTC) that are committed and have files, oldest first."""
        found = []
        for folder in self._windows.glob("dt=*/hour=*"):
            hour_ms = partition_start_ms(folder.as_posix(), by_hour=True)
            if hour_ms is not None and (folder / _COMMITTED).exists():
                names = tuple(path.name for path in _visible(folder))
                if names:
                    found.append(Parts(hour_ms, names))
        return {parts.hour_ms: parts for parts in sorted(found, key=lambda parts: parts.hour_ms)}

    def _folder(self, hour_ms: int) -> Path:
        return self._windows / partition_path(hour_ms, by_hour=True)

    def read(self, parts: Parts) -> pa.Table:
        """All rows of an hour. Raises DamagedRows."""
        folder = self._folder(parts.hour_ms)
        return pa.concat_tables([_read(folder / name, schema(SERIES_WINDOWS), _CODED) for name in parts.names])

    def read_last_window(self, parts: Parts, window_ms: int) -> pa.Table:
        """Rows of an hour's last window. Raises DamagedRows."""
        last_ms = parts.hour_ms + HOUR_MS - window_ms
        folder = self._folder(parts.hour_ms)
        tables = (_read(folder / name, schema(SERIES_WINDOWS), _CODED) for name in parts.names)
        return pa.concat_tables([table.filter(pc.field("window_start_ms") == last_ms) for table in tables])

    def late(self) -> LateFound:
        """What the job noted as late and nobody took over yet."""
        files = [path for path in _visible(self._late) if path.name != DATA_FILE] if self._late.is_dir() else []
        try:
            tables = [_read(path, schema(LATE_SAMPLES), ()) for path in files]
        except DamagedRows as damaged:
            raise Failure(str(damaged)) from damaged
        if not tables:
            return LateFound((), ())
        keys = ["segment", "row", "window_start_ms"]
        grouped = pa.concat_tables(tables).group_by(keys)
        rows = grouped.aggregate([("received_ms", "min"), ("sample_count", "sum")]).to_pylist()
        records = tuple(
            LateRecord(
                Position(row["segment"], row["row"]),
                row["window_start_ms"],
                row["received_ms_min"],
                row["sample_count_sum"],
                too_late=False,
            )
            for row in sorted(rows, key=lambda row: tuple(row[key] for key in keys))
        )
        return LateFound(records, tuple(files))

    def remove_late(self, files: Iterable[Path]) -> None:
        """Remove files that were taken over."""
        _remove(files)

    def remove(self, parts: Parts) -> None:
        """Remove an hour's files; what else the job may still write there stays."""
        folder = self._folder(parts.hour_ms)
        _remove([*(folder / name for name in parts.names), folder / _COMMITTED])
        with suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()


def _remove(files: Iterable[Path]) -> None:
    """Remove files and the checksums that Hadoop writes beside them."""
    for path in files:
        try:
            path.unlink(missing_ok=True)
            path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
        except OSError as error:
            raise Failure(f"cannot remove {path}: {error.strerror or error}") from error
