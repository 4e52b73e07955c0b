"""Targets of the rollup: each (row, metric, source) is aggregated for itself; then sources are preferred in order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from egpu_runtime.contract.exporters import AGENT, DCGM, HAMI_MONITOR, HAMI_SCHEDULER, KUBE_STATE, SCHEDULER, VOLCANO
from egpu_runtime.contract.metrics import METRIC_BY_NAME
from pipeline.rollup import Flags, Floats, Ints, Numbers, Windows

SOURCE_ORDER: Final = tuple(
    source.name for source in (AGENT, HAMI_MONITOR, DCGM, SCHEDULER, HAMI_SCHEDULER, VOLCANO, KUBE_STATE)
)
"""Of several sources of one value the first holds: our agent measures per container, DCGM per card."""

RowSubject = Literal["container", "card"]
Statistic = Literal["maximum", "mean", "last", "p95", "increase"]


class Target(NamedTuple):
    """One thing to aggregate: a metric of a row (its number) from one source under one name; ``part`` and ``order`` as
    in ``Series``.

    An exporter may give a metric under two names (dcgm-exporter two utilisations, HAMi the names of two releases). They
    are measured apart and the first holds: values of two measures are not to be mixed within a window.
    """

    subject: RowSubject
    row: int
    metric: str
    source: str
    part: str
    order: int


@dataclass(frozen=True, slots=True)
class Choice:
    """For each (row, window of the hour) the target whose value holds, -1 = none."""

    target: Numbers
    windows: Windows

    @property
    def found(self) -> Flags:
        """Where there is a value."""
        return self.target >= 0

    def value(self, statistic: Statistic) -> Floats:
        """The values, NaN where there is none; shape (rows, windows)."""
        table: Floats = getattr(self.windows, statistic)
        window = np.arange(1, table.shape[1])
        values: Floats = np.where(self.found, table[np.maximum(self.target, 0), window], np.nan)
        return values

    def count(self) -> Ints:
        """Distinct sample times, 0 where there is none."""
        window = np.arange(1, self.windows.count.shape[1])
        counts: Ints = np.where(self.found, self.windows.count[np.maximum(self.target, 0), window], 0)
        return counts


class Rollup:
    """Targets of an hour with their aggregates. ``row_counts`` = number of rows by subject."""

    def __init__(self, targets: Sequence[Target], windows: Windows, *, row_counts: Mapping[RowSubject, int]) -> None:
        self._windows = windows
        self._row_counts = row_counts
        self._members: dict[tuple[str, str, str], dict[int, list[tuple[int, int]]]] = {}
        for number, target in enumerate(targets):
            members = self._members.setdefault((target.subject, target.metric, target.source), {})
            members.setdefault(target.order, []).append((target.row, number))

    def _preferred(self, subject: RowSubject, metric: str) -> Iterator[tuple[str, Numbers, Numbers]]:
        """(source, rows, targets) of a metric, the preferred source and name first."""
        for source in SOURCE_ORDER:
            for _, members in sorted(self._members.get((subject, metric, source), {}).items()):
                pairs = np.array(members, np.int32)
                yield source, pairs[:, 0], pairs[:, 1]

    def choose(
        self, subject: RowSubject, metric: str, *, barred: Mapping[str, Flags] | None = None, positive: bool = False
    ) -> Choice:
        """The preferred source of a metric for each row and window.

        ``barred`` = source -> flags (rows, windows) where its value does not hold; ``positive`` = only values whose
        last is above 0 count.
        """
        columns = self._windows.count.shape[1] - 1
        chosen = np.full((self._row_counts[subject], columns), -1, np.int32)
        for source, rows, targets in self._preferred(subject, metric):
            usable = self._windows.count[targets, 1:] > 0
            if positive:
                usable &= self._windows.last[targets, 1:] > 0
            if barred and source in barred:
                usable &= ~barred[source][rows]
            chosen[rows] = np.where((chosen[rows] < 0) & usable, targets[:, None], chosen[rows])
        return Choice(chosen, self._windows)

    def increase(self, subject: RowSubject, metric: str) -> Floats:
        """Sum of the increases of all parts of a counter, from the preferred source; NaN where none rose or stood."""
        columns = self._windows.count.shape[1] - 1
        total = np.full((self._row_counts[subject], columns), np.nan)
        for _, rows, targets in self._preferred(subject, metric):
            part = np.full_like(total, np.nan)
            for row, target in zip(rows.tolist(), targets.tolist(), strict=True):
                part[row] = _add(part[row], self._windows.increase[target, 1:])
            total = np.where(np.isnan(total), part, total)
        return total


def _add(a: Floats, b: Floats) -> Floats:
    return np.where(np.isnan(a), b, np.where(np.isnan(b), a, a + b))


def is_counter(target: Target) -> bool:
    """Whether the target's metric is a counter."""
    return METRIC_BY_NAME[target.metric].kind == "counter"
