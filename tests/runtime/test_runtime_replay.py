"""Sending as Prometheus does: the same bytes again on 5xx, refusals counted, order kept, a dead peer given up."""

import email.utils
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Child
from recording_receiver import RecordingReceiver, recording_receiver
from test_runtime_encode import decode
from waiting import wait_for

from egpu_runtime.__main__ import app
from egpu_runtime.contract.process import run
from egpu_runtime.contract.units import STALE_MARKER_BITS
from egpu_runtime.fleet.replay import Connection, refusal, retry_after_seconds

COLUMN_LINE = (
    "timestamp_ms,cluster,node,gpu_uuid,gpu_model,gpu_memory_total_bytes,tenant,namespace,workload_kind,workload,"
    "pod,pod_uid,container,priority,memory_quota_bytes,core_quota_ratio,memory_used_bytes,core_used_ratio"
)
MINUTE = 60_000


def write_fleet(path: Path, *, pods: int, times: int) -> int:
    """A fleet of pods with a card each; samples it gives: 10 a pod and time, and 6 stale markers a pod."""
    lines = [COLUMN_LINE]
    for number in range(times):
        for pod in range(pods):
            use = f"{number * 1000 + pod},0.5"
            lines.append(f"{number * MINUTE},c,n{pod},g{pod},A100,80000,t,ns,Deployment,w,p{pod},,main,0,,,{use}")
    path.write_text("\n".join(lines) + "\n")
    return pods * (10 * times + 6)


def replay(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        run(app, ["replay", *(str(argument) for argument in arguments)])
    assert ended.value.code == code


@pytest.fixture
def receiver() -> Iterator[RecordingReceiver]:
    with recording_receiver() as recording:
        yield recording


@pytest.fixture
def summary(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "summary.json"


def test_headers_and_samples_are_those_of_remote_write_1(tmp_path, receiver, summary) -> None:
    count = write_fleet(tmp_path / "f.csv", pods=2, times=3)
    replay("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, "--summary-file", summary)
    post = receiver.posts[0]
    assert post.path == "/api/v1/write"
    assert post.headers["Content-Encoding"] == "snappy"
    assert post.headers["Content-Type"] == "application/x-protobuf"
    assert post.headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert post.headers["User-Agent"]
    assert "Retry-Attempt" not in post.headers
    got = [sample for post in receiver.posts for sample in decode(post.body)]
    assert len(got) == count
    assert sum(value == STALE_MARKER_BITS for _, _, value in got) == 12
    assert {time_ms for _, time_ms, value in got if value == STALE_MARKER_BITS} == {3 * MINUTE}
    told = json.loads(summary.read_text())
    assert (told["samples_sent"], told["samples_refused"], told["retries"], told["complete"]) == (count, 0, 0, True)


def test_server_errors_and_hang_ups_are_retried_with_the_same_bytes(tmp_path, receiver, summary) -> None:
    receiver.answers = [(503, {}), (500, {}), (0, {}), (204, {})]
    count = write_fleet(tmp_path / "f.csv", pods=2, times=3)
    replay("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, "--summary-file", summary)
    assert [post.status for post in receiver.posts] == [503, 500, 0, 204]
    assert len({post.body for post in receiver.posts}) == 1
    assert [post.headers.get("Retry-Attempt") for post in receiver.posts] == [None, "1", "2", "3"]
    waits = [b.at_seconds - a.at_seconds for a, b in itertools.pairwise(receiver.posts)]
    assert all(wait >= least for wait, least in zip(waits, (0.03, 0.06, 0.12), strict=True))
    told = json.loads(summary.read_text())
    assert (told["samples_sent"], told["retries"], told["requests"]) == (count, 3, 4)


def test_retry_after_is_honoured(tmp_path, receiver) -> None:
    receiver.answers = [(503, {"Retry-After": "1"})]
    write_fleet(tmp_path / "f.csv", pods=1, times=1)
    replay("--trace", tmp_path / "f.csv", "--remote-write", receiver.url)
    assert receiver.posts[1].at_seconds - receiver.posts[0].at_seconds >= 1.0


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        ("soon", None),
        (email.utils.formatdate(1_000_010, usegmt=True), 10.0),
        (email.utils.formatdate(999_000, usegmt=True), 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(header: str | None, expected: float | None) -> None:
    assert retry_after_seconds(header, 1_000_000.0) == expected


def test_refused_batches_are_counted_named_and_the_rest_goes_on(tmp_path, receiver, summary, capsys) -> None:
    receiver.answers = [(204, {}), (400, {}), (204, {}), (400, {})]
    receiver.text = b"\n98 samples stored,\t2 refused: label_order 2\nsecond line\n"
    count = write_fleet(tmp_path / "f.csv", pods=2, times=30)
    replay(
        *("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, "--summary-file", summary),
        *("--batch-samples-max", 100, "--connections-max", 1),
        code=1,  # it must not look like a success
    )
    told = json.loads(summary.read_text())
    assert told["samples_refused"] == sum(len(decode(receiver.posts[number].body)) for number in (1, 3)) > 0
    assert told["samples_sent"] == count - told["samples_refused"]
    assert (told["requests_refused"], told["retries"], told["complete"]) == (2, 0, True)
    assert told["first_refusal"] == "status 400: 98 samples stored, 2 refused: label_order 2"
    shown = capsys.readouterr()
    assert f"{told['samples_refused']} in 2 refused requests ({told['first_refusal']})" in shown.out
    assert (shown.out.count("\n"), shown.err.count("\n")) == (1, 1)
    assert f"refused 2 of {told['requests']} requests, of which it may have stored the valid samples" in shown.err


def test_the_first_refusal_is_the_earliest_of_all_connections(tmp_path, receiver, summary) -> None:
    receiver.answers = [(204, {})] * 6 + [(400, {})] * 100
    receiver.text = b"no"
    write_fleet(tmp_path / "f.csv", pods=40, times=40)
    arguments = ("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, "--summary-file", summary)
    replay(*arguments, "--batch-samples-max", 100, "--connections-max", 4, code=1)
    told = json.loads(summary.read_text())
    assert told["first_refusal"] == "status 400: no"
    assert told["requests_refused"] == 100
    assert told["samples_refused"] == sum(len(decode(post.body)) for post in receiver.posts if post.status == 400)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", "status 400"),
        (b" \r\n\n", "status 400"),
        (b"out of order\nmore", "status 400: out of order"),
        (b"a\x1b[31mb", "status 400: a[31mb"),
        (b"\xff" * 3, "status 400: \ufffd\ufffd\ufffd"),
        (b"x" * 300, "status 400: " + "x" * 200 + "..."),
    ],
)
def test_a_refusal_is_shown_by_the_first_line_of_its_body(answer: bytes, expected: str) -> None:
    assert refusal(400, answer) == expected


@pytest.mark.parametrize("status", [401, 404, 413, 415, 429, 302])
def test_other_refusals_end_it_with_one_line(status, tmp_path, receiver, capsys) -> None:
    receiver.answers = [(status, {})] * 50
    write_fleet(tmp_path / "f.csv", pods=2, times=3)
    replay("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, code=1)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f"status {status}" in shown
    assert len(receiver.posts) == 1


@pytest.mark.parametrize("answer", ["refuse", 503])
def test_a_dead_peer_is_given_up_in_bounded_time(answer, tmp_path, receiver, capsys) -> None:
    with socket.socket() as probe:  # a port nobody listens on
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/" if answer == "refuse" else receiver.url
    receiver.answers = [(503, {})] * 1000
    write_fleet(tmp_path / "f.csv", pods=1, times=1)
    started = time.monotonic()
    replay("--trace", tmp_path / "f.csv", "--remote-write", url, "--give-up-seconds", 0.4, code=1)
    assert time.monotonic() - started < 1.5
    assert capsys.readouterr().err.count("\n") == 1


def test_every_series_arrives_in_order_over_several_connections(tmp_path, receiver, summary) -> None:
    """Also while batches fail now and then: a series is never overtaken."""
    receiver.answers = [(503, {}) if number % 5 == 0 else (204, {}) for number in range(300)]
    count = write_fleet(tmp_path / "f.csv", pods=40, times=40)
    replay(
        *("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, "--summary-file", summary),
        *("--batch-samples-max", 200, "--connections-max", 4, "--retry-seconds-min", 0.001),
    )
    last: dict[tuple, int] = {}
    newest = 0
    arrived = 0
    for post in receiver.taken():
        for labels, time_ms, _ in decode(post.body):
            key = tuple(labels)
            assert time_ms > last.get(key, -1)
            last[key] = time_ms
            assert time_ms > newest - 5 * MINUTE  # connections stay within one window of each other
            newest = max(newest, time_ms)
            arrived += 1
    assert arrived == count == json.loads(summary.read_text())["samples_sent"]
    assert len(last) == 40 * 10


def test_speed_is_held(tmp_path, receiver) -> None:
    """Three minutes of trace at 300 times real time last 0.6 s: 0, 0.2, 0.4 and the stale markers at 0.6."""
    write_fleet(tmp_path / "f.csv", pods=1, times=3)
    replay("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, "--speed", 300)
    arrived = [post.at_seconds - receiver.posts[0].at_seconds for post in receiver.posts]
    assert len(arrived) == 4
    # Early would be too fast. A busy machine may make it late.
    assert all(-0.15 < at - due < 1 for at, due in zip(arrived, (0, 0.2, 0.4, 0.6), strict=True))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_connection_that_dies_of_something_unforeseen_is_a_failure(tmp_path, receiver, monkeypatch, capsys) -> None:
    monkeypatch.setattr(Connection, "_attempt", lambda *_: 1 / 0)
    write_fleet(tmp_path / "f.csv", pods=1, times=1)
    replay("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, code=1)
    assert capsys.readouterr().err.endswith(f"error: a connection to {receiver.url} ended unexpectedly\n")


@pytest.mark.parametrize("flag", ["--summary-file", "--planted", "--journal"])
@pytest.mark.parametrize("file", ["none/file", "."])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_sent(flag, file, tmp_path, receiver, capsys) -> None:
    write_fleet(tmp_path / "f.csv", pods=1, times=1)
    source = ("--synthetic", 1) if flag == "--planted" else ("--trace", tmp_path / "f.csv")
    sink = ("--listen", "127.0.0.1:0") if flag == "--journal" else ("--remote-write", receiver.url)
    replay(*source, *sink, flag, tmp_path / file, code=1)
    shown = capsys.readouterr()
    why = "is a folder, not a file" if file == "." else "its folder does not exist"
    assert (shown.out, shown.err) == ("", f"error: {tmp_path / file}: {why}\n")
    assert receiver.posts == []


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "egpu_runtime", "replay", *(str(argument) for argument in arguments)]
    return Child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


def catches(pid: int, number: signal.Signals) -> bool:
    """It has come so far that it ends by itself; before, the signal would kill it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool(int(fields["SigCgt"], 16) >> (number - 1) & 1)


def test_sigterm_finishes_what_is_in_flight_and_exits_0(tmp_path, receiver, summary) -> None:
    write_fleet(tmp_path / "f.csv", pods=1, times=60)
    with start(
        *("--trace", tmp_path / "f.csv", "--remote-write", receiver.url),
        *("--speed", 60, "--summary-file", summary),
    ) as process:
        while not receiver.posts and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)
        assert (process.returncode, err) == (0, "")
        assert "stopped early" in out
        told = json.loads(summary.read_text())
        assert not told["complete"]
        assert told["samples_sent"] == sum(len(decode(post.body)) for post in receiver.taken())


@pytest.mark.parametrize("answer", ["refuse", 503, 0, 1])
def test_sigterm_ends_a_replay_that_waits_for_its_receiver(answer, tmp_path, receiver, summary) -> None:
    """Whether the peer is away, says later, hangs up, or takes the body and says nothing."""
    receiver.answers = (
        [(int(answer), {"Retry-After": "60"} if answer == 503 else {})] * 1000 if answer != "refuse" else []
    )
    count = write_fleet(tmp_path / "f.csv", pods=1, times=1)
    with socket.socket() as probe:  # a port nobody listens on
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/" if answer == "refuse" else receiver.url
        with start("--trace", tmp_path / "f.csv", "--remote-write", url, "--summary-file", summary) as process:
            if answer == "refuse":
                wait_for(lambda: catches(process.pid, signal.SIGTERM))
                time.sleep(0.5)
            while answer != "refuse" and not receiver.posts and process.poll() is None:
                time.sleep(0.01)
            told_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=5)
    assert time.monotonic() - told_at < 3
    assert (process.returncode, err) == (0, "")
    assert f"0 samples sent, 0 refused, {count} unanswered" in out
    assert "(stopped early)" in out
    told = json.loads(summary.read_text())
    assert (told["complete"], told["samples_sent"], told["samples_unanswered"]) == (False, 0, count)


def test_a_stopped_replay_in_which_something_was_refused_is_no_success(tmp_path, receiver, summary) -> None:
    receiver.answers = [(400, {})]
    write_fleet(tmp_path / "f.csv", pods=1, times=60)
    arguments = ("--trace", tmp_path / "f.csv", "--remote-write", receiver.url, "--summary-file", summary)
    with start(*arguments, "--speed", 60) as process:
        while len(receiver.posts) < 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)
        assert process.returncode == 1
        assert "(stopped early)" in out
        assert err.count("\n") == 1
        assert json.loads(summary.read_text())["requests_refused"] == 1


def test_interrupt_ends_a_replay_that_waits_for_its_receiver(tmp_path, receiver) -> None:
    receiver.answers = [(503, {"Retry-After": "60"})] * 10
    write_fleet(tmp_path / "f.csv", pods=1, times=1)
    with start("--trace", tmp_path / "f.csv", "--remote-write", receiver.url) as process:
        while not receiver.posts and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=5)  # and not after the 60 s the receiver asked for
        assert (process.returncode, out, err) == (1, "", "error: interrupted\n")
