"""Remote write bodies for the collector's tests: a small encoder, and slow readers that share no code with ours."""

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import cramjam

STALE_BITS = 0x7FF0_0000_0000_0002
Labels = tuple[tuple[str, str], ...]
Field = tuple[int, int, int | bytes]
NAME_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
DIGITS = frozenset(b"0123456789")


class MalformedError(Exception):
    """The bytes are no WriteRequest."""


# ---- writing ----


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def label(name: str | bytes, value: str | bytes) -> bytes:
    raw_name, raw_value = (text.encode() if isinstance(text, str) else text for text in (name, value))
    return message(1, message(1, raw_name) + message(2, raw_value))


def sample(timestamp_ms: int, bits: int) -> bytes:
    return message(2, b"\x09" + struct.pack("<Q", bits) + b"\x10" + varint(timestamp_ms))


def float_bits(value: float) -> int:
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    return int(bits)


def series(labels: Mapping[str, str], *points: tuple[int, float]) -> bytes:
    """A TimeSeries with its labels in the order given and points (ms, value)."""
    inside = b"".join(label(name, value) for name, value in labels.items())
    return message(1, inside + b"".join(sample(timestamp_ms, float_bits(value)) for timestamp_ms, value in points))


def up(number: int, *points: tuple[int, float]) -> bytes:
    """A well-formed series named up, told apart by a number."""
    return series({"__name__": "up", "instance": f"host-{number}"}, *points)


def snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


# ---- reading, slowly ----


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for index in range(10):
        if at + index >= len(data):
            raise MalformedError
        byte = data[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if number >> 64:
                raise MalformedError
            return number, at + index + 1
    raise MalformedError


def fields(data: bytes) -> Iterator[Field]:
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag >= 1 << 32:
            raise MalformedError
        content: int | bytes
        if kind == 0:
            content, at = read_varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            content = data[at : at + size]
            if len(content) < size:
                raise MalformedError
            at += size
        elif kind == 2:
            length, at = read_varint(data, at)
            content = data[at : at + length]
            if len(content) < length:
                raise MalformedError
            at += length
        else:
            raise MalformedError
        yield number, kind, content


def last(parsed: Sequence[Field], number: int, kind: int, default: int | bytes) -> int | bytes:
    found = [content for field, wire, content in parsed if (field, wire) == (number, kind)]
    return found[-1] if found else default


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def read_label(data: bytes) -> tuple[bytes, bytes]:
    parsed = list(fields(data))
    name, value = last(parsed, 1, 2, b""), last(parsed, 2, 2, b"")
    assert isinstance(name, bytes)
    assert isinstance(value, bytes)
    return name, value


def read_sample(data: bytes) -> tuple[int, int]:
    parsed = list(fields(data))
    value, timestamp = last(parsed, 1, 1, bytes(8)), last(parsed, 2, 0, 0)
    assert isinstance(value, bytes)
    assert isinstance(timestamp, int)
    return signed(timestamp), int.from_bytes(value, "little")


def read_record(body: bytes) -> list[tuple[Labels, int, int]]:
    """(labels, ms, bits) of every sample of a log record, as the slowest reader would; raises Malformed."""
    found = []
    for number, kind, content in fields(body):
        if (number, kind) != (1, 2):
            continue
        assert isinstance(content, bytes)
        at, labels = 0, []
        while content[at : at + 1] == b"\x0a":
            length, start = read_varint(content, at + 1)
            at = start + length
            if at > len(content):
                raise MalformedError
            labels.append(read_label(content[start:at]))
        try:
            names = tuple(sorted((name.decode(), value.decode()) for name, value in labels))
        except UnicodeDecodeError as error:
            raise MalformedError from error
        for inner, wire, inside in fields(content[at:]):
            if wire == 2 and inner == 1:
                raise MalformedError
            if wire == 2 and inner == 2:
                assert isinstance(inside, bytes)
                found.append((names, *read_sample(inside)))
    return found


def is_name(name: bytes, extra: bytes = b"") -> bool:
    allowed = NAME_BYTES | frozenset(extra)
    return bool(name) and name[0] in allowed and all(byte in allowed or byte in DIGITS for byte in name)


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def why_label_is_refused(name: bytes, value: bytes, label_bytes_max: int) -> str:
    if not name or not value:
        return "metric_name_missing" if name == b"__name__" else "label_empty"
    if max(len(name), len(value)) > label_bytes_max:
        return "label_too_long"
    if not is_name(name):
        return "label_name_invalid"
    if name == b"__name__" and not is_name(value, b":"):
        return "metric_name_invalid"
    return "" if is_utf8(value) else "label_not_utf8"


def why_refused(labels: Sequence[tuple[bytes, bytes]], label_count_max: int, label_bytes_max: int) -> str:
    if len(labels) > label_count_max:
        return "labels_too_many"
    for name, value in labels:
        if reason := why_label_is_refused(name, value, label_bytes_max):
            return reason
    names = [name for name, _ in labels]
    if len(set(names)) < len(names):
        return "label_duplicate"
    return "" if b"__name__" in names else "metric_name_missing"


def timestamp_of(field: int, data: bytes) -> int:
    timestamp = last(list(fields(data)), {2: 2, 3: 3, 4: 15}[field], 0, 0)
    assert isinstance(timestamp, int)
    return signed(timestamp)


def read_valid(
    body: bytes, label_count_max: int, label_bytes_max: int, timestamp_max_ms: int
) -> tuple[list[tuple[Labels, int, int]], Counter[str]]:
    """The samples of a body that may be stored, and how many contents are refused, by reason; raises Malformed."""
    kept: list[tuple[Labels, int, int]] = []
    refused: Counter[str] = Counter()
    for number, kind, content in fields(body):
        if (number, kind) != (1, 2):
            continue
        assert isinstance(content, bytes)
        inside = [(field, part) for field, wire, part in fields(content) if wire == 2 and isinstance(part, bytes)]
        labels = [read_label(part) for field, part in inside if field == 1]
        contents = [(field, part, timestamp_of(field, part)) for field, part in inside if field in (2, 3, 4)]
        reason = why_refused(labels, label_count_max, label_bytes_max) if contents else "no_samples"
        if reason:
            refused[reason] += max(1, len(contents))
            continue
        refused["timestamp_in_future"] += sum(timestamp > timestamp_max_ms for _, _, timestamp in contents)
        names = tuple(sorted((name.decode(), value.decode()) for name, value in labels))
        kept += [
            (names, *read_sample(part))
            for field, part, timestamp in contents
            if field == 2 and timestamp <= timestamp_max_ms
        ]
    return kept, +refused
