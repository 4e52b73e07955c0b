"""The bytes of log records."""

import struct
from collections.abc import Iterable, Mapping

Labels = Mapping[str, str]
Sample = tuple[Labels, int, float]
"""Labels with ``__name__``, time in ms UTC, value."""


def varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def write_request(samples: Iterable[Sample]) -> bytes:
    """A WriteRequest with one TimeSeries a sample; labels sorted, before the sample."""
    body = b""
    for labels, time_ms, value in samples:
        pairs = b"".join(
            field(1, field(1, name.encode()) + field(2, text.encode())) for name, text in sorted(labels.items())
        )
        sample = b"\x09" + struct.pack("<d", value) + b"\x10" + varint(time_ms)
        body += field(1, pairs + field(2, sample))
    return body
