"""The SQLite log: read a bounded number of batches, close."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from collector.contract.record import (
    LOG_SCHEMA_VERSION,
    READER_SUFFIX,
    RECORD_COLUMNS,
    Position,
    Record,
    segment_file_name,
    segment_number,
)
from egpu_runtime.contract.process import Failure
from pipeline.frontier import START_OF_SEGMENTS, Frontier
from pipeline.reading import READER_NAME, LogGap

_ROW_MAX: Final = (1 << 63) - 1


class SqliteLog:
    """The log folder for reading. Raises Failure where a person can act, LogGap for lost records.

    ``identity`` is the log's that records are read of, empty while none was met; a segment of another log is refused.
    """

    start = START_OF_SEGMENTS
    """Before the first record; a frontier of this log has one place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.identity = ""
        if not folder.is_dir():
            raise Failure(f"no log folder {folder}")

    @property
    def name(self) -> str:
        """The log's folder."""
        return str(self._folder)

    def segments(self) -> list[int]:
        """Numbers of the segments that are there, ascending."""
        numbers = (segment_number(path.name) for path in self._folder.iterdir())
        return sorted(number for number in numbers if number is not None)

    def _connect(self, path: Path) -> sqlite3.Connection | None:
        """A connection to a segment; None when it has no table yet."""
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone()
        if version <= LOG_SCHEMA_VERSION and found:
            return connection
        connection.close()
        if version > LOG_SCHEMA_VERSION:
            raise Failure(
                f"log segment {path.name} has schema {version}, newer than the {LOG_SCHEMA_VERSION} known here: "
                "use a newer effective-gpu"
            )
        return None

    @contextmanager
    def _open(self, segment: int) -> Iterator[sqlite3.Connection | None]:
        """A segment to read from; None when it has no table yet or retention removed it meanwhile."""
        path = self._folder / segment_file_name(segment)
        connection = None
        try:
            connection = self._connect(path)
        except sqlite3.DatabaseError as error:
            if path.exists():
                raise Failure(f"cannot read log segment {path.name}: {error}") from error
        if connection is None:
            yield None
            return
        with closing(connection):
            try:
                yield connection
            except sqlite3.DatabaseError as error:
                raise Failure(f"cannot read log segment {path.name}: {error}") from error

    def found_identity(self) -> str:
        """The identity in the segments, empty when none has one (they are older, or there are none yet)."""
        identities = set()
        for segment in self.segments():
            with self._open(segment) as connection:
                identities.add(_identity_in(connection) if connection else "")
        identities.discard("")
        if len(identities) > 1:
            raise Failure(f"{self._folder} holds segments of {len(identities)} logs: give each a folder of its own")
        return next(iter(identities), "")

    def _require_same(self, connection: sqlite3.Connection) -> None:
        """Positions mean nothing in another log, should the folder be given to one while it is read."""
        identity = _identity_in(connection)
        self.identity = self.identity or identity
        if identity not in ("", self.identity):
            raise Failure(f"{self._folder} has become another log: {identity}, not {self.identity}: start again")

    def _select(self, after: Position, where: str, values: tuple[int, ...], *, sample_count_max: int) -> list[Record]:
        """Records of one segment after a position until they hold so many samples; then the segment is closed, so
        that a reader never keeps its writer from emptying the WAL for long."""
        records: list[Record] = []
        samples = 0
        with self._open(after.segment) as connection:
            if connection is None:
                return records
            self._require_same(connection)
            query = f"SELECT {RECORD_COLUMNS} FROM record WHERE row > ? AND {where} ORDER BY row"
            for row in connection.execute(query, (after.row, *values)):
                records.append(Record(Position(after.segment, row[0]), *row[1:]))
                samples += records[-1].sample_count
                if samples >= sample_count_max:
                    break
        return records

    def read(self, after: Frontier, sample_count_max: int) -> tuple[list[Record], Frontier]:
        """Some records after a place and the place reached; no records when there are none yet.

        When a segment is read to its end and a later one exists, the place moves before that one.
        """
        records, position = self._read(after.places[0], sample_count_max)
        return records, Frontier((position,))

    def _read(self, after: Position, sample_count_max: int) -> tuple[list[Record], Position]:
        segments = self.segments()
        position = _place(segments, after)
        while position.segment in segments:
            records = self._select(position, "true", (), sample_count_max=sample_count_max)
            if records:
                return records, records[-1].position
            later = [segment for segment in segments if segment > position.segment]
            if position.segment not in self.segments():
                # Retention took it away between the listing and the reading; raises LogGap if more follows.
                return [], _place(later, position)
            if not later:
                break
            position = _place(segments, Position(position.segment + 1, 0))
        if position > self._end():
            raise Failure(
                f"{self._folder} has become another log: it ends before segment {position.segment} row "
                f"{position.row}, which was read: start again"
            )
        return [], position

    def read_between(self, times_ms: range, upto: Frontier, *, sample_count_max: int) -> Iterator[list[Record]]:
        """Records up to a place that may hold samples with times in ``times_ms``, some at a time."""
        last = upto.places[0]
        for segment in self.segments():
            if segment > last.segment:
                return
            where = "timestamp_max_ms >= ? AND timestamp_min_ms < ? AND row <= ?"
            row_max = last.row if segment == last.segment else _ROW_MAX
            values = (times_ms.start, times_ms.stop, row_max)
            position = Position(segment, 0)
            while records := self._select(position, where, values, sample_count_max=sample_count_max):
                yield records
                position = records[-1].position

    def _ask(self, segment: int, query: str, *values: int) -> tuple[int, ...] | None:
        with self._open(segment) as connection:
            found: tuple[int, ...] | None = connection.execute(query, values).fetchone() if connection else None
        return found

    def _end(self) -> Position:
        """The newest segment, and the last record there (0 while it has none)."""
        last = max(self.segments(), default=0)
        found = self._ask(last, "SELECT coalesce(max(row), 0) FROM record") if last else None
        return Position(last, found[0] if found else 0)

    def end_place(self) -> Frontier:
        """The last place of the log."""
        return Frontier((self._end(),))

    def lost(self) -> Frontier:
        """Covers the records that retention has removed: those before the oldest segment."""
        return Frontier((Position(min(self.segments(), default=0), 0),))

    def may_have_lost(self, received_ms: int) -> bool:
        """Whether retention may have removed a record that was received at or after a time (ms): the oldest segment is
        not the first, and begins after that."""
        oldest = min(self.segments(), default=1)
        return oldest > 1 and self._received_ms(Position(oldest, 0)) > received_ms

    def records_after(self, place: Frontier) -> int:
        """Records that a reader at a place has not read."""
        position = place.places[0]
        count = 0
        for segment in self.segments():
            row = position.row if segment == position.segment else 0
            found = self._ask(segment, "SELECT coalesce(max(row), 0) FROM record")
            if found and segment >= position.segment:
                count += max(found[0] - row, 0)
        return count

    def lag_ms(self, place: Frontier) -> int:
        """Receive time of the log's last record less that of the last one read, ms; 0 when there is none."""
        return max(self._last_received_ms() - self._received_ms(place.places[0]), 0)

    def _last_received_ms(self) -> int:
        for segment in reversed(self.segments()):
            found = self._ask(segment, "SELECT received_ms FROM record ORDER BY row DESC LIMIT 1")
            if found:
                return found[0]
        return 0

    def _received_ms(self, position: Position) -> int:
        """Receive time of a record or the first one after it in its segment, ms; 0 when there is none."""
        found = self._ask(
            position.segment, "SELECT received_ms FROM record WHERE row >= ? ORDER BY row LIMIT 1", position.row
        )
        return found[0] if found else 0

    def note_position(self, place: Frontier) -> None:
        """Leave an informative copy of our place for the log's own lag; a read-only log folder goes without."""
        path = self._folder / f"{READER_NAME}{READER_SUFFIX}"
        writing = path.with_suffix(".writing")
        try:
            writing.write_bytes(msgspec.json.encode(place.places[0]))
            writing.rename(path)
        except OSError:
            return

    def close(self) -> None:
        """Nothing is held between reads."""


def _identity_in(connection: sqlite3.Connection) -> str:
    """The identity of the log a segment belongs to, empty when the segment is older than identities."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone() is None:
        return ""
    found = connection.execute("SELECT identity FROM log").fetchone()
    return str(found[0]) if found else ""


def _place(segments: list[int], after: Position) -> Position:
    """Where to read on: the position itself, or the next segment; raises LogGap when records between are gone."""
    later = [segment for segment in segments if segment > after.segment]
    if after.segment in segments or not later:
        return after
    resume = Position(later[0], 0)
    if after.segment == 0:
        return resume
    if after.row > 0:
        what = f"segment {after.segment} after row {after.row} up to segment {later[0] - 1}"
    else:
        what = f"segments {after.segment} to {later[0] - 1}"
    raise LogGap(what, Frontier((resume,)))
