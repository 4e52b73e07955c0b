"""The full profile against the embedded one: the same samples give the same rows, whatever breaks on the way."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conformance_input import Way, phases
from conformance_profiles import Bodies, FullProfile, Given
from conformance_rows import Rows, check_equal
from conformance_send import send
from engine_set import Engines
from waiting import wait_for

pytestmark = pytest.mark.end_to_end

MakeGiven = Callable[[int, float], Given]


@pytest.fixture
def full(engines: Engines, tmp_path: Path) -> Iterator[FullProfile]:
    """A full profile of its own on the shared engines, with a collector that listens."""
    with FullProfile(tmp_path / "full", engines, f"conformance_{time.time_ns()}").running() as profile:
        yield profile


def parts(bodies: Bodies, count: int) -> list[list[bytes]]:
    """The first phase in parts of equal length, then the second."""
    first, second = bodies
    size = -(-len(first) // count)
    return [*(list(first[start : start + size]) for start in range(0, len(first), size)), list(second)]


def of_hour(rows: Rows, hour: str) -> Rows:
    """Rows of the tables by window that belong to an hour of day."""
    return {name: [row for row in rows[name] if row["hour"] == hour] for name in ("container_usage_5m", "gpu_usage_5m")}


def end(full: FullProfile) -> None:
    """Everything that was sent is read, every window closed, the final tables made."""
    full.await_read()
    full.pipeline("cancel", "--drain")
    full.finalise()


def test_three_ways_give_the_same_rows(full: FullProfile, given: MakeGiven) -> None:
    samples, expected = given(1, 2.0)
    first, late = phases(samples, Way(seed=3))
    full.submit()
    send(full.address, first)
    full.await_read()
    # The calm first hour is closed and nothing of it was late: its rows are made of series windows alone.
    made = full.finalise()
    assert (made["hours"], made["hours_made_again"], made["samples_late"]) == (1, 0, 0)
    check_equal(*(of_hour(rows, "22") for rows in (full.embedded_on_kafka("before"), full.rows())))
    send(full.address, late)
    check_equal(expected, full.embedded_on_kafka("after"))
    end(full)
    check_equal(expected, full.rows())


@contextmanager
def sending(full: FullProfile, bodies: list[bytes]) -> Iterator[None]:
    """Send while something else happens; failures of the sender are raised here."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            send(full.address, bodies)
        except BaseException as failure:
            failures.append(failure)

    sender = threading.Thread(target=run)
    sender.start()
    try:
        yield
    finally:
        sender.join()
    if failures:
        raise failures[0]


def break_down(full: FullProfile, what: str) -> None:
    """kill -9, some seconds of absence, and what an operator does then."""
    if what == "collector":
        full.kill_collector()
        time.sleep(1)
        full.start_collector()
        return
    full.engines.kill(what)
    time.sleep(3)
    full.engines.up()
    if what == "jobmanager":
        assert "/chk-" in full.submit(), "it did not go on from a checkpoint"


@pytest.mark.full
@pytest.mark.parametrize("what", ["collector", "kafka", "taskmanager", "jobmanager", "metastore"])
def test_a_kill_changes_no_row(full: FullProfile, given: MakeGiven, what: str) -> None:
    samples, expected = given(1, 2.0)
    first, second, third, late = parts(phases(samples, Way(seed=4)), 3)
    full.submit()
    send(full.address, first)
    wait_for(lambda: full.status()["checkpoint"] != "none yet", "a checkpoint")
    with sending(full, second):
        break_down(full, what)
    send(full.address, third)
    full.await_read()
    send(full.address, late)
    end(full)
    check_equal(expected, full.rows())


@pytest.mark.full
def test_a_backlog_and_a_sender_that_is_behind(full: FullProfile, given: MakeGiven) -> None:
    """The job is away for two hours of samples, one cluster's come two hours after the others', and what is read first
    after the restart is late."""
    samples, expected = given(2, 4.0)
    first, second, late = parts(phases(samples, Way(seed=5, behind_ms={"south": 7_200_000})), 2)
    full.submit()
    send(full.address, first)
    full.await_read()
    full.pipeline("cancel")
    send(full.address, late)
    send(full.address, second)
    assert "/chk-" in full.submit()
    end(full)
    check_equal(expected, full.rows())


@pytest.mark.full
def test_an_upgrade_and_a_rescale_change_no_row(full: FullProfile, given: MakeGiven) -> None:
    samples, expected = given(1, 2.0)
    first, second, third, late = parts(phases(samples, Way(seed=6)), 3)
    full.submit()
    send(full.address, first)
    wait_for(lambda: full.status()["checkpoint"] != "none yet", "a checkpoint")
    assert "savepoint" in full.pipeline("savepoint").stdout
    changed = ("--lateness-seconds", 240)
    full.pipeline("submit", *changed, code=1)
    assert "upgraded" in full.submit("--upgrade", *changed)
    send(full.address, second)
    assert "upgraded" in full.submit("--upgrade", *changed, "--flink-parallelism", 2)
    assert "runs already" in full.submit(*changed, "--flink-parallelism", 2)
    send(full.address, third)
    full.await_read()
    send(full.address, late)
    end(full)
    check_equal(expected, full.rows())


@pytest.mark.full
def test_a_drain_closes_the_windows_of_silent_partitions(engines: Engines, given: MakeGiven, tmp_path: Path) -> None:
    samples, expected = given(1, 0.5)
    name = f"conformance_{time.time_ns()}"
    with FullProfile(tmp_path / "full", engines, name, idle_seconds=1).running() as full:
        full.submit()
        for phase in phases(samples, Way(seed=7)):
            send(full.address, phase)
        full.await_read()
        time.sleep(5)  # by now Flink holds every partition to be idle
        end(full)
        check_equal(expected, full.rows())


@pytest.mark.full
def test_a_fresh_start_writes_windows_again_and_changes_no_row(full: FullProfile, given: MakeGiven) -> None:
    samples, expected = given(1, 2.0)
    first, second, late = parts(phases(samples, Way(seed=8)), 2)
    full.submit()
    send(full.address, first)
    full.await_read()
    full.finalise()
    send(full.address, late)
    assert "from the beginning of the log" in full.submit("--fresh")
    send(full.address, second)
    end(full)
    check_equal(expected, full.rows())
