"""From the labels of a series to the series of ours it stands for; read once per series, through the alias table.

A series of ours is named by metric, source and the labels that are the row's key; further labels are facts of it.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from egpu_runtime.contract.exporters import (
    AGENT,
    ALIASES,
    DCGM,
    HAMI_MONITOR,
    HAMI_SCHEDULER,
    KUBE_STATE,
    SCHEDULER,
    Alias,
    Source,
)
from egpu_runtime.contract.metrics import (
    CARD_KEY,
    CONTAINER_KEY,
    CONTAINER_SWAPPED,
    METRIC_BY_NAME,
    OWNER_INFO,
    POD_ADVICE_INFO,
    POD_GPU_CONTAINER_INFO,
    POD_INFO,
    POD_LABELS,
    SCHEDULER_GPU_MEMORY_ALLOCATED,
    Subject,
)
from egpu_runtime.contract.resources import GPU_RESOURCES_OF_KUBE_STATE

Labels = Iterable[tuple[str, str]]

CARD_FACTS: Final = ("gpu_model",)
"""Labels of a card series that are facts of its row."""

CONTAINER_FACTS: Final = ("gpu_model", "tenant", "workload_kind", "workload", "priority")
"""Labels of a container series that are facts of its row, in the order of ``Series.facts``."""

_KEYS: Final[Mapping[Subject, tuple[str, ...]]] = {
    "card": CARD_KEY,
    "container": (*CONTAINER_KEY, "container_index"),
    "pod": POD_LABELS,
    "owner": ("cluster", "namespace", "kind", "name"),
}
"""Labels that name the subject, in the order of ``Series.key``."""

_POD_DETAIL: Final[Mapping[str, tuple[str, ...]]] = {
    POD_INFO.name: ("node",),
    POD_GPU_CONTAINER_INFO.name: ("container",),
    POD_ADVICE_INFO.name: ("advice",),
    OWNER_INFO.name: ("owner_kind", "owner_name"),
}
"""What a pod's or an owner's series tells: the labels that are its facts."""

_DISTINGUISHING: Final[Mapping[str, str]] = {CONTAINER_SWAPPED.name: "direction"}
"""Metrics of which one container has several series, summed; the label that tells them apart."""

_SCHEDULER_PREFIX: Final = SCHEDULER_GPU_MEMORY_ALLOCATED.name.removesuffix("gpu_memory_allocated_bytes")
_EXPORTER_OWN: Final = "dcgm-exporter"
_NO_OWNER: Final = "<none>"
_HAMI: Final = frozenset({HAMI_MONITOR.name, HAMI_SCHEDULER.name})
_HAMI_MODEL_PREFIX: Final = "NVIDIA-"


@dataclass(frozen=True, slots=True)
class Series:
    """One series of ours: ``key`` = its subject's labels, ``facts`` = those that describe it, ``part`` as needed.

    ``order`` = place of the sender's name among those under which its exporter gives the metric.
    """

    metric: str
    source: str
    subject: Subject
    key: tuple[str, ...]
    facts: tuple[str, ...]
    part: str = ""
    order: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """How a sender's series is read: as which series of ours, times ``scale``, below ``valid_max`` (sender's unit)."""

    series: Series
    scale: float = 1.0
    valid_max: float = float("inf")


def _aliases_by_name() -> Mapping[str, tuple[Alias, ...]]:
    found: dict[str, list[Alias]] = {}
    for alias in ALIASES:
        found.setdefault(alias.name, []).append(alias)
    return {name: tuple(rows) for name, rows in found.items()}


_ALIASES_BY_NAME: Final = _aliases_by_name()


def _orders() -> Mapping[tuple[str, str], int]:
    """(name, metric) -> its place among the names that one exporter gives the metric under, in the table's order."""
    names: dict[tuple[str, str], list[str]] = {}
    for alias in ALIASES:
        names.setdefault((alias.source.name, alias.metric), []).append(alias.name)
    return {(name, metric): order for (_, metric), each in names.items() for order, name in enumerate(each)}


_ORDER: Final = _orders()


def _reader(source: Source, labels: Mapping[str, str], fixed: Mapping[str, str]) -> Callable[[str], str]:
    """Our label -> its value in a sender's labels, empty when absent."""

    def read(name: str) -> str:
        if name in fixed:
            return fixed[name]
        for theirs in source.labels.get(name, (name,)):
            if value := labels.get(theirs, ""):
                return value
        return ""

    return read


def _source_of_ours(metric: str) -> Source:
    if METRIC_BY_NAME[metric].subject in ("pod", "owner"):
        return KUBE_STATE
    return SCHEDULER if metric.startswith(_SCHEDULER_PREFIX) else AGENT


def _facts(metric: str) -> tuple[str, ...]:
    match METRIC_BY_NAME[metric].subject:
        case "card":
            return CARD_FACTS
        case "container":
            return CONTAINER_FACTS
        case _:
            return _POD_DETAIL[metric]


def _series(metric: str, source: Source, read: Callable[[str], str], cluster_default: str) -> Series:
    subject = METRIC_BY_NAME[metric].subject
    names = _KEYS[subject]
    cluster = read("cluster") or cluster_default
    key = (cluster, *(read(name) for name in names[1:]))
    part = _DISTINGUISHING.get(metric, "")
    facts = tuple(read(name) for name in _facts(metric))
    return Series(metric, source.name, subject, key, facts, read(part) if part else "")


def _applies(alias: Alias, labels: Mapping[str, str]) -> bool:
    if alias.requires and not any(labels.get(name) for name in alias.requires):
        return False
    if alias.metric == POD_GPU_CONTAINER_INFO.name:
        return labels.get("resource") in GPU_RESOURCES_OF_KUBE_STATE
    if alias.metric == OWNER_INFO.name:
        # A second owner reference that does not control the pod says nothing about its workload.
        controls = labels.get("owner_is_controller") != "false"
        return controls and labels.get("owner_kind", _NO_OWNER) not in ("", _NO_OWNER)
    if alias.source is DCGM and METRIC_BY_NAME[alias.metric].subject == "container":
        # On an idle card the exporter names no pod, and Prometheus leaves the exporter's own pod in ``pod``.
        return bool(labels.get("exported_pod")) or _EXPORTER_OWN not in labels.get("pod", "")
    return True


def _mig_instance(labels: Mapping[str, str], plain: Callable[[str], str]) -> Mapping[str, str]:
    """dcgm-exporter gives the instances of a partitioned card the uuid of the card. Each has memory and compute of its
    own, so it is read as a card of its own, under the name and the model that NVML gives such an instance."""
    instance = labels.get("GPU_I_ID", "")
    if not instance:
        return {}
    model = f"{plain('gpu_model')} MIG {labels.get('GPU_I_PROFILE', '')}".strip()
    return {"gpu_uuid": f"MIG-{plain('gpu_uuid')}/{instance}", "gpu_model": model}


def _read_alias(alias: Alias, labels: Mapping[str, str], cluster_default: str) -> Reading:
    fixed = dict(alias.equals)
    plain = _reader(alias.source, labels, {})
    fixed.update({ours: plain(theirs) for ours, theirs in alias.sets})
    if alias.source is DCGM:
        fixed.update(_mig_instance(labels, plain))
    elif alias.source.name in _HAMI:
        # Its monitor puts this before NVML's name of the model, its scheduler only where NVIDIA is not in the name yet.
        fixed["gpu_model"] = plain("gpu_model").removeprefix(_HAMI_MODEL_PREFIX)
    series = _series(alias.metric, alias.source, _reader(alias.source, labels, fixed), cluster_default)
    order = _ORDER[(alias.name, alias.metric)]
    return Reading(replace(series, order=order) if order else series, alias.scale, alias.valid_max)


def read_series(labels: Labels, *, cluster_default: str) -> tuple[Reading, ...]:
    """The series of ours that a sender's series stands for: none if it is unknown, two if a card's and a container's.

    ``labels`` are (name, value) pairs with ``__name__``; ``cluster_default`` stands in for an absent cluster label.
    """
    return read_labels(dict(labels), cluster_default=cluster_default)


def subjects_of(name: str) -> tuple[Subject, ...]:
    """What a sender's metric may tell of, in the order it is read."""
    metrics = [name] if name in METRIC_BY_NAME else [alias.metric for alias in _ALIASES_BY_NAME.get(name, ())]
    return tuple(dict.fromkeys(METRIC_BY_NAME[metric].subject for metric in metrics))


def read_labels(
    labels: Mapping[str, str], *, cluster_default: str, subjects: Container[Subject] | None = None
) -> tuple[Reading, ...]:
    """As :func:`read_series`, of some ``subjects`` alone where they are given; asks ``labels`` by ``get`` for what it
    reads and for nothing else."""
    name = labels.get("__name__", "")
    if name in METRIC_BY_NAME:
        source = _source_of_ours(name)
        return (Reading(_series(name, source, _reader(source, labels, {}), cluster_default)),)
    rows = _ALIASES_BY_NAME.get(name, ())
    return tuple(
        _read_alias(alias, labels, cluster_default)
        for alias in rows
        if (subjects is None or METRIC_BY_NAME[alias.metric].subject in subjects) and _applies(alias, labels)
    )


@dataclass(frozen=True, slots=True)
class Readings:
    """Columns over the sender's series ids: our series ids (-1 = none), scale, bound of valid values."""

    first: NDArray[np.int32]
    second: NDArray[np.int32]
    scale: NDArray[np.float64]
    valid_max: NDArray[np.float64]


class SeriesTable:
    """Our series, numbered from 0, and how each series of the sender's cache is read.

    Grows with the series it meets; the owner starts a new one when the decoder's cache starts afresh.
    """

    def __init__(self, *, cluster_default: str) -> None:
        self._cluster_default = cluster_default
        self._number: dict[Series, int] = {}
        self._count = 0
        self._arrays = _room(1024)
        self.series: list[Series] = []
        self.has_second = False
        self._counter = np.zeros(1024, np.bool_)

    @property
    def readings(self) -> Readings:
        """Columns by the sender's series id; ids not yet added are beyond their end."""
        arrays = self._arrays
        n = self._count
        return Readings(arrays.first[:n], arrays.second[:n], arrays.scale[:n], arrays.valid_max[:n])

    @property
    def counter(self) -> NDArray[np.bool_]:
        """By our series number: whether it is a counter."""
        return self._counter[: len(self.series)]

    def add(self, labels: Labels) -> None:
        """Read the next series id of the sender's cache."""
        if self._count == len(self._arrays.first):
            self._arrays = _room(2 * self._count, self._arrays)
        readings = read_series(labels, cluster_default=self._cluster_default)
        at = self._count
        self._count += 1
        for column, reading in zip((self._arrays.first, self._arrays.second), readings, strict=False):
            column[at] = self.number(reading.series)
            self._arrays.scale[at] = reading.scale
            self._arrays.valid_max[at] = reading.valid_max
        self.has_second = self.has_second or len(readings) > 1

    def number(self, series: Series) -> int:
        """The number of a series of ours; a new one gets the next."""
        known = self._number.get(series)
        if known is not None:
            return known
        number = len(self.series)
        self._number[series] = number
        self.series.append(series)
        if number == len(self._counter):
            self._counter = np.concatenate([self._counter, np.zeros(number, np.bool_)])
        self._counter[number] = METRIC_BY_NAME[series.metric].kind == "counter"
        return number


def _room(capacity: int, old: Readings | None = None) -> Readings:
    room = Readings(
        np.full(capacity, -1, np.int32),
        np.full(capacity, -1, np.int32),
        np.ones(capacity, np.float64),
        np.full(capacity, np.inf, np.float64),
    )
    if old is not None:
        n = len(old.first)
        room.first[:n], room.second[:n] = old.first, old.second
        room.scale[:n], room.valid_max[:n] = old.scale, old.valid_max
    return room
