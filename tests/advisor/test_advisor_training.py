"""Training hours: the week's open hours, the confirmation rule window by window, and who gets none."""

from dataclasses import replace

import numpy as np
import pytest
from advisor_tables import FACTS

from advisor.advice import advise
from advisor.backtest import Later
from advisor.contract import HourRange, WorkloadKey
from advisor.demand import Facts, Fleet
from advisor.findings.train_beside_inference import harvest, hours_of_week, long_runs, ranges, sleepers
from advisor.settings import AdvisorSettings
from advisor.training import train_windows

MONDAY_MS = 1_767_571_200_000
SETTINGS = AdvisorSettings()


def day(low: float, high: float, hours: range, days: int = 28) -> np.ndarray:
    one = np.full(24, float(low))
    one[list(hours)] = high
    return np.tile(one, days)


def fleet_of(*workloads: tuple[str, np.ndarray, np.ndarray], facts: dict[str, Facts] | None = None) -> Fleet:
    """Workloads as (kind/name, memory in GiB, compute in percent); each on a card of its own unless facts say else."""
    names = [name.split("/") for name, _, _ in workloads]
    given = facts or {}
    return Fleet(
        tuple(WorkloadKey("c1", "ns", kind, name, "main", "A100") for kind, name in names),
        tuple(given.get(name, replace(FACTS, cards=(f"GPU-{name}",))) for _, name in names),
        MONDAY_MS,
        np.array([memory * 1024 for _, memory, _ in workloads], np.float32),
        np.array([core * 100 for _, _, core in workloads], np.float32),
    )


OFFICE = range(8, 20)
SLEEPER = ("Deployment/sleeper", day(20, 50, OFFICE), day(0, 50, OFFICE))


def windows_of(fleet: Fleet, settings: AdvisorSettings = SETTINGS) -> dict[str, object]:
    """Name -> its window, or the reason of its refusal."""
    windows, refusals = train_windows(advise(fleet, {}, settings), None, {}, settings=settings)
    return {window.workload.name: window for window in windows} | {each.workload.name: each.reason for each in refusals}


def test_a_night_is_found_with_its_hours_and_memory() -> None:
    window = windows_of(fleet_of(SLEEPER))["sleeper"]
    assert window.free_memory_mib == 60 * 1024
    assert window.idle_ratio == 0.5
    assert [each for each in window.windows if each.weekday == 2] == [HourRange(2, 0, 8), HourRange(2, 20, 24)]
    # 12 h a night less the first one, which confirms; the very first night begins at midnight
    assert window.gpu_hours_per_week == pytest.approx((28 * 12 - 29) / 4 + 0, abs=0.3)
    assert window.false_idle_ratio == pytest.approx(28 / (28 * 12 - 29), abs=0.1)


def test_zone_moves_the_hours() -> None:
    tokyo = AdvisorSettings(time_zone="Asia/Tokyo")
    window = windows_of(fleet_of(SLEEPER), tokyo)["sleeper"]
    assert [each for each in window.windows if each.weekday == 2] == [HourRange(2, 5, 17)]
    assert hours_of_week(MONDAY_MS, 2, "Asia/Tokyo").tolist() == [9, 10]


@pytest.mark.parametrize(
    ("workload", "settings"),
    [
        (("Deployment/always", day(20, 50, OFFICE), day(10, 50, OFFICE)), SETTINGS),
        (("Job/train", day(20, 50, OFFICE), day(0, 50, OFFICE)), SETTINGS),
        (("PyTorchJob/train", day(20, 50, OFFICE), day(0, 50, OFFICE)), SETTINGS),
        (("Deployment/naps", day(20, 50, OFFICE), day(0, 50, range(1, 24))), SETTINGS),
    ],
    ids=["light is not idle", "a job", "a training job", "one hour is too short"],
)
def test_no_window(workload: tuple[str, np.ndarray, np.ndarray], settings: AdvisorSettings) -> None:
    assert windows_of(fleet_of(workload), settings) == {}


def test_no_free_memory_is_refused_with_the_figures() -> None:
    full = ("Deployment/full", day(74, 78, range(10, 12)), day(0, 50, OFFICE))
    assert windows_of(fleet_of(full)) == {"full": "only 6 GiB of its card are free while it sleeps, 8 GiB are needed"}


def test_members_of_a_card_sleep_together_and_share_the_hours() -> None:
    """Two sleepers fit one card; a wakeful one that would fit as well does not spoil it."""
    small = day(10, 30, OFFICE)
    found = windows_of(
        fleet_of(
            ("Deployment/a", small, day(0, 40, OFFICE)),
            ("Deployment/b", small, day(0, 40, OFFICE)),
            ("Deployment/wakeful", day(10, 15, OFFICE), day(10, 15, OFFICE)),
        )
    )
    assert set(found) == {"a", "b"}
    alone = windows_of(fleet_of(("Deployment/a", small, day(0, 40, OFFICE))))["a"]
    assert found["a"].gpu_hours_per_week + found["b"].gpu_hours_per_week == pytest.approx(alone.gpu_hours_per_week)
    assert found["a"].free_memory_mib == 60 * 1024


def test_a_card_shared_with_others_is_not_trained_on() -> None:
    """Both opted-out neighbours stay on GPU-1, whatever the sleeper does there."""
    shared = replace(FACTS, cards=("GPU-1",), cards_per_pod_max=2)
    busy = ("Deployment/busy", day(20, 25, OFFICE), day(50, 60, OFFICE))
    found = windows_of(fleet_of(SLEEPER, busy, facts={"sleeper": shared, "busy": shared}))
    assert found == {"sleeper": "shares its card with workloads that are awake while it sleeps"}


def test_sleepers_have_a_rhythm() -> None:
    random = np.random.default_rng(1)
    now_and_then = np.where(random.random(28 * 24) < 0.1, 30.0, 0.0)
    fleet = fleet_of(
        SLEEPER,
        ("Deployment/sporadic", day(20, 50, OFFICE), now_and_then),
        ("Deployment/idle", day(5, 6, OFFICE), np.zeros(28 * 24)),
        ("Job/train", day(20, 50, OFFICE), day(0, 50, OFFICE)),
    )
    assert sleepers(fleet, SETTINGS).tolist() == [True, False, False, False]


def check_harvest(core: list[float], run: int, busy: int) -> None:
    """Windows of 20 minutes: three idle ones confirm."""
    later = Later(MONDAY_MS, 1200, np.zeros((1, len(core)), np.float32), np.array([core], np.float32))
    limits = np.array([500], np.float32)
    taken = harvest(later, np.array([0]), np.ones(168, bool), limits=limits, settings=SETTINGS)
    assert (round(taken.hours_run * 3), round(taken.hours_busy * 3)) == (run, busy)


def test_confirmation_rule() -> None:
    nan = np.nan
    check_harvest([0, 0, 0, 0, 0], run=2, busy=0)
    check_harvest([0, 0, 0, 0, 900, 0, 0, 0, 0], run=3, busy=1)  # stops at the first busy one, confirms again
    check_harvest([0, 500, 0, 0], run=1, busy=0)  # at the limit is idle
    check_harvest([0, 0, 0, nan, 0, 0, 0, 0], run=1, busy=0)  # unobserved is never idle
    check_harvest([900] * 9, run=0, busy=0)
    check_harvest([], run=0, busy=0)


def test_runs_go_around_the_week() -> None:
    week = np.zeros(168, bool)
    week[[0, 167, 50, 80, 81]] = True
    kept = long_runs(week, 2)
    assert np.flatnonzero(kept).tolist() == [0, 80, 81, 167]
    assert list(ranges(kept)) == [HourRange(0, 0, 1), HourRange(3, 8, 10), HourRange(6, 23, 24)]
