"""What the driver has besides memory and time, on the simulated one: clients that print what differs from what the
interface says, alone and with the hook in front."""

import re

import building
import generate
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
@pytest.mark.parametrize("given", ["stream_signals", "driver_objects", "ipc_events", "dead_handles"])
def test_objects_do_as_described(given: str, cuda: str, hook: bool) -> None:
    check(given, cuda, hook)


def test_what_is_not_simulated_is_named_with_a_reason() -> None:
    folder = building.driver().parent
    left = set(re.findall(r'sim_unsupported\("(\w+)"\)', (folder / "exports.inc").read_text()))
    names = {row.name for row in generate.symbols()}
    old = {name for name in left if f"{name}_v2" in names}
    text = (building.DRIVER / "README.md").read_text().partition("CUDA_ERROR_NOT_SUPPORTED, and why")[2]
    _, _, table = text.partition("\n| forms of CUDA 2")
    told = [re.escape(word).replace(r"\*", r"\w*") for word in re.findall(r"`(cu[\w*]+)`", table.partition("\n")[2])]
    bases = {re.sub(r"_pt[ds]s?z?$", "", name) for name in left - old}
    assert {name for name in bases if not any(re.fullmatch(word, name) for word in told)} == set()
    assert [word for word in told if not any(re.fullmatch(word, name) for name in bases)] == []
    assert f"...: {len(old)})" in table
    assert f"The other {len(names) - len(left)} of {len(names)} symbols" in table
