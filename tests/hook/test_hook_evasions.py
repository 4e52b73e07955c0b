"""Ways to get work past the quota that need no lie: the driver's books say what was really used of the card."""

from __future__ import annotations

import json
from pathlib import Path

import building
import pytest
from agent import make_neighbours, make_region
from contention import MEMORY_BYTES, launcher_program
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
FLAGS = ("-lcuda", f"-I{building.DRIVER}")
START_NS = 10**9
SECONDS_MAX = 50


def check(given: tuple[str, str], expected: float, *, quota: float = 0.1, error: float = 0.02) -> None:
    """given: a client and its words; expected: its part of the card."""
    client, words = given
    program: Path = building.client(client, *FLAGS)
    with Simulation(clock="virtual", env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        limits = CardLimits(uuid=UUID, memory_quota_bytes=16 << 30, core_quota=quota)
        region = make_region(sim.folder / "region", cards=[limits])
        sim.run([program, *words.split()], hook=True, region=region.path, seconds=SECONDS_MAX)
        share = sim.card().busy_ns / (sim.now_ns - START_NS)
    assert share == pytest.approx(expected, abs=error)


@pytest.mark.parametrize(
    "way",
    [
        "graphs_set",
        "graphs_new",
        "contexts",
        "streams_die",
        "many_streams",
        "small_fills",
        "host_functions",
        "capture_left_open",
        "held_back",
        "threads",
    ],
)
def test_work_of_all_shapes_is_paid(way: str) -> None:
    check(("attack_evade", f"how={way} until_ms=1500"), 0.1)


def test_threads_that_share_a_stream_pay() -> None:
    """One thread's launches are no other container's time, and none passes beside what is measured."""
    check(("attack_evade", "how=one_stream threads=4 until_ms=1000"), 0.9, quota=0.9, error=0.03)


@pytest.mark.parametrize("end", ["wait", "exit", "kill"])
def test_who_is_gone_has_paid(end: str) -> None:
    """A process for each kernel of 100 ms, which nobody has seen before."""
    check(("attack_short", f"end={end} kernel_us=100000 until_ms=3000"), 0.1, error=0.03)


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_that_share_a_stream_take_nothing_of_a_neighbour(threads: int) -> None:
    """A launch that another thread has counted and not yet made lies behind the batch's end: kernels looked short."""
    words = f"how=one_stream threads={threads} until_ms=2000"
    program: Path = building.client("attack_evade", *FLAGS)
    limits = CardLimits(uuid=UUID, memory_quota_bytes=MEMORY_BYTES, core_quota=0.5)
    with Simulation(clock="virtual", env={"EGPU_SIM_CONTEXT_MIB": "1"}, start=3) as sim:
        regions = make_neighbours(sim.folder / "regions", [limits, limits], memory_bytes=MEMORY_BYTES)
        sim.start([program, *words.split()], hook=True, region=regions[0].path, rank=0)
        honest = sim.start([launcher_program(), "until_ms=2000"], hook=True, region=regions[1].path, rank=1)
        observer = sim.start([launcher_program(), "observe_ms=500", "until_ms=2000"], rank=2)
        first, last = (json.loads(line) for line in sim.wait(observer, seconds=SECONDS_MAX)[0].splitlines())
    passed_ns = last["at_ns"] - first["at_ns"]
    assert (last[str(honest.pid)] - first[str(honest.pid)]) / passed_ns == pytest.approx(0.5, abs=0.02)
