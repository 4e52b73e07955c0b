"""Time-indexed vector bin packing: which workloads share cards.

An item is a workload: ``demand[i]`` = what one replica needs on its card in each row (an hour of one resource),
``replicas[i]`` = cards it is spread over. A group is a set of items; a card of the group holds at most one replica of
each member, so the group costs the greatest number of replicas among its members. A group is feasible when the sum of
its members' rows stays within ``capacity`` at every row. Demands are whole numbers in float32: sums are exact.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from advisor.demand import Doubles, Floats, Ints

_RUIN_GROUP_COUNT_MAX: Final = 3
_ORDER_NOISE: Final = 0.3
"""Spread of the random factor on the size by which items are put back; 0 would repeat first-fit."""


_BOUND_ROWS: Final = 512
"""Items added up at a time: bounds the memory of the exact sum."""

_Saved = tuple[Floats, Doubles, Ints, Ints]


@dataclass(frozen=True, slots=True)
class Search:
    """Bounds of one search: ruin-and-recreate rounds and the seed of its choices."""

    iteration_count: int
    seed: int


class _Cards:
    """Groups under construction: what is free in them, their cost and members. Lives within one search."""

    def __init__(self, demand: Floats, replicas: Ints, capacity: Floats) -> None:
        items = len(demand)
        self.demand, self.replicas, self.capacity = demand, replicas, capacity
        self.weight = (demand / capacity).mean(axis=1, dtype=np.float64)
        self.free = np.repeat(capacity[None, :], items, axis=0)
        self.fill = np.zeros(items)
        self.cost = np.zeros(items, np.int64)
        self.label = np.full(items, -1, np.int64)
        self.count = 0

    def score(self) -> tuple[int, float]:
        """Less is better: cards, then unevenly filled groups before even ones, since a nearly empty one can go."""
        return int(self.cost[: self.count].sum()), -float((self.fill[: self.count] ** 2).sum())

    def save(self) -> _Saved:
        used = self.count
        return self.free[:used].copy(), self.fill[:used].copy(), self.cost[:used].copy(), self.label.copy()

    def restore(self, saved: _Saved) -> None:
        free, fill, cost, label = saved
        self.count = len(cost)
        self.free[: self.count], self.fill[: self.count], self.cost[: self.count] = free, fill, cost
        self.label[:] = label

    def place(self, item: int) -> None:
        """Into the feasible group that costs least more, among those the fullest; else into a new group."""
        fits = np.flatnonzero((self.free[: self.count] >= self.demand[item]).all(axis=1))
        group = self.count
        if fits.size:
            extra = np.maximum(self.replicas[item] - self.cost[fits], 0)
            if extra.min() < self.replicas[item]:
                fits = fits[extra == extra.min()]
                group = int(fits[np.argmax(self.fill[fits])])
        if group == self.count:
            self.free[group], self.fill[group], self.cost[group] = self.capacity, 0.0, 0
            self.count += 1
        self.label[item] = group
        self.free[group] -= self.demand[item]
        self.fill[group] += self.weight[item]
        self.cost[group] = max(self.cost[group], self.replicas[item])

    def ruin(self, groups: Ints) -> Ints:
        """Take the groups apart and close the gaps; returns the items that lost their place."""
        loose = np.flatnonzero(np.isin(self.label, groups))
        keep = np.setdiff1d(np.arange(self.count), groups)
        renumber = np.full(self.count, -1, np.int64)
        renumber[keep] = np.arange(len(keep))
        self.free[: len(keep)] = self.free[keep]
        self.fill[: len(keep)] = self.fill[keep]
        self.cost[: len(keep)] = self.cost[keep]
        self.label = renumber[self.label]
        self.count = len(keep)
        return loose


def pack(demand: Floats, replicas: Ints, capacity: Floats, *, search: Search) -> Ints:
    """Group of each item, [items], numbered from 0: first-fit decreasing, then ruin and recreate.

    ``demand`` [items, rows], ``replicas`` [items] >= 1, ``capacity`` [rows]. Every single item must fit alone: raises
    ValueError if one does not. Ends after ``search.iteration_count`` rounds or at :func:`lower_bound`.
    """
    if (demand > capacity).any():
        raise ValueError("an item exceeds the capacity alone")
    cards = _Cards(demand, replicas, capacity)
    size = (demand / capacity).max(axis=1)
    for item in np.lexsort((-size, -replicas)):
        cards.place(int(item))
    least = lower_bound(demand, replicas, capacity)
    random = np.random.default_rng(search.seed)
    best = cards.score()
    for _ in range(search.iteration_count):
        if best[0] <= least or cards.count < 2:
            break
        saved = cards.save()
        loose = cards.ruin(_victims(cards, random))
        noise = random.uniform(1 - _ORDER_NOISE, 1 + _ORDER_NOISE, len(loose))
        for item in loose[np.lexsort((-size[loose] * noise, -replicas[loose]))]:
            cards.place(int(item))
        score = cards.score()
        if score <= best:
            best = score
        else:
            cards.restore(saved)
    return cards.label


def _victims(cards: _Cards, random: np.random.Generator) -> Ints:
    """Groups to take apart: the emptier the likelier."""
    count = int(random.integers(1, min(_RUIN_GROUP_COUNT_MAX, cards.count - 1) + 1)) + 1
    emptiness = 1.05 * cards.fill[: cards.count].max() - cards.fill[: cards.count]
    return random.choice(cards.count, size=min(count, cards.count), replace=False, p=emptiness / emptiness.sum())


def lower_bound(demand: Floats, replicas: Ints, capacity: Floats) -> int:
    """Cards that no packing can go below: the fullest row over all replicas, and the most replicas of one item.

    Written apart from the search on purpose: it shares no code with what it judges.
    """
    if len(demand) == 0:
        return 0
    total = np.zeros(demand.shape[1])
    for start in range(0, len(demand), _BOUND_ROWS):
        part = slice(start, start + _BOUND_ROWS)
        total += (replicas[part, None].astype(np.float64) * demand[part]).sum(axis=0)
    by_row = np.ceil(total / capacity.astype(np.float64) - 1e-9)
    return max(int(by_row.max()), int(replicas.max()))


def loads(demand: Floats, label: Ints, *, group_count: int) -> Floats:
    """Sum of the members' rows per group, [group_count, rows]."""
    total = np.zeros((group_count, demand.shape[1]), np.float32)
    np.add.at(total, label, demand)
    return total
