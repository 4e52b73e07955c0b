"""How busy a container was, as libnvidia-ml tells it: by its own kernels, whoever else is on the card."""

from __future__ import annotations

import re
from collections.abc import Sequence

import building
import pytest
from agent import Region, make_neighbours, make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

MEMORY_BYTES = 16 << 30
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
WORK = "work:1000 rates work:3000"
"""The first look begins what the second one tells of."""
POINTS = 2
"""Percent of the card by which a share of three seconds may be off, rounding and all."""


def simulated(count: int, **environment: str) -> Simulation:
    """One card on the virtual clock, for `count` programs that begin together."""
    return Simulation(clock="virtual", start=count, env=environment)


def neighbours(simulation: Simulation, quotas: Sequence[float]) -> list[Region]:
    limits = [CardLimits(UUID, memory_quota_bytes=MEMORY_BYTES // 4, core_quota=quota) for quota in quotas]
    return make_neighbours(simulation.folder / "regions", limits, memory_bytes=MEMORY_BYTES)


def run(simulation: Simulation, *programs: tuple[Region | None, str]) -> list[str]:
    """What each answered last: all after its work, or all when it has none. Without a region it has no hook either."""
    program = building.client("nvml_words", "-lcuda", "-lnvidia-ml")
    running = [
        simulation.start(
            [program, *script.split()], hook=region is not None, region=region.path if region else None, rank=rank
        )
        for rank, (region, script) in enumerate(programs)
    ]
    answers = []
    for output in simulation.wait(*running):
        lines = [line.strip() for line in output.splitlines()]
        works = [place for place, line in enumerate(lines) if line.startswith("work")]
        answers.append("; ".join(lines[works[-1] + 1 if works else 0 :]))
    return answers


def check(given: str, expected: str) -> None:
    """Of the expected numbers those that begin with a ~ may be some points off."""
    wanted = [int(number) for number in re.findall(r"~(\d+)", expected)]
    found = re.fullmatch(re.sub(r"~\d+", r"(\\d+)", expected), given)
    assert found, given
    assert [int(number) for number in found.groups()] == pytest.approx(wanted, abs=POINTS), given


def test_each_of_two_neighbours_sees_its_own_share() -> None:
    """And neither sees the other, nor one without the hook that works now and then."""
    ask = "rates samples:1 busy:8 busies:1"
    with simulated(3) as simulation:
        small, large = neighbours(simulation, [0.3, 0.6])
        stranger = "spin:100000 sleep:900000 " * 4
        first, second, _ = run(simulation, (small, f"{WORK} {ask}"), (large, f"{WORK} {ask}"), (None, stranger))
    for given, share in ((first, 30), (second, 60)):
        check(given, f"rates 0 ~{share}; samples 0 1 ~{share}; busy 0 1 self:~{share}; busies 0 self:~{share}")


def test_processes_of_a_container_share_what_it_shows() -> None:
    """Those of the two that worked, the third only looks; beside them a stranger that works as well."""
    with simulated(4) as simulation:
        (region,) = neighbours(simulation, [0.4])
        work, look = "work:4000", "sleep:1000000 rates sleep:2800000 rates busy:8 busies:1 busy:1 busies:2"
        *_, given = run(simulation, (None, work), (region, work), (region, work), (region, look))
    both = "other:~20 other:~20"
    check(given.rpartition("; rates")[2], f" 0 ~40; busy 0 2 {both}; busies 0 {both}; busy 7 2; busies 25")


def test_the_first_look_is_at_a_moment_of_its_own() -> None:
    """A program that asks once and ends, as nvidia-smi does."""
    with simulated(3) as simulation:
        (region,) = neighbours(simulation, [0.5])
        work, look = "work:3000", "sleep:2000000 rates busy:8"
        *_, given = run(simulation, (None, work), (region, work), (region, look))
    found = re.fullmatch(r"sleep; rates 0 (\d+); busy 0 1 other:(\d+)", given)
    assert found, given
    # A tenth of a second, in which a batch may begin or end.
    assert [int(number) for number in found.groups()] == pytest.approx([50, 50], abs=15)


def test_who_does_nothing_is_not_busy() -> None:
    with simulated(2) as simulation:
        (region,) = neighbours(simulation, [0.5])
        idle = "sleep:1000000 rates sleep:1500000 rates samples:1 samples:2 busy:8 busies:1"
        _, given = run(simulation, (None, "work:3000"), (region, idle))
    assert given.partition("; sleep; ")[2] == "rates 0 0; samples 0 1 0; samples 0 1 0; busy 6 0; busies 6"


@pytest.mark.parametrize("shared", [False, True])
def test_a_container_that_has_all_of_a_card_is_measured(shared: bool) -> None:
    """Half of the time it works; on a card of its own, and on one where it has a page and no neighbour."""
    with simulated(1) as simulation:
        limits = [CardLimits(UUID, memory_quota_bytes=MEMORY_BYTES)]
        folder = simulation.folder / "regions"
        region = make_region(folder, cards=limits)
        if shared:
            (region,) = make_neighbours(simulation.folder / "shared", limits, memory_bytes=MEMORY_BYTES)
        script = "work:100 rates " + "spin:100000 sleep:100000 " * 11 + "rates busy:8"
        (given,) = run(simulation, (region, script))
    found = given.rpartition("rates ")
    check(f"rates {found[2]}", "rates 0 ~50; busy 0 1 self:~50")


@pytest.mark.parametrize(("accounting", "hooked"), [("0", True), ("1", True), ("1", False)])
def test_accounts_are_those_of_the_container(accounting: str, hooked: bool) -> None:
    with simulated(2, EGPU_SIM_ACCOUNTING=accounting) as simulation:
        (region,) = neighbours(simulation, [0.5])
        script = "work:500 accounts account:0 account:1 gpm"
        _, given = run(simulation, (None, "work:1000"), (region if hooked else None, script))
    expected = {
        ("0", True): "accounts 3; account 3; account 3; gpm 0 0 3 3",
        ("1", True): "accounts 0 self:1; account 0 1; account 6; gpm 0 0 3 3",
        ("1", False): "accounts 0 other:1 self:1; account 0 1; account 6; gpm 0 1 0 0",
    }
    # Who of two comes first in a list is whoever came first.
    assert sorted(given.replace(";", " ;").split()) == sorted(expected[accounting, hooked].replace(";", " ;").split())


def test_a_stranger_has_no_account() -> None:
    """By its own number, which the driver knows well."""
    program = building.client("nvml_words", "-lcuda", "-lnvidia-ml")
    with simulated(2, EGPU_SIM_ACCOUNTING="1") as simulation:
        (region,) = neighbours(simulation, [0.5])
        stranger = simulation.start([program, "work:1000"], rank=0)
        script = ["work:500", f"account:{stranger.pid}", f"who:{stranger.pid}", "self"]
        own = simulation.start([program, *script], hook=True, region=region.path, rank=1)
        _, output = simulation.wait(stranger, own)
    assert output.splitlines()[1:] == ["account 6", "who 6", "self 0 nvml_words"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("details:1:0 details:1:1 details:1:2", "details 0 self:300; details 0; details 0"),
        ("details:2:0 details:2:1", "details 25; details 25"),
    ],
)
def test_the_list_with_a_version(script: str, expected: str) -> None:
    with simulated(1) as simulation:
        (region,) = neighbours(simulation, [0.5])
        assert run(simulation, (region, script)) == [expected]
