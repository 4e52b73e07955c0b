"""Disks that are full, slow or broken, and files that are not what they were."""

import contextlib
import http.client
import os
import random
import sqlite3
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from collector_bodies import label, message, sample, snappy, up
from collector_process import HEADERS, Collector, end_of_start, records, running, wait_until_ready

from collector.contract.record import LOG_SCHEMA_VERSION, segment_file_name
from collector.segment import files_of

NOW_MS = int(time.time() * 1000)
KIB = 1 << 10


def body(number: int) -> bytes:
    """About 20 KB that no compressor makes smaller."""
    draw = random.Random(number)
    points = b"".join(sample(NOW_MS - step, struct.unpack("<Q", draw.randbytes(8))[0]) for step in range(1000))
    return snappy(message(1, label("__name__", "up") + label("number", str(number)) + points))


def post_all(collector: Collector, numbers: Iterator[int], *, until: int) -> list[int]:
    """Send until a status other than 204 comes, which must be ``until``; the numbers that were acknowledged."""
    acknowledged = []
    for number in numbers:
        answer = collector.post(body(number))
        if answer.status != 204:
            assert (answer.status, "retry-after" in answer.headers) == (until, True)
            return acknowledged
        acknowledged.append(number)
    raise AssertionError("everything was taken")


def check_stored_once(log: Path, numbers: list[int]) -> None:
    assert Counter(record.block for record in records(log)) == Counter(body(number) for number in numbers)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("reserve_bytes", [1000 * KIB, 1], ids=["reserve", "to-the-last-byte"])
def test_a_full_disk_answers_503_and_recovers(small_disk: Path, reserve_bytes: int) -> None:
    flags = ("--reserve-bytes", reserve_bytes, "--wal-bytes-max", 200 * KIB, "--maintenance-seconds", 0.1)
    filler = small_disk / "filler"
    with running(small_disk, *flags) as collector:
        filler.write_bytes(bytes(1000 * KIB))
        acknowledged = post_all(collector, iter(range(500)), until=503)
        assert acknowledged
        assert collector.ask("GET", "/healthz").status == 200
        assert collector.ask("GET", "/readyz").status == 503
        assert collector.metric("egpu_collector_log_available") == 0
        check_stored_once(collector.log, acknowledged)
        filler.unlink()
        wait_until_ready(collector)
        for number in range(len(acknowledged), len(acknowledged) + 10):
            assert collector.post(body(number)).status == 204
        check_stored_once(collector.log, list(range(len(acknowledged) + 10)))


def test_a_full_disk_loses_and_repeats_nothing_through_kill_and_restart(small_disk: Path) -> None:
    flags = ("--reserve-bytes", 1, "--wal-bytes-max", 200 * KIB)
    with running(small_disk, *flags) as collector:
        acknowledged = post_all(collector, iter(range(500)), until=503)
        collector.kill()
    check_stored_once(collector.log, acknowledged)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    with running(small_disk, *flags) as collector:
        for number in range(len(acknowledged) + 5):
            assert collector.post(body(number)).status == 204
    check_stored_once(collector.log, list(range(len(acknowledged) + 5)))


def fill(disk: Path) -> Path:
    """A file that takes all that is left of a small disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_start_below_the_reserve_answers_503_and_recovers(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3500 * KIB))
    with running(small_disk, "--reserve-bytes", 1000 * KIB, "--maintenance-seconds", 0.1) as collector:
        time.sleep(0.3)
        # Nothing was sent yet: readiness does not need a body to find out.
        assert collector.ask("GET", "/readyz").text == "disk full: less than reserve_bytes 1024000 free\n"
        assert collector.post(body(0)).status == 503
        filler.unlink()
        wait_until_ready(collector)
        assert collector.post(body(0)).status == 204
    check_stored_once(collector.log, [0])


def test_retention_goes_on_while_the_disk_is_full(small_disk: Path) -> None:
    flags = ("--segment-bytes-max", 1, "--retention-seconds", 1, "--maintenance-seconds", 0.1)
    with running(small_disk, "--reserve-bytes", 1000 * KIB, *flags) as collector:
        acknowledged = post_all(collector, iter(range(500)), until=503)
        assert len(acknowledged) > 10
        # By age the oldest segments go, and their room is what makes the log available again.
        deadline = time.monotonic() + 10
        while collector.post(body(500)).status != 204:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.parametrize("has_log", [False, True], ids=["new", "old"])
def test_a_start_on_a_disk_without_a_byte_is_one_sentence(small_disk: Path, has_log: bool) -> None:
    log = small_disk / "log"
    if has_log:
        with running(small_disk, "--reserve-bytes", 1) as collector:
            assert collector.post(body(0)).status == 204
    filler = fill(small_disk)
    code, line = end_of_start(log)
    assert (code, line.count("\n")) == (1, 1), line
    assert line.startswith(f"error: log {log}: disk full: less than reserve_bytes ")
    filler.unlink()
    with running(small_disk, "--reserve-bytes", 1) as collector:
        assert [collector.post(body(number)).status for number in (0, 1)] == [204, 204]
    check_stored_once(log, [0, 1])


def test_a_start_on_a_read_only_disk_is_one_sentence(small_disk: Path) -> None:
    with running(small_disk, "--reserve-bytes", 1) as collector:
        assert collector.post(body(0)).status == 204
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for log in (collector.log, small_disk / "other"):
        sentence = f"error: log {log}: cannot be written: Read-only file system\n"
        assert end_of_start(log) == (1, sentence)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    check_stored_once(collector.log, [0])


def test_a_slow_disk_fills_the_queue_and_health_stays_quick(tmp_path: Path, disk_shim: str) -> None:
    flags = ("--queue-bytes-max", 70 * KIB)
    slow = tmp_path / "slow"
    environment = {"LD_PRELOAD": disk_shim, "SHIM_SLOW_WHILE": str(slow)}
    statuses: list[int] = []

    def send(collector: Collector, start: int) -> None:
        for number in range(start, start + 2):
            while (answer := collector.post(body(number))).status == 503:
                statuses.append(503)
                assert int(answer.headers["retry-after"]) >= 1
                time.sleep(0.05)
            statuses.append(answer.status)

    with running(tmp_path, *flags, environment=environment) as collector:
        slow.touch()
        senders = [threading.Thread(target=send, args=(collector, start)) for start in (0, 10, 20, 30, 40, 50)]
        for sender in senders:
            sender.start()
        slowest = 0.0
        for _ in range(20):
            started = time.monotonic()
            assert collector.ask("GET", "/healthz").status == 200
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.02)
        for sender in senders:
            sender.join()
        slow.unlink()
        assert Counter(statuses)[204] == 12
        assert Counter(statuses)[503] > 0
        assert slowest < 0.4
        # Group commit: what waited during one sync went into the next transaction together.
        assert collector.metric("egpu_collector_commits_total") < 12
    check_stored_once(collector.log, [start + step for start in (0, 10, 20, 30, 40, 50) for step in range(2)])


def test_a_failed_sync_answers_503_and_nothing_is_lost_or_repeated(tmp_path: Path, disk_shim: str) -> None:
    broken = tmp_path / "broken"
    environment = {"LD_PRELOAD": disk_shim, "SHIM_FAIL_WHILE": str(broken)}
    with running(tmp_path, "--maintenance-seconds", 0.1, environment=environment) as collector:
        assert collector.post(body(0)).status == 204
        broken.touch()
        assert [collector.post(body(1)).status for _ in range(3)] == [503] * 3
        assert collector.ask("GET", "/healthz").status == 200
        broken.unlink()
        wait_until_ready(collector)
        assert [collector.post(body(number)).status for number in (1, 0, 2)] == [204] * 3
        check_stored_once(collector.log, [0, 1, 2])
        # The first sync of a checkpoint that fails again while opening must not count as recovered.
        broken.touch()
        assert collector.post(body(3)).status == 503
        time.sleep(0.3)
        assert collector.ask("GET", "/readyz").status == 503
        broken.unlink()
        wait_until_ready(collector)
        assert collector.post(body(3)).status == 204
    check_stored_once(collector.log, [0, 1, 2, 3])


def test_a_segment_taken_away_is_noticed(tmp_path: Path) -> None:
    with running(tmp_path, "--maintenance-seconds", 0.1) as collector:
        assert collector.post(body(0)).status == 204
        kept = tmp_path / "kept"
        kept.mkdir()
        for file in files_of(collector.log / segment_file_name(1)):
            file.rename(kept / file.name)
        assert [collector.post(body(number)).status for number in (1, 2)] == [503, 503]
        for file in kept.iterdir():
            file.rename(collector.log / file.name)
        wait_until_ready(collector)
        assert collector.post(body(1)).status == 204
    check_stored_once(collector.log, [0, 1])


def test_a_segment_broken_under_the_writer_answers_503(tmp_path: Path) -> None:
    with running(tmp_path, "--maintenance-seconds", 0.1, "--wal-bytes-max", 100 * KIB) as collector:
        for number in range(20):
            assert collector.post(body(number)).status == 204
        os.truncate(collector.log / segment_file_name(1), 40 * KIB)
        statuses = [collector.post(body(number)).status for number in range(20, 40)]
        assert statuses[-1] == 503
        assert collector.ask("GET", "/readyz").status == 503
        assert collector.ask("GET", "/healthz").status == 200


def overwrite(file: Path) -> None:
    file.write_bytes(b"not a database".ljust(4096))


def cut(file: Path) -> None:
    os.truncate(file, 40 * KIB)


def from_the_future(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(f"PRAGMA user_version = {LOG_SCHEMA_VERSION + 1}")


def foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE other (x)")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (overwrite, "file is not a database"),
        (cut, "database disk image is malformed"),
        (from_the_future, "has log format 2, this collector knows up to 1"),
        (foreign, "is not a segment of the log"),
    ],
)
def test_a_log_that_cannot_be_trusted_is_one_sentence(tmp_path: Path, damage: object, sentence: str) -> None:
    with running(tmp_path) as collector:
        for number in range(10):
            collector.post(body(number))
    assert callable(damage)
    damage(collector.log / segment_file_name(1))
    code, line = end_of_start(collector.log)
    assert (code, line.count("\n"), sentence in line) == (1, 1, True), line


def test_segments_follow_by_size_and_retention_unlinks_whole_ones(tmp_path: Path) -> None:
    flags = ("--segment-bytes-max", 100 * KIB, "--retention-bytes", 400 * KIB, "--maintenance-seconds", 0.05)
    with running(tmp_path, *flags, "--wal-bytes-max", 100 * KIB) as collector:
        for number in range(60):
            assert collector.post(body(number)).status == 204
        time.sleep(0.3)
        kept = records(collector.log)
        assert collector.metric("egpu_collector_log_bytes") <= 400 * KIB
        assert collector.metric("egpu_collector_log_segments") == len({record.position.segment for record in kept})
    positions = [record.position for record in kept]
    assert positions == sorted(positions)
    assert positions[0].segment > 1
    # The newest records are there without a gap, and each once.
    assert [record.block for record in kept] == [body(number) for number in range(60 - len(kept), 60)]
    for number in range(positions[0].segment, positions[-1].segment + 1):
        rows = [position.row for position in positions if position.segment == number]
        assert rows == list(range(1, len(rows) + 1))
    with running(tmp_path, *flags) as collector:
        assert collector.post(body(59)).status == 204
        assert collector.post(body(60)).status == 204
        assert records(collector.log)[-1].position > positions[-1]


def test_retention_goes_by_the_time_of_receipt(tmp_path: Path) -> None:
    flags = ("--segment-seconds-max", 0.2, "--retention-seconds", 1, "--maintenance-seconds", 0.05)
    with running(tmp_path, *flags) as collector:
        # A sample of 1970, received now.
        assert collector.post(snappy(up(1, (5, 1.0)))).status == 204
        time.sleep(0.3)
        assert collector.post(body(1)).status == 204
        assert [record.position.segment for record in records(collector.log)] == [1, 2]
        time.sleep(1.3)
        assert [record.position.segment for record in records(collector.log)] == [2]


def test_a_reader_with_an_old_snapshot_cannot_make_the_write_ahead_file_grow(tmp_path: Path) -> None:
    wal_bytes_max = 200 * KIB
    with running(tmp_path, "--wal-bytes-max", wal_bytes_max) as collector:
        assert collector.post(body(0)).status == 204
        file = collector.log / segment_file_name(1)
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM record").fetchone() == (1,)
            connection = http.client.HTTPConnection("127.0.0.1", collector.port, timeout=20)
            for number in range(1, 40):
                connection.request("POST", "/receive", body(number), HEADERS)
                response = connection.getresponse()
                response.read()
                assert response.status == 204
                sizes = [path.stat().st_size for path in collector.log.iterdir() if path.name.endswith("-wal")]
                assert max(sizes) < wal_bytes_max + 100 * KIB
            connection.close()
    assert len({record.position.segment for record in records(collector.log)}) > 1
    check_stored_once(collector.log, list(range(40)))
