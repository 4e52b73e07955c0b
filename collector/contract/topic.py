"""The Kafka topic that is the log of a cluster-size deployment: what a reader may rely on.

One Kafka record is one batch of one partition: its value a valid, canonical Remote Write 1.0 ``WriteRequest`` (plain
protobuf, nothing in it but TimeSeries; compression is the producer's), its timestamp the broker's (LogAppendTime, ms
UTC), no key. A body whose series belong to several partitions becomes one record in each of them. A series never
changes its partition. A position is (partition, offset) and never comes back; the topic's id, its 16 bytes written as
32 hex digits, is the log's identity.
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

HEADER_PART: Final = "egpu-part"
"""Which record of its body this is and of how many: two decimals with a space between, the first record is 1. A body
whose records are not all there was never acknowledged, and its sender repeats it whole."""

HEADER_PARTITIONS: Final = "egpu-partitions"
"""Over how many partitions the writer spreads series, decimal text: they are the first ones of the topic."""

HEADER_TIMES: Final = "egpu-times-ms"
"""Least and greatest sample time of the whole body, ms UTC: two decimals with a space between."""

RECORD_BYTES_MAX: Final = 4 << 20
"""``max.message.bytes`` of the topic; a value is a little smaller, and a larger batch is cut into several records."""

RECORD_OVERHEAD_BYTES: Final = 4096
"""Kept free of that for headers and framing: a value has at most ``max.message.bytes`` less this."""
