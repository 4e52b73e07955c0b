"""Processes under the hook that are killed at any instruction of all they do: launches, graphs, memory, host functions.

A container is killed again and again beside a neighbour. Afterwards nothing of the dead is charged or on the card, the
neighbour has come to its end, and the container's next process is served as the first one was.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import building
import pytest
from agent import make_neighbours
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
CARD_BYTES = 16384 << 20
QUOTA_BYTES = 2048 << 20
CONTEXT_BYTES = 300 << 20
VICTIMS = 3
MOMENT_SECONDS_MAX = 0.08
"""Start, first calls and steady work of a victim all lie within."""
FOREVER = "1000000"
RUN_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Loop:
    seed: int
    clock: str
    model: str = "fifo"
    cuda: str = "13.0"
    oversubscription: bool = False


def check(given: Loop, expected: int) -> None:
    """expected: how many processes are killed."""
    chance = random.Random(given.seed)
    client = building.client("thread_churn", "-lcuda", "-lnvidia-ml", f"-I{building.DRIVER}")
    with Simulation(clock=given.clock, model=given.model, cuda=given.cuda) as sim:
        limits = [
            CardLimits(UUID, memory_quota_bytes=QUOTA_BYTES, core_quota=part, oversubscription=given.oversubscription)
            for part in (0.5, 0.4)
        ]
        own, neighbour = make_neighbours(sim.folder / "regions", limits, memory_bytes=CARD_BYTES)
        survivor = sim.start([client, "2", "40"], hook=True, region=neighbour.path)
        victims = [sim.start([client, "2", FOREVER], hook=True, region=own.path) for _ in range(VICTIMS)]
        for _ in range(expected):
            place = chance.randrange(VICTIMS)
            time.sleep(chance.random() * MOMENT_SECONDS_MAX)
            assert victims[place].poll() is None, victims[place].communicate()
            sim.kill(victims[place])
            victims[place] = sim.start([client, "2", FOREVER], hook=True, region=own.path)
        for victim in victims:
            sim.kill(victim)
        assert sim.wait(survivor, seconds=RUN_SECONDS_MAX) == ["left 0\n"]
        # The dead are found by the first who needs their share, or a while later; the neighbour has none.
        words = ["context", f"alloc:{QUOTA_BYTES - CONTEXT_BYTES}", "free:0"]
        said = sim.run([building.client("quota", "-lcuda"), *words], hook=True, region=own.path)
        assert said.splitlines() == ["init 0", "context 0", "alloc 0", "free 0"]
        assert sim.run([client, "2", "3"], hook=True, region=own.path, seconds=RUN_SECONDS_MAX) == "left 0\n"
        for region in (own, neighbour):
            usage = region.usage()
            assert (usage.cards[0].charged_bytes, usage.slots) == (0, [])
        assert sim.card().memory_used_bytes == 0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("clock", "cuda"), [("virtual", "13.0"), ("wall", "12.8")])
def test_killed_at_any_instruction(clock: str, cuda: str, seed: int) -> None:
    check(Loop(seed, clock, cuda=cuda), 8)


def test_killed_while_memory_is_oversubscribed() -> None:
    check(Loop(7, "virtual", "timeslice", oversubscription=True), 8)


@pytest.mark.end_to_end
@pytest.mark.parametrize("seed", range(100, 108))
def test_killed_at_any_instruction_for_long(seed: int) -> None:
    chance = random.Random(seed)
    loop = Loop(seed, chance.choice(("virtual", "wall")), chance.choice(("fifo", "timeslice")))
    check(loop, 60)
