"""What one driver call costs with the hook and without, on the simulated driver and the wall clock.

`python tests/hook/bench.py` prints the table and writes docs/reference/hook_cost.md. Times are medians of interleaved
runs; instructions are counted by valgrind (`-` where it is not installed): a shared machine blurs times and not counts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import building
from agent import make_neighbours, make_region

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
CARD_BYTES = 16 << 30
TABLE = building.ROOT / "docs/reference/hook_cost.md"
RUN_SECONDS_MAX = 60
PAIRS = 7
ROUNDS = 400
CALLS = 64
"""Between two waits for the card."""
COUNTED_ROUNDS = (5, 25)

CALL_NAMES = {
    "launch": "kernel launch",
    "others": "launch of another kernel each time",
    "memory": "allocation and free",
    "info": "memory info",
}


@dataclass(frozen=True)
class Setting:
    """What the agent gave the container."""

    name: str
    limits: Mapping[str, Any] | None = None
    """None: a container that is not ours."""
    shared: bool = False
    """Another container, of low priority, has the card too."""


NOT_OURS = Setting("a container that is not ours")
HIGH = Setting("high priority, card shared", {"priority": 0}, shared=True)
QUOTA = Setting("quota 50 %", {"core_quota": 0.5})
SETTINGS = (
    NOT_OURS,
    Setting("memory quota alone", {}),
    HIGH,
    QUOTA,
    Setting("low priority, card shared", {"priority": 1}, shared=True),
    Setting("oversubscribed, card shared", {"priority": 1, "oversubscription": True}, shared=True),
)
GOALS_NS = {("memory", QUOTA.name): 400}
for _call in ("launch", "others"):
    GOALS_NS |= {(_call, QUOTA.name): 150, (_call, HIGH.name): 30}


def prepare(setting: Setting, folder: Path) -> Path | None:
    """The container's folder; None where it has none."""
    if setting.limits is None:
        return None
    limits = CardLimits(uuid=UUID, memory_quota_bytes=CARD_BYTES // 2, **setting.limits)
    if not setting.shared:
        return make_region(folder, cards=[limits]).path
    neighbour = CardLimits(uuid=UUID, memory_quota_bytes=CARD_BYTES // 2, priority=1)
    return make_neighbours(folder, [limits, neighbour], memory_bytes=CARD_BYTES)[0].path


def run(call: str, *, hook: bool, region: Path | None, rounds: int = ROUNDS, counted: bool = False) -> str:
    """What the client printed, or valgrind about it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "PATH": os.environ["PATH"],
            "LD_LIBRARY_PATH": str(building.driver()),
            "EGPU_SIM_STATE": f"{folder}/state",
            "EGPU_SIM_CLOCK": "wall",
            "EGPU_SIM_CALL_NS": "0",
        }
        if hook:
            environment["LD_PRELOAD"] = str(building.hook())
        if region is not None:
            environment["EGPU_REGION"] = str(region)
        command = [str(building.client("calls", "-lcuda")), f"call={call}", f"rounds={rounds}", f"calls={CALLS}"]
        if counted:
            command = [
                "valgrind",
                "--tool=cachegrind",
                "--cache-sim=no",
                f"--cachegrind-out-file={folder}/out",
                *command,
            ]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    assert result.returncode == 0, result.stderr
    return result.stderr if counted else result.stdout


def instructions(call: str, *, hook: bool, region: Path | None) -> float:
    """Of one call, with 1/CALLS of a synchronisation."""
    counts = []
    for rounds in COUNTED_ROUNDS:
        found = re.search(r"I\s+refs:\s+([\d,]+)", run(call, hook=hook, region=region, rounds=rounds, counted=True))
        assert found is not None
        counts.append(int(found[1].replace(",", "")))
    return (counts[1] - counts[0]) / ((COUNTED_ROUNDS[1] - COUNTED_ROUNDS[0]) * CALLS)


def added_ns(call: str, region: Path | None, pairs: int = PAIRS) -> tuple[float, float]:
    """Without the hook, and what the hook adds: the median of the pairs' differences."""
    plain, added = [], []
    for _ in range(pairs):
        without, with_hook = (json.loads(run(call, hook=hook, region=region))["quartile_ns"] for hook in (False, True))
        plain.append(without)
        added.append(with_hook - without)
    return statistics.median(plain), statistics.median(added)


HEAD = f"""# What a call costs with the hook

Written by `make hook-bench`: one thread, simulated driver, wall clock; of each run the lower quartile, of {PAIRS}
interleaved pairs of runs the median. A real driver's calls are slower than the simulated one's (a launch takes 2 to
5 us), so look at what is added. Instructions are of the whole call, hook and simulated driver, and include 1/{CALLS}
of a synchronisation, in which finished batches are settled; what is added to a launch includes the events of its batch.
Launches in a row ask once, the same kernel or not; oversubscribed memory asks each time. A thread that loses its
processor meanwhile finds its stream empty, and then a launch may cost +100 to +500 for a while.
Oversubscribed memory costs the simulated driver less than plain memory to allocate.

| call | container | without, ns | added, ns | goal, ns | instructions without | added | reached |
|--|--|--|--|--|--|--|--|
"""


def _line(call: str, setting: Setting, region: Path | None) -> str:
    plain_ns, extra_ns = added_ns(call, region)
    counts = ["-", "-"]
    if shutil.which("valgrind") is not None:
        plain_count = instructions(call, hook=False, region=region)
        counts = [f"{plain_count:.0f}", f"{instructions(call, hook=True, region=region) - plain_count:+.0f}"]
    goal = GOALS_NS.get((call, setting.name))
    reached = "" if goal is None else "yes" if extra_ns <= goal else "**no**"
    cells = [CALL_NAMES[call], setting.name, f"{plain_ns:.0f}", f"{extra_ns:+.0f}", "" if goal is None else f"+{goal}"]
    return f"| {' | '.join([*cells, *counts, reached])} |"


def main() -> int:
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for call in CALL_NAMES:
            for number, setting in enumerate(SETTINGS):
                lines.append(_line(call, setting, prepare(setting, Path(folder) / f"{call}-{number}")))
                print(lines[-1], flush=True)
    TABLE.write_text(HEAD + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(f"error: takes no arguments, not {sys.argv[1]}" if sys.argv[1:] else main())
