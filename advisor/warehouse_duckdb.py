"""A folder of tables read by DuckDB and written as Parquet. The advisor's one door to DuckDB."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from egpu_runtime.contract.process import Failure
from pipeline.contract.ddl import duckdb_ddl
from pipeline.contract.dialect import DUCKDB, Dialect
from pipeline.contract.tables import (
    CONTAINER_USAGE,
    DATA_FILE,
    MANIFEST_FILE,
    WAREHOUSE_SCHEMA_VERSION,
    WORKLOAD_PROFILE,
    Table,
    Type,
)

_MEMORY_LIMIT: Final = "1GB"
_MANIFEST_VERSION_KEY: Final = "schema_version"
_MANIFEST_HOUR_KEY: Final = "hour"
"""In tables by hour the version stands among the facts of the hour."""
_TEMPORARY_FILE: Final = ".writing"
_ARROW_TYPES: Final[Mapping[Type, Any]] = {
    "STRING": pa.string(),
    "BIGINT": pa.int64(),
    "INT": pa.int32(),
    "DOUBLE": pa.float64(),
}


class FolderTables:
    """A folder of Hive-partitioned Parquet. Raises Failure with one sentence where it cannot be read or written."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise Failure(f"{folder}: no such folder; give --warehouse the one that egpu-pipeline writes")
        self._folder = folder
        if not self.days(WORKLOAD_PROFILE):
            raise Failure(f"{folder}: no table {WORKLOAD_PROFILE.name} in it; run egpu-pipeline first")
        self._connection = duckdb.connect(
            config={"memory_limit": _MEMORY_LIMIT, "temp_directory": tempfile.gettempdir()}
        )
        self._connection.execute("SET preserve_insertion_order = false")
        for table in (WORKLOAD_PROFILE, CONTAINER_USAGE):
            if self.days(table):
                self._check_version(table)
                self._create_view(table)

    def __str__(self) -> str:
        return str(self._folder)

    @property
    def dialect(self) -> Dialect:
        """Words of DuckDB."""
        return DUCKDB

    def close(self) -> None:
        """Free the engine's memory."""
        self._connection.close()

    def days(self, table: Table) -> Sequence[str]:
        """Days that have a finished file."""
        depth = "*/" * (len(table.partitions) - 1)
        files = (self._folder / table.name).glob(f"dt=*/{depth}{DATA_FILE}")
        return sorted({file.parents[len(table.partitions) - 1].name.removeprefix("dt=") for file in files})

    def _create_view(self, table: Table) -> None:
        try:
            self._connection.execute(duckdb_ddl(table, str(self._folder)))
        except duckdb.Error as error:
            raise self._failure(error) from error

    def _failure(self, error: duckdb.Error) -> Failure:
        return Failure(f"{self._folder}: {str(error).splitlines()[0]}")

    def _check_version(self, table: Table) -> None:
        """Versions are told by the newest manifest: a warehouse is written by one program at a time."""
        depth = "*/" * len(table.partitions)
        newest = max((self._folder / table.name).glob(f"{depth}{MANIFEST_FILE}"), default=None)
        if newest is None:
            return
        try:
            facts = msgspec.json.decode(newest.read_bytes(), type=dict[str, object])
        except msgspec.DecodeError as error:
            raise Failure(f"{newest}: not a manifest: {error}") from error
        of_hour = facts.get(_MANIFEST_HOUR_KEY, facts)
        version = of_hour.get(_MANIFEST_VERSION_KEY) if isinstance(of_hour, dict) else None
        if isinstance(version, int) and version > WAREHOUSE_SCHEMA_VERSION:
            raise Failure(
                f"{self._folder}: table {table.name} has schema version {version}, "
                f"this program reads up to {WAREHOUSE_SCHEMA_VERSION}; update it"
            )

    def batches(self, query: str, rows_max: int) -> Iterator[pa.RecordBatch]:
        """Rows of a SELECT in Arrow batches."""
        try:
            reader = self._connection.sql(query).to_arrow_reader(rows_max)
            if reader is not None:
                yield from reader
        except duckdb.Error as error:
            raise self._failure(error) from error

    def check_writable(self, table: Table) -> None:
        """Raises Failure before the work where its result could not be kept."""
        place = self._folder / table.name
        if not os.access(place if place.exists() else self._folder, os.W_OK):
            raise Failure(f"{self._folder}: cannot be written, and --record was given")

    def record(self, table: Table, partition: Mapping[str, str], rows: Sequence[Mapping[str, object]]) -> None:
        """Replace one partition of a table by these rows; a reader sees the old file or the new one."""
        folder = self._folder.joinpath(table.name, *(f"{name}={value}" for name, value in partition.items()))
        schema = pa.schema([(column.name, _ARROW_TYPES[column.type]) for column in table.columns])
        facts = msgspec.json.encode({_MANIFEST_VERSION_KEY: WAREHOUSE_SCHEMA_VERSION, "row_count": len(rows)})
        writing = folder / _TEMPORARY_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(list(rows), schema), writing, compression="snappy", store_schema=False)
            _sync(writing)
            writing.rename(folder / DATA_FILE)
            _sync(folder)
            for other in folder.iterdir():  # what Hive wrote for the same plan
                if other.name[0] not in "._" and other.name != DATA_FILE:
                    other.unlink()
            (folder / MANIFEST_FILE).write_bytes(facts)
        except OSError as error:
            raise Failure(f"cannot write {folder}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
