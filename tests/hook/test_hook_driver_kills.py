"""Processes of the simulated driver that die at any instruction, come by the hundred, or are forked: nobody stalls, and
nothing of the dead stays on the card."""

import random
import time

import building
import pytest
from simulation import Simulation

CLOCKS = ("virtual", "wall")
LOOK_SECONDS_MAX = 10.0
"""A dead holder of the clock is found within a few looks of 50 ms; the rest is room for a busy machine."""


def victim(rng: random.Random, milliseconds: int) -> list[str]:
    words = [
        f"flood:1:{rng.choice([10, 300])}:{milliseconds}",
        f"host:1:{rng.choice([0, 50])}",
        "sync:1",
        "record:1:1",
        "waitevent:2:1",
    ]
    return [str(building.client("time_script", "-lcuda")), "open:0", *words * 20]


def check(given: tuple[str, str, int], expected: int) -> None:
    """given: clock, model, seed. expected: processes that end well, among as many that are killed."""
    clock, model, seed = given
    rng = random.Random(seed)
    milliseconds = 100 if clock == "virtual" else 20
    with Simulation(clock=clock, model=model) as sim:
        victims = [sim.start(victim(rng, milliseconds)) for _ in range(expected)]
        words = ["open:0", f"flood:1:100:{milliseconds}", "host:1:5", "sync:1"]
        survivors = [sim.start([victims[0].args[0], *words]) for _ in range(expected)]  # type: ignore[index]
        time.sleep(rng.random() * 0.05)
        for process in victims:
            sim.kill(process)
        sim.wait(*survivors, seconds=LOOK_SECONDS_MAX)
        # A late comer finds an empty card. Who asks for the memory looks for the dead, however short ago others did.
        sim.run([victims[0].args[0], "open:0", "launch:1:10", "sync:1"])  # type: ignore[index]
        sim.run([building.client("quota", "-lcuda"), "context", "info"])
        card = sim.card()
        assert [share for share in card.processes.values() if share.alive or share.bytes] == []
        assert card.memory_used_bytes == 0
        assert sim.queues_consistent()


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize("clock", CLOCKS)
def test_kill(clock: str, model: str) -> None:
    for seed in range(2):
        check((clock, model, seed), 2)


@pytest.mark.end_to_end
@pytest.mark.parametrize("clock", CLOCKS)
def test_kill_many_times(clock: str) -> None:
    for seed in range(100, 160):
        check((clock, random.Random(seed).choice(["fifo", "timeslice"]), seed), 3)


@pytest.mark.parametrize(("count", "seconds"), [(50, 10), pytest.param(1000, 60, marks=pytest.mark.end_to_end)])
def test_many_processes_share_a_card(count: int, seconds: float) -> None:
    program = building.client("time_script", "-lcuda")
    with Simulation(start=count, memory_mib=1 << 20, model="timeslice") as sim:
        clients = [sim.start([program, "open:0", "launch:1:1000:3", "sync:1"], rank=rank) for rank in range(count)]
        sim.wait(*clients, seconds=seconds)
        card = sim.card()
        assert [card.rank(rank).busy_ns for rank in range(count)] == [3_000_000] * count
        assert sim.stalls == 0
