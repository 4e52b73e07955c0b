"""Packing: feasible and reproducible on anything, never below the bound, and both against exhaustive search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.packing import Search, loads, lower_bound, pack

SEARCH = Search(iteration_count=30, seed=1)


def partitions(items: list[int]) -> list[list[list[int]]]:
    """All ways to part the items into groups."""
    if not items:
        return [[]]
    first, rest = items[0], items[1:]
    found = []
    for part in partitions(rest):
        found.append([[first], *part])
        found += [[*part[:at], [first, *part[at]], *part[at + 1 :]] for at in range(len(part))]
    return found


def cost_of(part: list[list[int]], replicas: np.ndarray) -> int:
    return sum(max(int(replicas[item]) for item in group) for group in part)


def cheapest(demand: np.ndarray, replicas: np.ndarray, capacity: np.ndarray) -> int:
    """By trying everything: shares no code with the search or the bound."""
    return min(
        cost_of(part, replicas)
        for part in partitions(list(range(len(demand))))
        if all((demand[group].sum(axis=0) <= capacity).all() for group in part)
    )


def instance(seed: int, items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    demand = random.integers(0, 60, (items, 4)).astype(np.float32)
    return demand, random.integers(1, 4, items), np.array([80, 80, 70, 100], np.float32)


@pytest.mark.parametrize("seed", range(12))
def test_bound_below_optimum_below_search(seed: int) -> None:
    demand, replicas, capacity = instance(seed, 7 if seed < 4 else 6)
    best = cheapest(demand, replicas, capacity)
    label = pack(demand, replicas, capacity, search=Search(200, seed))
    found = sum(int(replicas[label == number].max()) for number in range(int(label.max()) + 1))
    assert lower_bound(demand, replicas, capacity) <= best <= found
    assert found == best, "200 rounds find the optimum of so few items"


def test_bound_counts_replicas_and_the_fullest_row() -> None:
    demand = np.array([[50, 0], [50, 10]], np.float32)
    capacity = np.array([80, 80], np.float32)
    assert lower_bound(demand, np.array([1, 1]), capacity) == 2
    assert lower_bound(demand[:, 1:], np.array([5, 1]), capacity[1:]) == 5
    assert lower_bound(demand[:0], np.array([], np.int64), capacity) == 0


def test_complementary_peaks_share_a_card() -> None:
    day, night = [60.0, 10.0], [10.0, 60.0]
    demand = np.array([day, night, day, night], np.float32)
    label = pack(demand, np.ones(4, np.int64), np.array([80, 80], np.float32), search=SEARCH)
    assert sorted(np.bincount(label)) == [2, 2]
    assert {label[0], label[2]} == {label[1], label[3]}


def test_a_group_costs_its_most_replicas() -> None:
    """Two of three replicas each ride for free beside three of the first; a fourth card would be one too many."""
    demand = np.full((3, 1), 20, np.float32)
    label = pack(demand, np.array([3, 2, 3]), np.array([80], np.float32), search=SEARCH)
    assert set(label) == {0}


def test_an_item_beyond_a_card_is_an_error() -> None:
    with pytest.raises(ValueError, match="exceeds the capacity alone"):
        pack(np.array([[81]], np.float32), np.array([1]), np.array([80], np.float32), search=SEARCH)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 25),
    st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_every_packing_is_whole_feasible_and_the_same_twice(seed: int, items: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    demand = random.integers(0, 81, (items, rows)).astype(np.float32)
    replicas = random.integers(1, 5, items)
    capacity = np.full(rows, 80, np.float32)
    label = pack(demand, replicas, capacity, search=SEARCH)
    groups = int(label.max()) + 1
    assert set(label) == set(range(groups)), "every item has a group and no group is empty"
    assert (loads(demand, label, group_count=groups) <= capacity).all()
    cost = sum(int(replicas[label == number].max()) for number in range(groups))
    assert lower_bound(demand, replicas, capacity) <= cost <= int(replicas.sum())
    assert (label == pack(demand, replicas, capacity, search=SEARCH)).all()
