"""Flink's REST API seen from outside: what fails is one sentence, also where something else answers."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from egpu_runtime.contract.process import Failure
from pipeline.flink.checkpoints import newest
from pipeline.flink.rest import Checkpoint, Checkpoints, FlinkRefused, FlinkRest, Jar, Start, root_cause

TRACE = """\
org.apache.flink.runtime.rest.handler.RestHandlerException: Could not execute application.
\tat org.apache.flink.runtime.webmonitor.handlers.JarRunHandler.lambda$handleRequest$1(JarRunHandler.java:114)
Caused by: org.apache.flink.client.program.ProgramInvocationException: The main method caused an error: Failed
\tat org.apache.flink.client.program.PackagedProgram.callMainMethod(PackagedProgram.java:371)
Caused by: org.apache.flink.table.api.TableException: Cannot find table 'a.b': nor as a temporary table.
\tat org.apache.flink.table.api.internal.TableEnvironmentImpl.from(TableEnvironmentImpl.java:1)
"""


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (TRACE, "TableException: Cannot find table 'a.b': nor as a temporary table."),
        ("java.lang.NullPointerException\n\tat a.b(C.java:1)", "NullPointerException"),
        ("Job 12 not found", "Job 12 not found"),
        ("", "no reason given"),
    ],
)
def test_the_innermost_cause_is_named(trace: str, expected: str) -> None:
    assert root_cause(trace) == expected


@contextmanager
def answering(answers: dict[str, tuple[int, bytes]]) -> Iterator[FlinkRest]:
    """A server that gives fixed answers by ``METHOD path``."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answers.get(f"{self.command} {self.path}", (404, b'{"errors":["Not found: nothing here"]}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "POST", "PATCH"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield FlinkRest(f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:1", "no Flink cluster at http://127.0.0.1:1: .*refused"),
        ("127.0.0.1:8081", "no Flink cluster at 127.0.0.1:8081: unknown url type"),
        ("nothing", "no Flink cluster at nothing: unknown url type"),
    ],
)
def test_a_cluster_that_does_not_answer(url: str, message: str) -> None:
    with pytest.raises(Failure, match=message):
        FlinkRest(url).cluster()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b""])
def test_something_else_answers(body: bytes) -> None:
    with answering({"GET /overview": (200, body)}) as rest, pytest.raises(Failure, match="is not Flink's REST API"):
        rest.cluster()
    with (
        answering({"GET /jobs/overview": (200, body)}) as rest,
        pytest.raises(Failure, match="is not Flink's REST API"),
    ):
        rest.jobs()


def test_a_refused_start_says_why() -> None:
    body = json.dumps({"errors": ["Internal server error.", TRACE]}).encode()
    with answering({"POST /jars/one/run": (500, body)}) as rest:
        with pytest.raises(FlinkRefused, match=r"^TableException: Cannot find table"):
            rest.run(Jar("one", "egpu.jar"), Start("egpu.SqlJob", [], 1))
        with pytest.raises(FlinkRefused, match=r"^Not found: nothing here$"):
            rest.state("0")


def test_a_savepoint_that_failed_says_why() -> None:
    failed = {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"class": "x", "stack-trace": TRACE}}}
    answers = {
        "POST /jobs/7/savepoints": (202, b'{"request-id":"r"}'),
        "GET /jobs/7/savepoints/r": (200, json.dumps(failed).encode()),
    }
    with answering(answers) as rest, pytest.raises(Failure, match="no savepoint of job 7: TableException: Cannot find"):
        rest.savepoint("7", "file:///x")


def test_the_later_of_checkpoint_and_savepoint_is_the_last() -> None:
    def entry(path: str, time_ms: int) -> dict[str, object]:
        times = {"latest_ack_timestamp": time_ms, "end_to_end_duration": 7}
        return {"external_path": path, "state_size": 5, **times}

    found = {
        "counts": {"completed": 3, "failed": 1},
        "latest": {"completed": entry("file:/c", 10), "savepoint": entry("file:/s", 20), "failed": None},
    }
    with answering({"GET /jobs/7/checkpoints": (200, json.dumps(found).encode())}) as rest:
        assert rest.checkpoints("7") == Checkpoints(3, 1, Checkpoint("file:/s", 20, 5, 7))


def _metadata(path: Path, time_ns: int) -> None:
    path.mkdir(parents=True)
    (path / "_metadata").touch()
    os.utime(path / "_metadata", ns=(time_ns, time_ns))


def test_the_newest_complete_checkpoint_of_any_run_is_found(tmp_path: Path) -> None:
    assert newest(f"file://{tmp_path}") is None
    assert newest(f"file://{tmp_path}/missing") is None
    _metadata(tmp_path / "d1" / "job1" / "chk-9", 10_000_000_000)
    _metadata(tmp_path / "d2" / "job2" / "chk-2", 30_000_000_000)
    _metadata(tmp_path / "d2" / "savepoints" / "savepoint-1", 20_000_000_000)
    (tmp_path / "d2" / "job2" / "chk-3").mkdir()  # not completed
    found = newest(f"file:{tmp_path}")
    assert found is not None
    assert (found.path, found.digest, found.time_ms) == (f"file://{tmp_path}/d2/job2/chk-2", "d2", 30_000)
    _metadata(tmp_path / "d1" / "savepoints" / "savepoint-2", 40_000_000_000)
    later = newest(str(tmp_path))
    assert later is not None
    assert later.digest == "d1"


def test_checkpoints_elsewhere_have_to_be_named() -> None:
    with pytest.raises(Failure, match=r"cannot look for checkpoints in s3://bucket/x from here.*--from.*--fresh"):
        newest("s3://bucket/x")
