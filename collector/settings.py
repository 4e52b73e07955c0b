"""Settings of the collector: what it listens on, what it accepts, how it stores."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from collector.contract.topic import TOPIC_DEFAULT
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

    log: Literal["sqlite", "kafka"] = "sqlite"
    """Which log: ``sqlite``, a folder of files on this machine, or ``kafka``, a topic. Default sqlite."""

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
    With Kafka at least a 16th of body_bytes_max. Default 1,000,000."""

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

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Brokers to ask first, HOST:PORT with commas between. Default 127.0.0.1:9092."""

    kafka_topic: str = TOPIC_DEFAULT
    """Topic that is the log. Default egpu-samples."""

    kafka_properties: dict[str, str] = field(default_factory=dict)
    """Further librdkafka properties by name, a table: ``security.protocol``, ``sasl.*``, ``ssl.*`` and the like. Those
    that these settings stand for, or that make an answer durable, cannot be set here. Default none."""

    kafka_partition_count: Annotated[int, Meta(ge=1, le=4096)] = 8
    """Partitions that series are spread over: the first ones of the topic (count). Choose it once, for as many readers
    as there may ever be: with another number nearly every series changes its partition. Default 8."""

    kafka_partition_count_changes: bool = False
    """Whether to go on with another kafka_partition_count than the topic's newest records were written with.
    Default off."""

    kafka_topic_create: bool = True
    """Whether a topic that is missing is made, with the settings below. Default on."""

    kafka_replication_factor: Annotated[int, Meta(ge=0, le=64)] = 0
    """Replicas of a partition (count): what a new topic gets and the least an old one must have; 0 leaves it to the
    broker. Default 0; 3 for a log that outlives a broker."""

    kafka_insync_replicas_min: Annotated[int, Meta(ge=0, le=64)] = 0
    """Replicas that must hold a record before it is acknowledged (count): what a new topic gets and the least an old
    one must have; 0 leaves it to the broker. Default 0; 2 with three replicas."""

    kafka_retention_seconds: Annotated[float, Meta(ge=0.0, le=100 * 365.25 * 86_400.0)] = 14 * 86_400.0
    """Seconds that a new topic keeps a record after it was received; 0 keeps it for good. Default 14 days."""

    kafka_retention_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    """Bytes of a partition beyond which a new topic drops its oldest records; 0 for no such bound. Default 0."""

    kafka_compression: Literal["zstd", "lz4", "snappy", "none"] = "zstd"
    """How the producer compresses. Default zstd: as cheap as lz4 here and less than half the bytes."""

    kafka_linger_seconds: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.005
    """Seconds a record waits for company in its batch. Default 0.005: longer waits save no CPU with bodies of 2,000
    samples; for many small senders 0.05 makes fewer and larger batches."""

    kafka_delivery_seconds_max: Annotated[float, Meta(ge=1.0, le=3600.0)] = 20.0
    """Seconds in which the brokers must acknowledge a record before its sender gets 503. Default 20, below the 30 after
    which Prometheus gives up waiting."""

    kafka_queue_bytes_max: Bytes = 256 << 20
    """Bytes of plain records that wait for their acknowledgement; beyond it 503. Default 256 MiB."""

    kafka_start_seconds_max: Seconds = 30.0
    """Seconds at start in which a broker must have answered. Default 30, about a broker's own start."""

    duplicate_rebuild_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 256 << 20
    """Bytes of the newest records of the topic that are read at start, so that bodies which the last collector stored
    are recognised; 0 for none. Default 256 MiB, about two seconds and 300 bodies."""
