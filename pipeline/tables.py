"""The warehouse folder: Parquet files in Hive layout, each replaced by rename, with its facts inside and beside it.

A file's own metadata is the truth; ``_manifest.json`` repeats it and is written after the rename, so a kill between
the two is repaired at the next start. An hour counts as finalised when both of its files have the same version.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from collector.contract.record import Position
from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import DAY_MS, HOUR_MS
from pipeline.columns import schema
from pipeline.contract.tables import (
    CONTAINER_USAGE,
    DATA_FILE,
    GPU_USAGE,
    LATE_SAMPLES,
    MANIFEST_FILE,
    WAREHOUSE_SCHEMA_VERSION,
    WORKLOAD_PROFILE,
    Table,
)
from pipeline.finalise import Checkpoint, DayFacts, FileFacts, HourFacts, LateBook, LateNote
from pipeline.partitions import partition_path, partition_start_ms

HOUR_TABLES: Final = (CONTAINER_USAGE, GPU_USAGE)
"""Tables by hour; both files of an hour are written from the same samples."""

_FACTS_KEY: Final = b"egpu"
_STATE_FOLDER: Final = "state"
_CHECKPOINT_FILE: Final = "checkpoint.json"
_LOCK_FILE: Final = "lock"
_TEMPORARY_FILE: Final = ".writing"
_MANIFEST_FILE_ONCE: Final = "manifest.json"
"""Name of the manifest before it was hidden from Hive, which would read it as rows."""

F = TypeVar("F", FileFacts, DayFacts, Checkpoint)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    """A full disk or a folder that cannot be written is one sentence. What was begun is removed; names are given by
    rename alone, so the tables stay whole and the next run goes on from them."""
    try:
        yield
    except OSError as error:
        with suppress(OSError):
            (path / _TEMPORARY_FILE).unlink()
        raise Failure(f"cannot write {path}: {error.strerror or error}") from error


def _decode(text: bytes, kind: type[F], path: Path) -> F:
    """Facts of one of our files, an older program's too; refuses what a newer program wrote."""
    try:
        facts = msgspec.json.decode(text, type=dict[str, object])
        inner = facts.get("hour", facts)
        found = inner.get("schema_version") if isinstance(inner, dict) else None
        if isinstance(found, int) and found > WAREHOUSE_SCHEMA_VERSION:
            raise Failure(
                f"{path} was written with warehouse schema {found}, newer than the {WAREHOUSE_SCHEMA_VERSION} known "
                "here: use a newer effective-gpu"
            )
        return msgspec.convert(_migrated(facts), kind, str_keys=True)
    except msgspec.MsgspecError as error:
        raise Failure(f"{path} does not hold the facts of a warehouse file: {error}") from error


def _migrated(facts: dict[str, object]) -> dict[str, object]:
    """Schema 1 had one position where a frontier is now: the place of a log of segments."""
    migrated = {name: _migrated_value(value) for name, value in facts.items()}
    return {**migrated, "schema_version": WAREHOUSE_SCHEMA_VERSION} if "schema_version" in migrated else migrated


def _migrated_value(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {"places": [value]} if value.keys() == {"segment", "row"} else _migrated(value)


def _first_line(error: Exception) -> str:
    """What the library says, without the lines after it."""
    return str(error).strip().partition("\n")[0]


def _read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(list(columns) if columns is not None else None)
    except (OSError, pa.ArrowException) as error:
        raise Failure(f"cannot read {path}: {_first_line(error)}") from error


def _pretty(encoded: bytes) -> bytes:
    return msgspec.json.format(encoded, indent=2) + b"\n"


@dataclass(frozen=True, slots=True)
class HoursFound:
    """``finalised`` = hours (start, ms) that both tables have; ``torn`` = hours of which the two files differ in
    version or one is missing, with the greater version: a kill came between them."""

    finalised: dict[int, HourFacts]
    torn: dict[int, int]


class Warehouse:
    """One warehouse folder. Raises Failure where a person can act."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: TextIO | None = None

    def hold(self) -> None:
        """Become the one writer of the folder, which is made if need be."""
        folder = self._folder
        try:
            (folder / _STATE_FOLDER).mkdir(parents=True, exist_ok=True)
            lock = (folder / _STATE_FOLDER / _LOCK_FILE).open("a+")
        except OSError as error:
            raise Failure(f"cannot write the warehouse {folder}: {error.strerror or error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise Failure(f"another egpu-pipeline is writing the warehouse {folder}") from error
        self._lock = lock
        with _writing_to(folder):
            for path in folder.glob(f"*/dt=*/**/{_MANIFEST_FILE_ONCE}"):
                path.unlink()

    def close(self) -> None:
        """Let another writer in."""
        if self._lock is not None:
            self._lock.close()

    def _hour_folder(self, table: Table, hour_ms: int) -> Path:
        return self._folder / table.name / partition_path(hour_ms, by_hour=True)

    def _day_folder(self, day_ms: int) -> Path:
        return self._folder / WORKLOAD_PROFILE.name / partition_path(day_ms, by_hour=False)

    def _write_file(self, folder: Path, data: pa.Table, facts: FileFacts | DayFacts | None) -> None:
        """Write beside, fsync, rename over; then the manifest, which needs no fsync: the file carries the same."""
        encoded = msgspec.json.encode(facts)
        writing = folder / _TEMPORARY_FILE
        with _writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(writing, data.schema, compression="zstd", store_schema=False) as writer:
                writer.write_table(data)
                if facts:
                    writer.add_key_value_metadata({_FACTS_KEY.decode(): encoded.decode()})
            _sync(writing)
            writing.rename(folder / DATA_FILE)
            _sync(folder)
        if facts:
            self._write_manifest(folder, encoded)

    def _write_manifest(self, folder: Path, encoded: bytes) -> None:
        writing = folder / _TEMPORARY_FILE
        with _writing_to(folder):
            writing.write_bytes(_pretty(encoded))
            writing.rename(folder / MANIFEST_FILE)

    def write_hour(self, facts: HourFacts, tables: Mapping[str, pa.Table]) -> None:
        """Write the files of one hour, by table name."""
        for table in HOUR_TABLES:
            data = tables[table.name]
            starts = data.column("window_start_ms").to_numpy()
            of_file = FileFacts(
                hour=facts,
                row_count=data.num_rows,
                window_min_ms=int(starts.min()) if len(starts) else None,
                window_max_ms=int(starts.max()) if len(starts) else None,
            )
            self._write_file(self._hour_folder(table, facts.hour_ms), data, of_file)

    def write_day(self, facts: DayFacts, data: pa.Table) -> None:
        """Write the profile of one day."""
        self._write_file(self._day_folder(facts.day_ms), data, facts)

    def read_hour(self, table: Table, hour_ms: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of one hour's rows."""
        return _read_table(self._hour_folder(table, hour_ms) / DATA_FILE, columns)

    def _read_facts(self, folder: Path, kind: type[F]) -> F | None:
        """Facts inside a folder's file; writes its manifest anew where it does not say the same."""
        path = folder / DATA_FILE
        try:
            metadata = pq.read_metadata(path).metadata or {}
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowException) as error:
            raise Failure(f"cannot read {path}: {_first_line(error)}") from error
        encoded = metadata.get(_FACTS_KEY)
        if encoded is None:
            raise Failure(f"{path} was not written by egpu-pipeline")
        facts = _decode(encoded, kind, path)
        manifest = folder / MANIFEST_FILE
        if self._lock is not None and not (manifest.exists() and manifest.read_bytes() == _pretty(encoded)):
            self._write_manifest(folder, encoded)
        return facts

    def _partitions(self, table: Table, *, by_hour: bool) -> Iterable[tuple[int, Path]]:
        for folder in (self._folder / table.name).glob("dt=*/hour=*" if by_hour else "dt=*"):
            start_ms = partition_start_ms(folder.as_posix(), by_hour=by_hour)
            if start_ms is not None:
                yield start_ms, folder

    def hours(self) -> "HoursFound":
        """Finalised hours by start (ms), and those whose two files do not agree."""
        containers, cards = (
            {
                hour_ms: facts.hour
                for hour_ms, folder in self._partitions(table, by_hour=True)
                if (facts := self._read_facts(folder, FileFacts)) is not None
            }
            for table in HOUR_TABLES
        )
        both = sorted(containers.keys() & cards.keys())
        # Where a kill came between the two files the older one says what is included in both.
        hours = {hour_ms: min(containers[hour_ms], cards[hour_ms], key=_version) for hour_ms in both}
        newest = {
            hour_ms: max(facts[hour_ms].version for facts in (containers, cards) if hour_ms in facts)
            for hour_ms in containers.keys() | cards.keys()
        }
        torn = {h: v for h, v in newest.items() if h not in hours or hours[h].version != v}
        return HoursFound(hours, torn)

    def days(self) -> dict[int, DayFacts]:
        """Days that have a profile, by start (ms)."""
        return {
            day_ms: facts
            for day_ms, folder in self._partitions(WORKLOAD_PROFILE, by_hour=False)
            if (facts := self._read_facts(folder, DayFacts)) is not None
        }

    def remove_before(self, hour_ms: int) -> None:
        """Remove hours and days that end at or before a time (ms UTC)."""
        with _writing_to(self._folder):
            for table in HOUR_TABLES:
                for start_ms, folder in list(self._partitions(table, by_hour=True)):
                    if start_ms + HOUR_MS <= hour_ms:
                        shutil.rmtree(folder)
            for start_ms, folder in list(self._partitions(WORKLOAD_PROFILE, by_hour=False)):
                if start_ms + DAY_MS <= hour_ms:
                    shutil.rmtree(folder)

    def check(self) -> None:
        """Raises Failure naming the file where one is broken or was written by a newer program."""
        if not self._folder.is_dir():
            raise Failure(f"no warehouse folder {self._folder}")
        self.read_checkpoint()
        self.hours()
        self.days()

    def read_checkpoint(self) -> Checkpoint:
        """The checkpoint, the very start when there is none."""
        path = self._folder / _STATE_FOLDER / _CHECKPOINT_FILE
        try:
            return _decode(path.read_bytes(), Checkpoint, path)
        except FileNotFoundError:
            return Checkpoint()

    def write_state(self, checkpoint: Checkpoint, late: LateBook) -> None:
        """Late notes first, then the checkpoint: what it passes over must already be noted."""
        if late.changed:
            self._write_late(late)
            late.changed = False
        path = self._folder / _STATE_FOLDER / _CHECKPOINT_FILE
        writing = path.with_suffix(".writing")
        with _writing_to(path.parent):
            writing.write_bytes(msgspec.json.encode(checkpoint))
            _sync(writing)
            writing.rename(path)
            _sync(path.parent)

    def _write_late(self, late: LateBook) -> None:
        rows = sorted(late.notes.values(), key=lambda note: (note.position, note.hour_ms))
        columns = (
            [note.position.segment for note in rows],
            [note.position.row for note in rows],
            [note.hour_ms for note in rows],
            [note.received_ms for note in rows],
            [note.sample_count for note in rows],
            [note.decision for note in rows],
        )
        data = pa.table(dict(zip(LATE_SAMPLES.column_names(), columns, strict=True)), schema=schema(LATE_SAMPLES))
        self._write_file(self._folder / LATE_SAMPLES.name, data, None)

    def read_late(self) -> LateBook:
        """The late notes."""
        path = self._folder / LATE_SAMPLES.name / DATA_FILE
        book = LateBook()
        if path.exists():
            for row in _read_table(path).to_pylist():
                segment, number, hour_ms, received_ms, count, decision = row.values()
                note = LateNote(Position(segment, number), hour_ms, received_ms, count, decision)
                book.notes[(note.position, hour_ms)] = note
        return book

    def disk_free_bytes(self) -> int:
        """Bytes left on the warehouse's disk."""
        return shutil.disk_usage(self._folder).free

    def day_bytes(self, day_ms: int) -> int:
        """Bytes that one day (start, ms) takes in all tables."""
        day = partition_path(day_ms, by_hour=False)
        tables = (*HOUR_TABLES, WORKLOAD_PROFILE)
        files = (path for table in tables for path in (self._folder / table.name / day).rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)


def _version(facts: HourFacts) -> int:
    return facts.version
