"""Threads that wait side by side: each gets its turn, no wait is without end, and none needs much of a processor."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import building
import pytest
from agent import make_neighbours
from contention import MEMORY_BYTES, UUID, launcher_program
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

RUN_SECONDS_MAX = 20
THREADS = 16
HIGH_US = 1000
PATIENCE_MS = 220
"""A launch waits for others so long (THROTTLE_WAIT_NS_MAX, and THROTTLE_SLICE_NS_MAX until it looks) ..."""
OWN_PATIENCE_MS = 3200
"""... and for own work that turns out to be long (THROTTLE_OWN_NS_MAX)."""
SETTLED_SECONDS = 0.5
MEASURED_SECONDS = 1.0
UNTIL_MS = 3000


@dataclass(frozen=True)
class Outcome:
    launches: list[int]
    longest_ms: float


def program() -> Path:
    return building.client("waiting_threads", "-lcuda", f"-I{building.DRIVER}")


def limits(quota: float, priority: Literal[0, 1]) -> CardLimits:
    return CardLimits(uuid=UUID, memory_quota_bytes=MEMORY_BYTES, core_quota=quota, priority=priority)


def beside_high(words: str, *, model: str) -> Outcome:
    """Low priority beside a flood of high priority without a quota."""
    with Simulation(model=model, env={"EGPU_SIM_CONTEXT_MIB": "1"}, start=2) as sim:
        regions = make_neighbours(sim.folder / "regions", [limits(1.0, 1), limits(1.0, 0)], memory_bytes=MEMORY_BYTES)
        high: list[str | Path] = [launcher_program(), f"kernel_us={HIGH_US}", f"until_ms={1000 + 2 * UNTIL_MS}"]
        sim.start(high, hook=True, region=regions[1].path, rank=1)
        words_of: list[str | Path] = [program(), *words.split(), f"until_ms={UNTIL_MS}"]
        low = sim.start(words_of, hook=True, region=regions[0].path, rank=0)
        said = json.loads(sim.wait(low, seconds=RUN_SECONDS_MAX)[0])
        assert sim.stalls == 0, sim.summary()
    return Outcome(said["launches"], said["longest_ns"] / 1e6)


def check(given: tuple[str, float], expected: float) -> None:
    """given: words of the client and its quota; expected: no call takes longer, in ms, and none gets little."""
    words, quota = given
    with Simulation(env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        (region,) = make_neighbours(sim.folder / "regions", [limits(quota, 0)], memory_bytes=MEMORY_BYTES)
        said = json.loads(sim.run([program(), *words.split()], hook=True, region=region.path))
    assert said["longest_ns"] / 1e6 <= expected
    assert min(said["launches"]) >= 0.25 * max(said["launches"])


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
def test_new_kernels_beside_a_flood_go_on(model: str) -> None:
    """Ever new kernels of 16 threads. On `timeslice` each is on the card at once, so a launch waits for high priority
    alone; on `fifo` it lies behind a second of high's kernels, and the next ones wait for it."""
    longest_ms = PATIENCE_MS if model == "timeslice" else OWN_PATIENCE_MS
    outcome = beside_high(f"threads={THREADS} new=1", model=model)
    assert outcome.longest_ms <= longest_ms * 1.05
    assert min(outcome.launches) >= UNTIL_MS / longest_ms * 0.9


@pytest.mark.parametrize("words", ["kernel_us=200 wait=1", "kernel_us=200", "kernel_us=2000 wait=1 threads=4"])
def test_every_thread_gets_its_part_of_a_quota(words: str) -> None:
    """A wait for tokens ends for the thread that has waited longest."""
    check((words, 0.3), 50)


@pytest.mark.parametrize(("words", "expected"), [("new=1", 0.25), ("wait=1", 0.25), ("threads=1", 0.08)])
def test_waiting_costs_no_processor(words: str, expected: float) -> None:
    """expected: at most that part of a processor on the wall's clock, for low priority beside a flood of high priority.
    Sixteen threads took a whole one before one of them looked out for the others, and one alone took a tenth."""
    with Simulation(clock="wall", env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        regions = make_neighbours(sim.folder / "regions", [limits(1.0, 1), limits(1.0, 0)], memory_bytes=MEMORY_BYTES)
        forever = "until_ms=1000000"
        sim.start([launcher_program(), f"kernel_us={HIGH_US}", forever], hook=True, region=regions[1].path)
        low = sim.start([program(), *words.split(), forever], hook=True, region=regions[0].path)
        time.sleep(SETTLED_SECONDS)
        before = processor_seconds(low.pid)
        time.sleep(MEASURED_SECONDS)
        assert processor_seconds(low.pid) - before <= expected * MEASURED_SECONDS
        (slot,) = regions[0].usage().slots
        assert slot.pid == low.pid


def processor_seconds(pid: int) -> float:
    """To the nanosecond; /proc/PID/stat counts in hundredths of a second."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
