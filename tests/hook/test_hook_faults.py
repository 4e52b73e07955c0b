"""When the driver fails: the program gets the driver's own codes, and what failed is neither charged nor waited for."""

from __future__ import annotations

from dataclasses import dataclass

import building
import pytest
from agent import make_region
from contention import MEMORY_BYTES, UUID
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

MODELS = ("fifo", "timeslice")
QUOTA = 0.5
KERNEL_NS = 10**6
LIMITS = CardLimits(UUID, MEMORY_BYTES, core_quota=QUOTA)


@dataclass(frozen=True)
class Seen:
    """What a program said, without moments, and what the card and the container's books say afterwards."""

    lines: list[str]
    true_ns: int
    charged_ns: int
    charged_bytes: int
    now_ns: int


def run(client: str, script: str, fault: str, model: str, hook: bool) -> Seen:
    environment = {"EGPU_SIM_FAULT": fault} if fault else {}
    with Simulation(model=model, env=environment) as sim:
        region = make_region(sim.folder / "region", cards=[LIMITS])
        program = building.client(client, "-lcuda", "-lnvidia-ml")
        process = sim.start([program, *script.split()], hook=hook, region=region.path, rank=0)
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, ""), output + errors
        used = region.usage().cards[0] if hook else None
        return Seen(
            lines=[line.split(" at ")[0] for line in output.splitlines()],
            true_ns=sim.card().rank(0).busy_ns,
            charged_ns=used.busy_ns if used else 0,
            charged_bytes=used.charged_bytes if used else 0,
            now_ns=sim.now_ns,
        )


def check(client: str, script: str, fault: str, model: str) -> None:
    alone, hooked = (run(client, script, fault, model, hook) for hook in (False, True))
    assert hooked.lines == alone.lines
    assert any(line.startswith("error") or line.endswith(" 2") for line in alone.lines), "nothing failed"
    assert hooked.charged_bytes == 0
    if fault.startswith("lost"):
        # What ran then was cut off, and that was at another moment.
        assert hooked.charged_ns == pytest.approx(hooked.true_ns, abs=KERNEL_NS)
        return
    assert hooked.true_ns == alone.true_ns
    assert hooked.charged_ns == pytest.approx(hooked.true_ns, rel=0.01)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["launch:1", "launch:2", "launch:9", "lost:9"])
@pytest.mark.parametrize(
    "script",
    [
        "open:0 launch:1:1000:20 sync:1 launch:1:1000:5 sync:1",
        "open:0 launch:1:1000:6:cooperative launch:2:1000:6:ex sync:1 sync:2 synccontext",
        "open:0 launch:1:1000:6 capture:1:0 launch:1:100:3 endcapture:1:1 instantiate:1 graph:1:1 graph:1:1 "
        "launch:1:9:4 sync:1",
    ],
)
def test_launches_that_fail(script: str, fault: str, model: str) -> None:
    check("time_script", script, fault, model)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["oom:1", "oom:2", "oom:5"])
def test_memory_that_the_driver_refuses(fault: str, model: str) -> None:
    script = "context alloc:1048576 managed:1048576 pitch:100:100 async:4194304 vmm:4194304 pool:1048576 array:64:64"
    check("quota", script, fault, model)


@pytest.mark.parametrize("model", MODELS)
def test_a_launch_that_fails_is_not_waited_for(model: str) -> None:
    """Six kernels take the time of six, with one that fails between them or not."""
    kernels = "launch:1:100000 sync:1 launch:1:100000 sync:1 launch:1:100000 sync:1"
    failing = f"open:0 {kernels} launch:1:100000 sync:1 {kernels}"
    with_fault = run("time_script", failing, "launch:4", model, hook=True)
    without = run("time_script", f"open:0 {kernels} sync:1 {kernels}", "", model, hook=True)
    assert with_fault.lines == ["error launch:1:100000 719"]
    assert with_fault.now_ns == pytest.approx(without.now_ns, rel=0.01)
