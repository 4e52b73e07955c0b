"""The receiver of Prometheus remote write 1.0, a plain ASGI application.

204 means durable. What the sender should keep and repeat gets 503 with Retry-After, never 429 (Prometheus drops a batch
on 429); what repeating cannot mend gets 4xx. Everything here runs in the event loop's one thread.
"""

import asyncio
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from collector.contract.record import BODY_HASH_BYTES
from collector.contract.samples import CorruptRecord, RecordTooLarge
from collector.dedup import DuplicateWindow
from collector.intake import Log, LogUnavailable, NewRecord
from collector.settings import CollectorSettings
from collector.validation import BodyChecker, Checked

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

WRITE_PATHS: Final = frozenset({"/api/v1/write", "/api/v1/push", "/receive"})
"""Where senders of Prometheus, Mimir and prometheus-kafka-adapter post to."""

MEDIA_TYPE: Final = "application/x-protobuf"
MESSAGE_V1: Final = "prometheus.WriteRequest"
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request gets: status, body text and headers beyond the length."""

    status: int
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class _Refused(Exception):  # noqa: N818 - an answer that ends a request early
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.text)
        self.answer = answer


class _SenderGone(Exception):  # noqa: N818 - nobody is left to answer
    pass


class _LogMetrics(Collector):
    """The log's own figures, read when the page is asked for."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def collect(self) -> Iterable[Metric]:
        status = self._log.status()
        gauges = (
            ("egpu_collector_log_available", "1 while the log takes records.", int(not status.unavailable)),
            ("egpu_collector_log_bytes", "Bytes of the log on disk.", status.log_bytes),
            ("egpu_collector_log_segments", "Segments of the log.", status.segment_count),
            ("egpu_collector_disk_free_bytes", "Free bytes of the log's file system.", status.disk_free_bytes),
        )
        counters = (
            ("egpu_collector_records", "Records committed.", status.record_count),
            ("egpu_collector_commits", "Transactions committed.", status.commit_count),
            ("egpu_collector_commit_seconds", "Seconds spent in transactions.", status.commit_seconds),
        )
        for name, text, value in gauges:
            if value is not None:  # 0 would read as a full disk
                yield GaugeMetricFamily(name, text, value=value)
        yield InfoMetricFamily("egpu_collector_log", "Which log this is.", value={"identity": status.identity})
        for name, text, total in counters:
            yield CounterMetricFamily(name, text, value=total)


class _Metrics:
    """Counters of the receiver; samples are counted when their fate is known."""

    def __init__(self, log: Log) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_LogMetrics(log))
        counter = functools.partial(Counter, registry=self.registry)
        self.requests = counter("egpu_collector_requests_total", "Write requests answered, by status.", ["status"])
        self.received = counter("egpu_collector_samples_received_total", "Samples of well-formed bodies.")
        self.stored = counter("egpu_collector_samples_stored_total", "Samples that are durable in the log.")
        self.refused = counter("egpu_collector_samples_refused_total", "Samples not stored, by reason.", ["reason"])
        self.duplicates = counter("egpu_collector_samples_duplicate_total", "Samples of bodies stored before.")
        self.duplicate_requests = counter("egpu_collector_requests_duplicate_total", "Bodies stored before.")
        self.histograms = counter("egpu_collector_histograms_total", "Native histograms stored, read by nobody yet.")
        self.exemplars = counter("egpu_collector_exemplars_total", "Exemplars stored, read by nobody yet.")
        self.metadata = counter("egpu_collector_metadata_total", "Metadata entries received.")
        self.queue_bytes = Gauge(
            "egpu_collector_queue_bytes", "Bytes of bodies received and not yet answered.", registry=self.registry
        )
        self.durable_seconds = Histogram(
            "egpu_collector_durable_seconds", "Seconds from a whole body to its commit.", registry=self.registry
        )


class Receiver:
    """The application. ``is_draining`` makes it refuse what is new; ``clock`` gives ms UTC."""

    def __init__(
        self,
        settings: CollectorSettings,
        log: Log,
        *,
        checker: BodyChecker,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._metrics = _Metrics(log)
        self._checker = checker
        self._window = DuplicateWindow(
            int(settings.duplicate_window_seconds * 1000), hash_count_max=settings.duplicate_count_max
        )
        for body_hash, received_ms in log.take_recent_hashes():
            self._window.add(body_hash, received_ms)
        self._pending: dict[bytes, asyncio.Future[None]] = {}
        # The longest a snappy block of body_bytes_max can be (format_description.txt: 32 + n + n/6).
        self._block_bytes_max = 32 + settings.body_bytes_max + settings.body_bytes_max // 6
        self._queue_bytes = 0
        self._future_ms = int(settings.future_seconds_max * 1000)
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request (ASGI 3)."""
        try:
            answer = await self._answer(scope, receive)
        except _Refused as refused:
            answer = refused.answer
        except _SenderGone:
            return
        if scope["path"] in WRITE_PATHS:
            self._metrics.requests.labels(str(answer.status)).inc()
        await _send(send, answer, is_head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if path in WRITE_PATHS:
            return await self._write(scope, receive) if method == "POST" else _not_allowed("POST")
        if path not in ("/healthz", "/readyz", "/metrics"):
            return Answer(404, "not found\n")
        if method not in ("GET", "HEAD"):
            return _not_allowed("GET, HEAD")
        if path == "/metrics":
            self._metrics.queue_bytes.set(self._queue_bytes)
            return Answer(200, generate_latest(self._metrics.registry).decode(), (("content-type", METRICS_TYPE),))
        # A log that is unavailable for now is not ready; only one that a new process could mend is not healthy.
        is_asked_why = path == "/readyz" or self._log.has_ended
        if is_asked_why and (reason := self._why_unavailable()):
            return Answer(503, f"{reason}\n")
        # The body prometheus-kafka-adapter answers with, for probes that look at it.
        return Answer(200, '{"status":"UP"}\n', (("content-type", "application/json"),))

    # ---- one body ----

    async def _write(self, scope: Scope, receive: Receive) -> Answer:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        _check_type(headers)
        declared_bytes = int(headers.get("content-length", "0"))
        if declared_bytes > self._block_bytes_max:
            raise _Refused(Answer(413, f"body of {declared_bytes} bytes, at most {self._block_bytes_max}\n"))
        if reason := self._why_unavailable():
            raise _Refused(self._later(reason))
        admitted = _Admitted(self, declared_bytes)
        try:
            return await self._store(await self._read(receive, admitted))
        finally:
            admitted.release()

    async def _read(self, receive: Receive, admitted: "_Admitted") -> bytes:
        parts: list[bytes] = []
        length = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds_max):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _SenderGone
                    parts.append(message["body"])
                    length += len(parts[-1])
                    if length > self._block_bytes_max:
                        raise _Refused(Answer(413, f"body of more than {self._block_bytes_max} bytes\n"))
                    admitted.raise_to(length)
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise _Refused(self._later("the body did not arrive in time")) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _store(self, body: bytes) -> Answer:
        arrived_ms = self._clock()
        try:
            checked = self._checker.check(body, timestamp_max_ms=arrived_ms + self._future_ms)
        except RecordTooLarge as error:
            return Answer(413, f"{error}\n")
        except CorruptRecord as error:
            return Answer(400, f"corrupt body, nothing was stored: {error}\n")
        # Metadata alone is acknowledged and counted, not stored: Prometheus sends it every minute and wants a 2xx, no
        # table is made from it, and a record without samples has no place in time.
        is_new = False
        if len(checked.body):
            started = time.perf_counter()
            try:
                is_new = await self._store_once(body, checked, arrived_ms)
            except LogUnavailable as error:
                return self._later(str(error))
            except RecordTooLarge as error:
                return Answer(413, f"{error}\n")
            self._metrics.durable_seconds.observe(time.perf_counter() - started)
        self._count(checked, is_repeated=len(checked.body) > 0 and not is_new)
        return _partly(checked) if checked.refused else Answer(204)

    async def _store_once(self, body: bytes, checked: Checked, arrived_ms: int) -> bool:
        """Wait until the body is durable; False when it was before, or when its twin is just being committed."""
        body_hash = hashlib.blake2b(body, digest_size=BODY_HASH_BYTES).digest()
        if self._window.holds(body_hash, arrived_ms):
            return False
        stored = self._pending.get(body_hash)
        is_new = stored is None
        if stored is None:
            record = NewRecord(
                body_hash, checked.sample_count, checked.timestamp_min_ms, checked.timestamp_max_ms, checked.sent_block
            )
            stored = asyncio.wrap_future(self._log.append(record, checked.body))
            self._pending[body_hash] = stored
            stored.add_done_callback(functools.partial(self._settled, body_hash))
        # Shielded: a sender that hangs up must not take the answer from its own retry.
        await asyncio.shield(stored)
        return is_new

    def _settled(self, body_hash: bytes, stored: "asyncio.Future[None]") -> None:
        del self._pending[body_hash]
        if not stored.cancelled() and stored.exception() is None:
            self._window.add(body_hash, self._clock())

    # ---- answers and figures ----

    def _why_unavailable(self) -> str:
        return "the collector is stopping" if self.is_draining else self._log.unavailable

    def _later(self, reason: str) -> Answer:
        return Answer(503, f"{reason}\n", (("retry-after", str(self._settings.retry_after_seconds)),))

    def hold(self, more_bytes: int) -> None:
        """Count bytes of bodies as queued (negative: as done); refuses the request when there would be too many."""
        if more_bytes > 0 and self._queue_bytes + more_bytes > self._settings.queue_bytes_max:
            raise _Refused(self._later("queue full"))
        self._queue_bytes += more_bytes

    def _count(self, checked: Checked, *, is_repeated: bool) -> None:
        metrics = self._metrics
        metrics.received.inc(checked.sample_count + sum(checked.refused.values()))
        metrics.metadata.inc(checked.metadata_count)
        if is_repeated:
            metrics.duplicates.inc(checked.sample_count)
            metrics.duplicate_requests.inc()
            return
        metrics.stored.inc(checked.sample_count)
        metrics.histograms.inc(checked.histogram_count)
        metrics.exemplars.inc(checked.exemplar_count)
        for reason, count in checked.refused.items():
            metrics.refused.labels(reason).inc(count)


class _Admitted:
    """A body's share of the queue: what its Content-Length declared, or what has arrived when that is more."""

    def __init__(self, receiver: Receiver, declared_bytes: int) -> None:
        receiver.hold(declared_bytes)
        self._receiver = receiver
        self._bytes = declared_bytes

    def raise_to(self, arrived_bytes: int) -> None:
        if arrived_bytes > self._bytes:
            self._receiver.hold(arrived_bytes - self._bytes)
            self._bytes = arrived_bytes

    def release(self) -> None:
        self._receiver.hold(-self._bytes)


def _check_type(headers: dict[str, str]) -> None:
    """415 unless the headers can mean a snappy block of remote write 1.0; looked at before the body.

    A missing type or encoding is taken for the protocol's only one, as Prometheus and prometheus-kafka-adapter do.
    The message is named by ``proto=`` alone: without it a body is a prometheus.WriteRequest whatever
    X-Prometheus-Remote-Write-Version says (remote write 2.0, "Protocol": the parameter decides, none means 1.0).
    """
    media_type, *parameters = [part.strip() for part in headers.get("content-type", "").split(";")]
    if media_type.lower() not in ("", MEDIA_TYPE):
        raise _Refused(Answer(415, f"content type {media_type!r}, expected {MEDIA_TYPE}\n"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto" and value.strip().strip('"') != MESSAGE_V1:
            raise _Refused(Answer(415, f"message {value.strip()}, expected {MESSAGE_V1} (remote write 1.0)\n"))
    encoding = headers.get("content-encoding", "snappy").strip().lower()
    if encoding != "snappy":
        raise _Refused(Answer(415, f"content encoding {encoding!r}, expected snappy\n"))


def _partly(checked: Checked) -> Answer:
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(checked.refused.items()))
    return Answer(400, f"{checked.sample_count} samples stored, {sum(checked.refused.values())} refused: {reasons}\n")


def _not_allowed(allowed: str) -> Answer:
    return Answer(405, "method not allowed\n", (("allow", allowed),))


async def _send(send: Send, answer: Answer, *, is_head: bool) -> None:
    body = answer.text.encode()
    headers = [(name.encode(), value.encode()) for name, value in answer.headers]
    if answer.status != 204:
        headers.append((b"content-length", str(len(body)).encode()))
        if not any(name == b"content-type" for name, _ in headers):
            headers.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else body})
