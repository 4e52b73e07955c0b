"""Kernels that wait for each other over two cards: tenants who hold a card each do not hold each other for ever."""

from __future__ import annotations

from dataclasses import replace

import building
import pytest
from agent import make_region, make_shared_card, member_of
from contention import MEMORY_BYTES
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUIDS = ("GPU-45475055-5349-4d00-8000-000000000000", "GPU-45475055-5349-4d00-8000-000000000001")
WAIT_US_MAX = 201_000
"""What a launch waits for others, THROTTLE_WAIT_NS_MAX, and a look."""
SLICES_US = 10_000
HIGH = CardLimits(UUIDS[0], MEMORY_BYTES, priority=0)
LOW = replace(HIGH, priority=1)
HALF, SOFT = replace(HIGH, core_quota=0.5), replace(HIGH, core_quota=0.5, policy="soft")
TENANTS = {
    "each low where it waits": ((HIGH, LOW), (LOW, HIGH)),
    "quotas": ((HALF, HALF), (HALF, HALF)),
    "soft quotas": ((SOFT, SOFT), (SOFT, SOFT)),
    "one of them low": ((HIGH, HIGH), (LOW, LOW)),
}


def run(tenants: tuple[tuple[CardLimits, CardLimits], ...], model: str) -> list[dict[str, int]]:
    """What each tenant said; the first holds the first card, the second the second one."""
    with Simulation(model=model, cards=2, start=2) as sim:
        regions = []
        for number, uuid in enumerate(UUIDS):
            members = {index: member_of(cards[number]) for index, cards in enumerate(tenants)}
            make_shared_card(sim.folder / "cards", uuid, members, memory_bytes=MEMORY_BYTES)
        for index, cards in enumerate(tenants):
            rows = [replace(one, uuid=uuid, card_index=index) for one, uuid in zip(cards, UUIDS, strict=True)]
            regions.append(make_region(sim.folder / str(index), cards=rows, shared_cards_root=sim.folder / "cards"))
        program = building.client("collective", "-lcuda")
        processes = [
            sim.start([program, str(index)], hook=True, region=region.path, rank=index)
            for index, region in enumerate(regions)
        ]
        outputs = sim.wait(*processes)
        assert sim.stalls == 0
    return [{name: int(us) for name, us in (line.split() for line in output.splitlines())} for output in outputs]


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize("name", TENANTS)
def test_the_other_part_is_launched_in_time(name: str, model: str) -> None:
    for said in run(TENANTS[name], model):
        assert said["call"] <= WAIT_US_MAX
        # A card that takes turns then runs it beside the one that waits; one that does not would hang without us, too.
        assert model == "fifo" or said["done"] <= WAIT_US_MAX + SLICES_US


def test_it_had_to_wait() -> None:
    """Else the bound was never reached."""
    assert max(said["call"] for said in run(TENANTS["each low where it waits"], "timeslice")) > WAIT_US_MAX // 2
