"""A real log folder written straight with the segment schema, and the bytes of its records."""

import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import cramjam
from pipeline_request import Sample, write_request
from pipeline_topic import produce, topic_of

from collector.contract.record import BODY_HASH_BYTES, LOG_SCHEMA_VERSION, SEGMENT_SCHEMA, segment_file_name

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0_0000_0000_0002))[0]


def append(
    folder: Path, batches: Sequence[Sequence[Sample]], *, received_ms: int, segment: int = 1, identity: str = ""
) -> None:
    """Append one record a batch to a segment; without an identity it is as older collectors wrote it.

    Where the folder's parent has a topic, one record a batch and partition to that.
    """
    if topic_of(folder.parent):
        produce(folder.parent, batches, received_ms=received_ms)
        return
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
