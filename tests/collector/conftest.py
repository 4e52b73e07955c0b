"""The disk shim, compiled once; a Kafka broker, started once."""

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import engines_running
import pytest
from collector_stores import Broker


@pytest.fixture(scope="session")
def disk_shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a library for LD_PRELOAD; see disk_shim.c for the variables it listens to."""
    source = Path(__file__).with_name("disk_shim.c")
    library = tmp_path_factory.mktemp("shim") / "disk_shim.so"
    compiler = os.environ.get("CC", "cc")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source), "-ldl"], check=True)
    return str(library)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Kafka that these tests may kill."""
    home = tmp_path_factory.mktemp("kafka")
    with engines_running.running(("kafka",), home=home, kafka_sasl=True) as state:
        yield Broker(home, state)


@pytest.fixture
def topic() -> str:
    """A name that no other test has."""
    return f"samples-{uuid.uuid4().hex[:12]}"
