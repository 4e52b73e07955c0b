"""Work whose stream or context has ended, or whose process forked, is paid for like all else before more may come."""

from __future__ import annotations

import building
import pytest
from agent import make_region
from contention import MEMORY_BYTES, UUID
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

QUOTA = 0.1
LONG_US = 50_000
SAVED_US = 5_000
"""Of card time, for a burst."""
CASES = ("none", "stream", "context", "reset", "release", "fork")


@pytest.mark.parametrize("model", ["fifo", "timeslice"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_what_was_left_is_paid_for(case: str, known: bool, model: str) -> None:
    with Simulation(model=model, env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        region = make_region(sim.folder / "region", cards=[CardLimits(UUID, MEMORY_BYTES, core_quota=QUOTA)])
        words = [building.client("endings", "-lcuda"), case, str(int(known))]
        said = sim.run(words, hook=True, region=region.path, rank=0)
        used = region.usage().cards[0]
        true_ns = sim.card().rank(0).busy_ns
    again_us = int(said.split()[1])
    assert (LONG_US - SAVED_US) / QUOTA * 0.95 <= again_us <= LONG_US / QUOTA * 1.05
    assert used.busy_ns == pytest.approx(true_ns, rel=0.01)
    assert used.charged_bytes == 0
