"""One hour's samples to the rows of container_usage_5m and gpu_usage_5m: knowledge, targets, rollup, then columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from egpu_runtime.contract.metrics import POD_GPU_CONTAINER_INFO
from egpu_runtime.contract.units import HOUR_MS, SECOND_MS
from pipeline.activity import activity
from pipeline.cards import (
    CardRows,
    Given,
    card_exists,
    card_models,
    card_values,
    counted_once,
    memory_totals,
    totals_of_containers,
)
from pipeline.columns import to_arrow
from pipeline.containers import ContainerRows, Heard, container_values
from pipeline.contract.tables import CONTAINER_USAGE, GPU_USAGE
from pipeline.join import AskedContainer, attribute
from pipeline.normalise import Series
from pipeline.pods import ContainerKey, Knowledge, PodName, learn
from pipeline.rollup import Grid, HourSamples, Ints, Numbers, aggregate, last_times, sort
from pipeline.targets import Rollup, RowSubject, Target, is_counter

_P95_METRICS: Final = frozenset(
    column.metric for table in (CONTAINER_USAGE, GPU_USAGE) for column in table.columns if column.aggregate == "p95"
)


@dataclass(frozen=True, slots=True)
class HourRules:
    """Which hour (its start, ms UTC), how long a window is (ms), and how often exporters are asked (seconds)."""

    hour_ms: int
    window_ms: int
    sample_interval_seconds: float

    @property
    def window_start_ms(self) -> Ints:
        """Starts of the hour's windows."""
        return np.arange(self.hour_ms, self.hour_ms + HOUR_MS, self.window_ms, dtype=np.int64)

    @property
    def observed_by_sample(self) -> float:
        """Share of a window that one sample stands for."""
        return self.sample_interval_seconds * SECOND_MS / self.window_ms


@dataclass(frozen=True, slots=True)
class HourTables:
    """Rows of one hour; ``sample_count`` = distinct (series, time) of the hour itself that went into them."""

    container: pa.Table
    card: pa.Table
    sample_count: int


@dataclass(frozen=True, slots=True)
class _Present:
    """Series of the hour: ``last`` = greatest sample time by window (with the one before the hour), -1 = none."""

    series: tuple[Series, ...]
    samples: HourSamples
    last: Numbers


def _present(samples: HourSamples, series: Sequence[Series], grid: Grid) -> _Present:
    """Number anew the series that have samples in this hour."""
    used = np.flatnonzero(np.bincount(samples.series, minlength=len(series)))
    number = np.full(len(series), -1, np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    local = HourSamples(number[samples.series], samples.time, samples.value)
    last = last_times(local, series_count=len(used), grid=grid)
    return _Present(tuple(series[index] for index in used.tolist()), local, last)


def _asked(series: Series) -> AskedContainer | None:
    if series.metric != POD_GPU_CONTAINER_INFO.name or not series.facts[0]:
        return None
    cluster, namespace, pod, uid = series.key
    return AskedContainer(PodName(cluster, namespace, pod), uid, series.facts[0])


def _container_rows(present: _Present, knowledge: Knowledge) -> ContainerRows:
    """Rows of containers, and for each series the row it belongs to (-1 = none)."""
    keys = {index: ContainerKey(*s.key) for index, s in enumerate(present.series) if s.subject == "container"}
    asked = {index: one for index, s in enumerate(present.series) if (one := _asked(s)) is not None}
    attribution = attribute(sorted(set(keys.values())), sorted(set(asked.values())), knowledge=knowledge)
    row_of_series = np.full(len(present.series), -1, np.int32)
    for index, key in keys.items():
        row_of_series[index] = attribution.row_of_container[key]
    for index, one in asked.items():
        row_of_series[index] = attribution.row_of_asked.get(one, -1)
    return ContainerRows(attribution, row_of_series, present.series, present.last[:, 1:])


def _card_rows(present: _Present, containers: ContainerRows, knowledge: Knowledge) -> CardRows:
    """Rows of cards: those that have series and those that carry a container."""
    keys: dict[int, tuple[str, str, str]] = {}
    for index, series in enumerate(present.series):
        if series.subject == "card" and series.key[2]:
            cluster, node, gpu_uuid = series.key
            keys[index] = (cluster, node or knowledge.node_of_card(cluster, gpu_uuid), gpu_uuid)
    cards = sorted({*keys.values(), *(row.card for row in containers.attribution.rows if row.gpu_uuid)})
    number = {card: index for index, card in enumerate(cards)}
    row_of_series = np.full(len(present.series), -1, np.int32)
    for index, card in keys.items():
        row_of_series[index] = number[card]
    card_of_row = np.array([number.get(row.card, -1) for row in containers.attribution.rows], np.int32)
    return CardRows(tuple(cards), row_of_series, card_of_row, present.series, present.last[:, 1:])


def _targets(present: _Present, containers: ContainerRows, cards: CardRows) -> tuple[list[Target], Numbers]:
    """The hour's targets in order, and the target of each series (-1 = its values are not aggregated)."""
    target_of_series: dict[int, Target] = {}
    for index, series in enumerate(present.series):
        if series.subject == "container":
            row = int(containers.row_of_series[index])
            target_of_series[index] = Target("container", row, series.metric, series.source, series.part, series.order)
        elif series.subject == "card" and cards.row_of_series[index] >= 0:
            row = int(cards.row_of_series[index])
            target_of_series[index] = Target("card", row, series.metric, series.source, series.part, series.order)
    targets = sorted(set(target_of_series.values()))
    number = {target: index for index, target in enumerate(targets)}
    numbers = np.full(len(present.series), -1, np.int32)
    for index, target in target_of_series.items():
        numbers[index] = number[target]
    return targets, numbers


def hour_tables(samples: HourSamples, series: Sequence[Series], rules: HourRules) -> HourTables:
    """Rows of one hour from all its samples, in any order, and those of the window before it.

    ``series`` is by the numbers in ``samples.series``. The rows depend on nothing else.
    """
    grid = Grid(rules.window_ms)
    present = _present(samples, series, grid)
    knowledge = learn(zip(present.series, present.last.max(axis=1, initial=-1).tolist(), strict=True))
    containers = _container_rows(present, knowledge)
    cards = _card_rows(present, containers, knowledge)
    targets, target_of_series = _targets(present, containers, cards)
    ordered = sort(present.samples, target_of_series)
    windows = aggregate(
        ordered,
        grid=grid,
        p95_wanted=np.array([target.metric in _P95_METRICS for target in targets], np.bool_),
        counter=np.array([is_counter(target) for target in targets], np.bool_),
    )
    rollup = Rollup(targets, windows, row_counts={"container": len(containers.keys), "card": len(cards.keys)})
    nodes: dict[RowSubject, Sequence[tuple[str, str]]] = {"container": containers.nodes(), "card": cards.nodes()}
    heard = Heard(ordered, rollup, activity(targets, windows, node_of=nodes), grid, rules.observed_by_sample)
    inside = int((ordered.time >= rules.window_ms).sum())
    container, card = _tables(containers, cards, heard=heard, knowledge=knowledge, rules=rules)
    return HourTables(container, card, inside)


def _tables(
    containers: ContainerRows, cards: CardRows, *, heard: Heard, knowledge: Knowledge, rules: HourRules
) -> tuple[pa.Table, pa.Table]:
    totals = totals_of_containers(memory_totals(heard.rollup), cards.card_of_container)
    of_containers = container_values(containers, heard, knowledge=knowledge, memory_total=totals)
    given = Given(
        containers.exists,
        counted_once(containers.attribution)[:, None] & containers.exists,
        of_containers.memory_quota,
        of_containers.core_quota,
    )
    of_cards = card_values(cards, heard.rollup, given=given, observed_by_sample=rules.observed_by_sample)
    of_cards["gpu_model"] = card_models(cards, knowledge)
    start_ms = rules.window_start_ms
    return (
        to_arrow(CONTAINER_USAGE, of_containers.columns, exists=containers.exists, window_start_ms=start_ms),
        to_arrow(GPU_USAGE, of_cards, exists=card_exists(cards, containers.exists), window_start_ms=start_ms),
    )
