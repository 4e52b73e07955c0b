"""A made-up fleet: who runs where and when, drawn from a seed; its rows are made day by day when they are read."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from egpu_runtime.fleet.fleet_spec import CARD_MODELS, DAY_SECONDS, START_MS, CardModel, FleetSpec, Role
from egpu_runtime.fleet.recipes import RECIPES, Load, Rhythm, curves, draw_load, grained
from egpu_runtime.fleet.trace import Booleans, Container, Floats, Integers, Rows, Trace

SERVICES: Final = (
    *("tts", "asr", "translation", "ocr", "embedding", "rerank", "image-generation", "address-parsing"),
    *("face-match", "chat", "route-planning", "fraud", "captioning", "moderation", "forecast", "parcel-vision"),
)
TENANTS: Final = ("speech", "search", "vision", "logistics")

FOR_EVER: Final = np.iinfo(np.int64).max
"""End of a pod that still runs when the trace ends."""

UNOBSERVED_HOURS_PER_DAY: Final = 17
"""Hours of each day in which the exporter beside an ``unobserved`` workload says nothing: 71 %."""

_HOURS: Final = 24
_PLAN, _NOISE, _SILENCE = 0, 1, 2  # streams of randomness: who and when, load, exporters


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod: its series' labels, its load, its life in sample numbers [begin, end); quotas as shares of the card."""

    container: Container
    workload: int
    load: Load
    model: CardModel
    quota_share: float
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload as planted; ``partner`` is the index of a pair's other half, or -1."""

    role: Role
    name: str
    namespace: str
    kind: str
    model: CardModel
    partner: int


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Everything that was drawn before the first row: who, where, when; and when which exporter says nothing.

    ``silent_days``: (node, day number from 0).
    """

    seed: int
    spec: FleetSpec
    workloads: tuple[Workload, ...]
    pods: tuple[Pod, ...]
    silent_days: frozenset[tuple[str, int]]


def plan_fleet(seed: int, spec: FleetSpec) -> FleetPlan:
    """Draw a fleet; the same seed (>= 0) and spec give the same plan."""
    drawing = _Drawing(seed, spec)
    for group in spec.workloads:
        for _ in range(group.count):
            drawing.add(group.role, CARD_MODELS[group.model])
    return drawing.plan()


class _Drawing:
    """Places workloads one after the other: fills cards, then nodes."""

    def __init__(self, seed: int, spec: FleetSpec) -> None:
        self._seed = seed
        self._spec = spec
        self._generator = np.random.default_rng([seed, _PLAN])
        self._workloads: list[Workload] = []
        self._pods: list[Pod] = []
        self._cards: dict[str, int] = {}
        self._half_used: dict[str, tuple[str, str]] = {}
        self._lone_nodes: set[str] = set()
        self._names = [f"{service}-{number}" for number in range(1, 64) for service in SERVICES]
        self._free_names: list[str] = []

    def plan(self) -> FleetPlan:
        """What was drawn, and which exporters fall silent on which day (never the first or the last two)."""
        generator = np.random.default_rng([self._seed, _SILENCE])
        nodes = sorted({pod.container.node for pod in self._pods} - self._lone_nodes)
        count = min(self._spec.silent_days, len(nodes)) if self._spec.days > 3 else 0
        chosen = generator.permutation(len(nodes))[:count]
        silent = {(nodes[node], int(generator.integers(1, self._spec.days - 2))) for node in chosen}
        return FleetPlan(self._seed, self._spec, tuple(self._workloads), tuple(self._pods), frozenset(silent))

    def add(self, role: Role, model: CardModel) -> None:
        """One workload of a kind, two for a pair."""
        if role != "pair":
            self._add_workload(role, model, RECIPES[role].rhythm, partner=-1)
            return
        first = len(self._workloads)
        self._add_workload(role, model, "day", partner=first + 1)
        self._add_workload(role, model, "night", partner=first)

    def _add_workload(self, role: Role, model: CardModel, rhythm: Rhythm, *, partner: int) -> None:
        recipe = RECIPES[role]
        tenant = TENANTS[int(self._generator.integers(len(TENANTS)))]
        name = self._next_name()
        self._workloads.append(Workload(role, name, tenant, recipe.kind, model, partner))
        load = draw_load(role, rhythm, self._generator)
        for replica in range(recipe.replicas):
            node, card = self._place(role, model, replica)
            for run, (begin, end) in enumerate(self._lives(role)):
                self._pods.append(
                    Pod(
                        container=self._container(node, card, f"{replica}-{run}"),
                        workload=len(self._workloads) - 1,
                        load=load,
                        model=model,
                        quota_share=recipe.quota_share,
                        begin=begin,
                        end=end,
                    )
                )

    def _next_name(self) -> str:
        if not self._free_names:
            taken = len(self._workloads)
            block = self._names[taken : taken + len(SERVICES)] or [f"service-{taken}"]
            self._free_names = [block[index] for index in self._generator.permutation(len(block))]
        return self._free_names.pop()

    def _container(self, node: str, card: str, pod: str) -> Container:
        workload = self._workloads[-1]
        digits = uuid.UUID(bytes=self._generator.bytes(16), version=4)
        suffix = str(digits)[:5]
        return Container(
            cluster=self._spec.cluster,
            node=node,
            gpu_uuid=card,
            gpu_model=workload.model.name,
            tenant=workload.namespace,
            namespace=workload.namespace,
            workload_kind=workload.kind,
            workload=workload.name,
            pod=f"{workload.name}-{pod}-{suffix}",
            pod_uid=str(digits),
            container="trainer" if workload.kind == "Job" else "server",
            priority="1" if workload.kind == "Job" else "0",
        )

    def _place(self, role: Role, model: CardModel, replica: int) -> tuple[str, str]:
        """Node and card. Quotas of half a card share one, also replicas (``crowded``); ``unobserved`` is alone."""
        half = RECIPES[role].quota_share < 1
        if half and (role != "crowded" or replica) and model.name in self._half_used:
            return self._half_used.pop(model.name)
        lone = role == "unobserved"
        pool = f"{model.name} alone" if lone else model.name
        number = self._cards.get(pool, 0)
        self._cards[pool] = number + 1
        letters = "".join(c for c in model.name.lower().split()[-1] if c.isalnum())[:4]
        node = f"gpu-{letters}-{'x' if lone else ''}{number if lone else number // self._spec.cards_per_node}"
        card = f"GPU-{uuid.UUID(bytes=self._generator.bytes(16), version=4)}"
        if lone:
            self._lone_nodes.add(node)
        if half:
            self._half_used[model.name] = (node, card)
        return node, card

    def _lives(self, role: Role) -> list[tuple[int, int]]:
        """Lives of one replica's pods, in sample numbers [begin, end)."""
        samples = self._spec.days * self._spec.samples_per_day
        hour = max(1, self._spec.samples_per_day // _HOURS)
        if role == "young":
            return [(max(0, samples - int(self._generator.integers(40, 60)) * hour), FOR_EVER)]
        if role == "training":
            return self._runs(samples, hours=(6, 60), pause_hours=(2, 12))
        if role == "restarting":
            return self._runs(samples, hours=(60, 150), pause_hours=None)
        return [(0, FOR_EVER)]

    def _runs(
        self, samples: int, *, hours: tuple[int, int], pause_hours: tuple[int, int] | None
    ) -> list[tuple[int, int]]:
        """Runs behind one another; without pauses a new pod follows after 2-5 samples. The last one goes on."""
        hour = max(1, self._spec.samples_per_day // _HOURS)
        lives: list[tuple[int, int]] = []
        begin = 0
        while begin < samples:
            end = begin + int(self._generator.integers(*hours)) * hour
            lives.append((begin, end if end < samples else FOR_EVER))
            low, high = (pause_hours[0] * hour, pause_hours[1] * hour) if pause_hours else (2, 6)
            begin = end + int(self._generator.integers(low, high))
        return lives


def fleet_trace(plan: FleetPlan) -> Trace:
    """The plan's rows as a trace; a day is made at a time, each time it is read."""
    spec = plan.spec
    samples = spec.days * spec.samples_per_day
    ends = np.array([min(pod.end, samples) for pod in plan.pods], np.int64)
    begins = np.array([pod.begin for pod in plan.pods], np.int64)
    return Trace(
        containers=tuple(pod.container for pod in plan.pods),
        end_ms=START_MS + ends * spec.sample_ms,
        first_ms=START_MS + int(begins.min()) * spec.sample_ms,
        last_ms=START_MS + (int(ends.max()) - 1) * spec.sample_ms,
        row_count=int((ends - begins).sum()),
        chunks=lambda: _days(plan),
    )


def _days(plan: FleetPlan) -> Iterator[Rows]:
    for day in range(plan.spec.days):
        rows = rows_of_day(plan, day)
        if len(rows):
            yield rows


def rows_of_day(plan: FleetPlan, day: int) -> Rows:
    """All rows of one day (0 = the first), sorted by time; days after the trace's end show what would have come."""
    spec = plan.spec
    per_day = spec.samples_per_day
    first = day * per_day
    alive = [(number, pod) for number, pod in enumerate(plan.pods) if pod.begin < first + per_day and pod.end > first]
    shape = (per_day, len(alive))
    memory, core = np.full(shape, np.nan), np.full(shape, np.nan)
    lives: Booleans = np.zeros(shape, np.bool_)
    for column, (number, pod) in enumerate(alive):
        start, stop = max(pod.begin - first, 0), min(pod.end - first, per_day)
        lives[start:stop, column] = True
        sample: Integers = np.arange(first + start, first + stop)
        shares = curves(
            pod.load,
            sample,
            sample_seconds=spec.sample_seconds,
            age_samples=sample - pod.begin,
            generator=np.random.default_rng([plan.seed, _NOISE, number, day]),
        )
        used = grained(*shares, pod.model.memory_bytes)
        seen = _observed(plan, pod, day)[start:stop]
        memory[start:stop, column] = np.where(seen, used[0], np.nan)
        core[start:stop, column] = np.where(seen, used[1], np.nan)
    time_index, column_index = np.nonzero(lives)
    totals: Floats = np.array([pod.model.memory_bytes for _, pod in alive], np.float64)
    shares_of_card: Floats = np.array([pod.quota_share for _, pod in alive], np.float64)
    return Rows(
        timestamp_ms=START_MS + (first + time_index) * spec.sample_ms,
        container=np.array([number for number, _ in alive], np.int64)[column_index],
        memory_total_bytes=totals[column_index],
        memory_quota_bytes=(totals * shares_of_card)[column_index],
        core_quota_ratio=shares_of_card[column_index],
        memory_used_bytes=memory[lives],
        core_used_ratio=core[lives],
    )


def _observed(plan: FleetPlan, pod: Pod, day: int) -> Booleans:
    """At which samples of a day the exporter of the pod's node says anything; after the trace's end all is told."""
    per_day = plan.spec.samples_per_day
    if day >= plan.spec.days:
        return np.ones(per_day, np.bool_)
    if (pod.container.node, day) in plan.silent_days:
        return np.zeros(per_day, np.bool_)
    if pod.load.role != "unobserved":
        return np.ones(per_day, np.bool_)
    hours = np.random.default_rng([plan.seed, _SILENCE, pod.workload, day]).permutation(_HOURS)
    hour_of_sample = np.arange(per_day) * plan.spec.sample_seconds * _HOURS // DAY_SECONDS
    seen: Booleans = np.isin(hour_of_sample, hours[UNOBSERVED_HOURS_PER_DAY:])
    return seen
