"""Training hours of a plan: hours in which all members of a card are idle together and leave memory free."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from advisor.advice import Advice, Judge, confidence_of
from advisor.backtest import Later, Verdict
from advisor.contract import BackTest, Refusal, TrainWindow
from advisor.demand import Bools
from advisor.findings.complementary_peaks import CardKey, CardNames
from advisor.findings.idle_quota import general_refusal
from advisor.findings.train_beside_inference import (
    Harvest,
    Tenancy,
    free_memory_mib,
    harvest,
    idle_limits,
    idle_ratio,
    open_hours,
    ranges,
    serves,
)
from advisor.settings import AdvisorSettings
from advisor.wording import gibibytes

_SECONDS_PER_HOUR = 3600


def train_windows(
    advice: Advice, judge: Judge | None, held: Mapping[CardKey, CardNames], *, settings: AdvisorSettings
) -> tuple[tuple[TrainWindow, ...], tuple[Refusal, ...]]:
    """Windows of every workload whose cards are idle and have memory free, and why sleepers have none.

    A card's hours are counted once: the members of a group get equal parts of them.
    """
    windows: list[TrainWindow] = []
    for tenancy in _tenancies(advice, held):
        if all(_may_train(advice, int(row), settings) for row in tenancy.rows):
            open_hour = open_hours(advice.fleet, tenancy, settings, memory_free_mib=settings.train_memory_min_mib)
            if open_hour.any():
                windows += _windows_of(advice, judge, tenancy, open_hour, settings=settings)
    found = {window.workload for window in windows}
    refusals = [
        Refusal("train_beside_inference", advice.fleet.keys[row], why)
        for row in np.flatnonzero(advice.sleepers)
        if advice.fleet.keys[row] not in found and (why := _why_not(advice, int(row), settings))
    ]
    return tuple(sorted(windows, key=lambda window: window.workload)), tuple(refusals)


def _tenancies(advice: Advice, held: Mapping[CardKey, CardNames]) -> Iterator[Tenancy]:
    """The plan's groups, and workloads outside of them whose cards nobody shares."""
    facts = advice.fleet.facts
    grouped: set[int] = set()
    for draft in advice.grouping.drafts:
        grouped.update(int(row) for row in draft.rows)
        yield Tenancy(draft.rows, draft.cards, draft.capacity_mib)
    holders = Counter(card for fact in facts for card in fact.cards)
    for row, (key, fact) in enumerate(zip(advice.fleet.keys, facts, strict=True)):
        outside = held.get((key.cluster, key.gpu_model), frozenset())
        alone = fact.cards and all(holders[card] == 1 and card not in outside for card in fact.cards)
        if alone and row not in grouped and fact.card_memory_mib:
            yield Tenancy(np.array([row]), len(fact.cards), fact.card_memory_mib)


def _may_train(advice: Advice, row: int, settings: AdvisorSettings) -> bool:
    fact, history = advice.fleet.facts[row], float(advice.slices.history[row])
    return (
        serves(advice.fleet.keys[row].kind)
        and fact.live_replicas > 0
        and history >= settings.train_history_min_days
        and not general_refusal(fact, history, settings)
    )


def _windows_of(
    advice: Advice, judge: Judge | None, tenancy: Tenancy, open_hour: Bools, *, settings: AdvisorSettings
) -> Iterator[TrainWindow]:
    """One window a member, with its part of the harvest; none where the rule would have harvested nothing."""
    judged = _judged(judge, tenancy, settings)
    if judged is None:
        taken, test = _own(advice, tenancy, open_hour, settings), None
    else:
        taken, test = judged
    if taken.hours_run == 0:
        return
    fleet = advice.fleet
    free = free_memory_mib(fleet, tenancy, settings, open_hour=open_hour)
    idle = idle_ratio(fleet, tenancy, settings)
    members = len(tenancy.rows)
    alone = "alone on its cards" if members == 1 else f"with {members - 1} others on its cards, all idle together"
    for row in tenancy.rows:
        yield TrainWindow(
            workload=fleet.keys[row],
            replicas=fleet.facts[row].live_replicas,
            windows=tuple(ranges(open_hour)),
            free_memory_mib=free,
            confirm_minutes=settings.idle_confirm_minutes,
            gpu_hours_per_week=round(taken.hours_per_week * tenancy.cards / members, 3),
            idle_ratio=round(idle, 6),
            false_idle_ratio=round(taken.false_idle_ratio, 6),
            reason=(
                f"idle {idle:.0%} of the observed hours, {alone}; {int(open_hour.sum())} hours a week are open, "
                f"{gibibytes(free)} of {gibibytes(tenancy.capacity_mib)} free in all of them"
            ),
            confidence=confidence_of(float(advice.slices.history[tenancy.rows].min()), test),
            backtest=test,
        )


def _judged(judge: Judge | None, tenancy: Tenancy, settings: AdvisorSettings) -> tuple[Harvest, BackTest | None] | None:
    """The windows found in the part before the split, harvested after it; None where there were none."""
    if judge is None:
        return None
    past = judge.past.fleet
    if float(judge.past.slices.history[tenancy.rows].min()) < settings.train_history_min_days:
        return None
    open_hour = open_hours(past, tenancy, settings, memory_free_mib=settings.train_memory_min_mib)
    if not open_hour.any():
        return None
    limits = idle_limits(past.core[tenancy.rows], settings)
    taken = harvest(judge.later, tenancy.rows, open_hour, limits=limits, settings=settings)
    per_hour = _SECONDS_PER_HOUR / judge.later.step_seconds
    verdict = Verdict(round(taken.hours_run * per_hour), round(taken.hours_busy * per_hour))
    return taken, judge.test([verdict], "training hours")


def _own(advice: Advice, tenancy: Tenancy, open_hour: Bools, settings: AdvisorSettings) -> Harvest:
    """The windows harvested on the profiles they were found in: an estimate, not a back-test."""
    limits = idle_limits(advice.fleet.core[tenancy.rows], settings)
    fleet = advice.fleet
    hourly = Later(fleet.start_ms, _SECONDS_PER_HOUR, fleet.memory, fleet.core)
    return harvest(hourly, tenancy.rows, open_hour, limits=limits, settings=settings)


def _why_not(advice: Advice, row: int, settings: AdvisorSettings) -> str:
    """Why a workload that sleeps at the same hours every week has no window; empty where it was refused already."""
    fact, history = advice.fleet.facts[row], float(advice.slices.history[row])
    if general_refusal(fact, history, settings) or not fact.card_memory_mib:
        return ""
    if history < settings.train_history_min_days:
        return f"history {history:.1f} d < {settings.train_history_min_days} d"
    alone = Tenancy(np.array([row]), 1, fact.card_memory_mib)
    hours = open_hours(advice.fleet, alone, settings, memory_free_mib=0)
    free = free_memory_mib(advice.fleet, alone, settings, open_hour=hours)
    if free < settings.train_memory_min_mib:
        needed = gibibytes(settings.train_memory_min_mib)
        return f"only {gibibytes(free)} of its card are free while it sleeps, {needed} are needed"
    return "shares its card with workloads that are awake while it sleeps"
