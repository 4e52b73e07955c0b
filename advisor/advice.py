"""What the rules say about a stretch of history, and how that is judged on the data after it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from advisor.backtest import Later, Split, Verdict, backtest, exceeded, overflowed
from advisor.contract import BackTest, Confidence
from advisor.demand import Bools, Fleet
from advisor.findings import complementary_peaks, idle_quota, train_beside_inference
from advisor.findings.complementary_peaks import CardKey, CardNames, Draft, Grouping
from advisor.findings.idle_quota import PERCENT_UNITS, Slices
from advisor.settings import AdvisorSettings

_CONFIDENT_DAYS = 21.0
_USABLE_DAYS = 7.0


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All that a plan is made from: profiles, the later data at its finest grain, cards held by others."""

    fleet: Fleet
    later: Later
    held: Mapping[CardKey, CardNames]

    def before(self, hour: int) -> Fleet:
        return self.fleet.between(0, hour)


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """What the rules say about one stretch of history."""

    fleet: Fleet
    slices: Slices
    sleepers: Bools
    grouping: Grouping


def advise(fleet: Fleet, held: Mapping[CardKey, CardNames], settings: AdvisorSettings) -> Advice:
    """Slices and groups from all hours of the fleet."""
    slices = idle_quota.size(fleet, settings)
    sleepers = train_beside_inference.sleepers(fleet, settings)
    grouping = complementary_peaks.group(fleet, slices, held, sleepers=sleepers, settings=settings)
    return Advice(fleet, slices, sleepers, grouping)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Advice made from the part before a split, and the data after it."""

    past: Advice
    later: Later
    split: Split

    def slice_verdicts(self) -> list[Verdict | None]:
        """Per workload: its use against the slice advised before the split; None where none was advised."""
        slices = self.past.slices
        return [
            by_memory or by_core
            for by_memory, by_core in zip(
                exceeded(self.later.memory, slices.after_memory, slices.memory_advised),
                exceeded(self.later.core, slices.after_core * PERCENT_UNITS, slices.core_advised),
                strict=True,
            )
        ]

    def slices(self) -> BackTest | None:
        """All memory slices that were advised before the split."""
        slices = self.past.slices
        verdicts = exceeded(self.later.memory, slices.after_memory, slices.memory_advised)
        found = self.test([verdict for verdict in verdicts if verdict], "memory slices")
        acted = slices.memory_advised
        quota = int(slices.before_memory[acted].sum())
        return found and replace(found, kept_ratio=int(slices.after_memory[acted].sum()) / max(quota, 1))

    def packing(self) -> BackTest | None:
        """All cards of the groups that were made before the split."""
        found = self.test(self.card_verdicts(), "cards")
        totals = self.past.grouping.totals.values()
        before = sum(total.before for total in totals)
        return found and replace(found, kept_ratio=sum(total.after for total in totals) / max(before, 1))

    def card_verdicts(self) -> list[Verdict]:
        """One verdict per card of every group of two or more."""
        return [
            overflowed(self.later.memory, draft.rows, capacity=draft.capacity_mib)
            for draft in self.past.grouping.drafts
            if len(draft.rows) > 1
            for _ in range(draft.cards)
        ]

    def test(self, verdicts: list[Verdict], what: str) -> BackTest | None:
        return backtest(verdicts, self.split, step_seconds=self.later.step_seconds, what=what)

    def of_group(self, draft: Draft) -> BackTest | None:
        """One group of today on the second part; None where the first part would not have put it together."""
        if not _fitted(self.past, draft):
            return None
        verdict = overflowed(self.later.memory, draft.rows, capacity=draft.capacity_mib)
        return self.test([verdict], "these members fitted by a rule")


def _fitted(past: Advice, draft: Draft) -> bool:
    if draft.by_hour:
        load = np.nansum(past.fleet.memory[draft.rows], axis=0)
        return bool(load.max() * draft.margin <= draft.capacity_mib)
    return int(past.slices.after_memory[draft.rows].sum()) <= draft.capacity_mib


def confidence_of(history: float, test: BackTest | None) -> Confidence:
    """High from three weeks, medium from one; one step less where the back-test was hit or could not be made."""
    level = int(history >= _CONFIDENT_DAYS) + int(history >= _USABLE_DAYS)
    if test is None or test.violated_ratio > 0:
        level -= 1
    grades: tuple[Confidence, ...] = ("low", "medium", "high")
    return grades[max(level, 0)]
