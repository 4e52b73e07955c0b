"""Values of container_usage_5m by (row, window): use, or zero, or not observed; quota; facts; attribution."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from egpu_runtime.contract.exporters import DCGM, HAMI_MONITOR
from egpu_runtime.contract.metrics import (
    CONTAINER_CORE_QUOTA,
    CONTAINER_CORE_USED,
    CONTAINER_MEMORY_QUOTA,
    CONTAINER_MEMORY_USED,
    SCHEDULER_CONTAINER_CORE_ALLOCATED,
    SCHEDULER_CONTAINER_MEMORY_ALLOCATED,
)
from egpu_runtime.contract.resources import ADVICE_OFF
from pipeline.activity import (
    USE_SOURCES,
    Activity,
    Reporter,
    may_be_zero,
    observed_of_reporter,
    observed_ratio,
    reporters,
)
from pipeline.columns import Texts, Value, complete, greatest_by_row, latest_texts, texts_by_row
from pipeline.contract.tables import ATTRIBUTED, CONTAINER_USAGE, Column
from pipeline.join import CARD_SHARED, CARD_UNKNOWN, Attribution, RowKey
from pipeline.normalise import CONTAINER_FACTS, Series
from pipeline.pods import Knowledge
from pipeline.rollup import Flags, Floats, Ints, Numbers, RolledUp
from pipeline.targets import SOURCE_ORDER, Choice, Rollup, Statistic

_STATISTICS: Final[Mapping[str, Statistic]] = {"max": "maximum", "mean": "mean", "last": "last", "p95": "p95"}
_WHOLE_CARD: Final = 1.0


@dataclass(frozen=True)
class ContainerRows:
    """Rows of the hour, the row of each series (-1 = none), and ``last`` = greatest sample time (series, window)."""

    attribution: Attribution
    row_of_series: Numbers
    series: tuple[Series, ...]
    last: Numbers

    @property
    def keys(self) -> tuple[RowKey, ...]:
        """Keys in order."""
        return self.attribution.rows

    @cached_property
    def exists(self) -> Flags:
        """(row, window): any series of the row has a sample."""
        return self._heard(self.row_of_series >= 0)

    @cached_property
    def _source_names(self) -> tuple[str, ...]:
        return tuple(series.source for series in self.series)

    def heard_from(self, source: str) -> Flags:
        """(row, window): a series of the row from this source has a sample."""
        of_source = np.array([name == source for name in self._source_names], np.bool_)
        return self._heard(of_source & (self.row_of_series >= 0))

    def _heard(self, chosen: Flags) -> Flags:
        heard = (self.last[chosen] >= 0).astype(np.int64)
        return greatest_by_row(heard, self.row_of_series[chosen], row_count=len(self.keys)) > 0

    def known_by(self) -> tuple[frozenset[str], ...]:
        """For each row the sources that have a series of it."""
        found: list[set[str]] = [set() for _ in self.keys]
        for row, source in zip(self.row_of_series.tolist(), self._source_names, strict=True):
            if row >= 0:
                found[row].add(source)
        return tuple(frozenset(each) for each in found)

    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(cluster, node) of each row."""
        return tuple((key.cluster, key.node) for key in self.keys)


@dataclass(frozen=True, slots=True)
class Heard:
    """What the hour says beside the rows: what was measured of targets, how to ask for it, who was heard on nodes."""

    measured: RolledUp
    rollup: Rollup
    activity: Activity
    observed_by_sample: float


@dataclass(frozen=True, slots=True)
class _Use:
    """Chosen sources of the two uses that may be zero-filled, and where they are; all by (row, window)."""

    memory: Choice
    core: Choice
    memory_zero: Flags
    core_zero: Flags
    shared: Flags
    reporter: Reporter


def _shared_cards(rows: ContainerRows) -> Flags:
    """(row, window): another container holds a part of the same card."""
    cards = {card: index for index, card in enumerate(sorted({key.card for key in rows.keys if key.gpu_uuid}))}
    card_of_row = np.array([cards.get(key.card, -1) for key in rows.keys], np.int32)
    on_card = card_of_row >= 0
    holders = np.zeros((len(cards), rows.exists.shape[1]), np.int64)
    np.add.at(holders, card_of_row[on_card], rows.exists[on_card])
    shared: Flags = np.zeros(rows.exists.shape, np.bool_)
    shared[on_card] = holders[card_of_row[on_card]] > 1
    return shared


def _core_unmeasured(rows: ContainerRows, rollup: Rollup, memory: Choice) -> Flags:
    """(row, window): HAMi's compute use of 0 tells nothing.

    Its library looks at the use of a container only to hold it to a compute limit; without a limit the monitor says 0
    whatever the container does (HAMi issue 1864). That it holds no memory does say that it computes nothing.
    """
    named = rows.heard_from(HAMI_MONITOR.name)
    if not named.any():
        return named
    everywhere = np.ones(rows.exists.shape, np.bool_)
    others = {source: everywhere for source in SOURCE_ORDER if source != HAMI_MONITOR.name}
    told = rollup.choose("container", CONTAINER_CORE_USED.name, barred=others).value("maximum")
    limits = (CONTAINER_CORE_QUOTA.name, SCHEDULER_CONTAINER_CORE_ALLOCATED.name)
    quota, allocated = (rollup.choose("container", metric, positive=True).found for metric in limits)
    unmeasured: Flags = named & ~quota & ~allocated & (memory.value("maximum") > 0) & ~(told > 0)
    return unmeasured


def _use(rows: ContainerRows, heard: Heard) -> _Use:
    shared = _shared_cards(rows)
    # DCGM gives the card's value under a pod's name; with several containers on the card it is nobody's.
    barred = {DCGM.name: shared}
    memory = heard.rollup.choose("container", CONTAINER_MEMORY_USED.name, barred=barred)
    unmeasured = _core_unmeasured(rows, heard.rollup, memory)
    barred[HAMI_MONITOR.name] = unmeasured
    core = heard.rollup.choose("container", CONTAINER_CORE_USED.name, barred=barred)
    reporter = reporters(rows.nodes(), rows.known_by(), heard=heard.activity)
    present = np.stack([rows.heard_from(source.name) for source in USE_SOURCES])
    # What could not be joined may be reported under another row's name.
    joined = np.array([reason in ("", CARD_UNKNOWN) for reason in rows.attribution.reasons], np.bool_)
    zero = rows.exists & joined[:, None] & may_be_zero(reporter, present, heard=heard.activity)
    return _Use(memory, core, zero & ~memory.found, zero & ~core.found & ~unmeasured, shared, reporter)


def _quota(rollup: Rollup, metrics: tuple[str, str], whole_card: Floats) -> Floats:
    """Agent's, else scheduler's, else the whole card. A quota of 0 is how HAMi writes "no limit"."""
    quota = whole_card
    for metric in reversed(metrics):
        choice = rollup.choose("container", metric, positive=True)
        quota = np.where(choice.found, choice.value("last"), quota)
    return quota


def _measured(column: Column, use: _Use, rollup: Rollup) -> Floats:
    """A column that is an aggregate of one metric."""
    if column.aggregate == "increase":
        return rollup.increase("container", column.metric)
    statistic = _STATISTICS[column.aggregate]
    if column.metric == CONTAINER_MEMORY_USED.name:
        return np.where(use.memory_zero, 0.0, use.memory.value(statistic))
    if column.metric == CONTAINER_CORE_USED.name:
        return np.where(use.core_zero, 0.0, use.core.value(statistic))
    return rollup.choose("container", column.metric).value(statistic)


def _observed(use: _Use, heard: Heard) -> Floats:
    count: Ints = np.where(
        use.memory_zero,
        observed_of_reporter(heard.measured, use.reporter, wanted=use.memory_zero, heard=heard.activity),
        use.memory.count(),
    )
    return observed_ratio(count, heard.observed_by_sample)


def _attribution(rows: ContainerRows, use: _Use) -> Texts:
    reasons = [reason or ATTRIBUTED for reason in rows.attribution.reasons]
    texts = tuple(sorted({ATTRIBUTED, CARD_SHARED, *reasons}))
    number = {text: index for index, text in enumerate(texts)}
    by_row = np.array([number[reason] for reason in reasons], np.int32).reshape(-1, 1)
    nobodys = use.shared & rows.heard_from(DCGM.name) & ~use.memory.found & ~use.memory_zero
    code = np.where(nobodys & (by_row == number[ATTRIBUTED]), number[CARD_SHARED], by_row)
    return Texts(code.astype(np.int32), texts)


def _facts(rows: ContainerRows, knowledge: Knowledge) -> dict[str, Value]:
    of_container = np.array([series.subject == "container" for series in rows.series], np.bool_)
    chosen = [series for series in rows.series if series.subject == "container"]
    facts: dict[str, Value] = {}
    workloads = [knowledge.workload(key.pod_name) for key in rows.keys]
    fallback = {
        "gpu_model": [knowledge.model_of_card(key.cluster, key.gpu_uuid) for key in rows.keys],
        "workload_kind": [kind for kind, _ in workloads],
        "workload": [name for _, name in workloads],
    }
    for index, name in enumerate(CONTAINER_FACTS):
        texts = latest_texts(
            [series.facts[index] for series in chosen],
            rows.row_of_series[of_container],
            last=rows.last[of_container],
            row_count=len(rows.keys),
        )
        facts[name] = complete(texts, fallback[name]) if name in fallback else texts
    off = [ADVICE_OFF if knowledge.advice(key.pod_name) == ADVICE_OFF else "" for key in rows.keys]
    facts["advice"] = texts_by_row(off)
    return facts


@dataclass(frozen=True, slots=True)
class ContainerValues:
    """Columns by name, and the quotas among them by (row, window), which the card's sums are made from."""

    columns: dict[str, Value]
    memory_quota: Floats
    core_quota: Floats


def container_values(
    rows: ContainerRows, heard: Heard, *, knowledge: Knowledge, memory_total: Floats
) -> ContainerValues:
    """All columns of container_usage_5m but the window. ``memory_total`` = bytes of each row's card by window."""
    use = _use(rows, heard)
    values: dict[str, Value] = {
        name: texts_by_row([str(getattr(key, name)) for key in rows.keys]) for name in RowKey._fields
    }
    values.update(_facts(rows, knowledge))
    values["attribution"] = _attribution(rows, use)
    memory_quota = _quota(
        heard.rollup, (CONTAINER_MEMORY_QUOTA.name, SCHEDULER_CONTAINER_MEMORY_ALLOCATED.name), memory_total
    )
    core_quota = _quota(
        heard.rollup,
        (CONTAINER_CORE_QUOTA.name, SCHEDULER_CONTAINER_CORE_ALLOCATED.name),
        np.full(rows.exists.shape, _WHOLE_CARD),
    )
    values["memory_quota_bytes"], values["core_quota_ratio"] = memory_quota, core_quota
    values["sample_count"] = use.memory.count()
    values["observed_ratio"] = _observed(use, heard)
    for column in CONTAINER_USAGE.columns:
        if column.metric and column.name not in values:
            values[column.name] = _measured(column, use, heard.rollup)
    return ContainerValues(values, memory_quota, core_quota)
