"""The disk shim, compiled once."""

import os
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def disk_shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Path of a library for LD_PRELOAD; see disk_shim.c for the variables it listens to."""
    source = Path(__file__).with_name("disk_shim.c")
    library = tmp_path_factory.mktemp("shim") / "disk_shim.so"
    compiler = os.environ.get("CC", "cc")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source), "-ldl"], check=True)
    return str(library)
