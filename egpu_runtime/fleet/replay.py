"""Sends a trace by remote write as Prometheus does: keep-alive connections, retries of the same bytes, order kept."""

import email.utils
import http.client
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
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

_STOP_SECONDS: Final = 0.5
"""How long a stopped replay waits for answers to what is in flight: it is to end within a second."""

_WATCH_SECONDS: Final = 0.1
"""How often waiting looks whether the replay was stopped."""

_SAID_CHARACTERS_MAX: Final = 200
"""How much of an answer's first line is shown."""

_BAD_REQUEST: Final = 400
_SERVER_ERRORS: Final = range(500, 600)
_ACCEPTED: Final = range(200, 300)


@dataclass(slots=True)
class Summary:
    """What became of the samples, and what it took.

    ``samples_sent`` were acknowledged. ``samples_refused`` are all samples of the ``requests_refused`` requests
    answered with 400, of which the receiver may have stored the valid ones: our collector does, as Prometheus does.
    ``samples_unanswered`` are those of requests without a final answer when the replay was stopped, stored or not.
    ``first_refusal`` is the first 400's status and the first line of its body, or empty.
    """

    samples_sent: int = 0
    samples_refused: int = 0
    samples_unanswered: int = 0
    requests: int = 0
    requests_refused: int = 0
    retries: int = 0
    seconds: float = 0.0
    complete: bool = True
    first_refusal: str = ""


class RefusedError(Exception):
    """The receiver will never take this body as it is (400)."""


class StoppedError(Exception):
    """The replay was stopped before this body was taken."""


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
        wrong = Failure(f"--remote-write {url!r} is not an http or https URL")
        try:
            parts = urlsplit(url)
            if parts.username is not None:
                raise Failure("--remote-write: a user name or password in the URL would not be sent")
            port, host = parts.port, (parts.hostname or "").encode("idna").decode()
        except ValueError as error:  # of the port, the brackets of an IPv6 address or a label of the host name
            raise wrong from error
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        printable = all("!" <= character <= "~" for character in host + path)
        if parts.scheme not in ("http", "https") or not host or not printable:
            raise wrong
        return Receiver(url, parts.scheme, host, port, path)

    def connection(self, timeout_seconds: float) -> http.client.HTTPConnection:
        """A connection, not opened yet."""
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_seconds)


@dataclass(slots=True)
class Connection:
    """One shard's connection: one request at a time, retried until it is taken, refused, given up or stopped.

    ``refused_seconds`` is the (monotonic) time of its first refusal.
    """

    receiver: Receiver
    settings: RuntimeSettings
    stop: threading.Event
    summary: Summary = field(default_factory=Summary)
    refused_seconds: float = math.inf
    _http: http.client.HTTPConnection | None = None

    def send_all(self, bodies: Iterable[tuple[bytes, int]]) -> bool:
        """Send bodies one after the other; each comes with its number of samples. False when it was stopped.

        Raises Failure when the receiver refuses for good or stays away too long.
        """
        summary = self.summary
        for body, sample_count in bodies:
            if self.stop.is_set():
                return False
            summary.samples_unanswered = sample_count
            try:
                self._send(body)
                summary.samples_sent += sample_count
            except RefusedError as refused:
                self._count_refusal(sample_count, str(refused))
            except StoppedError:
                return False
            summary.samples_unanswered = 0
        return True

    def _count_refusal(self, sample_count: int, why: str) -> None:
        self.summary.samples_refused += sample_count
        self.summary.requests_refused += 1
        if not self.summary.first_refusal:
            self.summary.first_refusal = why
            self.refused_seconds = time.monotonic()

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
                raise StoppedError(why)
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
        why = refusal(response.status, answer)
        if response.status in _SERVER_ERRORS:
            return why, retry_after_seconds(response.getheader("Retry-After"), time.time())
        if response.status == _BAD_REQUEST:
            raise RefusedError(why)
        raise Failure(f"{self.receiver.url} refuses samples: {why}")


def refusal(status: int, answer: bytes) -> str:
    """Status and the first line of a body that says something, shortened: one line, without control characters."""
    lines = (" ".join(line.split()) for line in answer.decode(errors="replace").splitlines())
    said = "".join(character for character in next(filter(None, lines), "") if character.isprintable())
    if len(said) > _SAID_CHARACTERS_MAX:
        said = said[:_SAID_CHARACTERS_MAX] + "..."
    return f"status {status}" + (f": {said}" if said else "")


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


class _Sending:
    """One shard's bodies of a round, on their way over one connection."""

    def __init__(self, connection: Connection, bodies: Sequence[tuple[bytes, int]]) -> None:
        self.connection = connection
        self.ended = threading.Event()
        self._bodies = bodies
        self._taken: bool | None = None
        self._failure: Failure | None = None

    def run(self) -> None:
        """Send them; told by ``ended`` and ``result``."""
        try:
            self._taken = self.connection.send_all(self._bodies)
        except Failure as failure:
            self._failure = failure
        finally:
            self.ended.set()

    def result(self) -> bool:
        """Whether all was taken. Raises the failure, also after an error that nobody foresaw (its thread shows it)."""
        if self._failure is not None:
            raise self._failure
        if self._taken is None and self.ended.is_set():
            raise Failure(f"a connection to {self.connection.receiver.url} ended unexpectedly")
        return bool(self._taken)


class _Sender(threading.Thread):
    """Sends what it is given, until it is given None. A daemon: a peer that says nothing must not hold up the end."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.given: SimpleQueue[_Sending | None] = SimpleQueue()

    def run(self) -> None:
        while (sending := self.given.get()) is not None:
            sending.run()


class Replay:
    """One replay of a trace to one receiver."""

    def __init__(self, trace: Trace, url: str, settings: RuntimeSettings) -> None:
        """Parses the URL; nothing is sent yet. Raises Failure."""
        self._trace = trace
        self._settings = settings
        self._stop = threading.Event()
        self._patience_ends_seconds = math.inf
        self._in_flight: list[_Sending] = []
        receiver = Receiver.of(url)
        self._connections = [Connection(receiver, settings, self._stop) for _ in range(settings.connections_max)]
        self._senders = [_Sender() for _ in self._connections]

    def stop(self) -> None:
        """End early: what is in flight has a moment to be answered. Meant to be called by a signal handler."""
        self._patience_ends_seconds = time.monotonic() + _STOP_SECONDS
        # The handler may have interrupted this very event's wait, which holds a lock that set() needs.
        threading.Thread(target=self._stop.set, daemon=True).start()

    def run(self, speed: float | None, progressed: Callable[[int], None]) -> Summary:
        """Send everything; ``speed`` = times real time, None = as fast as it is taken.

        ``progressed`` is told the trace time (ms) that has been acknowledged. Raises Failure when the receiver
        refuses for good or stays away longer than ``give_up_seconds``.
        """
        started = time.monotonic()
        pacer = Pacer(self._trace.first_ms, speed, self._stop)
        for sender in self._senders:
            sender.start()
        try:
            complete = self._send_rounds(pacer, progressed)
        finally:
            self._stop.set()  # whatever ended it, no connection goes on retrying
            for sender in self._senders:
                sender.given.put(None)
            busy = [sending.connection for sending in self._in_flight if not sending.ended.is_set()]
            for connection in self._connections:
                if not any(connection is other for other in busy):
                    connection.close()
        total = self._total()
        total.seconds = time.monotonic() - started
        total.complete = complete
        return total

    def _send_rounds(self, pacer: "Pacer", progressed: Callable[[int], None]) -> bool:
        """The next round is encoded while this one is in flight, and sent when all of this one is acknowledged."""
        table = SeriesTable(self._trace.containers)
        encoder = Encoder(table)
        last_ms = self._trace.first_ms
        for piece in rounds(samples_of(self._trace, table), self._limits(pacer.speed)):
            shards = [[(encoder.body(batch), len(batch)) for batch in shard] for shard in piece.shards]
            if not self._finish():
                return False
            progressed(last_ms)
            if not pacer.wait_for(piece):
                return False
            self._in_flight = [
                _Sending(connection, bodies) for connection, bodies in zip(self._connections, shards, strict=False)
            ]
            for sender, sending in zip(self._senders, self._in_flight, strict=False):
                sender.given.put(sending)
            last_ms = piece.last_ms
        complete = self._finish()
        progressed(last_ms)
        return complete

    def _finish(self) -> bool:
        """Wait for all in flight, then raise what the first failed one raised; False when the replay was stopped."""
        for sending in self._in_flight:
            while not sending.ended.wait(_WATCH_SECONDS) and time.monotonic() < self._patience_ends_seconds:
                pass
        results = [sending.result() for sending in self._in_flight]
        return all(results)

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
            part = connection.summary
            total.samples_sent += part.samples_sent
            total.samples_refused += part.samples_refused
            total.samples_unanswered += part.samples_unanswered
            total.requests += part.requests
            total.requests_refused += part.requests_refused
            total.retries += part.retries
        first = min(self._connections, key=lambda connection: connection.refused_seconds)
        total.first_refusal = first.summary.first_refusal
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
