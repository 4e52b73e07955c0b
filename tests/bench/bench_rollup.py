"""Log to all three tables, wall clock: ``python tests/bench/bench_rollup.py`` prints one JSON line.

20,000 series of ours (5,000 containers on as many cards), a sample every 15 s, 2,000 samples a record. The baseline in
the same run is DuckDB on the same samples, already decoded in a Parquet file: one GROUP BY (series, window).
"""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cramjam
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from collector.contract.record import BODY_HASH_BYTES, LOG_SCHEMA_VERSION, SEGMENT_SCHEMA, segment_file_name
from egpu_runtime.contract.metrics import (
    CONTAINER_CORE_USED,
    CONTAINER_MEMORY_QUOTA,
    CONTAINER_MEMORY_USED,
    GPU_UTILIZATION,
)

CONTAINERS = 5_000
METRICS = (CONTAINER_MEMORY_USED, CONTAINER_CORE_USED, CONTAINER_MEMORY_QUOTA, GPU_UTILIZATION)
SERIES_A_RECORD = 2_000
INTERVAL_MS = 15_000
START_MS = 1_767_225_600_000
HOURS = 2.125
RUNS = 3


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def labels(metric: int, index: int) -> dict[str, str]:
    card = {
        "__name__": METRICS[metric].name,
        "cluster": "bench",
        "node": f"node-{index // 8:04d}",
        "gpu_uuid": f"GPU-{index:08d}-1111-2222-3333-444455556666",
        "gpu_model": "NVIDIA A100-SXM4-80GB",
        "job": "egpu-agent",
    }
    if METRICS[metric].subject == "card":
        return card
    return card | {
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
    """One sender's shard: a body whose values and times are patched in place."""

    def __init__(self, series: range) -> None:
        body = bytearray()
        values, times = [], []
        for number in series:
            names = labels(number // CONTAINERS, number % CONTAINERS)
            pairs = b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in sorted(names.items()))
            tail = field(2, b"\x09" + bytes(8) + b"\x10" + bytes(6))
            entry = field(1, pairs + tail)
            body += entry
            values.append(len(body) - 15)
            times.append(len(body) - 6)
        self.body = np.frombuffer(bytes(body), np.uint8).copy()
        self.values = np.array(values)[:, None] + np.arange(8)
        self.times = np.array(times)[:, None] + np.arange(6)

    def block(self, value: np.ndarray, time_ms: int) -> bytes:
        self.body[self.values] = value.view(np.uint8).reshape(-1, 8)
        self.body[self.times] = np.frombuffer(varint(time_ms), np.uint8)
        return bytes(cramjam.snappy.compress_raw(self.body.tobytes()))


def scrapes() -> Iterator[tuple[int, np.ndarray]]:
    """(time in ms, value of every series)."""
    random = np.random.default_rng(1)
    count = CONTAINERS * len(METRICS)
    level = random.random(count)
    for step in range(int(HOURS * 3_600_000 / INTERVAL_MS)):
        noise = np.round(np.clip(level + random.normal(0, 0.05, count), 0, 1), 3)
        values = noise.copy()
        values[:CONTAINERS] = np.floor(noise[:CONTAINERS] * (80 << 30) / 4096) * 4096
        values[2 * CONTAINERS : 3 * CONTAINERS] = float(80 << 30)
        yield START_MS + step * INTERVAL_MS, values


def build(folder: Path) -> int:
    """Write the log and the decoded Parquet file; returns the number of samples."""
    count = CONTAINERS * len(METRICS)
    shards = [Shard(range(start, start + SERIES_A_RECORD)) for start in range(0, count, SERIES_A_RECORD)]
    series = pa.array(np.arange(count, dtype=np.int32))
    row = 0
    log = folder / "log"
    log.mkdir()
    schema = pa.schema([("series", pa.int32()), ("timestamp_ms", pa.int64()), ("value", pa.float64())])
    with (
        closing(sqlite3.connect(log / segment_file_name(1))) as connection,
        connection,
        pq.ParquetWriter(folder / "samples.parquet", schema) as writer,
    ):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA user_version={LOG_SCHEMA_VERSION}")
        connection.executescript(SEGMENT_SCHEMA)
        for time_ms, values in scrapes():
            for index, shard in enumerate(shards):
                row += 1
                block = shard.block(values[index * SERIES_A_RECORD : (index + 1) * SERIES_A_RECORD], time_ms)
                record = (row, time_ms, bytes(BODY_HASH_BYTES), SERIES_A_RECORD, time_ms, time_ms, block)
                connection.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)", record)
            times = pa.array(np.full(count, time_ms))
            writer.write_table(pa.table([series, times, pa.array(values)], schema=schema))
    return row * SERIES_A_RECORD


def run_pipeline(folder: Path, number: int) -> float:
    command = [sys.executable, "-m", "pipeline", "run", "--log", str(folder / "log")]
    started = time.monotonic()
    subprocess.run([*command, "--warehouse", str(folder / f"warehouse-{number}")], check=True, capture_output=True)
    return time.monotonic() - started


def run_baseline(folder: Path) -> float:
    started = time.monotonic()
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT series, timestamp_ms // 300000 AS w, max(value), avg(value), "
            f"quantile_disc(value, 0.95), count(*) FROM '{folder / 'samples.parquet'}' GROUP BY ALL"
        )
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = build(folder)
        walls = [run_pipeline(folder, number) for number in range(arguments.runs)]
        baselines = [run_baseline(folder) for _ in range(arguments.runs)]
    wall, baseline = statistics.median(walls), statistics.median(baselines)
    rows = [
        {
            "what": f"log of {samples / 1e6:.1f} M samples to all three tables",
            "value": samples / wall,
            "unit": "samples/s",
            "goal": ">= 2,000,000",
            "ratio": baseline / wall,
            "to": "the baseline",
        },
        {"what": "baseline: DuckDB GROUP BY of decoded samples", "value": samples / baseline, "unit": "samples/s"},
    ]
    result = {"bench": "rollup", "rows": rows}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
