"""Bodies read back by a decoder of the test's own, written from the .proto and the snappy framing alone."""

import struct
from collections.abc import Iterator

import cramjam
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from egpu_runtime.contract.units import STALE_MARKER_BITS
from egpu_runtime.fleet.encode import Encoder, varint
from egpu_runtime.fleet.rounds import Limits, rounds
from egpu_runtime.fleet.series import STALE, Samples, SeriesTable
from egpu_runtime.fleet.trace import Container

WHO = [Container("c", "n", "g", "A100", "t", "ns", "Deployment", "wé", f"p{i}", f"u{i}", "main", "0") for i in range(9)]
TABLE = SeriesTable(WHO)
ENCODER = Encoder(TABLE)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return number, at


def fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        if tag & 7 == 2:
            size, at = read_varint(data, at)
            yield tag >> 3, data[at : at + size]
            at += size
        elif tag & 7 == 1:
            yield tag >> 3, data[at : at + 8]
            at += 8
        else:
            number, at = read_varint(data, at)
            yield tag >> 3, number


def decode(body: bytes) -> list[tuple[list[tuple[str, str]], int, int]]:
    """(labels, timestamp, bits of the value) a TimeSeries; fails when labels do not come first."""
    found = []
    for number, series in fields(bytes(cramjam.snappy.decompress_raw(body))):
        assert number == 1
        parts = list(fields(series))
        assert [n for n, _ in parts] == [1] * (len(parts) - 1) + [2]
        labels = []
        for _, label in parts[:-1]:
            pair = dict(fields(label))
            labels.append((pair[1].decode(), pair[2].decode()))
        sample = dict(fields(parts[-1][1]))
        found.append((labels, sample[2], struct.unpack("<Q", sample[1])[0]))
    return found


def samples(*rows: tuple[int, int, float]) -> Samples:
    times, series, values = zip(*rows, strict=True)
    return Samples(np.array(times, np.int64), np.array(series, np.int64), np.array(values, np.float64))


def bits(value: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", value))[0]


SAMPLE = st.tuples(
    st.integers(0, 2**62), st.integers(0, len(TABLE) - 1), st.floats(allow_nan=False, allow_infinity=True)
)


@given(st.lists(SAMPLE, min_size=1, max_size=40))
def test_what_is_written_reads_back(rows: list[tuple[int, int, float]]) -> None:
    assert decode(ENCODER.body(samples(*rows))) == [
        (TABLE.scraped_labels(series), time_ms, bits(value)) for time_ms, series, value in rows
    ]


def test_stale_markers_keep_their_bits() -> None:
    given_samples = Samples(np.array([1_767_571_200_000]), np.array([3]), STALE)
    assert decode(ENCODER.body(given_samples))[0][2] == STALE_MARKER_BITS


def test_labels_are_sorted() -> None:
    body = ENCODER.body(samples((1, 0, 0.0), (1, len(TABLE) - 1, 1.0)))
    assert all(labels == sorted(labels) for labels, _, _ in decode(body))


@given(st.integers(0, 2**63 - 1))
def test_varints_read_back(number: int) -> None:
    assert read_varint(varint(number), 0) == (number, len(varint(number)))


@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=60),
    st.integers(1, 9),
    st.integers(1, 4),
    st.sampled_from([0, 25, 100]),
    st.sampled_from([0, 50, 10_000]),
)
def test_rounds_keep_order_within_a_series_and_shards_within_a_window(
    counts: list[int], batch: int, shards: int, window_ms: int, span_ms: int
) -> None:
    pieces = [samples(*((10 * t, s, float(t)) for s in range(count))) for t, count in enumerate(counts)]
    limits = Limits(batch, shards, window_ms, round_samples_max=batch * shards * 4, batch_span_ms_max=span_ms)
    arrived: dict[int, list[int]] = {}
    for piece in rounds(pieces, limits):
        assert 1 <= len(piece.shards) <= shards
        owners: dict[int, int] = {}
        for number, shard in enumerate(piece.shards):
            for part in shard:
                assert 1 <= len(part) <= batch
                for time_ms, series in zip(part.timestamp_ms.tolist(), part.series.tolist(), strict=True):
                    assert owners.setdefault(series, number) == number
                    arrived.setdefault(series, []).append(time_ms)
        assert piece.last_ms - piece.first_ms <= max(span_ms, window_ms)
        if len(piece.shards) > 1:
            assert piece.last_ms == piece.first_ms or piece.last_ms - piece.first_ms < window_ms
    sent: dict[int, list[int]] = {}
    for t, count in enumerate(counts):
        for series in range(count):
            sent.setdefault(series, []).append(10 * t)
    assert arrived == sent
