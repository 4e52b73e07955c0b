"""Remote write to a Kafka topic beside the SQLite log: durable samples a CPU-second of the collector, bytes a sample.

The bodies of bench_remote_write (2,000 samples each of 20,000 series with 12 labels) go to ``egpu-collector`` with one
and with eight partitions and to one with SQLite, turn by turn, so that a busy machine is busy for all of them. The
broker is a real one of its own. Prints one JSON line with medians over several rounds.
"""

import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import engines_running
from bench_remote_write import (
    BATCH_SAMPLES,
    SERIES_COUNT,
    STEP_MS,
    collector_command,
    cpu_seconds,
    free_port,
    labels_of,
    receiver,
    scrape,
    send_all,
)

ROUNDS = 5
SCRAPES_A_ROUND = 20
PARTITION_COUNTS = (1, 8)
SQLITE = "SQLite"
PAST_MS = 6 * 3_600_000
"""No sample may lie in the future."""


@dataclass
class Run:
    """One collector that listens, and what each round cost it."""

    name: str
    port: int
    pid: int
    data: Path
    """Folder of what it stores."""
    pattern: str
    """Its files in there."""
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    sample_count: int = 0

    def send(self, bodies: list[bytes], *, is_measured: bool) -> None:
        cpu, started = cpu_seconds(self.pid), time.perf_counter()
        latencies = asyncio.run(send_all(self.port, bodies))
        seconds, cpu = time.perf_counter() - started, cpu_seconds(self.pid) - cpu
        self.sample_count += len(bodies) * BATCH_SAMPLES
        if is_measured:
            self.seconds.append(seconds)
            self.cpu_seconds.append(max(cpu, 0.01))
            self.latencies += latencies

    def stored_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.data.glob(self.pattern))


def start(stack: ExitStack, name: str, flags: list[str], *, data: Path | None = None, pattern: str = "*") -> Run:
    """A collector; ``data`` is where the broker keeps its topic, None where it stores in its own folder."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    port = free_port()
    pid = stack.enter_context(receiver([*collector_command(port, folder), *flags], port, folder))
    return Run(name, port, pid, data or folder / "log", pattern)


def start_all(stack: ExitStack) -> list[Run]:
    home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    state = stack.enter_context(engines_running.running(("kafka",), home=home))
    runs = [start(stack, SQLITE, [])]
    for count in PARTITION_COUNTS:
        topic = f"bench-{count}"
        flags = ["--log", "kafka", "--kafka-bootstrap-servers", state["kafka"]["bootstrap"], "--kafka-topic", topic]
        flags += ["--kafka-partition-count", str(count)]
        name = f"Kafka, {count} partition{'s' * (count > 1)}"
        runs.append(start(stack, name, flags, data=home / "kafka" / "data", pattern=f"{topic}-*/*.log"))
    return runs


def rows_of(runs: list[Run]) -> Iterator[dict[str, object]]:
    """Rows for the bench table; Kafka as a ratio to SQLite."""
    samples = SCRAPES_A_ROUND * SERIES_COUNT
    per_cpu_second = {run.name: samples / statistics.median(run.cpu_seconds) for run in runs}
    for run in runs:
        row: dict[str, object] = {
            "what": f"{run.name}: durable samples per CPU-second of the collector",
            "value": per_cpu_second[run.name],
            "unit": "samples/CPU-s",
        }
        if run.name != SQLITE:
            row |= {"goal": ">= 1,000,000", "ratio": per_cpu_second[run.name] / per_cpu_second[SQLITE], "to": SQLITE}
        yield row
    for run in runs:
        yield {
            "what": f"{run.name}: durable samples, wall",
            "value": samples / statistics.median(run.seconds),
            "unit": "samples/s",
        }
        p99 = sorted(run.latencies)[int(len(run.latencies) * 0.99)]
        yield {"what": f"{run.name}: request of 2,000 samples, p99", "value": p99 * 1000, "unit": "ms"}
        yield {
            "what": f"{run.name}: stored",
            "value": run.stored_bytes() / run.sample_count,
            "unit": "bytes/sample",
        }


def main() -> None:
    """Measure and print one JSON line."""
    labels = [labels_of(series) for series in range(SERIES_COUNT)]
    clock = itertools.count(int(time.time() * 1000) - PAST_MS, STEP_MS)
    with ExitStack() as stack:
        runs = start_all(stack)
        for run in runs:
            # One scrape is sent first and not counted: a running collector knows its series.
            run.send(list(scrape(labels, next(clock))), is_measured=False)
        for _ in range(ROUNDS):
            for run in runs:
                run.send(
                    [body for _ in range(SCRAPES_A_ROUND) for body in scrape(labels, next(clock))], is_measured=True
                )
        rows = list(rows_of(runs))
    sys.stdout.write(json.dumps({"bench": "kafka log", "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
