"""The hook under the address, undefined-behaviour and thread sanitizers, in front of simulated clients."""

import subprocess
from pathlib import Path

import building
import pytest
from agent import Region, make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

MIB = 1 << 20
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
QUOTA_MIB = 2048
FLAGS = ("-lcuda", f"-I{building.DRIVER}")
ADDRESS, THREAD = "address,undefined", "thread"
OPTIONS = {
    # The driver keeps its state until the process ends, as the real one does.
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
QUOTA_SCRIPT = (
    "context alloc:1048576 pitch:100:100 managed:1048576 async:4194304 pool:1048576 vmm:4194304 array:64:64"
    " array3d:16:16:16 mipmap:64:64:3 free:0 free:1 free:2 free:3 free:4 free:5 free:6 free:7 free:8 until:67108864"
    " info total halves trim:0 module unload destroy"
)
CLIENTS = {
    "first_calls": "",
    "quota": QUOTA_SCRIPT,
    "graph_memory": "make:1:268435456 keep:2:1048576 capture:3:1048576 launch:1 launch:2 launch:3 upload:1 trim",
    "memory_threads": "",
    "launcher": "kernel_us=100 until_ms=60",
    "lookup": "self:13000:2 cuMemAlloc cuLaunchKernel cuNever cuGetProcAddress",
}
LAUNCH_MODES = ("graph", "cooperative", "ex")


@pytest.fixture
def region(tmp_path: Path) -> Region:
    limits = CardLimits(UUID, memory_quota_bytes=QUOTA_MIB * MIB, core_quota=0.3, policy="hard", priority=0)
    return make_region(tmp_path / "region", cards=[limits])


def runtime(name: str) -> str:
    """A sanitizer's own library, which has to be in front of all others."""
    command = ["gcc", f"-print-file-name=lib{name}.so"]
    return str(Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()).resolve())


def check(given: tuple[str, str, str], region: Region) -> str:
    """Runs a client to its end without a report; returns what it printed."""
    sanitizer, name, words = given
    hook = building.sanitized_hook(sanitizer)
    if sanitizer == THREAD:
        client, preload = building.client(name, *FLAGS, "-fsanitize=thread"), str(hook)
    else:
        client, preload = building.client(name, *FLAGS), f"{runtime('asan')}:{hook}"
    with Simulation(clock="virtual") as simulation:
        environment = {**OPTIONS, "LD_PRELOAD": preload}
        process = simulation.start([client, *words.split()], region=region.path, env=environment)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    return output


@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD])
@pytest.mark.parametrize("name", CLIENTS)
def test_no_report(sanitizer: str, name: str, region: Region) -> None:
    output = check((sanitizer, name, CLIENTS[name]), region)
    assert output


@pytest.mark.parametrize("sanitizer", [ADDRESS, THREAD])
@pytest.mark.parametrize("mode", LAUNCH_MODES)
def test_no_report_of_launches(sanitizer: str, mode: str, region: Region) -> None:
    assert '"launches"' in check((sanitizer, "launcher", f"{CLIENTS['launcher']} mode={mode}"), region)


def test_all_threads_are_served(region: Region) -> None:
    assert check((THREAD, "first_calls", ""), region) == "served 8\n"
