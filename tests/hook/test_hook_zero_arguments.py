"""Every function, called with nothing but zeros: the hook answers as the driver does, and never falls over.

It is the cheapest question that reaches each wrapper, and finds a pointer used before the driver refused it.
"""

from pathlib import Path

import building
import generate
import pytest
from agent import make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
NOT_SUPPORTED = "801"


def ask(cuda: str, library: str, names: list[str], region: Path | None) -> dict[str, str]:
    with Simulation(clock="wall", cuda=cuda) as simulation:
        program = building.client("zero_arguments")
        output = simulation.run([program, library, *names], hook=region is not None, region=region)
    return dict(line.split(" ", 1) for line in output.splitlines())


def check(given: tuple[str, str, list[str]], expected: dict[str, str], folder: Path) -> None:
    """`expected`: answers that differ on purpose."""
    cuda, library, names = given
    limits = CardLimits(UUID, memory_quota_bytes=1 << 30, core_quota=0.5, policy="hard", priority=0)
    region = make_region(folder / "region", cards=[limits])
    plain = ask(cuda, library, names, None)
    hooked = ask(cuda, library, names, region.path)
    wrong = {name: (plain[name], hooked[name]) for name in names if hooked[name] != expected.get(name, plain[name])}
    assert wrong == {}


@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_libcuda(tmp_path: Path, cuda: str) -> None:
    rows = [row for row in generate.symbols() if row.action != "PASS"]
    denied = {row.name: NOT_SUPPORTED for row in rows if row.action == "DENY"}
    check((cuda, "libcuda.so.1", [row.name for row in rows]), denied, tmp_path)


def test_libnvidia_ml(tmp_path: Path) -> None:
    check(("13.0", "libnvidia-ml.so.1", [row.name for row in generate.nvml_functions()]), {}, tmp_path)
