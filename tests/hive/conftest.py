"""One Hive for the session: in another time zone, asking for a password, over folders that the tests write."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hive_process import Command, free_port_base

TESTS = Path(__file__).resolve().parents[1]
for folder in ("pipeline", "advisor"):
    sys.path.append(str(TESTS / folder))

from pipeline_fleet import fleet  # noqa: E402
from pipeline_log import append  # noqa: E402

from pipeline.warehouse_hive import HiveServer  # noqa: E402

ENGINES = TESTS.parent / "deploy" / "engines" / "engines.py"
UP_SECONDS_MAX = 900.0
"""The first start on a machine downloads and installs."""

RECEIVED_MS = 1_767_225_600_000 + 40 * 3_600_000


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What runs where; Asia/Tokyo, so that a time read in the server's own zone would be nine hours off."""
    home = tmp_path_factory.mktemp("hive-engines")

    def run(*arguments: str) -> None:
        words = [sys.executable, str(ENGINES), *arguments, "--home", str(home)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=UP_SECONDS_MAX, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        run(
            "up",
            "--only",
            "hive",
            "--timezone",
            "Asia/Tokyo",
            "--hive-auth",
            "CUSTOM",
            "--port-base",
            str(free_port_base()),
        )
        yield json.loads((home / "engines.json").read_text())
    finally:
        run("wipe")


@pytest.fixture(scope="session")
def hive_url(engines: dict[str, Any]) -> Callable[[str], str]:
    """``hive_url("name")``: the URL of a database of that name, made if need be."""

    def url(database: str) -> str:
        start, found, rest = engines["hive"]["url"].partition("/default")
        assert found
        with HiveServer(start + found + rest) as server:
            server.execute(f"CREATE DATABASE IF NOT EXISTS {database}")
        return f"{start}/{database}{rest}"

    return url


@pytest.fixture(scope="session")
def command() -> Command:
    """``command("pipeline", "report", ...)``: the real process, to its end."""

    def run_command(*words: str | Path) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", *map(str, words)]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)

    return run_command


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A warehouse folder made by the pipeline: five hours over midnight of a small fleet."""
    home = tmp_path_factory.mktemp("hive-folder")
    samples = fleet(7, hours=5)
    append(home / "log", [samples[at : at + 400] for at in range(0, len(samples), 400)], received_ms=RECEIVED_MS)
    done = command("pipeline", "run", "--log", home / "log", "--warehouse", home / "warehouse")
    assert done.returncode == 0, done
    return home / "warehouse"


@pytest.fixture(scope="session")
def database(hive_url: Callable[[str], str], folder: Path, command: Command) -> str:
    """URL of a database whose tables lie over that folder."""
    url = hive_url("reports")
    for _ in range(2):
        done = command("pipeline", "tables", "--hive", url, "--warehouse", folder)
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "container_usage_5m: 5 partitions\ngpu_usage_5m: 5 partitions\nworkload_profile_1d: 2 partitions" in (
            done.stdout
        )
    return url
