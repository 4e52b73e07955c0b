"""The memory quota with real processes on the simulated driver: all kinds of memory, races, kills, live changes."""

from __future__ import annotations

import random
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import building
import pytest
from agent import make_region
from containers import CONTEXT_MIB, MIB, ROOM_MIB, Container, Maker, check, go_on, until_it_waits, uuid_of

from egpu_runtime.agent.region import CardLimits

OUT_OF_MEMORY = 2


OVER_QUOTA = (
    ("info total halves", "info 0 64M 364M; total 0 364M; halves 0 64M 0 364M"),
    ("alloc:64M info free:0 info", "alloc 0; info 0 0 364M; free 0; info 0 64M 364M"),
    ("alloc:65M alloc:64M alloc:1", "alloc 2; alloc 0; alloc 2"),
    ("until:2M free:3 alloc:2M alloc:1", "until 32 2; free 0; alloc 0; alloc 2"),
    ("alloc:0", "alloc 1"),
    ("managed:64M alloc:1", "managed 0; alloc 2"),
    ("managed:65M", "managed 2"),
    ("pitch:1M:65", "pitch 2"),
    ("async:65M async:64M alloc:1", "async 2; async 0; alloc 2"),
    ("pool:65M pool:64M alloc:1", "pool 2; pool 0; alloc 2"),
    ("vmm:66M vmm:64M alloc:1", "vmm 2; vmm 0; alloc 2"),
    ("vmm:64M free:0 vmm:64M free:1 alloc:64M", "vmm 0; free 0; vmm 0; free 0; alloc 0"),
    ("array:4096:4097 array:4096:4096 alloc:1", "array 2; array 0; alloc 2"),
    ("array3d:256:256:257 array3d:256:256:256 alloc:1", "array3d 2; array3d 0; alloc 2"),
    ("mipmap:4096:4096:2 mipmap:2048:2048:4 alloc:48M", "mipmap 2; mipmap 0; alloc 2"),
    ("array:4096:4096 free:0 alloc:64M", "array 0; free 0; alloc 0"),
    ("mipmap:2048:2048:4 free:0 alloc:64M", "mipmap 0; free 0; alloc 0"),
    ("alloc:64M destroy context alloc:64M", "alloc 0; destroy 0; context 0; alloc 0"),
    ("array:4096:4096 destroy context alloc:64M", "array 0; destroy 0; context 0; alloc 0"),
    ("context", "context 2"),
)


@pytest.mark.parametrize(("script", "expected"), OVER_QUOTA)
def test_over_quota_is_out_of_memory_and_nothing_else(make: Maker, script: str, expected: str) -> None:
    check(make(), script, expected)


@pytest.mark.parametrize(("script", "expected"), OVER_QUOTA)
def test_the_quota_of_a_second_card(tmp_path: Path, script: str, expected: str) -> None:
    container = Maker(tmp_path, "13.0")(device=1)
    check(container, script, expected)
    assert container.region is not None
    assert container.region.usage().cards[0].charged_bytes_max == 0


@pytest.mark.parametrize(("script", "expected"), OVER_QUOTA)
def test_the_quota_of_a_slice(tmp_path: Path, script: str, expected: str) -> None:
    """A row that names a part of a card, which the driver knows by the same number."""
    container = Maker(tmp_path, "13.0")()
    assert container.region is not None
    container.region.cards[0] = replace(container.region.cards[0], uuid=uuid_of(0, "MIG"))
    make_region(container.region.path, cards=container.region.cards)
    check(container, script, expected)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("retain alloc:64M release retain alloc:64M", "retain 0; alloc 0; release 0; retain 0; alloc 0"),
        ("retain alloc:64M reset retain alloc:64M", "retain 0; alloc 0; reset 0; retain 0; alloc 0"),
        ("retain retain release alloc:64M alloc:1", "retain 0; retain 0; release 0; alloc 0; alloc 2"),
    ],
)
def test_primary_contexts(make: Maker, script: str, expected: str) -> None:
    said, errors = make().run(script)
    assert said.removeprefix("init 0; ") == expected, errors


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("alloc:10M", {"device": 10 * MIB}),
        ("pitch:1000:1000", {"device": 1024 * 1000}),
        ("managed:3M", {"managed": 3 * MIB}),
        ("async:5M", {"pool": 5 * MIB}),
        ("pool:5M", {"pool": 5 * MIB}),
        ("vmm:4M", {"virtual": 4 * MIB}),
        ("array:512:512", {"array": MIB}),
        ("array3d:64:64:64", {"array": MIB}),
        ("mipmap:256:256:4", {"array": 6 * 65536}),
    ],
)
def test_each_kind_is_charged_as_its_class(make: Maker, script: str, expected: Mapping[str, int]) -> None:
    container = make()
    with container.start(f"context {script} wait free:0 wait") as process:
        until_it_waits(process)
        assert container.classes() == {"context": CONTEXT_MIB * MIB, **expected}
        go_on(process)
        assert until_it_waits(process) == "free 0"
        assert container.classes() == {"context": CONTEXT_MIB * MIB}
        process.communicate()
    assert container.classes() == {}


def test_oversubscribed_memory_counts_as_resident_until_it_is_moved(make: Maker) -> None:
    container = make(oversubscription=True)
    assert container.region is not None
    with container.start("context alloc:10M wait free:0 wait") as process:
        until_it_waits(process)
        assert container.region.usage().cards[0].resident_bytes == 10 * MIB
        assert container.classes()["oversubscribed"] == 10 * MIB
        go_on(process)
        until_it_waits(process)
        assert container.region.usage().cards[0].resident_bytes == 0
        process.communicate()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("host:4M hostalloc:4M register:1 free:0 register:4M", "host 0; hostalloc 0; register 2; free 0; register 0"),
        ("host:9M host:8M destroy context host:8M", "host 2; host 0; destroy 0; context 0; host 0"),
        ("register:8M free:0 register:8M alloc:64M", "register 0; free 0; register 0; alloc 0"),
    ],
)
def test_page_locked_memory_has_a_quota_of_its_own(make: Maker, script: str, expected: str) -> None:
    check(make(host_quota_bytes=8 * MIB), script, expected)


def test_page_locked_memory_is_counted_without_a_quota(make: Maker) -> None:
    container = make()
    assert container.region is not None
    with container.start("context host:100M register:4M free:0 wait") as process:
        until_it_waits(process)
        assert container.region.usage().cards[0].host_bytes == 4 * MIB
        process.communicate()
    assert container.region.usage().cards[0].host_bytes == 0


def test_what_a_pool_keeps_stays_charged(make: Maker) -> None:
    container = make()
    script = "threshold:64M pool:48M free:0 wait pool:32M wait alloc:32M free:1 wait trim:0 wait"
    with container.start(f"context {script}") as process:
        seen = []
        for _ in range(4):
            until_it_waits(process)
            seen.append(container.classes().get("pool", 0) // MIB)
            go_on(process)
        process.communicate()
    assert seen == [48, 48, 48, 0]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("async:1M spin:1104 alloc:1M free:1 free:0 sync info", "alloc 0; free 0; free 0; sync 0; info 0 64M 364M"),
        ("async:40M spin:1104 free:0 alloc:2M sync info", "free 0; alloc 0; sync 0; info 0 62M 364M"),
        ("async:64M spin:1104 free:0 alloc:64M", "free 0; alloc 0"),
        # The kernels are not done yet: the pool gives the memory to their own stream alone.
        ("async:64M spin:1100 free:0 alloc:64M", "free 0; alloc 2"),
        ("async:64M spin:1100 free:0 async:64M free:1 sync info", "free 0; async 0; free 0; sync 0; info 0 64M 364M"),
        ("async:64M spin:1100 free:0 async:65M async:63M async:2M", "free 0; async 2; async 0; async 2"),
        ("async:32M spin:1100 free:0 alloc:16M async:48M alloc:1", "free 0; alloc 0; async 0; alloc 2"),
    ],
)
def test_what_a_look_found_in_a_pool_stays_the_pools(make: Maker, script: str, expected: str) -> None:
    """More than a second after the look before, so that there is one between a free and the synchronisation."""
    container = make()
    container.extra["EGPU_SIM_CLOCK"] = "virtual"
    check(container, script, f"async 0; spin 0; {expected}")


def test_eight_processes_race_to_the_last_block(make: Maker) -> None:
    """In blocks as the driver gives them, so that nothing is lost in halves of them, whenever somebody looks."""
    processes_count, block_mib = 8, 2
    container = make(contexts=processes_count)
    with ExitStack() as stack:
        script = f"context wait until:{block_mib}M wait"
        racers = [stack.enter_context(container.start(script)) for _ in range(processes_count)]
        for racer in racers:
            assert until_it_waits(racer) == "init 0; context 0"
        for racer in racers:
            go_on(racer)
        said = [re.fullmatch(r"until (\d+) 2", until_it_waits(racer)) for racer in racers]
        counts = [int(one[1]) for one in said if one]
        assert len(counts) == processes_count
        assert sum(counts) * block_mib == ROOM_MIB
        assert container.classes()["device"] == ROOM_MIB * MIB
        assert container.charged_mib() == CONTEXT_MIB * processes_count + ROOM_MIB
        for racer in racers:
            racer.communicate()
    assert container.charged_mib() == 0


def test_what_the_driver_has_beyond_what_was_counted_is_charged(make: Maker) -> None:
    """A byte takes a block of 2 MiB. A process that is refused looks at all of the container, idle ones too."""
    container = make(contexts=2)
    context = 2 * CONTEXT_MIB * MIB
    with container.start("context alloc:1 wait free:0 wait") as idle:
        until_it_waits(idle)
        with container.start("context alloc:65M wait alloc:65M wait") as refused:
            assert until_it_waits(refused) == "init 0; context 0; alloc 2"
            assert container.classes() == {"context": context, "device": 1, "unaccounted": 2 * MIB - 1}
            go_on(idle)
            until_it_waits(idle)
            go_on(refused)
            assert until_it_waits(refused) == "alloc 2"
            assert container.classes() == {"context": context}
            refused.communicate()
        idle.communicate()


def test_the_agent_says_what_the_driver_has(make: Maker) -> None:
    """As in a PID namespace of its own: libnvidia-ml does not know the process by its number here."""
    container = make()
    assert container.region is not None
    alone = container.folder / "without_nvml"
    alone.mkdir()
    (alone / "libcuda.so.1").symlink_to(building.driver(container.cuda) / "libcuda.so.1")
    container.extra["LD_LIBRARY_PATH"] = str(alone)
    with container.start("context alloc:1M wait alloc:16M info wait alloc:1M wait alloc:16M wait") as process:
        until_it_waits(process)
        container.region.see(process.pid, 0, (CONTEXT_MIB + 50) * MIB)
        go_on(process)
        assert until_it_waits(process) == "alloc 2; info 0 14M 364M"
        # What the agent read before an allocation says nothing about the time after it.
        seen_before = container.region.usage().slots[0].operation_count
        go_on(process)
        assert until_it_waits(process) == "alloc 0"
        assert container.region.usage().slots[0].operation_count > seen_before
        container.region.see(process.pid, 0, (CONTEXT_MIB + 2) * MIB)
        go_on(process)
        assert until_it_waits(process) == "alloc 0"
        process.communicate()


def test_threads_of_one_process(make: Maker) -> None:
    container = make()
    check(container, "threads:8:10M info alloc:64M", "threads 0; info 0 64M 364M; alloc 0")


def test_memory_of_another_process_is_charged_to_that_one(make: Maker) -> None:
    container = make(contexts=2)
    with container.start("context alloc:32M export:0 wait") as exporter:
        said = until_it_waits(exporter)
        found = re.fullmatch(r"init 0; context 0; alloc 0; export 0 (\w+)", said)
        assert found, said
        with container.start(f"context open:{found[1]} wait close info wait") as importer:
            assert until_it_waits(importer) == "init 0; context 0; open 0"
            assert container.classes() == {"context": 2 * CONTEXT_MIB * MIB, "device": 32 * MIB}
            go_on(importer)
            assert until_it_waits(importer) == "close 0; info 0 32M 664M"
            importer.communicate()
        exporter.communicate()


def kill_loop(container: Container, seed: int, rounds: int) -> None:
    """Kills churning processes at seeded moments; what is charged afterwards is what the living hold."""
    chance = random.Random(seed)
    processes_count = 4
    churners = [container.start("context churn:1M") for _ in range(processes_count)]
    try:
        for _ in range(rounds):
            victim = chance.randrange(processes_count)
            assert churners[victim].stdout.readline() == "init 0\n"  # type: ignore[union-attr]
            assert churners[victim].stdout.readline() == "context 0\n"  # type: ignore[union-attr]
            with pytest.raises(subprocess.TimeoutExpired):
                churners[victim].wait(chance.random() * 0.02)
            churners[victim].send_signal(signal.SIGKILL)
            churners[victim].communicate()
            churners[victim] = container.start("context churn:1M")
    finally:
        for churner in churners:
            churner.kill()
            churner.communicate()
    # The dead are found by the next process that needs their share.
    assert container.region is not None
    total = container.region.cards[0].memory_quota_bytes // MIB
    free = total - CONTEXT_MIB
    check(container, f"alloc:{free}M free:0 info", f"alloc 0; free 0; info 0 {free}M {total}M")
    assert container.charged_mib() == 0


@pytest.mark.parametrize("seed", range(2))
def test_killed_processes_leave_nothing(make: Maker, seed: int) -> None:
    kill_loop(make(contexts=6), seed, rounds=8)


@pytest.mark.end_to_end
@pytest.mark.parametrize("seed", range(2))
def test_killed_processes_leave_nothing_for_long(make: Maker, seed: int) -> None:
    kill_loop(make(contexts=6), 100 + seed, rounds=50)


def test_exec_gives_back_what_the_former_program_held(make: Maker) -> None:
    check(make(), "alloc:64M again context alloc:64M", "alloc 0; init 0; context 0; alloc 0")


def test_a_child_has_nothing_of_its_parent(make: Maker) -> None:
    container = make()
    container.run("fork wait")
    with container.start("context alloc:60M fork wait") as process:
        until_it_waits(process)
        assert container.charged_mib() == CONTEXT_MIB + 60
        process.communicate()
    assert container.charged_mib() == 0


def test_exit_without_free(make: Maker) -> None:
    container = make()
    check(container, "alloc:64M", "alloc 0")
    assert container.charged_mib() == 0


def test_the_quota_changes_while_a_process_runs(make: Maker) -> None:
    container = make()
    assert container.region is not None
    with container.start("context alloc:32M wait alloc:16M info wait alloc:96M info wait") as process:
        until_it_waits(process)
        container.region.change(0, memory_quota_bytes=(CONTEXT_MIB + 16) * MIB)
        go_on(process)
        assert until_it_waits(process) == "alloc 2; info 0 0 316M"
        container.region.change(0, memory_quota_bytes=(CONTEXT_MIB + 128) * MIB)
        go_on(process)
        assert until_it_waits(process) == "alloc 0; info 0 0 428M"
        process.communicate()


def test_without_limits_memory_is_refused_and_compute_passes(make: Maker) -> None:
    container = make()
    assert container.region is not None
    (container.region.path / "limits").unlink()
    said, errors = container.run("context module alloc:1M alloc:1M vmm:2M async:1M array:16:16")
    assert said == "init 0; context 0; module 0; alloc 2; alloc 2; vmm 2; async 2; array 2"
    assert errors.count("limits of this container cannot be read") == 1
    assert len(errors.splitlines()) == len(set(errors.splitlines()))


def test_without_a_region_everything_passes(make: Maker) -> None:
    container = make()
    container.region = None
    script = "context alloc:64M info total"
    assert container.run(script) == container.run(script, hooked=False)


def test_a_card_that_was_not_given_has_no_memory(make: Maker) -> None:
    container = make()
    make_region(container.folder / "region", cards=[CardLimits("GPU-other", memory_quota_bytes=1 << 40)])
    said, errors = container.run("context")
    assert said == f"init 0; context {OUT_OF_MEMORY}"
    assert errors.count("not given") == 1


def test_the_drivers_own_refusal_is_rolled_back(make: Maker) -> None:
    """The card is full before the quota is."""
    container = make(room_mib=4096)
    container.extra["EGPU_SIM_MEMORY_MIB"] = "1024"
    container.extra["EGPU_SIM_CONTEXT_MIB"] = str(CONTEXT_MIB)
    with container.start("context alloc:1000M vmm:1000M managed:1M until:32M wait") as process:
        said = until_it_waits(process)
        assert re.fullmatch(r"init 0; context 0; alloc 2; vmm 2; managed 0; until \d+ 2", said)
        count = int(said.split()[-2])
        assert container.charged_mib() == CONTEXT_MIB + 1 + 32 * count
        process.communicate()


@pytest.mark.end_to_end
def test_a_thousand_processes_on_one_card(make: Maker) -> None:
    count = 1000
    container = make()
    assert container.region is not None
    container.extra["EGPU_SIM_CONTEXT_MIB"] = "0"
    # A context of nothing is still charged a byte, which together leave less than one more allocation.
    container.region.change(0, memory_quota_bytes=(count + 1) * MIB, context_bytes_estimate=1)
    with ExitStack() as stack:
        crowd = [stack.enter_context(container.start("context alloc:2M wait")) for _ in range(count)]
        said = [until_it_waits(process) for process in crowd]
        answered = Counter(said), container.classes()
        errors = Counter(process.communicate()[1] for process in crowd)
    # What the refused complain of (a lock that cannot be had on a busy machine) is shown beside their number.
    said_once = {f"init 0; context 0; alloc {code}": count // 2 for code in (0, OUT_OF_MEMORY)}
    assert (*answered, errors) == (said_once, {"device": count * MIB, "context": count}, {"": count})
    assert container.charged_mib() == 0
