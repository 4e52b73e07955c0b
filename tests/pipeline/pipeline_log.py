"""A real log folder written straight with the segment schema, and the bytes of its records."""

import sqlite3
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import cramjam

from collector.contract.record import BODY_HASH_BYTES, LOG_SCHEMA_VERSION, SEGMENT_SCHEMA, segment_file_name

Labels = Mapping[str, str]
Sample = tuple[Labels, int, float]
"""Labels with ``__name__``, time in ms UTC, value."""

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0_0000_0000_0002))[0]


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


def append(
    folder: Path, batches: Sequence[Sequence[Sample]], *, received_ms: int, segment: int = 1, identity: str = ""
) -> None:
    """Append one record a batch to a segment; without an identity it is as older collectors wrote it."""
    folder.mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / segment_file_name(segment))) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA user_version={LOG_SCHEMA_VERSION}")
        connection.executescript(SEGMENT_SCHEMA)
        if identity and connection.execute("SELECT 1 FROM log").fetchone() is None:
            connection.execute("INSERT INTO log VALUES (?)", (identity,))
        elif not identity:
            connection.execute("DROP TABLE log")
        row = connection.execute("SELECT coalesce(max(row), 0) FROM record").fetchone()[0]
        for batch in batches:
            row += 1
            body = write_request(batch)
            times = [time_ms for _, time_ms, _ in batch] or [0]
            block = bytes(cramjam.snappy.compress_raw(body))
            digest = blake2b(body, digest_size=BODY_HASH_BYTES).digest()
            connection.execute(
                "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)",
                (row, received_ms, digest, len(batch), min(times), max(times), block),
            )
