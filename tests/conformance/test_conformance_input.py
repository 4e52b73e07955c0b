"""The input is what it claims to be, and the comparison finds what differs."""

import copy
import struct
from collections import Counter

import pytest
from conformance_input import STALE, Scrape, Way, phases, scrapes
from conformance_rows import COMPARED, Rows, differences

from collector.contract.samples import SampleDecoder
from egpu_runtime.contract.exporters import ALIASES
from egpu_runtime.contract.metrics import METRICS
from pipeline.contract.tables import TABLE_BY_NAME


@pytest.fixture(scope="module")
def given() -> list[Scrape]:
    return scrapes(1, hours=1)


def test_every_series_of_the_contract_is_in_it(given: list[Scrape]) -> None:
    names = {dict(sample.series)["__name__"] for scrape in given for sample in scrape.samples}
    assert {metric.name for metric in METRICS} | {alias.name for alias in ALIASES} <= names
    assert "node_cpu_seconds_total" in names


def test_it_holds_what_goes_wrong(given: list[Scrape]) -> None:
    values = Counter(sample.value for scrape in given for sample in scrape.samples)
    assert values[STALE] > 100
    assert values[struct.pack("<d", float("nan"))] > 10
    assert values[struct.pack("<d", float("inf"))] > 10
    bodies = [body for phase in phases(given, Way()) for body in phase]
    assert len(bodies) - len(set(bodies)) > 5, "no body comes twice"


def test_the_samples_do_not_depend_on_their_way(given: list[Scrape]) -> None:
    assert given == scrapes(1, hours=1)
    assert given != scrapes(2, hours=1)
    part = given[: len(given) // 3]
    expected = {(sample.series, sample.time_ms, sample.value) for scrape in part for sample in scrape.samples}
    one, other = phases(part, Way(seed=1)), phases(part, Way(seed=2, late_share=0.2, behind_ms={"south": 7_200_000}))
    assert one != other
    for way in (one, other):
        assert _decoded([body for phase in way for body in phase]) == expected


def _decoded(bodies: list[bytes]) -> set[tuple[tuple[tuple[str, str], ...], int, bytes]]:
    decoder = SampleDecoder()
    found = set()
    for body in bodies:
        samples = decoder.decode(body)
        for number, time_ms, value in zip(samples.series, samples.timestamp_ms, samples.value, strict=True):
            labels = tuple(sorted(decoder.labels(int(number))))
            found.add((labels, int(time_ms), struct.pack("<d", value)))
    return found


def _rows() -> Rows:
    container = {
        "cluster": "c",
        "node": "n",
        "gpu_uuid": "g",
        "namespace": "s",
        "pod": "p",
        "pod_uid": "u",
        "container": "c",
        "window_start_ms": 0,
        "dt": "1970-01-01",
        "hour": "00",
    }
    return {name: [_full(name, container)] for name in COMPARED}


def _full(name: str, given: dict[str, object]) -> dict[str, object]:
    table = TABLE_BY_NAME[name]
    empty = {column.name: [1.0] * 24 if column.type.startswith("ARRAY") else 1.0 for column in table.columns}
    return {**empty, **dict.fromkeys(table.partitions, "x"), **given}


@pytest.mark.parametrize(
    ("column", "value", "differs"),
    [
        ("memory_used_bytes_max", 1.0 + 1e-12, True),
        ("memory_used_bytes_mean", 1.0 + 1e-12, False),
        ("memory_used_bytes_mean", 1.0 + 1e-6, True),
        ("memory_used_bytes_mean", None, True),
        ("workload", "other", True),
        ("pod", "other", True),
        ("hour", "01", True),
        ("sample_count", 1, True),
    ],
)
def test_the_comparison_finds_what_differs(column: str, value: object, differs: bool) -> None:
    expected = _rows()
    actual = copy.deepcopy(expected)
    actual["container_usage_5m"][0][column] = value
    assert bool(differences(expected, actual)) is differs


def test_rows_that_are_there_twice_or_not_at_all_are_found() -> None:
    expected = _rows()
    for name in COMPARED:
        missing, twice = copy.deepcopy(expected), copy.deepcopy(expected)
        missing[name].clear()
        twice[name].append(twice[name][0])
        assert differences(expected, missing)
        assert differences(expected, twice)
