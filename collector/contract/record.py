"""The log record and the SQLite folder that holds it: what a reader may rely on.

A record is one batch: a valid Remote Write 1.0 ``WriteRequest`` with the hash of the sender's body. Inside it is
canonical: in every TimeSeries the labels come first, sorted by name, and equal label sets are equal bytes.
The log is a folder of SQLite files, one a segment; a position (segment, row) never comes back.
"""

from dataclasses import dataclass
from typing import Final

LOG_SCHEMA_VERSION: Final = 1
"""``PRAGMA user_version`` of every segment file; a reader refuses a newer one with one sentence."""

SEGMENT_SUFFIX: Final = ".segment.sqlite"
"""A segment file is named by its number, 12 digits, and this suffix."""

READER_SUFFIX: Final = ".reader.json"
"""Informative copy of a reader's position, for lag only: ``NAME.reader.json`` in the log folder."""

SEGMENT_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS record (
  row INTEGER PRIMARY KEY,
  received_ms INTEGER NOT NULL,
  body_hash BLOB NOT NULL,
  sample_count INTEGER NOT NULL,
  timestamp_min_ms INTEGER NOT NULL,
  timestamp_max_ms INTEGER NOT NULL,
  block BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS log (
  identity TEXT NOT NULL
) STRICT;
"""
"""``log`` holds one row: 32 hex digits drawn when the log began, the same in all its segments. A reader keeps them with
its position, for positions mean nothing in another log.
``row`` counts from 1 without gaps; ``received_ms`` is the receiver's clock, ``timestamp_*`` are sample times (ms
UTC); ``body_hash`` is BLAKE2b-128 of the sender's body; ``block`` is the snappy block of the canonical WriteRequest."""

RECORD_COLUMNS: Final = "row, received_ms, sample_count, timestamp_min_ms, timestamp_max_ms, block"
"""Columns a reader selects, in the order of :class:`Record` after its segment."""

BODY_HASH_BYTES: Final = 16
"""Length of ``body_hash``."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log: the last record that was read. ``Position(0, 0)`` is before the first record."""

    segment: int
    row: int


START: Final = Position(0, 0)


@dataclass(frozen=True, slots=True)
class Record:
    """One batch of the log; ``block`` is the WriteRequest, snappy-compressed or plain; all times in ms UTC."""

    position: Position
    received_ms: int
    sample_count: int
    timestamp_min_ms: int
    timestamp_max_ms: int
    block: bytes
    compressed: bool = True


def segment_file_name(segment: int) -> str:
    """File name of a segment number (>= 1)."""
    return f"{segment:012d}{SEGMENT_SUFFIX}"


def segment_number(file_name: str) -> int | None:
    """The segment a file name stands for, None for any other file."""
    stem = file_name.removesuffix(SEGMENT_SUFFIX)
    return int(stem) if stem != file_name and stem.isdigit() else None
