"""Questions to the brokers: what the topic is like, where it ends, what its newest records are; and making it.

Two ways to fail. Unreachable: an answer may come later. Failure: only a person can mend it.
"""

import base64
import contextlib
import logging
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
    Uuid,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec

from collector.settings import CollectorSettings
from collector.topic_rules import Headers, NewestRecord, TopicFacts, new_topic_settings, whole_bodies
from egpu_runtime.contract.process import Failure

T = TypeVar("T")

OWN_PROPERTIES: Final = {
    "bootstrap.servers": "kafka_bootstrap_servers",
    "metadata.broker.list": "kafka_bootstrap_servers",
    "compression.type": "kafka_compression",
    "compression.codec": "kafka_compression",
    "linger.ms": "kafka_linger_seconds",
    "queue.buffering.max.ms": "kafka_linger_seconds",
    "message.timeout.ms": "kafka_delivery_seconds_max",
    "delivery.timeout.ms": "kafka_delivery_seconds_max",
    "queue.buffering.max.kbytes": "kafka_queue_bytes_max",
    "queue.buffering.max.messages": "kafka_queue_bytes_max",
    "acks": "",
    "request.required.acks": "",
    "enable.idempotence": "",
    "transactional.id": "",
    "message.max.bytes": "",
}
"""librdkafka properties that nobody may pass through: the setting that stands for each, or "" where it is fixed."""

RECONNECT_MS_MAX: Final = 1000
"""librdkafka's own 10 s would leave a broker that is back unused for as long."""

REFUSALS: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
)
"""Errors that come again however often one asks."""

_SILENCE: Final = frozenset({KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE})

_AROUND: Final = re.compile(r"^(?:Broker: |Local: |\S+/(?:bootstrap|\d+): )|(?: \(after \d+ms in state .*\))$")

_TAIL_RECORDS_MAX: Final = 2000
_POLL_SECONDS: Final = 0.1

_logger = logging.getLogger("egpu-collector")
_client_logger = logging.getLogger("egpu-collector.kafka")
_client_logger.setLevel(logging.CRITICAL)
"""What librdkafka would print of every attempt to connect, we say once; ``debug`` properties print nothing either."""


class Unreachable(Exception):  # noqa: N818 - reads as the sentence "raise Unreachable(why)"
    """The brokers gave no answer for now; the message says in one sentence why."""


def client_properties(settings: CollectorSettings) -> dict[str, Any]:
    """What every client of ours is told. Raises Failure for a property that may not be passed through."""
    for name in settings.kafka_properties:
        if name in OWN_PROPERTIES:
            instead = OWN_PROPERTIES[name]
            reason = f"the setting {instead} stands for it" if instead else "the collector sets it"
            raise Failure(f"kafka_properties: {name} cannot be set, {reason}")
    return {
        "client.id": "egpu-collector",
        "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
        **settings.kafka_properties,
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "logger": _client_logger,
    }


def sentence_of(error: KafkaError) -> str:
    """An error as a person reads it: librdkafka's text without the thread and the state it puts around."""
    return _AROUND.sub("", str(error.str()))


class Brokers:
    """A client that asks; ``seconds_max`` bounds each question."""

    def __init__(self, settings: CollectorSettings, *, seconds_max: float = 5.0) -> None:
        self._settings = settings
        self._topic = settings.kafka_topic
        self._seconds_max = seconds_max
        self._last_error = ""
        self._refusal = ""
        self._is_abandoned = False
        try:
            properties = client_properties(settings)
            properties["error_cb"] = self._on_error
            self._admin = AdminClient(properties)
        except KafkaException as error:
            raise Failure(f"kafka_properties: {sentence_of(error.args[0])}") from error

    def abandon(self) -> None:
        """Make whoever waits for an answer give up: the process ends."""
        self._is_abandoned = True

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in REFUSALS:
            self._refusal = sentence_of(error)
        elif error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = sentence_of(error)

    def _failed(self, error: KafkaError) -> Exception:
        where = f"Kafka at {self._settings.kafka_bootstrap_servers}"
        if error.code() in REFUSALS or self._refusal:
            why = self._refusal or sentence_of(error)
            self._refusal = ""
            return Failure(f"{where} refuses us: {why}")
        if error.code() in _SILENCE:
            return Unreachable(f"{where} does not answer: {self._last_error or sentence_of(error)}")
        return Unreachable(f"{where}: {sentence_of(error)}")

    def _ask(self, future: "Future[T]") -> T:
        deadline = time.monotonic() + self._seconds_max
        while True:
            try:
                return future.result(timeout=_POLL_SECONDS)
            except FutureTimeoutError:
                self._admin.poll(0)
                if self._refusal or self._is_abandoned or time.monotonic() >= deadline:
                    raise self._failed(KafkaError(KafkaError._TIMED_OUT)) from None
            except KafkaException as error:
                raise self._failed(error.args[0]) from error

    # ---- the topic ----

    def find(self) -> TopicFacts | None:
        """The topic, None when there is none. Raises Unreachable and Failure."""
        asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=self._seconds_max)
        try:
            found = self._ask(asked[self._topic])
        except (Unreachable, Failure) as error:
            if _code_of(error) == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._topic)
        asked_settings = self._admin.describe_configs([resource], request_timeout=self._seconds_max)
        try:
            configured = self._ask(asked_settings[resource])
        except Failure as error:
            raise Failure(f"{error} (DescribeConfigs of topic {self._topic} is needed)") from error
        partitions = found.partitions
        return TopicFacts(
            name=self._topic,
            identity=_hex_of(found.topic_id),
            partition_count=len(partitions),
            replica_count=min(len(partition.replicas) for partition in partitions),
            in_sync_count=min(len(partition.isr) if partition.leader else 0 for partition in partitions),
            settings={name: entry.value for name, entry in configured.items()},
        )

    def find_or_create(self) -> TopicFacts:
        """The topic, made when it is missing and may be made. Raises Unreachable and Failure."""
        found = self.find()
        if found is not None:
            return found
        if not self._settings.kafka_topic_create:
            raise Failure(f"topic {self._topic} does not exist, and kafka_topic_create is off")
        new = NewTopic(
            self._topic,
            num_partitions=self._settings.kafka_partition_count,
            replication_factor=self._settings.kafka_replication_factor or -1,
            config=new_topic_settings(self._settings),
        )
        try:
            self._ask(self._admin.create_topics([new], request_timeout=self._seconds_max)[self._topic])
        except (Unreachable, Failure) as error:
            if _code_of(error) != KafkaError.TOPIC_ALREADY_EXISTS:  # another collector was quicker
                raise Failure(f"topic {self._topic} cannot be made: {error}") from error
        _logger.info("made topic %s with %d partitions", self._topic, self._settings.kafka_partition_count)
        return self._wait_for_topic()

    def _wait_for_topic(self) -> TopicFacts:
        """A new topic is known to every broker only after a while."""
        deadline = time.monotonic() + self._seconds_max
        while True:
            found = self.find()
            if found is not None and found.in_sync_count > 0:
                return found
            if time.monotonic() >= deadline:
                raise Failure(f"topic {self._topic} was made and cannot be seen")
            time.sleep(_POLL_SECONDS)

    # ---- its records ----

    def offsets(self, partition_count: int, spec: OffsetSpec) -> list[int]:
        """By partition the first (``OffsetSpec.earliest()``) or next (``latest()``) offset."""
        wanted = {TopicPartition(self._topic, partition): spec for partition in range(partition_count)}
        asked = self._admin.list_offsets(wanted, request_timeout=self._seconds_max)
        return [self._ask(asked[partition]).offset for partition in wanted]

    def bounds(self, partition_count: int) -> list[tuple[int, int]]:
        """By partition its first offset and the one after its last."""
        return list(
            zip(
                self.offsets(partition_count, OffsetSpec.earliest()),
                self.offsets(partition_count, OffsetSpec.latest()),
                strict=True,
            )
        )

    def group_offsets(self) -> Mapping[str, Mapping[int, int]]:
        """Consumer group -> partition -> committed offset, of the groups that have committed some of this topic."""
        listed = self._ask(self._admin.list_consumer_groups(request_timeout=self._seconds_max))
        found: dict[str, Mapping[int, int]] = {}
        for group in sorted(entry.group_id for entry in listed.valid):
            asked = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=self._seconds_max
            )
            committed = self._ask(asked[group]).topic_partitions
            ours = {p.partition: p.offset for p in committed if p.topic == self._topic and p.offset >= 0}
            if ours:
                found[group] = ours
        return found

    def tail(self, partition_count: int) -> "Tail":
        """The newest records, for as long as the caller reads them."""
        return Tail(self._settings, self.bounds(partition_count))


class Tail:
    """Reads the newest records of the first partitions, up to where they ended when it was made."""

    def __init__(self, settings: CollectorSettings, bounds: list[tuple[int, int]]) -> None:
        self._settings = settings
        self._bounds = bounds

    def newest(self) -> dict[int, NewestRecord]:
        """By partition its newest record; empty partitions are left out."""
        starts = {partition: max(first, end - 1) for partition, (first, end) in enumerate(self._bounds)}
        return {
            message.partition() or 0: NewestRecord(
                _headers_of(message), len(message.value() or b""), message.timestamp()[1]
            )
            for message in self._messages(starts)
        }

    def recent_bodies(self, newest: Mapping[int, NewestRecord]) -> list[tuple[bytes, int]]:
        """(body hash, ms) of the bodies among the newest ``duplicate_rebuild_bytes``, which is only estimated."""
        share = self._settings.duplicate_rebuild_bytes // max(1, len(newest))
        starts = {}
        for partition, record in newest.items():
            first, end = self._bounds[partition]
            starts[partition] = max(first, end - min(_TAIL_RECORDS_MAX, share // max(1, record.value_bytes)))
        return whole_bodies((_headers_of(message), message.timestamp()[1]) for message in self._messages(starts))

    def _messages(self, starts: Mapping[int, int]) -> Iterator[Message]:
        ends = {partition: self._bounds[partition][1] for partition in starts}
        left = {partition for partition, start in starts.items() if start < ends[partition]}
        if not left:
            return
        consumer = Consumer(
            {
                **client_properties(self._settings),
                "group.id": "egpu-collector",  # asked for by the client, never joined
                "enable.auto.commit": False,
                "enable.partition.eof": False,
                "queued.max.messages.kbytes": 16384,
            }
        )
        with contextlib.closing(consumer):
            consumer.assign([TopicPartition(self._settings.kafka_topic, p, starts[p]) for p in sorted(left)])
            deadline = time.monotonic() + self._settings.kafka_start_seconds_max
            while left and time.monotonic() < deadline:
                message = consumer.poll(_POLL_SECONDS)
                if message is None:
                    continue
                error = message.error()
                if error is not None:
                    reason = f"topic {self._settings.kafka_topic} cannot be read: {sentence_of(error)}"
                    raise Failure(reason) if error.code() in REFUSALS else Unreachable(reason)
                offset, partition = message.offset() or 0, message.partition() or 0
                if offset >= ends[partition] - 1:
                    left.discard(partition)
                if offset < ends[partition]:
                    yield message


def _code_of(error: Exception) -> int | None:
    cause = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None


def _headers_of(message: Message) -> Headers:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, value) for name, value in pairs if isinstance(value, bytes)]


def _hex_of(uuid: Uuid) -> str:
    """The id's 16 bytes, which Kafka writes in URL-safe base 64 without padding."""
    return base64.urlsafe_b64decode(f"{uuid}==").hex()
