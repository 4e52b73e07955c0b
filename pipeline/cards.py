"""Values of gpu_usage_5m by (card, window): what the card has, what was given away, what was used."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from egpu_runtime.contract.metrics import (
    GPU_MEMORY_FREE,
    GPU_MEMORY_RESERVED,
    GPU_MEMORY_TOTAL,
    GPU_MEMORY_USED,
    SCHEDULER_GPU_CORE_ALLOCATED,
    SCHEDULER_GPU_MEMORY_ALLOCATED,
)
from pipeline.activity import observed_ratio
from pipeline.columns import Value, complete, greatest_by_row, latest_texts, texts_by_row
from pipeline.contract.tables import GPU_USAGE
from pipeline.join import Attribution
from pipeline.normalise import Series
from pipeline.pods import Knowledge
from pipeline.rollup import Flags, Floats, Numbers
from pipeline.targets import Rollup, Statistic

_STATISTICS: Final[Mapping[str, Statistic]] = {"max": "maximum", "mean": "mean", "last": "last", "p95": "p95"}


@dataclass(frozen=True)
class CardRows:
    """Cards of the hour in key order; the card of each series and of each container row (-1 = none)."""

    keys: tuple[tuple[str, str, str], ...]
    row_of_series: Numbers
    card_of_container: Numbers
    series: tuple[Series, ...]
    last: Numbers

    @cached_property
    def heard(self) -> Flags:
        """(card, window): a series of the card has a sample."""
        chosen = self.row_of_series >= 0
        last = (self.last[chosen] >= 0).astype(np.int64)
        return greatest_by_row(last, self.row_of_series[chosen], row_count=len(self.keys)) > 0

    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(cluster, node) of each card."""
        return tuple((cluster, node) for cluster, node, _ in self.keys)


def memory_totals(rollup: Rollup) -> Floats:
    """Memory of each card by window, bytes: as reported, else used + free + reserved (dcgm-exporter), else NaN."""
    total = rollup.choose("card", GPU_MEMORY_TOTAL.name).value("last")
    used, free, reserved = (
        rollup.choose("card", metric.name).value("last")
        for metric in (GPU_MEMORY_USED, GPU_MEMORY_FREE, GPU_MEMORY_RESERVED)
    )
    return np.where(np.isnan(total), used + free + np.nan_to_num(reserved), total)


def totals_of_containers(totals: Floats, card_of_container: Numbers) -> Floats:
    """The card's total for each container row, NaN where the card is not known."""
    known = card_of_container >= 0
    result = np.full((len(card_of_container), totals.shape[1]), np.nan)
    result[known] = totals[card_of_container[known]]
    return result


def counted_once(attribution: Attribution) -> Flags:
    """Rows whose quota counts for the card. Where a pod's rows could not be joined, the scheduler names each of its
    containers by index and the monitor some of them by name; then only the scheduler's count."""
    unnamed = {
        (key.card, key.pod_name)
        for key, reason in zip(attribution.rows, attribution.reasons, strict=True)
        if reason and key.container.startswith("#")
    }
    return np.array(
        [key.container.startswith("#") or (key.card, key.pod_name) not in unnamed for key in attribution.rows],
        np.bool_,
    )


@dataclass(frozen=True, slots=True)
class Given:
    """What container rows hold, by (row, window): whether they exist and count for the card, and their quotas."""

    exists: Flags
    counts: Flags
    memory: Floats
    core: Floats


def _sum(cards: CardRows, values: Floats, chosen: Flags) -> Floats:
    """Sum over the container rows of each card; rows are in key order, so the sum does not depend on arrival."""
    result = np.zeros((len(cards.keys), values.shape[1]))
    known = cards.card_of_container >= 0
    np.add.at(result, cards.card_of_container[known], np.where(chosen & ~np.isnan(values), values, 0.0)[known])
    return result


def _allocated(cards: CardRows, given: Given, rollup: Rollup) -> dict[str, Value]:
    count = _sum(cards, given.exists.astype(np.float64), given.counts)
    values: dict[str, Value] = {"container_count": count.astype(np.int32)}
    for name, quota, metric in (
        ("memory_allocated_bytes", given.memory, SCHEDULER_GPU_MEMORY_ALLOCATED.name),
        ("core_allocated_ratio", given.core, SCHEDULER_GPU_CORE_ALLOCATED.name),
    ):
        # Where no container of the card is known the scheduler's own sum stands.
        told = np.nan_to_num(rollup.choose("card", metric).value("last"))
        values[name] = np.where(count > 0, _sum(cards, quota, given.counts), told)
    return values


def card_values(cards: CardRows, rollup: Rollup, *, given: Given, observed_by_sample: float) -> dict[str, Value]:
    """Columns of gpu_usage_5m but the window and the model."""
    names = ("cluster", "node", "gpu_uuid")
    values: dict[str, Value] = {
        name: texts_by_row([key[index] for key in cards.keys]) for index, name in enumerate(names)
    }
    values["memory_total_bytes"] = memory_totals(rollup)
    values.update(_allocated(cards, given, rollup))
    used = rollup.choose("card", GPU_MEMORY_USED.name).count()
    values["sample_count"] = used
    values["observed_ratio"] = observed_ratio(used, observed_by_sample)
    for column in GPU_USAGE.columns:
        if column.metric and column.name not in values:
            values[column.name] = rollup.choose("card", column.metric).value(_STATISTICS[column.aggregate])
    return values


def card_models(cards: CardRows, knowledge: Knowledge) -> Value:
    """Model of each card by window: its own label, else what the hour knows of the card."""
    chosen = cards.row_of_series >= 0
    series = [each for each, of_card in zip(cards.series, chosen.tolist(), strict=True) if of_card]
    own = latest_texts(
        [each.facts[0] for each in series],
        cards.row_of_series[chosen],
        last=cards.last[chosen],
        row_count=len(cards.keys),
    )
    return complete(own, [knowledge.model_of_card(cluster, gpu_uuid) for cluster, _, gpu_uuid in cards.keys])


def card_exists(cards: CardRows, containers: Flags) -> Flags:
    """(card, window): the card or a container on it was heard."""
    return cards.heard | (_sum(cards, containers.astype(np.float64), containers) > 0)
