"""What a tenant gets that lies, hides, or runs other kernels than it taught the hook, and what the one beside it gets.

On the real hook and the simulated driver, on the virtual clock. Seconds are of card time.
"""

from __future__ import annotations

from dataclasses import replace

import contention
import pytest
from cheats import Tenant, share_card
from contention import Card, Container

MODELS = ("fifo", "timeslice")
TEN_SECONDS_MS = 10_000
LONGER = Tenant(quota=0.1, first_us=10, first_launches=20_000, then_us=5000)
"""Taught at 10 us, run at 5 ms."""
SHORTER = Tenant(quota=0.5, first_us=5000, first_launches=20, then_us=10)
LOW_PROCESSES = 6
HIGH_US = 100
NEIGHBOUR = Tenant(quota=0.9, first_us=1000)
LONG_US = 5000
LONG_LAUNCHES = 100
BLOCK = LONG_US * LONG_LAUNCHES / 20e6
"""Of twenty seconds: one block of the long kind more or less is in the window."""
PHASES = 12


def check(
    given: tuple[Tenant, ...],
    expected: tuple[float, float],
    *,
    until_ms: int = TEN_SECONDS_MS,
    from_ms: int = 1,
    model: str = "fifo",
) -> None:
    """expected: the share of the first one, at least and at most."""
    share = share_card(given, until_ms, from_ms=from_ms, model=model)[0]
    assert expected[0] <= share <= expected[1], share


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("neighbours", [(), (NEIGHBOUR,)])
def test_longer_than_taught_is_paid(neighbours: tuple[Tenant, ...], model: str) -> None:
    check((LONGER, *neighbours), (0.09, 0.12), model=model)


def changing(short_launches: int, long_launches: int) -> Tenant:
    """10 us and 5 ms in turn."""
    return Tenant(quota=0.1, first_us=10, first_launches=short_launches, then_us=LONG_US, then_launches=long_launches)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("neighbours", [(), (NEIGHBOUR,)])
@pytest.mark.parametrize("short_launches", [1000, 20_000])
def test_changing_all_the_time_is_paid(short_launches: int, neighbours: tuple[Tenant, ...], model: str) -> None:
    tenants = (changing(short_launches, LONG_LAUNCHES), *neighbours)
    check(tenants, (0.1 - BLOCK, 0.1 + BLOCK + 0.01), until_ms=21_000, from_ms=1000, model=model)


@pytest.mark.end_to_end
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("long_launches", "mean", "worst"), [(LONG_LAUNCHES, 0.13, 0.3), (20, 0.3, 0.7)])
def test_changing_is_paid_in_the_mean(long_launches: int, mean: float, worst: float, model: str) -> None:
    """Beside a neighbour such blocks are found by measurements alone, which begin by chance: a phase may miss them for
    long. Those of 100 ms are below a surprise."""
    shares = [
        share_card((changing(500 + 83 * phase, long_launches), NEIGHBOUR), 21_000, from_ms=1000, model=model)[0]
        for phase in range(PHASES)
    ]
    assert sum(shares) / PHASES <= mean, shares
    assert max(shares) <= worst, shares


@pytest.mark.parametrize("model", MODELS)
def test_changing_threefold_is_paid_roughly(model: str) -> None:
    """Too little to be a surprise: found by measurements alone, which are few."""
    changing = Tenant(quota=0.3, first_us=1000, first_launches=100, then_us=3000, then_launches=100)
    check((changing, Tenant(quota=0.7)), (0.27, 0.37), model=model)


def test_shorter_than_taught_recovers_at_once() -> None:
    check((SHORTER,), (0.49, 0.51), from_ms=300, until_ms=1400)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("own", "liar_us"), [((0.5, 200), 1000), ((0.5, 1000), 1000), ((0.5, 5000), 200), ((0.1, 1000), 1000)]
)
def test_liar_is_not_paid_for(own: tuple[float, int], liar_us: int, model: str) -> None:
    """It says that it was charged nothing."""
    victim = Tenant(quota=own[0], first_us=own[1])
    liar = Tenant(quota=1 - own[0], first_us=liar_us, lies=True)
    check((victim, liar), (own[0] - 0.03, own[0] + 0.01), from_ms=1000, until_ms=5000, model=model)


def test_who_hides_takes_what_the_card_gives() -> None:
    """Nobody can tell a neighbour without the hook from a kernel that became slower: the victim pays for both. Only
    whoever sees NVML can."""
    check((Tenant(quota=0.5), Tenant(hook=False)), (0.15, 0.30), from_ms=1000, until_ms=5000, model="timeslice")


@pytest.mark.parametrize("kernel_us", [pytest.param(200, marks=pytest.mark.end_to_end), 1000])
def test_many_low_processes_are_one(kernel_us: int) -> None:
    """High waits a millisecond and one kernel of low, however many processes that one has; each gets work done."""
    low = Container(kernel_us=kernel_us, priority=1)
    lows = (low, *[replace(low, same=True)] * (LOW_PROCESSES - 1))
    high = Container(kernel_us=HIGH_US, wait=True, gap_us=4000)
    outcome = contention.share_card((high, *lows), Card(measured_ms=500))
    waits_us = sorted(ns // 1000 - HIGH_US for ns in outcome.latencies_ns[0])
    assert waits_us[int(len(waits_us) * 0.99)] <= 1000 + kernel_us
    assert min(outcome.shares[1:]) >= 0.5 * sum(outcome.shares[1:]) / LOW_PROCESSES
