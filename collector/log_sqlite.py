"""The embedded log: a folder of SQLite segments, one writer thread, one transaction for all that is queued.

A record's future is done only after its transaction was synced. Any error of the disk or of SQLite closes the segment:
the waiting records fail (their senders repeat them) and the log is opened again as after a crash, from what is durable.
An error nobody foresaw ends the writer, and with it the log, for good: it says so and takes nothing more.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path

import cramjam
import numpy as np
from numpy.typing import NDArray

from collector.intake import LogStatus, LogUnavailable, NewRecord
from collector.segment import (
    Segment,
    bytes_of,
    create,
    files_of,
    identity_in,
    open_to_read,
    segment_numbers,
    sync_folder,
)
from collector.settings import CollectorSettings
from egpu_runtime.contract.process import Failure

LOCK_FILE = "writer.lock"

_logger = logging.getLogger("egpu-collector")


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: NewRecord
    stored: "Future[None]"


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A segment that is no longer written; ``last_received_ms`` is when its last record came."""

    path: Path
    last_received_ms: int


def now_ms() -> int:
    """The receiver's clock, ms UTC."""
    return time.time_ns() // 1_000_000


class SqliteLog:
    """Opens the log in ``settings.log_directory`` for writing. Raises Failure with one sentence when it cannot.

    ``append``, ``status`` and ``unavailable`` may be used from any thread.
    """

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._folder = Path(settings.log_directory)
        self._lock_descriptor = _lock_folder(self._folder)
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Condition()
        self._is_closing = False
        self._record_count = 0
        self._commit_count = 0
        self._commit_seconds = 0.0
        self._present: set[bytes] = set()
        self._last_received_ms = 0
        self._segment: Segment | None = None
        self.unavailable = ""
        """Why no record can be taken now, in one sentence; empty while the log is well."""
        self.has_ended = False
        """Whether the writer has ended on an error: no record will be taken again."""
        self._recent_hashes: list[tuple[bytes, int]] = []
        try:
            self._sealed = deque(self._read_segments())
        except (sqlite3.Error, OSError) as error:
            raise Failure(f"log {self._folder}: {self._named(error)}") from error
        self._log_bytes = self._segment_count = 0
        self._measure()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    # ---- any thread ----

    def append(self, record: NewRecord, body: NDArray[np.uint8]) -> "Future[None]":
        """Queue a record; see :class:`collector.intake.Log`."""
        if not record.block:
            record = replace(record, block=bytes(cramjam.snappy.compress_raw(body.data)))
        stored: Future[None] = Future()
        stored.set_running_or_notify_cancel()
        with self._wake:
            if self._is_closing or self.has_ended:
                stored.set_exception(LogUnavailable(self.unavailable or "the collector is stopping"))
                return stored
            self._queue.append(_Waiting(record, stored))
            self._wake.notify()
        return stored

    def status(self) -> LogStatus:
        """How the log is; free bytes are asked of the file system now, 0 when its folder is gone."""
        try:
            disk_free_bytes = self._free_bytes()
        except OSError:
            disk_free_bytes = 0
        return LogStatus(
            unavailable=self.unavailable,
            log_bytes=self._log_bytes,
            segment_count=self._segment_count,
            record_count=self._record_count,
            commit_count=self._commit_count,
            commit_seconds=self._commit_seconds,
            disk_free_bytes=disk_free_bytes,
            identity=self._identity,
        )

    def take_recent_hashes(self) -> list[tuple[bytes, int]]:
        """(body hash, received ms) of the last ``duplicate_window_seconds`` as read at start; given away once."""
        taken, self._recent_hashes = self._recent_hashes, []
        return taken

    def close(self) -> None:
        """Commit what is queued, checkpoint, close and give the folder back."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()
        os.close(self._lock_descriptor)

    # ---- at start ----

    def _read_segments(self) -> Iterator[_Sealed]:
        """Open every segment once: its version, its end, its recent hashes; the last one stays open for writing."""
        numbers = segment_numbers(self._folder)
        since_ms = now_ms() - int(self._settings.duplicate_window_seconds * 1000)
        self._identity = self._read_identity(numbers) or secrets.token_hex(16)
        if not numbers:
            create(self._folder, 1, identity=self._identity)
            numbers = [1]
        for number in numbers:
            segment = Segment(self._folder, number, identity=self._identity)
            self._last_received_ms = max(self._last_received_ms, segment.last_received_ms)
            if segment.last_received_ms >= since_ms:
                self._recent_hashes.extend(segment.hashes(since_ms=since_ms))
            if number == numbers[-1]:
                self._segment = segment
            else:
                segment.close()
                yield _Sealed(segment.path, segment.last_received_ms)

    def _named(self, error: Exception) -> str:
        """The error as a person knows it: SQLite calls a full disk "unable to open database file", "disk I/O error"."""
        if isinstance(error, sqlite3.OperationalError) and self._free_bytes() < self._settings.reserve_bytes:
            return f"disk full: less than reserve_bytes {self._settings.reserve_bytes} free, and {error}"
        return str(error)

    def _read_identity(self, numbers: list[int]) -> str:
        """Identity of the log by its newest segment that has one, empty when none has."""
        for number in reversed(numbers):
            with contextlib.closing(open_to_read(self._folder, number)) as connection:
                if identity := identity_in(connection):
                    return identity
        return ""

    # ---- the writer thread ----

    def _run(self) -> None:
        try:
            self._write_until_closed()
        except Exception as error:  # whatever it is: a thread that ends unseen leaves senders waiting for an answer
            self._end(error)

    def _end(self, error: Exception) -> None:
        """Take nothing more after an error nobody foresaw; what is queued fails, and its senders repeat it."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        with self._wake:
            self.unavailable = (
                f"the writer ended: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            )
            self.has_ended = True
            waiting = list(self._queue)
            self._queue.clear()
        _logger.critical("log: unavailable until a restart: %s", self.unavailable)
        for left in waiting:
            left.stored.set_exception(LogUnavailable(self.unavailable))
        if self._segment is not None:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to report
                self._segment.abandon()

    def _write_until_closed(self) -> None:
        next_look = time.monotonic()
        while True:
            group = self._take(next_look)
            if group:
                self._store(group)
            elif self._is_closing:
                break
            if time.monotonic() >= next_look:
                self._maintain()
                next_look = time.monotonic() + self._settings.maintenance_seconds
        if self._segment is not None:
            with contextlib.suppress(sqlite3.Error):  # committed already; the next start checkpoints what is left
                self._segment.close()

    def _take(self, deadline: float) -> list[_Waiting]:
        """All that is queued, within the bounds of a group; empty at the deadline or when closing."""
        with self._wake:
            while not self._queue and not self._is_closing and (left := deadline - time.monotonic()) > 0:
                self._wake.wait(left)
            group: list[_Waiting] = []
            group_bytes = 0
            while self._queue and len(group) < self._settings.group_record_count_max:
                group_bytes += len(self._queue[0].record.block)
                if group and group_bytes > self._settings.group_bytes_max:
                    break
                group.append(self._queue.popleft())
        return group

    def _store(self, group: list[_Waiting]) -> None:
        started = time.monotonic()
        is_durable = False
        try:
            self._write([waiting.record for waiting in group])
            is_durable = True
        except (sqlite3.Error, OSError, LogUnavailable) as error:
            self._give_up(error)
        finally:
            for waiting in group:  # nobody is left waiting, whatever ended this thread
                if is_durable:
                    waiting.stored.set_result(None)
                else:
                    waiting.stored.set_exception(LogUnavailable(self.unavailable or "the writer ended"))
        if is_durable:
            self._commit_seconds += time.monotonic() - started
            self._commit_count += 1
            self._record_count += len(group)
            self._keep_wal_short()

    def _write(self, records: list[NewRecord]) -> None:
        self._check_space(sum(len(record.block) for record in records))
        segment = self._recovered()
        # Found on disk after a failed commit: stored, although their senders were told 503.
        records = [record for record in records if record.body_hash not in self._present]
        self._last_received_ms = max(self._last_received_ms, now_ms())
        if self._is_full(segment):
            segment = self._begin_next(segment)
        if records:
            segment.write(records, self._last_received_ms)
        self.unavailable = ""

    def _recovered(self) -> Segment:
        """The open segment; after an error it is opened anew, and what it holds beyond what was known is looked up."""
        if self._segment is None:
            numbers = segment_numbers(self._folder)
            if not numbers:
                raise LogUnavailable("the log has lost its files; restart the collector to begin a new one")
            segment = Segment(self._folder, numbers[-1], identity=self._identity)
            since_ms = now_ms() - int(self._settings.duplicate_window_seconds * 1000)
            self._present = {body_hash for body_hash, _ in segment.hashes(since_ms=since_ms)}
            self._sealed = deque(sealed for sealed in self._sealed if sealed.path != segment.path)
            self._segment = segment
            _logger.info("log: open again, %d records in %s", segment.row_count, segment.path.name)
        return self._segment

    def _give_up(self, error: Exception) -> None:
        """Close the segment after an error that leaves its state unknown; a mere lack of space leaves it open."""
        if not isinstance(error, LogUnavailable) and self._segment is not None:
            with contextlib.suppress(sqlite3.Error):  # the first error is the one to report
                self._segment.abandon()
            self._segment = None
        if str(error) != self.unavailable:
            self.unavailable = str(error)
            _logger.error("log: unavailable: %s", error)

    def _is_full(self, segment: Segment) -> bool:
        database_bytes, wal_bytes = segment.sizes()
        age_ms = self._last_received_ms - segment.first_received_ms
        return segment.row_count > 0 and (
            age_ms >= self._settings.segment_seconds_max * 1000
            or database_bytes >= self._settings.segment_bytes_max
            or wal_bytes > self._settings.wal_bytes_max
        )

    def _begin_next(self, segment: Segment) -> Segment:
        self._segment = None
        self._sealed.append(_Sealed(segment.path, segment.last_received_ms))
        segment.close()
        create(self._folder, segment.number + 1, identity=self._identity)
        self._segment = Segment(self._folder, segment.number + 1, identity=self._identity)
        return self._segment

    def _keep_wal_short(self) -> None:
        """Checkpoint at a quarter of ``wal_bytes_max``; a reader that keeps it growing makes the next segment begin."""
        if self._segment is None or self._segment.uncheckpointed_bytes < self._settings.wal_bytes_max // 4:
            return
        try:
            self._segment.checkpoint()
        except sqlite3.Error as error:
            self._give_up(error)

    def _maintain(self) -> None:
        try:
            # Before the look at free space, which it may give back.
            self._retain()
            # Looked at also while all is well: who asks whether we are ready should not have to send a body first.
            self._check_space(0)
            self._recovered().sizes()
            if self.unavailable:
                self.unavailable = ""
                _logger.info("log: available again")
        except (sqlite3.Error, OSError, LogUnavailable) as error:
            self._give_up(error)

    def _retain(self) -> None:
        """Unlink the oldest closed segments, whole, by age of receipt and by size of the log."""
        self._measure()
        keep_ms = now_ms() - int(self._settings.retention_seconds * 1000)
        # Between two segments the newest one is closed too, and without it the next number would not be known.
        newest_count = int(self._segment is None)
        while len(self._sealed) > newest_count and (
            self._sealed[0].last_received_ms < keep_ms or self._log_bytes > self._settings.retention_bytes
        ):
            oldest = self._sealed.popleft()
            for file in files_of(oldest.path):
                file.unlink(missing_ok=True)
            sync_folder(self._folder)
            _logger.info("log: retention removed %s", oldest.path.name)
            self._measure()

    def _measure(self) -> None:
        paths = [sealed.path for sealed in self._sealed]
        if self._segment is not None:
            paths.append(self._segment.path)
        self._log_bytes = sum(bytes_of(path) for path in paths)
        self._segment_count = len(paths)

    def _free_bytes(self) -> int:
        file_system = os.statvfs(self._folder)
        return file_system.f_bavail * file_system.f_frsize

    def _check_space(self, block_bytes: int) -> None:
        # Twice: once in the write-ahead file and once when it is copied into the segment.
        if self._free_bytes() < self._settings.reserve_bytes + 2 * block_bytes:
            raise LogUnavailable(f"disk full: less than reserve_bytes {self._settings.reserve_bytes} free")


def _lock_folder(folder: Path) -> int:
    """Descriptor of the lock that makes us the folder's only writer; the system gives it back when we die."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Failure(f"log {folder}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise Failure(f"log {folder}: another collector writes to it") from error
    return descriptor
