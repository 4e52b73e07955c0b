"""One segment of the log: a SQLite file in WAL mode, written by one connection."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from collector.contract.record import LOG_SCHEMA_VERSION, SEGMENT_SCHEMA, segment_file_name, segment_number
from collector.intake import NewRecord

PAGE_BYTES = 16384
"""Page size of a segment: a 70 KB block costs 102 us of CPU with it, 166 with 4 KiB pages; larger ones save little and
write a whole page for a small commit [measured, groups of 8]."""

BUSY_SECONDS = 1.0
"""Seconds a checkpoint waits for a reader to close its snapshot."""

_NEW_FILE = "next-segment"


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def segment_numbers(folder: Path) -> list[int]:
    """Numbers of the segments in a log folder, ascending."""
    return sorted(number for file in folder.iterdir() if (number := segment_number(file.name)) is not None)


def files_of(path: Path) -> tuple[Path, Path, Path]:
    """The database file of a segment, its write-ahead file and its shared-memory index."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def bytes_of(path: Path) -> int:
    """Bytes a segment takes on disk, its write-ahead file included; 0 when it is gone."""
    return sum(file.stat().st_size for file in files_of(path)[:2] if file.exists())


def check_format(connection: sqlite3.Connection, name: str) -> None:
    """Raises sqlite3.DatabaseError unless the file is a segment of a format this collector knows."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > LOG_SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"{name} has log format {version}, this collector knows up to {LOG_SCHEMA_VERSION}")
    # Version 1 is the first one, so there is nothing older to migrate; 0 is not a file of ours.
    if version < 1:
        raise sqlite3.DatabaseError(f"{name} is not a segment of the log")


def open_to_read(folder: Path, number: int) -> sqlite3.Connection:
    """A read-only connection to a segment of a format we know; the caller closes it. Raises sqlite3.Error."""
    path = folder / segment_file_name(number)
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        check_format(connection, path.name)
    except BaseException:
        connection.close()
        raise
    return connection


def identity_in(connection: sqlite3.Connection) -> str:
    """The log's identity as a segment has it, empty when it has none."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'log'").fetchone() is None:
        return ""
    found = connection.execute("SELECT identity FROM log LIMIT 1").fetchone()
    return str(found[0]) if found else ""


def create(folder: Path, number: int, *, identity: str) -> None:
    """Make an empty segment appear in the folder, whole or not at all: made under another name, then renamed."""
    fresh = folder / _NEW_FILE
    for file in files_of(fresh):
        file.unlink(missing_ok=True)
    connection = sqlite3.connect(fresh, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {SEGMENT_SCHEMA} PRAGMA user_version = {LOG_SCHEMA_VERSION};")
        connection.execute("INSERT INTO log VALUES (?)", (identity,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    fresh.replace(folder / segment_file_name(number))
    sync_folder(folder)


class Segment:
    """An open segment of the log ``identity``; a segment that has no identity is given it. Not thread-safe.

    Raises sqlite3.Error for a broken file or disk, for a newer format and for a segment of another log.
    """

    def __init__(self, folder: Path, number: int, *, identity: str) -> None:
        self.number = number
        self.path = folder / segment_file_name(number)
        self._connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode=rw",
            uri=True,
            isolation_level=None,
            timeout=BUSY_SECONDS,
            check_same_thread=False,
        )
        try:
            self._open(identity)
        except BaseException:
            self._connection.close()
            raise

    def _open(self, identity: str) -> None:
        check_format(self._connection, self.path.name)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = 0", "wal_autocheckpoint = 0"):
            self._connection.execute(f"PRAGMA {pragma}")
        # What a killed writer left may be in the page cache only: written into the file and synced before it counts.
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.uncheckpointed_bytes = 0
        self._identify(identity)
        self.row_count, self.last_received_ms = self._edge("DESC")
        _, self.first_received_ms = self._edge("ASC")

    def _identify(self, identity: str) -> None:
        found = identity_in(self._connection)
        if not found:
            self._connection.executescript(f"BEGIN IMMEDIATE; {SEGMENT_SCHEMA}")
            self._connection.execute("INSERT INTO log VALUES (?)", (identity,))
            self._connection.execute("COMMIT")
        elif found != identity:
            # A reader's position in one log means nothing in the other.
            raise sqlite3.DatabaseError(f"{self.path.name} belongs to another log than the newest segment")

    def _edge(self, order: str) -> tuple[int, int]:
        """(row, received ms) of the last or first record; zeros when there is none."""
        found = self._connection.execute(f"SELECT row, received_ms FROM record ORDER BY row {order} LIMIT 1").fetchone()
        row, received_ms = found or (0, 0)
        return row, received_ms

    def write(self, records: Sequence[NewRecord], received_ms: int) -> None:
        """Append records in one durable transaction; on an error nothing may be assumed until it is opened again."""
        rows = [
            (
                self.row_count + offset,
                received_ms,
                record.body_hash,
                record.sample_count,
                record.timestamp_min_ms,
                record.timestamp_max_ms,
                record.block,
            )
            for offset, record in enumerate(records, 1)
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")
        self.first_received_ms = self.first_received_ms or received_ms
        self.last_received_ms = received_ms
        self.row_count += len(rows)
        self.uncheckpointed_bytes += sum(len(record.block) + PAGE_BYTES for record in records)

    def hashes(self, *, since_ms: int = 0, after_row: int = 0) -> Iterator[tuple[bytes, int]]:
        """(body hash, received ms) of records received since, in order; reads no block."""
        yield from self._connection.execute(
            "SELECT body_hash, received_ms FROM record WHERE row > ? AND received_ms >= ? ORDER BY row",
            (after_row, since_ms),
        )

    def checkpoint(self) -> None:
        """Copy the write-ahead file into the database without waiting for readers."""
        _, frame_count, done_count = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if frame_count == done_count:
            self.uncheckpointed_bytes = 0

    def sizes(self) -> tuple[int, int]:
        """Bytes of the database and of its write-ahead file, which grows while a reader holds an old snapshot.

        Raises OSError when a file was taken away: SQLite would go on writing to it, and all of that would be lost.
        """
        database, wal, _ = files_of(self.path)
        return database.stat().st_size, wal.stat().st_size

    def close(self) -> None:
        """Checkpoint as far as readers allow, and close."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._connection.close()

    def abandon(self) -> None:
        """Close without touching the file again, after an error."""
        self._connection.close()
