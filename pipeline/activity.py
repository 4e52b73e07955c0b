"""Whether the exporter that would have reported a container was heard on its node: silence is not idleness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from egpu_runtime.contract.exporters import AGENT, HAMI_MONITOR, SCHEDULER
from pipeline.columns import greatest_by_row
from pipeline.rollup import Flags, Floats, Ints, Numbers, RolledUp, Windows
from pipeline.targets import RowSubject, Target

USE_SOURCES: Final = (AGENT, HAMI_MONITOR)
"""Exporters that report use per container, ours first. dcgm-exporter is none: its silence about a pod may be a failed
mapping of cards to pods, so it never makes a zero."""

_NUMBER: Final[Mapping[str, int]] = {source.name: index for index, source in enumerate(USE_SOURCES)}
_EXPECTED: Final[Mapping[bool, tuple[int, ...]]] = {True: (0, 1), False: (1, 0)}
"""Order of expectation by whether our scheduler knows the container; other schedulers go with HAMi's monitor."""

Node = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Activity:
    """``active`` = (source, node, window): the source gave any series for the node; ``group_of_target`` = node x
    sources + source, -1 where the target is not of a use source."""

    node_numbers: Mapping[Node, int]
    active: Flags
    group_of_target: Numbers


def activity(targets: Sequence[Target], windows: Windows, *, node_of: Mapping[RowSubject, Sequence[Node]]) -> Activity:
    """Where the use sources were heard. ``node_of`` = (cluster, node) of each row by subject."""
    nodes = {node: index for index, node in enumerate(sorted({node for rows in node_of.values() for node in rows}))}
    group = np.full(len(targets), -1, np.int32)
    for index, target in enumerate(targets):
        source = _NUMBER.get(target.source)
        if source is not None:
            group[index] = nodes[node_of[target.subject][target.row]] * len(USE_SOURCES) + source
    known = group >= 0
    heard = (windows.count[known, 1:] > 0).astype(np.int64)
    by_group = greatest_by_row(heard, group[known], row_count=len(nodes) * len(USE_SOURCES))
    active: Flags = np.greater(by_group.reshape(len(nodes), len(USE_SOURCES), heard.shape[1]).transpose(1, 0, 2), 0)
    return Activity(nodes, active, group)


@dataclass(frozen=True, slots=True)
class Reporter:
    """For each row its node's number and the use source that reports it, -1 = none was heard in the hour."""

    node: Numbers
    source: Numbers


def reporters(nodes: Sequence[Node], known_by: Sequence[frozenset[str]], *, heard: Activity) -> Reporter:
    """The use source of each row: the one that reports it, else the one that goes with who knows it.

    ``nodes`` and ``known_by`` (names of sources) are by row.
    """
    node = np.array([heard.node_numbers[each] for each in nodes], np.int32)
    ever: Flags = np.any(heard.active, axis=2)
    source = np.full(len(nodes), -1, np.int32)
    for row, sources in enumerate(known_by):
        reporting = [number for name, number in _NUMBER.items() if name in sources]
        expected = [number for number in _EXPECTED[SCHEDULER.name in sources] if ever[number, node[row]]]
        source[row] = next(iter((*reporting, *expected)), -1)
    return Reporter(node, source)


def may_be_zero(reporter: Reporter, present: Flags, *, heard: Activity) -> Flags:
    """(row, window): absent use means none. ``present`` = (source, row, window): the source named the container.

    The reporter was heard on the node, and either it did not name the container or its silence is said to mean zero.
    """
    known = reporter.source >= 0
    rows = np.arange(len(reporter.source))
    source = np.maximum(reporter.source, 0)
    active = heard.active[source, reporter.node]
    zero_when_named = np.array([each.silence == "zero" for each in USE_SOURCES])[source]
    result: Flags = known[:, None] & active & (~present[source, rows] | zero_when_named[:, None])
    return result


def observed_of_reporter(measured: RolledUp, reporter: Reporter, *, wanted: Flags, heard: Activity) -> Ints:
    """Distinct sample times of each row's reporter on its node, by window, where ``wanted``; else 0."""
    counts: Ints = np.zeros(wanted.shape, np.int64)
    rows = np.flatnonzero(wanted.any(axis=1))
    if not len(rows):
        return counts
    groups = reporter.node[rows] * len(USE_SOURCES) + reporter.source[rows]
    needed, number = np.unique(groups, return_inverse=True)
    renumber = np.full(len(heard.node_numbers) * len(USE_SOURCES) + 1, -1, np.int32)
    renumber[needed] = np.arange(len(needed), dtype=np.int32)
    # Index -1 (no use source) reads the last entry, which stays -1.
    times = measured.distinct_times(renumber[heard.group_of_target], group_count=len(needed))
    counts[rows] = times[number, 1:]
    counts[~wanted] = 0
    return counts


def observed_ratio(count: Ints, observed_by_sample: float) -> Floats:
    """Distinct sample times as a share of the window, at most 1."""
    ratio: Floats = np.minimum(count * observed_by_sample, 1.0)
    return ratio
