"""Slices: the margin by history, growth, compute, and every refusal with its sentence."""

from dataclasses import replace

import numpy as np
import pytest
from advisor_tables import FACTS

from advisor.contract import WorkloadKey
from advisor.demand import Facts, Fleet
from advisor.findings.idle_quota import Slices, core_percentile, multiplier, size
from advisor.settings import AdvisorSettings

SETTINGS = AdvisorSettings()


def fleet(memory: np.ndarray, core: np.ndarray | None = None, facts: Facts = FACTS) -> Fleet:
    use = np.full(memory.shape, 1000.0) if core is None else core
    key = WorkloadKey("c1", "ns", "Deployment", "voice", "main", "A100")
    return Fleet((key,), (facts,), 0, memory[None, :].astype(np.float32), use[None, :].astype(np.float32))


def peaks_of(days: float, peak_mib: float) -> np.ndarray:
    """Half of the peak in every hour but one a day."""
    return np.where(np.arange(round(days * 24)) % 24 == 23, peak_mib, peak_mib / 2)


def sized(memory: np.ndarray, *, settings: AdvisorSettings = SETTINGS, facts: Facts = FACTS) -> Slices:
    return size(fleet(memory, facts=facts), settings)


@pytest.mark.parametrize(
    ("days", "factor"),
    [(3, 4.0), (4, 3.25), (5, 2.5), (7, 2.0), (10, 1.75), (14, 1.3), (17.5, 1.15), (21, 1.0), (35, 1.0)],
)
def test_margin_shrinks_with_history(days: float, factor: float) -> None:
    assert multiplier(np.array([days]), SETTINGS)[0] == pytest.approx(factor)


@pytest.mark.parametrize(
    ("days", "peak_mib", "slice_mib"),
    [
        (28, 24_000, 24_512),  # 24,000 + 512, a multiple of 64
        (28, 24_001, 24_576),  # rounded up to the grain
        (28, 100, 1_024),  # never below the floor
        (3, 10_000, 40_512),  # 4 x peak + 512
        (28, 65_000, 65_536),  # 65,512 up: exactly 20 % are given back
        (28, 65_100, 81_920),  # 19.9 %: not worth a restart
        (5, 60_000, 81_920),  # never above the quota
    ],
)
def test_memory_slice(days: float, peak_mib: float, slice_mib: int) -> None:
    assert sized(peaks_of(days, peak_mib)).after_memory[0] == slice_mib


def test_growth_widens_the_slice_to_the_trend_over_a_week() -> None:
    """200 MiB a day, seen on the last day at its height: 7 more days until the advice is renewed."""
    daily = 20_000 + 200 * np.repeat(np.arange(28), 24)
    found = sized(daily)
    assert found.growth[0] == pytest.approx(200)
    assert found.after_memory[0] == 27_328  # 25,400 + 1,400 + 512 = 27,312, in steps of 64
    assert found.refusals == ("",)


def test_plain_rule_is_the_peak_times_its_multiplier_and_nothing_else() -> None:
    settings = AdvisorSettings(slice_rule="plain", history_min="6h", memory_grain_mib=1)
    assert sized(peaks_of(1, 10_000), settings=settings).after_memory[0] == 11_500
    assert sized(20_000 + 200 * np.repeat(np.arange(28), 24), settings=settings).after_memory[0] == 29_210


def test_compute_slice_is_the_busiest_hour_of_the_week_with_its_margin() -> None:
    core = np.full(28 * 24, 500.0)
    core[40::168] = 3_000  # 30 % at one hour of every week
    found = size(fleet(peaks_of(28, 20_000), core), SETTINGS)
    assert (found.before_core[0], found.after_core[0]) == (100, 35)  # 30 x 1.15 = 34.5


def test_percentile_per_hour_of_the_week_is_nearest_rank() -> None:
    weeks = np.zeros((1, 4 * 168), np.float32)
    weeks[0, 5::168] = [10, 40, 20, 30]
    assert core_percentile(weeks, 99)[0] == 40
    assert core_percentile(weeks, 75)[0] == 30
    assert core_percentile(weeks, 50)[0] == 20


def test_unknown_compute_changes_nothing() -> None:
    found = size(fleet(peaks_of(28, 20_000), np.full(28 * 24, np.nan)), SETTINGS)
    assert (found.after_core[0], found.after_memory[0]) == (100, 20_544)


@pytest.mark.parametrize(
    ("days", "peak_mib", "changes", "reason"),
    [
        (9 / 24, 24_000, {}, "history 9 h < 3 d"),
        (28, 24_000, {"advice_off": True}, "opted out of advice"),
        (28, 24_000, {"live_replicas": 0}, "no live replica on the last day"),
        (28, 24_000, {"observed_ratio": 0.39}, "unobserved 61% of the time"),
        (
            28,
            90_112,
            {},
            "uses 110% of its quota (88 GiB of 80 GiB): the quota is not enforced, raise it first",
        ),
        (28, 24_000, {"memory_quota_mib": None, "card_memory_mib": None}, "no memory quota and no size"),
    ],
)
def test_refusals_say_why(days: float, peak_mib: float, changes: dict[str, object], reason: str) -> None:
    found = sized(peaks_of(days, peak_mib), facts=replace(FACTS, **changes))
    assert found.refusals[0].startswith(reason)
    assert not found.acted[0]


def test_a_preallocating_framework_is_refused_and_its_card_is_kept() -> None:
    found = sized(np.full(28 * 24, 79_462.0))
    assert found.refusals == ("constant at 97% of quota: pre-allocating framework, its memory use tells nothing",)
    assert found.preallocating[0]


def test_constant_use_far_below_the_quota_is_idle_quota() -> None:
    found = sized(np.full(28 * 24, 20_000.0))
    assert found.refusals == ("",)
    assert found.after_memory[0] == 20_544


def test_never_observed_is_refused_not_cut() -> None:
    assert sized(np.full(28 * 24, np.nan)).refusals == ("history 0 h < 3 d",)
