"""What of a body may be stored: reasons of refusal, the canonical form, and a slow checker that must agree."""

from collections import Counter

import pytest
from collector_bodies import (
    STALE_BITS,
    MalformedError,
    label,
    message,
    read_record,
    read_valid,
    sample,
    series,
    snappy,
    up,
    varint,
)
from cramjam import snappy as blocks
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contract.samples import CorruptRecord, RecordTooLarge
from collector.validation import BodyChecker, Checked, LabelLimits

NOW_MS = 1_000_000
LIMITS = LabelLimits(label_count_max=4, label_bytes_max=12)
CHECKER = BodyChecker(LIMITS, series_count_max=30, body_bytes_max=1 << 20)
UP = {"__name__": "up"}


def look_at(body: bytes) -> Checked:
    return CHECKER.check(snappy(body), timestamp_max_ms=NOW_MS)


def check(body: bytes) -> None:
    """Our checker and the slow one agree on what is kept, in canonical form, and on what is refused."""
    try:
        kept, refused = read_valid(body, LIMITS.label_count_max, LIMITS.label_bytes_max, NOW_MS)
    except MalformedError:
        with pytest.raises(CorruptRecord):
            look_at(body)
        return
    checked = look_at(body)
    assert (Counter(checked.refused), checked.sample_count) == (refused, len(kept))
    if not checked.block:
        assert kept == []
        return
    stored = bytes(blocks.decompress_raw(checked.block))
    assert read_record(stored) == kept
    # Canonical: looked at again it is stored as it is, and nothing is refused.
    again = look_at(stored)
    assert (again.block, again.refused) == (snappy(stored), {})
    if kept and not (checked.exemplar_count or checked.histogram_count):
        times = [timestamp for _, timestamp, _ in kept]
        assert (checked.timestamp_min_ms, checked.timestamp_max_ms) == (min(times), max(times))


names = st.sampled_from(
    [b"", b"__name__", b"__name__", b"a", b"b", b"c", b"9", b"a.b", b"a:b", b"\xff", b"x" * 12, b"x" * 13]
)
labels = st.one_of(
    st.builds(label, names, names),
    st.builds(lambda name, value: message(1, message(2, value) + message(1, name)), names, names),
    st.builds(lambda name: message(1, message(1, name) + message(7, b"")), names),
)
times = st.sampled_from([0, 1, NOW_MS, NOW_MS + 1, -1, -(1 << 63), (1 << 63) - 1])
contents = st.one_of(
    st.builds(sample, times, st.sampled_from([0, STALE_BITS])),
    st.builds(lambda time_ms: message(3, b"\x18" + varint(time_ms)), times),
    st.builds(lambda time_ms: message(4, b"\x78" + varint(time_ms)), times),
    st.just(message(9, b"unknown")),
)
good = st.builds(lambda number, time_ms: up(number, (time_ms, 1.0)), st.integers(0, 9), st.integers(0, NOW_MS))
wild = st.builds(lambda parts: message(1, b"".join(parts)), st.lists(st.one_of(labels, contents), max_size=7))
ordered = st.builds(
    lambda leading, rest: message(1, label("__name__", "a") + b"".join(leading + rest)),
    st.lists(labels, max_size=2),
    st.lists(contents, max_size=3),
)
bodies = st.builds(b"".join, st.lists(st.one_of(good, wild, ordered, st.just(message(3, b"help"))), max_size=6))


@settings(max_examples=500, deadline=None)
@given(bodies)
def test_agrees_with_the_slow_checker(body: bytes) -> None:
    check(body)


@settings(max_examples=300, deadline=None)
@given(bodies, st.integers(0, 1 << 12), st.integers(0, 255), st.integers(0, 2))
def test_agrees_on_mutated_bodies(body: bytes, place: int, byte: int, cut: int) -> None:
    mutated = bytearray(body or b"\x0a")
    mutated[place % len(mutated)] = byte
    check(bytes(mutated[: len(mutated) - cut]))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (series({"a": "b"}, (1, 1.0)), "metric_name_missing"),
        (series({"__name__": ""}, (1, 1.0)), "metric_name_missing"),
        (series({"__name__": "dotted.name"}, (1, 1.0)), "metric_name_invalid"),
        (series({"__name__": "1up"}, (1, 1.0)), "metric_name_invalid"),
        (series({**UP, "a:b": "c"}, (1, 1.0)), "label_name_invalid"),
        (message(1, label("__name__", "up") + label("a", b"\xc3(") + sample(1, 0)), "label_not_utf8"),
        (series({**UP, "a": ""}, (1, 1.0)), "label_empty"),
        (series({**UP, "": "a"}, (1, 1.0)), "label_empty"),
        (message(1, label("a", "1") + label("__name__", "up") + label("a", "2") + sample(1, 0)), "label_duplicate"),
        (series({**UP, "a": "1", "b": "1", "c": "1", "d": "1"}, (1, 1.0)), "labels_too_many"),
        (series({**UP, "a": "x" * 13}, (1, 1.0)), "label_too_long"),
        (series({**UP, "x" * 13: "a"}, (1, 1.0)), "label_too_long"),
        (series(UP, (NOW_MS + 1, 1.0)), "timestamp_in_future"),
        (series(UP), "no_samples"),
    ],
)
def test_a_refused_series_leaves_the_rest(body: bytes, reason: str) -> None:
    check(body)
    assert look_at(body).block == b""
    beside = up(1, (5, 1.0)) + body + up(2, (6, 2.0))
    checked = look_at(beside)
    assert checked.refused == {reason: 1}
    assert bytes(blocks.decompress_raw(checked.block)) == up(1, (5, 1.0)) + up(2, (6, 2.0))
    assert (checked.sample_count, checked.timestamp_min_ms, checked.timestamp_max_ms) == (2, 5, 6)


def test_refusals_count_samples() -> None:
    checked = look_at(
        series({"a": "b"}, (1, 1.0), (2, 1.0)) + series(UP, (3, 1.0), (NOW_MS + 1, 1.0), (NOW_MS + 2, 1.0))
    )
    assert checked.refused == {"metric_name_missing": 2, "timestamp_in_future": 2}
    assert checked.sample_count == 1


def test_valid_canonical_bodies_are_stored_as_they_came() -> None:
    block = snappy(up(1, (1, 1.0)) + message(3, b"help") + up(2, (2, 1.0)))
    checked = CHECKER.check(block, timestamp_max_ms=NOW_MS)
    assert checked.block is block
    assert checked.metadata_count == 1


def test_unsorted_labels_are_sorted_and_nothing_is_refused() -> None:
    checked = look_at(series({"b": "2", "__name__": "up", "a": "1"}, (1, 1.0)))
    assert checked.refused == {}
    assert bytes(blocks.decompress_raw(checked.block)) == series({"__name__": "up", "a": "1", "b": "2"}, (1, 1.0))


def test_equal_label_sets_become_equal_bytes() -> None:
    name_value = label("__name__", "up")
    plain = message(1, name_value + sample(1, 0))
    swapped = message(1, message(1, message(2, b"up") + message(1, b"__name__")) + sample(1, 0))
    late = message(1, sample(1, 0) + name_value)
    # The same length in two bytes instead of one: legal, and not the shortest way.
    long_length = message(1, b"\x0a" + bytes([name_value[1] | 0x80, 0]) + name_value[2:] + sample(1, 0))
    for body in (plain, swapped, late, long_length):
        assert bytes(blocks.decompress_raw(look_at(body).block)) == plain


def test_metadata_alone_is_nothing_to_store() -> None:
    checked = look_at(message(3, b"help"))
    assert (checked.block, checked.metadata_count, checked.refused) == (b"", 1, {})


def test_histograms_and_exemplars_are_kept() -> None:
    body = message(1, label("__name__", "up") + message(3, b"\x18\x07") + message(4, b"\x78\x09"))
    checked = look_at(body)
    assert bytes(blocks.decompress_raw(checked.block)) == body
    assert (checked.exemplar_count, checked.histogram_count, checked.sample_count) == (1, 1, 0)
    assert (checked.timestamp_min_ms, checked.timestamp_max_ms) == (7, 9)


def test_cache_that_is_full_costs_nothing_but_time() -> None:
    body = b"".join(up(number, (1, 1.0)) for number in range(200))
    assert CHECKER.check(snappy(body), timestamp_max_ms=NOW_MS).sample_count == 200
    check(body)


def test_declared_size_is_checked_before_memory_is_taken() -> None:
    with pytest.raises(RecordTooLarge):
        CHECKER.check(varint(1 << 31), timestamp_max_ms=NOW_MS)
