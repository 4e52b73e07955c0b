"""Unmodified clients of the driver, with and without the hook, on both CUDA versions."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import building
import pytest
from agent import make_region
from children import Child

from egpu_runtime.agent.region import CardLimits

MIB = 1 << 20
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
QUOTA_MIB, CARD_MIB, CONTEXT_MIB, HELD_MIB = 1024, 16384, 300, 64
SECONDS_MAX = 30

COMMON = {
    "before_init": "CUDA_ERROR_NOT_INITIALIZED",
    "without_context": "CUDA_ERROR_INVALID_CONTEXT",
    "context_mib": str(CONTEXT_MIB),
    "allocated_mib": "64",
    "copied": "True",
    "too_much": "CUDA_ERROR_OUT_OF_MEMORY",
}
BINDINGS = {
    "plain": {**COMMON, "total_mib": str(CARD_MIB), "info_total_mib": str(CARD_MIB), "gibibyte": "CUDA_SUCCESS"},
    "hooked": {
        **COMMON,
        "total_mib": str(QUOTA_MIB),
        "info_total_mib": str(QUOTA_MIB),
        "gibibyte": "CUDA_ERROR_OUT_OF_MEMORY",
    },
}
# Loaded, but not in a container of ours: nothing changes.
BINDINGS["inert"] = BINDINGS["plain"]
VERSIONS = {"12.8": "12080", "13.0": "13000"}


@dataclass
class Machine:
    """One simulated card, and a container on it."""

    folder: Path
    cuda: str
    clock: str = "virtual"

    def start(self, name: str, hook: str) -> subprocess.Popen[str]:
        return self.run([sys.executable, "-W", "error", str(building.CLIENTS / f"{name}.py")], hook)

    def run(self, command: list[str], hook: str) -> subprocess.Popen[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("EGPU_")}
        environment |= {
            "LD_LIBRARY_PATH": str(building.driver(self.cuda)),
            "EGPU_SIM_STATE": str(self.folder / "card"),
            "EGPU_SIM_CUDA": self.cuda,
            "EGPU_SIM_CLOCK": self.clock,
        }
        if hook != "plain":
            environment["LD_PRELOAD"] = str(building.hook())
        if hook == "hooked":
            limits = CardLimits(UUID, memory_quota_bytes=QUOTA_MIB * MIB, core_quota=1.0, policy="hard", priority=0)
            region = self.folder / "region"
            if not region.exists():
                make_region(region, cards=[limits])
            environment["EGPU_REGION"] = str(region)
        pipe = subprocess.PIPE
        return Child(command, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def answers(process: subprocess.Popen[str]) -> dict[str, str]:
    output, errors = process.communicate("go\n", timeout=SECONDS_MAX)
    assert (process.returncode, errors) == (0, "")
    return dict(line.split(" ", 1) for line in output.splitlines())


def check(given: dict[str, str], expected: dict[str, str]) -> None:
    assert {name: given.get(name) for name in expected} == expected


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("hook", BINDINGS)
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_cuda_bindings(tmp_path: Path, cuda: str, hook: str, clock: str) -> None:
    with Machine(tmp_path, cuda, clock).start("bindings", hook) as process:
        given = answers(process)
    check(given, {**BINDINGS[hook], "version": VERSIONS[cuda]})
    assert 5.0 <= float(given["spin_ms"]) <= (5.1 if clock == "virtual" else 50), given["spin_ms"]


@pytest.mark.parametrize("hook", BINDINGS)
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_cuda_core(tmp_path: Path, cuda: str, hook: str) -> None:
    """Stream-ordered memory and cuLaunchKernelEx, which cuda-bindings' own test does not use."""
    command = [sys.executable, str(building.CLIENTS / "core.py"), str(QUOTA_MIB)]
    with Machine(tmp_path, cuda).run(command, hook) as process:
        given = answers(process)
    large = "CUDA_ERROR_OUT_OF_MEMORY" if hook == "hooked" else "allocated"
    check(given, {"allocated_mib": "64", "large": large, "spin_ms": "5.0"})


NVML = {
    "before_init": "NVMLError_Uninitialized",
    "count": "1",
    "name": "Simulated GPU",
    "uuid": UUID,
    "by_uuid": "0",
    "bus": "00000000:10:00.0",
    "by_bus": "0",
    "same_in_v2": "True",
    "graphics": "[]",
    "busy": "True",
    "bad_index": "NVMLError_InvalidArgument",
    "mig": "NVMLError_NotSupported",
    "after_shutdown": "NVMLError_Uninitialized",
}


@pytest.mark.parametrize("hook", ["plain", "inert", "hooked"])
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
def test_nvidia_ml_py(tmp_path: Path, cuda: str, hook: str) -> None:
    """A container that holds 64 MiB beside a stranger that holds as much: the hook shows the first alone."""
    machine = Machine(tmp_path, cuda, "wall")
    with ExitStack() as stack:
        reader = stack.enter_context(machine.start("nvml", hook))
        own = stack.enter_context(hold(machine, hook))
        stranger = stack.enter_context(hold(machine, "plain"))
        given = answers(reader)
        pids = [own.pid] if hook == "hooked" else [own.pid, stranger.pid]
    total = QUOTA_MIB if hook == "hooked" else CARD_MIB
    processes = str([(pid, CONTEXT_MIB + HELD_MIB) for pid in pids])
    used = str((CONTEXT_MIB + HELD_MIB) * len(pids))
    check(
        given, {**NVML, "total_mib": str(total), "used_mib": used, "processes_v2": processes, "processes_v3": processes}
    )
    assert given["cuda"] == VERSIONS[cuda]


@contextmanager
def hold(machine: Machine, hook: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a context and 64 MiB, which ends in the end."""
    program = building.client("quota", "-lcuda", cuda=machine.cuda)
    with machine.run([str(program), "context", f"alloc:{HELD_MIB * MIB}", "wait"], hook) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(4)]
            assert lines == ["init 0\n", "context 0\n", "alloc 0\n", ".\n"]
            yield process
        finally:
            process.communicate("", timeout=SECONDS_MAX)
