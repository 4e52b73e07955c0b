"""A real Kafka topic as the log of a folder: ``topic.json`` beside where the log would be says which."""

import functools
import json
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from pipeline_request import Sample, write_request

from collector.contract.record import BODY_HASH_BYTES
from collector.contract.topic import (
    HEADER_BODY_HASH,
    HEADER_SAMPLE_COUNT,
    HEADER_SCHEMA,
    HEADER_TIMES,
    TOPIC_SCHEMA_VERSION,
)

PARTITIONS = 3
FILE = "topic.json"


def make_topic(folder: Path, bootstrap: str, *, partitions: int = PARTITIONS, name: str = "") -> str:
    """A topic of its own, whose record times we set: what a test says was received when, was."""
    folder.mkdir(exist_ok=True)
    name = name or f"samples-{uuid4().hex[:8]}"
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1", "max.message.bytes": str(4 << 20)}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(30)
    (folder / FILE).write_text(json.dumps({"bootstrap": bootstrap, "name": name, "partitions": partitions}))
    return name


def remove_topic(folder: Path) -> None:
    found = topic_of(folder)
    assert found
    admin = AdminClient({"bootstrap.servers": found["bootstrap"]})
    admin.delete_topics([found["name"]])[found["name"]].result(30)


def delete_before(folder: Path, partition: int, offset: int) -> None:
    """What retention does: records of a partition below an offset are gone."""
    found = topic_of(folder)
    assert found
    admin = AdminClient({"bootstrap.servers": found["bootstrap"]})
    for future in admin.delete_records([TopicPartition(found["name"], partition, offset)]).values():
        future.result(30)


def topic_of(folder: Path) -> dict[str, str] | None:
    """The topic that is the log of a folder, None when that is a folder of files."""
    path = folder / FILE
    found: dict[str, str] | None = json.loads(path.read_text()) if path.exists() else None
    return found


def settings_of(folder: Path) -> dict[str, object]:
    """Settings that read the folder's topic, empty for a folder of files."""
    found = topic_of(folder)
    if found is None:
        return {}
    return {"source": "kafka", "kafka_bootstrap_servers": found["bootstrap"], "kafka_topic": found["name"]}


def partition_of(sample: Sample, partitions: int) -> int:
    """By pod, else by all labels: as a collector does, a series never changes its partition."""
    labels = sample[0]
    key = labels.get("pod") or json.dumps(labels, sort_keys=True)
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest()) % partitions


def parts_of(batch: Sequence[Sample], partitions: int) -> Iterable[tuple[int, list[Sample]]]:
    by_partition: dict[int, list[Sample]] = {}
    for sample in batch:
        by_partition.setdefault(partition_of(sample, partitions), []).append(sample)
    return by_partition.items() if batch else [(0, [])]


@functools.cache
def producer_to(bootstrap: str) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0, "log_level": 0})


def produce(folder: Path, batches: Sequence[Sequence[Sample]], *, received_ms: int) -> None:
    """Append one record for each partition of each batch, with the headers of a collector."""
    found = topic_of(folder)
    assert found
    producer = producer_to(found["bootstrap"])
    for batch in batches:
        times = [time_ms for _, time_ms, _ in batch] or [0]
        digest = blake2b(write_request(batch), digest_size=BODY_HASH_BYTES).digest()
        for partition, samples in parts_of(batch, int(found["partitions"])):
            headers = {
                HEADER_SCHEMA: str(TOPIC_SCHEMA_VERSION),
                HEADER_BODY_HASH: digest,
                HEADER_SAMPLE_COUNT: str(len(samples)),
                HEADER_TIMES: f"{min(times)} {max(times)}",
            }
            value = write_request(samples)
            producer.produce(found["name"], value, partition=partition, timestamp=received_ms, headers=headers)
            producer.poll(0)
    assert producer.flush(30) == 0


def produce_raw(folder: Path, value: bytes, *, received_ms: int, headers: dict[str, str] | None = None) -> None:
    """A record of another writer, in partition 0."""
    found = topic_of(folder)
    assert found
    producer = producer_to(found["bootstrap"])
    producer.produce(found["name"], value, partition=0, timestamp=received_ms, headers=headers)
    assert producer.flush(30) == 0
