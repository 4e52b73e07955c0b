"""The busy time that a container's files tell is the time that the card worked for it, whoever else is on the card.

Nothing of a container of high priority without a quota is held back, so its kernels may never be seen alone unless the
others stand back for it. Virtual clock; the truth is in the driver's books.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from contention import WARM_UP_MS, Card, Container, share_card

MODELS = ("fifo", "timeslice")
MEASURED_MS = 2000
SECONDS = (WARM_UP_MS + MEASURED_MS) / 1000
PART = 0.02
NS_PER_SECOND = 1_500_000
"""What a container is told may be off by so much, whichever is more."""
NS_PER_SECOND_BEHIND = 2_500_000
"""Of launches that pass because their patience has ended: each is behind a slice of a flood that never stands back."""
PART_UNCONFIRMED = 0.03
"""Of a thousand launches in flight that wait for others: who never saw them alone does not know better."""

FREE = Container()
GAPPED = Container(kernel_us=100, wait=True, gap_us=4000)
LOW, LOW_GAPPED = replace(FREE, priority=1), replace(GAPPED, priority=1)
LIMITED = Container(quota=0.3, kernel_us=200)


def late(container: Container) -> Container:
    """The others have work when its first kernel comes."""
    return replace(container, from_ms=500)


PAIRS = {
    "gapped x low flood": (late(GAPPED), LOW),
    "gapped x low flood of short kernels": (late(GAPPED), replace(LOW, kernel_us=50)),
    "gapped x low flood of long kernels": (late(GAPPED), replace(LOW, kernel_us=20_000)),
    "gapped, there first, x low flood": (GAPPED, LOW),
    "gapped, short kernels, x low flood": (late(replace(GAPPED, kernel_us=10)), LOW),
    "gapped, long kernels, x low flood": (late(replace(GAPPED, kernel_us=5000, gap_us=20_000)), LOW),
    "five kernels in turn x low flood": (late(replace(GAPPED, kinds=5)), LOW),
    "five kernels in turn x low flood of four": (late(replace(GAPPED, kinds=5)), replace(LOW, kernel_us=300, kinds=4)),
    "ten times a second x low flood": (late(replace(GAPPED, gap_us=100_000)), LOW),
    "two streams x low flood": (late(Container(kernel_us=100, streams=2, burst=4, gap_us=4000)), LOW),
    "two streams, three kernels, x low flood": (
        late(Container(kernel_us=100, streams=2, kinds=3, burst=6, gap_us=4000)),
        LOW,
    ),
    "rows x low flood": (late(Container(kernel_us=30, burst=20, gap_us=4000)), LOW),
    "graphs x low flood": (late(replace(GAPPED, mode="graph")), LOW),
    "gapped x two low floods": (late(GAPPED), LOW, replace(LOW, kernel_us=300)),
    "low gapped x flood": (late(LOW_GAPPED), FREE),
    "low flood x flood": (late(LOW), FREE),
    "low gapped x gapped": (late(LOW_GAPPED), GAPPED),
    "flood x low flood": (late(FREE), LOW),
    "gapped x gapped": (late(GAPPED), Container(kernel_us=1500, wait=True, gap_us=3000)),
    "gapped x flood": (late(GAPPED), FREE),
    "limited x gapped": (late(LIMITED), GAPPED),
    "limited x flood": (late(LIMITED), FREE),
    "gapped x limited": (late(GAPPED), LIMITED),
    "gapped x soft": (late(GAPPED), replace(LIMITED, kernel_us=1000, policy="soft")),
}


BEHIND = {"low gapped x flood", "low flood x flood"}


def check(given: tuple[Container, ...], model: str, part: float = PART, ns_per_second: int = NS_PER_SECOND) -> None:
    outcome = share_card(given, Card(model, measured_ms=MEASURED_MS))
    for told_ns, given_ns in zip(outcome.told_ns, outcome.given_ns, strict=True):
        assert told_ns == pytest.approx(given_ns, rel=part, abs=SECONDS * ns_per_second), outcome.told_ns


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_told_is_what_the_card_gave(pair: str, model: str) -> None:
    check(PAIRS[pair], model, ns_per_second=NS_PER_SECOND_BEHIND if pair in BEHIND else NS_PER_SECOND)


FLOODS = {
    "together": (FREE, replace(FREE, kernel_us=200)),
    "one late": (late(FREE), replace(FREE, kernel_us=200)),
    "the short one late": (late(replace(FREE, kernel_us=200)), FREE),
}


@pytest.mark.parametrize("floods", FLOODS)
def test_two_floods_that_nobody_holds_back(floods: str) -> None:
    """In turns; in order of submission nobody can tell, see docs/hook.md."""
    check(FLOODS[floods], "timeslice", PART_UNCONFIRMED)


STREAMS = Container(quota=0.6, kernel_us=500, kinds=3, gap_us=2000, burst=6, streams=3)


@pytest.mark.parametrize("model", MODELS)
def test_streams_are_not_told_each_other(model: str) -> None:
    """Nor rows that nobody waits for, and that are looked at when the others have gone on."""
    check((late(STREAMS), Container(kernel_us=50, burst=20, gap_us=30_000)), model)


@pytest.mark.parametrize("kernel_us", [200, 1000])
def test_what_is_in_flight_at_the_end_is_told(kernel_us: int) -> None:
    """A thousand launches, and the program does not wait for them."""
    check((Container(kernel_us=kernel_us),), "fifo")
