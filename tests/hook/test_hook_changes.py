"""The agent changes what containers may, and one of them dies, at a moment of the virtual clock."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace

import pytest
from agent import GENERATION_STEP, Region, member_of
from contention import MEMORY_BYTES, UUID, WARM_UP_MS, Card, Container, share_card

from egpu_runtime.agent.region import card_bytes, limits_bytes, place

MODELS = ("fifo", "timeslice")
MEASURED_MS = 1000
AT_MS = WARM_UP_MS - 100
"""The shares of the second that begins 100 ms later are those of the change."""
POINT = 0.01
Change = dict[str, object]


def rewritten(regions: Sequence[Region], changes: Sequence[Change]) -> list[str]:
    """The words of clients/moments.c that change limits and the card's file, made beside them."""
    rows = [
        replace(region.cards[0], card_index=index, **change)  # type: ignore[arg-type]
        for index, (region, change) in enumerate(zip(regions, changes, strict=True))
    ]
    files = []
    for region, row in zip(regions, rows, strict=True):
        files.append((region.path / "limits", limits_bytes([row], generation=GENERATION_STEP), "limits"))
    members = {index: member_of(row) for index, row in enumerate(rows)}
    # The first one it had.
    generation = 2 * GENERATION_STEP
    data = card_bytes(UUID, members, memory_bytes=MEMORY_BYTES, page_in_bytes_per_second=0, generation=generation)
    files.append((regions[0].path / "cards" / UUID / "card", data, "card"))
    words = []
    for path, data, layout in files:
        fresh = path.with_name(f"{path.name}.next")
        fresh.write_bytes(data)
        words.append(f"write:{fresh}:{path}:{place(layout, 'generation')[0]}")
    return words


def check(containers: tuple[Container, ...], changes: Sequence[Change], model: str, expected: Sequence[float]) -> None:
    def change(regions: list[Region], processes: list[subprocess.Popen[str]]) -> list[str]:
        assert processes
        return [f"at:{AT_MS}", *rewritten(regions, changes)]

    card = Card(model, measured_ms=MEASURED_MS)
    shares = share_card(containers, card, moments=change).shares
    assert shares == pytest.approx(expected, abs=POINT), shares


HIGH = Container(0.9, 1000)
"""With a quota: without one it has a thousand launches in flight, and what was submitted is done first. Who comes
before it from then on has 60 ms to make up for."""
LOW = replace(HIGH, priority=1)
CHANGES: dict[str, tuple[tuple[Container, ...], list[Change], tuple[float, ...]]] = {
    "nothing": ((HIGH, LOW), [{}, {}], (0.9, 0.09)),
    "priorities swapped": ((HIGH, LOW), [{"priority": 1}, {"priority": 0}], (0.047, 0.95)),
    "raised": ((Container(0.1, 1000),), [{"core_quota": 0.6}], (0.6,)),
    "lowered": ((Container(0.6, 1000),), [{"core_quota": 0.1}], (0.1,)),
    "lowered for another": (
        (Container(0.7, 1000), Container(0.3, 200)),
        [{"core_quota": 0.2}, {"core_quota": 0.8}],
        (0.2, 0.8),
    ),
    "soft": ((Container(0.2, 1000), Container(0.3, 200)), [{"policy": "soft"}, {}], (0.7, 0.3)),
    "hard": ((Container(0.2, 1000, policy="soft"), Container(0.3, 200)), [{"policy": "hard"}, {}], (0.2, 0.3)),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", CHANGES)
def test_shares_follow_within_100_ms(name: str, model: str) -> None:
    containers, changes, expected = CHANGES[name]
    check(containers, changes, model, expected)


@pytest.mark.parametrize("model", MODELS)
def test_a_killed_neighbour_is_an_idle_one(model: str) -> None:
    def kill(regions: list[Region], processes: list[subprocess.Popen[str]]) -> list[str]:
        assert regions
        return [f"at:{AT_MS}", f"kill:{processes[0].pid}"]

    containers = (Container(0.9, 1000), Container(0.1, 1000, policy="soft"))
    shares = share_card(containers, Card(model, measured_ms=MEASURED_MS), moments=kill)
    assert shares.shares == pytest.approx((0, 1), abs=POINT)
