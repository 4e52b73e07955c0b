"""The collector as a sender meets it: a real process over HTTP, status by status."""

import http.client
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from collector_bodies import STALE_BITS, label, message, sample, series, snappy, up, varint
from collector_process import HEADERS, Collector, records, running

from collector.contract.record import LOG_SCHEMA_VERSION, segment_file_name
from collector.contract.samples import SampleDecoder
from collector.settings import CollectorSettings
from egpu_runtime.contract.configuration import Setting, SettingsError, describe, load

NOW_MS = int(time.time() * 1000)
BODY_BYTES_MAX = 100_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """One collector for all the tests that only look at answers."""
    with running(tmp_path_factory.mktemp("shared"), "--body-bytes-max", BODY_BYTES_MAX) as collector:
        yield collector


def fresh(number: int) -> bytes:
    """A body no other test sends."""
    return snappy(up(number, (NOW_MS, float(number))))


@pytest.mark.parametrize("path", ["/api/v1/write", "/api/v1/push", "/receive"])
def test_204_on_every_path_of_known_senders(shared: Collector, path: str) -> None:
    answer = shared.post(snappy(series({"__name__": "up", "path": path}, (NOW_MS, 1.0))), path=path)
    assert (answer.status, answer.text) == (204, "")
    # Prometheus 3.8.0 took a header of 0 written samples for a partial failure of version 1 (its issue 17659).
    assert not [name for name in answer.headers if name.startswith("x-prometheus-remote-write")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "snappy"},
        {"Content-Type": "application/x-protobuf"},
        {**HEADERS, "Content-Type": "application/x-protobuf;proto=prometheus.WriteRequest"},
        {**HEADERS, "Content-Type": 'Application/X-Protobuf; proto="prometheus.WriteRequest"'},
        {**HEADERS, "Content-Encoding": "Snappy"},
        # proto= names the message, the version header does not: none means 1.0 (remote write 2.0, "Protocol").
        {**HEADERS, "X-Prometheus-Remote-Write-Version": "2.0.0"},
    ],
)
def test_204_for_what_can_only_be_remote_write_1(shared: Collector, headers: dict[str, str]) -> None:
    assert shared.post(fresh(1), headers).status == 204


@pytest.mark.parametrize(
    "headers",
    [
        {**HEADERS, "Content-Type": "application/json"},
        {**HEADERS, "Content-Type": "image/png"},
        {**HEADERS, "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"},
        {**HEADERS, "Content-Encoding": "gzip"},
        {**HEADERS, "Content-Encoding": "zstd"},
        {**HEADERS, "Content-Encoding": "identity"},
    ],
)
def test_415_before_the_body_is_looked_at(shared: Collector, headers: dict[str, str]) -> None:
    assert shared.post(b"\xff\xff not even snappy", headers).status == 415


def test_415_is_answered_before_the_body_is_sent(shared: Collector) -> None:
    with closing(socket.create_connection(("127.0.0.1", shared.port), timeout=10)) as connection:
        connection.sendall(
            b"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/write", 405),
        ("PUT", "/receive", 405),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/", 404),
        ("POST", "/api/v1/writes", 404),
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
    ],
)
def test_paths_and_methods(shared: Collector, method: str, path: str, status: int) -> None:
    answer = shared.ask(method, path)
    assert answer.status == status
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\xff" * 20,
        snappy(b"\xff" + up(1, (NOW_MS, 1.0))),
        snappy(up(1, (NOW_MS, 1.0)) + b"\x0a\x7f"),
        b"\x05\x00a",
    ],
    ids=["empty", "no-snappy", "first-byte", "cut", "declares-more"],
)
def test_400_for_a_corrupt_body_and_nothing_is_stored(shared: Collector, block: bytes) -> None:
    before = len(records(shared.log))
    answer = shared.post(block)
    assert answer.status == 400
    assert answer.text.startswith("corrupt body, nothing was stored: ")
    assert len(records(shared.log)) == before


def test_413_for_a_declared_content_length(shared: Collector) -> None:
    with closing(socket.create_connection(("127.0.0.1", shared.port), timeout=10)) as connection:
        connection.sendall(b"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_413_for_a_large_body_whose_sender_reads_last(shared: Collector) -> None:
    assert shared.post(bytes(4 << 20)).status == 413
    assert shared.post(fresh(2)).status == 204


def test_413_for_a_declared_snappy_size(shared: Collector) -> None:
    answer = shared.post(varint((1 << 32) - 1) + b"\x00")
    assert (answer.status, "4294967295" in answer.text) == (413, True)
    assert shared.post(snappy(bytes(BODY_BYTES_MAX + 1))).status == 413


def test_413_for_a_chunked_body_that_grows(shared: Collector) -> None:
    with closing(shared.connect()) as connection:
        connection.request("POST", "/receive", iter([bytes(50_000)] * 4), HEADERS)
        assert connection.getresponse().status == 413


def test_chunked_bodies_are_read(shared: Collector) -> None:
    block = fresh(3)
    with closing(shared.connect()) as connection:
        connection.request("POST", "/receive", iter([block[:5], block[5:]]), HEADERS)
        assert connection.getresponse().status == 204


def test_400_counts_what_was_refused_and_stores_the_rest(tmp_path: Path) -> None:
    future_ms = NOW_MS + 3_600_000
    body = (
        up(1, (NOW_MS, 1.0), (future_ms, 2.0))
        + series({"no": "name"}, (NOW_MS, 3.0), (NOW_MS + 1, 4.0))
        + series({"z": "last", "__name__": "up"}, (NOW_MS, 5.0))
    )
    with running(tmp_path) as collector:
        for _ in range(2):
            answer = collector.post(snappy(body))
            assert answer.status == 400
            assert answer.text == "2 samples stored, 3 refused: metric_name_missing 2, timestamp_in_future 1\n"
        assert collector.metric('egpu_collector_samples_refused_total{reason="metric_name_missing"}') == 2
        assert collector.metric("egpu_collector_samples_stored_total") == 2
        assert collector.metric("egpu_collector_requests_duplicate_total") == 1
        (record,) = records(collector.log)
        assert collector.post(snappy(series({"no": "name"}, (NOW_MS, 3.0)))).status == 400
    assert record.sample_count == 2
    samples = SampleDecoder().decode(record.block)
    assert samples.value.tolist() == [1.0, 5.0]


def test_metadata_alone_is_acknowledged_and_not_stored(tmp_path: Path) -> None:
    with running(tmp_path) as collector:
        assert collector.post(snappy(message(3, b"\x12\x02up") * 3)).status == 204
        assert collector.post(snappy(b"")).status == 204
        assert collector.metric("egpu_collector_metadata_total") == 3
        assert records(collector.log) == []


def test_records_say_what_they_hold_and_stale_markers_survive(tmp_path: Path) -> None:
    body = message(1, label("__name__", "up") + sample(NOW_MS - 5, STALE_BITS) + sample(NOW_MS, 0x7FF8_0000_0000_0001))
    with running(tmp_path) as collector:
        before_ms = int(time.time() * 1000)
        assert collector.post(snappy(body)).status == 204
        (record,) = records(collector.log)
    assert before_ms <= record.received_ms <= time.time() * 1000
    assert (record.sample_count, record.timestamp_min_ms, record.timestamp_max_ms) == (2, NOW_MS - 5, NOW_MS)
    assert record.block == snappy(body)
    bits = SampleDecoder().decode(record.block).value.view(np.uint64).tolist()
    assert bits == [STALE_BITS, 0x7FF8_0000_0000_0001]


def test_a_repeated_body_is_acknowledged_and_stored_once_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path) as collector:
            assert [collector.post(fresh(1)).status for _ in range(3)] == [204] * 3
            assert len(records(collector.log)) == 1
    with running(tmp_path, "--duplicate-window-seconds", 0.001) as collector:
        assert collector.post(fresh(1)).status == 204
        assert len(records(collector.log)) == 2


def test_twins_at_the_same_time_are_stored_once(tmp_path: Path) -> None:
    with running(tmp_path) as collector:
        statuses: list[int] = []

        def send(number: int) -> None:
            statuses.append(collector.post(fresh(number)).status)

        for number in range(5):
            senders = [threading.Thread(target=send, args=(number,)) for _ in range(6)]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
        assert statuses == [204] * 30
        assert len(records(collector.log)) == 5
        assert collector.metric("egpu_collector_samples_stored_total") == 5
        assert collector.metric("egpu_collector_samples_duplicate_total") == 25


def test_503_while_the_queue_is_full(tmp_path: Path) -> None:
    with running(tmp_path, "--queue-bytes-max", 1000, "--retry-after-seconds", 7) as collector:
        with closing(socket.create_connection(("127.0.0.1", collector.port), timeout=10)) as slow:
            slow.sendall(b"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Length: 990\r\n\r\nabc")
            while collector.metric("egpu_collector_queue_bytes") < 990:
                time.sleep(0.01)
            answer = collector.post(fresh(1))
            assert (answer.status, answer.headers["retry-after"], answer.text) == (503, "7", "queue full\n")
            assert collector.ask("GET", "/healthz").status == 200
        while collector.metric("egpu_collector_queue_bytes") > 0:
            time.sleep(0.01)
        assert collector.post(fresh(1)).status == 204


def test_503_for_a_body_that_does_not_come(tmp_path: Path) -> None:
    with (
        running(tmp_path, "--body-seconds-max", 0.2) as collector,
        closing(socket.create_connection(("127.0.0.1", collector.port), timeout=10)) as slow,
    ):
        slow.sendall(b"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Length: 990\r\n\r\nabc")
        assert slow.recv(100).startswith(b"HTTP/1.1 503 ")


def test_sigterm_finishes_what_is_under_way(tmp_path: Path) -> None:
    block = fresh(1)
    collector = Collector(tmp_path)
    with closing(socket.create_connection(("127.0.0.1", collector.port), timeout=10)) as sender:
        head = f"POST /receive HTTP/1.1\r\nHost: x\r\nContent-Length: {len(block)}\r\n\r\n"
        sender.sendall(head.encode() + block[:5])
        time.sleep(0.1)
        collector.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        sender.sendall(block[5:])
        assert sender.recv(100).startswith(b"HTTP/1.1 204 ")
    assert collector.process.wait(timeout=20) == 0
    assert len(records(collector.log)) == 1
    assert collector.output.read_text() == f"egpu-collector listens on http://127.0.0.1:{collector.port}\n"


def test_keep_alive_carries_many_bodies(tmp_path: Path) -> None:
    with running(tmp_path) as collector, closing(collector.connect()) as connection:
        for number in range(50):
            connection.request("POST", "/api/v1/write", fresh(number), HEADERS)
            response: http.client.HTTPResponse = connection.getresponse()
            assert (response.status, response.read()) == (204, b"")
        assert len(records(collector.log)) == 50


def end_of(*flags: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "collector", *map(str, flags)], capture_output=True, text=True, check=False, timeout=20
    )
    return done.returncode, done.stderr


def test_port_taken_and_second_writer_are_one_line(tmp_path: Path) -> None:
    with running(tmp_path) as collector:
        code, line = end_of("serve", "--log-directory", tmp_path / "other", "--listen-port", collector.port)
        assert (code, line) == (1, f"error: cannot listen on 127.0.0.1:{collector.port}: Address already in use\n")
        code, line = end_of("serve", "--log-directory", collector.log, "--listen-port", 0)
        assert (code, line) == (1, f"error: log {collector.log}: another collector writes to it\n")
    with running(tmp_path):
        pass


@pytest.mark.parametrize(
    "flags",
    [("--listen-port", "http"), ("--label-count-max", 0), ("--no-such-flag",), ("--log-form", "xml"), ("extra",)],
)
def test_usage_errors_are_one_line(flags: tuple[object, ...]) -> None:
    code, line = end_of("serve", *flags)
    assert (code, line.startswith("error: "), line.count("\n")) == (1, True, 1)


def test_files_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, line = end_of("serve", "--log-directory", tmp_path / "file" / "log", "--listen-port", 0)
    assert (code, line) == (1, f"error: log {tmp_path}/file/log: cannot be written: Not a directory\n")
    port_file = tmp_path / "nowhere" / "port"
    code, line = end_of("serve", "--log-directory", tmp_path / "log", "--listen-port", 0, "--port-file", port_file)
    assert (code, line) == (1, f"error: port file {port_file}: No such file or directory\n")


def doctor(collector: Collector) -> list[str]:
    flags = ("--log-directory", str(collector.log), "--listen-port", str(collector.port))
    done = subprocess.run(
        [sys.executable, "-m", "collector", "doctor", *flags], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_doctor_shows_lag_disk_and_refusals(tmp_path: Path) -> None:
    with running(tmp_path) as collector:
        for number in range(3):
            collector.post(fresh(number))
        collector.post(snappy(series({"no": "name"}, (NOW_MS, 3.0))))
        (collector.log / "pipeline.reader.json").write_text('{"segment": 1, "row": 2}')
        lines = doctor(collector)
    assert lines[0].startswith("log: 1 segments, 3 records, ")
    assert lines[2].startswith("disk: ")
    assert lines[3] == "reader pipeline: at segment 1 row 2, 1 records behind"
    assert lines[4] == f"collector: on 127.0.0.1:{collector.port}, since its start"
    assert '  samples refused {reason="metric_name_missing"}: 1' in lines
    assert "  samples stored: 3" in lines
    *_, asked, rest = doctor(collector)
    assert asked.startswith("collector: none answers on ")
    assert rest.startswith("the rest: egpu-pipeline doctor")


def test_doctor_does_not_take_another_collector_for_this_logs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with running(tmp_path) as collector, running(tmp_path / "other") as other:
        flags = ("--log-directory", str(collector.log), "--listen-port", str(other.port))
        done = subprocess.run(
            [sys.executable, "-m", "collector", "doctor", *flags], capture_output=True, text=True, check=True
        )
    where = f"127.0.0.1:{other.port}"
    assert f"collector: what answers on {where} is not the collector of this log\n" in done.stdout
    assert "samples stored" not in done.stdout


def test_doctor_refuses_a_log_of_a_newer_format(tmp_path: Path) -> None:
    with running(tmp_path) as collector:
        collector.post(fresh(1))
    file = collector.log / segment_file_name(1)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 9")
    for command in ("doctor", "serve"):
        code, line = end_of(command, "--log-directory", collector.log, "--listen-port", 0)
        sentence = f"{file.name} has log format 9, this collector knows up to {LOG_SCHEMA_VERSION}"
        assert (code, line) == (1, f"error: log {collector.log}: {sentence}\n")


@pytest.mark.parametrize("number", ["inf", "nan", "-1", "1e300"])
@pytest.mark.parametrize("setting", [s for s in describe(CollectorSettings) if isinstance(s.default, int | float)])
def test_numbers_nobody_can_mean_are_refused(setting: Setting, number: str) -> None:
    with pytest.raises(SettingsError):
        load(CollectorSettings, file_text="", overrides={setting.name: number})
    with pytest.raises(SettingsError):
        load(CollectorSettings, file_text=f"{setting.name} = {number}", overrides={})
