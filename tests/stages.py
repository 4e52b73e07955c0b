"""The chain as real processes: replay -> collector -> log -> pipeline -> tables -> advisor, in one folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.contract.tables import TABLE_BY_NAME

PACKAGES = {
    "egpu-runtime": "egpu_runtime",
    "egpu-collector": "collector",
    "egpu-pipeline": "pipeline",
    "egpu-advisor": "advisor",
}
READY_SECONDS = 90.0


def command(program: str, *arguments: object) -> list[str]:
    """The command line of one of our programs, run from this checkout."""
    return [sys.executable, "-m", PACKAGES[program], *(str(argument) for argument in arguments)]


@dataclass
class Chain:
    """One run of the loop; every method is one stage, and fails the test when the stage fails."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse"

    def run(self, program: str, *arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
        """Run a program to its end; its exit code must be ``code``."""
        done = subprocess.run(
            command(program, *arguments),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "160"},
        )
        assert done.returncode == code, (
            f"{program} {arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    @contextmanager
    def collector(self, *arguments: object) -> Iterator[str]:
        """A collector over the chain's log; yields its remote-write address; ends by SIGTERM with code 0."""
        port_file = self.folder / "collector.port"
        port_file.unlink(missing_ok=True)
        with (self.folder / "collector.log").open("ab") as errors:
            process = subprocess.Popen(
                command(
                    "egpu-collector",
                    "serve",
                    *("--log-directory", self.log, "--listen-port", 0, "--port-file", port_file),
                    *arguments,
                ),
                stderr=errors,
                stdout=subprocess.DEVNULL,
            )
        try:
            yield f"http://127.0.0.1:{wait_for_port(port_file, process)}/api/v1/write"
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
        assert code == 0, (self.folder / "collector.log").read_text()

    def replay(self, url: str, *arguments: object) -> dict[str, Any]:
        """Send a fleet; the replay's summary."""
        summary = self.folder / "replay.json"
        self.run("egpu-runtime", "replay", "--remote-write", url, "--summary-file", summary, *arguments)
        return read_json(summary)

    def roll_up(self, *arguments: object) -> dict[str, Any]:
        """Log to tables; the pipeline's summary."""
        summary = self.folder / "pipeline.json"
        self.run(
            "egpu-pipeline",
            *("run", "--log", self.log, "--warehouse", self.warehouse, "--summary-file", summary),
            *arguments,
        )
        return read_json(summary)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All finalised rows of a table, in key order."""
        files = sorted((self.warehouse / table).rglob("part-0.parquet"))
        rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
        key = TABLE_BY_NAME[table].key
        return sorted(rows, key=lambda row: tuple(row[name] for name in key))

    def plan(self, *arguments: object) -> dict[str, Any]:
        """The advisor's plan."""
        done = self.run("egpu-advisor", "scan", "--warehouse", self.warehouse, "--format", "json", *arguments)
        plan: dict[str, Any] = json.loads(done.stdout)
        return plan


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def wait_for_port(port_file: Path, process: "subprocess.Popen[bytes]") -> int:
    """The port a process wrote once it listens."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if port_file.exists() and (text := port_file.read_text().strip()):
            return int(text)
        time.sleep(0.02)
    raise AssertionError(f"no port in {port_file} after {READY_SECONDS} s, exit code {process.poll()}")
