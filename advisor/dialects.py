"""What a plan means in one system's words: resource keys, annotations and the YAML to paste.

A plan speaks of memory in MiB and of compute in percent of a card; a dialect says under which keys a container asks
for them. Everything here is data in, data out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from advisor.contract import Group, Plan, Resize, Slice, TrainWindow, WorkloadKey
from egpu_runtime.contract.resources import DIALECTS, PRIORITY_HIGH, Dialect, DialectName

Advice = Resize | Group | TrainWindow
"""Any of the three findings, as evidence of a change."""

Path = tuple[str | int, ...]
"""Way from the root of a YAML document to one value: mapping keys and sequence indices."""

CORE_PERCENT_ALL: Final = 100
"""Percent of a card that stands for no limit in a plan."""

_API_VERSIONS: Final[Mapping[str, str]] = {"Job": "batch/v1", "CronJob": "batch/v1", "Pod": "v1"}
_POD_TEMPLATES: Final[Mapping[str, Path]] = {"CronJob": ("spec", "jobTemplate", "spec", "template"), "Pod": ()}


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """One resource key of a container: ``before`` as the plan saw it (None: any), ``after`` as it should be.

    Both in the key's own unit: MiB per card for memory, percent of a card for compute, 0 or 1 for priority.
    ``absent`` is the value that a missing key stands for, None where only the cluster knows (the whole card).
    """

    key: str
    before: int | None
    after: int
    absent: int | None


@dataclass(frozen=True, slots=True)
class AnnotationChange:
    """One annotation of the pod template."""

    key: str
    after: str


@dataclass(frozen=True, slots=True)
class WorkloadChange:
    """All that a plan changes on one container of one workload, and the findings that ask for it."""

    workload: WorkloadKey
    dialect: Dialect
    resources: tuple[ResourceChange, ...]
    annotations: tuple[AnnotationChange, ...]
    evidence: tuple[Advice, ...]


@dataclass(frozen=True, slots=True)
class Unwritable:
    """A finding that cannot be written down for this workload, and why."""

    workload: WorkloadKey
    reason: str


def pod_template_path(kind: str) -> Path:
    """Where the pod template stands in an object of ``kind``: the object itself for a Pod."""
    return _POD_TEMPLATES.get(kind, ("spec", "template"))


def core_value(dialect: Dialect, percent: int) -> int:
    """Compute of a plan as a dialect writes it.

    HAMi reads 100 as an exclusive card and 0 as no limit (its device plugin's fit), so no limit is 0 there.
    """
    return 0 if dialect.name == "hami" and percent >= CORE_PERCENT_ALL else percent


def resource_changes(dialect: Dialect, *, before: Slice, after: Slice) -> tuple[ResourceChange, ...]:
    """Resource keys that differ between two slices, memory first."""
    changes = []
    if after.memory_mib != before.memory_mib:
        changes.append(ResourceChange(dialect.memory, before.memory_mib, after.memory_mib, absent=None))
    if after.core_percent != before.core_percent:
        changes.append(
            ResourceChange(
                dialect.cores,
                core_value(dialect, before.core_percent),
                core_value(dialect, after.core_percent),
                absent=core_value(dialect, CORE_PERCENT_ALL),
            )
        )
    return tuple(changes)


def changes_of(plan: Plan, dialect_name: DialectName) -> tuple[tuple[WorkloadChange, ...], tuple[Unwritable, ...]]:
    """A plan as changes of containers, one for each workload in the plan's order, and what cannot be written.

    A workload that runs on several card models has one manifest: its greatest slice is written, and nothing is when
    the plan refused to size it on one of the models.
    """
    dialect = DIALECTS[dialect_name]
    owners: dict[WorkloadKey, WorkloadKey] = {}
    advice: dict[WorkloadKey, list[Advice]] = defaultdict(list)
    for workload, finding in _advice_by_workload(plan):
        owner = owners.setdefault(_without_model(workload), workload)
        advice[owner].append(finding)
    unsized = {
        _without_model(refusal.workload): refusal for refusal in plan.refusals if refusal.finding == "idle_quota"
    }
    changes, unwritable = [], []
    for workload, all_findings in advice.items():
        findings = list(all_findings)
        refusal = unsized.get(_without_model(workload))
        sized = [finding for finding in findings if isinstance(finding, Resize)]
        if sized and refusal is not None and refusal.workload not in [resize.workload for resize in sized]:
            reason = f"also runs on {refusal.workload.gpu_model}, where it is not sized: {refusal.reason}"
            unwritable.append(Unwritable(workload, reason))
            findings = [finding for finding in findings if not isinstance(finding, Resize)]
        change = _change(dialect, workload, findings)
        if change.resources or change.annotations:
            changes.append(change)
        unwritable.extend(_unwritable_groups(change))
    return tuple(changes), tuple(unwritable)


def fragment(change: WorkloadChange) -> tuple[tuple[Path, str | int], ...]:
    """The change as (path, value) pairs inside the workload's object; the container is named instead of counted."""
    template = pod_template_path(change.workload.kind)
    container: Path = (*template, "spec", "containers", change.workload.container)
    pairs: list[tuple[Path, str | int]] = [
        ((*template, "metadata", "annotations", annotation.key), annotation.after) for annotation in change.annotations
    ]
    pairs += [((*container, "resources", "limits", resource.key), resource.after) for resource in change.resources]
    return tuple(pairs)


def paste_ready(change: WorkloadChange) -> dict[str, object]:
    """The change as a strategic-merge patch: an object to print as YAML and paste into an overlay."""
    workload = change.workload
    limits = {resource.key: resource.after for resource in change.resources}
    template: dict[str, object] = {}
    if change.annotations:
        template["metadata"] = {"annotations": {item.key: item.after for item in change.annotations}}
    if limits:
        template["spec"] = {"containers": [{"name": workload.container, "resources": {"limits": limits}}]}
    metadata: dict[str, object] = {"name": workload.name, "namespace": workload.namespace}
    head = {"apiVersion": _API_VERSIONS.get(workload.kind, "apps/v1"), "kind": workload.kind, "metadata": metadata}
    path = pod_template_path(workload.kind)
    if not path:
        return {**head, **template, "metadata": {**metadata, **_mapping(template.get("metadata"))}}
    body: object = template
    for key in reversed(path):
        body = {str(key): body}
    return {**head, **_mapping(body)}


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}


def _advice_by_workload(plan: Plan) -> Iterator[tuple[WorkloadKey, Advice]]:
    for resize in plan.resizes:
        yield resize.workload, resize
    for group in plan.groups:
        for member in group.members:
            yield member, group
    for window in plan.train_windows:
        yield window.workload, window


def _without_model(workload: WorkloadKey) -> WorkloadKey:
    return WorkloadKey(
        workload.cluster, workload.namespace, workload.kind, workload.name, workload.container, gpu_model=""
    )


def _change(dialect: Dialect, workload: WorkloadKey, findings: Sequence[Advice]) -> WorkloadChange:
    resources: list[ResourceChange] = []
    annotations: list[AnnotationChange] = []
    resizes = [finding for finding in findings if isinstance(finding, Resize)]
    if resizes:
        after = Slice(
            memory_mib=max(resize.after.memory_mib for resize in resizes),
            core_percent=max(resize.after.core_percent for resize in resizes),
        )
        resources += resource_changes(dialect, before=resizes[0].before, after=after)
    if any(isinstance(finding, TrainWindow) for finding in findings):
        resources.append(ResourceChange(dialect.priority, before=None, after=PRIORITY_HIGH, absent=None))
    groups = [finding for finding in findings if isinstance(finding, Group) and finding.oversubscribed]
    if groups and dialect.oversubscription_group:
        annotations.append(AnnotationChange(dialect.oversubscription_group, groups[0].name))
    return WorkloadChange(workload, dialect, tuple(resources), tuple(annotations), tuple(findings))


def _unwritable_groups(change: WorkloadChange) -> Iterator[Unwritable]:
    if change.dialect.oversubscription_group:
        return
    for finding in change.evidence:
        if isinstance(finding, Group) and finding.oversubscribed:
            reason = f"group {finding.name}: {change.dialect.name} has no oversubscription group to join"
            yield Unwritable(change.workload, reason)
