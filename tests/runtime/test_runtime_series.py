"""Rows to samples: which series, which values, which ends."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from egpu_runtime.contract.metrics import CARD_LABELS, CONTAINER_LABELS
from egpu_runtime.fleet.series import SeriesTable, is_stale, samples_of, whole_moments
from egpu_runtime.fleet.trace import Container, Rows, Trace

NAN = float("nan")


def container(pod: str = "p", gpu: str = "g", node: str = "n", tenant: str = "t") -> Container:
    return Container("c", node, gpu, "A100", tenant, "ns", "Deployment", "w", pod, f"uid-{pod}", "main", "0")


def trace(containers: Sequence[Container], *rows: tuple[int, int, float, float], end_ms: Sequence[int]) -> Trace:
    """Rows are (time, container, memory used, core used); cards have 100 bytes, quotas are 40 bytes and 0.5."""
    time_ms, number, memory, core = (list(column) for column in zip(*rows, strict=True))
    count = len(rows)
    built = Rows(
        np.array(time_ms, np.int64),
        np.array(number, np.int64),
        np.full(count, 100.0),
        np.full(count, 40.0),
        np.full(count, 0.5),
        np.array(memory, np.float64),
        np.array(core, np.float64),
    )
    ends = np.array(end_ms, np.int64)
    return Trace(
        tuple(containers), ends, time_ms[0], time_ms[-1], count, lambda: (built.part(i, i + 1) for i in range(count))
    )


def told(given: Trace) -> dict[int, dict[str, float | str]]:
    """Time -> short series name -> value, stale markers as the word."""
    table = SeriesTable(given.containers)
    found: dict[int, dict[str, float | str]] = {}
    for piece in samples_of(given, table):
        for time_ms, series, value, stale in zip(
            piece.timestamp_ms, piece.series, piece.value, is_stale(piece.value), strict=True
        ):
            labels = table.labels[series]
            who = labels.get("pod", labels["gpu_uuid"])
            name = table.names[series].removeprefix("egpu_")
            at = found.setdefault(int(time_ms), {})
            assert f"{who} {name}" not in at
            at[f"{who} {name}"] = "stale" if stale else float(value)
    return found


def test_one_container_gives_its_series_and_its_cards() -> None:
    assert told(trace([container()], (10, 0, 30.0, 0.2), end_ms=[20])) == {
        10: {
            "p container_memory_quota_bytes": 40,
            "p container_core_quota_ratio": 0.5,
            "p container_memory_used_bytes": 30,
            "p container_core_used_ratio": 0.2,
            "p scheduler_container_memory_allocated_bytes": 40,
            "p scheduler_container_core_allocated_ratio": 0.5,
            "g gpu_memory_total_bytes": 100,
            "g gpu_memory_used_bytes": 30,
            "g gpu_utilization_ratio": 0.2,
            "g scheduler_gpu_memory_allocated_bytes": 40,
        },
        20: {
            "p container_memory_quota_bytes": "stale",
            "p container_core_quota_ratio": "stale",
            "p container_memory_used_bytes": "stale",
            "p container_core_used_ratio": "stale",
            "p scheduler_container_memory_allocated_bytes": "stale",
            "p scheduler_container_core_allocated_ratio": "stale",
        },
    }


def test_a_card_adds_its_containers_up_and_is_never_busier_than_all_of_it() -> None:
    at = told(trace([container("a"), container("b")], (10, 0, 30, 0.7), (10, 1, 20, 0.6), end_ms=[20, 20]))[10]
    assert at["g gpu_memory_used_bytes"] == 50
    assert at["g gpu_utilization_ratio"] == 1.0
    assert at["g scheduler_gpu_memory_allocated_bytes"] == 80


def test_use_of_one_container_unknown_leaves_its_use_and_the_cards_out() -> None:
    at = told(trace([container("a"), container("b")], (10, 0, 30, 0.7), (10, 1, NAN, NAN), end_ms=[20, 20]))[10]
    assert at["a container_memory_used_bytes"] == 30
    assert at["b container_memory_quota_bytes"] == 40  # the agent of the node is alive
    assert "b container_memory_used_bytes" not in at
    assert "g gpu_memory_used_bytes" not in at
    assert at["g gpu_memory_total_bytes"] == 100


def test_a_node_without_any_use_has_a_silent_agent() -> None:
    who = [container("a", "g1", "n1"), container("b", "g2", "n2")]
    at = told(trace(who, (10, 0, NAN, NAN), (10, 1, 20, 0.6), end_ms=[20, 20]))[10]
    assert [name for name in at if name[0] == "a"] == [
        "a scheduler_container_memory_allocated_bytes",
        "a scheduler_container_core_allocated_ratio",
    ]
    assert [name for name in at if name.startswith("g1")] == ["g1 scheduler_gpu_memory_allocated_bytes"]
    assert at["g2 gpu_memory_used_bytes"] == 20


def test_gap_inside_is_no_end_and_only_series_that_were_sent_end() -> None:
    given = trace([container()], (10, 0, NAN, NAN), (20, 0, NAN, NAN), (90, 0, NAN, NAN), end_ms=[100])
    found = told(given)
    assert sorted(found) == [10, 20, 90, 100]
    assert found[100] == {
        "p scheduler_container_memory_allocated_bytes": "stale",
        "p scheduler_container_core_allocated_ratio": "stale",
    }


def test_an_end_between_two_rows_of_others_keeps_time_order() -> None:
    who = [container("a"), container("b", "g2")]
    given = trace(who, (10, 0, 1, 0), (10, 1, 1, 0), (30, 1, 1, 0), (50, 1, 1, 0), end_ms=[20, 60])
    table = SeriesTable(who)
    times = np.concatenate([piece.timestamp_ms for piece in samples_of(given, table)])
    assert np.all(np.diff(times) >= 0)
    assert sorted(told(given)) == [10, 20, 30, 50, 60]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_cutting_into_chunks_changes_no_moment(size: int) -> None:
    given = trace(
        [container(str(i)) for i in range(3)], *((t, i, 1, 0) for t in range(9) for i in range(3)), end_ms=[9] * 3
    )
    rows = Rows.joined(list(given.chunks()))
    pieces = list(whole_moments(rows.part(start, start + size) for start in range(0, len(rows), size)))
    assert np.array_equal(Rows.joined(pieces).timestamp_ms, rows.timestamp_ms)
    assert all(before.timestamp_ms[-1] < after.timestamp_ms[0] for before, after in itertools.pairwise(pieces))


def test_labels_are_those_of_the_metric_table_and_of_the_scrape() -> None:
    table = SeriesTable([container(), container("q", tenant="")])
    agent, scheduler = dict(table.scraped_labels(0)), dict(table.scraped_labels(5))
    assert set(agent) == {*CONTAINER_LABELS, "__name__", "job", "instance"}
    assert (agent["job"], agent["instance"]) == ("egpu-agent", "n")
    assert (scheduler["job"], scheduler["instance"]) == ("egpu-scheduler", "n")
    assert "tenant" not in dict(table.scraped_labels(6))  # an empty label is no label
    assert set(dict(table.scraped_labels(table.first_card_series))) == {*CARD_LABELS, "__name__", "job", "instance"}
    assert all(labels == sorted(labels) for labels in map(table.scraped_labels, range(len(table))))
