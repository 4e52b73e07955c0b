"""What a container's page can do to its neighbours: nothing, whatever its owner writes into it or does to its file."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import building
import pytest
from agent import Region, SharedCard, make_region, make_shared_card, member_of
from children import Child
from contention import launcher_program
from simulation import Simulation

from egpu_runtime.agent import region_layout as words
from egpu_runtime.agent.region import CardLimits, place

UUID = "GPU-45475055-5349-4d00-8000-000000000000"
CARD_BYTES = 16 << 30
CONTAINER = CardLimits(uuid=UUID, memory_quota_bytes=CARD_BYTES)
HALF = replace(CONTAINER, core_quota=0.5)
IDEA = building.ROOT / "tests/hook/ideas/neighbours_looks.c"
SOURCES = [
    building.HOOK / f"src/{name}.c"
    for name in (
        "neighbours",
        "believed",
        "region",
        "region_cards",
        "region_files",
        "region_limits",
        "region_slots",
        "throttle",
        "turns",
    )
]
SOURCES.append(building.HOOK / "src/quota.c")
MS = 1_000_000
SECOND = 1000 * MS
DAY = 86400 * SECOND
START_NS = SECOND
"""Of the virtual clock."""
FOR_EVER = 2**64 - 1
BUSY_MOST = 10 * SECOND
SIGN_MOST = 40 * MS
VICTIM_MS = 3_600_000
"""More than it is watched for."""
BEFORE_NS = 100 * MS
WATCHED_NS = 20 * SECOND
SHRINKS = 2000
SECONDS_MAX = 20
UNREADABLE = "cannot be read"
REFUSED = "process_vm_readv is refused"


def compiled(folder: Path, *flags: str) -> Path:
    strict = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{building.HOOK / 'src'}", *flags]
    program = folder / "neighbours_looks"
    subprocess.run(["gcc", *strict, "-o", str(program), str(IDEA), *map(str, SOURCES), "-lpthread"], check=True)
    return program


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("neighbours"), "-fsanitize=address,undefined")


@pytest.fixture(scope="session")
def program_thread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("thread"), "-fsanitize=thread")


@dataclass
class Card:
    """A card that the first container shares with others; their pages are written by the test."""

    shared: SharedCard
    region: Region

    def page(self, index: int = 1) -> Path:
        return self.shared.path / f"{index}.page"

    def say(self, index: int = 1, **values: int) -> None:
        """In place, as the neighbour's hook would."""
        with self.page(index).open("r+b") as file:
            for name, value in values.items():
                offset, form = place("page", name)
                file.seek(offset)
                file.write(struct.pack(form, value))


def make_card(folder: Path, own: CardLimits = CONTAINER, *neighbours: CardLimits) -> Card:
    limits = [replace(one, card_index=index) for index, one in enumerate([own, *neighbours])]
    members = {index: member_of(one) for index, one in enumerate(limits)}
    shared = make_shared_card(folder / "cards", UUID, members, memory_bytes=CARD_BYTES)
    return Card(shared, make_region(folder / "0", cards=[limits[0]], shared_cards_root=folder / "cards"))


@dataclass
class Looks:
    """A container that looks when it is told to."""

    process: subprocess.Popen[str]
    names: list[str]

    def look(self, when: object) -> tuple[int, dict[int, dict[str, int]]]:
        """The time of all neighbours together, and the words of each by its index."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{when}\n")
        self.process.stdin.flush()
        busy_ns, count, *values = map(int, self.process.stdout.readline().split())
        each = len(self.names)
        rows = [dict(zip(self.names, values[each * row :], strict=False)) for row in range(count)]
        return busy_ns, {row["index"]: row for row in rows}


@contextmanager
def looking(program: Path, card: Card, command: str = "looks") -> Iterator[Looks]:
    names = subprocess.run([program, "words"], capture_output=True, text=True, check=True).stdout.split()
    environment = {"EGPU_REGION": str(card.region.path)}
    pipe = subprocess.PIPE
    with Child([program, command], env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        yield Looks(process, names)
        _, errors = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 0, errors


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"wanting_until_ns": DAY + SIGN_MOST}, {"wanting_until_ns": DAY + SIGN_MOST}),
        ({"wanting_until_ns": DAY + SIGN_MOST + 1}, {"wanting_until_ns": 0}),
        ({"hold_until_ns": FOR_EVER}, {"hold_until_ns": 0}),
        ({"hold_until_ns": DAY + MS}, {"hold_until_ns": DAY + MS}),
        ({"probe_until_ns": 2 * DAY}, {"probe_until_ns": 0}),
        ({"probe_until_ns": DAY + SIGN_MOST - 1}, {"probe_until_ns": DAY + SIGN_MOST - 1}),
        ({"busy_until_ns": DAY + BUSY_MOST}, {"busy_until_ns": DAY + BUSY_MOST}),
        ({"busy_until_ns": FOR_EVER}, {"busy_until_ns": 0}),
        ({"busy_until_ns": DAY - SECOND}, {"busy_until_ns": DAY - SECOND}),
        ({"tokens_ns": 2**62}, {"tokens_ns": 60 * MS}),
        ({"tokens_ns": 3 * MS, "tokens_at_ns": DAY - 1}, {"tokens_ns": 3 * MS, "tokens_at_ns": DAY - 1}),
        ({"tokens_at_ns": FOR_EVER}, {"tokens_at_ns": DAY}),
    ],
)
def test_a_page_is_believed_within_bounds(
    program: Path, tmp_path: Path, given: dict[str, int], expected: dict[str, int]
) -> None:
    card = make_card(tmp_path, CONTAINER, CONTAINER)
    card.say(**given)
    with looking(program, card) as container:
        _, peers = container.look(DAY)
        assert {name: peers[1][name] for name in expected} == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([(0, 5), (1, 6), (2, 6)], 1),
        ([(0, 5), (1, 4), (2, 5), (3, 6)], 1),
        ([(0, 5 * SECOND), (SECOND, 0), (2 * SECOND, 5 * SECOND + 7)], 7),
        # More than the longest batch at once, and never more than time has passed.
        ([(0, 0), (SECOND, 2**63)], 10 * SECOND),
        ([(0, 0), (SECOND, 2**63), (3 * SECOND, 2**63)], 12 * SECOND),
        ([(0, 0), (SECOND, 11 * SECOND), (60 * SECOND, 11 * SECOND)], 11 * SECOND),
    ],
)
def test_busy_time_never_shrinks_and_never_runs_ahead(
    program: Path, tmp_path: Path, given: list[tuple[int, int]], expected: int
) -> None:
    card = make_card(tmp_path, CONTAINER, CONTAINER)
    with looking(program, card) as container:
        for after_ns, said_ns in given:
            card.say(busy_ns=said_ns)
            busy_ns, _ = container.look(DAY + MS * (after_ns < MS) * after_ns + (after_ns >= MS) * after_ns)
        assert busy_ns == expected


@pytest.mark.parametrize(
    ("since_ns", "estimate_ns", "expected"),
    [
        (DAY - 3 * MS, 5 * MS, 3 * MS),
        (DAY - 3 * MS, 2 * MS, 2 * MS),
        (DAY + 3 * MS, 5 * MS, 0),
        (DAY - 3 * MS, 0, 0),
        # Work of hours, all at once: no more than the longest batch.
        (0, FOR_EVER, 10 * SECOND),
    ],
)
def test_work_counts_while_it_runs(
    program: Path, tmp_path: Path, since_ns: int, estimate_ns: int, expected: int
) -> None:
    card = make_card(tmp_path, CONTAINER, CONTAINER)
    card.say(busy_ns=7 * SECOND)
    with looking(program, card) as container:
        container.look(DAY - MS)
        card.say(running_since_ns=since_ns, running_estimate_ns=estimate_ns)
        assert container.look(DAY)[0] == expected


def test_an_index_that_changed_hands_starts_anew(program: Path, tmp_path: Path) -> None:
    card = make_card(tmp_path, CONTAINER, CONTAINER, CONTAINER)
    card.say(busy_ns=7 * SECOND)
    with looking(program, card) as container:
        assert container.look(DAY)[0] == 0
        card.say(busy_ns=8 * SECOND)
        assert container.look(DAY + SECOND)[0] == SECOND
        os.truncate(card.page(), 0)
        assert container.look(DAY + 2 * SECOND)[1][1]["busy_ns"] == 8 * SECOND
        card.page().write_bytes(bytes(words.LAYOUTS["page"].size))
        card.say(busy_ns=3)
        card.shared.set(card.shared.members)
        busy_ns, peers = container.look(DAY + 3 * SECOND)
        assert (busy_ns, peers[1]["busy_ns"]) == (SECOND, 3)
        del card.shared.members[1]
        card.shared.set(card.shared.members)
        busy_ns, peers = container.look(DAY + 4 * SECOND)
        assert (busy_ns, list(peers)) == (SECOND, [2])


@pytest.mark.parametrize("attacked", [1, 2, 3])
def test_a_page_cut_off_is_idle_and_the_others_are_seen(program: Path, tmp_path: Path, attacked: int) -> None:
    card = make_card(tmp_path, *[CONTAINER] * 4)
    for index in (1, 2, 3):
        card.say(index, busy_until_ns=DAY + index)
    with looking(program, card) as container:
        container.look(DAY)
        os.truncate(card.page(attacked), 0)
        for when in (DAY + MS, f"fork {DAY + 2 * MS}", DAY + 3 * MS):
            _, peers = container.look(when)
            assert {index: row["busy_until_ns"] for index, row in peers.items()} == {
                index: 0 if index == attacked else DAY + index for index in (1, 2, 3)
            }


def test_a_lease_on_a_page_holds_up_nobody(program: Path, tmp_path: Path) -> None:
    """Who opens a file that somebody has a write lease on waits for 45 s, unless it says that it will not."""
    card = make_card(tmp_path, *[CONTAINER] * 3)
    card.say(1, busy_until_ns=DAY)
    card.say(2, busy_until_ns=DAY)
    with card.page(1).open("r+b") as file, looking(program, card) as container:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        _, peers = container.look(DAY)
        assert [row["busy_until_ns"] for row in peers.values()] == [0, DAY]


def test_a_child_looks_for_itself(program: Path, tmp_path: Path) -> None:
    card = make_card(tmp_path, CONTAINER, CONTAINER)
    with looking(program, card) as container:
        container.look(DAY)
        for moment in (DAY + MS, DAY + 2 * MS):
            card.say(busy_until_ns=moment)
            assert container.look(f"fork {moment}")[1][1]["busy_until_ns"] == moment


def test_a_thread_looks_when_the_first_one_has_ended(program: Path, tmp_path: Path) -> None:
    card = make_card(tmp_path, CONTAINER, CONTAINER)
    card.say(busy_until_ns=DAY)
    with looking(program, card, "orphan") as container:
        assert container.look(DAY)[1][1]["busy_until_ns"] == DAY


def test_threads_look_at_the_same_time(program_thread: Path, tmp_path: Path) -> None:
    card = make_card(tmp_path, *[CONTAINER] * 3)
    environment = {"EGPU_REGION": str(card.region.path)}
    with Child([program_thread, "threads"], env=environment, stderr=subprocess.PIPE, text=True) as process:
        for turn in range(100):
            card.say(1 + turn % 2, busy_ns=turn * MS)
            card.shared.set(card.shared.members)
        _, errors = process.communicate(timeout=SECONDS_MAX)
    assert (process.returncode, errors) == (0, "")


# --- the whole hook, beside such a page -------------------------------------------------------------------------------


def started(sim: Simulation, region: Region, until_ms: int, *before: Path, rank: int = 0) -> subprocess.Popen[str]:
    command: list[str | Path] = [*before, launcher_program(), "kernel_us=1000", f"until_ms={until_ms}"]
    return sim.start(command, hook=True, region=region.path, rank=rank)


def wait_for(card: Card, victim: subprocess.Popen[str], moment_ns: int) -> None:
    """It tells its neighbours of each launch, and then it knows them."""
    until = time.monotonic() + SECONDS_MAX
    while card.shared.page(0)["heartbeat_ns"] < moment_ns:
        assert time.monotonic() < until
        assert victim.poll() is None, victim.communicate()
        time.sleep(0.001)


def shrink(page: Path) -> None:
    os.truncate(page, 0)


def shrink_within_the_words(page: Path) -> None:
    os.truncate(page, 100)


def shrink_and_extend(page: Path) -> None:
    for _ in range(SHRINKS):
        os.truncate(page, words.LAYOUTS["page"].size)
        os.truncate(page, 0)


def delete(page: Path) -> None:
    page.unlink()


def swap(page: Path) -> None:
    other = page.with_suffix(".new")
    other.write_bytes(b"\xff" * words.LAYOUTS["page"].size)
    other.replace(page)


def fill(page: Path) -> None:
    with page.open("r+b") as file:
        file.write(b"\xff" * words.LAYOUTS["page"].size)


@pytest.mark.parametrize(
    ("attack", "said"),
    [(shrink, 1), (shrink_within_the_words, 0), (shrink_and_extend, 1), (delete, 0), (swap, 0), (fill, 0)],
)
def test_the_victim_lives_and_gets_its_quota(attack: Callable[[Path], None], said: int) -> None:
    with Simulation(clock="virtual") as sim:
        card = make_card(sim.folder, replace(CONTAINER, core_quota=0.3), CONTAINER)
        victim = started(sim, card.region, VICTIM_MS)
        wait_for(card, victim, START_NS + BEFORE_NS)
        attack(card.page())
        wait_for(card, victim, sim.now_ns + WATCHED_NS)
        victim.kill()
        assert victim.communicate()[1].count(UNREADABLE) == said
        assert sim.card().rank(0).busy_ns / (sim.now_ns - START_NS) == pytest.approx(0.3, abs=0.005)


def test_who_shrinks_its_page_dies_of_it_alone() -> None:
    with Simulation(clock="virtual", start=2) as sim:
        card = make_card(sim.folder, HALF, HALF)
        other = make_region(
            sim.folder / "1", cards=[replace(HALF, card_index=1)], shared_cards_root=sim.folder / "cards"
        )
        victim, owner = started(sim, card.region, VICTIM_MS), started(sim, other, VICTIM_MS, rank=1)
        wait_for(card, victim, START_NS + BEFORE_NS)
        shrink(card.page())
        owner.communicate(timeout=SECONDS_MAX)
        assert owner.returncode == -signal.SIGBUS
        wait_for(card, victim, sim.now_ns + WATCHED_NS)
        victim.kill()
        victim.communicate()
        assert sim.card().rank(0).busy_ns / (sim.now_ns - START_NS) == pytest.approx(0.5, abs=0.005)


def launches_beside(tmp_path: Path, busy_until_ns: int, *before: Path) -> tuple[float, str]:
    """The share that a container of low priority gets in two seconds, and what it said, beside a page of high priority
    that says so."""
    with Simulation(clock="virtual") as sim:
        card = make_card(tmp_path, replace(CONTAINER, priority=1), CONTAINER)
        card.say(busy_until_ns=busy_until_ns)
        process = started(sim, card.region, 2000, *before)
        _, errors = process.communicate(timeout=SECONDS_MAX)
        assert process.returncode == 0, errors
        return sim.card().rank(0).busy_ns / (sim.now_ns - START_NS), errors


@pytest.mark.parametrize(("busy_until_ns", "share"), [(START_NS + SECOND, 0.5), (FOR_EVER, 1.0), (DAY, 1.0)])
@pytest.mark.parametrize("refused", [False, True])
def test_priority_is_believed_as_long_as_it_can_be(
    tmp_path: Path, busy_until_ns: int, share: float, refused: bool
) -> None:
    before = [building.client("refused_calls")] if refused else []
    got, errors = launches_beside(tmp_path, busy_until_ns, *before)
    assert got == pytest.approx(share, abs=0.02)
    assert errors.count(REFUSED) == int(refused)


WORDS = {name: place("page", name)[0] for name in words.LAYOUTS["page"].fields}
WANTS = (f"{WORDS['wanting_until_ns']}+{20 * MS}", f"{WORDS['tokens_ns']}:{60 * MS}", f"{WORDS['tokens_at_ns']}+0")
HOLDS = (f"{WORDS['hold_until_ns']}+{MS}",)
BUSY = (f"{WORDS['busy_until_ns']}+{SECOND}",)
PROBES = (f"{WORDS['probe_until_ns']}+{39 * MS}",)
CHARGED = (f"{WORDS['busy_ns']}*1000",)
SOFT = replace(HALF, policy="soft")
LOW, LOW_HALF = replace(CONTAINER, priority=1), replace(HALF, priority=1)


@pytest.mark.parametrize(
    ("own", "neighbour", "lies", "share"),
    [
        (HALF, HALF, WANTS + HOLDS + BUSY, 0.5),
        (SOFT, HALF, WANTS + HOLDS + BUSY, 0.5),
        (HALF, HALF, BUSY + CHARGED, 0.5),
        (LOW, LOW_HALF, WANTS + HOLDS + CHARGED, 1.0),
        (LOW, HALF, CHARGED, 1.0),
        # Measuring takes 2 % of the time, and a fifth of a second at first.
        (LOW, LOW_HALF, PROBES, 0.95),
        (LOW, LOW_HALF, WANTS + HOLDS + BUSY + PROBES, 0.92),
        # It goes before: three quarters of the time, in which earlier work still runs; without a quota, always.
        (LOW, HALF, HOLDS + BUSY, 0.635),
        (LOW, CONTAINER, HOLDS + BUSY, 0.005),
    ],
)
def test_what_a_liar_costs(own: CardLimits, neighbour: CardLimits, lies: tuple[str, ...], share: float) -> None:
    with Simulation(clock="virtual", start=2) as sim:
        card = make_card(sim.folder, own, neighbour)
        liar = building.client("lying_page", "-lcuda")
        processes = [started(sim, card.region, 4000), sim.start([liar, card.page(), "4000", *lies], rank=1)]
        sim.wait(*processes, seconds=SECONDS_MAX)
        assert sim.card().rank(0).busy_ns / (sim.now_ns - START_NS) == pytest.approx(share, abs=0.01)


def test_work_of_a_clock_before_is_not_on_the_card(tmp_path: Path) -> None:
    """`usage` may outlive a restart of the node; nobody but the container itself would ever lower the moment in it."""
    busy_until_at = place("card_usage", "bucket")[0] + 9 * 8 + words.LAYOUTS["usage_head"].size
    with Simulation(clock="virtual") as first, Simulation(clock="virtual") as second:
        card = make_card(tmp_path, replace(CONTAINER, core_quota=0.5), CONTAINER)
        first.run([launcher_program(), "until_ms=50"], hook=True, region=card.region.path, rank=0)
        with (card.region.path / "usage").open("r+b") as file:
            file.seek(busy_until_at)
            (moment,) = struct.unpack("<Q", file.read(8))
            assert START_NS < moment < 2 * START_NS
            file.seek(busy_until_at)
            file.write(struct.pack("<Q", DAY))
        second.run([launcher_program(), "until_ms=50"], hook=True, region=card.region.path, rank=0)
        assert START_NS < card.shared.page(0)["busy_until_ns"] <= second.now_ns + SECOND
