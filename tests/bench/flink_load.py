"""Samples for the job to read, in Kafka, and jobs run to their end: what bench_flink.py measures with."""

import json
import os
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_rollup import INTERVAL_MS, SERIES_A_RECORD, START_MS, field, varint
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from egpu_runtime.contract.metrics import CONTAINER_CORE_USED, CONTAINER_MEMORY_QUOTA, CONTAINER_MEMORY_USED
from pipeline.flink.rest import FlinkRest, Start

METRICS = (CONTAINER_MEMORY_USED.name, CONTAINER_CORE_USED.name, CONTAINER_MEMORY_QUOTA.name)


def labels(number: int) -> dict[str, str]:
    """Labels of a container's series as Prometheus sends them: those of the tables and what a scrape adds."""
    index = number // len(METRICS)
    return {
        "__name__": METRICS[number % len(METRICS)],
        "cluster": "bench",
        "node": f"node-{index // 8:05d}",
        "gpu_uuid": f"GPU-{index:08d}-1111-2222-3333-444455556666",
        "gpu_model": "NVIDIA A100-SXM4-80GB",
        "instance": f"10.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}:9400",
        "job": "egpu-agent",
        "tenant": f"tenant-{index % 20}",
        "namespace": f"namespace-{index % 50}",
        "workload_kind": "Deployment",
        "workload": f"service-{index // 4}",
        "pod": f"service-{index // 4}-6d4b75cb6d-{index:05d}",
        "pod_uid": f"{index:08x}-0000-4000-8000-000000000000",
        "container": "main",
        "priority": "0",
    }


class Shard:
    """One sender's series: a body whose values and times are patched in place."""

    def __init__(self, series: range) -> None:
        self.series = series
        body = bytearray()
        values, times = [], []
        for number in series:
            pairs = sorted(labels(number).items())
            inside = b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in pairs)
            body += field(1, inside + field(2, b"\x09" + bytes(8) + b"\x10" + bytes(6)))
            values.append(len(body) - 15)
            times.append(len(body) - 6)
        self.body = np.frombuffer(bytes(body), np.uint8).copy()
        self.values = np.array(values)[:, None] + np.arange(8)
        self.times = np.array(times)[:, None] + np.arange(6)

    def at(self, time_ms: int, value: np.ndarray) -> bytes:
        self.body[self.values] = value.view(np.uint8).reshape(-1, 8)
        self.body[self.times] = np.frombuffer(varint(time_ms), np.uint8)
        return self.body.tobytes()


@dataclass(frozen=True)
class Load:
    """What lies in a topic: so many series, each with so many samples, in so many partitions by series."""

    topic: str
    series: int
    rounds: int
    partitions: int = 1
    json: bool = False

    @property
    def samples(self) -> int:
        return self.series * self.rounds


def values_at(step: int, series: range) -> np.ndarray:
    """Values as usage has them: a level, a little noise, three digits."""
    random = np.random.default_rng(step * 1_000_003 + series.start)
    return np.round(np.clip(0.5 + random.normal(0, 0.1, len(series)), 0, 1), 3)


def _json(shard: Shard, time_ms: int, value: np.ndarray) -> Iterator[bytes]:
    """A record a sample, as prometheus-kafka-adapter writes it, but with the time in ms that a SQL job can use."""
    for number, each in zip(shard.series, value.tolist(), strict=True):
        names = labels(number)
        record = {"timestamp": time_ms, "value": each, "name": names["__name__"], "labels": names}
        yield json.dumps(record, separators=(",", ":")).encode()


def fill(bootstrap: str, load: Load) -> None:
    """Create the topic and write the load."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    config = {"retention.ms": "-1", "max.message.bytes": str(4 << 20), "message.timestamp.type": "LogAppendTime"}
    for wanted in (load.topic, f"{load.topic}-dead-letter"):
        for made in admin.create_topics([NewTopic(wanted, load.partitions, 1, config=config)]).values():
            made.result()
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "lz4",
            "message.max.bytes": 4 << 20,
            "queue.buffering.max.kbytes": 1 << 18,
            "linger.ms": 20,
        }
    )
    parts = [
        range(first, min(first + SERIES_A_RECORD, load.series)) for first in range(0, load.series, SERIES_A_RECORD)
    ]
    shards = [Shard(part) for part in parts]
    for step in range(load.rounds):
        time_ms = START_MS + step * INTERVAL_MS
        for index, shard in enumerate(shards):
            value = values_at(step, shard.series)
            records = _json(shard, time_ms, value) if load.json else iter([shard.at(time_ms, value)])
            for record in records:
                while True:
                    try:
                        producer.produce(load.topic, record, partition=index % load.partitions)
                        break
                    except BufferError:
                        producer.poll(0.1)
        producer.poll(0)
    producer.flush()


@dataclass
class Ended:
    """A job that ran to its end: seconds from its first task's start to its last one's end, the sink's included; CPU
    seconds and greatest memory of the TaskManager."""

    job_id: str
    seconds: float
    cpu_seconds: float
    memory_mib: float


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Jobs:
    """Runs scripts on a cluster, one after the other."""

    def __init__(self, engines: Mapping[str, Any]) -> None:
        self.rest = FlinkRest(engines["flink"]["rest"])
        self.pids = engines["flink"]["taskmanager_pids"]
        self.bootstrap = engines["kafka"]["bootstrap"]
        self.jar = self.rest.upload(Path(engines["flink_jar"]).read_bytes(), "egpu-flink.jar")

    def run(self, script: str, parallelism: int = 1) -> Ended:
        """Run a bounded script to its end; RuntimeError when it fails."""
        before = sum(map(cpu_seconds, self.pids))
        start = Start("egpu.SqlJob", [b64encode(script.encode()).decode()], parallelism)
        job_id = self.rest.run(self.jar, start)
        peak = 0.0
        while (state := self.rest.state(job_id)) not in ("FINISHED", "FAILED", "CANCELED"):
            peak = max(peak, sum(map(memory_mib, self.pids)))
            time.sleep(0.2)
        if state != "FINISHED":
            raise RuntimeError(f"job {job_id}: {state}: {self.rest.failure(job_id)}")
        used = sum(map(cpu_seconds, self.pids)) - before
        if failures := self.ask(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]:
            # It went on from a checkpoint: its times are those of the last attempt alone.
            raise RuntimeError(f"job {job_id} was restarted: {failures[0]['stacktrace'].splitlines()[0]}")
        tasks = self.ask(f"/jobs/{job_id}")["vertices"]
        took_ms = max(task["end-time"] for task in tasks) - min(task["start-time"] for task in tasks)
        return Ended(job_id, took_ms / 1000, used, peak)

    def held(self, script: str, topic: str, group: str) -> int:
        """Bytes of the first checkpoint after a job without end has read the whole load; the job is cancelled."""
        job_id = self.rest.run(self.jar, Start("egpu.SqlJob", [b64encode(script.encode()).decode()], 1))
        self.rest.await_running(job_id)
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        wanted = TopicPartition(topic, 0)
        end = consumer.get_watermark_offsets(wanted, timeout=10)[1]
        while consumer.committed([wanted], timeout=10)[0].offset < end:
            time.sleep(0.5)
        consumer.close()
        last = self.rest.checkpoints(job_id).last
        self.rest.cancel(job_id)
        if last is None:
            raise RuntimeError("offsets were committed without a checkpoint")
        return last.state_bytes

    def ask(self, path: str) -> Any:
        """GET of Flink's REST API."""
        with urllib.request.urlopen(f"{self.rest.url}{path}", timeout=60) as answer:
            return json.load(answer)
