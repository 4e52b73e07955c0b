"""Memory that graphs allocate counts against the quota before a launch may use it.

Quota 1,024 MiB, of which a context takes 300; numbers after a word are CUresult codes, 2 is out of memory.
"""

import os
import re
import subprocess
from pathlib import Path

import building
import pytest
from agent import make_region

from egpu_runtime.agent.region import CardLimits

MIB = 1 << 20
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
QUOTA_MIB = 1024
RUN_SECONDS_MAX = 20


def check(given: tuple[Path, str, str, str], expected: str) -> dict[str, int]:
    """Runs a script under the hook; returns what is charged by class while it lived, which is nothing when it ended."""
    folder, cuda, model, script = given
    limits = CardLimits(UUID, memory_quota_bytes=QUOTA_MIB * MIB, core_quota=1.0, policy="hard", priority=0)
    region = make_region(folder / "region", cards=[limits])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EGPU_")} | {
        "LD_LIBRARY_PATH": str(building.driver(cuda)),
        "LD_PRELOAD": str(building.hook()),
        "EGPU_SIM_STATE": str(folder / "card"),
        "EGPU_SIM_CUDA": cuda,
        "EGPU_SIM_MODEL": model,
        "EGPU_SIM_CLOCK": "virtual",
        "EGPU_REGION": str(region.path),
    }
    words = re.sub(r"(\d+)M", lambda found: str(int(found[1]) * MIB), script).split()
    program = building.client("graph_memory", "-lcuda", cuda=cuda)
    result = subprocess.run(
        [program, *words], env=environment, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.replace("\n", " ").strip() == expected
    return region.usage().cards[0].charged_bytes_by_class


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        # Nothing is charged before the launch; afterwards the reserve stays until it is trimmed.
        (
            "make:1:256M used launch:1 used launch:1 used trim used",
            "make 0 used 300 launch 0 used 556 launch 0 used 556 trim 0 used 300",
        ),
        # Two graphs one after the other share the reserve.
        ("make:1:400M make:2:400M launch:1 launch:2 used", "make 0 make 0 launch 0 launch 0 used 700"),
        # What is kept is not shared.
        ("keep:1:400M keep:2:400M launch:1 launch:2 used", "keep 0 keep 0 launch 0 launch 2 used 700"),
        ("keep:1:400M keep:2:400M launch:1 free:1 launch:2 used", "keep 0 keep 0 launch 0 free 0 launch 0 used 700"),
        # Over the quota alone, or because of plain memory, and the other way round.
        ("make:1:800M launch:1 used", "make 0 launch 2 used 300"),
        ("alloc:512M make:1:256M launch:1 used", "alloc 0 make 0 launch 2 used 812"),
        ("make:1:512M launch:1 alloc:512M trim alloc:512M", "make 0 launch 0 alloc 2 trim 0 alloc 0"),
        ("capture:1:256M used launch:1 used", "capture 0 used 300 launch 0 used 556"),
        ("make:1:800M destroy:1 make:2:2M launch:2 used", "make 0 destroy 0 make 0 launch 0 used 302"),
    ],
)
def test_graph_memory(tmp_path: Path, cuda: str, model: str, script: str, expected: str) -> None:
    left = check((tmp_path, cuda, model, script), expected)
    assert {name: value for name, value in left.items() if value} == {}
