"""The joint plan from arrays: totals, back-tests on later data, rolling origins, the same plan twice."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from advisor_tables import FACTS

from advisor.advice import Evidence
from advisor.backtest import Later, split_hour
from advisor.contract import Plan, WorkloadKey
from advisor.demand import Fleet
from advisor.plan import make_plan, origin_hours
from advisor.settings import AdvisorSettings

DAYS = 28
HOUR_MS = 3_600_000
MONDAY_MS = 1_767_571_200_000


def day(low: float, high: float, hours: range) -> np.ndarray:
    one = np.full(24, float(low))
    one[list(hours)] = high
    return np.tile(one, DAYS)


def evidence(memory_gib: dict[str, np.ndarray], core_percent: dict[str, np.ndarray] | None = None) -> Evidence:
    """Workloads at 10 % compute if not said, hourly all through; the later data is the same hours."""
    memory = np.array(list(memory_gib.values()), np.float32) * 1024
    core = np.full_like(memory, 1000)
    if core_percent is not None:
        core = np.array(list(core_percent.values()), np.float32) * 100
    fleet = Fleet(
        tuple(WorkloadKey("c1", "ns", "Deployment", name, "main", "A100") for name in memory_gib),
        tuple(replace(FACTS, cards=(f"GPU-{name}",)) for name in memory_gib),
        MONDAY_MS,
        memory,
        core,
    )
    return Evidence(fleet, Later(MONDAY_MS, 3600, memory, core), {})


MEMORY = {"day": day(8, 50, range(8, 20)), "night": day(8, 50, range(20, 24)), "small": day(4, 6, range(9, 17))}


def planned(memory: dict[str, np.ndarray] = MEMORY, **settings: object) -> Plan:
    return make_plan(evidence(memory), AdvisorSettings(**settings))


def test_slice_then_group_without_counting_slack_twice() -> None:
    plan = planned()
    assert {resize.workload.name: resize.after.memory_mib for resize in plan.resizes} == {
        "day": 51_712,  # 50 GiB + 512 MiB
        "night": 51_712,
        "small": 6_656,
    }
    (group,) = plan.groups
    assert [member.name for member in group.members] == ["day", "night", "small"]
    assert (group.cards, group.oversubscribed, group.capacity_mib) == (1, True, 81_920)
    assert max(group.load_mib) == 64 * 1024  # day 50, night 8, small 6
    assert tuple(np.sum(group.member_load_mib, axis=0)) == group.load_mib
    (total,) = plan.cards
    assert (total.before, total.after, total.bound) == (3, 1, 1)
    assert (plan.cards_before, plan.cards_after, plan.finding_count) == (3, 1, 4)


def test_reasons_carry_the_figures() -> None:
    grows = 20 + 0.25 * np.repeat(np.arange(DAYS), 24)
    reasons = {resize.workload.name: resize.reason for resize in planned(MEMORY | {"grows": grows}).resizes}
    assert reasons["day"] == (
        "memory peak 50 GiB = 62% of quota in 28 d, slice = 1.00 x peak + 512 MiB, "
        "compute p99 of its busiest hour of the week x 1.15 = 12 %"
    )
    assert reasons["grows"].startswith(
        "memory peak 26.8 GiB = 33% of quota in 28 d, growing 256 MiB a day to 28.5 GiB in 7 d, slice = that + 512 MiB"
    )
    (group,) = planned().groups
    assert group.reason == (
        "peaks of 3 workloads sum to 106 GiB, but no hour to more than 64 GiB; "
        "with a margin of x 1.10 they fit the card's 80 GiB"
    )


def test_default_split_judges_the_last_thirty_percent() -> None:
    plan = planned()
    test = plan.slices_backtest
    assert test is not None
    assert (test.train_days, test.test_days) == (19.583, 8.417)
    assert (test.violated_ratio, test.hit_ratio, test.resolution_seconds) == (0.0, 0.0, 3600)
    assert test.label == "memory slices made from 19.6 d, judged on the next 8.4 d"
    assert plan.packing_backtest is not None
    assert plan.packing_backtest.kept_ratio == pytest.approx(1 / 3)


def test_a_spike_after_the_split_is_charged_to_the_advice() -> None:
    """One hour of 70 GiB on day 25: above the slice made before, above the card, and in today's advice."""
    spiky = MEMORY | {"night": MEMORY["night"].copy()}
    spiky["night"][25 * 24 + 12] = 70
    plan = planned(spiky)
    night = next(resize for resize in plan.resizes if resize.workload.name == "night")
    later_hours = 8.417 * 24
    assert night.after.memory_mib == night.before.memory_mib  # 70.5 of 80 GiB: less than 20 % to give back
    assert night.confidence == "medium"
    assert plan.slices_backtest is not None
    assert plan.slices_backtest.hit_ratio == pytest.approx(1 / 3)
    assert plan.slices_backtest.violated_ratio == pytest.approx(1 / 3 / later_hours, rel=0.01)
    assert plan.packing_backtest is not None
    assert plan.packing_backtest.violated_ratio == pytest.approx(1 / later_hours, rel=0.01)


def test_confidence_follows_history_and_back_test() -> None:
    memory = MEMORY | {"young": np.where(np.arange(DAYS * 24) < 18 * 24, np.nan, 10.0)}
    grades = {resize.workload.name: resize.confidence for resize in planned(memory).resizes}
    # "young" is too short before the split to be judged: one step less
    assert grades == {"day": "high", "night": "high", "small": "high", "young": "low"}


def test_explicit_split_is_used() -> None:
    made = make_plan(evidence(MEMORY), AdvisorSettings(), split_ms=MONDAY_MS + 21 * 24 * HOUR_MS)
    assert made.slices_backtest is not None
    assert (made.slices_backtest.train_days, made.slices_backtest.test_days) == (21.0, 7.0)


def test_short_history_has_no_back_test_and_every_refusal_says_why() -> None:
    short = {name: use[:9] for name, use in MEMORY.items()}
    plan = planned(short)
    assert plan.finding_count == 0
    assert plan.slices_backtest is None
    assert [refusal.reason for refusal in plan.refusals] == ["history 9 h < 3 d"] * 3


def test_rolling_origins_are_a_day_apart_and_end_a_week_before_the_end() -> None:
    plan = planned()
    first = MONDAY_MS + 14 * 24 * HOUR_MS
    assert [origin.split_ms for origin in plan.origins] == [first + turn * 24 * HOUR_MS for turn in range(8)]
    assert {(origin.cards_before, origin.cards_after) for origin in plan.origins} == {(3, 1)}
    assert all(origin.card_violated_ratio == 0 for origin in plan.origins)
    assert planned(origin_count=0).origins == ()
    assert planned(origin_workload_count_max=2).origins == ()


def test_origins_and_split_need_enough_hours() -> None:
    settings = AdvisorSettings()
    assert origin_hours(20 * 24, settings, workload_count=1) == []
    assert len(origin_hours(21 * 24, settings, workload_count=1)) == 1
    assert len(origin_hours(90 * 24, settings, workload_count=1)) == 10
    assert split_hour(23, settings) is None
    assert split_hour(48, settings) == 24
    assert split_hour(1000, settings) == 700


def test_the_same_data_gives_the_same_plan() -> None:
    random = np.random.default_rng(4)
    memory = {f"w{number:02d}": random.uniform(1, 30, DAYS * 24) for number in range(12)}
    first, second = planned(memory, origin_count=0), planned(memory, origin_count=0)
    assert first == second
    assert first.plan_id == second.plan_id
    assert msgspec.json.decode(msgspec.json.encode(first), type=Plan) == first
    assert planned(memory | {"w00": memory["w00"] + 1}, origin_count=0).plan_id != first.plan_id


def test_a_group_says_whether_the_first_part_would_have_made_it() -> None:
    """Two slices of 38.5 GiB fit today; at 19.6 days the margin made them 41 GiB, too large for one card."""
    (group,) = planned({"a": day(38, 38, range(1)), "b": day(38, 38, range(1))}).groups
    assert not group.oversubscribed
    assert (group.backtest, group.confidence) == (None, "medium")


def test_slices_of_a_group_fit_one_card_in_compute_too() -> None:
    """Three services of 10 GiB whose compute is busy at different hours, 55 % each: their quotas add up to 165 %.

    Sharing by hour puts all three on one card, which only a runtime that oversubscribes compute can honour; where the
    enforcer adds up quotas they stay apart.
    """
    memory = {name: day(10, 10, range(1)) for name in ("a", "b", "c")}
    core = {name: day(0, 48, range(8 * turn, 8 * turn + 8)) for turn, name in enumerate(memory)}
    (together,) = make_plan(evidence(memory, core), AdvisorSettings()).groups
    assert (len(together.members), together.oversubscribed) == (3, True)
    assert make_plan(evidence(memory, core), AdvisorSettings(dialect="hami")).groups == ()
