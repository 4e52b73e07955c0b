"""The words of a commit: what changes, why, how it did on later data, and how much to trust it."""

import re
from typing import Final

from advisor.contract import Group, Plan, Resize, TrainWindow
from advisor.dialects import Advice, WorkloadChange
from advisor.wording import (
    FALSE_IDLE_MEANING,
    MIB_PER_GIB,
    Judged,
    backtest_sentence,
    count,
    gibibytes,
    group_untested,
    percent,
    wrapped,
)

LINE_WIDTH: Final = 72
"""Columns of a commit message's body, as git's own tools assume."""

SUBJECT_LENGTH_MAX: Final = 72
"""Characters of a commit's first line that git's tools show whole."""

_BEFORE: Final = re.compile(r"[\d.]+ \S+ -> ")
"""What a figure was, left out where the line is too long with it."""


def subject(change: WorkloadChange) -> str:
    """First line of the commit: the workload and what becomes of it."""
    parts = []
    for finding in change.evidence:
        match finding:
            case Resize():
                parts.append(_resize_words(finding))
            case Group() if change.annotations:
                parts.append(f"join {finding.name}")
            case TrainWindow():
                parts.append("high priority")
            case Group():
                continue
    workload, words = change.workload, ", ".join(dict.fromkeys(parts))
    shorter = words.replace("GPU memory", "memory")
    candidates = (
        f"{workload.namespace}/{workload.name}: {words}",
        f"{workload.namespace}/{workload.name}: {shorter}",
        f"{workload.namespace}/{workload.name}: {_BEFORE.sub('to ', shorter)}",
        f"{workload.name}: {_BEFORE.sub('to ', shorter)}",
    )
    fits = next((line for line in candidates if len(line) <= SUBJECT_LENGTH_MAX), candidates[-1])
    return fits if len(fits) <= SUBJECT_LENGTH_MAX else fits[: SUBJECT_LENGTH_MAX - 3] + "..."


def message(change: WorkloadChange, plan: Plan) -> str:
    """The whole commit message: subject, one paragraph a finding with its figures, trailers."""
    paragraphs = [subject(change)]
    for finding in change.evidence:
        paragraphs.append(wrapped(finding.reason, LINE_WIDTH))
        facts = [
            *_facts(finding),
            f"confidence: {finding.confidence}",
            f"back-test: {_backtest(finding, plan)}",
        ]
        paragraphs.append("\n".join(wrapped(fact, LINE_WIDTH, indent="  ") for fact in facts))
    workload = change.workload
    trailers = [
        f"Workload: {workload.namespace}/{workload.kind}/{workload.name} container {workload.container}",
        f"Cluster: {workload.cluster}",
        f"Plan: {plan.plan_id}",
    ]
    return "\n\n".join([*paragraphs, "\n".join(trailers)]) + "\n"


def _backtest(finding: Advice, plan: Plan) -> str:
    if isinstance(finding, Group):
        return backtest_sentence(finding.backtest, "card", missing=group_untested(plan))
    judged: Judged = "slice" if isinstance(finding, Resize) else "hours"
    return backtest_sentence(finding.backtest, judged)


def _memory(memory_mib: int) -> str:
    """GiB, and in brackets the MiB that stand in the manifest."""
    return gibibytes(memory_mib) + (f" ({memory_mib} MiB)" if memory_mib >= MIB_PER_GIB else "")


def _resize_words(resize: Resize) -> str:
    parts = []
    if resize.before.memory_mib != resize.after.memory_mib:
        parts.append(f"GPU memory {gibibytes(resize.before.memory_mib)} -> {gibibytes(resize.after.memory_mib)}")
    if resize.before.core_percent != resize.after.core_percent:
        parts.append(f"compute {resize.before.core_percent} % -> {resize.after.core_percent} %")
    return ", ".join(parts)


def _resize_facts(resize: Resize) -> list[str]:
    """Figures of what changes; what stays as it is has no line."""
    before, after = resize.before, resize.after
    facts = []
    if before.memory_mib != after.memory_mib:
        change = f"{_memory(before.memory_mib)} -> {_memory(after.memory_mib)}"
        facts.append(f"memory: {change}, peak {_memory(resize.memory_peak_mib)}")
    if before.core_percent != after.core_percent:
        change = f"{before.core_percent} % -> {after.core_percent} % of a card"
        facts.append(f"compute: {change}, p99 {resize.core_peak_percent} %")
    return [
        *facts,
        f"replicas: {resize.replicas} on {resize.workload.gpu_model}",
        f"history: {resize.history_days:.1f} d",
    ]


def _facts(finding: Advice) -> list[str]:
    match finding:
        case Resize():
            return _resize_facts(finding)
        case Group():
            members = ", ".join(f"{member.namespace}/{member.name}" for member in finding.members)
            return [
                f"group: {finding.name} on {count(finding.cards, 'card')} ({finding.gpu_model}): {members}",
                f"load: peak {_memory(max(finding.load_mib, default=0))} of {_memory(finding.capacity_mib)} a card, "
                f"margin x {finding.margin:.2f}",
            ]
        case TrainWindow():
            return [
                f"harvest: {finding.gpu_hours_per_week:.1f} GPU-hours a week, {count(finding.replicas, 'replica')}, "
                f"{_memory(finding.free_memory_mib)} free for the training job",
                f"false idle: {percent(finding.false_idle_ratio, 1)}, {FALSE_IDLE_MEANING}",
                f"rule: start after {finding.confirm_minutes} idle minutes, stop at the first busy one",
            ]
