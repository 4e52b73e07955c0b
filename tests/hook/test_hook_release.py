"""The library as it is shipped: what it needs and exports, on both machines, and that it works."""

import os
import subprocess
from pathlib import Path

import building
import check_library
import pytest

GLIBC = (2, 17)
ANY_GLIBC, NO_GLIBC = (99,), (0,)
MACHINES = ("x86_64", "aarch64")
BUILD_SECONDS_MAX = 900


def check(given: Path, expected: list[str], glibc: tuple[int, ...] = ANY_GLIBC) -> None:
    pending = set((given.parent / "pending.txt").read_text().split())
    assert check_library.wrong(given, glibc, pending) == expected


def test_the_development_build_is_clean() -> None:
    check(building.hook(), [])


def test_a_newer_glibc_is_noticed() -> None:
    problems = check_library.wrong(building.hook(), NO_GLIBC, set())
    assert any(line.startswith("needs GLIBC_2.") for line in problems), problems


def test_a_constructor_and_a_strange_export_are_noticed(tmp_path: Path) -> None:
    source = tmp_path / "spoilt.c"
    source.write_text("__attribute__((constructor)) static void early(void) {}\nvoid cudaMalloc(void) {}\n")
    library = tmp_path / "spoilt.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    problems = check_library.wrong(library, ANY_GLIBC, set())
    assert {"exports cudaMalloc", "runs 2 constructors", "does not export cuInit"} <= set(problems)


@pytest.fixture(scope="module")
def release() -> Path:
    """The folder with the build of each machine."""
    command = ["make", "-s", "-C", str(building.HOOK), "release"]
    environment = {**os.environ, "EGPU_CACHE": str(building.cache())}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return building.HOOK / "build"


@pytest.mark.end_to_end
@pytest.mark.parametrize("machine", MACHINES)
def test_the_release_needs_little(release: Path, machine: str) -> None:
    check(release / machine / "libegpu.so", [], GLIBC)


@pytest.mark.end_to_end
def test_the_release_routes(release: Path) -> None:
    program, folder = building.client("lookup", "-lcuda"), building.driver()
    library = release / os.uname().machine / "libegpu.so"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": str(library), "EGPU_REGION": ""}
    for how in ("plt", "dlsym", "proc:13000:0"):
        found = subprocess.run([program, how, "cuInit"], env=environment, check=True, capture_output=True, text=True)
        assert found.stdout == "cuInit libegpu.so\n"
