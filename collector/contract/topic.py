"""The Kafka topic that is the log of a cluster-size deployment: what a reader may rely on.

One Kafka record is one batch of one partition: its value a valid, canonical Remote Write 1.0 ``WriteRequest`` (plain
protobuf; compression is the producer's), its timestamp the broker's (LogAppendTime, ms UTC), no key. A body whose
series belong to several partitions becomes one record in each of them. A series never changes its partition.
A position is (partition, offset) and never comes back; the topic's id is the log's identity.
"""

from typing import Final

TOPIC_SCHEMA_VERSION: Final = 1
"""In the header of every record; a reader refuses a newer one with one sentence."""

TOPIC_DEFAULT: Final = "egpu-samples"

HEADER_SCHEMA: Final = "egpu-schema"
"""Decimal text."""

HEADER_BODY_HASH: Final = "egpu-body-hash"
"""BLAKE2b-128 of the sender's body, 16 bytes; equal in all records made from one body."""

HEADER_SAMPLE_COUNT: Final = "egpu-sample-count"
"""Samples of this record, decimal text."""

HEADER_TIMES: Final = "egpu-times-ms"
"""Least and greatest sample time of the whole body, ms UTC: two decimals with a space between."""

RECORD_BYTES_MAX: Final = 4 << 20
"""``max.message.bytes`` of the topic and the bound of a record's value; a larger batch is cut into several records."""
