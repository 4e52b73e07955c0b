"""A container's region with no room left for one more process: its memory is refused, its kernels are limited with
those of the others, one line says why."""

from __future__ import annotations

import json
import mmap
import os
import struct
import subprocess
from pathlib import Path

import building
import pytest
from agent import Region, make_region
from contention import launcher_program
from simulation import Simulation

from egpu_runtime.agent import region_layout as words
from egpu_runtime.agent.region import CardLimits, place

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
MIB = 1 << 20
ELSEWHERE = 1
"""A PID namespace that is not ours: nobody here may take its processes for dead."""
SECONDS_MAX = 20
UNTIL_MS = 31_000
ERROR = 0.02
APART = ("unshare", "--map-root-user", "--mount", "sh", "-c")
INSIDE = (
    'mount -t tmpfs -o size="$KIB"k tmpfs "$EGPU_REGION" && cp "$LIMITS" "$EGPU_REGION/limits" || exit 9; '
    'for each in 1 2; do LD_PRELOAD="$HOOK" "$@" 2>&1; echo "ended $?"; done'
)
SERVED = "init 0; context 0; alloc 0; spin 0; ended 0"
WITHOUT = "egpu: new GPU memory is refused, for it cannot be counted"
REFUSED = f"init 0; context 0; {WITHOUT}; alloc 2; spin 0; ended 0"
NO_FILE = "egpu: the usage file of this container cannot be used: new GPU memory is refused, compute passes"
NO_PLACE = "egpu: no place for this process in the usage file, its disk may be full: new GPU memory is refused"
NO_SLOT = "egpu: more processes than this container has slots for: new GPU memory is refused"
QUOTA = 0.1


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return make_region(tmp_path / "region", cards=[CardLimits(UUID, memory_quota_bytes=1024 * MIB, core_quota=0.5)])


def environment(region: Region) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "LD_LIBRARY_PATH": str(building.driver()),
        "EGPU_SIM_STATE": str(region.path.parent / "card"),
        "EGPU_REGION": str(region.path),
    }


def script() -> list[str]:
    return [str(building.client("quota", "-lcuda")), "context", f"alloc:{MIB}", "spin:2"]


def fill_slots(region: Region) -> None:
    """As if so many processes of another PID namespace were there."""
    slot_bytes = words.LAYOUTS["slot"].size
    with (region.path / "usage").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        first = words.LAYOUTS["usage"].size - words.SLOT_COUNT_MAX * slot_bytes
        for index in range(words.SLOT_COUNT_MAX):
            struct.pack_into("<QQQ", memory, first + index * slot_bytes, index + 1, 1, ELSEWHERE)
        offset, form = place("usage_head", "slot_count_used")
        struct.pack_into(form, memory, offset, words.SLOT_COUNT_MAX)


def test_one_process_more_than_there_are_slots(region: Region) -> None:
    """Its memory is refused, its kernels run, and its container's others are not disturbed."""

    def run() -> tuple[str, list[str]]:
        done = subprocess.run(script(), env=hooked, capture_output=True, text=True, timeout=SECONDS_MAX)
        return "; ".join(done.stdout.splitlines()), done.stderr.splitlines()

    hooked = {**environment(region), "LD_PRELOAD": str(building.hook())}
    assert run() == ("init 0; context 0; alloc 0; spin 0", [])
    fill_slots(region)
    assert run() == ("init 0; context 0; alloc 2; spin 0", [NO_SLOT, WITHOUT])
    assert len(region.usage().slots) == words.SLOT_COUNT_MAX


@pytest.mark.parametrize("kernel_us", [1000, 1_000_000])
@pytest.mark.parametrize("count", [1, 3])
def test_kernels_without_a_slot_are_limited(tmp_path: Path, count: int, kernel_us: int) -> None:
    """By the container's bucket, which is nobody's; and counted for the container."""
    with Simulation(clock="virtual", start=count + 1, env={"EGPU_SIM_CONTEXT_MIB": "1"}) as sim:
        region = make_region(tmp_path / "region", cards=[CardLimits(UUID, MIB, core_quota=QUOTA)])
        with Simulation() as before:
            before.run([building.client("quota", "-lcuda"), "context"], hook=True, region=region.path)
        fill_slots(region)
        words = [launcher_program(), f"kernel_us={kernel_us}", f"until_ms={UNTIL_MS}"]
        for _ in range(count):
            sim.start(words, hook=True, region=region.path)
        observer = sim.start([launcher_program(), "observe_ms=1000", f"until_ms={UNTIL_MS}"])
        first, last = (json.loads(line) for line in sim.wait(observer, *sim.processes)[0].splitlines())
        share = (sum(last.values()) - sum(first.values())) / (last["at_ns"] - first["at_ns"]) - 1
        card = region.usage().cards[0]
        assert share == pytest.approx(QUOTA, abs=ERROR)
        assert card.busy_ns == pytest.approx(sim.card().busy_ns, rel=ERROR)
        assert card.launch_count >= sim.card().busy_ns // (kernel_us * 1000)


def said_on_a_small_disk(region: Region, kib: int) -> str:
    """By two processes, one after the other, whose region is on a disk of that size."""
    limits = region.path.rename(region.path.with_name("elsewhere")) / "limits"
    region.path.mkdir()
    added = {"KIB": str(kib), "LIMITS": str(limits), "HOOK": str(building.hook())}
    done = subprocess.run(
        [*APART, INSIDE, "sh", *script()],
        env={**environment(region), **added},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    if not done.stdout:
        pytest.skip(f"needs the right to mount a disk of its own: {done.stderr}")
    return "; ".join(done.stdout.splitlines())


@pytest.mark.parametrize(
    ("kib", "expected"),
    [(20, f"{NO_FILE}; {REFUSED}"), (28, f"{NO_PLACE}; {REFUSED}"), (32, SERVED)],
    ids=["no room for the head", "no room for a slot", "room for one"],
)
def test_a_full_disk(region: Region, kib: int, expected: str) -> None:
    """Never SIGBUS, which is what touching a page that has no block would be."""
    assert said_on_a_small_disk(region, kib) == f"{expected}; {expected}"
