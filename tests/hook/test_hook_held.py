"""Where the hook must not wait although its container is held: while a stream records, and in host functions."""

from __future__ import annotations

import building
import pytest
from agent import make_neighbours
from contention import MEMORY_BYTES, UUID, launcher_program
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

HIGH = CardLimits(UUID, MEMORY_BYTES, priority=0)
FLOOD_MS = 3000
INSIDE_US_MAX = 100
OUTSIDE_US_MIN = 100_000
MODELS = ("fifo", "timeslice")
WAIT_US_MAX = 201_000
"""For others, at one call."""
CALLS = ("launch", "to_card", "on_card", "fill")
LOW = CardLimits(UUID, MEMORY_BYTES, priority=1)
LOW_IN_DEBT = CardLimits(UUID, MEMORY_BYTES, priority=1, core_quota=0.05)
IN_DEBT = CardLimits(UUID, MEMORY_BYTES, core_quota=0.05)


def calls_us(where: str, limits: CardLimits, debt_us: int, model: str) -> dict[str, int]:
    """How long each call of clients/held_calls.c took, beside a busy container of high priority."""
    with Simulation(model=model, start=2) as sim:
        regions = make_neighbours(sim.folder / "regions", [HIGH, limits], memory_bytes=MEMORY_BYTES)
        words = [launcher_program(), "kernel_us=1000", f"until_ms={FLOOD_MS}"]
        flood = sim.start(words, hook=True, region=regions[0].path, rank=0)
        program = building.client("held_calls", "-lcuda")
        client = sim.start([program, where, str(debt_us)], hook=True, region=regions[1].path, rank=1)
        output = sim.wait(flood, client)[1]
    return {name: int(us) for name, us in (line.split() for line in output.splitlines())}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("limits", "debt_us"), [(LOW, 0), (LOW_IN_DEBT, 50_000), (IN_DEBT, 50_000)])
@pytest.mark.parametrize("where", ["capture", "callback", "added"])
def test_nothing_waits(where: str, limits: CardLimits, debt_us: int, model: str) -> None:
    took_us = calls_us(where, limits, debt_us, model)
    inside = {call: took_us[f"inside_{call}"] for call in CALLS}
    assert max(inside.values()) < INSIDE_US_MAX, took_us
    # Else it was not held, and all of this says nothing.
    assert took_us["outside_launch"] > OUTSIDE_US_MIN, took_us
    if limits == LOW:
        outside = [took_us[f"outside_{call}"] for call in (*CALLS, "to_card_at_once")]
        assert min(outside) > OUTSIDE_US_MIN, took_us


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("where", ["node", "captured"])
def test_waits_in_functions_of_a_graph_are_bounded(where: str, model: str) -> None:
    """They are the program's own, for it may ask the graph for them; CUDA forbids that they call it."""
    took_us = calls_us(where, LOW, 0, model)
    assert max(took_us[f"inside_{call}"] for call in CALLS) <= WAIT_US_MAX, took_us
