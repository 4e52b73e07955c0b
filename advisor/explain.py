"""A plan in words: every figure behind one workload's advice, and the back-test of the whole."""

from collections.abc import Iterator, Sequence

import numpy as np

from advisor.contract import BackTest, Plan, WorkloadKey
from advisor.demand import Fleet, history_days, peaks, span
from advisor.findings import idle_quota
from advisor.findings.idle_quota import PERCENT_UNITS
from advisor.settings import AdvisorSettings
from advisor.wording import backtest_sentence, count, day_and_hour, gibibytes, hour_ranges


def matching(plan_keys: Sequence[WorkloadKey], name: str) -> list[WorkloadKey]:
    """Workloads that ``name`` names: ``namespace/kind/name/container``, a part of it by slashes, or the bare name."""
    wanted = name.strip("/").split("/")
    found = []
    for key in plan_keys:
        parts = [key.namespace, key.kind, key.name, key.container]
        if key.name == name or any(parts[at : at + len(wanted)] == wanted for at in range(len(parts))):
            found.append(key)
    return found


def explain_workload(plan: Plan, fleet: Fleet, key: WorkloadKey, *, settings: AdvisorSettings) -> str:
    """Everything that led to the advice for one workload of the fleet, as lines of text."""
    row = fleet.keys.index(key)
    one = fleet.only(np.array([row]))
    lines = [
        f"{key} on {key.gpu_model} in cluster {key.cluster}",
        *_figures(one, settings),
        *_advice(plan, key),
    ]
    return "\n".join(lines) + "\n"


def _figures(one: Fleet, settings: AdvisorSettings) -> Iterator[str]:
    fact, slices = one.facts[0], idle_quota.size(one, settings)
    history = float(history_days(one.memory)[0])
    peak = float(np.nan_to_num(peaks(one.memory)[0]))
    factor = float(idle_quota.multiplier(np.array([history]), settings)[0])
    seen = float((~np.isnan(one.memory)).mean())
    cards = count(len(fact.cards), "card")
    yield f"  replicas alive: {fact.live_replicas} on {cards} of {_amount(fact.card_memory_mib)}"
    yield f"  quota: {_amount(fact.memory_quota_mib)} of memory, {fact.core_quota_percent} % of compute"
    yield f"  history: {span(history)}, observed {fact.observed_ratio:.0%} of its windows, {seen:.0%} of the hours read"
    yield f"  memory peak: {gibibytes(peak)}; constant near its quota: {'yes' if slices.preallocating[0] else 'no'}"
    yield f"  growth of its daily peaks: {gibibytes(float(slices.growth[0]))} a day, for {settings.validity_days} d"
    yield f"  slice rule: {settings.slice_rule}, {factor:.2f} x peak at this history"
    if settings.slice_rule == "by_history":
        yield f"  added to every slice: {gibibytes(settings.slice_extra_mib)}"
    yield (
        f"  rounded up to {settings.memory_grain_mib} MiB, at least {gibibytes(settings.memory_floor_mib)}, "
        f"changed by {settings.change_min_ratio:.0%} or not at all"
    )
    high = float(np.nan_to_num(idle_quota.core_percentile(one.core, settings.core_percentile)[0])) / PERCENT_UNITS
    yield (
        f"  compute p{settings.core_percentile:.0f} of its busiest hour of the week: {high:.1f} %, "
        f"x {settings.core_margin:g} = {high * settings.core_margin:.1f} %"
    )


def _amount(memory_mib: int | None) -> str:
    return "unknown size" if memory_mib is None else gibibytes(memory_mib)


def _advice(plan: Plan, key: WorkloadKey) -> Iterator[str]:
    said = False
    for resize in (each for each in plan.resizes if each.workload == key):
        said = True
        before, after = resize.before, resize.after
        yield (
            f"advice: memory {gibibytes(before.memory_mib)} -> {gibibytes(after.memory_mib)}, "
            f"compute {before.core_percent} % -> {after.core_percent} %, confidence {resize.confidence}"
        )
        yield f"  why: {resize.reason}"
        yield f"  back-test: {backtest_sentence(resize.backtest)}"
    for group in (each for each in plan.groups if key in each.members):
        said = True
        shared = "beyond its memory" if group.oversubscribed else "within its memory"
        members = f"{len(group.members)} members on {count(group.cards, 'card')}"
        yield f"advice: share a card {shared} in group {group.name}, {members}"
        yield f"  why: {group.reason}"
        yield f"  fullest hour of the week: {gibibytes(max(group.load_mib))} of {gibibytes(group.capacity_mib)}"
        yield f"  back-test: {backtest_sentence(group.backtest)}"
    for window in (each for each in plan.train_windows if each.workload == key):
        said = True
        yield f"advice: train beside it {hour_ranges(window.windows)}, {gibibytes(window.free_memory_mib)} free"
        yield f"  why: {window.reason}"
        yield f"  back-test: {backtest_sentence(window.backtest)}"
    for refusal in (each for each in plan.refusals if each.workload == key):
        said = True
        yield f"refused, {refusal.finding.replace('_', ' ')}: {refusal.reason}"
    if not said:
        yield "no advice: no change of its slice is large enough, and nothing can share its card to set one free"


def backtest_report(plan: Plan) -> str:
    """The findings of the part before the split on the part after it, and the rolling origins."""
    lines = [
        _line("idle quota", plan.slices_backtest, "of the quota kept"),
        _line("complementary peaks", plan.packing_backtest, "of the cards kept"),
        _training_line(plan),
        "",
    ]
    if plan.origins:
        lines.append("rolling origins   cards      slices above   cards above")
    for each in plan.origins:
        lines.append(
            f"{day_and_hour(each.split_ms, plan.time_zone)}  {each.cards_before:4d} ->{each.cards_after:4d}"
            f"  {each.slice_violated_ratio:11.4%}   {each.card_violated_ratio:11.4%}"
        )
    if plan.origins:
        clean = sum(each.card_violated_ratio == 0 for each in plan.origins)
        lines.append(f"no card above its memory in {clean} of {len(plan.origins)} origins")
    return "\n".join(lines) + "\n"


def _training_line(plan: Plan) -> str:
    """All training hours together; what was not found in the first part is not judged."""
    judged = [window for window in plan.train_windows if window.backtest is not None]
    if not judged:
        return "train beside inference: nothing to judge"
    hours = sum(window.gpu_hours_per_week for window in judged)
    busy = sum(window.gpu_hours_per_week * window.false_idle_ratio for window in judged)
    return (
        f"train beside inference: {hours:.1f} GPU-hours a week on the later data, "
        f"beside {count(len(judged), 'workload')}, {busy / max(hours, 1e-9):.4%} of them busy"
    )


def _line(what: str, test: BackTest | None, kept: str) -> str:
    if test is None:
        return f"{what}: nothing to judge"
    share = "" if test.kept_ratio is None else f", {test.kept_ratio:.1%} {kept}"
    return (
        f"{what}: {test.label}: {test.violated_ratio:.4%} of the time above, {test.hit_ratio:.1%} hit{share} "
        f"(grain {test.resolution_seconds} s)"
    )
