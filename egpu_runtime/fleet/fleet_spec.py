"""What a made-up fleet consists of: card models, and how many workloads of which kind run on them."""

import tomllib
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec

from egpu_runtime.contract.units import GIB, SECOND_MS

Role = Literal[
    "idle",
    "daytime",
    "pair",
    "growing",
    "preallocating",
    "training",
    "replicated",
    "crowded",
    "restarting",
    "young",
    "unobserved",
    "night_idle",
    "busy",
]
"""Kinds of workload; ``recipes.py`` says what each one does. A ``pair`` is two workloads."""

START_MS: Final = 1_767_571_200_000
"""2026-01-05T00:00Z, a Monday: made-up fleets start on a fixed date, so that a seed names the same fleet for ever."""

DAY_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class CardModel:
    """One model of card; memory in bytes."""

    name: str
    memory_bytes: int


CARD_MODELS: Final = {
    "A100": CardModel("NVIDIA A100-SXM4-80GB", 80 * GIB),
    "L20": CardModel("NVIDIA L20", 48 * GIB),
    "T4": CardModel("Tesla T4", 16 * GIB),
}
"""Models by the short name a spec uses; names as NVML gives them."""


class SpecError(Exception):
    """The fleet spec cannot be used; the message is one sentence."""


@dataclass(frozen=True, kw_only=True)
class WorkloadGroup:
    """Some workloads of one kind on one card model."""

    role: Role
    model: Literal["A100", "L20", "T4"]
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1


def _default_workloads() -> tuple[WorkloadGroup, ...]:
    counts: tuple[tuple[Role, Literal["A100", "L20", "T4"], int], ...] = (
        ("idle", "T4", 3),
        ("idle", "L20", 2),
        ("idle", "A100", 1),
        ("daytime", "A100", 2),
        ("daytime", "L20", 2),
        ("daytime", "T4", 1),
        ("pair", "A100", 2),
        ("pair", "L20", 2),
        ("growing", "A100", 1),
        ("growing", "L20", 1),
        ("growing", "T4", 1),
        ("preallocating", "A100", 1),
        ("preallocating", "L20", 1),
        ("training", "A100", 3),
        ("replicated", "L20", 1),
        ("replicated", "T4", 1),
        ("crowded", "A100", 1),
        ("restarting", "A100", 1),
        ("restarting", "T4", 1),
        ("young", "L20", 1),
        ("young", "T4", 1),
        ("unobserved", "L20", 1),
        ("unobserved", "A100", 1),
        ("night_idle", "A100", 2),
        ("night_idle", "L20", 1),
        ("busy", "A100", 4),
    )
    return tuple(WorkloadGroup(role=role, model=model, count=count) for role, model, count in counts)


@dataclass(frozen=True, kw_only=True)
class FleetSpec:
    """A fleet: its length and rate, and its workloads. The default has 43 workloads on 45 cards, 28 days."""

    days: Annotated[int, msgspec.Meta(ge=1, le=400)] = 28
    sample_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 120
    cluster: Annotated[str, msgspec.Meta(min_length=1)] = "demo"
    cards_per_node: Annotated[int, msgspec.Meta(ge=1, le=16)] = 4
    silent_days: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Days on which the exporter of one node (another one each time) says nothing."""
    workloads: tuple[WorkloadGroup, ...] = field(default_factory=_default_workloads)

    @property
    def samples_per_day(self) -> int:
        """Samples of each series in a day."""
        return DAY_SECONDS // self.sample_seconds

    @property
    def sample_ms(self) -> int:
        """Milliseconds between two samples."""
        return self.sample_seconds * SECOND_MS


def read_fleet_spec(text: str) -> FleetSpec:
    """Read a spec from TOML: top-level keys as in FleetSpec, ``[[workloads]]`` tables with role, model and count.

    Raises SpecError.
    """
    try:
        spec = msgspec.convert(tomllib.loads(text), FleetSpec)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"fleet spec is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SpecError(f"fleet spec: {error}") from error
    if DAY_SECONDS % spec.sample_seconds:
        raise SpecError(f"fleet spec: sample_seconds {spec.sample_seconds} does not divide a day")
    if not spec.workloads:
        raise SpecError("fleet spec: no workloads")
    return spec
