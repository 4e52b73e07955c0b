"""The simulated card's memory: what each class answers, what it takes of the card, and how long it takes.

Two cards of 1,024 MiB, 24 MiB a context, pages that come in at 10 GiB/s; numbers alone on a line are CUresult codes.
"""

import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import building
import pytest
from children import Child

RUN_SECONDS_MAX = 20
CARD = {
    "EGPU_SIM_MEMORY_MIB": "1024",
    "EGPU_SIM_CONTEXT_MIB": "24",
    "EGPU_SIM_PAGE_IN_GIBPS": "10",
    "EGPU_SIM_CARDS": "2",
}
EXPECTED = {
    ("memory_classes", "refused"): """
before cuInit 3
without context 201
free without context 201
info without context 201
total 1024
before reset 34
after reset 24
""",
    ("memory_classes", "plain"): """
context 24
one byte 26
another in the same granule 26
three MiB 30
range 3145728
inner free 1
zero bytes 1
no pointer 1
free of nothing 0
unknown free 1
second left 26
all free 24
freed twice 1
one granule too many 2
the whole rest 0
full 2
again 0
huge 2
""",
    ("memory_classes", "pitched"): """
pitch 1024
MiB 4
element of 3 bytes 1
no rows 1
freed 0
""",
    ("memory_classes", "host"): """
flags 2
device pointer 16
on the card 0
cuMemFree 1
freed twice 1
registered twice 712
unregistered twice 713
bad flags 1
""",
    ("memory_classes", "arrays"): """
1024 x 1024 float4 16
64 cubed 18
depth 64
array bytes of a row
beyond its end 1
destroyed 0
destroyed twice 400
mipmapped 6
level 3 128
level 11 1
gone 0
unknown format 801
""",
    ("memory_classes", "virtual"): """
granularity 2097152
not whole 1
created 4
reserved 4
mapped twice there 1
without access 1
the same bytes at both 7
retained 1
released, mapped 4
address free 1
one mapping left 4
half a mapping 1
unmapped 0
unmapped twice 1
released before 1
more than the card 2
""",
    ("memory_classes", "copies"): """
round 1
2D 1
3D 1
set 4660
set in rows 1
beyond the end 1
unknown address 1
odd address 1
nothing 0
""",
    ("memory_classes", "attributes"): """
plain 2 0 0 1000
managed 2 1 0 2000
unknown 0 0 -2 0
unknown alone 1
no host pointer 1
sync 1
""",
    ("memory_moving", "managed"): """
allocated 24
new pages us 0
one is there 624
again us 0
second pushes 200 out us 19530
full 1024
oldest are back us 39060
plain pushes too 0
still full 1024
no room beside plain 2
left 924
""",
    ("memory_moving", "advice"): """
written by the host us 780
prefetched out 24
last place -1
prefetch of half us 390
half is there us 390
over the bus us 1
stays on the host 24
accessed by 0 -2
not one place -2
unknown card 101
beyond the end 1
bad flags 1
""",
    ("memory_moving", "read_mostly"): """
copied in us 58590
nothing goes out us 0
""",
    ("memory_moving", "pools"): """
in use 10
not yet free for another stream 1
free in its own stream 1
reserved 20
used 0
most used 20
kept until then 20
given back by the wait 0
kept below the threshold 10
trimmed 0
two in a granule 2
used after destroy 1
gone with its last 0
freed twice 1
plain memory in stream order 1
too much 2
""",
    ("memory_moving", "graphs"): """
captured 0
launched 10
used 0
reserved 10
launched again 10
trimmed 0
""",
    ("memory_moving", "copy_time"): """
call ms 0
copy ms 25
waits ms 25
""",
    ("memory_moving", "two_cards"): """
first touch us 0
on the first 34
out of one, into the other us 1950
on the second 134
twice to the same card 201
again 704
not enabled 705
left on the first 24
freed from elsewhere 34
""",
    ("memory_moving", "graph_nodes"): """
made 0
launched 60
usable outside 47
trimmed to what lives 30
freed twice 1
trimmed 0
more than the card 2
nothing taken 0
""",
    ("memory_processes", "pool_sharing"): """
not made for it 1
costs 0
owner wrote 45
allocates nothing 1
freed twice 1
user wrote 46
""",
    ("memory_processes", "handles"): """
its own handle 201
no flag 1
the same address 1
costs 0
owner wrote 42
cuMemFree 1
user wrote 43
managed memory 1
closed too often 1
after its owner freed it 1
""",
    ("memory_processes", "exports"): """
with its maker 88
imported 88
maker killed 64
maker wrote 44
released 0
no descriptor of ours 1
""",
    ("memory_processes", "eviction"): """
its use and our context 762
full 1024
back again us 97650
still full 1024
its plain part too much for it alone 0
other killed 876
""",
    ("memory_processes", "forked"): """
child's cuInit 3
parent's memory 3
its own 3
parent after it 88
parent free 24
""",
}


KILLED = 24
"""Processes that are killed somewhere in the middle of what they do."""
TOGETHER = 4


def environment_of(state: Path, cuda: str, **more: str) -> dict[str, str]:
    folder = str(building.driver(cuda))
    return {**os.environ, **CARD, "LD_LIBRARY_PATH": folder, "EGPU_SIM_STATE": str(state), **more}


def run(program: str, case: str, *, state: Path, cuda: str, **more: str) -> str:
    result = subprocess.run(
        [building.client(program, "-lcuda"), case],
        env=environment_of(state, cuda, **more),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert result.returncode == 0, f"{program} {case}: {result.returncode} {result.stdout}{result.stderr}"
    return result.stdout


def check(given: tuple[tuple[str, str], str, Path, str], expected: str) -> None:
    (program, case), cuda, state, clock = given
    assert run(program, case, state=state, cuda=cuda, EGPU_SIM_CLOCK=clock) == expected.lstrip("\n")


@pytest.mark.parametrize("cuda", building.CUDA_VERSIONS)
@pytest.mark.parametrize("case", EXPECTED, ids=" ".join)
def test_classes_of_memory(case: tuple[str, str], cuda: str, tmp_path: Path) -> None:
    check((case, cuda, tmp_path / "state", "virtual"), EXPECTED[case])


@pytest.mark.parametrize("case", [case for case in EXPECTED if case[0] == "memory_classes"], ids=" ".join)
def test_what_takes_no_time_is_the_same_on_the_wall(case: tuple[str, str], tmp_path: Path) -> None:
    check((case, "13.0", tmp_path / "state", "wall"), EXPECTED[case])


def test_copies_and_pages_take_their_time_on_the_wall_too(tmp_path: Path) -> None:
    for case, least in {"copy_time": {"copy ms": 25, "waits ms": 25}, "read_mostly": {"copied in us": 58_590}}.items():
        wall = {"EGPU_SIM_CLOCK": "wall", "EGPU_SIM_DATA": "0"}
        output = run("memory_moving", case, state=tmp_path / case, cuda="13.0", **wall)
        took = dict(line.rsplit(" ", 1) for line in output.splitlines())
        for name, expected in least.items():
            # How late a caller wakes is the machine's affair; what it cannot be is early.
            assert int(took[name]) >= expected


@pytest.mark.parametrize("case", EXPECTED, ids=" ".join)
def test_the_hook_without_a_region_changes_nothing(case: tuple[str, str], tmp_path: Path) -> None:
    environment = {"EGPU_SIM_CLOCK": "virtual", "LD_PRELOAD": str(building.hook()), "EGPU_REGION": ""}
    assert run(*case, state=tmp_path / "state", cuda="13.0", **environment) == EXPECTED[case].lstrip("\n")


def test_the_nth_allocation_fails_when_asked_to(tmp_path: Path) -> None:
    output = run("memory_classes", "fault", state=tmp_path / "state", cuda="13.0", EGPU_SIM_FAULT="oom:3")
    assert output == "first 0\nsecond 0\nthird 2\nfourth 0\n"


def test_code_takes_room_when_asked_to(tmp_path: Path) -> None:
    output = run("memory_classes", "modules", state=tmp_path / "state", cuda="13.0", EGPU_SIM_MODULE_MIB="6")
    assert output == "loaded 6\nwith a global 8\nunloaded 0\nits context destroyed 0\n"


def test_pages_come_in_slower_when_asked_to(tmp_path: Path) -> None:
    fault = {"EGPU_SIM_CLOCK": "virtual", "EGPU_SIM_FAULT": "slow_page_in:3"}
    output = run("memory_moving", "read_mostly", state=tmp_path / "state", cuda="13.0", **fault)
    assert output == "copied in us 175780\nnothing goes out us 0\n"


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_threads_of_a_process_share_its_memory(clock: str, tmp_path: Path) -> None:
    output = run("memory_threads", "", state=tmp_path / "state", cuda="13.0", EGPU_SIM_CLOCK=clock)
    assert output == "left 24\n"


def test_without_data_only_time_passes(tmp_path: Path) -> None:
    output = run("memory_classes", "copies", state=tmp_path / "state", cuda="13.0", EGPU_SIM_DATA="0")
    assert output.startswith("round 0\n2D 0\n3D 0\nset 0\n")
    output = run(
        "memory_moving", "copy_time", state=tmp_path / "time", cuda="13.0", EGPU_SIM_DATA="0", EGPU_SIM_CLOCK="virtual"
    )
    assert output == EXPECTED["memory_moving", "copy_time"].lstrip()


def truth(state: Path) -> list[str]:
    return run("memory_truth", "", state=state, cuda="13.0").splitlines()


def test_the_truth_of_who_moved_what(tmp_path: Path) -> None:
    state = tmp_path / "state"
    run("memory_moving", "managed", state=state, cuda="13.0", EGPU_SIM_CLOCK="virtual", EGPU_SIM_RANK="0")
    # 200 MiB of 1,200 do not fit; they come back for as many others, which the plain 900 push out with 700 more.
    assert truth(state)[0] == "0: most 1024 managed 0 in 200 out 1300 host 0"


@pytest.mark.parametrize("what", [(), ("pages",)], ids=["all kinds", "pages that move"])
def test_killed_processes_leave_nothing(what: tuple[str, ...], tmp_path: Path) -> None:
    state, seeded = tmp_path / "state", random.Random(5)
    program = building.client("memory_loop", "-lcuda")
    environment = environment_of(state, "13.0", EGPU_SIM_PAGE_IN_GIBPS="100000", EGPU_SIM_CLOCK="wall")
    running: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        for number in range(KILLED):
            one = Child([program, str(number), *what], env=environment, stdout=subprocess.PIPE, text=True)
            running.append(stack.enter_context(one))
            assert one.stdout is not None
            assert one.stdout.readline() == "begun\n"
            if len(running) == TOGETHER:
                time.sleep(seeded.random() / 20)
                victim = running.pop(seeded.randrange(TOGETHER))
                assert victim.poll() is None, "ended by itself"
                victim.send_signal(signal.SIGKILL)
                victim.communicate()
        for one in running:
            one.kill()
            one.communicate()
    assert (
        run("memory_classes", "plain", state=state, cuda="13.0").lstrip()
        == EXPECTED["memory_classes", "plain"].lstrip()
    )
    assert truth(state)[-1].endswith("sums 1 frames 1")
