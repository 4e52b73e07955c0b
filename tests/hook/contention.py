"""Containers that share one simulated card: what each of them got, read from the driver's own books."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, Protocol

import building
from agent import Region, make_neighbours
from simulation import Simulation

from egpu_runtime.agent.region import CardLimits

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
"""Of the simulated driver's first card."""
MEMORY_BYTES = 16 << 30
WARM_UP_MS = 1000
"""The first second is not judged: costs are learned in it."""
MEASURED_MS = 4000
RUN_SECONDS_MAX = 300


@dataclass(frozen=True)
class Container:
    """One process of one container."""

    quota: float = 1.0
    kernel_us: int = 1000
    mode: Literal["plain", "graph", "cooperative", "ex"] = "plain"
    policy: Literal["hard", "soft"] = "hard"
    priority: Literal[0, 1] = 0
    wait: bool = False
    """Waits for each kernel before it submits the next one."""
    gap_us: int = 0
    burst: int = 0
    """Without waiting: pauses for `gap_us` after so many launches."""
    from_ms: int = 0
    until_ms: int = 0
    """0: to the end."""
    hook: bool = True
    streams: int = 1
    """Submits to them in turn."""
    kinds: int = 1
    """Kernels in turn; the n-th takes n times as long."""
    same: bool = False
    """Another process of the container before it."""


@dataclass(frozen=True)
class Card:
    """How the driver behaves, and for how long it is watched after the first second."""

    model: str = "fifo"
    clock: str = "virtual"
    cuda: str = "13.0"
    measured_ms: int = MEASURED_MS
    jitter_thousandths: int = 0
    """Kernels take up to so much less or more than they declare."""


FIFO = Card()
TIMESLICE = Card(model="timeslice")


@dataclass(frozen=True)
class Outcome:
    """Parts of the card's time between warm-up and end, and the latencies of those that waited, in ns."""

    shares: list[float]
    latencies_ns: list[list[int]]
    told_ns: list[int]
    """Busy time of each container from its beginning to its end, as its files tell it; 0 without the hook."""
    given_ns: list[int]
    """The same by the driver's books."""


class Meanwhile(Protocol):
    """What happens while the containers run (on the wall clock; it is called at once)."""

    def __call__(self, regions: list[Region], processes: list[subprocess.Popen[str]]) -> None: ...


class Moments(Protocol):
    """What happens at moments of the virtual clock: words of clients/moments.c."""

    def __call__(self, regions: list[Region], processes: list[subprocess.Popen[str]]) -> list[str]: ...


def share_card(
    containers: Sequence[Container],
    card: Card = FIFO,
    *,
    meanwhile: Meanwhile | None = None,
    moments: Moments | None = None,
) -> Outcome:
    """Runs the containers side by side. Raises AssertionError when one of them fails (killed ones may)."""
    environment = {"EGPU_SIM_JITTER": str(card.jitter_thousandths), "EGPU_SIM_CONTEXT_MIB": "1"}
    end_ms = WARM_UP_MS + card.measured_ms
    start = len(containers) + 1 + (moments is not None)
    with Simulation(model=card.model, clock=card.clock, cuda=card.cuda, start=start, env=environment) as sim:
        apart = [_limits(one) for one in containers if not one.same]
        regions = make_neighbours(sim.folder / "regions", apart, memory_bytes=MEMORY_BYTES)
        processes: list[subprocess.Popen[str]] = []
        for rank, (one, index) in enumerate(zip(containers, _regions_of(containers), strict=True)):
            words: list[str | Path] = [launcher_program(), *_arguments(one, end_ms)]
            processes.append(sim.start(words, hook=one.hook, region=regions[index].path, rank=rank))
        watch: list[str | Path] = [launcher_program(), f"observe_ms={WARM_UP_MS}", f"until_ms={end_ms}"]
        observer = sim.start(watch, rank=len(containers))
        if meanwhile is not None:
            meanwhile(regions, processes)
        killed: list[int] = []
        if moments is not None:
            happening = moments(regions, processes)
            killed = [int(word.removeprefix("kill:")) for word in happening if word.startswith("kill:")]
            sim.run([building.client("moments", "-lcuda"), *happening], rank=len(containers) + 1)
        living = [one for one in processes if one.returncode is None and one.pid not in killed]
        *outputs, observed = sim.wait(*living, observer, seconds=RUN_SECONDS_MAX)
        assert card.clock == "wall" or sim.stalls == 0, sim.summary()
        given_ns = [0] * len(regions)
        for rank, index in enumerate(_regions_of(containers)):
            given_ns[index] += sim.card().rank(rank).busy_ns
        told_ns = [region.usage().cards[0].busy_ns if (region.path / "usage").exists() else 0 for region in regions]
    first, last = (json.loads(line) for line in observed.splitlines())
    return Outcome(
        shares=[(last[str(one.pid)] - first[str(one.pid)]) / (last["at_ns"] - first["at_ns"]) for one in processes],
        latencies_ns=[json.loads(output)["latencies_ns"] for output in outputs],
        told_ns=told_ns,
        given_ns=given_ns,
    )


def _regions_of(containers: Sequence[Container]) -> list[int]:
    """Of each process its container's."""
    return [index - 1 for index in accumulate(int(not one.same) for one in containers)]


def launcher_program() -> Path:
    return building.client("launcher", "-lcuda", f"-I{building.DRIVER}")


def _limits(one: Container) -> CardLimits:
    return CardLimits(
        uuid=UUID, memory_quota_bytes=MEMORY_BYTES, core_quota=one.quota, policy=one.policy, priority=one.priority
    )


def _arguments(one: Container, end_ms: int) -> list[str]:
    return [
        f"kernel_us={one.kernel_us}",
        f"mode={one.mode}",
        f"wait={int(one.wait)}",
        f"gap_us={one.gap_us}",
        f"burst={one.burst}",
        f"streams={one.streams}",
        f"kinds={one.kinds}",
        f"from_ms={one.from_ms}",
        f"until_ms={one.until_ms or end_ms}",
    ]
