"""The simulated libnvidia-ml agrees with the simulated driver: memory, processes, how busy a card was."""

import re
from collections.abc import Iterator

import building
import pytest
from simulation import Simulation

MIB = 1 << 20


@pytest.fixture(params=building.CUDA_VERSIONS)
def machine(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(clock="virtual", cuda=request.param, memory_mib=4096) as simulation:
        yield simulation


def check(given: tuple[Simulation, str], expected: str) -> None:
    """One client's answers. A context takes 300 MiB."""
    machine, script = given
    words = re.sub(r"(\d+)M", lambda found: str(int(found[1]) * MIB), script).split()
    program = building.client("nvml_words", "-lcuda", "-lnvidia-ml")
    assert re.sub(r" *\n *", "; ", machine.run([program, *words]).strip()) == expected


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("memory:2 alloc:100M memory:2", "memory 0 4096 300 3796; alloc 0; memory 0 4096 400 3696"),
        ("memory:1 memory:3", "memory 25; memory 25"),
        ("processes:1:8 processes:2:8 processes:3:1", "; ".join(["processes 0 1 self:300"] * 3)),
        ("processes:3:0 processes:1:0", "processes 7 1; processes 7 1"),
        ("details:1 details:2", "details 0 self:300; details 25"),
        ("name:64 name:13 name:14", "name 0; name 7; name 0"),
    ],
)
def test_memory_and_who_holds_it(machine: Simulation, script: str, expected: str) -> None:
    check((machine, script), expected)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        # Half a second of work, half a second of rest; then a second of rest.
        ("rates spin:500000 sleep:500000 rates", "rates 0 0; spin 0; sleep; rates 0 50"),
        ("spin:200000 sleep:800000 rates sleep:1000000 rates", "spin 0; sleep; rates 0 20; sleep; rates 0 0"),
        ("spin:250000 sleep:750000 busy:8", "spin 0; sleep; busy 0 1 self:25"),
        ("spin:250000 sleep:750000 busies:1 busies:2", "spin 0; sleep; busies 0 self:25; busies 25"),
        ("busy:8", "busy 6 0"),
        ("self", "self 0 nvml_words"),
        ("spin:1000 busy:0", "spin 0; busy 7 1"),
        ("watts spin:1000 watts", "watts 0 68; spin 0; watts 0 68"),
    ],
)
def test_how_busy_it_was(machine: Simulation, script: str, expected: str) -> None:
    check((machine, script), expected)
