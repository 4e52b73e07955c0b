"""A real Prometheus: the one ``PROMETHEUS`` names or the PATH has, else Debian's package unpacked into the cache."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_SECONDS = 30.0


def prometheus_program() -> Path:
    """Path of the program. Raises RuntimeError with one sentence when there is none to be had."""
    named = os.environ.get("PROMETHEUS")
    found = shutil.which(named or "prometheus")
    if found:
        return Path(found)
    if named:
        raise RuntimeError(f"PROMETHEUS names {named!r}, which is no program")
    cache = Path(os.environ.get("EGPU_CACHE") or Path.home() / ".cache" / "effective-gpu") / "prometheus"
    program = cache / "usr" / "bin" / "prometheus"
    if not program.exists():
        _unpack_debian_package(cache)
    return program


def _unpack_debian_package(cache: Path) -> None:
    downloads = cache / "download"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "-q", "prometheus"], cwd=downloads, check=True, capture_output=True)
        package = max(downloads.glob("prometheus_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, cache], check=True, capture_output=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"no Prometheus: set PROMETHEUS to the path of one (Debian's package: {error})") from error
    shutil.rmtree(downloads)


@dataclass
class Prometheus:
    """A running Prometheus and its HTTP API."""

    url: str
    process: "subprocess.Popen[bytes]"

    def get(self, path: str, **parameters: str) -> Any:
        """``data`` of an API answer."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}{query}", timeout=10) as response:
            return json.load(response)["data"]

    def stored(self, selector: str, seconds: int) -> dict[tuple[tuple[str, str], ...], list[tuple[int, float]]]:
        """Sorted labels -> (time in ms, value) of what was stored in the last seconds, without stale markers."""
        data = self.get("query", query=f"{selector}[{seconds}s]")
        return {
            tuple(sorted(series["metric"].items())): [(round(t * 1000), float(v)) for t, v in series["values"]]
            for series in data["result"]
        }


@contextmanager
def running_prometheus(folder: Path, configuration: str, port: int) -> Iterator[Prometheus]:
    """Run one with a configuration (YAML) on a port until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(configuration)
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [
                str(prometheus_program()),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--storage.remote.flush-deadline=1s",  # at its end the receiver may be gone already
            ],
            stdout=log,
            stderr=log,
        )
    running = Prometheus(f"http://127.0.0.1:{port}", process)
    try:
        _wait_until_ready(running, folder / "prometheus.log")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(running: Prometheus, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            urllib.request.urlopen(f"{running.url}/-/ready", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"Prometheus did not start: {log.read_text()[-2000:]}")
