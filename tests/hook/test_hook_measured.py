"""The time that a container is charged is the time that the card worked for it, whatever the shape of its work."""

from __future__ import annotations

import subprocess

import building
import pytest
from agent import make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
FREE = CardLimits(uuid=UUID, memory_quota_bytes=16 << 30)
"""Held to nothing, alone on its card: it is only measured."""
LIMITED = CardLimits(uuid=UUID, memory_quota_bytes=16 << 30, core_quota=0.9)
PART = 0.01
RUN_SECONDS_MAX = 60
GLANCE_THOUSANDTHS_MAX = 20
"""Of the time since the glance began."""


def measured(words: str, limits: CardLimits) -> tuple[float, int, int]:
    """What was charged per time of the card, and how many launches were counted, and made."""
    program = building.client("measured_work", "-lcuda")
    with Simulation(clock="virtual") as sim:
        region = make_region(sim.folder / "region", cards=[limits])
        launches = int(sim.run([program, *words.split()], hook=True, region=region.path))
        card = region.usage().cards[0]
        assert (card.last_submit_ns > 0) == (launches > 0)
        return card.busy_ns / sim.card().busy_ns, card.launch_count, launches


def check(words: str, limits: CardLimits, part: float = PART) -> None:
    charged, counted, made = measured(words, limits)
    assert charged == pytest.approx(1, abs=part), words
    assert counted == made


SHAPES = (
    "",
    "kernel_us=1 launches=30000",
    "kernel_us=1000 launches=500",
    "kinds=8",
    "kinds=3 kernel_us=90 launches=3000",
    "streams=4",
    "streams=4 kinds=7",
    "streams=0 kinds=4",
    "graph=1",
    "graph=1 kinds=5 streams=3",
    "wait=1 launches=3000",
    "wait=7 kinds=5",
    "wait=7 kinds=5 streams=0",
    "burst=1 gap_us=1000 launches=1000",
    "burst=1 gap_us=15 launches=5000",
    "burst=1 gap_us=15 kinds=4 launches=5000",
    "burst=30 gap_us=700 kinds=4 launches=9000",
    "burst=300 gap_us=5000 kinds=4 launches=9000",
    "burst=30 gap_us=700 kinds=4 launches=9000 streams=0",
    "burst=30 gap_us=700 kinds=4 launches=9000 streams=3",
)


@pytest.mark.parametrize("given", SHAPES)
def test_work_without_limits_is_charged_as_it_was(given: str) -> None:
    check(given, FREE)


@pytest.mark.parametrize("given", SHAPES)
def test_limited_work_is_charged_as_it_was(given: str) -> None:
    check(given, LIMITED)


HIDDEN = (
    "launch:1:10 sleep:100 launch:1:5000 sleep:5200",
    "launch:1:10:3 launch:1:5000 sleep:5300",
    "launch:1:10:30 sync:1 launch:1:500 sleep:600",
)
HIDDEN_PART = 0.15


@pytest.mark.parametrize("given", HIDDEN)
def test_long_work_on_an_empty_stream_cannot_pass_for_short_work(given: str) -> None:
    """The same kernel, mostly short; the long ones are not waited for, and over when the next one is launched."""
    program = building.client("time_script", "-lcuda")
    with Simulation(clock="virtual") as sim:
        region = make_region(sim.folder / "region", cards=[LIMITED])
        words = ["open:0", *["launch:1:10", "sync:1"] * 2, *given.split() * 200, "sync:1"]
        sim.run([program, *words], hook=True, region=region.path)
        assert region.usage().cards[0].busy_ns == pytest.approx(sim.card().busy_ns, rel=HIDDEN_PART)


def test_launches_that_a_stream_records_are_not_counted() -> None:
    """The stream has a row when the capture of another one draws it in."""
    before = "open:0 launch:1:9:3 sync:1 launch:1:9:15"
    recorded = "capture:2:0 record:1:2 waitevent:1:1 launch:1:9:2 record:2:1 waitevent:2:2 endcapture:2:1 nodes:1"
    program = building.client("time_script", "-lcuda")
    with Simulation(clock="virtual") as sim:
        region = make_region(sim.folder / "region", cards=[FREE])
        words = [*before.split(), *recorded.split(), "sync:1"]
        assert sim.run([program, *words], hook=True, region=region.path) == "nodes 2\n"
        card = region.usage().cards[0]
        assert card.launch_count == 18
        assert card.busy_ns == sim.card().busy_ns


def test_quick_looks_at_the_clock_are_right() -> None:
    source = building.HOOK / "src/clock.c"
    output = subprocess.run(
        [building.client("clock_glances", "-lcuda", "-Wl,--no-as-needed", str(source))],
        capture_output=True,
        text=True,
        check=True,
        timeout=RUN_SECONDS_MAX,
        env={"LD_LIBRARY_PATH": str(building.driver())},
    ).stdout
    assert int(output) <= GLANCE_THOUSANDTHS_MAX
