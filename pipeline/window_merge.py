"""Several series windows of one target to one: exact where they follow each other in time, else said not to be.

A label that is a fact of the row may change in mid-window, an exporter may begin to name a pod: then one series goes on
where the other ends. Greatest value, mean, count and rise add up exactly. A p95 does where its rank is the greatest
value; series that overlap in time add up only where both stand at the same value.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.rollup import TIME_BITS, Flags, Floats, Ints, Numbers

ROW: Final = np.dtype(
    [
        ("series", np.int32),
        ("column", np.int32),
        ("times", np.int32),
        ("count", np.int64),
        *((name, np.float64) for name in ("maximum", "mean", "p95", "first", "last", "rise")),
    ]
)
"""A series window: number of the series of ours, window as the grid counts, number of its list of sample times, how
many those are, aggregates in our unit."""

Rows = NDArray[Any]
"""Array of :data:`ROW`."""

P95_IS_GREATEST_BELOW: Final = 20
"""Of fewer values than this the nearest rank of 95 % is the last: ceil(0.95 x 19) = 19."""


@dataclass(frozen=True, slots=True)
class TimeLists:
    """Distinct lists of sample times, ms after the start of their window: list i is ``flat[start[i] : start[i+1]]``."""

    flat: Numbers
    start: Ints

    def lengths(self, lists: Numbers) -> Ints:
        """Number of times in each of some lists."""
        return self.start[lists + 1] - self.start[lists]

    def first(self, lists: Numbers) -> Numbers:
        """First time of each of some lists."""
        return self.flat[self.start[lists]]

    def last(self, lists: Numbers) -> Numbers:
        """Last time of each of some lists."""
        return self.flat[self.start[lists + 1] - 1]

    def times(self, lists: Numbers) -> Numbers:
        """The times of some lists, one list after the other."""
        lengths = self.lengths(lists)
        offset = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self.flat[np.arange(int(lengths.sum())) - offset + np.repeat(self.start[lists], lengths)]

    def contain(self, outer: Numbers, inner: Numbers) -> Flags:
        """Of each pair of lists, whether all times of the inner one are in the outer one."""
        contained: Flags = outer == inner
        pairs, number = np.unique(np.stack([outer[~contained], inner[~contained]]), axis=1, return_inverse=True)
        at = np.arange(pairs.shape[1], dtype=np.int64)
        keys = [(np.repeat(at, self.lengths(lists)) << TIME_BITS) | self.times(lists) for lists in pairs]
        missing = np.isin(keys[1], keys[0], invert=True)
        lacks = np.zeros(len(at), np.bool_)
        lacks[keys[1][missing] >> TIME_BITS] = True
        contained[~contained] = ~lacks[number.reshape(-1)]
        return contained


@dataclass(frozen=True, slots=True)
class Merged:
    """One row for each of ``cell``; ``exact`` = what its samples would give, ``p95_exact`` = so is the p95."""

    cell: Ints
    rows: Rows
    exact: Flags
    p95_exact: Flags


def step(before: Floats, after: Floats) -> Floats:
    """Rise from one value to the next; a fall is a reset, after which the counter rose from 0."""
    rise: Floats = np.where(after < before, after, after - before)
    return rise


def _constant(rows: Rows) -> Flags:
    """All values of the row are equal: a mean may differ from them by rounding, so it is not asked."""
    constant: Flags = (rows["rise"] == 0) & (rows["first"] == rows["last"]) & (rows["maximum"] == rows["first"])
    return constant


def merge(rows: Rows, cell: Ints, lists: TimeLists) -> Merged:
    """One row a cell, sorted by cell. ``cell`` is by row."""
    order = np.lexsort((lists.first(rows["times"]), cell))
    rows, cell = rows[order], cell[order]
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    sizes = np.diff(starts, append=len(cell))
    total = rows[starts]
    end = lists.last(total["times"])
    exact, p95_exact = np.ones((2, len(total)), np.bool_)
    same = _constant(total)
    for more in range(1, int(sizes.max(initial=1))):
        at = np.flatnonzero(sizes > more)
        following = rows[starts[at] + more]
        equal = same[at] & _constant(following) & (total["last"][at] == following["first"])
        apart = lists.first(following["times"]) > end[at]
        merged = _added(total[at], following)
        merged["rise"][~apart & equal] = 0.0
        merged["p95"][equal] = following["p95"][equal]
        exact[at] &= apart | equal
        p95_exact[at] &= equal | (merged["count"] < P95_IS_GREATEST_BELOW)
        later = lists.last(following["times"]) >= end[at]
        merged["last"] = np.where(later, following["last"], total["last"][at])
        total[at], same[at] = merged, equal
        end[at] = np.maximum(end[at], lists.last(following["times"]))
    for number in np.flatnonzero(sizes > 1).tolist():
        several = rows["times"][starts[number] : starts[number] + sizes[number]]
        total["count"][number] = len(np.unique(lists.times(several)))
    return Merged(cell[starts], total, exact, p95_exact)


def _added(rows: Rows, following: Rows) -> Rows:
    """Rows and those that follow them in time, as one."""
    result = rows.copy()
    count = rows["count"] + following["count"]
    result["count"] = count
    result["maximum"] = np.maximum(rows["maximum"], following["maximum"])
    result["mean"] = (rows["count"] * rows["mean"] + following["count"] * following["mean"]) / count
    # Of fewer than 20 values the p95 is the greatest; of more it is at least this.
    result["p95"] = np.maximum(rows["p95"], following["p95"])
    result["rise"] = rows["rise"] + step(rows["last"], following["first"]) + following["rise"]
    return result
