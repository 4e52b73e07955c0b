"""Sends a trace by remote write as Prometheus does: keep-alive connections, retries of the same bytes, order kept."""

import email.utils
import http.client
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import DAY_MS, SECOND_MS
from egpu_runtime.fleet.encode import Encoder
from egpu_runtime.fleet.rounds import Limits, Round, rounds
from egpu_runtime.fleet.series import SeriesTable, samples_of
from egpu_runtime.fleet.trace import Trace
from egpu_runtime.settings import RuntimeSettings

HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": "egpu-runtime",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
"""Headers of Remote Write 1.0."""

_RETRY_HEADER: Final = "Retry-Attempt"
"""Sent from the first retry on, as Prometheus does since 2.48."""

_ROUND_BATCHES_MAX: Final = 8
"""Batches a connection may have in one round: bounds what is held in memory."""

_BATCH_SPAN_MS_MAX: Final = DAY_MS
"""Trace time one batch may span: a tiny fleet's log records should still be read day by day."""

_BAD_REQUEST: Final = 400
_SERVER_ERRORS: Final = range(500, 600)
_ACCEPTED: Final = range(200, 300)


@dataclass(slots=True)
class Summary:
    """What became of the samples: acknowledged, refused with 400, and the retries it took."""

    samples_sent: int = 0
    samples_refused: int = 0
    requests: int = 0
    retries: int = 0
    seconds: float = 0.0
    complete: bool = True


class RefusedError(Exception):
    """The receiver will never take this body (400)."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where to send: scheme, host, port and path of a remote-write URL."""

    url: str
    scheme: str
    host: str
    port: int | None
    path: str

    @staticmethod
    def of(url: str) -> "Receiver":
        """Parse an http or https URL. Raises Failure."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise Failure(f"{url!r} is not an http or https URL")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Receiver(url, parts.scheme, parts.hostname, port, path)

    def connection(self, timeout_seconds: float) -> http.client.HTTPConnection:
        """A connection, not opened yet."""
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_seconds)


@dataclass(slots=True)
class Connection:
    """One shard's connection: one request at a time, retried until it is taken, refused or given up."""

    receiver: Receiver
    settings: RuntimeSettings
    stop: threading.Event
    summary: Summary = field(default_factory=Summary)
    _http: http.client.HTTPConnection | None = None

    def send_all(self, bodies: Iterable[tuple[bytes, int]]) -> None:
        """Send bodies one after the other; each comes with its number of samples."""
        for body, sample_count in bodies:
            try:
                self._send(body)
                self.summary.samples_sent += sample_count
            except RefusedError:
                self.summary.samples_refused += sample_count

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _send(self, body: bytes) -> None:
        started = time.monotonic()
        wait = self.settings.retry_seconds_min
        attempt = 0
        while True:
            why, retry_after = self._attempt(body, attempt)
            if not why:
                return
            pause = wait if retry_after is None else retry_after
            if time.monotonic() + pause - started > self.settings.give_up_seconds:
                tried = f"{attempt + 1} attempts" if attempt else "one attempt"
                raise Failure(f"{self.receiver.url} does not take samples: {why} (gave up after {tried})")
            if self.stop.wait(pause):
                raise Failure(f"stopped while {self.receiver.url} did not take samples: {why}")
            wait = min(wait * 2, self.settings.retry_seconds_max)
            attempt += 1
            self.summary.retries += 1

    def _attempt(self, body: bytes, attempt: int) -> tuple[str, float | None]:
        """Post once. ("", None) = taken; else why it has to be tried again, and when if the receiver said so."""
        headers = HEADERS if not attempt else {**HEADERS, _RETRY_HEADER: str(attempt)}
        self.summary.requests += 1
        if self._http is None:
            self._http = self.receiver.connection(self.settings.request_timeout_seconds)
        try:
            self._http.request("POST", self.receiver.path, body, headers)
            response = self._http.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return str(error) or type(error).__name__, None
        if response.status in _ACCEPTED:
            return "", None
        said = " ".join(answer.decode(errors="replace").split())[:200]
        why = f"status {response.status}" + (f": {said}" if said else "")
        if response.status in _SERVER_ERRORS:
            return why, retry_after_seconds(response.getheader("Retry-After"), time.time())
        if response.status == _BAD_REQUEST:
            raise RefusedError(why)
        raise Failure(f"{self.receiver.url} refuses samples: {why}")


def retry_after_seconds(header: str | None, now_seconds: float) -> float | None:
    """Seconds a Retry-After header asks for (seconds or an HTTP date, RFC 9110 10.2.3), None without a usable one."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - now_seconds)
    except ValueError:
        return None


class Replay:
    """One replay of a trace to one receiver."""

    def __init__(self, trace: Trace, url: str, settings: RuntimeSettings) -> None:
        """Parses the URL; nothing is sent yet. Raises Failure."""
        self._trace = trace
        self._settings = settings
        self._stop = threading.Event()
        receiver = Receiver.of(url)
        self._connections = [Connection(receiver, settings, self._stop) for _ in range(settings.connections_max)]

    def stop(self) -> None:
        """Finish what is in flight and end early."""
        self._stop.set()

    def run(self, speed: float | None, progressed: Callable[[int], None]) -> Summary:
        """Send everything; ``speed`` = times real time, None = as fast as it is taken.

        ``progressed`` is told the trace time (ms) that has been acknowledged. Raises Failure when the receiver
        refuses for good or stays away longer than ``give_up_seconds``.
        """
        started = time.monotonic()
        pacer = Pacer(self._trace.first_ms, speed, self._stop)
        complete = True
        try:
            with ThreadPoolExecutor(len(self._connections)) as pool:
                try:
                    complete = self._send_rounds(pool, pacer, progressed)
                finally:
                    self._stop.set()  # whatever ended it, no connection goes on retrying
        finally:
            for connection in self._connections:
                connection.close()
        total = self._total()
        total.seconds = time.monotonic() - started
        total.complete = complete
        return total

    def _send_rounds(self, pool: ThreadPoolExecutor, pacer: "Pacer", progressed: Callable[[int], None]) -> bool:
        """The next round is encoded while this one is in flight, and sent when all of this one is acknowledged."""
        table = SeriesTable(self._trace.containers)
        encoder = Encoder(table)
        in_flight: list[Future[None]] = []
        last_ms = self._trace.first_ms
        for piece in rounds(samples_of(self._trace, table), self._limits(pacer.speed)):
            shards = [[(encoder.body(batch), len(batch)) for batch in shard] for shard in piece.shards]
            _finish(in_flight)
            progressed(last_ms)
            if not pacer.wait_for(piece):
                return False
            in_flight = [
                pool.submit(connection.send_all, bodies)
                for connection, bodies in zip(self._connections, shards, strict=False)
            ]
            last_ms = piece.last_ms
        _finish(in_flight)
        progressed(last_ms)
        return True

    def _limits(self, speed: float | None) -> Limits:
        settings = self._settings
        size = settings.batch_samples_max
        waits = speed is None  # played in time, a sample must not wait for one that is not due yet
        return Limits(
            batch_samples_max=size,
            shards_max=settings.connections_max,
            window_ms=settings.window_seconds * SECOND_MS if waits else 0,
            round_samples_max=size * settings.connections_max * _ROUND_BATCHES_MAX,
            batch_span_ms_max=_BATCH_SPAN_MS_MAX if waits else 0,
        )

    def _total(self) -> Summary:
        total = Summary()
        for connection in self._connections:
            total.samples_sent += connection.summary.samples_sent
            total.samples_refused += connection.summary.samples_refused
            total.requests += connection.summary.requests
            total.retries += connection.summary.retries
        return total


class Pacer:
    """Holds trace time to ``speed`` times real time, from the first sample on."""

    def __init__(self, first_ms: int, speed: float | None, stop: threading.Event) -> None:
        self.speed = speed
        self._first_ms = first_ms
        self._stop = stop
        self._started = time.monotonic()

    def wait_for(self, piece: Round) -> bool:
        """Wait until the round is due; False when the replay was stopped meanwhile."""
        if self.speed is None:
            return not self._stop.is_set()
        due = self._started + (piece.first_ms - self._first_ms) / SECOND_MS / self.speed
        return not self._stop.wait(max(0.0, due - time.monotonic()))


def _finish(in_flight: Iterable[Future[None]]) -> None:
    """Wait for all, then raise what the first failed one raised: so that no other is left running unseen."""
    waiting = list(in_flight)
    failures = [failure for failure in (future.exception() for future in waiting) if failure is not None]
    if failures:
        raise failures[0]


@contextmanager
def progress_bar(first_ms: int, last_ms: int) -> Iterator[Callable[[int], None]]:
    """A bar over trace time on a terminal, nothing otherwise; told the time (ms) that is done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        days = (last_ms - first_ms) / DAY_MS
        task = progress.add_task(f"replaying {days:.1f} days", total=max(1, last_ms - first_ms))
        yield lambda done_ms: progress.update(task, completed=min(done_ms, last_ms) - first_ms)
