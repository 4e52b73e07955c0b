"""Containers that share one simulated card: what each of them got, read from the driver's own books."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import building
from agent import make_neighbours

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
"""Of the simulated driver's first card."""
MEMORY_BYTES = 16 << 30
WARM_UP_MS = 1000
"""The first second is not judged: costs are learned in it."""
MEASURED_MS = 4000
RUN_SECONDS_MAX = 300


@dataclass(frozen=True)
class Container:
    """One process of one container."""

    quota: float = 1.0
    kernel_us: int = 1000
    mode: Literal["plain", "graph", "cooperative", "ex"] = "plain"
    policy: Literal["hard", "soft"] = "hard"
    priority: Literal[0, 1] = 0
    wait: bool = False
    """Waits for each kernel before it submits the next one."""
    gap_us: int = 0
    from_ms: int = 0
    until_ms: int = 0
    """0: to the end."""
    hook: bool = True


@dataclass(frozen=True)
class Outcome:
    """Parts of the card's time between warm-up and end, and the latencies of those that waited, in ns."""

    shares: list[float]
    latencies_ns: list[list[int]]


def share_card(
    containers: Sequence[Container],
    *,
    model: str = "fifo",
    clock: str = "virtual",
    cuda: str = "13.0",
    measured_ms: int = MEASURED_MS,
) -> Outcome:
    """Runs the containers side by side. Raises AssertionError when one of them fails."""
    with tempfile.TemporaryDirectory() as folder:
        limits = [
            CardLimits(
                uuid=UUID, memory_quota_bytes=MEMORY_BYTES, core_quota=one.quota, policy=one.policy, priority=one.priority
            )
            for one in containers
        ]
        regions = make_neighbours(Path(folder) / "regions", limits, memory_bytes=MEMORY_BYTES)
        environment = _environment(Path(folder), model=model, clock=clock, cuda=cuda, count=len(containers))
        end_ms = WARM_UP_MS + measured_ms
        launcher = str(building.client("launcher", "-lcuda", f"-I{building.DRIVER}"))
        processes = []
        for rank, (one, region) in enumerate(zip(containers, regions, strict=True)):
            own = {**environment, "EGPU_SIM_RANK": str(rank), "EGPU_REGION": str(region.path)}
            if one.hook:
                own["LD_PRELOAD"] = str(building.hook())
            processes.append(_start([launcher, *_arguments(one, end_ms)], own))
        watcher = {**environment, "EGPU_SIM_RANK": str(len(containers)), "EGPU_REGION": f"{folder}/none"}
        observer = _start([launcher, f"observe_ms={WARM_UP_MS}", f"until_ms={end_ms}"], watcher)
        outputs = [_finish(process) for process in [*processes, observer]]
    first, last = (json.loads(line) for line in outputs[-1].splitlines())
    return Outcome(
        shares=[(last[str(one.pid)] - first[str(one.pid)]) / (last["at_ns"] - first["at_ns"]) for one in processes],
        latencies_ns=[json.loads(output)["latencies_ns"] for output in outputs[:-1]],
    )


def _environment(folder: Path, *, model: str, clock: str, cuda: str, count: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": str(building.driver(cuda)),
        "EGPU_SIM_STATE": str(folder / "state"),
        "EGPU_SIM_MODEL": model,
        "EGPU_SIM_CLOCK": clock,
        "EGPU_SIM_CUDA": cuda,
        "EGPU_SIM_START": str(count + 1),
        "EGPU_SIM_CONTEXT_MIB": "1",
    }


def _arguments(one: Container, end_ms: int) -> list[str]:
    return [
        f"kernel_us={one.kernel_us}",
        f"mode={one.mode}",
        f"wait={int(one.wait)}",
        f"gap_us={one.gap_us}",
        f"from_ms={one.from_ms}",
        f"until_ms={one.until_ms or end_ms}",
    ]


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> str:
    try:
        output, errors = process.communicate(timeout=RUN_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, f"{process.args}: {process.returncode} {errors}"
    return output
