"""Tenants who are not what they seem beside one who is: what each got of the card, by the driver's own books."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import building
from agent import make_neighbours
from contention import MEMORY_BYTES, UUID, launcher_program
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

RUN_SECONDS_MAX = 120


@dataclass(frozen=True)
class Tenant:
    """One process that floods the card with a kernel whose time is not always the same."""

    quota: float = 1.0
    first_us: int = 1000
    first_launches: int = 0
    """0: the first kind for ever."""
    then_us: int = 0
    then_launches: int = 0
    priority: Literal[0, 1] = 0
    lies: bool = False
    """Its page says that it has work and tokens and was charged nothing."""
    hook: bool = True
    same: bool = False
    """Another process of the container before it."""


def share_card(tenants: Sequence[Tenant], until_ms: int, *, from_ms: int = 1, model: str = "fifo") -> list[float]:
    """Parts of the card's time that each had between two moments."""
    machine = {"EGPU_SIM_CONTEXT_MIB": "1"}
    with Simulation(model=model, start=len(tenants) + 1, env=machine) as sim:
        apart = [_limits(one) for one in tenants if not one.same]
        regions = make_neighbours(sim.folder / "regions", apart, memory_bytes=MEMORY_BYTES)
        program = building.client("attack_changing", "-lcuda", f"-I{building.ROOT / 'hook/include'}")
        processes, container = [], -1
        for rank, one in enumerate(tenants):
            container += not one.same
            command: list[str | Path] = [program, *_arguments(one, until_ms)]
            if one.lies:
                command.append(f"page={_two_pages(regions[container].path, container)}")
            processes.append(sim.start(command, hook=one.hook, region=regions[container].path, rank=rank))
        watch: list[str | Path] = [launcher_program(), f"observe_ms={from_ms}", f"until_ms={until_ms}"]
        observer = sim.start(watch, rank=len(tenants))
        *_, observed = sim.wait(*processes, observer, seconds=RUN_SECONDS_MAX)
    first, last = (json.loads(line) for line in observed.splitlines())
    passed_ns = last["at_ns"] - first["at_ns"]
    return [(last[str(one.pid)] - first[str(one.pid)]) / passed_ns for one in processes]


def _arguments(one: Tenant, until_ms: int) -> list[str]:
    return [
        f"first_us={one.first_us}",
        f"first_launches={one.first_launches}",
        f"then_us={one.then_us}",
        f"then_launches={one.then_launches}",
        f"until_ms={until_ms}",
    ]


def _limits(one: Tenant) -> CardLimits:
    return CardLimits(uuid=UUID, memory_quota_bytes=MEMORY_BYTES, core_quota=one.quota, priority=one.priority)


def _two_pages(region: Path, index: int) -> Path:
    """The liar's hook sees the others and writes a page of its own, and they see the one that the liar writes."""
    cards = region / "cards"
    true = Path(os.readlink(cards)) / UUID
    cards.unlink()
    (cards / UUID).mkdir(parents=True)
    for file in true.iterdir():
        if file.name != f"{index}.page":
            (cards / UUID / file.name).symlink_to(file)
    shutil.copy(true / f"{index}.page", cards / UUID)
    return true / f"{index}.page"
