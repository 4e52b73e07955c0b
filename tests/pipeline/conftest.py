"""Runs of the pipeline on real folders, and what is in the tables afterwards."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from engines_running import running
from pipeline_topic import make_topic, settings_of

from egpu_runtime.contract.configuration import load
from pipeline.contract.tables import DATA_FILE
from pipeline.run import Order, run_pipeline
from pipeline.settings import PipelineSettings
from pipeline.work import Summary

ROWS = ("container_usage_5m", "gpu_usage_5m", "workload_profile_1d")
Rows = dict[str, list[dict[str, object]]]


def run_in_process(folder: Path, warehouse: str = "warehouse", **given: object) -> Summary:
    """Run to the log's end in this process."""
    settings = load(PipelineSettings, file_text="", overrides={**settings_of(folder), **given})
    order = Order(folder / "log", folder / warehouse)
    return run_pipeline(order, settings, stop=threading.Event(), progress=lambda _: None)


def read_rows(folder: Path, warehouse: str = "warehouse") -> Rows:
    """All rows of the three tables, in file order."""
    found: Rows = {}
    for table in ROWS:
        files = sorted((folder / warehouse / table).rglob(DATA_FILE))
        found[table] = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    return found


@pytest.fixture(scope="session")
def kafka() -> Iterator[dict[str, Any]]:
    """Address and process of a real broker."""
    with running(only=("kafka",)) as state:
        yield state["kafka"]


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.end_to_end)])
def any_log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The log of the test's folder: a folder of files, or a topic of three partitions on a real broker."""
    if request.param == "kafka":
        make_topic(tmp_path, request.getfixturevalue("kafka")["bootstrap"])
    return str(request.param)


@pytest.fixture(scope="session")
def run_log() -> Callable[..., Summary]:
    return run_in_process


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., Rows]:
    return read_rows


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``command("run", "--log", ...)``: the real process, to its end."""

    def run_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    return run_command
