"""Samples as Remote Write 1.0 bodies: protobuf ``WriteRequest`` in a snappy block (prw/remote_write_spec.md)."""

from collections.abc import Iterable, Sequence
from typing import Final

import cramjam
import numpy as np
import numpy.typing as npt

from egpu_runtime.fleet.series import Samples, SeriesTable

_LENGTH_DELIMITED: Final = {1: b"\x0a", 2: b"\x12"}
_SAMPLE_FIXED_BYTES: Final = 10
"""Of a Sample: the tag and eight bytes of the value, and the tag of the timestamp."""


class Encoder:
    """Writes samples of one series table. Label bytes are built once per series; one sample is one TimeSeries."""

    def __init__(self, table: SeriesTable) -> None:
        self._labels = [_label_bytes(table.scraped_labels(number)) for number in range(len(table))]
        self._heads: dict[int, list[bytes]] = {}

    def body(self, samples: Samples) -> bytes:
        """The body to send: labels sorted and first, one TimeSeries a sample, in the order given."""
        return bytes(cramjam.snappy.compress_raw(self.write_request(samples)))

    def write_request(self, samples: Samples) -> bytes:
        """The uncompressed ``WriteRequest``; timestamps are milliseconds >= 0."""
        sizes = _varint_sizes(samples.timestamp_ms)
        parts: list[bytes] = [b""] * (2 * len(samples))
        for size in np.unique(sizes):
            chosen = np.flatnonzero(sizes == size)
            heads = self._heads_for(int(size))
            tails = _tails(samples.timestamp_ms[chosen], samples.value[chosen], int(size))
            if len(chosen) == len(samples):
                parts[0::2] = [heads[number] for number in samples.series.tolist()]
                parts[1::2] = tails
            else:
                for index, tail in zip(chosen.tolist(), tails, strict=True):
                    parts[2 * index : 2 * index + 2] = (heads[int(samples.series[index])], tail)
        return b"".join(parts)

    def _heads_for(self, timestamp_size: int) -> list[bytes]:
        """Everything before a series' sample; the length in it depends on the bytes of the timestamp."""
        heads = self._heads.get(timestamp_size)
        if heads is None:
            sample_size = 2 + _SAMPLE_FIXED_BYTES + timestamp_size
            heads = [b"\x0a" + varint(len(labels) + sample_size) + labels for labels in self._labels]
            self._heads[timestamp_size] = heads
        return heads


def varint(number: int) -> bytes:
    """A number >= 0 in protobuf's base 128, lowest bits first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _label_bytes(labels: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(_field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in labels)


def _field(number: int, content: bytes) -> bytes:
    return _LENGTH_DELIMITED[number] + varint(len(content)) + content


def _varint_sizes(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bytes each number takes as a varint: one for every seven bits, at least one."""
    sizes = np.ones(len(numbers), np.int64)
    for bits in range(7, 63, 7):
        sizes += numbers >= (1 << bits)
    return sizes


def _tails(times: npt.NDArray[np.int64], values: npt.NDArray[np.float64], size: int) -> Sequence[bytes]:
    """The Sample field of each TimeSeries: ``12 len 09 <8 bytes> 10 <varint of size bytes>``."""
    width = 2 + _SAMPLE_FIXED_BYTES + size
    table = np.empty((len(times), width), np.uint8)
    table[:, 0] = 0x12
    table[:, 1] = _SAMPLE_FIXED_BYTES + size
    table[:, 2] = 0x09
    table[:, 3:11] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
    table[:, 11] = 0x10
    for place in range(size):
        more = 0x80 if place < size - 1 else 0
        table[:, 12 + place] = (times >> (7 * place)) & 0x7F | more
    flat = table.tobytes()
    return [flat[start : start + width] for start in range(0, len(flat), width)]
