"""A real collector process, a client that speaks HTTP/1.1 to it, and a reader of its log."""

import http.client
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from collector.contract.record import RECORD_COLUMNS, Position, Record, segment_number

HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


@dataclass
class Answer:
    status: int
    text: str
    headers: dict[str, str]


class Collector:
    """``egpu-collector serve`` on a free port."""

    def __init__(self, folder: Path, *flags: object, environment: Mapping[str, str] | None = None) -> None:
        self.log = folder / "log"
        port_file = folder / "port"
        port_file.unlink(missing_ok=True)
        self.output = folder / "output"
        command = [sys.executable, "-m", "collector", "serve", "--log-directory", str(self.log), "--listen-port", "0"]
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, "--port-file", str(port_file), *map(str, flags)],
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )
        try:
            self.port = self._port(port_file)
        except BaseException:
            self.kill()
            raise

    def _port(self, file: Path) -> int:
        deadline = time.monotonic() + 90
        while not file.exists():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, "the collector does not listen"
            time.sleep(0.01)
        return int(file.read_text())

    def connect(self, timeout_seconds: float = 20.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        with closing(self.connect()) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()})

    def post(self, block: bytes, headers: Mapping[str, str] = HEADERS, path: str = "/api/v1/write") -> Answer:
        return self.ask("POST", path, block, headers)

    def metric(self, name: str) -> float:
        for line in self.ask("GET", "/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def running(folder: Path, *flags: object, environment: Mapping[str, str] | None = None) -> Iterator[Collector]:
    """A collector that must end by SIGTERM with code 0, unless the test ended it itself."""
    collector = Collector(folder, *flags, environment=environment)
    try:
        yield collector
    except BaseException:
        collector.kill()
        raise
    if collector.process.poll() is None:
        assert collector.stop() == 0, collector.output.read_text()


def records(log: Path) -> list[Record]:
    """All records of a log in order, read while a collector may write to it."""
    found = []
    for file in sorted(log.iterdir()):
        number = segment_number(file.name)
        if number is None:
            continue
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            for row, *columns in connection.execute(f"SELECT {RECORD_COLUMNS} FROM record ORDER BY row"):
                found.append(Record(Position(number, row), *columns))
    return found


def wait_until_ready(collector: Collector) -> None:
    deadline = time.monotonic() + 90
    while collector.ask("GET", "/readyz").status != 200:
        assert time.monotonic() < deadline, collector.ask("GET", "/readyz").text
        time.sleep(0.05)


def end_of_start(log: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "collector", "serve", "--log-directory", str(log), "--listen-port", "0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    return done.returncode, done.stderr
