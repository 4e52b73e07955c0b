"""The words of a commit: what changes, why, how it did on later data, and how much to trust it."""

import textwrap
from typing import Final

from advisor.contract import Group, Plan, Resize, TrainWindow
from advisor.dialects import Advice, WorkloadChange
from advisor.wording import backtest_sentence, count, gibibytes

LINE_WIDTH: Final = 72
"""Columns of a commit message's body, as git's own tools assume."""


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
    workload = change.workload
    return f"{workload.namespace}/{workload.name}: {', '.join(dict.fromkeys(parts))}"


def message(change: WorkloadChange, plan: Plan) -> str:
    """The whole commit message: subject, one paragraph a finding with its figures, trailers."""
    paragraphs = [subject(change)]
    for finding in change.evidence:
        paragraphs.append(_wrapped(finding.reason))
        facts = [
            *_facts(finding),
            f"confidence: {finding.confidence}",
            f"back-test: {backtest_sentence(finding.backtest)}",
        ]
        paragraphs.append("\n".join(_wrapped(fact, indent="  ") for fact in facts))
    workload = change.workload
    trailers = [
        f"Workload: {workload.namespace}/{workload.kind}/{workload.name} container {workload.container}",
        f"Cluster: {workload.cluster}",
        f"Plan: {plan.plan_id}",
    ]
    return "\n\n".join([*paragraphs, "\n".join(trailers)]) + "\n"


def _wrapped(text: str, *, indent: str = "") -> str:
    return textwrap.fill(text, LINE_WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _resize_words(resize: Resize) -> str:
    parts = []
    if resize.before.memory_mib != resize.after.memory_mib:
        parts.append(f"GPU memory {gibibytes(resize.before.memory_mib)} -> {gibibytes(resize.after.memory_mib)}")
    if resize.before.core_percent != resize.after.core_percent:
        parts.append(f"compute {resize.before.core_percent} % -> {resize.after.core_percent} %")
    return ", ".join(parts)


def _facts(finding: Advice) -> list[str]:
    match finding:
        case Resize():
            return [
                f"memory: {finding.before.memory_mib} MiB -> {finding.after.memory_mib} MiB, "
                f"peak {finding.memory_peak_mib} MiB",
                f"compute: {finding.before.core_percent} % -> {finding.after.core_percent} % of a card, "
                f"peak {finding.core_peak_percent} %",
                f"replicas: {finding.replicas} on {finding.workload.gpu_model}",
                f"history: {finding.history_days:.1f} d",
            ]
        case Group():
            members = ", ".join(f"{member.namespace}/{member.name}" for member in finding.members)
            return [
                f"group: {finding.name} on {count(finding.cards, 'card')} ({finding.gpu_model}): {members}",
                f"load: peak {max(finding.load_mib, default=0)} MiB of {finding.capacity_mib} MiB a card, "
                f"margin x {finding.margin:.2f}",
            ]
        case TrainWindow():
            return [
                f"harvest: {finding.gpu_hours_per_week:.1f} GPU-hours a week, {count(finding.replicas, 'replica')}, "
                f"{finding.free_memory_mib} MiB free for the training job",
                f"false idle: {finding.false_idle_ratio * 100:.1f} % of the harvested time",
                f"rule: start after {finding.confirm_minutes} idle minutes, stop at the first busy one",
            ]
