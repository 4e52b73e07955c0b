"""Memory that is held in ways no call of its holder tells, and refusals that would be false."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from pathlib import Path

import building
import pytest
from containers import CONTEXT_MIB, MIB, Container, Maker, check, go_on, until_it_waits

from egpu_runtime.agent.region import place

SHARED_MIB = 200
SMALL_CONTEXT_MIB = 24
AGENT_WRITES_SECONDS = 0.3
LOOKS_AGAIN_SECONDS = 1.05
"""A little more than the period of the hook's looks at a broken region."""
DRIVER_FINDS_OUT_SECONDS = 0.3
"""The simulated driver looks for the killed every 50 ms, less often on a busy machine."""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "threshold:64M pool:48M free:0 sync threshold:0 sync alloc:32M alloc:33M",
            "threshold 0; pool 0; free 0; sync 0; threshold 0; sync 0; alloc 0; alloc 2",
        ),
        (
            "threshold:64M pool:48M free:0 sync async:32M async:33M",
            "threshold 0; pool 0; free 0; sync 0; async 0; async 2",
        ),
        (
            "threshold:64M pool:24M pool:24M free:0 sync alloc:40M alloc:1",
            "threshold 0; pool 0; pool 0; free 0; sync 0; alloc 0; alloc 2",
        ),
    ],
)
def test_what_a_pool_only_keeps_is_no_reason_to_refuse(make: Maker, script: str, expected: str) -> None:
    """As the driver on a full card: the unused memory of pools goes before anything is refused."""
    check(make(), script, expected)


def test_a_pool_keeps_what_would_not_help(make: Maker) -> None:
    container = make()
    with container.start("context threshold:64M pool:48M free:0 sync alloc:65M wait") as process:
        assert until_it_waits(process).endswith("alloc 2")
        assert container.classes()["pool"] == 48 * MIB
        process.communicate()


@pytest.mark.parametrize("end", ["release", "exit", "kill"])
def test_memory_of_a_process_that_is_gone_is_its_users(make: Maker, end: str) -> None:
    """Who made it gives it back while another one still has it: the driver says whose it is now."""
    contexts = 3 if end == "release" else 2
    container = make(contexts=contexts, room_mib=SHARED_MIB + 50)
    with ExitStack() as stack:
        maker = stack.enter_context(
            container.start(f"context shared:{SHARED_MIB}M share:0 wait {'free:0 wait' if end == 'release' else ''}")
        )
        name = re.search(r"share 0 (\d+:\d+)", until_it_waits(maker))
        assert name
        user = stack.enter_context(container.start(f"context take:{name[1]} wait"))
        assert until_it_waits(user) == "init 0; context 0; take 0"
        assert container.charged_mib() == 2 * CONTEXT_MIB + SHARED_MIB
        if end == "kill":
            maker.kill()
            maker.communicate()
        else:
            go_on(maker)
        if end == "release":
            assert until_it_waits(maker) == "free 0"
        elif end == "exit":
            maker.communicate()
        newcomer = stack.enter_context(container.start("context alloc:2M wait alloc:49M alloc:48M wait"))
        assert until_it_waits(newcomer) == "init 0; context 0; alloc 0"
        if end == "kill":
            time.sleep(DRIVER_FINDS_OUT_SECONDS)
        go_on(newcomer)
        assert until_it_waits(newcomer) == "alloc 2; alloc 0"
        assert container.charged_mib() == CONTEXT_MIB * contexts + SHARED_MIB + 50
        assert container.classes()["unaccounted"] == SHARED_MIB * MIB
        for process in (newcomer, user, maker):
            process.communicate()
    assert container.charged_mib() == 0


def test_what_the_agent_saw_of_an_idle_process_counts(make: Maker) -> None:
    """Where libnvidia-ml does not know the container's processes by their numbers here."""
    container = make(contexts=2)
    assert container.region is not None
    alone = container.folder / "without_nvml"
    alone.mkdir()
    (alone / "libcuda.so.1").symlink_to(building.driver(container.cuda) / "libcuda.so.1")
    container.extra["LD_LIBRARY_PATH"] = str(alone)
    with container.start("context wait") as idle:
        until_it_waits(idle)
        container.region.see(idle.pid, 0, (CONTEXT_MIB + 50) * MIB)
        check(container, "alloc:15M alloc:14M", "alloc 2; alloc 0")
        idle.communicate()


@pytest.mark.parametrize(
    ("device", "script"),
    [
        (0, "context"),
        (0, "context destroy context"),
        (0, "context context"),
        (0, "retain reset retain"),
        (0, "retain release retain"),
        (1, "device:0 context device:1 context"),
        (1, "device:0 retain device:1 retain reset retain"),
    ],
)
def test_each_context_is_measured(make: Maker, device: int, script: str) -> None:
    """Also on a card where the process has nothing, or nothing any more: far less than what is estimated."""
    container = make(contexts=2, device=device)
    container.extra["EGPU_SIM_CONTEXT_MIB"] = str(SMALL_CONTEXT_MIB)
    with container.start(f"{script} wait") as process:
        until_it_waits(process)
        count = 2 if script == "context context" else 1
        assert container.classes() == {"context": count * SMALL_CONTEXT_MIB * MIB}
        process.communicate()


def generation_written(container: Container, value: int) -> None:
    assert container.region is not None
    with (container.region.path / "limits").open("r+b") as file:
        file.seek(place("limits", "generation")[0])
        file.write(bytes([value]))


def test_a_process_that_starts_while_the_agent_writes(make: Maker) -> None:
    container = make()
    generation_written(container, 1)
    with container.start("context alloc:64M alloc:1") as process:
        time.sleep(AGENT_WRITES_SECONDS)
        generation_written(container, 2)
        said, errors = process.communicate()
    assert (said, errors) == ("init 0\ncontext 0\nalloc 0\nalloc 2\n", "")


def test_a_region_that_is_mended_is_used(make: Maker) -> None:
    """Refused while it is broken; what was made meanwhile is charged afterwards, and goes when it goes."""
    container = make()
    assert container.region is not None
    limits = (container.region.path / "limits").read_bytes()
    (container.region.path / "limits").unlink()
    script = "context alloc:1M wait alloc:65M alloc:64M wait destroy wait"
    with container.start(script) as process:
        assert until_it_waits(process) == "init 0; context 0; alloc 2"
        (container.region.path / "limits").write_bytes(limits)
        time.sleep(LOOKS_AGAIN_SECONDS)
        go_on(process)
        assert until_it_waits(process) == "alloc 2; alloc 0"
        assert container.classes() == {"context": CONTEXT_MIB * MIB, "device": 64 * MIB}
        go_on(process)
        assert until_it_waits(process) == "destroy 0"
        assert container.classes() == {}
        process.communicate()


def test_what_happens_without_limits_is_counted(make: Maker) -> None:
    container = make()
    assert container.region is not None
    (container.region.path / "limits").unlink()
    said, errors = container.run("context spin:5 alloc:1M alloc:1M")
    assert said == "init 0; context 0; spin 0; alloc 2; alloc 2"
    assert len(errors.splitlines()) == 2
    usage = container.region.usage()
    # At the start, at the look that context makes, and for each allocation.
    assert (usage.region_error_count, usage.passed_launch_count) == (4, 5)


def test_usage_of_another_version_is_left_alone(make: Maker) -> None:
    container = make()
    assert container.region is not None
    container.run("context")
    offset, _ = place("usage_head", "version")
    spoilt = bytearray((container.region.path / "usage").read_bytes())
    spoilt[offset] += 1
    (container.region.path / "usage").write_bytes(spoilt)
    said, errors = container.run("context spin:1 alloc:1M")
    assert said == "init 0; context 0; spin 0; alloc 2"
    assert "usage file of this container cannot be used" in errors
    assert (container.region.path / "usage").read_bytes() == bytes(spoilt)


def test_refusals_are_counted(make: Maker) -> None:
    container = make()
    assert container.region is not None
    with container.start("context alloc:65M async:65M vmm:66M alloc:64M alloc:1 wait") as process:
        until_it_waits(process)
        assert container.region.usage().cards[0].out_of_memory_count == 4
        process.communicate()
    assert container.region.usage().cards[0].out_of_memory_count == 4
    assert container.region.usage().region_error_count == 0


@pytest.mark.parametrize(
    ("texel_format", "bits"),
    [
        (0x50, 32),
        (0x91, 4),
        (0x92, 4),
        (0x93, 8),
        (0x96, 8),
        (0x97, 4),
        (0x98, 4),
        (0x99, 8),
        (0x9E, 8),
        (0x9F, 24),
        (0xA1, 24),
        (0xA5, 16),
        (0xB0, 12),
        (0xB1, 64),
        (0xB5, 48),
        (0xC2, 32),
        (0xC5, 64),
        (0xC8, 32),
        (0xCB, 64),
        (0xFF, 128),
    ],
)
def test_arrays_are_charged_by_the_bits_of_their_format(tmp_path: Path, texel_format: int, bits: int) -> None:
    """What fits goes on to the driver, which does not simulate all formats and answers 801."""
    width = 16384
    height = 64 * MIB * 8 // (bits * width) // 4 * 4
    said, errors = Maker(tmp_path, "13.0")().run(
        f"context format:{texel_format}:{width}:{height + 4} format:{texel_format}:{width}:{height}"
    )
    assert re.fullmatch(r"init 0; context 0; format 2; format (0|801)", said), errors
