"""The log of a cluster-size deployment: a Kafka topic, one record for each partition that a body touches.

A body's future is done only after every one of its records was acknowledged by all in-sync replicas. While the brokers
are away, slow, or the queue is full, bodies are refused at once (503, their senders repeat them) and the topic is
looked at again every ``maintenance_seconds``. Records of a body that failed may be in the topic all the same; when the
sender repeats it they are there twice, and readers count equal samples once.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import numpy as np
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from numpy.typing import NDArray

from collector.intake import LogStatus, LogUnavailable, NewRecord
from collector.kafka_topic import REFUSALS, Brokers, Unreachable, client_properties, sentence_of
from collector.partitioning import BodySplitter, Part
from collector.settings import CollectorSettings
from collector.topic_rules import (
    TopicFacts,
    part_headers,
    record_headers,
    remarks,
    why_refused,
    why_spread_refused,
    why_unavailable,
)
from collector.validation import BodyChecker
from egpu_runtime.contract.process import Failure

POLL_SECONDS: Final = 0.2
"""Longest wait of the thread that takes acknowledgements, which is how fast it notices that we close."""

QUIET_SECONDS: Final = 1.0
"""Seconds of waiting at start that are not worth a line."""

CHECK_SECONDS: Final = 60.0
"""Seconds between looks at a topic that seems well: it may have been made anew, or be set otherwise."""

ZSTD_LEVEL: Final = 1
"""librdkafka's own choice, 3, takes a fifth more CPU of the whole collector for no fewer bytes [measured]."""

_QUEUE_SPARE: Final = 2
"""librdkafka's own bound stands above ours: it would refuse in the middle of a body."""

_CLIENT_MESSAGE_BYTES_MAX: Final = 1_000_000_000
_CLIENT_QUEUE_KIB_MAX: Final = (1 << 31) - 1
"""The largest numbers that librdkafka takes for these two."""

_logger = logging.getLogger("egpu-collector")


class _Delivery:
    """A body under way; done when each of its records was acknowledged or given up."""

    def __init__(self, part_count: int, byte_count: int, *, settled: "Callable[[_Delivery], None]") -> None:
        self.stored: Future[None] = Future()
        self.stored.set_running_or_notify_cancel()
        self.part_count = part_count
        self.byte_count = byte_count
        self.started = time.monotonic()
        self.error: KafkaError | None = None
        self._left_count = part_count
        self._lock = threading.Lock()
        self._settled = settled

    def report(self, error: KafkaError | None, message: Message | None) -> None:
        """Called once for each record, from whatever thread learnt its fate."""
        del message
        with self._lock:
            self.error = self.error or error
            self._left_count -= 1
            is_last = self._left_count == 0
        if is_last:
            self._settled(self)


class KafkaLog:
    """Opens the topic of the settings for writing; makes it when it is missing and may be made.

    Raises Failure with one sentence when no broker answers in ``kafka_start_seconds_max``, when none lets us in, or
    when the topic is set so that samples would be lost. ``append`` belongs to the checker's thread; ``status`` and
    ``unavailable`` may be used from any.
    """

    def __init__(self, settings: CollectorSettings, checker: BodyChecker) -> None:
        self._settings = settings
        self.unavailable = ""
        """Why no record can be taken now, in one sentence; empty while the log is well."""
        self.has_ended = False
        """Whether the topic is no longer the one that was opened: a new process has to look at it from the start."""
        self._brokers = Brokers(settings)
        self._facts, self._recent_bodies = self._open_in_time()
        self._splitter = BodySplitter(checker, settings.kafka_partition_count)
        self._appending = threading.Lock()
        self._counting = threading.Lock()
        self._wake = threading.Event()
        self._is_closing = self._is_closed = self._is_fatal = False
        self._queue_bytes = self._record_count = self._delivery_count = 0
        self._checked_count = 0
        self._delivery_seconds = 0.0
        self._said: set[str] = set()
        self._producer = self._new_producer()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (("log-acknowledgements", self._take_reports), ("log-keeper", self._keep))
        ]
        for thread in self._threads:
            thread.start()

    # ---- who sends ----

    def append(self, record: NewRecord, body: NDArray[np.uint8]) -> "Future[None]":
        """Queue a record; see :class:`collector.intake.Log`."""
        with self._appending:
            if reason := self._why_refused(len(body)):
                refused: Future[None] = Future()
                refused.set_exception(LogUnavailable(reason))
                return refused
            parts = self._splitter.split(body, record_bytes_max=self._facts.value_bytes_max)
            delivery = _Delivery(len(parts), len(body), settled=self._settle)
            with self._counting:
                self._queue_bytes += delivery.byte_count
            self._produce(record, parts, delivery)
        return delivery.stored

    def status(self) -> LogStatus:
        """How the log is; the brokers' files are not ours to see."""
        return LogStatus(
            unavailable=self.unavailable,
            log_bytes=None,
            segment_count=None,
            record_count=self._record_count,
            commit_count=self._delivery_count,
            commit_seconds=self._delivery_seconds,
            disk_free_bytes=None,
            identity=self._facts.identity,
        )

    def take_recent_hashes(self) -> list[tuple[bytes, int]]:
        """(body hash, ms) of the newest bodies of the topic as read at start; given away once."""
        taken, self._recent_bodies = self._recent_bodies, []
        return taken

    def close(self) -> None:
        """Wait until all that is queued was acknowledged or given up, and end."""
        self._is_closing = True
        deadline = time.monotonic() + self._settings.kafka_delivery_seconds_max + 1.0
        while self._queue_bytes and time.monotonic() < deadline:
            time.sleep(0.01)
        self._is_closed = True
        self._brokers.abandon()
        self._wake.set()
        for thread in self._threads:
            thread.join()

    # ---- at start ----

    def _open_in_time(self) -> tuple[TopicFacts, list[tuple[bytes, int]]]:
        """Brokers that start, and a topic just made, answer only after a while."""
        started = time.monotonic()
        said = ""
        while True:
            try:
                return self._open()
            except Unreachable as error:
                waited_seconds = time.monotonic() - started
                if waited_seconds >= self._settings.kafka_start_seconds_max:
                    raise Failure(str(error)) from error
                if waited_seconds >= QUIET_SECONDS and str(error) != said:
                    said = str(error)
                    _logger.info("%s", said)
                time.sleep(POLL_SECONDS)

    def _open(self) -> tuple[TopicFacts, list[tuple[bytes, int]]]:
        """The topic and the newest bodies in it. Raises Unreachable, and Failure for what time does not mend."""
        settings = self._settings
        facts = self._brokers.find_or_create()
        if reason := why_refused(facts, settings):
            raise Failure(reason)
        tail = self._brokers.tail(facts.partition_count)
        newest = tail.newest()
        if reason := why_spread_refused(newest.values(), settings):
            raise Failure(reason)
        bodies = tail.recent_bodies(newest)
        for remark in remarks(facts, settings):
            _logger.warning("%s", remark)
        return facts, bodies

    def _new_producer(self) -> Producer:
        settings = self._settings
        # Half of the time: a request that got no answer is sent once more before its records are given up.
        request_ms = int(settings.kafka_delivery_seconds_max * 1000) // 2
        room_bytes = _QUEUE_SPARE * (settings.kafka_queue_bytes_max + settings.body_bytes_max)
        properties: dict[str, Any] = {
            "socket.timeout.ms": request_ms,
            "request.timeout.ms": request_ms,
            **({"compression.level": ZSTD_LEVEL} if settings.kafka_compression == "zstd" else {}),
            **client_properties(settings),
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": settings.kafka_compression,
            "linger.ms": settings.kafka_linger_seconds * 1000,
            "message.timeout.ms": 2 * request_ms,
            "message.max.bytes": min(int(self._facts.settings["max.message.bytes"]), _CLIENT_MESSAGE_BYTES_MAX),
            "queue.buffering.max.messages": 0,
            "queue.buffering.max.kbytes": min(room_bytes // 1024, _CLIENT_QUEUE_KIB_MAX),
            "error_cb": self._on_error,
        }
        try:
            return Producer(properties)
        except KafkaException as error:
            raise Failure(f"kafka_properties: {sentence_of(error.args[0])}") from error

    # ---- one body ----

    def _why_refused(self, byte_count: int) -> str:
        if self._is_closing:
            return "the collector is stopping"
        if self.unavailable:
            return self.unavailable
        # A body is taken whole or not at all, and one that is larger than the bound still gets its turn.
        if self._queue_bytes and self._queue_bytes + byte_count > self._settings.kafka_queue_bytes_max:
            return "the queue to Kafka is full"
        return ""

    def _produce(self, record: NewRecord, parts: list[Part], delivery: _Delivery) -> None:
        shared = record_headers(record, self._settings.kafka_partition_count)
        for number, part in enumerate(parts, 1):
            own = part_headers(number, len(parts), sample_count=part.sample_count)
            try:
                self._producer.produce(
                    self._settings.kafka_topic,
                    value=part.value,  # type: ignore[arg-type]  # any contiguous buffer; copied before it returns
                    partition=part.partition,
                    headers=[*shared, *own],
                    on_delivery=delivery.report,
                )
            except BufferError:
                delivery.report(KafkaError(KafkaError._QUEUE_FULL), None)
            except KafkaException as error:
                delivery.report(error.args[0], None)

    def _settle(self, delivery: _Delivery) -> None:
        with self._counting:
            self._queue_bytes -= delivery.byte_count
            if delivery.error is None:
                self._record_count += delivery.part_count
                self._delivery_count += 1
                self._delivery_seconds += time.monotonic() - delivery.started
        if delivery.error is None:
            delivery.stored.set_result(None)
            return
        reason = self._reason_of(delivery.error)
        self._lose(reason)
        delivery.stored.set_exception(LogUnavailable(reason))

    def _reason_of(self, error: KafkaError) -> str:
        if error.code() == KafkaError._MSG_TIMED_OUT:
            return f"Kafka did not acknowledge in {self._settings.kafka_delivery_seconds_max:g} s"
        return f"topic {self._settings.kafka_topic}: {sentence_of(error)}"

    # ---- threads of ours ----

    def _take_reports(self) -> None:
        while not self._is_closed:
            self._producer.poll(POLL_SECONDS)

    def _on_error(self, error: KafkaError) -> None:
        """What the client tells beside the fate of records; single connections come and go and are its own business."""
        where = f"Kafka at {self._settings.kafka_bootstrap_servers}"
        if error.fatal():
            self._is_fatal = True
        if error.fatal() or error.code() in REFUSALS:
            self._lose(f"{where}: {sentence_of(error)}")
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and not self.unavailable:
            self._lose(f"{where} does not answer")

    def _lose(self, reason: str) -> None:
        if self.has_ended:
            return
        if reason not in self._said:  # an outage has a few reasons by turns, each is worth one line
            self._said.add(reason)
            _logger.error("log: unavailable: %s", reason)
        self.unavailable = reason
        self._wake.set()

    def _keep(self) -> None:
        """Look at the topic again and again while something is wrong with it, and now and then while nothing seems."""
        checked = time.monotonic()
        while not self._is_closed and not self.has_ended:
            self._wake.wait(self._settings.maintenance_seconds)
            self._wake.clear()
            if self._is_fatal:
                self._renew_producer()
            if self.unavailable or time.monotonic() - checked >= CHECK_SECONDS:
                self._check()
                checked = time.monotonic()
                if self.unavailable and not self._is_closed:
                    time.sleep(self._settings.maintenance_seconds)

    def _check(self) -> None:
        try:
            facts = self._brokers.find()
        except Unreachable as error:
            # Whoever answers questions may be slow while records are acknowledged all the same.
            if self.unavailable or self._delivery_count == self._checked_count:
                self._lose(str(error))
            return
        except Failure as error:
            self._lose(str(error))
            return
        finally:
            self._checked_count = self._delivery_count
        if facts is None:
            self._lose(f"topic {self._settings.kafka_topic} is gone")
        elif facts.identity != self._facts.identity:
            self._lose(f"topic {facts.name} was made anew, its positions began again: restart the collector")
            self.has_ended = True
        elif reason := why_refused(facts, self._settings) or why_unavailable(facts):
            self._lose(reason)
        else:
            was_cut_otherwise = facts.value_bytes_max != self._facts.value_bytes_max
            self._facts = facts
            if was_cut_otherwise:
                self._renew_producer()
            if self.unavailable:
                self.unavailable = ""
                self._said.clear()
                _logger.info("log: available again")

    def _renew_producer(self) -> None:
        """After a fatal error a producer takes nothing more. What it still had fails, and its senders repeat it."""
        fresh = self._new_producer()
        with self._appending:
            old, self._producer = self._producer, fresh
        self._is_fatal = False
        old.purge()
        old.flush(POLL_SECONDS)
