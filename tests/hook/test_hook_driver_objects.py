"""What the driver has besides memory and time, on the simulated one: clients that print what differs from the interface's
description, alone and with the hook in front."""

import building
import pytest
from agent import make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
EXACT = {"EGPU_SIM_CALL_NS": "0"}
SECONDS_MAX = 20


def check(given: str, cuda: str, hook: bool) -> None:
    """The client `given` finds no difference."""
    with Simulation(cuda=cuda, env=EXACT) as sim:
        region = make_region(sim.folder / "region", cards=[CardLimits(UUID, memory_quota_bytes=4 << 30)])
        program = building.client(given, "-lcuda")
        assert sim.run([program], hook=hook, region=region.path if hook else None, seconds=SECONDS_MAX) == ""
        assert sim.stalls == 0


@pytest.mark.parametrize("hook", [False, True], ids=["alone", "hook"])
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
@pytest.mark.parametrize("given", ["stream_signals"])
def test_objects_do_as_described(given: str, cuda: str, hook: bool) -> None:
    check(given, cuda, hook)
