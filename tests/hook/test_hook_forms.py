"""Every entry point of the driver that gives the card work is held to the quota of the container."""

from __future__ import annotations

import re

import building
import pytest
from agent import make_region
from contention import MEMORY_BYTES, UUID
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

MODELS = ("fifo", "timeslice")
QUOTA = 0.2
RUN_MS = 1000
GRAIN = 0.007
"""Of the time: what is saved for a burst, and the first one, whose cost is not known yet."""
CLIENT = (building.CLIENTS / "launch_forms.c").read_text()
FORMS = re.findall(r'\{"(\w+)", ', CLIENT)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_limited(form: str, model: str) -> None:
    with Simulation(model=model, env={"EGPU_SIM_DATA": "0", "EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        region = make_region(sim.folder / "region", cards=[CardLimits(UUID, MEMORY_BYTES, core_quota=QUOTA)])
        program = building.client("launch_forms", "-lcuda")
        sim.run([program, form, str(RUN_MS)], hook=True, region=region.path, rank=0)
        share = sim.card().rank(0)
        used_ns = share.busy_ns + share.copy_ns
        charged_ns = region.usage().cards[0].busy_ns
    assert used_ns == pytest.approx(QUOTA * RUN_MS * 10**6, abs=GRAIN * RUN_MS * 10**6)
    assert charged_ns == pytest.approx(used_ns, rel=0.01)


def test_no_launch_is_left_out() -> None:
    wrapped = re.findall(
        r"^SYMBOL\((\w+),.* WRAP, launch\.c,", (building.HOOK / "src/symbols.def").read_text(), re.MULTILINE
    )
    assert len(wrapped) >= 10
    assert [name for name in wrapped if f"{name}(" not in CLIENT] == []
