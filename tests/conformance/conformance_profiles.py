"""The ways from bodies to tables: the embedded profile, the embedded rollup on Kafka, and Kafka, Flink and Hive."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from conformance_input import Scrape
from conformance_rows import Rows, read_rows
from conformance_send import send
from engine_set import Engines
from stages import Chain, command, read_json, wait_for_port
from waiting import wait_for

from pipeline.flink.sql import JobRules
from pipeline.warehouse_hive import HiveServer

Bodies = Sequence[Sequence[bytes]]
Given = tuple[list[Scrape], Rows]
"""Scrapes, and the rows expected of them."""

PARTITIONS = 4


def embedded_rows(folder: Path, bodies: Bodies) -> Rows:
    """Collector on SQLite, one run of the pipeline after each phase."""
    folder.mkdir()
    chain = Chain(folder)
    with chain.collector() as url:
        for phase in bodies:
            send(lambda: url, phase)
            chain.roll_up()
    return read_rows(chain.warehouse)


@dataclass
class FullProfile:
    """One log on Kafka with its collector, and what reads it; ``name`` keeps runs on the same engines apart."""

    folder: Path
    engines: Engines
    name: str
    idle_seconds: int = 60
    collector: "subprocess.Popen[bytes] | None" = field(default=None)

    def __post_init__(self) -> None:
        self.warehouse.mkdir(parents=True)
        self.chain = Chain(self.folder)
        settings = {
            "kafka_bootstrap_servers": self.engines.state["kafka"]["bootstrap"],
            "kafka_topic": self.name,
            "flink_job_name": self.name,
            "flink_rest_url": self.engines.state["flink"]["rest"],
            "flink_jar": self.engines.state["flink_jar"],
            "flink_checkpoint_seconds": 3,
            "flink_idle_seconds": self.idle_seconds,
            "hive_conf_directory": self.engines.state["flink"]["hive_conf"],
            "hive_database": self.name,
        }
        self.config = self.folder / "pipeline.toml"
        self.config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse"

    @property
    def hive(self) -> str:
        return f"{self.engines.state['hive']['url'].rpartition('/')[0]}/{self.name}"

    def pipeline(self, *arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run ``egpu-pipeline`` with this run's settings."""
        verb, *rest = arguments
        return self.chain.run("egpu-pipeline", verb, "--config", self.config, *rest, code=code)

    def set_up(self) -> None:
        """Make the database with the tables."""
        with HiveServer(self.engines.state["hive"]["url"]) as server:
            server.execute(f"CREATE DATABASE {self.name}")
        self.pipeline("tables", "--hive", self.hive, "--warehouse", self.warehouse)

    def start_collector(self) -> None:
        """A collector that writes to the topic, making it if it is missing."""
        port_file = self.folder / "collector.port"
        port_file.unlink(missing_ok=True)
        flags = ("--log", "kafka", "--kafka-topic", self.name, "--kafka-partition-count", PARTITIONS)
        servers = self.engines.state["kafka"]["bootstrap"]
        with (self.folder / "collector.log").open("ab") as output:
            self.collector = subprocess.Popen(
                command(
                    "egpu-collector",
                    *("serve", "--listen-port", 0, "--port-file", port_file, "--kafka-bootstrap-servers", servers),
                    *flags,
                ),
                stdout=output,
                stderr=output,
            )
        wait_for_port(port_file, self.collector)

    def address(self) -> str:
        """Where the collector listens now; a port that nobody listens on while it is away."""
        with suppress(OSError, ValueError):
            return f"http://127.0.0.1:{int((self.folder / 'collector.port').read_text())}"
        return "http://127.0.0.1:1"

    def kill_collector(self) -> None:
        """kill -9."""
        assert self.collector
        self.collector.kill()
        self.collector.wait()

    def stop_collector(self) -> None:
        """SIGTERM; it must end with code 0."""
        assert self.collector
        self.collector.send_signal(signal.SIGTERM)
        assert self.collector.wait(60) == 0, (self.folder / "collector.log").read_text()

    @contextmanager
    def running(self) -> Iterator["FullProfile"]:
        """Set up, with a collector; afterwards nothing of this run is left on the engines but data."""
        self.set_up()
        self.start_collector()
        try:
            yield self
        finally:
            if self.collector and self.collector.poll() is None:
                self.stop_collector()
            self.pipeline_quietly("cancel")

    def pipeline_quietly(self, verb: str) -> None:
        """Run a command that may have nothing to do."""
        with suppress(AssertionError):
            self.pipeline(verb)

    def submit(self, *flags: object) -> str:
        """Make the job run; what submit says."""
        return self.pipeline("submit", *flags).stdout

    def status(self) -> dict[str, str]:
        """The lines of ``status`` by what they tell."""
        lines = self.pipeline("status").stdout.splitlines()
        return {line[:12].strip(): line[12:] for line in lines}

    def await_read(self) -> None:
        """Wait for a checkpoint that holds everything in the log: the job commits its offsets to Kafka with each."""
        wait_for(lambda: self.unread() == 0, "the job reads the log to its end")

    def unread(self) -> int:
        """Records after the last checkpoint, -1 while the broker cannot tell."""
        servers = self.engines.state["kafka"]["bootstrap"]
        consumer = Consumer({"bootstrap.servers": servers, "group.id": JobRules.group, "enable.auto.commit": False})
        try:
            places = [TopicPartition(self.name, partition) for partition in range(PARTITIONS)]
            read = [max(0, place.offset) for place in consumer.committed(places, 10)]
            ends = [consumer.get_watermark_offsets(place, 10)[1] for place in places]
        except KafkaException:
            return -1
        finally:
            consumer.close()
        return sum(ends) - sum(read)

    def finalise(self) -> dict[str, float]:
        """Make the final tables of what the job committed; the summary."""
        summary = self.folder / "finalise.json"
        self.pipeline(
            *("finalise", "--source", "windows", "--warehouse", self.warehouse, "--hive", self.hive),
            *("--summary-file", summary),
        )
        return read_json(summary)

    def embedded_on_kafka(self, name: str) -> Rows:
        """The same topic through the embedded rollup, into a warehouse of that name."""
        other = self.folder / name
        self.pipeline("run", "--source", "kafka", "--warehouse", other)
        return read_rows(other)

    def rows(self) -> Rows:
        return read_rows(self.warehouse)
