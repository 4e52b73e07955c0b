"""Settings of the collector: what it listens on, what it accepts, how it stores."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from egpu_runtime.contract.configuration import ProcessSettings

# Upper bounds too: a number nobody can mean (or inf, or nan) is refused at start and not met later by arithmetic.
Count = Annotated[int, Meta(ge=1, le=1 << 30)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 50)]
Seconds = Annotated[float, Meta(ge=0.001, le=86_400.0)]
"""Of waiting: a millisecond, the clock's step, to a day."""
LongSeconds = Annotated[float, Meta(ge=0.001, le=100 * 365.25 * 86_400.0)]
"""Of keeping and of sample times: to a hundred years."""


@dataclass(frozen=True, kw_only=True)
class CollectorSettings(ProcessSettings):
    """Knobs of ``egpu-collector``."""

    listen_address: str = "127.0.0.1"
    """Address to listen on. Default 127.0.0.1: nothing asks for credentials here."""

    listen_port: Annotated[int, Meta(ge=0, le=65535)] = 19291
    """TCP port to listen on; 0 takes a free one, which the ready line names. Default 19291."""

    log_directory: str = "egpu-log"
    """Folder of the log; one collector writes to it. Default egpu-log below the working folder."""

    body_bytes_max: Annotated[int, Meta(ge=1, le=1 << 30)] = 32 << 20
    """Most bytes of a decompressed body; larger ones get 413. Default 32 MiB, 40 times a full batch of Prometheus."""

    body_seconds_max: Seconds = 30.0
    """Seconds a sender may take for its body before it gets 503. Default 30, Prometheus' own timeout."""

    label_count_max: Annotated[int, Meta(ge=1, le=1024)] = 128
    """Most labels of a series (count). Default 128: twice what a pod with all its Kubernetes labels carries."""

    label_bytes_max: Bytes = 4096
    """Most bytes of a label's name or value. Default 4096, twice Mimir's longest value."""

    future_seconds_max: LongSeconds = 600.0
    """Seconds a sample may lie ahead of our clock; later ones are refused. Default 600, as Prometheus."""

    series_count_max: Annotated[int, Meta(ge=1, le=1 << 29)] = 1_000_000
    """Series whose checked labels are kept in memory (about 400 bytes each); beyond it they are checked anew.
    Default 1,000,000."""

    queue_bytes_max: Bytes = 256 << 20
    """Bytes of bodies received and not yet durable; beyond it 503. Default 256 MiB."""

    retry_after_seconds: Annotated[int, Meta(ge=1, le=86_400)] = 2
    """Seconds named in Retry-After with every 503. Default 2: longer than a slow fsync, shorter than a scrape."""

    group_record_count_max: Count = 256
    """Most records in one transaction (count). Default 256: one fsync for all that waited during the last one."""

    group_bytes_max: Bytes = 16 << 20
    """Most bytes of blocks in one transaction. Default 16 MiB, so that one commit stays short of a second."""

    segment_bytes_max: Bytes = 256 << 20
    """Bytes at which a segment is closed and the next begun. Default 256 MiB: retention works by whole segments."""

    segment_seconds_max: LongSeconds = 3600.0
    """Age in seconds of a segment's first record at which the next segment is begun. Default 3600."""

    wal_bytes_max: Bytes = 64 << 20
    """Bytes of a segment's write-ahead file; the writer checkpoints at a quarter. Default 64 MiB."""

    retention_seconds: LongSeconds = 14 * 86_400.0
    """Seconds a segment is kept after its last record was received. Default 14 days."""

    retention_bytes: Bytes = 64 << 30
    """Bytes of the whole log beyond which the oldest segments go. Default 64 GiB."""

    reserve_bytes: Bytes = 256 << 20
    """Free bytes of the disk that bodies may not use up, so that checkpoints still work. Default 256 MiB."""

    duplicate_window_seconds: LongSeconds = 3 * 3600.0
    """Seconds within which a repeated body is recognised. Default 3 hours: Prometheus retries for about two."""

    duplicate_count_max: Count = 2_000_000
    """Most bodies remembered for that (count, about 110 bytes each). Default 2,000,000: 185 bodies/s for 3 hours."""

    maintenance_seconds: Seconds = 1.0
    """Seconds between looks at retention, free space and a log that was unavailable. Default 1."""

    drain_seconds_max: Seconds = 30.0
    """Seconds after SIGTERM in which requests under way may end. Default 30, Kubernetes' grace period."""
