"""The decoder of log records against a slow reader of its own, its limits and its speed."""

import struct
import time

import numpy as np
import pytest
from collector_bodies import (
    STALE_BITS,
    MalformedError,
    label,
    message,
    read_record,
    sample,
    series,
    snappy,
    up,
    varint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.contract.samples import CorruptRecord, RecordTooLarge, SampleDecoder

DECODER = SampleDecoder(series_count_max=50, body_bytes_max=1 << 20)

names = st.sampled_from(["", "__name__", "a", "node", "ä", "\U0001f600"])
blobs = st.binary(max_size=6)
unknown_fields = st.one_of(
    st.builds(lambda number, value: varint(number << 3) + varint(value), st.integers(5, 999), st.integers(0, 1 << 64)),
    st.builds(lambda number, value: message(number, value), st.integers(5, 999), blobs),
    st.builds(lambda number: varint(number << 3 | 5) + b"abcd", st.integers(5, 999)),
    st.builds(lambda number: varint(number << 3 | 1) + b"abcdefgh", st.integers(5, 999)),
)
label_parts = st.one_of(
    st.builds(lambda text: message(1, text.encode()), names),
    st.builds(lambda text: message(2, text.encode()), names),
    unknown_fields,
)
sample_parts = st.one_of(
    st.builds(lambda bits: b"\x09" + struct.pack("<Q", bits), st.integers(0, (1 << 64) - 1)),
    st.builds(lambda time_ms: b"\x10" + varint(time_ms), st.integers(-(1 << 63), (1 << 63) - 1)),
    unknown_fields,
)
labels = st.one_of(
    st.builds(label, names, names), st.builds(lambda parts: message(1, b"".join(parts)), st.lists(label_parts))
)
contents = st.one_of(
    st.builds(lambda parts: message(2, b"".join(parts)), st.lists(sample_parts)),
    st.builds(sample, st.integers(0, 1 << 41), st.just(STALE_BITS)),
    st.builds(lambda content: message(3, content), blobs),
    st.builds(lambda content: message(4, content), blobs),
    unknown_fields,
)
time_series = st.builds(
    lambda leading, rest: message(1, b"".join(leading + rest)), st.lists(labels, max_size=4), st.lists(contents)
)
bodies = st.builds(b"".join, st.lists(st.one_of(time_series, unknown_fields, st.just(message(3, b"x")))))


def mutate(body: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    mutated = bytearray(body)
    for place, byte in changes:
        if mutated:
            mutated[place % len(mutated)] = byte
    return bytes(mutated[: len(mutated) - cut])


def check(body: bytes) -> None:
    """Our decoder and the slow one agree: on the samples, or that there are none to be had."""
    try:
        expected = read_record(body)
    except MalformedError:
        with pytest.raises(CorruptRecord):
            DECODER.decode(snappy(body))
        return
    samples = DECODER.decode(snappy(body))
    rows = zip(
        samples.series.tolist(), samples.timestamp_ms.tolist(), samples.value.view(np.uint64).tolist(), strict=True
    )
    assert [(DECODER.labels(series_id), timestamp, bits) for series_id, timestamp, bits in rows] == expected


@settings(max_examples=300, deadline=None)
@given(bodies)
def test_well_formed_bodies_read_as_by_the_slow_reader(body: bytes) -> None:
    check(body)


@settings(max_examples=300, deadline=None)
@given(bodies, st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=3), st.integers(0, 3))
def test_mutated_bodies_read_as_by_the_slow_reader(body: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    check(mutate(body, changes, cut))


@pytest.mark.parametrize(
    "body",
    [
        b"\x0b\x0c",
        b"\x00\x01",
        b"\x0a\x05\x0a\x01",
        b"\x08" + b"\x80" * 10 + b"\x01",
        b"\x08" + b"\xff" * 9 + b"\x02",
        b"\x80\x80\x80\x80\x10\x00",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        message(1, label("a", b"\xff")),
        message(1, label("a", b"\xed\xa0\x80")),
        message(1, sample(1, 1) + label("a", "b")),
    ],
    ids=[
        "group",
        "field-0",
        "short",
        "varint-11",
        "varint-65-bits",
        "field-2^29",
        "length-2^64",
        "latin-1",
        "surrogate",
        "late",
    ],
)
def test_corrupt_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        read_record(body)
    check(body)


def test_missing_fields_are_zero() -> None:
    samples = DECODER.decode(snappy(message(1, label("__name__", "a") + message(2, b""))))
    assert (samples.timestamp_ms.tolist(), samples.value.tolist()) == ([0], [0.0])


def test_values_keep_their_bits() -> None:
    bits = [STALE_BITS, 0x7FF8_0000_0000_0001, 0xFFF0_0000_0000_0000, 1, 1 << 63]
    body = message(1, label("__name__", "a") + b"".join(sample(number, value) for number, value in enumerate(bits)))
    assert DECODER.decode(snappy(body)).value.view(np.uint64).tolist() == bits


def test_labels_are_sorted_and_ids_dense() -> None:
    decoder = SampleDecoder()
    one, other = series({"z": "1", "__name__": "a"}, (1, 1.0)), series({"__name__": "b"}, (1, 1.0))
    assert decoder.decode(snappy(one + other + one)).series.tolist() == [0, 1, 0]
    assert decoder.labels(0) == (("__name__", "a"), ("z", "1"))
    assert decoder.labels(1) == (("__name__", "b"),)
    with pytest.raises(IndexError):
        decoder.labels(2)


def test_series_are_found_again_in_any_order() -> None:
    decoder = SampleDecoder()
    first = decoder.decode(snappy(b"".join(up(number, (1, 0.0)) for number in range(3000))))
    assert first.series.tolist() == list(range(3000))
    order = np.random.default_rng(1).permutation(3000).tolist()
    again = decoder.decode(snappy(b"".join(up(number, (2, 0.0)) for number in order)))
    assert again.series.tolist() == order
    assert decoder.labels(2999)[1] == ("instance", "host-2999")


def test_prefix_of_known_labels_is_another_series() -> None:
    decoder = SampleDecoder()
    short, long = {"__name__": "a"}, {"__name__": "a", "b": "c"}
    body = b"".join(series(labels, (1, 1.0)) for labels in (short, long, {}, short, long, {}))
    assert decoder.decode(snappy(body)).series.tolist() == [0, 1, 2, 0, 1, 2]


def test_full_cache_begins_a_generation() -> None:
    decoder = SampleDecoder(series_count_max=3)
    decoder.decode(snappy(up(1, (1, 1.0)) + up(2, (1, 1.0))))
    assert (decoder.generation, decoder.series_count) == (0, 2)
    samples = decoder.decode(snappy(up(3, (1, 1.0)) + up(4, (1, 1.0)) + up(1, (1, 1.0))))
    assert (decoder.generation, decoder.series_count, samples.series.tolist()) == (1, 3, [0, 1, 2])
    assert decoder.labels(0)[1] == ("instance", "host-3")
    with pytest.raises(CorruptRecord, match="series_count_max"):
        decoder.decode(snappy(b"".join(up(number, (1, 1.0)) for number in range(4))))


def test_declared_size_is_checked_before_memory_is_taken() -> None:
    with pytest.raises(RecordTooLarge, match="declares 4294967295 bytes"):
        DECODER.decode(varint((1 << 32) - 1) + b"\x00")


@pytest.mark.parametrize("block", [b"", b"\x00a", b"\x05", b"\x05\x00a", b"\xff" * 12, b"\x04\x0cabcd" + b"rest"])
def test_bad_blocks_are_refused(block: bytes) -> None:
    with pytest.raises(CorruptRecord):
        DECODER.decode(block)


def test_many_samples_of_one_series() -> None:
    body = series({"__name__": "a"}, *((number, float(number)) for number in range(20_000)))
    samples = DECODER.decode(snappy(body))
    assert samples.timestamp_ms.tolist() == list(range(20_000))


def test_skipped_contents_are_counted() -> None:
    decoder = SampleDecoder()
    decoder.decode(snappy(message(1, label("__name__", "a") + message(3, b"") + message(4, b"")) + message(3, b"") * 2))
    assert (decoder.exemplar_count, decoder.histogram_count, decoder.metadata_count) == (1, 1, 2)


def test_decoding_is_fast() -> None:
    """The goal is 5 million samples a second and core; half of it is asserted, other work may share the machine."""
    labels = {f"label_{number:02d}": f"value-{number}-0123456789" for number in range(12)}
    block = snappy(b"".join(series({**labels, "pod": f"pod-{pod}"}, (1_700_000_000_000, 1.5)) for pod in range(2000)))
    decoder = SampleDecoder()
    decoder.decode(block)
    seconds = []
    for _ in range(60):
        started = time.perf_counter()
        decoder.decode(block)
        seconds.append(time.perf_counter() - started)
    assert 2000 / min(seconds) > 2_500_000
