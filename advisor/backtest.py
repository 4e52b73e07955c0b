"""Judging advice on data it was not made from: the time above a slice, the time above a card, the share of both hit."""

from dataclasses import dataclass, replace

import numpy as np

from advisor.contract import BackTest
from advisor.demand import Bools, Floats, Ints
from advisor.settings import AdvisorSettings
from egpu_runtime.contract.units import DAY_MS, SECOND_MS


@dataclass(frozen=True, slots=True, eq=False)
class Later:
    """Use at the finest grain there is: windows of ``step_seconds`` from ``start_ms``, [n, windows] each.

    Rows as in the fleet. ``memory`` = greatest use of any replica in the window, MiB; ``core`` = greatest replica's
    p95 of compute use, 0.01 % of a card. NaN = not observed.
    """

    start_ms: int
    step_seconds: int
    memory: Floats
    core: Floats

    def between(self, first_ms: int, end_ms: int) -> "Later":
        """The windows that start in [first_ms, end_ms)."""
        step_ms = self.step_seconds * SECOND_MS
        first = max(-(-(first_ms - self.start_ms) // step_ms), 0)
        end = max(-(-(end_ms - self.start_ms) // step_ms), first)
        return replace(
            self,
            start_ms=self.start_ms + first * step_ms,
            memory=self.memory[:, first:end],
            core=self.core[:, first:end],
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Where history is cut: the part before made the advice, the part up to ``end_ms`` judges it. Epoch ms UTC."""

    first_ms: int
    split_ms: int
    end_ms: int

    @property
    def train_days(self) -> float:
        return (self.split_ms - self.first_ms) / DAY_MS

    @property
    def test_days(self) -> float:
        return (self.end_ms - self.split_ms) / DAY_MS


@dataclass(frozen=True, slots=True)
class Verdict:
    """Windows that were observed and windows in which the limit was exceeded."""

    observed: int
    violated: int


def split_hour(hours: int, settings: AdvisorSettings) -> int | None:
    """First hour of the judged part: the last ``split_ratio`` of the hours, at least ``split_min_hours``.

    None where nothing would be left to learn from.
    """
    judged = max(round(hours * settings.split_ratio), settings.split_min_hours)
    return hours - judged if judged < hours else None


def exceeded(use: Floats, limits: Ints, chosen: Bools) -> list[Verdict | None]:
    """Per row: how often ``use`` [n, windows] was above ``limits`` [n]; None for rows that are not ``chosen``."""
    observed = (~np.isnan(use)).sum(axis=1)
    violated = (use > limits[:, None]).sum(axis=1)
    return [Verdict(int(observed[row]), int(violated[row])) if chosen[row] else None for row in range(len(limits))]


def overflowed(use: Floats, members: Ints, *, capacity: int) -> Verdict:
    """How often the sum of the members' use was above ``capacity``; an unobserved member counts as nothing."""
    part = use[members]
    seen = ~np.isnan(part).all(axis=0)
    load = np.nansum(part, axis=0)
    return Verdict(int(seen.sum()), int((load > capacity).sum()))


def backtest(verdicts: list[Verdict], split: Split, *, step_seconds: int, what: str) -> BackTest | None:
    """The verdicts taken together, labelled; None where nothing could be judged."""
    observed = sum(verdict.observed for verdict in verdicts)
    if observed == 0:
        return None
    judged = [verdict for verdict in verdicts if verdict.observed]
    return BackTest(
        split_ms=split.split_ms,
        train_days=round(split.train_days, 3),
        test_days=round(split.test_days, 3),
        resolution_seconds=step_seconds,
        violated_ratio=sum(verdict.violated for verdict in judged) / observed,
        hit_ratio=sum(verdict.violated > 0 for verdict in judged) / len(judged),
        label=f"{what} made from {split.train_days:.1f} d, judged on the next {split.test_days:.1f} d",
    )
