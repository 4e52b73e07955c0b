"""Groups: which workloads share cards, which never do, and how cards are counted before and after."""

from dataclasses import replace

import numpy as np
import pytest
from advisor_tables import FACTS

from advisor.contract import WorkloadKey
from advisor.demand import Facts, Fleet
from advisor.findings.complementary_peaks import Grouping, group
from advisor.findings.idle_quota import size
from advisor.settings import AdvisorSettings
from egpu_runtime.contract.resources import DialectName

DAYS = 28
MODEL = ("c1", "A100")


def shape(low_gib: float, high_gib: float, hours: range, days: int = DAYS) -> np.ndarray:
    day = np.full(24, float(low_gib))
    day[list(hours)] = high_gib
    return np.pad(np.tile(day, days), (24 * (DAYS - days), 0), constant_values=np.nan) * 1024


DAY, NIGHT = shape(8, 50, range(8, 20)), shape(8, 50, range(20, 24))


def grouped(
    memory: dict[str, np.ndarray],
    *,
    facts: dict[str, Facts] | None = None,
    held: dict[tuple[str, str], frozenset[str]] | None = None,
    settings: AdvisorSettings | None = None,
    core_units: float = 1_000,
) -> tuple[Grouping, list[tuple[str, ...]]]:
    """The grouping and the names of the members of each group of two or more."""
    names = sorted(memory)
    given = facts or {}
    fleet = Fleet(
        tuple(WorkloadKey("c1", "ns", "Deployment", name, "main", "A100") for name in names),
        tuple(given.get(name, replace(FACTS, cards=(f"GPU-{name}",))) for name in names),
        1_767_571_200_000,
        np.array([memory[name] for name in names], np.float32),
        np.where(np.isnan([memory[name] for name in names]), np.nan, core_units).astype(np.float32),
    )
    chosen = settings or AdvisorSettings()
    sleepers = np.zeros(len(names), bool)
    found = group(fleet, size(fleet, chosen), held or {}, sleepers=sleepers, settings=chosen)
    return found, sorted(tuple(names[row] for row in draft.rows) for draft in found.drafts if len(draft.rows) > 1)


def check(found: Grouping, before: int, after: int, bound: int) -> None:
    total = found.totals[MODEL]
    assert (total.before, total.after, total.bound) == (before, after, bound)


def test_day_and_night_share_a_card_beyond_its_memory() -> None:
    found, members = grouped({"day": DAY, "night": NIGHT})
    assert members == [("day", "night")]
    assert found.drafts[0].oversubscribed
    assert found.drafts[0].margin == 1.1
    check(found, before=2, after=1, bound=1)


def test_without_a_fallback_only_slices_that_fit_share() -> None:
    settings = AdvisorSettings(oversubscription_fallback="off")
    found, members = grouped({"day": DAY, "night": NIGHT}, settings=settings)
    assert members == []
    assert found.refusals[0] == (
        "would be one of 2 that share a card beyond its memory, and nothing catches an overflow: "
        "oversubscription_fallback is off"
    )
    check(found, before=2, after=2, bound=2)
    small = shape(8, 20, range(8, 20))
    found, members = grouped({"a": small, "b": small, "c": small}, settings=settings)
    assert members == [("a", "b", "c")]
    assert not found.drafts[0].oversubscribed


@pytest.mark.parametrize(("dialect", "shared"), [("egpu", 1), ("hami", 0)])
def test_the_dialect_says_whether_there_is_a_fallback(dialect: DialectName, shared: int) -> None:
    assert len(grouped({"day": DAY, "night": NIGHT}, settings=AdvisorSettings(dialect=dialect))[1]) == shared


def test_unknown_compute_is_not_taken_for_idle() -> None:
    found, members = grouped({"day": DAY, "night": NIGHT}, core_units=float("nan"))
    assert members == []
    assert found.refusals[0] == "its compute use was never observed"


def test_short_history_shares_only_where_the_slices_fit() -> None:
    """12 days: the slices of 1.5 x 50 GiB fill a card each; 14 days see both weeks and may share by hour."""
    short = {"day": shape(8, 40, range(8, 20), 12), "night": shape(8, 40, range(20, 24), 12)}
    assert grouped(short)[1] == []
    enough = {"day": shape(8, 40, range(8, 20), 14), "night": shape(8, 40, range(20, 24), 14)}
    assert grouped(enough)[1] == [("day", "night")]


def test_equal_peaks_are_left_alone() -> None:
    found, members = grouped({"a": DAY, "b": DAY})
    assert members == []
    check(found, before=2, after=2, bound=2)


def test_compute_fits_a_card_at_every_hour() -> None:
    assert grouped({"day": DAY, "night": NIGHT}, core_units=5_100)[1] == []
    assert grouped({"day": DAY, "night": NIGHT}, core_units=5_000)[1] == [("day", "night")]


def test_a_margin_is_learnt_from_the_last_week() -> None:
    """Three of each fill two cards (3 x 20 + 3 x 2 GiB), until the last week, when the nights work by day as well.

    There they reach 3 x 20 + 3 x 12 = 96 of 80 GiB: a margin of 1.2, and three cards of two and two.
    """
    changed = shape(2, 20, range(20, 24))
    changed[21 * 24 :] = np.tile(np.r_[[2.0] * 8, [12.0] * 12, [20.0] * 4], 7) * 1024
    fleet = {f"day{number}": shape(2, 20, range(8, 20)) for number in range(6)}
    found, members = grouped(fleet | {f"night{number}": changed for number in range(6)})
    assert [draft.margin for draft in found.drafts] == [1.2] * 3
    assert [len(group_members) for group_members in members] == [4] * 3
    check(found, before=12, after=3, bound=3)


def test_replicas_of_a_member_are_on_cards_of_their_own() -> None:
    three = replace(FACTS, live_replicas=3, cards=("GPU-1", "GPU-2", "GPU-3"))
    found, members = grouped({"day": DAY, "night": NIGHT}, facts={"day": three})
    assert members == [("day", "night")]
    assert found.drafts[0].cards == 3
    check(found, before=4, after=3, bound=3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cards_per_pod_max": 2}, "one pod holds 2 cards"),
        ({"replicas_per_card_max": 2}, "2 of its replicas share one card"),
        ({"card_memory_mib": None}, "the memory of its card is not known"),
        ({"advice_off": True}, "opted out of advice"),
        ({"observed_ratio": 0.5}, "unobserved 50% of the time"),
    ],
)
def test_unsafe_workloads_keep_their_card(changes: dict[str, object], reason: str) -> None:
    facts = {"day": replace(FACTS, cards=("GPU-day",), **changes)}
    found, members = grouped({"day": DAY, "night": NIGHT, "other": DAY}, facts=facts)
    assert members == [("night", "other")]
    assert found.refusals[0].startswith(reason)
    check(found, before=3, after=2, bound=2)


def test_a_preallocating_framework_is_not_grouped() -> None:
    found, members = grouped({"day": DAY, "night": NIGHT, "vllm": np.full(DAYS * 24, 75_000.0)})
    assert members == [("day", "night")]
    assert found.refusals[2].startswith("constant at 92% of quota")


def test_a_card_shared_with_a_refused_workload_is_not_freed() -> None:
    """Day and night leave GPU-1, but the workload that opted out stays there."""
    facts = {
        "day": replace(FACTS, cards=("GPU-1",)),
        "off": replace(FACTS, cards=("GPU-1",), advice_off=True),
    }
    found, _ = grouped({"day": DAY, "night": NIGHT, "off": DAY}, facts=facts)
    check(found, before=2, after=2, bound=2)
    assert found.drafts == ()


def test_cards_held_by_others_count_before_and_after() -> None:
    held = {MODEL: frozenset({"GPU-x", "GPU-day"}), ("c2", "T4"): frozenset({"GPU-y"})}
    found, _ = grouped({"day": DAY, "night": NIGHT, "other": DAY}, held=held)
    check(found, before=4, after=4, bound=4)
    assert found.totals[("c2", "T4")].after == 1


def test_a_dead_workload_holds_no_card() -> None:
    facts = {"day": replace(FACTS, live_replicas=0, cards=())}
    found, members = grouped({"day": DAY, "night": NIGHT}, facts=facts)
    assert members == []
    check(found, before=1, after=1, bound=1)


def test_pools_bound_the_search() -> None:
    small = shape(8, 20, range(8, 20))
    memory = {f"w{number:02d}": small for number in range(12)}
    found, members = grouped(memory, settings=AdvisorSettings(pool_workload_count_max=5))
    assert max(len(group_members) for group_members in members) == 3
    assert found.totals[MODEL].after == 5  # pools of 5, 5 and 2: two cards each for the first two
