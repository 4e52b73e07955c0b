"""Which series a fleet's rows give: what the agent of each node and the scheduler would have reported."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from egpu_runtime.contract.exporters import AGENT, SCHEDULER
from egpu_runtime.contract.metrics import (
    CARD_LABELS,
    CONTAINER_CORE_QUOTA,
    CONTAINER_CORE_USED,
    CONTAINER_MEMORY_QUOTA,
    CONTAINER_MEMORY_USED,
    GPU_MEMORY_TOTAL,
    GPU_MEMORY_USED,
    GPU_UTILIZATION,
    SCHEDULER_CONTAINER_CORE_ALLOCATED,
    SCHEDULER_CONTAINER_MEMORY_ALLOCATED,
    SCHEDULER_GPU_MEMORY_ALLOCATED,
    Metric,
)
from egpu_runtime.contract.units import STALE_MARKER_BITS
from egpu_runtime.fleet.trace import Booleans, Container, Floats, Integers, Rows, Trace, labels_of

CONTAINER_SERIES: Final[tuple[tuple[Metric, str], ...]] = (
    (CONTAINER_MEMORY_QUOTA, AGENT.name),
    (CONTAINER_CORE_QUOTA, AGENT.name),
    (CONTAINER_MEMORY_USED, AGENT.name),
    (CONTAINER_CORE_USED, AGENT.name),
    (SCHEDULER_CONTAINER_MEMORY_ALLOCATED, SCHEDULER.name),
    (SCHEDULER_CONTAINER_CORE_ALLOCATED, SCHEDULER.name),
)
"""Series of a container and who reports them: container ``c`` has the numbers ``6 c`` to ``6 c + 5``."""

CARD_SERIES: Final[tuple[tuple[Metric, str], ...]] = (
    (GPU_MEMORY_TOTAL, AGENT.name),
    (GPU_MEMORY_USED, AGENT.name),
    (GPU_UTILIZATION, AGENT.name),
    (SCHEDULER_GPU_MEMORY_ALLOCATED, SCHEDULER.name),
)
"""Series of a card: card ``g`` of a fleet with ``n`` containers has the numbers ``6 n + 4 g`` to ``6 n + 4 g + 3``."""

STALE: Final[Floats] = np.array([STALE_MARKER_BITS], np.uint64).view(np.float64)
"""The stale marker as an array of one; copied bit for bit, since arithmetic would destroy it."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples sorted by time: one time (ms UTC), series number and value each."""

    timestamp_ms: Integers
    series: Integers
    value: Floats

    def __len__(self) -> int:
        return len(self.timestamp_ms)

    def chosen(self, which: "slice | Booleans") -> "Samples":
        """A part of them, in the same order."""
        return Samples(self.timestamp_ms[which], self.series[which], self.value[which])


def is_stale(values: Floats) -> Booleans:
    """Which values are stale markers; by their bits, since every NaN is unequal to itself."""
    stale: Booleans = values.view(np.uint64) == STALE_MARKER_BITS
    return stale


def moments(pieces: Iterable[Samples]) -> Iterator[Samples]:
    """The same samples, one run a time; pieces must not split a time between them."""
    for piece in pieces:
        cuts = np.flatnonzero(np.diff(piece.timestamp_ms)) + 1
        for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(piece)], strict=True):
            if end > start:
                yield piece.chosen(slice(start, end))


def joined(parts: Sequence[Samples]) -> Samples:
    """Several runs behind one another (at least one)."""
    return Samples(
        np.concatenate([part.timestamp_ms for part in parts]),
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.value for part in parts]),
    )


class SeriesTable:
    """Every series a fleet can have, by number, with the labels it carries."""

    def __init__(self, containers: Sequence[Container]) -> None:
        cards: dict[tuple[str, ...], int] = {}
        nodes: dict[tuple[str, ...], int] = {}
        self.card_of: Integers = np.array(
            [cards.setdefault((c.cluster, c.node, c.gpu_uuid), len(cards)) for c in containers], np.int64
        )
        self.node_of: Integers = np.array(
            [nodes.setdefault((c.cluster, c.node), len(nodes)) for c in containers], np.int64
        )
        self.card_count = len(cards)
        self.node_count = len(nodes)
        self.first_card_series = len(CONTAINER_SERIES) * len(containers)
        self.names: list[str] = []
        self.labels: list[Mapping[str, str]] = []
        self.jobs: list[tuple[str, str]] = []
        self._add_all(containers)

    def __len__(self) -> int:
        return len(self.names)

    def _add_all(self, containers: Sequence[Container]) -> None:
        card_labels: dict[int, dict[str, str]] = {}
        for container, card in zip(containers, self.card_of, strict=True):
            labels = labels_of(container)
            card_labels.setdefault(int(card), {name: labels[name] for name in CARD_LABELS})
            self._add(CONTAINER_SERIES, labels)
        for labels in card_labels.values():
            self._add(CARD_SERIES, labels)

    def _add(self, series: Sequence[tuple[Metric, str]], labels: Mapping[str, str]) -> None:
        for metric, job in series:
            self.names.append(metric.name)
            self.labels.append(labels)
            self.jobs.append((job, labels["node"]))

    def scraped_labels(self, number: int) -> list[tuple[str, str]]:
        """All labels as Prometheus sends them after a scrape: the name, job and instance (= the node), sorted."""
        job, instance = self.jobs[number]
        return sorted({**self.labels[number], "__name__": self.names[number], "job": job, "instance": instance}.items())


class Sampler:
    """Turns rows into samples, in time order; remembers which series were sent, to end just those."""

    def __init__(self, table: SeriesTable, end_ms: Integers) -> None:
        """``end_ms``: per container, when its pod is gone (its stale markers' time)."""
        self._table = table
        self._sent: Booleans = np.zeros(len(table), np.bool_)
        self._ending: Integers = np.argsort(end_ms, kind="stable")
        self._end_ms: Integers = end_ms[self._ending]
        self._ended = 0

    def samples(self, rows: Rows) -> Samples:
        """Samples of rows that hold all rows of each of their times, and the stale markers due up to the last one."""
        moment: Integers = np.concatenate(([0], np.cumsum(np.diff(rows.timestamp_ms) != 0)))
        node = moment * self._table.node_count + self._table.node_of[rows.container]
        observed = ~(np.isnan(rows.memory_used_bytes) & np.isnan(rows.core_used_ratio))
        # A node none of whose containers was observed has no agent there; the scheduler still knows its pods.
        _, of_node = np.unique(node, return_inverse=True)
        reported: Booleans = (np.bincount(of_node, weights=observed) > 0)[of_node]
        parts = [*self._containers(rows, reported), *self._cards(rows, reported, moment)]
        for part in parts:
            self._sent[part.series] = True
        return _in_time_order([*parts, *self._stale(int(rows.timestamp_ms[-1]))])

    def rest(self) -> Samples:
        """Stale markers due after the last row."""
        return _in_time_order(self._stale(np.iinfo(np.int64).max))

    def _containers(self, rows: Rows, reported: Booleans) -> Iterator[Samples]:
        everywhere = np.ones(len(rows), np.bool_)
        columns = (
            (reported, rows.memory_quota_bytes),
            (reported, rows.core_quota_ratio),
            (~np.isnan(rows.memory_used_bytes), rows.memory_used_bytes),
            (~np.isnan(rows.core_used_ratio), rows.core_used_ratio),
            (everywhere, rows.memory_quota_bytes),
            (everywhere, rows.core_quota_ratio),
        )
        for number, (given, values) in enumerate(columns):
            series = rows.container[given] * len(CONTAINER_SERIES) + number
            yield Samples(rows.timestamp_ms[given], series, values[given])

    def _cards(self, rows: Rows, reported: Booleans, moment: Integers) -> Iterator[Samples]:
        """One value a card and time. Use is known only where it is known of every container on the card."""
        card = self._table.card_of[rows.container]
        _, first, group = np.unique(moment * self._table.card_count + card, return_index=True, return_inverse=True)
        times, on = rows.timestamp_ms[first], reported[first]
        memory_used = np.bincount(group, weights=rows.memory_used_bytes)
        core_used = np.minimum(np.bincount(group, weights=rows.core_used_ratio), 1.0)
        columns = (
            (on, rows.memory_total_bytes[first]),
            (on & ~np.isnan(memory_used), memory_used),
            (on & ~np.isnan(core_used), core_used),
            (np.ones(len(first), np.bool_), np.bincount(group, weights=rows.memory_quota_bytes)),
        )
        for number, (given, values) in enumerate(columns):
            series = self._table.first_card_series + card[first[given]] * len(CARD_SERIES) + number
            yield Samples(times[given], series, values[given])

    def _stale(self, until_ms: int) -> list[Samples]:
        """Markers of the containers that end up to a time: all of their series that ever had a sample."""
        start, end = self._ended, int(np.searchsorted(self._end_ms, until_ms, side="right"))
        self._ended = end
        of_each = len(CONTAINER_SERIES)
        series = (self._ending[start:end, None] * of_each + np.arange(of_each)).ravel()
        times = np.repeat(self._end_ms[start:end], of_each)
        sent = self._sent[series]
        return [Samples(times[sent], series[sent], np.repeat(STALE, int(sent.sum())))]


def whole_moments(chunks: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows, cut so that no time is split: the last time of a piece waits for the next one."""
    held: Rows | None = None
    for chunk in chunks:
        if not len(chunk):
            continue
        rows = Rows.joined((held, chunk)) if held is not None else chunk
        start = int(np.searchsorted(rows.timestamp_ms, rows.timestamp_ms[-1]))
        if start:
            yield rows.part(0, start)
        held = rows.part(start, len(rows))
    if held is not None:
        yield held


def samples_of(trace: Trace, table: SeriesTable) -> Iterator[Samples]:
    """All samples of a trace in time order, in pieces that never split a time between them."""
    sampler = Sampler(table, trace.end_ms)
    for rows in whole_moments(trace.chunks()):
        yield sampler.samples(rows)
    rest = sampler.rest()
    if len(rest):
        yield rest


def _in_time_order(parts: Sequence[Samples]) -> Samples:
    together = joined(parts)
    order = np.argsort(together.timestamp_ms, kind="stable")
    return Samples(together.timestamp_ms[order], together.series[order], together.value[order])
