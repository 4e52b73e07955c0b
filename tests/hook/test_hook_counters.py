"""What the files of a container say of it, word by word, against what was done."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from pathlib import Path

import building
import pytest
from agent import Region, make_neighbours, make_region
from containers import CONTEXT_MIB, MIB, Container, go_on, until_it_waits, uuid_of
from simulation import Share, Simulation

from egpu_runtime.agent import region_layout as words
from egpu_runtime.agent.region import CardLimits, CardUsage, place

CARD_MIB = 2048
KERNEL_NS = 1_000_000
PAGED = ("pieces=8", "kernel_us=10000", "burst=1", "ahead=1")
BESIDE_HIGH_SECONDS, WAIT_SECONDS = 3.0, 0.2
"""A low priority that waits for a high one goes on after so long, whatever the high one does."""


def limits(**values: object) -> CardLimits:
    return CardLimits(uuid_of(0), memory_quota_bytes=2 * CARD_MIB * MIB, context_bytes_estimate=MIB, **values)  # type: ignore[arg-type]


def kernels(seconds: float) -> list[str | Path]:
    """Of a millisecond, each awaited."""
    client = building.client("launcher", "-lcuda", f"-I{building.DRIVER}")
    return [client, f"kernel_us={KERNEL_NS // 1000}", "wait=1", f"until_ms={int(seconds * 1000)}"]


def paged(mib: int, count: int) -> list[str | Path]:
    client = building.client("paged", "-lcuda", f"-I{building.DRIVER}")
    return [client, f"mib={mib}", f"kernels={count}", *PAGED]


def side_by_side(*containers: tuple[CardLimits, Sequence[str | Path]]) -> list[tuple[CardUsage, Share]]:
    """One process each, on the virtual clock: what its files say, and what the driver knows of it."""
    count = len(containers)
    memory_mib = CARD_MIB + count
    with Simulation(
        clock="virtual", start=count, memory_mib=memory_mib, env={"EGPU_SIM_CONTEXT_MIB": "1"}
    ) as simulation:
        regions = make_neighbours(
            simulation.folder / "regions", [one for one, _ in containers], memory_bytes=memory_mib * MIB
        )
        running = [
            simulation.start(program, hook=True, region=region.path, rank=rank)
            for rank, (region, (_, program)) in enumerate(zip(regions, containers, strict=True))
        ]
        simulation.wait(*running)
        card = simulation.card()
        return [(region.usage().cards[0], card.rank(rank)) for rank, region in enumerate(regions)]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    row = CardLimits(uuid_of(0), memory_quota_bytes=(CONTEXT_MIB + 64) * MIB)
    return Container(tmp_path, "13.0", make_region(tmp_path / "region", cards=[row]))


def usage(container: Container) -> CardUsage:
    assert container.region is not None
    return container.region.usage().cards[0]


def slot_word(region: Region, name: str) -> int:
    """Of the only process."""
    data = (region.path / "usage").read_bytes()
    offset, form = place("slot", name)
    return int(struct.unpack_from(form, data, words.LAYOUTS["usage"].fields["slots"].offset + offset)[0])


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("context alloc:40M alloc:20M", 0),
        ("context alloc:40M alloc:40M managed:40M vmm:40M async:40M alloc:20M", 4),
        ("context until:8M until:8M", 2),
        ("context alloc:40M free:0 alloc:40M", 0),
    ],
)
def test_refused_allocations(container: Container, script: str, expected: int) -> None:
    container.run(script)
    assert usage(container).out_of_memory_count == expected


def test_launches_and_the_moment_of_the_last(container: Container) -> None:
    """While it lives, and when it is gone."""
    before_ns = time.time_ns()
    process = container.start("context spin:20 wait spin:3 wait")
    until_it_waits(process)
    first, between_ns = usage(container), time.time_ns()
    go_on(process)
    until_it_waits(process)
    second, after_ns = usage(container), time.time_ns()
    process.communicate("\n")
    last = usage(container)
    assert (first.launch_count, second.launch_count, last.launch_count) == (20, 23, 23)
    assert before_ns < first.last_submit_ns < between_ns < second.last_submit_ns < after_ns
    assert last.last_submit_ns == second.last_submit_ns


def test_nobody_waits_who_has_the_card() -> None:
    ((given, share),) = side_by_side((limits(), kernels(1)))
    assert given.launch_count * KERNEL_NS == share.busy_ns == given.busy_ns
    assert (given.throttled_ns, given.preempted_ns, given.unlimited_count) == (0, 0, 0)


def test_waiting_for_a_quota() -> None:
    """All the time in which it has no kernel on the card."""
    ((given, share),) = side_by_side((limits(core_quota=0.3), kernels(3)))
    assert given.throttled_ns == pytest.approx(3e9 - share.busy_ns, rel=0.01)
    assert (given.preempted_ns, given.unlimited_count) == (0, 0)


def test_waiting_for_a_high_priority() -> None:
    seconds = BESIDE_HIGH_SECONDS
    (high, _), (low, share) = side_by_side(
        (limits(priority=0), kernels(seconds)), (limits(priority=1), kernels(seconds))
    )
    assert low.launch_count * KERNEL_NS == share.busy_ns
    assert low.preempted_ns == pytest.approx(seconds * 1e9 - share.busy_ns, rel=0.01)
    assert low.throttled_ns == 0
    # All but the first, before high was there, and the last, when it was gone.
    assert low.unlimited_count == low.launch_count - 2 == int(seconds / WAIT_SECONDS) - 1
    assert (high.throttled_ns, high.preempted_ns, high.unlimited_count) == (0, 0, 0)


def test_moving_for_turns() -> None:
    """But for what the driver moved by itself, before there were turns and after the last one."""
    one = (limits(priority=1, oversubscription=True), paged(CARD_MIB * 9 // 10, 1500))
    outcomes = side_by_side(one, one)
    for given, share in outcomes:
        assert given.swapped_in_bytes == pytest.approx(share.migrated_in_bytes, rel=0.15)
        assert given.swapped_out_bytes == pytest.approx(share.migrated_out_bytes, rel=0.15)
    # Each waited while the other worked, and the second one for the first at the beginning.
    for (given, _), (_, other) in zip(outcomes, reversed(outcomes), strict=True):
        assert other.busy_ns / 2 < given.preempted_ns < other.busy_ns * 1.1


def test_nothing_moves_that_fits() -> None:
    one = (limits(priority=1, oversubscription=True), paged(CARD_MIB // 4, 100))
    for given, _ in side_by_side(one, one):
        assert (given.swapped_in_bytes, given.swapped_out_bytes, given.preempted_ns) == (0, 0, 0)


def test_files_that_cannot_be_used(container: Container) -> None:
    """A card that is said to be shared and has no folder: tried at its first use, and after a change of the limits."""
    region = container.region
    assert region is not None
    region.change(0, card_index=0)
    process = container.start("context spin:1 wait spin:1 wait spin:1 wait")
    until_it_waits(process)
    counts = [slot_word(region, "region_error_count")]
    for change in (False, True):
        if change:
            region.change(0, core_quota=0.9)
        go_on(process)
        until_it_waits(process)
        counts.append(slot_word(region, "region_error_count"))
    _, errors = process.communicate("\n")
    assert counts == [1, 1, 2]
    assert errors.count("egpu: the pages of a shared card cannot be used") == 1
