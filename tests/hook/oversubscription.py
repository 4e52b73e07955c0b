"""Tasks whose memory does not fit the card together: what they lose, and the table of it.

`python tests/hook/oversubscription.py` prints the table and writes docs/reference/hook_oversubscription.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import building
from agent import make_neighbours

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
"""Of the simulated driver's first card."""
CARD_MIB = 16384
RUN_SECONDS_MAX = 300
TABLE = building.ROOT / "docs/reference/hook_oversubscription.md"


@dataclass(frozen=True)
class Task:
    """One process of one container. Its kernels go through its memory piece by piece."""

    part: float
    """Of the card's memory."""
    kernels: int
    kernel_us: int = 10_000
    pieces: int = 8
    burst: int = 1
    pause_us: int = 0
    ahead: int = 1
    from_ms: int = 0
    until_ms: int = 0
    priority: Literal[0, 1] = 1
    oversubscription: bool = True
    resident_part_min: float = 0


@dataclass(frozen=True)
class Outcome:
    start_ns: int
    end_ns: int
    kernels: int
    kernel_us: int
    wait_ns_max: int
    free_mib: int
    total_mib: int
    moved_in_mib: int
    moved_out_mib: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def work_seconds(self) -> float:
        return self.kernels * self.kernel_us / 1e6


def run_tasks(
    tasks: Sequence[Task],
    *,
    hook: bool = True,
    model: str = "fifo",
    cuda: str = "13.0",
    card_mib: int = CARD_MIB,
    environment: Mapping[str, str] | None = None,
) -> list[Outcome]:
    """Runs the tasks side by side on the virtual clock; without the hook they use managed memory and the driver alone
    moves their pages. Raises AssertionError when one of them fails."""
    with tempfile.TemporaryDirectory() as folder:
        limits = [_limits(task, card_mib << 20) for task in tasks]
        regions = make_neighbours(Path(folder) / "regions", limits, memory_bytes=card_mib << 20)
        client = str(building.client("paged", "-lcuda", f"-I{building.DRIVER}"))
        common = {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(building.driver(cuda)),
            "EGPU_SIM_STATE": f"{folder}/state",
            "EGPU_SIM_MODEL": model,
            "EGPU_SIM_CLOCK": "virtual",
            "EGPU_SIM_CUDA": cuda,
            "EGPU_SIM_MEMORY_MIB": str(card_mib + len(tasks)),
            "EGPU_SIM_START": str(len(tasks)),
            "EGPU_SIM_CONTEXT_MIB": "1",
            **(environment or {}),
        }
        processes = []
        for rank, (task, region) in enumerate(zip(tasks, regions, strict=True)):
            own = {**common, "EGPU_SIM_RANK": str(rank), "EGPU_REGION": str(region.path)}
            if hook:
                own["LD_PRELOAD"] = str(building.hook())
            command = [client, *_arguments(task, card_mib), f"managed={int(not hook)}"]
            processes.append(
                subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
        return [Outcome(**json.loads(_finish(process))) for process in processes]


def _limits(task: Task, card_bytes: int) -> CardLimits:
    return CardLimits(
        uuid=UUID,
        memory_quota_bytes=2 * card_bytes,
        context_bytes_estimate=1 << 20,
        priority=task.priority,
        oversubscription=task.oversubscription,
        resident_bytes_min=int(task.resident_part_min * card_bytes),
    )


def _arguments(task: Task, card_mib: int) -> list[str]:
    values = {"mib": int(task.part * card_mib), "kernels": task.kernels, "kernel_us": task.kernel_us}
    values |= {"pieces": task.pieces, "burst": task.burst, "pause_us": task.pause_us, "ahead": task.ahead}
    values |= {"from_ms": task.from_ms, "until_ms": task.until_ms}
    return [f"{name}={value}" for name, value in values.items()]


def _finish(process: subprocess.Popen[str]) -> str:
    try:
        output, errors = process.communicate(timeout=RUN_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, f"{process.args}: {process.returncode} {errors}"
    return output


def turn_taking(outcomes: Sequence[Outcome]) -> float:
    """The work done as a part of the time it took: 1 is perfect turn-taking, with nothing lost between the turns."""
    end_ns = max(one.end_ns for one in outcomes)
    start_ns = min(one.start_ns for one in outcomes)
    return sum(one.work_seconds for one in outcomes) * 1e9 / (end_ns - start_ns)


if __name__ == "__main__":
    for line in run_tasks([Task(0.9, 200), Task(0.9, 200)], card_mib=2048):
        print(line, file=sys.stdout)
