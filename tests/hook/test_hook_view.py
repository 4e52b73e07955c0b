"""A container sees its share of the card and its own processes, through nvidia-ml-py and the driver alike."""

from __future__ import annotations

import os
import re
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
WORK_MS = 30000


@dataclass
class Card:
    """One simulated card on the wall clock, and a container on it beside a foreign program."""

    folder: Path
    cuda: str
    region: Region
    stack: ExitStack
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    workers: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *command: str | Path, hooked: bool, **further: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EGPU_")}
        environment |= {"LD_LIBRARY_PATH": str(building.driver(self.cuda)), "EGPU_SIM_STATE": str(self.folder / "card")}
        if hooked:
            environment |= {"LD_PRELOAD": str(building.hook()), "EGPU_REGION": str(self.region.path)}
        environment |= further
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

    def work(self, *, hooked: bool, **further: str) -> int:
        """A process that holds as much and has kernels on the card until the test ends; its PID."""
        program = building.client("quota", "-lcuda", cuda=self.cuda)
        process = self.start(program, "context", f"alloc:{HELD_MIB * MIB}", f"spin:{WORK_MS}", hooked=hooked, **further)
        assert read_until(process, "alloc 0") == {"init": "0", "context": "0"}
        self.workers.append(process)
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
        for worker in made.workers:
            worker.kill()
        for process in made.started:
            process.communicate(timeout=SECONDS_MAX)


def test_only_the_own_share_and_the_own_processes_are_seen(card: Card) -> None:
    own = [card.hold(), card.hold()]
    foreign = card.work(hooked=False)
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
        "samples": "NVMLError_NotFound",
        f"name_{own[0]}": "success",
        f"name_{foreign}": "NVMLError_NotFound",
    }


def test_without_the_hook_all_are_seen(card: Card) -> None:
    pids = [card.hold(), card.work(hooked=False)]
    _, seen = card.look(*pids, hooked=False)
    used = 2 * (CONTEXT_MIB + HELD_MIB)
    assert seen["v1"] == str((CARD_MIB, used, CARD_MIB - used))
    assert seen["compute_v3"] == str(sorted((pid, CONTEXT_MIB + HELD_MIB) for pid in pids))
    assert seen["samples"] == str([pids[1]])
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


def test_a_neighbours_work_is_not_shown(card: Card) -> None:
    """The card is full, by somebody else. What is the container's own: test_hook_view_busy.py."""
    card.work(hooked=False)
    process, _ = card.look()
    time.sleep(SAMPLE_SECONDS)
    output, _ = process.communicate("\n", timeout=SECONDS_MAX)
    assert output == "gpu 0\n"


APART = ("unshare", "--fork", "--pid")
"""A PID namespace, without a /proc of its own yet: there a process still reads its number on the host."""
ENTER = 'read -r number rest </proc/self/stat; EGPU_SIM_HOST_PID=$number exec unshare --mount-proc "$@"'


@pytest.mark.parametrize(
    ("hooked", "expected"),
    [
        (
            True,
            "processes 0 1 self:302; details 0 self:302; busy 0 1 self; busies 0 self; accounts 0 self; account 0 1",
        ),
        (
            False,
            "processes 0 2 self:364 other:300; details 0 self:364 other:300; busy 0 2 self other; busies 0 self other;"
            " accounts 0 self other; account 0 1",
        ),
    ],
)
def test_numbers_are_those_of_the_containers_pid_namespace(card: Card, hooked: bool, expected: str) -> None:
    """There the program is process 1; to the driver it has another number, and somebody else is process 1."""
    tried = subprocess.run([*APART, "unshare", "--mount-proc", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"needs the right to make a PID namespace: {tried.stderr.strip()}")
    card.work(hooked=False, EGPU_SIM_HOST_PID="1")
    program = building.client("nvml_words", "-lcuda", "-lnvidia-ml", cuda=card.cuda)
    script = "work:50 busy:8 work:1100 processes:3:8 details:1:0 busy:8 busies:1 accounts account:0 self who:2"
    inside = card.start(
        *APART, "sh", "-c", ENTER, "sh", program, *script.split(), hooked=hooked, EGPU_SIM_ACCOUNTING="1"
    )
    output, _ = inside.communicate(timeout=SECONDS_MAX)
    assert inside.returncode == 0, output
    *answers, name, other_name = [line.strip() for line in output.splitlines()[3:]]
    # How busy they were is held against the truth on the virtual clock.
    told = [re.sub(r"(self|other):\d+", r"\1", one) if not one.startswith(("p", "d")) else one for one in answers]
    assert "; ".join(told) == expected
    assert (name, other_name) == ("self 0 nvml_words", "who 6")
