"""Which partition a series belongs to, and bodies cut by partition."""

from collections.abc import Mapping

import numpy as np
import pytest
from collector_bodies import Labels, message, read_record, series, snappy, up
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contract.samples import CorruptRecord
from collector.partitioning import BodySplitter, Part, SeriesTooLarge, partition_key, partition_of
from collector.validation import BodyChecker, LabelLimits
from egpu_runtime.contract.exporters import ALIASES
from egpu_runtime.contract.metrics import METRICS

POD = {"cluster": "a", "namespace": "inference", "pod": "tts-0"}


def check(labels: Mapping[str, str], expected: bytes) -> None:
    assert partition_key(labels.items()) == expected


def array(body: bytes) -> np.ndarray:
    return np.frombuffer(body, np.uint8)


def checker_of(series_count_max: int) -> BodyChecker:
    return BodyChecker(LabelLimits(100, 100), series_count_max=series_count_max, body_bytes_max=1 << 20)


def cut(
    body: bytes, partition_count: int, *, record_bytes_max: int = 1 << 20, series_count_max: int = 1000
) -> list[Part]:
    splitter = BodySplitter(checker_of(series_count_max), partition_count)
    return splitter.split(array(body), record_bytes_max=record_bytes_max)


# ---- which partition ----


@pytest.mark.parametrize(
    "labels",
    [
        {"__name__": "egpu_container_memory_used_bytes", **POD, "gpu_uuid": "GPU-1", "container": "main"},
        {"__name__": "egpu_scheduler_container_memory_allocated_bytes", **POD, "node": "n"},
        # Prometheus renames a target's own labels when honor_labels is off; what it adds is of the exporter's own pod.
        {
            "__name__": "DCGM_FI_DEV_FB_USED",
            **POD,
            "exported_pod": "tts-0",
            "exported_namespace": "inference",
            "namespace": "monitoring",
            "pod": "dcgm-exporter-x",
            "UUID": "GPU-1",
        },
        {"__name__": "hami_vgpu_memory_used_bytes", "cluster": "a", "podname": "tts-0", "podnamespace": "inference"},
        {
            "__name__": "vGPU_device_memory_usage_in_bytes",
            "cluster": "a",
            "podnamespace": "inference",
            "podname": "tts-0",
        },
        {"__name__": "kube_pod_info", **POD, "uid": "1", "node": "n"},
        {"__name__": "kube_pod_owner", **POD, "owner_kind": "ReplicaSet", "owner_name": "tts"},
        {"__name__": "some_unknown_metric", **POD, "exported_pod": ""},
    ],
)
def test_all_that_is_told_of_a_pod_meets_in_one_partition(labels: Mapping[str, str]) -> None:
    check(labels, b"a\0inference\0tts-0")


@pytest.mark.parametrize(
    "labels",
    [
        {"__name__": "egpu_gpu_memory_used_bytes", "cluster": "a", "node": "n1", "gpu_uuid": "GPU-1"},
        {"__name__": "DCGM_FI_DEV_GPU_UTIL", "cluster": "a", "Hostname": "n1", "UUID": "GPU-1", "instance": "x:9400"},
        {"__name__": "hami_host_gpu_memory_used_bytes", "cluster": "a", "nodeid": "n1", "deviceuuid": "GPU-1"},
        {"__name__": "volcano_vgpu_device_memory_limit", "cluster": "a", "NodeName": "n1", "devID": "GPU-1"},
    ],
)
def test_a_card_without_a_pod_goes_by_cluster_node_and_card(labels: Mapping[str, str]) -> None:
    check(labels, b"a\0n1\0GPU-1")


def test_the_rest_goes_by_all_its_labels() -> None:
    check({"job": "x", "__name__": "up", "instance": "h:1"}, b"__name__\0up\0instance\0h:1\0job\0x")
    check({"__name__": "kube_replicaset_owner", "replicaset": "r"}, b"__name__\0kube_replicaset_owner\0replicaset\0r")


def test_a_volcano_pod_has_no_namespace() -> None:
    name = "volcano_vgpu_device_memory_allocation_for_a_certain_pod"
    check({"__name__": name, "cluster": "a", "podName": "tts-0", "namespace": "volcano-system"}, b"a\0\0tts-0")


def test_partitions_are_these_for_good() -> None:
    """Another number here moves the series of every running cluster."""
    found = [partition_of([("__name__", "up"), ("pod", f"p-{number}")], 12) for number in range(12)]
    assert found == [10, 3, 9, 1, 4, 0, 7, 1, 6, 5, 10, 8]


def test_rows_of_one_metric_name_share_their_exporter() -> None:
    sources: dict[str, str] = {}
    for alias in ALIASES:
        assert sources.setdefault(alias.name, alias.source.name) == alias.source.name
    assert not set(sources) & {metric.name for metric in METRICS}


def test_series_spread_evenly() -> None:
    counts = np.bincount(
        [partition_of([("__name__", "up"), ("pod", f"p-{number}")], 8) for number in range(4000)], minlength=8
    )
    assert counts.min() > 400
    assert counts.max() < 600


# ---- bodies ----


def samples_by_partition(parts: list[Part]) -> dict[int, list[tuple[Labels, int, int]]]:
    found: dict[int, list[tuple[Labels, int, int]]] = {}
    for part in parts:
        samples = read_record(part.value.tobytes())
        assert len(samples) == part.sample_count
        found.setdefault(part.partition, []).extend(samples)
    return found


names = st.text("abcdefgh", min_size=1, max_size=6)
points = st.lists(st.tuples(st.integers(0, 10**12), st.floats(allow_nan=False)), min_size=1, max_size=4)
bodies = st.lists(
    st.builds(lambda pod, job, at: series({"__name__": "up", "job": job, "pod": pod}, *at), names, names, points),
    min_size=1,
    max_size=30,
).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(bodies, st.integers(1, 9), st.integers(200, 2000))
def test_records_hold_the_samples_of_the_body_each_where_it_belongs(body: bytes, count: int, bytes_max: int) -> None:
    parts = cut(body, count, record_bytes_max=bytes_max)
    assert all(len(part.value) <= bytes_max for part in parts)
    expected: dict[int, list[tuple[Labels, int, int]]] = {}
    for one in read_record(body):
        expected.setdefault(partition_of(one[0], count), []).append(one)
    assert samples_by_partition(parts) == expected


def test_one_partition_keeps_every_byte() -> None:
    body = b"".join(up(number, (1, 1.0), (2, 2.0)) for number in range(50))
    (part,) = cut(body, 1)
    assert (part.partition, part.sample_count, part.value.tobytes()) == (0, 100, body)


def test_metadata_is_left_out() -> None:
    body = message(3, b"\x08\x01") + up(1, (1, 1.0)) + message(3, b"\x08\x02")
    (part,) = cut(body, 4)
    assert part.value.tobytes() == up(1, (1, 1.0))


def test_a_record_is_cut_where_it_would_grow_too_large() -> None:
    one = up(1, (1, 1.0))
    assert [len(part.value) for part in cut(10 * one, 1, record_bytes_max=3 * len(one))] == [3 * len(one)] * 3 + [
        len(one)
    ]


def test_a_series_larger_than_a_record_is_refused() -> None:
    with pytest.raises(SeriesTooLarge, match="one series holds more than 100 bytes"):
        cut(up(1, *((at, 1.0) for at in range(50))), 2, record_bytes_max=100)


def test_more_records_than_foreseen_are_all_told() -> None:
    body = b"".join(up(number, (1, 1.0)) for number in range(700))
    assert len(cut(body, 2, record_bytes_max=len(up(999, (1, 1.0))))) == 700


def test_bytes_that_are_no_body_are_refused() -> None:
    with pytest.raises(CorruptRecord):
        cut(b"\x0a\x7f", 2)


def test_a_full_cache_is_emptied_and_nothing_changes() -> None:
    """The cache has room for any one body, so this takes several."""
    checker = checker_of(25)
    splitter = BodySplitter(checker, 5)
    for round_number in range(40):
        body = b"".join(up(10 * round_number + number, (1, 1.0)) for number in range(10))
        if round_number % 3:  # the checker empties the cache as well
            checker.check(snappy(body), timestamp_max_ms=10)
        for part in splitter.split(array(body), record_bytes_max=1600):
            for labels, _, _ in read_record(part.value.tobytes()):
                assert partition_of(labels, 5) == part.partition


def test_a_buffer_is_used_again() -> None:
    splitter = BodySplitter(checker_of(10), 1)
    (first,) = splitter.split(array(up(1, (1, 1.0))), record_bytes_max=1000)
    (second,) = splitter.split(array(up(2, (1, 1.0))), record_bytes_max=1000)
    assert first.value.tobytes() == second.value.tobytes() == up(2, (1, 1.0))
