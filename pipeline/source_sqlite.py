"""The SQLite log: read a bounded number of batches, close; decode ahead in a thread of its own."""

import queue
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.contract.record import (
    LOG_SCHEMA_VERSION,
    READER_SUFFIX,
    RECORD_COLUMNS,
    Position,
    Record,
    segment_file_name,
    segment_number,
)
from collector.contract.samples import CorruptRecord, SampleDecoder, Samples
from egpu_runtime.contract.process import Failure
from pipeline.hours import Batch

READER_NAME: Final = "pipeline"
"""Name of our informative position file in the log folder."""

_AHEAD_MAX: Final = 3
"""Decoded batches that wait while rows are made, count."""

_STOP_POLL_SECONDS: Final = 0.2

_ROW_MAX: Final = (1 << 63) - 1

T = TypeVar("T", np.int32, np.int64, np.float64)


class LogGap(Exception):  # noqa: N818 - reads as the sentence "raise LogGap(what, ...)"
    """Records were removed before they were read. ``resume`` is the position after the gap."""

    def __init__(self, what: str, resume: Position) -> None:
        super().__init__(what)
        self.resume = resume


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where the log ends: position and receive time (ms) of its last record, 0 when it is empty."""

    position: Position
    received_ms: int


class SqliteLog:
    """The log folder for reading. Raises Failure where a person can act, LogGap for lost records.

    ``identity`` is the log's that records are read of, empty while none was met; a segment of another log is refused.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.identity = ""
        if not folder.is_dir():
            raise Failure(f"no log folder {folder}")

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

    def read(self, after: Position, sample_count_max: int) -> tuple[list[Record], Position]:
        """Some records after a position and the position reached; no records when there are none yet.

        When a segment is read to its end and a later one exists, the position moves before that one.
        """
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
        if position > self.end_place():
            raise Failure(
                f"{self._folder} has become another log: it ends before segment {position.segment} row "
                f"{position.row}, which was read: start again"
            )
        return [], position

    def read_between(self, times_ms: range, upto: Position, *, sample_count_max: int) -> Iterator[list[Record]]:
        """Records up to a position that may hold samples with times in ``times_ms``, some at a time."""
        for segment in self.segments():
            if segment > upto.segment:
                return
            where = "timestamp_max_ms >= ? AND timestamp_min_ms < ? AND row <= ?"
            row_max = upto.row if segment == upto.segment else _ROW_MAX
            values = (times_ms.start, times_ms.stop, row_max)
            position = Position(segment, 0)
            while records := self._select(position, where, values, sample_count_max=sample_count_max):
                yield records
                position = records[-1].position

    def _ask(self, segment: int, query: str, *values: int) -> tuple[int, ...] | None:
        with self._open(segment) as connection:
            found: tuple[int, ...] | None = connection.execute(query, values).fetchone() if connection else None
        return found

    def end(self) -> LogEnd:
        """The last record of the log."""
        for segment in reversed(self.segments()):
            found = self._ask(segment, "SELECT row, received_ms FROM record ORDER BY row DESC LIMIT 1")
            if found:
                return LogEnd(Position(segment, found[0]), found[1])
        return LogEnd(Position(0, 0), 0)

    def end_place(self) -> Position:
        """The last place of the log: its newest segment, and the last record there (0 while it has none)."""
        last = max(self.segments(), default=0)
        found = self._ask(last, "SELECT coalesce(max(row), 0) FROM record") if last else None
        return Position(last, found[0] if found else 0)

    def records_after(self, position: Position) -> int:
        """Records that a reader at a position has not read."""
        count = 0
        for segment in self.segments():
            row = position.row if segment == position.segment else 0
            found = self._ask(segment, "SELECT coalesce(max(row), 0) FROM record")
            if found and segment >= position.segment:
                count += max(found[0] - row, 0)
        return count

    def received_ms(self, position: Position) -> int:
        """Receive time of a record or the first one after it in its segment, ms; 0 when there is none."""
        found = self._ask(
            position.segment, "SELECT received_ms FROM record WHERE row >= ? ORDER BY row LIMIT 1", position.row
        )
        return found[0] if found else 0

    def note_position(self, position: Position) -> None:
        """Leave an informative copy of our position for the log's own lag; a read-only log folder goes without."""
        path = self._folder / f"{READER_NAME}{READER_SUFFIX}"
        writing = path.with_suffix(".writing")
        try:
            writing.write_bytes(msgspec.json.encode(position))
            writing.rename(path)
        except OSError:
            return


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
        raise LogGap(f"segment {after.segment} after row {after.row} up to segment {later[0] - 1}", resume)
    raise LogGap(f"segments {after.segment} to {later[0] - 1}", resume)


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """A batch with the series that are new in it; ``generation`` counts fresh starts of the series cache.

    ``position`` is the place reached in the log; ``corrupt`` names records that could not be decoded, and why.
    """

    batch: Batch
    generation: int
    new_labels: tuple[tuple[tuple[str, str], ...], ...]
    corrupt: tuple[tuple[Position, str], ...]
    position: Position


@dataclass(slots=True)
class _Pending:
    """A batch being put together."""

    generation: int
    records: list[Record] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    labels: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    corrupt: list[tuple[Position, str]] = field(default_factory=list)

    def pack(self, position: Position) -> DecodedBatch:
        batch = Batch(
            tuple(record.position for record in self.records),
            np.array([record.received_ms for record in self.records], np.int64),
            np.array([len(samples.series) for samples in self.samples], np.int64),
            _join([samples.series for samples in self.samples], np.int32),
            _join([samples.timestamp_ms for samples in self.samples], np.int64),
            _join([samples.value for samples in self.samples], np.float64),
        )
        return DecodedBatch(batch, self.generation, tuple(self.labels), tuple(self.corrupt), position)


def _join(arrays: list[NDArray[T]], kind: type[T]) -> NDArray[T]:
    return np.concatenate(arrays) if arrays else np.empty(0, kind)


class RecordDecoder:
    """Turns records into batches with one series cache. One per thread."""

    def __init__(self, series_count_max: int) -> None:
        self._decoder = SampleDecoder(series_count_max=series_count_max)
        self._known = 0

    def decode(self, records: Iterable[Record], position: Position) -> Iterator[DecodedBatch]:
        """One batch, or several where the series cache starts afresh in between; ``position`` = place reached."""
        pending = _Pending(self._decoder.generation)
        before = None
        for record in records:
            samples = None
            try:
                samples = self._decoder.decode(record.block)
            except CorruptRecord as error:
                pending.corrupt.append((record.position, str(error)))
            if self._decoder.generation != pending.generation:
                # What was decoded before has its labels already; ids start again with this record.
                yield pending.pack(before or position)
                pending = _Pending(self._decoder.generation)
                self._known = 0
            pending.labels.extend(self._new_labels())
            if samples is not None:
                pending.records.append(record)
                pending.samples.append(samples)
            before = record.position
        yield pending.pack(position)

    def _new_labels(self) -> list[tuple[tuple[str, str], ...]]:
        count = self._decoder.series_count
        labels = [self._decoder.labels(series) for series in range(self._known, count)]
        self._known = count
        return labels


class DecodingThread:
    """Reads and decodes ahead of its consumer. Iterating gives batches, and None whenever the log's end is reached.

    With ``follow`` the end is asked again every ``poll_seconds`` until ``stop`` is set; else the first end is the last.
    What was read and not taken when it stops is read again next time. An error of the thread is raised where it is
    iterated.
    """

    def __init__(self, log: SqliteLog, after: Position, *, reading: "Reading", stop: threading.Event) -> None:
        self._log = log
        self._after = after
        self._reading = reading
        self._queue: queue.Queue[DecodedBatch | Exception | None] = queue.Queue(_AHEAD_MAX)
        self._stopped = stop
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[DecodedBatch | None]:
        while not self._stopped.is_set():
            try:
                item = self._queue.get(timeout=_STOP_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, Exception):
                raise item
            yield item
            if item is None and not self._reading.follow:
                return

    def _put(self, item: DecodedBatch | Exception | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_STOP_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            self._read_on()
        except (Failure, LogGap, OSError, MemoryError, sqlite3.Error, ImportError) as error:
            self._put(error)

    def _read_on(self) -> None:
        decoder = RecordDecoder(self._reading.series_count_max)
        position = self._after
        while not self._stopped.is_set():
            records, position = self._log.read(position, self._reading.batch_samples_max)
            for decoded in decoder.decode(records, position):
                self._put(decoded)
            if not records:
                self._put(None)
                if not self._reading.follow:
                    return
                self._stopped.wait(self._reading.poll_seconds)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the log is read: bounds by count, whether to go on at its end, and the pause there in seconds."""

    series_count_max: int
    batch_samples_max: int
    follow: bool
    poll_seconds: float
