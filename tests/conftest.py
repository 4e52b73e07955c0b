"""Fixtures every folder of tests may use."""

import os
import signal
from pathlib import Path

import pytest
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
