"""Fixtures every folder of tests may use."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_set import Engines
from engines_running import running
from stages import Chain

# A job started in the background of a shell ignores SIGINT, and its children inherit that; the processes under test
# must not.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """A chain in an empty folder."""
    return Chain(tmp_path)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real traces; tests that need it are skipped without it, and say so."""
    folder = os.environ.get("EGPU_TEST_DATA", "")
    if not folder:
        pytest.skip("EGPU_TEST_DATA does not name the folder of real traces")
    return Path(folder)


ENGINES = ("kafka", "flink", "hive")


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Kafka, Flink and Hive, started once for all tests; those of EGPU_TEST_ENGINES, a home of engines.py, stay up."""
    given = os.environ.get("EGPU_TEST_ENGINES", "")
    if given:
        found = Engines(Path(given))
        found.up()
        yield found
        return
    home = tmp_path_factory.mktemp("engines")
    with running(ENGINES, home=home):
        yield Engines(home)
