"""The shared files of a container, without a driver: many processes, kills at any instruction, live changes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from agent import Region, make_neighbours, make_region
from children import Child

from egpu_runtime.agent import region_layout as words
from egpu_runtime.agent.region import CardLimits, RegionError, limits_bytes, place, read_usage

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "quota_region": [
        "quota",
        "region",
        "region_files",
        "region_slots",
        "region_limits",
        "region_cards",
        "neighbours",
        "believed",
        "throttle",
        "turns",
    ],
    "quota_simulation": ["quota"],
}
QUOTA_BYTES = 100_000_000
STEP_BYTES = 1_000_000
RACERS = 8
SEEDS, STEPS = 500, 2000
SECONDS_MAX = 300
"""Bounds a hang; on a busy machine a thousand kills take minutes."""
UUID = "GPU-00000000-0000-0000-0000-000000000000"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def compiled(folder: Path, name: str, *flags: str) -> Path:
    """tests/hook/ideas/NAME.c with the sources it stands on."""
    sources = [str(ROOT / f"hook/src/{source}.c") for source in SOURCES[name]]
    main = str(ROOT / f"tests/hook/ideas/{name}.c")
    strict = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/hook/src", *flags]
    subprocess.run(["gcc", *strict, "-o", str(folder / name), main, *sources, "-lpthread"], check=True)
    return folder / name


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("plain"), "quota_region")


@pytest.fixture(scope="session")
def program_address(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("address"), "quota_region", "-fsanitize=address,undefined")


@pytest.fixture(scope="session")
def program_thread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("thread"), "quota_region", "-fsanitize=thread")


@pytest.fixture(scope="session")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("simulation"), "quota_simulation", "-fsanitize=address,undefined")


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return make_region(tmp_path / "region", cards=[CardLimits(UUID, memory_quota_bytes=QUOTA_BYTES)])


def run(program: Path, region: Path | None, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *map(str, arguments)],
        env={} if region is None else {"EGPU_REGION": str(region)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        stdin=subprocess.DEVNULL,
    )


def check(program: Path, region: Path | None, command: str, expected: str) -> None:
    """`command` ends well and prints `expected`."""
    done = run(program, region, *command.split())
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr


def start(program: Path, region: Region, *arguments: object) -> subprocess.Popen[str]:
    return Child(
        [program, *map(str, arguments)],
        env={"EGPU_REGION": str(region.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str], question: str = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if question:
        process.stdin.write(question)
        process.stdin.flush()
    return process.stdout.readline().strip()


def test_generated_files_are_fresh() -> None:
    assert subprocess.run(["python3", ROOT / "hook/generate_region.py", "--check"]).returncode == 0


def test_without_a_region_the_hook_is_inert(program: Path) -> None:
    check(program, None, "state", "absent 0")


def test_a_process_takes_a_slot(program: Path, region: Region) -> None:
    check(program, region.path, "state", "ready 1")


@pytest.mark.parametrize("command", ["fork", "exec x", "threads"])
def test_other_processes_and_threads(program: Path, region: Region, command: str) -> None:
    if command.startswith("exec"):
        command = "exec"
    check(program, region.path, command, "")
    assert region.usage().slots == []


@pytest.mark.parametrize("command", ["fork", "exec", "threads", "many 50", "kill 7 20 4"])
def test_under_the_address_sanitizer(program_address: Path, region: Region, command: str) -> None:
    done = run(program_address, region.path, *command.split())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["fork", "threads"])
def test_under_the_thread_sanitizer(program_thread: Path, region: Region, command: str) -> None:
    """Not the kills: the sanitizer does not know that a robust lock is had from a dead owner."""
    done = run(program_thread, region.path, *command.split())
    assert (done.returncode, done.stderr) == (0, "")


def test_the_arithmetic_agrees_with_a_model(simulation: Path) -> None:
    check(simulation, None, f"1 {SEEDS} {STEPS}", str(SEEDS))


def spoil_version(path: Path) -> None:
    offset, _ = place("limits", "version")
    data = bytearray((path / "limits").read_bytes())
    data[offset] += 1
    (path / "limits").write_bytes(data)


def spoil_size(path: Path) -> None:
    (path / "limits").write_bytes(b"short")


def spoil_usage(path: Path) -> None:
    (path / "usage").write_bytes(b"x" * words.LAYOUTS["usage"].size)


def remove_limits(path: Path) -> None:
    (path / "limits").unlink()


@pytest.mark.parametrize("spoil", [spoil_version, spoil_size, spoil_usage, remove_limits])
def test_what_cannot_be_read_is_said_once(program: Path, region: Region, spoil: Callable[[Path], None]) -> None:
    spoil(region.path)
    done = run(program, region.path, "state")
    assert done.stdout.strip() == "broken 0"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("egpu: ")


def test_eight_processes_race_to_the_last_byte(program: Path, region: Region) -> None:
    with ExitStack() as stack:
        racers = [stack.enter_context(start(program, region, "race", STEP_BYTES)) for _ in range(RACERS)]
        granted = [int(line(racer)) for racer in racers]
        usage = region.usage()
        assert sum(granted) == QUOTA_BYTES // STEP_BYTES
        assert usage.cards[0].charged_bytes == QUOTA_BYTES
        assert sorted(slot.charged_bytes[0] for slot in usage.slots) == sorted(count * STEP_BYTES for count in granted)
        for racer in racers[1:]:
            racer.kill()
            racer.communicate()
        racers[0].communicate()
    # Who left by itself gave its share back; what the killed held is found by the next one who looks.
    assert region.usage().cards[0].charged_bytes == QUOTA_BYTES - granted[0] * STEP_BYTES
    with start(program, region, "race", QUOTA_BYTES) as again:
        assert line(again) == "1"
        assert [slot.pid for slot in region.usage().slots] == [again.pid]
        again.communicate()


def test_processes_of_another_pid_namespace_are_left_alone(program: Path, region: Region) -> None:
    """Their PIDs mean something else here: nobody may take them for dead."""
    apart = ["unshare", "--fork", "--pid"]
    tried = subprocess.run([*apart, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"needs the right to make a PID namespace: {tried.stderr.strip()}")
    environment = {"EGPU_REGION": str(region.path), "PATH": os.environ["PATH"]}
    command = [*apart, str(program), "race", str(STEP_BYTES)]
    pipe = subprocess.PIPE
    with Child(command, env=environment, stdin=pipe, stdout=pipe, text=True) as other:
        assert int(line(other)) == QUOTA_BYTES // STEP_BYTES
        # Refused, looked for dead processes, found none.
        check(program, region.path, "race 1", "0")
        assert region.usage().cards[0].charged_bytes == QUOTA_BYTES
        other.communicate()
    assert region.usage().cards[0].charged_bytes == 0


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_instruction(program: Path, region: Region, seed: int) -> None:
    done = run(program, region.path, "kill", seed, 40, 6)
    assert done.returncode == 0, done.stderr
    usage = region.usage()
    assert (usage.slots, usage.cards[0].charged_bytes) == ([], 0)


@pytest.mark.end_to_end
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_instruction_for_long(program: Path, region: Region, seed: int) -> None:
    done = run(program, region.path, "kill", 100 + seed, 1000, 8)
    assert done.returncode == 0, done.stderr
    # The seeds are useless if nobody ever dies inside.
    assert int(done.stdout.split()[1]) > 0


def test_a_thousand_processes(program: Path, region: Region) -> None:
    check(program, region.path, "many 1000", "1000 1000")


def test_more_processes_than_slots_are_refused(program: Path, region: Region) -> None:
    count = words.SLOT_COUNT_MAX + 6
    granted = words.SLOT_COUNT_MAX - 1
    done = run(program, region.path, "many", count)
    assert done.stdout.split() == [str(granted), str(granted)]
    assert "slots" in done.stderr


def test_limits_change_while_processes_run(program: Path, region: Region) -> None:
    with start(program, region, "limits") as process:
        assert line(process, "\n") == f"{QUOTA_BYTES} 10000 0"
        for step in range(1, 40):
            region.change(0, memory_quota_bytes=QUOTA_BYTES - step, core_quota=step / 100, priority=step % 2)
            assert line(process, "\n") == f"{QUOTA_BYTES - step} {step * 100} {step % 2}"
        process.communicate()


def test_an_agent_that_died_while_it_wrote_holds_up_nobody(program: Path, region: Region) -> None:
    with start(program, region, "limits") as process:
        assert line(process, "\n") == f"{QUOTA_BYTES} 10000 0"
        offset, _ = place("limits", "generation")
        with (region.path / "limits").open("r+b") as file:
            file.seek(offset)
            file.write(bytes([1]))
        assert line(process, "\n") == f"{QUOTA_BYTES} 10000 0"
        process.communicate()


def test_neighbours_see_each_other_page_by_page(program: Path, tmp_path: Path) -> None:
    limits = [CardLimits(UUID, memory_quota_bytes=1, core_quota=(row + 1) / 10) for row in range(3)]
    regions = make_neighbours(tmp_path, limits, memory_bytes=QUOTA_BYTES)
    with ExitStack() as stack:
        processes = [stack.enter_context(start(program, one, "peers")) for one in regions]
        assert line(processes[0], "\n") == "2000/0 3000/0"
        assert line(processes[1], "\n") == "1000/1 3000/0"
        assert line(processes[2], "\n") == "1000/1 2000/1"
        assert line(processes[0], "\n") == "2000/1 3000/1"
        for process in processes:
            process.communicate()


@pytest.mark.parametrize("core_quota", [0.0, 1.1, -0.3])
def test_a_quota_that_is_none_is_refused(core_quota: float) -> None:
    with pytest.raises(RegionError, match="core quota"):
        limits_bytes([CardLimits(UUID, memory_quota_bytes=1, core_quota=core_quota)])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"", "has 0 bytes"), (bytes(words.LAYOUTS["usage"].size), "not prepared")],
)
def test_usage_that_is_none_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(RegionError, match=sentence):
        read_usage(data, 1)
