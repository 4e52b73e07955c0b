"""One hour to the rows of container_usage_5m and gpu_usage_5m: knowledge, targets, rollup, then columns.

An hour comes as samples (from a log) or as series windows (from the Flink job); what follows is the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

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
from pipeline.rollup import Grid, HourSamples, Ints, Numbers, RolledUp, Wanted, last_times, roll_up
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
    """Rows of one hour; ``sample_count`` = distinct (series, time) of the hour itself that went into them.

    ``ambiguous`` names what could not be worked out exactly; where there is any, the hour has to be made from samples.
    """

    container: pa.Table
    card: pa.Table
    sample_count: int
    ambiguous: tuple[str, ...] = ()


class HourInput(Protocol):
    """The series of an hour, and what was measured of them in it and in the window before it."""

    @property
    def series(self) -> tuple[Series, ...]:
        """Series that have a sample."""

    @property
    def last(self) -> Numbers:
        """Greatest sample time of each by window (with the one before the hour), as the grid counts; -1 = none."""

    def roll_up(self, target_of_series: Numbers, wanted: Wanted) -> RolledUp:
        """Aggregates by target; series of target -1 are dropped."""


@dataclass(frozen=True, slots=True)
class SamplesOfHour:
    """An hour that comes as samples."""

    series: tuple[Series, ...]
    samples: HourSamples
    last: Numbers
    grid: Grid

    def roll_up(self, target_of_series: Numbers, wanted: Wanted) -> RolledUp:
        """Aggregates by target; series of target -1 are dropped."""
        return roll_up(self.samples, target_of_series, wanted=wanted, grid=self.grid)


def _from_samples(samples: HourSamples, series: Sequence[Series], grid: Grid) -> SamplesOfHour:
    """Number anew the series that have samples in this hour."""
    used = np.flatnonzero(np.bincount(samples.series, minlength=len(series)))
    number = np.full(len(series), -1, np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    local = HourSamples(number[samples.series], samples.time, samples.value)
    last = last_times(local, series_count=len(used), grid=grid)
    return SamplesOfHour(tuple(series[index] for index in used.tolist()), local, last, grid)


def _asked(series: Series) -> AskedContainer | None:
    if series.metric != POD_GPU_CONTAINER_INFO.name or not series.facts[0]:
        return None
    cluster, namespace, pod, uid = series.key
    return AskedContainer(PodName(cluster, namespace, pod), uid, series.facts[0])


def _container_rows(present: HourInput, knowledge: Knowledge) -> ContainerRows:
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


def _card_rows(present: HourInput, containers: ContainerRows, knowledge: Knowledge) -> CardRows:
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


def _targets(present: HourInput, containers: ContainerRows, cards: CardRows) -> tuple[list[Target], Numbers]:
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
    return tables_of(_from_samples(samples, series, Grid(rules.window_ms)), rules)


def tables_of(hour: HourInput, rules: HourRules) -> HourTables:
    """Rows of one hour."""
    knowledge = learn(zip(hour.series, hour.last.max(axis=1, initial=-1).tolist(), strict=True))
    containers = _container_rows(hour, knowledge)
    cards = _card_rows(hour, containers, knowledge)
    targets, target_of_series = _targets(hour, containers, cards)
    wanted = Wanted(
        p95=np.array([target.metric in _P95_METRICS for target in targets], np.bool_),
        counter=np.array([is_counter(target) for target in targets], np.bool_),
    )
    measured = hour.roll_up(target_of_series, wanted)
    rollup = Rollup(targets, measured.windows, row_counts={"container": len(containers.keys), "card": len(cards.keys)})
    nodes: dict[RowSubject, Sequence[tuple[str, str]]] = {"container": containers.nodes(), "card": cards.nodes()}
    heard_on = activity(targets, measured.windows, node_of=nodes)
    heard = Heard(measured, rollup, heard_on, rules.observed_by_sample)
    container, card = _tables(containers, cards, heard=heard, knowledge=knowledge, rules=rules)
    ambiguous = tuple(
        _told(targets[index], {"container": containers.keys, "card": cards.keys}) for index in measured.ambiguous
    )
    return HourTables(container, card, measured.sample_count, ambiguous)


def _told(target: Target, keys: Mapping[RowSubject, Sequence[tuple[str, ...]]]) -> str:
    """A target for a person."""
    return f"{target.metric} of {'/'.join(part for part in keys[target.subject][target.row] if part)}"


def hour_tables_of_parts(parts: Iterable[HourInput], rules: HourRules) -> HourTables:
    """Rows of one hour that comes in parts, whole clusters in the order of their names: nothing joins two clusters,
    and rows are sorted by cluster first."""
    made = [tables_of(part, rules) for part in parts]
    container, card = (
        pa.concat_tables([getattr(each, name) for each in made]).unify_dictionaries() for name in ("container", "card")
    )
    return HourTables(
        container,
        card,
        sum(each.sample_count for each in made),
        tuple(name for each in made for name in each.ambiguous),
    )


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
