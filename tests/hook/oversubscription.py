"""Tasks whose memory does not fit the card together: what they lose, and the table of it.

`make hook-oversubscription` prints the table and writes docs/reference/hook_oversubscription.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import building
from agent import make_neighbours
from children import Child

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
"""Of the simulated driver's first card."""
CARD_MIB = 16384
SMALL_MIB = 2048
"""The same turns in less time."""
LINK_GIB_PER_SECOND = 12
"""The simulated driver's default."""
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
    host_part: float = 0
    """Of the card's memory: what the container may take of the host's; 0 is no limit."""
    container: int | None = None
    """Tasks of the same number are processes of one container; None: one of its own."""
    dies: bool = False
    """Killed half way with work on the card: no outcome is expected of it."""
    killed_ms: int = 0
    """Killed then, whatever it does: waits, moves or works. 0: never."""
    forks: int = 0
    """A child after so many kernels each; 0: none."""
    lie: str = ""
    """Not a task: it writes this into its page (attack_turns.c) until `until_ms`, without the hook."""
    seed: int = 1
    keeps: bool = False
    """Ends without giving its memory back, as most programs do."""
    checks: bool = False
    """After the first pause its memory, which was moved out, is read, copied and freed."""

    @property
    def is_killed(self) -> bool:
        return self.dies or self.killed_ms > 0


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
) -> list[Outcome]:
    """Runs the tasks side by side on the virtual clock; without the hook they use managed memory and the driver alone
    moves their pages. Raises AssertionError when one of them fails."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
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
        }
        if hook:
            common["LD_PRELOAD"] = str(building.hook())
        regions = _regions(tasks, Path(folder) / "regions", card_mib << 20)
        processes = []
        for rank, (task, region) in enumerate(zip(tasks, regions, strict=True)):
            own = {**common, "EGPU_SIM_RANK": str(rank), "EGPU_REGION": str(region)}
            if task.lie:
                own["LD_PRELOAD"] = ""
            command = [*_command(task, card_mib, region, rank), f"managed={int(not hook)}"]
            process = Child(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
        outputs = [_finish(process, dies=task.is_killed) for process, task in zip(processes, tasks, strict=True)]
        return [Outcome(**json.loads(output)) for output in outputs if output]


def _regions(tasks: Sequence[Task], folder: Path, card_bytes: int) -> list[Path]:
    """For each task the folder of its container."""
    numbers = [f"of its own {rank}" if task.container is None else task.container for rank, task in enumerate(tasks)]
    containers = list(dict.fromkeys(numbers))
    limits = [_limits(tasks[numbers.index(number)], card_bytes) for number in containers]
    regions = make_neighbours(folder, limits, memory_bytes=card_bytes)
    return [regions[containers.index(number)].path for number in numbers]


def _limits(task: Task, card_bytes: int) -> CardLimits:
    return CardLimits(
        uuid=UUID,
        memory_quota_bytes=2 * card_bytes,
        context_bytes_estimate=1 << 20,
        priority=task.priority,
        oversubscription=task.oversubscription,
        resident_bytes_min=int(task.resident_part_min * card_bytes),
        host_quota_bytes=int(task.host_part * card_bytes),
    )


def _command(task: Task, card_mib: int, region: Path, rank: int) -> list[str]:
    if task.lie:
        client = building.client("attack_turns", "-lcuda", f"-I{building.DRIVER}", f"-I{building.HOOK / 'include'}")
        page = region / "cards" / UUID / f"{rank}.page"
        return [str(client), f"page={page}", f"lie={task.lie}", f"until_ms={task.until_ms}", f"seed={task.seed}"]
    values = {"mib": int(task.part * card_mib), "kernels": task.kernels, "kernel_us": task.kernel_us}
    values |= {"pieces": task.pieces, "burst": task.burst, "pause_us": task.pause_us, "ahead": task.ahead}
    values |= {"from_ms": task.from_ms, "until_ms": task.until_ms}
    values |= {"dies": int(task.dies), "killed_ms": task.killed_ms, "forks": task.forks, "checks": int(task.checks)}
    values |= {"keeps": int(task.keeps)}
    client = building.client("paged", "-lcuda", f"-I{building.DRIVER}")
    return [str(client), *(f"{name}={value}" for name, value in values.items())]


def _finish(process: subprocess.Popen[str], *, dies: bool) -> str:
    output, errors = process.communicate(timeout=RUN_SECONDS_MAX)
    assert process.returncode == (-signal.SIGKILL if dies else 0), f"{process.args}: {process.returncode} {errors}"
    return output


def turn_taking(outcomes: Sequence[Outcome]) -> float:
    """The work done as a part of the time it took: 1 is perfect turn-taking, with nothing lost between the turns."""
    end_ns = max(one.end_ns for one in outcomes)
    start_ns = min(one.start_ns for one in outcomes)
    return sum(one.work_seconds for one in outcomes) * 1e9 / (end_ns - start_ns)


def moved_gib(outcomes: Sequence[Outcome]) -> float:
    return sum(one.moved_in_mib + one.moved_out_mib for one in outcomes) / 1024


HIGH = Task(0.6, 16_000, burst=20, pause_us=100_000, priority=0)
"""Works for 200 ms, pauses for 100: in the pauses others run."""
LOW_UNTIL_MS = 240_000
UNAIDED_LOW_PART = 0.1


@dataclass(frozen=True)
class Row:
    """A line of the table: `measure` gives what the goal is about, in percent."""

    name: str
    tasks: Sequence[Task]
    goal: str
    reached: Callable[[float, float], bool]
    """Of the measure and the GiB moved."""
    measure: Callable[[Sequence[Outcome]], float] | None = None
    """None: the work done as a part of the time, and one after another without the hook is 100."""
    unaided_part: float = 0.01
    """Of the kernels, for the driver alone, which may take a hundred times as long."""
    card_mib: int = CARD_MIB


def _slower_percent(outcomes: Sequence[Outcome]) -> float:
    pauses_seconds = outcomes[0].kernels / HIGH.burst * HIGH.pause_us / 1e6
    return 100 * (outcomes[0].seconds / (outcomes[0].work_seconds + pauses_seconds) - 1)


def _any(_value: float, _moved: float) -> bool:
    return True


def _low(part: float) -> Task:
    return Task(part, 10**7, kernel_us=2000, until_ms=LOW_UNTIL_MS)


def _worked_percent(outcomes: Sequence[Outcome]) -> float:
    return 100 * turn_taking(outcomes)


def _percent_of(alone: Sequence[Outcome]) -> Callable[[Sequence[Outcome]], float]:
    return lambda outcomes: 100 * turn_taking(outcomes) / turn_taking(alone)


ALONE_KERNELS = 2000
LARGE = Task(1.2, 2000)


def _work_part_max(task: Task) -> float:
    """Of the time, when what does not fit crosses the link once for each time the task goes through its set. Moving it
    in would cost as much, and as much again for what goes out; no order of moving changes how much is missing."""
    work_seconds = task.pieces * task.kernel_us / 1e6
    return work_seconds / (work_seconds + (task.part - 1) * CARD_MIB / 1024 / LINK_GIB_PER_SECOND)


AT_LEAST_95 = "at least 95 %"
ROWS = (
    Row("two tasks of 90 %, 300 s each", [Task(0.9, 30_000)] * 2, AT_LEAST_95, lambda value, _: value >= 95),
    Row("the same, kernels queued ahead", [Task(0.9, 30_000, ahead=4)] * 2, AT_LEAST_95, lambda value, _: value >= 95),
    Row(
        "two tasks of 90 %, kernels of 1 ms, 100 s each",
        [Task(0.9, 100_000, kernel_us=1000, pieces=64)] * 2,
        AT_LEAST_95,
        lambda value, _: value >= 95,
    ),
    Row(
        f"two tasks of 90 % of {SMALL_MIB} MiB, kernels of 50 us, 20 s each",
        [Task(0.9, 400_000, kernel_us=50, pieces=64)] * 2,
        AT_LEAST_95,
        lambda value, _: value >= 95,
        card_mib=SMALL_MIB,
    ),
    Row("three tasks of 90 %, 100 s each", [Task(0.9, 10_000)] * 3, AT_LEAST_95, lambda value, _: value >= 95),
    Row("three tasks of 40 %, 100 s each", [Task(0.4, 10_000)] * 3, AT_LEAST_95, lambda value, _: value >= 95),
    Row("two tasks of 90 %, 20 s each", [Task(0.9, 2000)] * 2, "-", _any),
    Row(
        "four tasks of 22 %: they fit",
        [Task(0.22, 500)] * 4,
        "0 GiB moved",
        lambda _, moved: moved == 0,
        unaided_part=1,
    ),
    Row(
        "high priority of 60 % beside low ones of 30, 35, 39 %",
        [HIGH, _low(0.3), _low(0.35), _low(0.39)],
        "high at most 5 % slower",
        lambda value, _: value <= 5,
        _slower_percent,
        UNAIDED_LOW_PART,
    ),
    Row(
        "the same beside 50, 60, 70 %, of which none fits",
        [HIGH, _low(0.5), _low(0.6), _low(0.7)],
        "high at most 5 % slower",
        lambda value, _: value <= 5,
        _slower_percent,
        UNAIDED_LOW_PART,
    ),
    Row(
        "one task of 120 % alone, 20 s",
        [LARGE],
        f"{100 * _work_part_max(LARGE):.1f}: all the link allows",
        lambda value, _: value >= 99 * _work_part_max(LARGE),
        _worked_percent,
        unaided_part=0.1,
    ),
)


def _fewer(task: Task, part: float) -> Task:
    return replace(task, kernels=max(10, int(task.kernels * part)), until_ms=int(task.until_ms * part))


def _line(row: Row, model: str) -> tuple[str, bool]:
    run = partial(run_tasks, model=model, card_mib=row.card_mib)
    outcomes = run(row.tasks)
    unaided = run([_fewer(task, row.unaided_part) for task in row.tasks], hook=False)
    alone = replace(row.tasks[0], kernels=min(row.tasks[0].kernels, ALONE_KERNELS))
    measure = row.measure or _percent_of(run([alone], hook=False))
    value, moved = measure(outcomes), moved_gib(outcomes)
    reached = row.reached(value, moved)
    cells = [row.name, model, row.goal, f"{value:.2f}", f"{measure(unaided):.1f}"]
    cells += [f"{100 * turn_taking(outcomes):.1f}", f"{moved:.0f}"]
    cells += [f"{max(one.wait_ns_max for one in outcomes) / 1e9:.1f}", "yes" if reached else "**no**"]
    return f"| {' | '.join(cells)} |", reached


HEAD = f"""# Oversubscription on the simulated driver

Written by `make hook-oversubscription`. The card has {CARD_MIB} MiB where nothing else is said and a link of
{LINK_GIB_PER_SECOND} GiB/s; virtual clock, CUDA 13.0. Every kernel takes 10 ms where nothing else is said (low ones
beside a high priority 2 ms) and touches an eighth of its task's memory (of 1 ms and less: a 64th), so each task goes
through all of it all the time: the hardest case. The simulated link moves one way at a time, a real one both ways. No
real GPU was seen.

- *With the hook*: how long the tasks take one after another without the hook, as a part of the time they took
  together; 100 is perfect turn-taking, nothing lost between the turns. For a high priority: how many percent longer
  it took than alone. For one task that is larger than the card: its kernels' own time as a part of the time.
- *Driver alone*: the same tasks with cuMemAllocManaged and without the hook.
- *Card used*: the kernels' own time as a part of the time, with the hook. Kernels of 50 us that are waited for one by
  one reach 95 alone and without the hook: the calls take the rest.
- *Wait*: the longest that a task waited for a kernel or burst, its turn included. Turns are 60 s here, the longest
  there are, because moving a set of 14 GiB out and in takes 2.2 s; shorter ones would lose more of the card (of 10 s:
  a fifth). Tasks that do not fit beside a busy high priority have a turn of 4 s in each 64 s, one after another.
- One task of 120 % has nobody to take turns with. What does not fit stays on the host and is read over the link each
  time; the driver alone moves all of it out and in, for it throws out what is needed next.

| tasks | card | goal | with the hook | driver alone | card used | GiB moved | wait, s | reached |
|--|--|--|--|--|--|--|--|--|
"""


def main() -> int:
    lines, missed = [], 0
    for row in ROWS:
        for model in ("fifo", "timeslice"):
            line, reached = _line(row, model)
            print(line, flush=True)
            lines.append(line)
            missed += not reached
    TABLE.write_text(HEAD + "\n".join(lines) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(f"error: takes no arguments, not {sys.argv[1]}" if sys.argv[1:] else main())
