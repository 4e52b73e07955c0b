"""Tenants who want more than their quota, and programs that do what real ones do: none of it may get through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import building
import pytest
from agent import make_region
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

MIB = 1 << 20
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
CONTEXT_MIB = 300
WHOLE = CardLimits(uuid=UUID, memory_quota_bytes=16 << 30)
TENTH = replace(WHOLE, core_quota=0.1)
SECONDS_MAX = 20
MODELS = ("fifo", "timeslice")


def run(program: Path, *words: str, limits: CardLimits = WHOLE, clock: str = "virtual", model: str = "fifo") -> str:
    with Simulation(clock=clock, model=model) as sim:
        region = make_region(sim.folder / "region", cards=[limits])
        return sim.run([program, *words], hook=True, region=region.path, seconds=SECONDS_MAX)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["plain", "per_thread", "context", "streams"])
def test_work_is_charged_as_it_was(mode: str, model: str) -> None:
    with Simulation(clock="virtual", model=model) as sim:
        region = make_region(sim.folder / "region", cards=[replace(WHOLE, core_quota=0.9)])
        sim.run([building.client("attack_measured", "-lcuda"), mode, "1000"], hook=True, region=region.path, rank=0)
        assert region.usage().cards[0].busy_ns == pytest.approx(sim.card().busy_ns, rel=0.005)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_measured_holds_up_nobody(model: str) -> None:
    output = run(building.client("attack_streams", "-lcuda"), limits=replace(WHOLE, core_quota=0.9), model=model)
    assert int(output.split()[1]) < 10_000


def test_context_of_many_threads_is_charged_once() -> None:
    output = run(building.client("attack_retain", "-lcuda"), clock="wall")
    assert output == f"used_mib {CONTEXT_MIB}\n"


def test_nothing_is_free_at_the_end() -> None:
    building.client("attack_exit_late", "-shared", "-lcuda")
    program = building.client(
        "attack_exit",
        "-lcuda",
        f"-L{building.CLIENT_BUILD}",
        f"-Wl,-rpath,{building.CLIENT_BUILD}",
        "-Wl,--no-as-needed",
        "-lattack_exit_late",
    )
    limits = replace(TENTH, memory_quota_bytes=(CONTEXT_MIB + 64) * MIB)
    output = run(program, limits=limits, clock="wall")
    assert int(output.split()[1]) <= 64


@pytest.mark.parametrize("model", MODELS)
def test_clock_that_began_anew_is_no_debt(model: str) -> None:
    """The files of a container may outlive a restart of the node, and times in them are then in the future."""
    program = building.client("launcher", "-lcuda", f"-I{building.DRIVER}")
    with Simulation(clock="virtual", model=model) as first, Simulation(clock="virtual", model=model) as second:
        region = make_region(first.folder / "region", cards=[TENTH])
        first.run([program, "until_ms=3000"], hook=True, region=region.path, rank=0)
        second.run([program, "until_ms=500"], hook=True, region=region.path, rank=0)
        assert second.now_ns < 2 * 10**9


def test_recorded_functions_are_the_programs_own() -> None:
    assert run(building.client("attack_recorded", "-lcuda")) == "own 1\n"
