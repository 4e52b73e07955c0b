"""A plan in words: every figure behind one workload's advice, and the back-test of the whole."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console

from advisor.contract import BackTest, Group, Plan, WorkloadKey
from advisor.demand import Fleet, history_days, peaks, span
from advisor.findings import idle_quota
from advisor.findings.idle_quota import PERCENT_UNITS
from advisor.settings import AdvisorSettings
from advisor.wording import (
    FALSE_IDLE_MEANING,
    WEEKDAYS,
    Judged,
    backtest_sentence,
    count,
    day_and_hour,
    gibibytes,
    group_untested,
    hour_ranges,
    origins_missing,
    percent,
    wrapped,
)


def matching(plan_keys: Sequence[WorkloadKey], name: str) -> list[WorkloadKey]:
    """Workloads that ``name`` names: ``namespace/kind/name/container``, a part of it by slashes, or the bare name."""
    wanted = name.strip("/").split("/")
    found = []
    for key in plan_keys:
        parts = [key.namespace, key.kind, key.name, key.container]
        if key.name == name or any(parts[at : at + len(wanted)] == wanted for at in range(len(parts))):
            found.append(key)
    return found


def explain_workload(
    plan: Plan, fleet: Fleet, key: WorkloadKey, *, settings: AdvisorSettings, width: int | None = None
) -> str:
    """Everything that led to the advice for one workload of the fleet, as lines of ``width`` columns.

    Without a width it is the terminal's, as for the plan's table.
    """
    columns = width or Console().width
    row = fleet.keys.index(key)
    one = fleet.only(np.array([row]))
    lines = [
        f"{key} on {key.gpu_model} in cluster {key.cluster}",
        *_figures(one, settings),
        *_advice(plan, key, settings),
    ]
    return "".join(f"{_line_of(line, columns)}\n" for line in lines)


def _line_of(text: str, width: int) -> str:
    """A line wrapped two columns deeper than it starts."""
    indent = " " * (len(text) - len(text.lstrip()))
    return wrapped(text, width, indent=indent + "  ")


def _figures(one: Fleet, settings: AdvisorSettings) -> Iterator[str]:
    fact, slices = one.facts[0], idle_quota.size(one, settings)
    history = float(history_days(one.memory)[0])
    peak = float(np.nan_to_num(peaks(one.memory)[0]))
    factor = float(idle_quota.multiplier(np.array([history]), settings)[0])
    seen = float((~np.isnan(one.memory)).mean())
    cards = count(len(fact.cards), "card")
    yield f"  replicas alive: {fact.live_replicas} on {cards} of {_amount(fact.card_memory_mib)}"
    yield f"  quota: {_amount(fact.memory_quota_mib)} of memory, {fact.core_quota_percent} % of compute"
    observed = f"observed {percent(fact.observed_ratio)} of its windows, {percent(seen)} of the hours read"
    yield f"  history: {span(history)}, {observed}"
    yield f"  memory peak: {gibibytes(peak)}; constant near its quota: {'yes' if slices.preallocating[0] else 'no'}"
    yield f"  growth of its daily peaks: {gibibytes(float(slices.growth[0]))} a day, for {settings.validity_days} d"
    yield f"  slice rule: {settings.slice_rule}, {factor:.2f} x peak at this history"
    if settings.slice_rule == "by_history":
        yield f"  added to every slice: {gibibytes(settings.slice_extra_mib)}"
    yield (
        f"  rounded up to {settings.memory_grain_mib} MiB, at least {gibibytes(settings.memory_floor_mib)}, "
        f"changed by {percent(settings.change_min_ratio)} or not at all"
    )
    high = float(np.nan_to_num(idle_quota.core_percentile(one.core, settings.core_percentile)[0])) / PERCENT_UNITS
    yield (
        f"  compute p{settings.core_percentile:.0f} of its busiest hour of the week: {high:.1f} %, "
        f"x {settings.core_margin:g} = {high * settings.core_margin:.1f} %"
    )


def _amount(memory_mib: int | None) -> str:
    return "unknown size" if memory_mib is None else gibibytes(memory_mib)


def _advice(plan: Plan, key: WorkloadKey, settings: AdvisorSettings) -> Iterator[str]:
    said = False
    for resize in (each for each in plan.resizes if each.workload == key):
        said = True
        before, after = resize.before, resize.after
        yield (
            f"advice: memory {gibibytes(before.memory_mib)} -> {gibibytes(after.memory_mib)}, "
            f"compute {before.core_percent} % -> {after.core_percent} %, confidence {resize.confidence}"
        )
        yield f"  why: {resize.reason}"
        yield f"  back-test: {backtest_sentence(resize.backtest, 'slice')}"
    for group in (each for each in plan.groups if key in each.members):
        said = True
        yield from _group_lines(group, settings)
        yield f"  back-test: {backtest_sentence(group.backtest, 'card', missing=group_untested(plan))}"
    for window in (each for each in plan.train_windows if each.workload == key):
        said = True
        yield f"advice: train beside it {hour_ranges(window.windows)}, {gibibytes(window.free_memory_mib)} free"
        yield f"  why: {window.reason}"
        yield f"  back-test: {backtest_sentence(window.backtest, 'hours')}"
        yield f"  false idle: {percent(window.false_idle_ratio, 1)}, {FALSE_IDLE_MEANING}"
    for refusal in (each for each in plan.refusals if each.workload == key):
        said = True
        yield f"refused, {refusal.finding.replace('_', ' ')}: {refusal.reason}"
    if not said:
        yield "no advice: no change of its slice is large enough, and nothing can share its card to set one free"


def _group_lines(group: Group, settings: AdvisorSettings) -> Iterator[str]:
    shared = "beyond its memory" if group.oversubscribed else "within its memory"
    members = f"{count(len(group.members), 'member')} on {count(group.cards, 'card')}"
    yield f"advice: share a card {shared} in group {group.name}, {members}"
    yield f"  why: {group.reason}"
    yield f"  members: {', '.join(f'{member.namespace}/{member.name}' for member in group.members)}"
    yield f"  cards: {count(group.cards, 'card')} of {gibibytes(group.capacity_mib)} ({group.gpu_model})"
    load = max(group.load_mib, default=0)
    if group.load_mib:
        day, hour = divmod(group.load_mib.index(load), 24)
        at = f"{WEEKDAYS[day]} {hour:02d}-{hour + 1:02d}"
        yield f"  fullest hour of the week: {at}, {gibibytes(load)} of {gibibytes(group.capacity_mib)}"
    if group.margin > 1:
        yield (
            f"  margin: x {group.margin:.2f} on that load, from how far trial packings of earlier weeks were exceeded "
            f"in the week after; {settings.packing_margin_min:.2f} is the floor"
        )
    else:
        yield "  margin: none is needed, the slices fit the card"


def backtest_report(plan: Plan) -> str:
    """The findings of the part before the split on the part after it, and the rolling origins."""
    lines = [
        _line("idle quota", plan.slices_backtest, "slices", "of the quota kept"),
        _line("complementary peaks", plan.packing_backtest, "cards", "of the cards kept"),
        _training_line(plan),
        "",
    ]
    if not plan.origins:
        lines.append(f"rolling origins: {origins_missing(plan)}")
    if plan.origins:
        lines.append("rolling origins   cards      slices above   cards above")
    for each in plan.origins:
        lines.append(
            f"{day_and_hour(each.split_ms, plan.time_zone)}  {each.cards_before:4d} ->{each.cards_after:4d}"
            f"  {percent(each.slice_violated_ratio, 4):>12}   {percent(each.card_violated_ratio, 4):>11}"
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
        f"beside {count(len(judged), 'workload')}, {percent(busy / max(hours, 1e-9), 4)} of them busy"
    )


def _line(what: str, test: BackTest | None, judged: Judged, kept: str) -> str:
    if test is None:
        return f"{what}: nothing to judge"
    share = "" if test.kept_ratio is None else f", {percent(test.kept_ratio, 1)} {kept}"
    return f"{what}: {backtest_sentence(test, judged)}{share}"
