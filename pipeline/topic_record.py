"""A topic and its messages as records of the log, read by their headers; those of other writers have none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from collector.contract.record import Position, Record
from collector.contract.topic import HEADER_SAMPLE_COUNT, HEADER_SCHEMA, HEADER_TIMES, TOPIC_SCHEMA_VERSION
from egpu_runtime.contract.process import Failure

_SAMPLE_BYTES: Final = 16
"""Least bytes of a sample, for records that do not say how many they hold."""

_ANY_TIME: Final = (-(1 << 62), 1 << 62)

Headers = Mapping[str, str | bytes | None] | Iterable[tuple[str, str | bytes | None]]


@dataclass(frozen=True, slots=True)
class Topic:
    """Which topic, where, and librdkafka properties (TLS, SASL, ...) beside ours."""

    bootstrap_servers: str
    name: str
    properties: Mapping[str, str]


def _numbers(headers: Mapping[str, str | bytes | None], name: str, count: int) -> list[int] | None:
    """Decimal numbers in a header, None where another writer left it out or wrote something else."""
    words = (headers.get(name) or b"").split()
    try:
        return [int(word) for word in words] if len(words) == count else None
    except ValueError:
        return None


def record_of(position: Position, received_ms: int, *, headers: Headers, value: bytes) -> Record:
    """The record at a position (partition, offset + 1). Raises Failure for one of a newer schema."""
    given = dict(headers)
    (schema,) = _numbers(given, HEADER_SCHEMA, 1) or (0,)
    if schema > TOPIC_SCHEMA_VERSION:
        raise Failure(
            f"the record at partition {position.segment} offset {position.row - 1} of the topic has schema {schema}, "
            f"newer than the {TOPIC_SCHEMA_VERSION} known here: use a newer effective-gpu"
        )
    (count,) = _numbers(given, HEADER_SAMPLE_COUNT, 1) or (len(value) // _SAMPLE_BYTES,)
    least_ms, greatest_ms = _numbers(given, HEADER_TIMES, 2) or _ANY_TIME
    return Record(position, received_ms, count, least_ms, greatest_ms, value, compressed=False)


def topic_id_text(topic_id: Any) -> str:
    """A topic's id as 32 hex digits, empty for the zeros of brokers that know none."""
    if topic_id is None:
        return ""
    words = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    text = "".join(f"{word & (1 << 64) - 1:016x}" for word in words)
    return text if text.strip("0") else ""
