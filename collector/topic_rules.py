"""What the topic has to be like to be a log that loses nothing, and what the headers of its records say."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from collector.contract.topic import (
    HEADER_BODY_HASH,
    HEADER_PART,
    HEADER_PARTITIONS,
    HEADER_SAMPLE_COUNT,
    HEADER_SCHEMA,
    HEADER_TIMES,
    RECORD_BYTES_MAX,
    RECORD_OVERHEAD_BYTES,
    TOPIC_SCHEMA_VERSION,
)
from collector.intake import NewRecord
from collector.settings import CollectorSettings

KEEP_FOREVER: Final = -1
"""Kafka's word for no limit."""

RECORD_BYTES_MIN: Final = 64 << 10
"""A topic that takes no larger records would cut every ordinary body."""

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic as its brokers describe it: ``identity`` 32 hex digits, ``settings`` as Kafka spells them."""

    name: str
    identity: str
    partition_count: int
    replica_count: int
    """Replicas of the partition that has the fewest."""
    in_sync_count: int
    """In-sync replicas of the partition that has the fewest; 0 for a partition without a leader."""
    settings: Mapping[str, str]

    @property
    def value_bytes_max(self) -> int:
        """Most bytes of a record's value."""
        return min(RECORD_BYTES_MAX, int(self.settings["max.message.bytes"])) - RECORD_OVERHEAD_BYTES

    @property
    def insync_replicas_min(self) -> int:
        """Replicas that have to hold a record before it is acknowledged."""
        return int(self.settings["min.insync.replicas"])


@dataclass(frozen=True, slots=True)
class NewestRecord:
    """The last record of a partition; ``received_ms`` by the broker's clock, ms UTC."""

    headers: Headers
    value_bytes: int
    received_ms: int


def new_topic_settings(settings: CollectorSettings) -> dict[str, str]:
    """Settings of a topic that the collector makes."""
    chosen = {
        # Retention goes by the record's timestamp: samples of last month must not make their records old at once.
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(int(settings.kafka_retention_seconds * 1000) or KEEP_FOREVER),
        "retention.bytes": str(settings.kafka_retention_bytes or KEEP_FOREVER),
        "max.message.bytes": str(RECORD_BYTES_MAX),
        "unclean.leader.election.enable": "false",
    }
    if settings.kafka_insync_replicas_min:
        chosen["min.insync.replicas"] = str(settings.kafka_insync_replicas_min)
    return chosen


def why_refused(facts: TopicFacts, settings: CollectorSettings) -> str:
    """Why a topic may not be the log, in one sentence; empty when it may. Each reason is a way to lose samples."""
    given = facts.settings
    for name, wanted, otherwise in (
        ("message.timestamp.type", "LogAppendTime", "else retention goes by the clock of whoever writes"),
        ("cleanup.policy", "delete", "compaction removes records that nobody has read"),
        ("unclean.leader.election.enable", "false", "else a broker that lags may drop what was acknowledged"),
    ):
        if given[name] != wanted:
            return f"topic {facts.name} has {name}={given[name]} and must have {wanted}: {otherwise}"
    for what, found, needed, setting in (
        ("partitions", facts.partition_count, settings.kafka_partition_count, "kafka_partition_count"),
        ("replicas", facts.replica_count, settings.kafka_replication_factor, "kafka_replication_factor"),
        ("min.insync.replicas", facts.insync_replicas_min, settings.kafka_insync_replicas_min, ""),
    ):
        if found < needed:
            return f"topic {facts.name} has {found} {what}, {setting or 'kafka_insync_replicas_min'} is {needed}"
    if facts.value_bytes_max < RECORD_BYTES_MIN:
        return f"topic {facts.name} has max.message.bytes={given['max.message.bytes']}, less than {RECORD_BYTES_MIN}"
    return ""


def remarks(facts: TopicFacts, settings: CollectorSettings) -> Iterator[str]:
    """What a person should know of a topic that was found and not made by these settings."""
    if facts.partition_count > settings.kafka_partition_count:
        yield (
            f"topic {facts.name} has {facts.partition_count} partitions, series are spread over the first "
            f"{settings.kafka_partition_count} (kafka_partition_count)"
        )
    wanted = new_topic_settings(settings)
    for name in ("retention.ms", "retention.bytes", "max.message.bytes"):
        if facts.settings[name] != wanted[name]:
            yield f"topic {facts.name} has {name}={facts.settings[name]}, it would be made with {wanted[name]}"


def why_unavailable(facts: TopicFacts) -> str:
    """Why the topic takes no record for now, in one sentence; empty when it does."""
    if facts.in_sync_count < facts.insync_replicas_min:
        return (
            f"topic {facts.name}: a partition has {facts.in_sync_count} in-sync replicas, "
            f"fewer than its min.insync.replicas {facts.insync_replicas_min}"
        )
    return ""


def record_headers(record: NewRecord, partition_count: int) -> list[tuple[str, bytes]]:
    """Headers that all records of a body share."""
    return [
        (HEADER_SCHEMA, str(TOPIC_SCHEMA_VERSION).encode()),
        (HEADER_BODY_HASH, record.body_hash),
        (HEADER_TIMES, f"{record.timestamp_min_ms} {record.timestamp_max_ms}".encode()),
        (HEADER_PARTITIONS, str(partition_count).encode()),
    ]


def part_headers(number: int, count: int, *, sample_count: int) -> list[tuple[str, bytes]]:
    """Headers of one record, the ``number``-th (from 1) of ``count`` that a body became."""
    return [(HEADER_PART, f"{number} {count}".encode()), (HEADER_SAMPLE_COUNT, str(sample_count).encode())]


def partition_count_in(headers: Headers) -> int | None:
    """Over how many partitions the writer of a record spread series; None for a record that does not say it."""
    text = dict(headers).get(HEADER_PARTITIONS, b"")
    return int(text) if text.isdigit() else None


def why_spread_refused(newest: Iterable[NewestRecord], settings: CollectorSettings) -> str:
    """Why series may not be spread as the settings say, given how the newest records were; empty when they may."""
    found = (partition_count_in(record.headers) for record in newest)
    counts = {count for count in found if count is not None and count != settings.kafka_partition_count}
    if not counts or settings.kafka_partition_count_changes:
        return ""
    return (
        f"topic {settings.kafka_topic} is written over {max(counts)} partitions, kafka_partition_count is "
        f"{settings.kafka_partition_count}: series would change partition (--kafka-partition-count-changes allows it)"
    )


def whole_bodies(records: Iterable[tuple[Headers, int]]) -> list[tuple[bytes, int]]:
    """(body hash, ms) of the bodies of which every record is among ``records``, each with its broker's time in ms.

    A body that lacks one was not acknowledged, or is so old that its other records were not looked at.
    """
    found: dict[bytes, set[bytes]] = {}
    whole: list[tuple[bytes, int]] = []
    for headers, received_ms in records:
        by_name = dict(headers)
        body_hash, part = by_name.get(HEADER_BODY_HASH, b""), by_name.get(HEADER_PART, b"")
        count = part.partition(b" ")[2]
        if not body_hash or not count.isdigit():
            continue
        parts = found.setdefault(body_hash, set())
        parts.add(part)
        if len(parts) == int(count):
            whole.append((body_hash, received_ms))
    return sorted(whole, key=lambda body: body[1])
