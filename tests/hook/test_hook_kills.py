"""Processes under the hook that are killed at any instruction of all they do: launches, graphs, memory, host functions.

A container is killed again and again beside a neighbour. Afterwards nothing of the dead is charged or on the card, the
neighbour has come to its end, and the next process of the container is served as the first one was. What they used of
the card until then is paid by those who come after them.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

import building
import pytest
from agent import make_neighbours, make_region
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
QUOTA = 0.1
ERROR = 0.03
START_NS = 10**9
"""Of the virtual clock: nobody launches before."""


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


@dataclass(frozen=True)
class Lanes:
    """Each starts the next process when the last one has killed itself, in the middle of its first kernel."""

    count: int
    live_ms: int
    kernel_ms: int = 2000
    model: str = "fifo"
    until_ms: int = 60_000


def check_share(given: Lanes, least: float) -> None:
    """least: of the card; the most is the quota."""
    client = building.client("attack_short", "-lcuda", f"-I{building.DRIVER}")
    words = [
        f"lanes={given.count}",
        f"live_us={given.live_ms * 1000}",
        f"kernel_us={given.kernel_ms * 1000}",
        f"until_ms={given.until_ms}",
    ]
    with Simulation(clock="virtual", model=given.model, env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        region = make_region(sim.folder / "region", cards=[CardLimits(UUID, CARD_BYTES, core_quota=QUOTA)])
        sim.run([client, "end=kill", *words], hook=True, region=region.path, seconds=RUN_SECONDS_MAX)
        share = sim.card().busy_ns / (sim.now_ns - START_NS)
    assert least <= share <= QUOTA + ERROR


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize(("count", "live_ms"), [(1, 1900), (1, 1000), (3, 1900)])
def test_killed_in_a_long_kernel(count: int, live_ms: int, model: str) -> None:
    check_share(Lanes(count, live_ms, model=model), QUOTA / 2)


@pytest.mark.end_to_end
@pytest.mark.parametrize("kernel_ms", [2000, 5000])
@pytest.mark.parametrize("live_ms", [300, 1000, 4000])
def test_many_killed_in_long_kernels(live_ms: int, kernel_ms: int) -> None:
    check_share(Lanes(10, live_ms, kernel_ms), QUOTA / 2)


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
