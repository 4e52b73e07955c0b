"""Complementary peaks: which sized workloads share cards, by slices that fit or by peaks at different hours.

Two ways are tried for each pool and the one that needs fewer cards is taken; at a tie, slices. *By slices*: the sum of
the members' slices, memory and compute, fits the card: any scheduler that adds up quotas places them. *By hour*: at
every hour of the whole history the sum of the members' greatest use, times a margin, fits the card; where their slices
add up to more, the group is oversubscribed. Compute use fits 100 % at every hour either way.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from advisor.demand import CORE_UNITS, HOURS_PER_WEEK, Bools, Facts, Fleet, Floats, Ints, filled, peaks
from advisor.findings.idle_quota import PERCENT_UNITS, Slices, general_refusal
from advisor.packing import Search, loads, lower_bound, pack
from advisor.settings import AdvisorSettings

_CALIBRATION_ROUNDS: Final = 150
_CALIBRATION_COUNT: Final = 9
"""Packings from which the margin is calibrated: the outcome of a single search is luck."""

CardKey = tuple[str, str]
"""Cluster and card model: cards that can stand for each other."""

CardNames = frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A group found: ``rows`` = its members in the fleet, ``cards`` it takes, the margin it was packed with."""

    rows: Ints
    cards: int
    margin: float
    by_hour: bool
    oversubscribed: bool
    capacity_mib: int


@dataclass(frozen=True, slots=True)
class ModelTotal:
    """Cards of one cluster and model: before, after, and the fewest that any plan under these rules could need."""

    before: int
    after: int
    bound: int


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """The groups (of one member too) that replace today's placement, and what they leave; ``refusals`` by row."""

    drafts: tuple[Draft, ...]
    totals: Mapping[CardKey, ModelTotal]
    refusals: Mapping[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """Workloads that may be packed together: rows in the fleet, use by hour, slices, replicas.

    ``memory`` = use as it was, gaps filled; ``growth`` = factor by which its trend grows over the advice's validity.
    """

    rows: Ints
    memory: Floats
    growth: Floats
    core: Floats
    slice_memory: Floats
    slice_core: Floats
    replicas: Ints
    capacity_mib: int
    margin_min: float
    shares_hours: bool

    def part(self, chosen: Ints) -> "_Pool":
        """The workloads of ``chosen`` (indices within this pool)."""
        return replace(
            self,
            rows=self.rows[chosen],
            memory=self.memory[chosen],
            growth=self.growth[chosen],
            core=self.core[chosen],
            slice_memory=self.slice_memory[chosen],
            slice_core=self.slice_core[chosen],
            replicas=self.replicas[chosen],
        )

    def demand(self, margin: float | None) -> tuple[Floats, Floats]:
        """Demand [workloads, rows] and capacity [rows]; ``margin`` None = every slice must fit: a row of memory slices
        and one of compute slices before the hours of compute use.

        The margin was calibrated on a week that grew as well, so a trend counts only where it exceeds the margin
        but for the least one.
        """
        if margin is None:
            slices = np.column_stack([self.slice_memory, self.slice_core])
            ceiling = np.array([self.capacity_mib, CORE_UNITS], np.float32)
        else:
            beyond = np.maximum(self.growth * (self.margin_min / margin), 1.0)
            slices = np.ceil(self.memory * beyond[:, None])
            ceiling = np.full(slices.shape[1], np.floor(self.capacity_mib / margin), np.float32)
        capacity = np.concatenate([ceiling, np.full(self.core.shape[1], CORE_UNITS, np.float32)])
        return np.hstack([slices, self.core]), capacity

    def oversubscribes(self, members: Ints) -> bool:
        """Whether the slices of ``members`` add up to more than one card, in memory or in compute."""
        memory, core = float(self.slice_memory[members].sum()), float(self.slice_core[members].sum())
        return len(members) > 1 and (memory > self.capacity_mib or core > CORE_UNITS)


def group(
    fleet: Fleet, slices: Slices, held: Mapping[CardKey, CardNames], *, sleepers: Bools, settings: AdvisorSettings
) -> Grouping:
    """Groups for every cluster and card model; ``sleepers`` [n] are grouped among themselves.

    ``held`` = cards that containers outside this fleet hold; they count before and after, and are never given away.
    """
    refusals = {
        row: reason for row, fact in enumerate(fleet.facts) if (reason := _refusal(fact, slices, row, settings))
    }
    by_model: dict[CardKey, list[int]] = defaultdict(list)
    for row, (key, fact) in enumerate(zip(fleet.keys, fleet.facts, strict=True)):
        if fact.live_replicas > 0:
            by_model[(key.cluster, key.gpu_model)].append(row)
    drafts: list[Draft] = []
    declined: dict[int, str] = {}
    totals: dict[CardKey, ModelTotal] = {}
    for model in sorted({*by_model, *held}):
        rows = by_model.get(model, [])
        outside = held.get(model, frozenset())
        before = len(outside.union(*(fleet.facts[row].cards for row in rows)))
        kept = len(outside.union(*(fleet.facts[row].cards for row in rows if row in refusals)))
        open_rows = [row for row in rows if row not in refusals]
        found = _grouped(_pools(fleet, slices, open_rows, sleepers=sleepers, settings=settings), settings)
        declined |= found.declined
        after = kept + _cost(found.drafts)
        if after < before:
            drafts += found.drafts
        totals[model] = ModelTotal(before, min(before, after), min(before, after, kept + found.bound))
    return Grouping(tuple(drafts), totals, refusals | declined)


def _refusal(fact: Facts, slices: Slices, row: int, settings: AdvisorSettings) -> str:
    """Why a workload must stay on the cards it has; empty if it may be grouped."""
    reason = general_refusal(fact, float(slices.history[row]), settings)
    if not reason and not fact.card_memory_mib:
        reason = "the memory of its card is not known"
    if not reason and np.isnan(slices.core_peak[row]):
        reason = "its compute use was never observed"
    if not reason and fact.cards_per_pod_max > 1:
        reason = f"one pod holds {fact.cards_per_pod_max} cards: only pods on one card are grouped"
    if not reason and fact.replicas_per_card_max > 1:
        reason = f"{fact.replicas_per_card_max} of its replicas share one card: a group spreads them over cards"
    if not reason and slices.preallocating[row]:
        reason = slices.refusals[row]
    return reason


def _pools(
    fleet: Fleet, slices: Slices, rows: list[int], *, sleepers: Bools, settings: AdvisorSettings
) -> Iterator[_Pool]:
    """The rows by card size, by whether their history is long enough to share a card beyond its memory, by sleep."""
    by_kind: dict[tuple[int, bool, bool], list[int]] = defaultdict(list)
    for row in rows:
        shares_hours = bool(slices.history[row] >= settings.sharing_history_min_days)
        by_kind[(fleet.facts[row].card_memory_mib or 0, shares_hours, bool(sleepers[row]))].append(row)
    for (capacity_mib, shares_hours, _), members in sorted(by_kind.items()):
        chosen = np.array(members, np.int64)
        peak = np.maximum(slices.memory_peak[chosen], 1.0)
        grown = np.maximum(slices.trend[chosen] / peak, 1.0).astype(np.float32)
        memory = filled(fleet.memory[chosen])
        yield _Pool(
            rows=chosen,
            memory=memory,
            growth=grown,
            core=np.minimum(filled(fleet.core[chosen]), CORE_UNITS),
            slice_memory=np.maximum(slices.after_memory[chosen].astype(np.float32), np.ceil(peaks(memory) * grown)),
            slice_core=np.minimum(slices.after_core[chosen] * PERCENT_UNITS, CORE_UNITS).astype(np.float32),
            replicas=np.array([fleet.facts[row].live_replicas for row in members], np.int64),
            capacity_mib=capacity_mib,
            margin_min=settings.packing_margin_min,
            shares_hours=shares_hours,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Groups of one cluster and model, the fewest cards its rules allow, and who stays alone for want of a fallback."""

    drafts: list[Draft]
    bound: int
    declined: dict[int, str]


def _grouped(pools: Iterator[_Pool], settings: AdvisorSettings) -> _Found:
    """All pools of one cluster and model: by slices, or by hour where that takes fewer cards and has a fallback.

    The margin is calibrated on the first part of a pool: 500 workloads tell as much as all of them.
    """
    found = _Found([], 0, {})
    bound = 0
    for pool in pools:
        parts = [pool.part(chosen) for chosen in _chunks(pool, settings)]
        margin = calibrated_margin(parts[0], settings) if pool.shares_hours else None
        for part in parts:
            by_slice = _drafts(part, None, settings)
            by_hour = by_slice if margin is None else _drafts(part, margin, settings)
            fewer = _cost(by_hour) < _cost(by_slice)
            found.drafts.extend(by_hour if fewer and settings.has_fallback else by_slice)
            if fewer and not settings.has_fallback:
                found.declined.update(_declined(by_slice, by_hour))
        ways = {None, margin} if settings.has_fallback else {None}
        bound += min(_bound(pool, way) for way in ways)
    return replace(found, bound=bound)


def _cost(drafts: list[Draft]) -> int:
    return sum(draft.cards for draft in drafts)


def _declined(by_slice: list[Draft], by_hour: list[Draft]) -> Iterator[tuple[int, str]]:
    """Workloads that would share a card beyond its memory and now have one alone."""
    alone = {int(draft.rows[0]) for draft in by_slice if len(draft.rows) == 1}
    for draft in by_hour:
        if draft.oversubscribed:
            reason = (
                f"would be one of {len(draft.rows)} that share a card beyond its memory, "
                "and nothing catches an overflow: oversubscription_fallback is off"
            )
            yield from ((int(row), reason) for row in draft.rows if int(row) in alone)


def _chunks(pool: _Pool, settings: AdvisorSettings) -> Iterator[Ints]:
    """Indices of the pool in parts of bounded size; workloads with as many replicas stay together, else by chance."""
    chance = np.random.default_rng(settings.search_seed).permutation(len(pool.rows))
    order = np.lexsort((chance, -pool.replicas))
    for start in range(0, len(order), settings.pool_workload_count_max):
        yield np.sort(order[start : start + settings.pool_workload_count_max])


def calibrated_margin(pool: _Pool, settings: AdvisorSettings) -> float:
    """Load of the fullest card, over its capacity, in a week the packing had not seen; at least the floor.

    The pool is packed by memory alone on all but the last week, nine times, and judged on that week. The least of the
    nine greatest loads is the margin: memory alone packs tighter than what is shipped, which has compute rows too.
    Measured on Bitbrains over eight seeds: 19 to 21 cards without a violation on the later days, and no violation in
    8 of ten rolling origins; the median of the nine costs two cards more.
    """
    before = pool.memory[:, :-HOURS_PER_WEEK]
    capacity = np.full(before.shape[1], pool.capacity_mib, np.float32)
    demand = np.minimum(before, capacity)
    greatest = []
    for turn in range(_CALIBRATION_COUNT):
        search = Search(_CALIBRATION_ROUNDS, settings.search_seed * _CALIBRATION_COUNT + turn)
        label = pack(demand, pool.replicas, capacity, search=search)
        later = loads(pool.memory[:, -HOURS_PER_WEEK:], label, group_count=int(label.max()) + 1)
        greatest.append(float(later.max()) / pool.capacity_mib)
    return max(settings.packing_margin_min, float(np.ceil(min(greatest) * 100) / 100))


def _drafts(pool: _Pool, margin: float | None, settings: AdvisorSettings) -> list[Draft]:
    demand, capacity = pool.demand(margin)
    label = np.full(len(demand), -1, np.int64)
    fits = (demand <= capacity).all(axis=1)
    search = Search(settings.search_iteration_count, settings.search_seed)
    if fits.any():
        label[fits] = pack(demand[fits], pool.replicas[fits], capacity, search=search)
    alone = np.flatnonzero(~fits)
    label[alone] = label.max() + 1 + np.arange(len(alone))  # with the margin it leaves no room for anybody
    return [_draft(pool, np.flatnonzero(label == number), margin) for number in range(int(label.max()) + 1)]


def _draft(pool: _Pool, members: Ints, margin: float | None) -> Draft:
    return Draft(
        rows=pool.rows[members],
        cards=int(pool.replicas[members].max()),
        margin=margin or 1.0,
        by_hour=margin is not None,
        oversubscribed=pool.oversubscribes(members),
        capacity_mib=pool.capacity_mib,
    )


def _bound(pool: _Pool, margin: float | None) -> int:
    """Cards no packing of this pool can go below in this way; what does not fit with others has its own."""
    demand, capacity = pool.demand(margin)
    fits = (demand <= capacity).all(axis=1)
    return int(pool.replicas[~fits].sum()) + lower_bound(demand[fits], pool.replicas[fits], capacity)
