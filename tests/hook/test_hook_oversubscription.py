"""Oversubscribed containers on the simulated driver: turns, moves, and what applications are told."""

import random
from dataclasses import replace

import pytest
from oversubscription import SMALL_MIB, Outcome, Task, run_tasks, turn_taking


def check(given: list[Outcome], *, turn_taking_min: float = 0, moved: bool | None = None) -> None:
    reached = turn_taking(given)
    assert reached >= turn_taking_min, f"{reached:.4f} of perfect turn-taking, not {turn_taking_min}: {given}"
    if moved is not None:
        assert any(one.moved_in_mib + one.moved_out_mib > 0 for one in given) == moved, given


@pytest.mark.parametrize("cuda", ["12.8", "13.0"])
@pytest.mark.parametrize("model", ["fifo", "timeslice"])
def test_two_tasks_that_need_the_card_each_take_turns(cuda: str, model: str) -> None:
    outcomes = run_tasks([Task(0.9, 4000), Task(0.9, 4000)], cuda=cuda, model=model, card_mib=SMALL_MIB)
    check(outcomes, turn_taking_min=0.95, moved=True)


def test_the_driver_alone_thrashes() -> None:
    """Without which the test above would show nothing."""
    outcomes = run_tasks([Task(0.9, 100), Task(0.9, 100)], hook=False, card_mib=SMALL_MIB)
    assert turn_taking(outcomes) < 0.3, outcomes


def test_nothing_moves_while_all_fits() -> None:
    check(run_tasks([Task(0.22, 100)] * 4, card_mib=SMALL_MIB), moved=False)


def test_a_high_priority_keeps_its_pages() -> None:
    high = Task(0.6, 2000, kernel_us=5000, priority=0, burst=40, pause_us=100_000)
    low = [Task(part, 10**7, kernel_us=2000, until_ms=14_000) for part in (0.3, 0.35, 0.5)]
    (alone,) = run_tasks([high], card_mib=SMALL_MIB)
    beside, *others = run_tasks([high, *low], card_mib=SMALL_MIB)
    assert beside.seconds <= alone.seconds * 1.05, (alone, beside)
    assert sum(one.kernels for one in others) > 100, others


def test_a_set_larger_than_the_card_is_read_in_part_over_the_link() -> None:
    aided, unaided = (run_tasks([Task(1.2, 200)], hook=hook, card_mib=SMALL_MIB)[0] for hook in (True, False))
    assert aided.seconds < unaided.seconds / 4, (aided, unaided)


def test_the_application_sees_its_virtual_size() -> None:
    (outcome,) = run_tasks([Task(1.5, 1)], card_mib=SMALL_MIB)
    assert outcome.total_mib == 2 * SMALL_MIB
    assert 0 <= outcome.total_mib - outcome.free_mib - int(1.5 * SMALL_MIB) <= 2


def test_without_oversubscription_the_card_is_the_end() -> None:
    with pytest.raises(AssertionError, match=r"cuMemAlloc_v2.*: 2"):
        run_tasks([Task(1.2, 1, oversubscription=False)], card_mib=SMALL_MIB)


@pytest.mark.parametrize(("resident_part_min", "granted"), [(0.0, False), (0.5, True)])
def test_the_host_has_room_for_what_may_be_moved_out(resident_part_min: float, granted: bool) -> None:
    """Refused when it is allocated, and not when it would have to move: a set of 120 % of which 100 % may lie on the
    host, and half of the card is promised or not."""
    task = Task(1.2, 10, host_part=1.0, resident_part_min=resident_part_min)
    if granted:
        run_tasks([task], card_mib=SMALL_MIB)
        return
    with pytest.raises(AssertionError, match=r"cuMemAlloc_v2.*: 2"):
        run_tasks([task], card_mib=SMALL_MIB)


@pytest.mark.parametrize("keeps", [False, True])
def test_a_task_that_ended_is_not_waited_for(keeps: bool) -> None:
    """It ends after its first turn, most of its memory moved out, and gives it back or not."""
    short, long = run_tasks([Task(0.9, 800, keeps=keeps), Task(0.9, 1000)], card_mib=SMALL_MIB)
    assert long.seconds < (short.work_seconds + long.work_seconds) * 1.2, (short, long)


def test_a_killed_holder_loses_its_turn() -> None:
    (survivor,) = run_tasks([Task(0.9, 1000, dies=True), Task(0.9, 2000)], card_mib=SMALL_MIB)
    assert survivor.seconds < survivor.work_seconds + 5 + 3 + 12, "work, the dead one's half, moves, and its last sign"


def test_an_idle_task_gives_its_place_away_and_comes_back() -> None:
    idle = Task(0.9, 200, burst=100, pause_us=40_000_000)
    busy = Task(0.9, 2000)
    first, second = run_tasks([idle, busy], card_mib=SMALL_MIB)
    assert second.seconds < second.work_seconds + 10, second
    assert min(first.moved_in_mib, first.moved_out_mib) > 0, first
    assert first.wait_ns_max < 12e9, first


def test_processes_of_one_container_have_its_turn_together() -> None:
    pair = [Task(0.45, 1500, container=1), Task(0.45, 1500, container=1)]
    outcomes = run_tasks([*pair, Task(0.9, 3000, container=2)], card_mib=SMALL_MIB)
    check(outcomes, turn_taking_min=0.95, moved=True)


def test_a_plain_task_stays_while_the_others_take_turns() -> None:
    plain = Task(0.5, 500, burst=10, pause_us=50_000, oversubscription=False)
    outcomes = run_tasks([plain, Task(0.4, 1000), Task(0.4, 1000)], card_mib=SMALL_MIB)
    assert outcomes[0].moved_in_mib == 0, outcomes
    assert outcomes[0].seconds < 3 * (outcomes[0].work_seconds + 2.5), outcomes
    check(outcomes, turn_taking_min=0.9)


@pytest.mark.parametrize("lie", ["always", "activity", "size", "length", "thrash", "anything"])
def test_a_neighbour_that_lies_costs_its_own_turns_only(lie: str) -> None:
    """A third of the card; and it began, so the others join half a turn of 60 s later."""
    liar = Task(0, 0, lie=lie, until_ms=180_000)
    outcomes = run_tasks([Task(0.9, 6000), Task(0.45, 6000), liar], card_mib=SMALL_MIB)
    check(outcomes, turn_taking_min=0.55)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_killed_at_any_moment_is_not_waited_for(seed: int, victim: int) -> None:
    """While it works, waits, or (the turn changes at 8.2 s) moves: at most until its last work counts as dead."""
    moment_ms = random.Random(seed).choice([random.Random(seed).randrange(1000, 16_000), 8200 + 60 * seed])
    tasks = [Task(0.9, 1500), Task(0.9, 1500)]
    tasks[victim] = replace(tasks[victim], killed_ms=moment_ms)
    (survivor,) = run_tasks(tasks, card_mib=SMALL_MIB)
    worked_seconds = min(15, moment_ms / 1000)  # The dead one's, at most.
    assert survivor.seconds < survivor.work_seconds + worked_seconds + 12, survivor


def test_children_of_a_task_take_no_part_in_its_turns() -> None:
    with_children, without = (
        run_tasks([Task(0.9, 1000, forks=forks), Task(0.9, 1000)], card_mib=SMALL_MIB) for forks in (20, 0)
    )
    assert turn_taking(with_children) == pytest.approx(turn_taking(without), abs=0.01)


def test_memory_that_was_moved_out_is_read_copied_and_freed() -> None:
    """The client looks at every byte; then half of its set is gone, and the rest goes on."""
    idle = Task(0.9, 120, burst=60, pause_us=30_000_000, checks=True)
    first, second = run_tasks([idle, Task(0.9, 3000)], card_mib=SMALL_MIB)
    assert second.seconds < second.work_seconds + 6, second
    assert first.wait_ns_max < 3e9, first


@pytest.mark.parametrize("seed", range(4))
def test_tasks_that_come_and_go(seed: int) -> None:
    """All of them finish, in the time of their work, a turn for who comes last, and what dead ones are waited for."""
    dice = random.Random(seed)
    tasks = [
        Task(
            part=dice.choice([0.2, 0.5, 0.9]),
            kernels=dice.randrange(100, 1500),
            from_ms=dice.randrange(20_000),
            burst=dice.randrange(1, 200),
            pause_us=dice.choice([0, 0, 300_000]),
            dies=number == 4,
        )
        for number in range(5)
    ]
    outcomes = run_tasks(tasks, card_mib=SMALL_MIB)
    seconds = max(one.end_ns for one in outcomes) / 1e9
    pauses_seconds = max(task.kernels / task.burst * task.pause_us / 1e6 for task in tasks)
    assert seconds < 20 + sum(task.kernels * task.kernel_us / 1e6 for task in tasks) * 1.1 + pauses_seconds + 12, (
        outcomes
    )
