"""The two logs behind one face for the conformance suite, and a real Kafka broker to be killed, paused and asked."""

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cramjam
import engines_running
from collector_bodies import Labels, read_record
from collector_process import Collector, records
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from collector.contract.topic import HEADER_BODY_HASH, HEADER_SAMPLE_COUNT

Sample = tuple[Labels, int, int]
PARTITIONS = 3
READ_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class Stored:
    """One record of a log: where, which body it is from, and its samples as the slowest reader sees them."""

    partition: int
    position: tuple[int, int]
    body_hash: bytes
    samples: list[Sample]


class Store(Protocol):
    """A log under test: how a collector is told to use it, and what is in it."""

    def flags(self) -> list[object]: ...

    def read(self) -> list[Stored]: ...


@dataclass(frozen=True)
class SqliteStore:
    folder: Path

    def flags(self) -> list[object]:
        return []

    def read(self) -> list[Stored]:
        found = []
        for record in records(self.folder / "log"):
            body = bytes(cramjam.snappy.decompress_raw(record.block))
            position = (record.position.segment, record.position.row)
            found.append(Stored(0, position, b"", read_record(body)))
        return found


class Broker:
    """One Kafka of its own, with a second listener that asks for a user."""

    def __init__(self, home: Path, state: Mapping[str, Any]) -> None:
        self.home = home
        self.bootstrap: str = state["kafka"]["bootstrap"]
        self.sasl: Mapping[str, str] = state["kafka"]["sasl"]
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})

    def pid(self) -> int:
        return int(json.loads((self.home / "engines.json").read_text())["kafka"]["pid"])

    def kill(self) -> None:
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while _accepts(self.bootstrap):
            assert time.monotonic() < deadline, "the broker does not die"
            time.sleep(0.05)

    def start(self) -> None:
        engines_running.engines("up", "--home", self.home, "--only", "kafka")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Takes connections (the system does) and answers nothing."""
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def make(self, topic: str, partitions: int = PARTITIONS, **config: str) -> None:
        settings = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1", "max.message.bytes": "4194304"}
        settings |= {name.replace("_", "."): value for name, value in config.items()}
        self.admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])[topic].result(30)
        deadline = time.monotonic() + 10
        while topic not in self.admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def remove(self, topic: str) -> None:
        self.admin.delete_topics([topic])[topic].result(30)
        deadline = time.monotonic() + 10
        while topic in self.admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def settings_of(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        return {
            name: entry.value for name, entry in self.admin.describe_configs([resource])[resource].result(30).items()
        }

    def flags(self, topic: str) -> list[object]:
        return ["--log", "kafka", "--kafka-bootstrap-servers", self.bootstrap, "--kafka-topic", topic]

    def read(self, topic: str) -> list[Stored]:
        """All records up to now, partition by partition, by a consumer that knows nothing of ours."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex, "enable.auto.commit": False}
        )
        with closing(consumer):
            partitions = sorted(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
            ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
            consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
            found: list[Stored] = []
            deadline = time.monotonic() + READ_SECONDS_MAX
            while len(found) < sum(ends.values()):
                assert time.monotonic() < deadline, (len(found), ends)
                message = consumer.poll(0.2)
                if message is None:
                    continue
                assert message.error() is None, message.error()
                headers = dict(message.headers() or [])
                samples = read_record(message.value() or b"")
                assert int(headers[HEADER_SAMPLE_COUNT]) == len(samples)
                where = (message.partition(), message.offset())
                found.append(Stored(where[0], where, headers[HEADER_BODY_HASH], samples))
        return sorted(found, key=lambda stored: stored.position)


@dataclass(frozen=True)
class KafkaStore:
    broker: Broker
    topic: str

    def flags(self) -> list[object]:
        return [*self.broker.flags(self.topic), "--kafka-partition-count", PARTITIONS]

    def read(self) -> list[Stored]:
        return self.broker.read(self.topic)


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def samples_of(stored: list[Stored]) -> list[Sample]:
    return sorted(sample for record in stored for sample in record.samples)


def wait_for_status(collector: Collector, path: str, status: int, *, seconds_max: float = 30.0) -> str:
    """Ask until the answer has this status; returns its text."""
    deadline = time.monotonic() + seconds_max
    while True:
        answer = collector.ask("GET", path)
        if answer.status == status:
            return answer.text
        assert time.monotonic() < deadline, (answer.status, answer.text)
        time.sleep(0.05)
