"""The log as a whole: the identity of its segments, a folder that goes away, a writer that ends."""

import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from collector_bodies import snappy, up
from collector_process import Collector, end_of_start, records, running, wait_until_ready

from collector.contract.record import LOG_SCHEMA_VERSION, SEGMENT_SCHEMA, segment_file_name
from collector.intake import LogUnavailable, NewRecord
from collector.log_sqlite import SqliteLog
from collector.settings import CollectorSettings

NOW_MS = int(time.time() * 1000)
QUICK = ("--maintenance-seconds", 0.05)

SABOTAGE = """
import os, threading
real = os.statvfs
def statvfs(path):
    if os.path.exists(os.environ["BREAK_WHILE"]) and threading.current_thread().name == "log-writer":
        raise OverflowError("nobody foresaw this")
    return real(path)
os.statvfs = statvfs
"""


def body(number: int) -> bytes:
    return snappy(up(number, (NOW_MS, float(number))))


def identities(log: Path) -> list[list[str]]:
    """Rows of the table ``log`` of each segment, in order."""
    found = []
    for file in sorted(log.glob("*.segment.sqlite")):
        with closing(sqlite3.connect(file)) as connection:
            found.append([identity for (identity,) in connection.execute("SELECT identity FROM log")])
    return found


def execute(log: Path, segment: int, statements: str) -> None:
    with closing(sqlite3.connect(log / segment_file_name(segment))) as connection:
        connection.executescript(statements)


def wait_for(status: int, collector: Collector, path: str) -> str:
    """Text of the first answer with this status."""
    deadline = time.monotonic() + 10
    while (answer := collector.ask("GET", path)).status != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
    return answer.text


# ---- identity ----


def test_a_log_keeps_its_identity_through_segments_and_starts_and_a_new_log_has_another(tmp_path: Path) -> None:
    for start in range(2):
        with running(tmp_path, "--segment-bytes-max", 1) as collector:
            for number in range(3):
                assert collector.post(body(3 * start + number)).status == 204
    first, *others = identities(collector.log)
    assert len(others) >= 4
    assert others == [first] * len(others)
    assert re.fullmatch("[0-9a-f]{32}", *first)
    shutil.rmtree(collector.log)
    with running(tmp_path):
        pass
    assert identities(collector.log) != [first]


@pytest.mark.parametrize("lost", ["DELETE FROM log", "DROP TABLE log"])
def test_segments_without_identity_get_the_one_of_the_log(tmp_path: Path, lost: str) -> None:
    with running(tmp_path, "--segment-bytes-max", 1) as collector:
        for number in range(3):
            assert collector.post(body(number)).status == 204
    (kept,) = identities(collector.log)[1]
    for number in (1, 3):
        execute(collector.log, number, lost)
    with running(tmp_path):
        assert collector.log.is_dir()
    assert identities(collector.log) == [[kept]] * 3
    for number in (1, 2, 3):
        execute(collector.log, number, lost)
    with running(tmp_path):
        pass
    drawn = identities(collector.log)
    assert drawn == [drawn[0]] * 3
    assert drawn[0] != [kept]
    assert len(records(collector.log)) == 3


def test_a_segment_of_another_log_is_one_sentence(tmp_path: Path) -> None:
    with running(tmp_path) as collector:
        assert collector.post(body(1)).status == 204
    foreign = f"{SEGMENT_SCHEMA} INSERT INTO log VALUES ('{'0' * 32}'); PRAGMA user_version = {LOG_SCHEMA_VERSION}"
    execute(collector.log, 2, foreign)
    code, line = end_of_start(collector.log)
    sentence = f"{segment_file_name(1)} belongs to another log than the newest segment"
    assert (code, line) == (1, f"error: log {collector.log}: {sentence}\n")


# ---- a writer that ends ----


@pytest.fixture
def sabotaged(tmp_path: Path) -> Iterator[tuple[Collector, Callable[[], None]]]:
    """A collector whose writer meets an unforeseen error from the moment the function is called."""
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    broken = tmp_path / "broken"
    root = Path(__file__).resolve().parents[2]
    environment = {"PYTHONPATH": f"{tmp_path}:{root}", "BREAK_WHILE": str(broken)}
    collector = Collector(tmp_path, "--maintenance-seconds", 0.3, environment=environment)
    try:
        assert collector.post(body(0)).status == 204
        yield collector, broken.touch
    finally:
        collector.kill()


def check_ended(collector: Collector) -> None:
    why = "the writer ended: OverflowError: nobody foresaw this (sitecustomize.py:6)"
    for path in ("/readyz", "/healthz"):
        assert wait_for(503, collector, path) == f"{why}\n"
    answer = collector.post(body(2))
    assert (answer.status, answer.text, "retry-after" in answer.headers) == (503, f"{why}\n", True)
    assert collector.metric("egpu_collector_log_available") == 0
    started = time.monotonic()
    assert collector.stop() == 1
    assert time.monotonic() - started < 5
    _listens, said, ended = collector.output.read_text().splitlines()
    assert said.endswith(f"CRITICAL egpu-collector: log: unavailable until a restart: {why}")
    assert ended == f"error: log {collector.log}: {why}"


def test_a_writer_that_ends_while_idle_says_so_and_the_process_ends_by_sigterm(
    sabotaged: tuple[Collector, Callable[[], None]],
) -> None:
    collector, break_now = sabotaged
    break_now()
    check_ended(collector)


def test_a_writer_that_ends_over_a_body_answers_it(
    sabotaged: tuple[Collector, Callable[[], None]],
) -> None:
    collector, break_now = sabotaged
    break_now()
    assert collector.post(body(1)).status == 503
    check_ended(collector)
    # Nothing of it was stored, and a new process takes it.
    assert len(records(collector.log)) == 1
    with running(collector.log.parent) as successor:
        assert [successor.post(body(number)).status for number in (0, 1)] == [204, 204]
    assert len(records(collector.log)) == 2


def test_all_that_is_queued_fails_when_the_writer_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SqliteLog(CollectorSettings(log_directory=str(tmp_path / "log"), group_record_count_max=1, reserve_bytes=1))
    is_reached, goes_on = threading.Event(), threading.Event()

    def write(*_: object) -> None:
        is_reached.set()
        assert goes_on.wait(10)
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr("collector.segment.Segment.write", write)
    queued = [log.append(NewRecord(bytes(16), 1, 0, 0, b"x"), np.empty(0, np.uint8)) for _ in range(5)]
    assert is_reached.wait(10)
    goes_on.set()
    assert [type(stored.exception(timeout=10)) for stored in queued] == [LogUnavailable] * 5
    deadline = time.monotonic() + 10
    while not log.has_ended:
        assert time.monotonic() < deadline
    with pytest.raises(LogUnavailable, match="nobody foresaw this"):
        log.append(NewRecord(bytes(16), 1, 0, 0, b"x"), np.empty(0, np.uint8)).result(timeout=10)
    log.close()


def test_retention_keeps_the_newest_segment_when_the_next_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "log"
    settings = CollectorSettings(
        log_directory=str(folder), segment_bytes_max=1, retention_bytes=1, reserve_bytes=1, maintenance_seconds=0.02
    )

    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    log = SqliteLog(settings)
    try:
        log.append(NewRecord(bytes(16), 1, 0, 0, b"x"), np.empty(0, np.uint8)).result(timeout=10)
        with monkeypatch.context() as broken:
            broken.setattr("collector.log_sqlite.create", fail)
            broken.setattr("collector.log_sqlite.Segment", fail)
            with pytest.raises(LogUnavailable, match="disk is full"):
                log.append(NewRecord(bytes([1] * 16), 1, 0, 0, b"y"), np.empty(0, np.uint8)).result(timeout=10)
            time.sleep(0.2)
            assert (folder / segment_file_name(1)).exists()
        log.append(NewRecord(bytes([1] * 16), 1, 0, 0, b"y"), np.empty(0, np.uint8)).result(timeout=10)
    finally:
        log.close()
    assert records(folder)[-1].position.segment == 2


# ---- a folder that goes away ----


def log_lines(collector: Collector) -> list[str]:
    return [line for line in collector.output.read_text().splitlines() if "egpu-collector: " in line]


@pytest.mark.parametrize("is_sent", [False, True], ids=["idle", "sending"])
def test_a_log_folder_removed_while_running_answers_503_in_one_line(tmp_path: Path, is_sent: bool) -> None:
    with running(tmp_path, *QUICK) as collector:
        assert collector.post(body(0)).status == 204
        shutil.rmtree(collector.log)
        if is_sent:
            assert [collector.post(body(number)).status for number in range(1, 6)] == [503] * 5
        assert "No such file or directory" in wait_for(503, collector, "/readyz")
        time.sleep(0.3)
        assert collector.post(body(1)).status == 503
        assert collector.ask("GET", "/healthz").status == 200
        assert collector.metric("egpu_collector_disk_free_bytes") == 0
        (line,) = log_lines(collector)
        assert "ERROR egpu-collector: log: unavailable: " in line
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with running(tmp_path):
        assert collector.log.is_dir()
    assert records(collector.log) == []


def test_a_log_folder_that_comes_back_is_taken_up_again(tmp_path: Path) -> None:
    with running(tmp_path, *QUICK) as collector:
        assert collector.post(body(0)).status == 204
        away = tmp_path / "away"
        collector.log.rename(away)
        wait_for(503, collector, "/readyz")
        away.rename(collector.log)
        wait_until_ready(collector)
        assert [collector.post(body(number)).status for number in (0, 1)] == [204, 204]
    assert len(records(collector.log)) == 2


def test_a_log_of_others_under_our_name_is_not_written(tmp_path: Path) -> None:
    for name in ("ours", "other"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "other", *QUICK) as other:
        assert other.post(body(7)).status == 204
    with running(tmp_path / "ours", *QUICK) as collector:
        assert collector.post(body(0)).status == 204
        shutil.rmtree(collector.log)
        shutil.copytree(other.log, collector.log)
        deadline = time.monotonic() + 10
        while "belongs to another log" not in wait_for(503, collector, "/readyz"):
            assert time.monotonic() < deadline
        assert collector.post(body(1)).status == 503
    assert len(records(collector.log)) == 1
