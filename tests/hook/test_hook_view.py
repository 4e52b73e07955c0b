"""A container sees its share of the card and its own processes, through nvidia-ml-py and the driver alike."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import building
import pytest
from agent import Region, make_region
from children import Child

from egpu_runtime.agent.region import CardLimits

MIB = 1 << 20
UUID = "GPU-45475055-5349-4d00-8000-000000000000"
QUOTA_MIB, CARD_MIB, CONTEXT_MIB, HELD_MIB = 1024, 16384, 300, 64
SECONDS_MAX = 30
SAMPLE_SECONDS = 1.1


@dataclass
class Card:
    """One simulated card on the wall clock, and a container on it beside a foreign program."""

    folder: Path
    cuda: str
    region: Region
    stack: ExitStack
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *command: str | Path, hooked: bool) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EGPU_")}
        environment |= {"LD_LIBRARY_PATH": str(building.driver(self.cuda)), "EGPU_SIM_STATE": str(self.folder / "card")}
        if hooked:
            environment |= {"LD_PRELOAD": str(building.hook()), "EGPU_REGION": str(self.region.path)}
        return self.stack.enter_context(
            Child(
                [str(word) for word in command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )

    def hold(self, *, hooked: bool = True) -> int:
        """A process with a context and HELD_MIB; its PID."""
        program = building.client("quota", "-lcuda", cuda=self.cuda)
        process = self.start(program, "context", f"alloc:{HELD_MIB * MIB}", "wait", hooked=hooked)
        assert read_until(process, ".") == {"init": "0", "context": "0", "alloc": "0"}
        self.started.append(process)
        return process.pid

    def look(self, *pids: int, hooked: bool = True) -> tuple[subprocess.Popen[str], dict[str, str]]:
        view = building.CLIENTS / "view.py"
        process = self.start(sys.executable, view, *map(str, pids), hooked=hooked)
        self.started.append(process)
        return process, read_until(process, "ready")


def read_until(process: subprocess.Popen[str], last: str) -> dict[str, str]:
    assert process.stdout is not None
    seen = {}
    while (line := process.stdout.readline().strip()) != last:
        assert line
        name, _, value = line.partition(" ")
        seen[name] = value
    return seen


@pytest.fixture(params=building.CUDA_VERSIONS)
def card(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Card]:
    region = make_region(tmp_path / "region", cards=[CardLimits(UUID, memory_quota_bytes=QUOTA_MIB * MIB)])
    with ExitStack() as stack:
        made = Card(tmp_path, str(request.param), region, stack)
        yield made
        for process in made.started:
            process.communicate(timeout=SECONDS_MAX)


def test_only_the_own_share_and_the_own_processes_are_seen(card: Card) -> None:
    own = [card.hold(), card.hold()]
    foreign = card.hold(hooked=False)
    _, seen = card.look(own[0], foreign)
    used = 2 * (CONTEXT_MIB + HELD_MIB)
    processes = str(sorted((pid, CONTEXT_MIB + HELD_MIB) for pid in own))
    assert seen == {
        "v1": str((QUOTA_MIB, used, QUOTA_MIB - used)),
        "v2": str((QUOTA_MIB, used, QUOTA_MIB - used, 0)),
        "compute": processes,
        "compute_v2": processes,
        "compute_v3": processes,
        "graphics": "[]",
        "mps": "[]",
        "samples": seen["samples"],
        f"name_{own[0]}": "success",
        f"name_{foreign}": "NVMLError_NotFound",
    }
    assert str(foreign) not in seen["samples"]


def test_without_the_hook_all_are_seen(card: Card) -> None:
    pids = [card.hold(), card.hold(hooked=False)]
    _, seen = card.look(*pids, hooked=False)
    used = 2 * (CONTEXT_MIB + HELD_MIB)
    assert seen["v1"] == str((CARD_MIB, used, CARD_MIB - used))
    assert seen["compute_v3"] == str(sorted((pid, CONTEXT_MIB + HELD_MIB) for pid in pids))
    assert {seen[f"name_{pid}"] for pid in pids} == {"success"}


def test_a_quota_below_what_is_in_use_shows_a_full_card(card: Card) -> None:
    card.hold()
    card.region.change(0, memory_quota_bytes=CONTEXT_MIB * MIB)
    _, seen = card.look()
    assert seen["v1"] == str((CONTEXT_MIB, CONTEXT_MIB, 0))


def test_a_quota_above_the_card_shows_the_card(card: Card) -> None:
    card.region.change(0, memory_quota_bytes=2 * CARD_MIB * MIB)
    _, seen = card.look()
    assert seen["v1"] == str((CARD_MIB, 0, CARD_MIB))


def test_an_oversubscribed_card_is_as_large_as_the_quota(card: Card) -> None:
    card.region.change(0, memory_quota_bytes=2 * CARD_MIB * MIB, oversubscription=True)
    _, seen = card.look()
    assert seen["v1"] == str((2 * CARD_MIB, 0, 2 * CARD_MIB))


@pytest.mark.parametrize(("hooked", "least", "most"), [(False, 0, 0), (True, 60, 100)])
def test_utilisation_is_the_containers_own(card: Card, hooked: bool, least: int, most: int) -> None:
    """The card is full; by a neighbour, or by a process of this container."""
    card.region.change(0, core_quota=0.9)
    program = building.client("quota", "-lcuda", cuda=card.cuda)
    busy = card.start(program, "context", "spin:2000", "wait", hooked=hooked)
    card.started.append(busy)
    process, _ = card.look()
    time.sleep(SAMPLE_SECONDS)
    output, _ = process.communicate("\n", timeout=SECONDS_MAX)
    name, value = output.split()
    assert name == "gpu"
    assert least <= int(value) <= most
