"""The job on real engines: a topic, a database and a warehouse of its own, and what it wrote."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from engine_set import Engines
from waiting import wait_for

from pipeline.contract.tables import LATE_SAMPLES, SERIES_WINDOWS
from pipeline.flink import jobs
from pipeline.flink.rest import ENDED, FlinkRest
from pipeline.flink.sql import DEAD_LETTER_SUFFIX, JobRules, job_script
from pipeline.warehouse_hive import HiveServer


@dataclass
class FlinkJob:
    """One run of the job with everything it reads and writes."""

    engines: Engines
    folder: Path
    partitions: int = 4
    parallelism: int = 2
    name: str = field(default_factory=lambda: f"job_{uuid4().hex[:8]}")
    sent: dict[int, int] = field(default_factory=dict)
    """Records sent to each partition."""

    def __post_init__(self) -> None:
        state = self.engines.state
        self.bootstrap: str = state["kafka"]["bootstrap"]
        self.rest = FlinkRest(state["flink"]["rest"])
        self.place = jobs.Place(self.name, f"file://{self.folder}/checkpoints")
        self.warehouse = self.folder / "warehouse"
        self.warehouse.mkdir(parents=True)
        self.producer = Producer({"bootstrap.servers": self.bootstrap, "message.max.bytes": 4 << 20, "linger.ms": 5})
        # The times of records are the test's own: what it says was received when, was.
        config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1", "max.message.bytes": str(4 << 20)}
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        wanted = [
            NewTopic(self.name, self.partitions, 1, config=config),
            NewTopic(f"{self.name}{DEAD_LETTER_SUFFIX}", 1, 1, config=config),
        ]
        for made in admin.create_topics(wanted).values():
            made.result(30)
        hive = state["hive"]["url"]
        with HiveServer(hive) as server:
            server.execute(f"CREATE DATABASE {self.name}")
        with HiveServer(f"{hive.rpartition('/')[0]}/{self.name}") as server:
            server.ensure_tables(str(self.warehouse))

    def send(self, partition: int, record: bytes, received_ms: int) -> None:
        """Write one record; flush before looking."""
        while True:
            try:
                self.producer.produce(self.name, record, partition=partition, timestamp=received_ms)
                break
            except BufferError:
                self.producer.poll(0.1)
        self.sent[partition] = self.sent.get(partition, 0) + 1

    def flush(self) -> None:
        assert self.producer.flush(60) == 0

    def wanted(self) -> jobs.Wanted:
        state = self.engines.state
        rules = JobRules(
            bootstrap_servers=self.bootstrap,
            hive_conf_dir=state["flink"]["hive_conf"],
            hive_database=self.name,
            topic=self.name,
            idle_seconds=3,
            checkpoint_seconds=2,
            flink_settings={"pipeline.name": self.name},
        )
        jar = jobs.read_jar(state["flink_jar"])
        return jobs.Wanted(self.place, job_script(rules), jar, self.parallelism)

    def submit(self) -> str:
        return jobs.submit(self.rest, self.wanted(), jobs.How()).job_id

    def drain(self) -> None:
        """End the job; every window and hour is written."""
        jobs.cancel(self.rest, self.place, drain=True)

    def cancel(self) -> None:
        for job in self.rest.jobs():
            if job.name == self.name and job.state not in ENDED:
                self.rest.cancel(job.job_id)

    def await_read(self) -> None:
        """Wait until everything sent is in a checkpoint: committed offsets are written with one."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": JobRules.group})
        parts = [TopicPartition(self.name, partition) for partition in self.sent]
        try:
            wait_for(
                lambda: all(part.offset == self.sent[part.partition] for part in consumer.committed(parts, timeout=10)),
                "the job reads the topic to its end",
            )
        finally:
            consumer.close()

    def dead_letters(self) -> list[bytes]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.auto.commit": False})
        consumer.assign([TopicPartition(f"{self.name}{DEAD_LETTER_SUFFIX}", 0, 0)])
        found = []
        while (message := consumer.poll(3)) is not None:
            assert message.error() is None
            found.append(message.value() or b"")
        consumer.close()
        return found

    def _read(self, table: str) -> pa.Table:
        files = [
            path
            for path in sorted((self.warehouse / table).rglob("*"))
            if path.is_file() and not any(part[0] in "._" for part in path.relative_to(self.warehouse).parts)
        ]
        return pa.concat_tables([pq.read_table(path, partitioning=None) for path in files]) if files else None

    def windows(self) -> Sequence[dict[str, Any]]:
        """Rows of series_windows_5m that readers see."""
        found = self._read(SERIES_WINDOWS.name)
        rows: list[dict[str, Any]] = found.to_pylist() if found is not None else []
        return rows

    def late(self) -> Sequence[dict[str, Any]]:
        """Rows of late_samples that readers see."""
        found = self._read(LATE_SAMPLES.name)
        rows: list[dict[str, Any]] = found.to_pylist() if found is not None else []
        return rows

    def committed(self) -> list[str]:
        """Partitions with ``_SUCCESS``, as dt=.../hour=..."""
        folder = self.warehouse / SERIES_WINDOWS.name
        return sorted(str(path.parent.relative_to(folder)) for path in folder.rglob("_SUCCESS"))
