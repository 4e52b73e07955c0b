"""Look again before acting: what a manifest says now decides whether a plan's change is made, done or refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from advisor.contract import Resize
from advisor.dialects import AnnotationChange, ResourceChange, WorkloadChange, core_value
from egpu_runtime.contract.resources import ADVICE_OFF, ANNOTATION_ADVICE, DIALECTS

CHANGE_RATIO_MIN: Final = 0.2
"""Smallest relative change of memory or compute worth a restart of the pods, of the value before."""

MEMORY_ROUNDING_MIB: Final = 1
"""Difference that counts as equal: exporters give bytes, manifests MiB."""

_MULTIPLIERS: Final[Mapping[str, int]] = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
}


@dataclass(frozen=True, slots=True)
class CurrentValues:
    """What a manifest says now: texts of each resource key (limits and requests), annotations, opt-out."""

    resources: Mapping[str, tuple[str, ...]]
    annotations: Mapping[str, str] = field(default_factory=dict)
    opted_out: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Either a refusal with its reason, or the part of a change that is still to be made (nothing: already applied)."""

    refusal: str = ""
    resources: tuple[ResourceChange, ...] = ()
    annotations: tuple[AnnotationChange, ...] = ()

    @property
    def already_applied(self) -> bool:
        return not self.refusal and not self.resources and not self.annotations


def judge(change: WorkloadChange, current: CurrentValues, *, change_ratio_min: float = CHANGE_RATIO_MIN) -> Verdict:
    """Compare a change with the manifest as it is."""
    if current.opted_out:
        return Verdict(refusal=f"{ANNOTATION_ADVICE}: {ADVICE_OFF} in the manifest")
    refusal = _other_system(change, current) or _percentage(change, current)
    if refusal:
        return Verdict(refusal=refusal)
    due = []
    for resource in change.resources:
        texts = current.resources.get(resource.key, ())
        state = _state(change, resource, texts)
        if state not in {"due", "done"}:
            return Verdict(refusal=state)
        if state == "due":
            due.append(resource)
    annotations = tuple(item for item in change.annotations if current.annotations.get(item.key) != item.after)
    if due and _too_small(change, change_ratio_min):
        return Verdict(refusal=f"changes less than {change_ratio_min * 100:.0f} %")
    return Verdict(resources=tuple(due), annotations=annotations)


def quantity(text: str) -> int | None:
    """A whole Kubernetes quantity (``24576``, ``24k``, ``24Ki``), None for anything else."""
    digits = text.rstrip("kKMGi")
    multiplier = _MULTIPLIERS.get(text[len(digits) :])
    return int(digits) * multiplier if digits.isascii() and digits.isdigit() and multiplier else None


def missing_count(change: WorkloadChange, current: CurrentValues) -> bool:
    """True when a container that gets a slice asks for no card at all: a slice alone would be a slice of nothing."""
    keys = {change.dialect.memory, change.dialect.cores}
    return any(item.key in keys for item in change.resources) and not _asked_keys(change.dialect.name, current)


def _asked_keys(dialect_name: str, current: CurrentValues) -> list[str]:
    dialect = next(each for name, each in DIALECTS.items() if name == dialect_name)
    keys = (dialect.count, dialect.memory, dialect.memory_percentage, dialect.cores)
    return [key for key in keys if current.resources.get(key)]


def _other_system(change: WorkloadChange, current: CurrentValues) -> str:
    if _asked_keys(change.dialect.name, current):
        return ""
    for name in DIALECTS:
        asked = _asked_keys(name, current)
        if asked:
            return f"the container asks for {asked[0]}, which is dialect {name}, not {change.dialect.name}"
    return ""


def _percentage(change: WorkloadChange, current: CurrentValues) -> str:
    dialect = change.dialect
    asks_memory = any(resource.key == dialect.memory for resource in change.resources)
    given = current.resources.get(dialect.memory_percentage)
    if asks_memory and given and not current.resources.get(dialect.memory):
        return f"memory is given as {dialect.memory_percentage}: {given[0]}; the plan is in MiB"
    return ""


def _state(change: WorkloadChange, resource: ResourceChange, texts: tuple[str, ...]) -> str:
    """``due``, ``done``, or the sentence why not."""
    if not texts:
        if resource.absent is None or resource.absent == resource.before:
            return "due"
        if resource.absent == resource.after:
            return "done"
        return f"changed since the plan: {resource.key} is not set, the plan saw {resource.before}"
    values = set()
    for text in texts:
        value = quantity(text)
        if value is None:
            return f"{resource.key} is {text!r}, not a whole number"
        values.add(core_value(change.dialect, value) if resource.key == change.dialect.cores else value)
    if values == {resource.after}:
        return "done"
    tolerance = MEMORY_ROUNDING_MIB if resource.key == change.dialect.memory else 0
    known = resource.before is None or all(
        value == resource.after or abs(value - resource.before) <= tolerance for value in values
    )
    shown = " and ".join(str(value) for value in sorted(values))
    return "due" if known else f"changed since the plan: {resource.key} is {shown}, the plan saw {resource.before}"


def _too_small(change: WorkloadChange, change_ratio_min: float) -> bool:
    resizes = [finding for finding in change.evidence if isinstance(finding, Resize)]
    if len(resizes) != len(change.evidence):
        return False
    return all(
        max(
            abs(resize.after.memory_mib - resize.before.memory_mib) / max(resize.before.memory_mib, 1),
            abs(resize.after.core_percent - resize.before.core_percent) / max(resize.before.core_percent, 1),
        )
        < change_ratio_min
        for resize in resizes
    )
