"""The job on real Kafka, Flink and Hive: exact rows, late samples, dead letters, an idle partition, a lost machine."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from engine_set import Engines
from flink_job import FlinkJob
from pipeline_notation import START_MS
from pipeline_request import Sample, write_request
from pipeline_windows import series_windows
from test_flink_format import named
from waiting import wait_for

from pipeline.series_windows import parse_series
from pipeline.warehouse_hive import HiveServer

pytestmark = pytest.mark.end_to_end

HOUR_MS = 3_600_000
STEP_MS = 15_000


@pytest.fixture
def job(engines: Engines, tmp_path: Path) -> Iterator[FlinkJob]:
    made = FlinkJob(engines, tmp_path)
    yield made
    made.cancel()


def labels(number: int) -> dict[str, str]:
    metric = ("egpu_container_memory_used_bytes", "egpu_container_core_used_ratio", "DCGM_FI_DEV_GPU_UTIL")[number % 3]
    return {
        "__name__": metric,
        "gpu_uuid" if number % 3 < 2 else "UUID": f"g{number}",
        "namespace": "s",
        "pod": f"p{number}",
        "container": "c",
        "job": "agent",
    }


def scrape(numbers: range, time_ms: int) -> list[Sample]:
    return [(labels(number), time_ms, float((time_ms // STEP_MS * 7 + number * 13) % 101)) for number in numbers]


def check_windows(job: FlinkJob, samples: Sequence[Sample]) -> None:
    """Exactly the windows of these samples, each once."""
    expected = {}
    for row in series_windows(samples):
        expected[(named(dict(parse_series(str(row["series"])))), row["window_start_ms"])] = row
    found = job.windows()
    twice = [
        key for key, count in Counter((row["series"], row["window_start_ms"]) for row in found).items() if count > 1
    ]
    assert not twice, twice[:3]
    made = {(row["series"], row["window_start_ms"]): row for row in found}
    assert set(made) == set(expected)
    for key, row in expected.items():
        for name, value in row.items():
            if name in ("value_mean", "value_rise"):
                assert math.isclose(made[key][name], value, rel_tol=1e-12), (name, key)  # type: ignore[arg-type]
            elif name != "series":
                assert made[key][name] == value, (name, key, made[key], row)


def test_what_is_exact_what_is_late_and_what_is_not_read(job: FlinkJob, engines: Engines) -> None:
    """75 minutes of 30 series in 3 of 4 partitions; the fourth never has a record."""
    job.submit()
    sent: list[Sample] = []

    def say(samples: list[Sample], *, received_ms: int = 0) -> None:
        for partition in range(3):
            part = [each for each in samples if int(each[0]["pod"][1:]) % 3 == partition]
            if part:
                job.send(partition, write_request(part), received_ms or max(at for _, at, _ in part))

    end_ms = START_MS + HOUR_MS + 15 * 60_000
    for time_ms in range(START_MS, end_ms, STEP_MS):
        samples = scrape(range(30), time_ms)
        say(samples)
        sent += samples
        if time_ms % 120_000 == 0:
            # A replica says the same, and a sender's clock is two hours ahead: nobody's watermark must follow it.
            say([({**names, "replica": "b"}, at, value) for names, at, value in samples])
            say([(labels(5), time_ms + 2 * HOUR_MS, 1.0), (labels(6), time_ms + 11 * 60_000, 1.0)], received_ms=time_ms)
    corrupt = [b"\x0a\xff", write_request(scrape(range(3), START_MS)) + b"\x07"]
    for record in corrupt:
        job.send(1, record, end_ms)
    job.flush()
    first_hour = "dt=2026-01-01/hour=00"
    wait_for(lambda: job.committed() == [first_hour], "the first hour is committed though a partition is idle")
    assert job.late() == []

    late = [(labels(number), START_MS + 7, 5.0) for number in (0, 3, 4)]
    offset = job.sent[0]
    for sample in late:
        say([sample], received_ms=end_ms)
    say([(labels(0), START_MS + HOUR_MS + 1, 6.0)], received_ms=end_ms)
    job.flush()
    job.await_read()
    wait_for(lambda: len(job.late()) == 4, "late samples are seen")
    places = Counter((row["segment"], row["row"], row["window_start_ms"]) for row in job.late())
    assert places == {
        (0, offset + 1, START_MS): 1,
        (0, offset + 2, START_MS): 1,
        (1, job.sent[1], START_MS): 1,
        (0, offset + 3, START_MS + HOUR_MS): 1,
    }
    assert {(row["received_ms"], row["sample_count"], row["decision"]) for row in job.late()} == {
        (end_ms, 1, "pending")
    }
    job.drain()
    check_windows(job, sent)
    assert len(job.late()) == 4
    assert sorted(job.dead_letters()) == sorted(corrupt)
    address = f"{engines.state['hive']['url'].rpartition('/')[0]}/{job.name}"
    with HiveServer(address) as server:
        counted = server.rows("SELECT dt, hour, count(*), sum(sample_count) FROM series_windows_5m GROUP BY dt, hour")
    assert sorted(counted) == [("2026-01-01", "00", 360 + 120, 9600), ("2026-01-01", "01", 90 + 30, 2400)]


def test_a_lost_task_manager_changes_nothing(job: FlinkJob, engines: Engines) -> None:
    """kill -9 while records come, some of them late: every window once, every late sample named."""
    job_id = job.submit()
    sent: list[Sample] = []
    late: list[tuple[int, int]] = []
    done = threading.Event()

    def produce() -> None:
        for step in range(480):
            samples = scrape(range(40), START_MS + step * STEP_MS)
            sent.extend(samples)
            for partition in range(4):
                part = [each for each in samples if int(each[0]["pod"][1:]) % 4 == partition]
                job.send(partition, write_request(part), START_MS + step * STEP_MS)
            if step > 120 and step % 5 == 0:
                job.send(0, write_request([(labels(0), START_MS + 1, float(step))]), START_MS + step * STEP_MS)
                late.append((0, job.sent[0]))
            time.sleep(0.1)
        job.flush()
        done.set()

    sender = threading.Thread(target=produce)
    sender.start()
    wait_for(lambda: job.rest.checkpoints(job_id).completed >= 4, "checkpoints")
    engines.kill("taskmanager")
    engines.up()
    sender.join(120)
    assert done.is_set()
    job.await_read()
    assert job.rest.failure(job_id), "the job lost its machine"
    job.drain()
    check_windows(job, sent)
    said = {(row["segment"], row["row"]) for row in job.late()}
    assert set(late) <= said, "a sample that the windows left out is not named"
