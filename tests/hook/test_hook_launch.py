"""Launches through the hook on the simulated driver: quotas, priorities, and what must not be touched."""

from dataclasses import replace
from pathlib import Path

import building
import pytest
from agent import make_region
from contention import MEMORY_BYTES, UUID, Card, Container, share_card
from latency import measure, percentile
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

MODELS = ("fifo", "timeslice")
POINT = 0.01
SHORT_MS = 1000


def check(given: tuple[tuple[Container, ...], Card], expected: tuple[float, ...]) -> None:
    """Shares of the card within a point, and the grain of one kernel in the time that was watched."""
    containers, card = given
    shares = share_card(containers, card).shares
    for one, share, wanted in zip(containers, shares, expected, strict=True):
        grain = one.kernel_us / (1000 * card.measured_ms)
        assert abs(share - wanted) <= POINT + grain, f"{shares}, expected {expected}"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
@pytest.mark.parametrize(
    "containers",
    [
        (Container(0.3, 10), Container(0.7, 200)),
        (Container(0.05, 1000), Container(0.95, 50)),
        (Container(0.5, 20000), Container(0.2, 200), Container(0.3, 1000)),
    ],
)
def test_hard_quotas(containers: tuple[Container, ...], cuda: str, model: str) -> None:
    card = Card(model, cuda=cuda, measured_ms=SHORT_MS)
    check((containers, card), tuple(one.quota for one in containers))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["plain", "graph", "cooperative", "ex"])
@pytest.mark.parametrize("wait", [False, True])
def test_every_kind_of_launch_is_limited(mode: str, wait: bool, model: str) -> None:
    """All other forms: test_hook_forms.py."""
    one = Container(0.2, 500, mode=mode, wait=wait)  # type: ignore[arg-type]
    check(((one,), Card(model, measured_ms=SHORT_MS)), (0.2,))


@pytest.mark.parametrize("model", MODELS)
def test_processes_of_a_container_share_its_quota(model: str) -> None:
    containers = (Container(0.4, 200), Container(0.4, 200, same=True), Container(0.6, 1000))
    shares = share_card(containers, Card(model, measured_ms=SHORT_MS)).shares
    assert abs(shares[0] + shares[1] - 0.4) <= POINT, shares
    assert abs(shares[2] - 0.6) <= POINT, shares


@pytest.mark.parametrize("model", MODELS)
def test_streams_of_a_process_share_its_quota(model: str) -> None:
    containers = (Container(0.3, 200, streams=4), Container(0.7, 1000))
    check((containers, Card(model, measured_ms=SHORT_MS)), (0.3, 0.7))


@pytest.mark.parametrize("model", MODELS)
def test_soft_policy_leaves_nothing_and_gives_way(model: str) -> None:
    card = Card(model, measured_ms=SHORT_MS)
    check(((Container(0.1, 1000, policy="soft"),), card), (1.0,))
    check(((Container(0.1, 1000, policy="soft"), Container(0.6, 200)), card), (0.4, 0.6))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("low_us", [50, 5000])
def test_high_priority_waits_for_one_kernel_of_low(model: str, low_us: int) -> None:
    row = measure(model, 100, low_us, measured_ms=SHORT_MS)
    assert not row.missed, row


@pytest.mark.parametrize("model", MODELS)
def test_short_gaps_of_high_are_not_filled_with_long_kernels(model: str) -> None:
    """It pauses for half a millisecond or so; low gets the launch in 200 ms that passes late."""
    card = Card(model, measured_ms=SHORT_MS)
    high, low = Container(kernel_us=1000, wait=True, gap_us=500), Container(kernel_us=5000, priority=1)
    alone = share_card((replace(high, hook=False),), card)
    beside = share_card((high, low), card)
    most = percentile(beside.latencies_ns[0], 0.95)
    assert most <= 1.01 * percentile(alone.latencies_ns[0], 0.5)
    assert beside.shares[1] <= 5 / 200 + POINT


@pytest.mark.parametrize(
    ("one", "late", "model"),
    [
        (Container(0.1, 1000), Container(0.9, 1000, burst=20, gap_us=8000), "fifo"),
        (Container(0.3, 1000), Container(0.5, 5000, burst=3, gap_us=40_000), "timeslice"),
    ],
)
def test_a_neighbour_that_is_late_to_say_that_it_is_busy_costs_nothing(
    one: Container, late: Container, model: str
) -> None:
    """Its thread is away while its work is on the card for longer than it thought: as on a busy machine."""
    shares = share_card((one, late), Card(model, measured_ms=2 * SHORT_MS)).shares
    assert abs(shares[0] - one.quota) <= POINT / 4, shares


def test_an_idle_container_saves_little_for_a_burst() -> None:
    """100 ms of kernels take a second of its tenth of the card, less the 5 ms saved in the second or so before."""
    shares = share_card((Container(0.1, 1000, burst=100, gap_us=1_000_000),), Card(measured_ms=20 * SHORT_MS)).shares
    assert 0.045 <= shares[0] <= 0.055, shares


SCRIPTS = (
    "open:0 launch:1:30:3 capture:1:0 launch:1:100 launch:1:50 capturing:1 endcapture:1:1 capturing:1 nodes:1 "
    "instantiate:1 graph:1:1 graph:1:1 sync:1",
    "open:0 launch:2:30:3 capture:1:0 launch:1:10 record:1:1 waitevent:2:1 launch:2:30 record:2:2 waitevent:1:2 "
    "endcapture:1:1 nodes:1",
    "open:0 launch:3:10:20 capture:1:0 launch:3:10:20 launch:1:5 launch:3:10:20 sync:3 endcapture:1:1 nodes:1",
    "open:0 launch:3:10:20 capture:1:1 launch:3:10:20 launch:1:5 sync:3 endcapture:1:1 nodes:1 launch:1:10:20 sync:1",
    "open:0 capture:1:0 launch:1:5 host:1:7 launch:1:5 endcapture:1:1 nodes:1 instantiate:1 graph:1:1 graph:1:1 sync:1",
    "open:0 capture:1:0 sync:1 launch:1:1 endcapture:1:1 launch:1:9 sync:1",
    "open:0 launch:1:10:20 fork launch:1:10:20 sync:1",
)


def _lines(output: str) -> list[str]:
    """Without moments, which calls of the hook shift."""
    return [line.split(" at ")[0] for line in output.splitlines()]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("priority", [0, 1])
@pytest.mark.parametrize("given", SCRIPTS)
def test_captures_and_errors_are_those_of_the_driver(given: str, priority: int, model: str) -> None:
    program = building.client("time_script", "-lcuda")
    outputs = []
    for hook in (False, True):
        with Simulation(model=model) as sim:
            limits = CardLimits(uuid=UUID, memory_quota_bytes=MEMORY_BYTES, core_quota=0.5, priority=priority)  # type: ignore[arg-type]
            region = make_region(sim.folder / "region", cards=[limits])
            outputs.append(_lines(sim.run([program, *given.split()], hook=hook, region=region.path)))
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("inert", [True, False])
def test_without_a_readable_region_launches_pass(tmp_path: Path, inert: bool) -> None:
    (tmp_path / "limits").write_bytes(b"not limits" * 1000)
    program = building.client("time_script", "-lcuda")
    script = ["open:0", "launch:1:1000:50", "sync:1", "now"]
    with Simulation(env={"EGPU_SIM_CALL_NS": "0"}) as sim:
        process = sim.start([program, *script], hook=True, env={"EGPU_REGION": "" if inert else str(tmp_path)})
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "now 50000\n")
    assert len(errors.splitlines()) == (not inert), errors
