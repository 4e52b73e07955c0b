"""What the receiver hands to a log and what a log answers: the seam between the two shells."""

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class LogUnavailable(Exception):  # noqa: N818 - reads as the sentence "raise LogUnavailable(why)"
    """The log cannot take a record now: full disk, broken file, closing. The sender has to keep it and try again."""


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One body to be stored: all times ms UTC, ``block`` the sender's snappy block where it holds just the canonical
    WriteRequest that is to be stored, else empty.

    ``body_hash`` is the hash of the body as the sender sent it (``collector.contract.record.BODY_HASH_BYTES`` long).
    """

    body_hash: bytes
    sample_count: int
    timestamp_min_ms: int
    timestamp_max_ms: int
    block: bytes


@dataclass(frozen=True, slots=True)
class LogStatus:
    """How a log is: ``unavailable`` is empty while it takes records, else the reason in one sentence."""

    unavailable: str
    log_bytes: int | None
    """None where the log's files are not ours to see."""
    segment_count: int | None
    """Files of the log, None as above."""
    record_count: int
    """Records committed since the process started."""
    commit_count: int
    """Transactions since the process started, one holds all the records that were queued; acknowledgements of a
    broker."""
    commit_seconds: float
    """Time spent in them, in all."""
    disk_free_bytes: int | None
    """Of the log's file system, None as above."""
    identity: str
    """The log's identity, 32 hex digits."""


class Log(Protocol):
    """A durable, ordered store of records."""

    unavailable: str
    """Why no record can be taken now, in one sentence; empty while the log is well."""

    has_ended: bool
    """Whether no record will ever be taken again: nothing but a new process mends it."""

    def append(self, record: NewRecord, body: NDArray[np.uint8]) -> "Future[None]":
        """Queue a record. The future is done when it is durable, or fails with LogUnavailable: send it again.

        ``body`` is the canonical WriteRequest; nobody looks at it after the call. Raises RecordTooLarge for a body that
        this log cannot take however often it is sent.
        """
        ...

    def status(self) -> LogStatus:
        """A snapshot; costs no I/O beyond asking the file system for its free space."""
        ...

    def take_recent_hashes(self) -> list[tuple[bytes, int]]:
        """(body hash, received ms) of bodies stored before this process, in order; given away once."""
        ...

    def close(self) -> None:
        """Store what is queued and end."""
        ...
