"""One joint plan: slice, then group, then mix, so that the same slack is never counted twice.

A workload's slice is sized first; groups are packed from the sized workloads; only what stays alone on its cards is
looked at for training in its idle hours.
"""

import hashlib
from dataclasses import replace

import msgspec
import numpy as np

from advisor.advice import Advice, Evidence, Judge, advise, confidence_of
from advisor.backtest import Split, split_hour
from advisor.contract import (
    PLAN_SCHEMA_VERSION,
    CardTotal,
    Group,
    Origin,
    Plan,
    Refusal,
    Resize,
    Slice,
    WorkloadKey,
)
from advisor.demand import Floats, span
from advisor.findings import idle_quota, train_beside_inference
from advisor.findings.complementary_peaks import Draft
from advisor.findings.idle_quota import PERCENT_UNITS, Slices
from advisor.settings import AdvisorSettings
from advisor.training import train_windows
from advisor.wording import gibibytes
from egpu_runtime.contract.units import DAY_MS, HOUR_MS


def first_judged_hour(hours: int, settings: AdvisorSettings, *, workload_count: int) -> int:
    """First hour of which data at the finest grain is needed, for the split and the rolling origins; hours if none."""
    split = split_hour(hours, settings)
    return min([hours if split is None else split, *origin_hours(hours, settings, workload_count=workload_count)])


def origin_hours(hours: int, settings: AdvisorSettings, *, workload_count: int) -> list[int]:
    """Hours of the rolling origins: one a day, the last one with a whole test behind it, oldest first.

    None for fleets above ``origin_workload_count_max``.
    """
    if workload_count > settings.origin_workload_count_max:
        return []
    last = hours - settings.origin_test_days * 24
    first = settings.origin_train_days * 24
    return sorted(hour for turn in range(settings.origin_count) if (hour := last - 24 * turn) >= first)


def make_plan(evidence: Evidence, settings: AdvisorSettings, *, split_ms: int | None = None) -> Plan:
    """The plan from all of the evidence, with its back-tests.

    ``split_ms`` = where to cut for the back-test instead of the default; epoch ms UTC, within the evidence.
    """
    fleet = evidence.fleet
    now = advise(fleet, evidence.held, settings)
    cut = split_hour(fleet.hours, settings) if split_ms is None else (split_ms - fleet.start_ms) // HOUR_MS
    end_ms = fleet.start_ms + fleet.hours * HOUR_MS
    judge = None
    if cut is not None and 0 < cut < fleet.hours:
        split = Split(fleet.start_ms, fleet.start_ms + cut * HOUR_MS, end_ms)
        past = advise(evidence.before(cut), evidence.held, settings)
        judge = Judge(past, evidence.later.between(split.split_ms, end_ms), split)
    windows, unopened = train_windows(now, judge, evidence.held, settings=settings)
    refusals = (*_refusals(now), *unopened)
    plan = Plan(
        schema_version=PLAN_SCHEMA_VERSION,
        plan_id="",
        made_ms=end_ms,
        time_zone=settings.time_zone,
        history_days=round(fleet.hours / 24, 3),
        workload_count=len(fleet.keys),
        resizes=_resizes(now, judge, settings),
        groups=_groups(now, judge, settings),
        train_windows=windows,
        refusals=tuple(sorted(refusals, key=lambda refusal: (refusal.workload, refusal.finding))),
        cards=tuple(
            CardTotal(cluster, model, total.before, total.after, total.bound)
            for (cluster, model), total in sorted(now.grouping.totals.items())
        ),
        slices_backtest=judge.slices() if judge else None,
        packing_backtest=judge.packing() if judge else None,
        origins=_origins(evidence, settings),
    )
    return replace(plan, plan_id=hashlib.sha256(msgspec.json.encode(plan)).hexdigest()[:12])


def _resizes(advice: Advice, judge: Judge | None, settings: AdvisorSettings) -> tuple[Resize, ...]:
    slices, fleet = advice.slices, advice.fleet
    verdicts = judge.slice_verdicts() if judge else [None] * len(fleet.keys)
    found = []
    for row in np.flatnonzero(slices.acted):
        verdict = verdicts[row]
        test = judge.test([verdict], "the slice") if judge and verdict else None
        found.append(
            Resize(
                workload=fleet.keys[row],
                replicas=fleet.facts[row].live_replicas,
                before=Slice(int(slices.before_memory[row]), int(slices.before_core[row])),
                after=Slice(int(slices.after_memory[row]), int(slices.after_core[row])),
                memory_peak_mib=int(np.nan_to_num(slices.memory_peak[row])),
                core_peak_percent=int(np.ceil(np.nan_to_num(slices.core_peak[row]) / PERCENT_UNITS)),
                history_days=round(float(slices.history[row]), 3),
                reason=_resize_reason(slices, int(row), settings),
                confidence=confidence_of(float(slices.history[row]), test),
                backtest=test,
            )
        )
    return tuple(found)


def _resize_reason(slices: Slices, row: int, settings: AdvisorSettings) -> str:
    peak, quota = float(np.nan_to_num(slices.memory_peak[row])), int(slices.before_memory[row])
    parts = [f"memory peak {gibibytes(peak)} = {peak / quota:.0%} of quota in {span(float(slices.history[row]))}"]
    if slices.after_memory[row] != quota:
        parts += _memory_reason(slices, row, settings)
    if slices.after_core[row] != slices.before_core[row]:
        parts.append(
            f"compute p{settings.core_percentile:.0f} of its busiest hour of the week x {settings.core_margin:g} "
            f"= {slices.after_core[row]} %"
        )
    return ", ".join(parts)


def _memory_reason(slices: Slices, row: int, settings: AdvisorSettings) -> list[str]:
    """How the slice comes about: from the peak, or from the trend where that leads further."""
    factor = float(idle_quota.multiplier(slices.history[row : row + 1], settings)[0])
    if settings.slice_rule == "plain":
        return [f"slice = {factor:.2f} x peak"]
    extra = gibibytes(settings.slice_extra_mib)
    trend = float(slices.trend[row])
    if trend <= factor * float(slices.memory_peak[row]):
        return [f"slice = {factor:.2f} x peak + {extra}"]
    grows = f"growing {gibibytes(float(slices.growth[row]))} a day to {gibibytes(trend)} in {settings.validity_days} d"
    return [grows, f"slice = that + {extra}"]


def _groups(advice: Advice, judge: Judge | None, settings: AdvisorSettings) -> tuple[Group, ...]:
    fleet = advice.fleet
    week_hour = train_beside_inference.hours_of_week(fleet.start_ms, fleet.hours, settings.time_zone)
    found = []
    for draft in advice.grouping.drafts:
        if len(draft.rows) < 2:
            continue
        shapes = np.nan_to_num(train_beside_inference.week_maxima(fleet.memory[draft.rows], week_hour))
        members = tuple(fleet.keys[row] for row in draft.rows)
        test = judge.of_group(draft) if judge else None
        found.append(
            Group(
                name=_group_name(members),
                cluster=members[0].cluster,
                gpu_model=members[0].gpu_model,
                members=members,
                cards=draft.cards,
                capacity_mib=draft.capacity_mib,
                margin=draft.margin,
                oversubscribed=draft.oversubscribed,
                load_mib=_whole(shapes.sum(axis=0)),
                member_load_mib=tuple(_whole(shape) for shape in shapes),
                reason=_group_reason(advice, draft),
                confidence=confidence_of(float(advice.slices.history[draft.rows].min()), test),
                backtest=test,
            )
        )
    return tuple(sorted(found, key=lambda group: (group.cluster, group.gpu_model, group.members)))


def _whole(load: Floats) -> tuple[int, ...]:
    return tuple(int(value) for value in load)


def _group_name(members: tuple[WorkloadKey, ...]) -> str:
    """A name that depends on the members alone, valid as an annotation value and a label."""
    model = "".join(letter if letter.isalnum() else "-" for letter in members[0].gpu_model.lower()).strip("-")
    return f"{model or 'gpu'}-{hashlib.sha256(repr(members).encode()).hexdigest()[:8]}"


def _group_reason(advice: Advice, draft: Draft) -> str:
    who, card = f"{len(draft.rows)} workloads", f"the card's {gibibytes(draft.capacity_mib)}"
    if not draft.by_hour:
        slices = int(advice.slices.after_memory[draft.rows].sum())
        return f"slices of {who} sum to {gibibytes(slices)} of {card}"
    load = gibibytes(float(np.nansum(advice.fleet.memory[draft.rows], axis=0).max()))
    peaks = gibibytes(float(np.nansum(advice.slices.memory_peak[draft.rows])))
    together = f", but no hour to more than {load}" if load != peaks else ""
    return f"peaks of {who} sum to {peaks}{together}; with a margin of x {draft.margin:.2f} they fit {card}"


def _refusals(advice: Advice) -> tuple[Refusal, ...]:
    keys = advice.fleet.keys
    sized = [Refusal("idle_quota", keys[row], why) for row, why in enumerate(advice.slices.refusals) if why]
    grouped = [
        Refusal("complementary_peaks", keys[row], why)
        for row, why in advice.grouping.refusals.items()
        if why != advice.slices.refusals[row]
    ]
    return (*sized, *grouped)


def _origins(evidence: Evidence, settings: AdvisorSettings) -> tuple[Origin, ...]:
    """The plan made and judged again at each rolling origin."""
    fleet = evidence.fleet
    found = []
    for hour in origin_hours(fleet.hours, settings, workload_count=len(fleet.keys)):
        first = hour - settings.origin_train_days * 24
        split_ms = fleet.start_ms + hour * HOUR_MS
        end_ms = split_ms + settings.origin_test_days * DAY_MS
        past = advise(fleet.between(first, hour), evidence.held, settings)
        judge = Judge(
            past,
            evidence.later.between(split_ms, end_ms),
            Split(fleet.start_ms + first * HOUR_MS, split_ms, end_ms),
        )
        slices, cards = judge.slices(), judge.packing()
        totals = past.grouping.totals.values()
        found.append(
            Origin(
                split_ms=split_ms,
                cards_before=sum(total.before for total in totals),
                cards_after=sum(total.after for total in totals),
                slice_violated_ratio=slices.violated_ratio if slices else 0.0,
                card_violated_ratio=cards.violated_ratio if cards else 0.0,
            )
        )
    return tuple(found)
