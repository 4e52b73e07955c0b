"""Programs that are stopped for a while, and programs that are shown another time: on the machine's own clock."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import building
from agent import Region
from contention import WARM_UP_MS, Card, Container, Meanwhile, share_card

WATCHED_MS = 500
STOP_SECONDS = 0.45
"""From the start, so that costs are learned."""
GO_ON_SECONDS = WARM_UP_MS / 1000
OWED_MS = 60
"""THROTTLE_OWED_NS_MAX: so much of the time in which it was stopped it may make up for."""
LOOKS_MAX = 2000
FUTEX = "202"
FUTEX_WAIT_BITSET = 9
FUTEX_COMMAND = 0x7F


def stop_in_gate(pid: int) -> None:
    """SIGSTOP while it waits in the hook, for a lock of the simulated driver would hold up all others."""
    for _ in range(LOOKS_MAX):
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.0002)
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        if words[0] == FUTEX and int(words[2], 16) & FUTEX_COMMAND == FUTEX_WAIT_BITSET:
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.0007)
    raise AssertionError("it never waits")


def stopping(place: int, until_seconds: float) -> Meanwhile:
    def meanwhile(regions: list[Region], processes: list[subprocess.Popen[str]]) -> None:
        assert regions
        began = time.monotonic()
        time.sleep(STOP_SECONDS)
        stop_in_gate(processes[place].pid)
        time.sleep(max(0.0, began + until_seconds - time.monotonic()))
        os.kill(processes[place].pid, signal.SIGCONT)

    return meanwhile


def check(given: tuple[Container, ...], stopped: int, until_seconds: float, expected: tuple[float, float]) -> None:
    """expected: the share of the first container, at least and at most."""
    card = Card(clock="wall", measured_ms=WATCHED_MS)
    shares = share_card(given, card, meanwhile=stopping(stopped, until_seconds)).shares
    assert expected[0] <= shares[0] <= expected[1], shares


def test_who_was_stopped_neither_bursts_nor_is_locked_out() -> None:
    quota = 0.3
    check((Container(quota, 1000),), 0, GO_ON_SECONDS, (quota / 2, quota + OWED_MS / WATCHED_MS + 0.02))


def test_a_stopped_neighbour_is_an_idle_one() -> None:
    """Its page says that it is busy, and nobody takes that back."""
    containers = (Container(0.2, 1000, policy="soft"), Container(0.8, 1000))
    check(containers, 1, GO_ON_SECONDS + WATCHED_MS / 1000, (0.25, 1.001))


def test_a_program_that_is_shown_another_time_has_its_share_of_the_real_one(tmp_path: Path) -> None:
    """A clock that stands would let a wait never end, a fast one would fill the bucket."""
    sources = [
        building.ROOT / "tests/hook/ideas/clock_shown.c",
        building.HOOK / "src/clock.c",
        building.HOOK / "src/loader.c",
    ]
    program = tmp_path / "clock_shown"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{building.HOOK / 'src'}"]
    subprocess.run(["gcc", *flags, "-o", program, *sources, "-ldl"], check=True)
    passed, shown = subprocess.run([program], capture_output=True, text=True, check=True, timeout=10).stdout.split()
    assert (int(passed) >= 20, shown) == (True, "0")
