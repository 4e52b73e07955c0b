"""A log read and decoded ahead of its consumer, in a thread of its own."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from egpu_runtime.contract.process import Failure
from pipeline.frontier import Frontier
from pipeline.reading import DecodedBatch, Log, LogGap, ReadingStopped, RecordDecoder

_AHEAD_MAX: Final = 3
"""Decoded batches that wait while rows are made, count."""

_STOP_POLL_SECONDS: Final = 0.2

_CLOSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How the log is read: bounds by count, whether to go on at its end, and the pause there in seconds."""

    series_count_max: int
    batch_samples_max: int
    follow: bool
    poll_seconds: float


class DecodingThread:
    """Reads and decodes ahead of its consumer. Iterating gives batches, and None whenever the log's end is reached.

    With ``follow`` the end is asked again every ``poll_seconds`` until ``stop`` is set; else the first end is the last.
    What was read and not taken when it stops is read again next time. An error of the thread is raised where it is
    iterated.
    """

    def __init__(self, log: Log, after: Frontier, *, reading: Reading, stop: threading.Event) -> None:
        self._log = log
        self._after = after
        self._reading = reading
        self._queue: queue.Queue[DecodedBatch | Exception | None] = queue.Queue(_AHEAD_MAX)
        self._stopped = stop
        self._closed = threading.Event()
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

    def close(self) -> None:
        """End the thread; a log that does not answer is left to it."""
        self._closed.set()
        self._thread.join(_CLOSE_SECONDS)

    @property
    def _over(self) -> bool:
        return self._stopped.is_set() or self._closed.is_set()

    def _put(self, item: DecodedBatch | Exception | None) -> None:
        while not self._over:
            try:
                self._queue.put(item, timeout=_STOP_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            self._read_on()
        except ReadingStopped:
            return
        except (Failure, LogGap, OSError, MemoryError, ImportError) as error:
            self._put(error)

    def _read_on(self) -> None:
        decoder = RecordDecoder(self._reading.series_count_max)
        place = self._after
        while not self._over:
            records, reached = self._log.read(place, self._reading.batch_samples_max)
            for decoded in decoder.decode(records, place, reached):
                self._put(decoded)
            place = reached
            if not records:
                self._put(None)
                if not self._reading.follow:
                    return
                self._stopped.wait(self._reading.poll_seconds)
