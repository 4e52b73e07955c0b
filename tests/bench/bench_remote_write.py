"""Remote write to durable samples: how many a second, and how many for a second of the receiver's CPU.

Sends pre-encoded bodies (2,000 samples each of 20,000 series with 12 labels) over keep-alive connections to
``egpu-collector`` and then to a real Prometheus as receiver. Prints one JSON line with medians over several rounds.
"""

import asyncio
import itertools
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cramjam

sys.path.append(str(Path(__file__).resolve().parents[1]))
from prometheus_program import prometheus_program

SERIES_COUNT = 20_000
BATCH_SAMPLES = 2_000
CONNECTIONS = 5
ROUNDS = 5
SCRAPES_A_ROUND = 40
SCRAPES_A_ROUND_PROMETHEUS = 5
STEP_MS = 15_000


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(content)) + content


def labels_of(series: int) -> bytes:
    """About 355 bytes: what a container series of a GPU fleet carries."""
    labels = {
        "__name__": "egpu_container_memory_used_bytes",
        "cluster": "cluster-a",
        "container": "main",
        "gpu_model": "NVIDIA-A100-80GB",
        "gpu_uuid": f"GPU-{series:032x}",
        "namespace": "inference",
        "node": f"node-{series % 100:05d}",
        "pod": f"pod-{series}-7d9f8b6c5d-abcde",
        "pod_uid": f"{series:08x}-1111-2222-3333-{series:012x}",
        "priority": "high",
        "tenant": "team-nlp",
        "workload": f"workload-{series % 500}",
    }
    return b"".join(
        message(1, message(1, name.encode()) + message(2, value.encode())) for name, value in sorted(labels.items())
    )


def scrape(labels: list[bytes], timestamp_ms: int) -> Iterator[bytes]:
    """The bodies of one scrape of all series, each ready to send with its head."""
    for start in range(0, SERIES_COUNT, BATCH_SAMPLES):
        body = b"".join(
            message(
                1,
                labels[series]
                + message(2, b"\x09" + struct.pack("<d", series + timestamp_ms % 977) + b"\x10" + varint(timestamp_ms)),
            )
            for series in range(start, start + BATCH_SAMPLES)
        )
        block = bytes(cramjam.snappy.compress_raw(body))
        yield (
            b"POST /api/v1/write HTTP/1.1\r\nHost: receiver\r\nContent-Encoding: snappy\r\n"
            b"Content-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n"
            b"Content-Length: %d\r\n\r\n" % len(block)
        ) + block


async def send_all(port: int, bodies: list[bytes]) -> list[float]:
    """Send a series always over the same connection, in order, as Prometheus' shards do; seconds of each request."""
    seconds: list[float] = []

    async def one_connection(bodies: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in bodies:
            started = time.perf_counter()
            writer.write(body)
            head = await reader.readuntil(b"\r\n\r\n")
            seconds.append(time.perf_counter() - started)
            assert head.split()[1] in (b"200", b"204"), head
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one_connection(bodies[shard::CONNECTIONS]) for shard in range(CONNECTIONS)))
    return seconds


def cpu_seconds(pid: int) -> float:
    """User and system time of a process with all its threads, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"error: nothing listens on port {port}")


@contextmanager
def receiver(command: list[str], port: int, folder: Path) -> Iterator[int]:
    with (folder / "receiver.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(port)
        time.sleep(1.0)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def collector_command(port: int, folder: Path) -> list[str]:
    log = str(folder / "log")
    return [sys.executable, "-m", "collector", "serve", "--listen-port", str(port), "--log-directory", log]


def prometheus_command(program: str, port: int, folder: Path) -> list[str]:
    """A Prometheus that scrapes nothing and only receives."""
    (folder / "prometheus.yml").write_text("{}\n")
    return [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]


@dataclass(frozen=True)
class Rates:
    """Medians over the rounds."""

    receiver: str
    per_second: float
    per_cpu_second: float
    p99_ms: float


def measure(name: str, command: list[str], port: int, scrapes_a_round: int) -> Rates:
    labels = [labels_of(series) for series in range(SERIES_COUNT)]
    clock = itertools.count(int(time.time() * 1000) - 3_600_000, STEP_MS)
    rows: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder, receiver(command, port, Path(folder)) as pid:
        # One scrape is sent first and not counted: a running receiver knows its series.
        asyncio.run(send_all(port, list(scrape(labels, next(clock)))))
        for _ in range(ROUNDS):
            bodies = [body for _ in range(scrapes_a_round) for body in scrape(labels, next(clock))]
            cpu, started = cpu_seconds(pid), time.perf_counter()
            latencies = asyncio.run(send_all(port, bodies))
            wall, cpu = time.perf_counter() - started, cpu_seconds(pid) - cpu
            sample_count = len(bodies) * BATCH_SAMPLES
            p99 = sorted(latencies)[int(len(latencies) * 0.99)]
            rows.append((sample_count / wall, sample_count / max(cpu, 0.01), p99 * 1000))
    return Rates(name, *(statistics.median(column) for column in zip(*rows, strict=True)))


def rows_of(ours: Rates, peer: Rates) -> Iterator[dict[str, object]]:
    """Rows for the bench table; ours as a ratio to the peer."""
    wall: dict[str, object] = {"what": "durable samples, wall", "value": ours.per_second, "unit": "samples/s"}
    cpu: dict[str, object] = {
        "what": "durable samples per CPU-second of the receiver",
        "value": ours.per_cpu_second,
        "unit": "samples/CPU-s",
        "goal": ">= 1,000,000",
    }
    wall |= {"ratio": ours.per_second / peer.per_second, "to": peer.receiver}
    cpu |= {"ratio": ours.per_cpu_second / peer.per_cpu_second, "to": peer.receiver}
    yield wall
    yield cpu
    yield {"what": "request of 2,000 samples, p99", "value": ours.p99_ms, "unit": "ms"}
    yield {"what": f"{peer.receiver} per CPU-second", "value": peer.per_cpu_second, "unit": "samples/CPU-s"}


def main() -> None:
    """Measure and print one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        ours = measure("egpu-collector", collector_command(port, Path(folder)), port, SCRAPES_A_ROUND)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = prometheus_command(str(prometheus_program()), port, Path(folder))
        peer = measure("prometheus", command, port, SCRAPES_A_ROUND_PROMETHEUS)
    sys.stdout.write(json.dumps({"bench": "remote write", "rows": list(rows_of(ours, peer))}) + "\n")


if __name__ == "__main__":
    main()
