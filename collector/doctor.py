"""What a person wants to know about a collector in one screen, from its log and its own /metrics."""

import contextlib
import http.client
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from collector.contract.record import READER_SUFFIX, Position, segment_file_name
from collector.kafka_topic import Brokers, Tail, Unreachable
from collector.segment import bytes_of, identity_in, open_to_read, segment_numbers
from collector.settings import CollectorSettings
from collector.topic_rules import KEEP_FOREVER, TopicFacts, why_refused, why_unavailable
from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import MIB, SECOND_MS

ANSWER_SECONDS_MAX = 2.0
"""Seconds a running collector has for its figures."""

PARTITION_LINES_MAX = 24
"""Partitions that one screen has room for."""

RATE_SECONDS_MIN = 3600
"""A rate from less than an hour of receiving would be a guess."""

_FIGURES = {
    "egpu_collector_samples_stored_total": "samples stored",
    "egpu_collector_samples_duplicate_total": "samples of repeated bodies",
    "egpu_collector_samples_refused_total": "samples refused",
    "egpu_collector_requests_total": "requests answered",
}


@dataclass(frozen=True, slots=True)
class _Extent:
    """What one segment holds, for a person to read."""

    number: int
    record_count: int
    first_received_ms: int
    last_received_ms: int


def _extents(folder: Path) -> Iterator[_Extent]:
    for number in segment_numbers(folder):
        with contextlib.closing(open_to_read(folder, number)) as connection:
            row = connection.execute(
                "SELECT count(*), coalesce(min(received_ms), 0), coalesce(max(received_ms), 0) FROM record"
            ).fetchone()
        yield _Extent(number, *row)


def _reader_line(file: Path, extents: list[_Extent]) -> str:
    name = file.name.removesuffix(READER_SUFFIX)
    try:
        read = json.loads(file.read_text())
        position = Position(int(read["segment"]), int(read["row"]))
    except (ValueError, KeyError, TypeError) as error:
        return f"reader {name}: its position cannot be read: {error}"
    behind = sum(
        extent.record_count - (position.row if extent.number == position.segment else 0)
        for extent in extents
        if extent.number >= position.segment
    )
    return f"reader {name}: at segment {position.segment} row {position.row}, {behind} records behind"


def describe(settings: CollectorSettings) -> Iterator[str]:
    """Lines about a log and its collector, which may be running. Raises Failure when the log cannot be read."""
    if settings.log == "kafka":
        try:
            yield from _describe_topic(settings)
        except Unreachable as error:
            raise Failure(str(error)) from error
    else:
        yield from _describe_folder(settings)
    yield "the rest: egpu-pipeline doctor, what was read of this log and made of it"


def _describe_topic(settings: CollectorSettings) -> Iterator[str]:
    brokers = Brokers(settings)
    facts = brokers.find()
    if facts is None:
        raise Failure(f"topic {settings.kafka_topic} does not exist at {settings.kafka_bootstrap_servers}")
    yield (
        f"topic {facts.name}: {facts.partition_count} partitions, {facts.replica_count} replicas, "
        f"{facts.in_sync_count} of them in sync, {facts.insync_replicas_min} needed"
    )
    yield f"kept: {_kept(facts)}"
    for trouble in (why_refused(facts, settings), why_unavailable(facts)):
        if trouble:
            yield f"trouble: {trouble}"
    bounds = brokers.bounds(facts.partition_count)
    newest = Tail(settings, bounds).newest()
    yield f"log: {sum(end - first for first, end in bounds)} records"
    if newest:
        received_ms = max(record.received_ms for record in newest.values())
        yield f"last record: {time.time() - received_ms / SECOND_MS:.0f} s ago"
    for partition, (first, end) in enumerate(bounds[:PARTITION_LINES_MAX]):
        yield f"  partition {partition}: offsets {first} to {end}"
    if len(bounds) > PARTITION_LINES_MAX:
        yield f"  and {len(bounds) - PARTITION_LINES_MAX} partitions more"
    yield from _group_lines(brokers, bounds)
    yield from _running_lines(settings, facts.identity)


def _group_lines(brokers: Brokers, bounds: list[tuple[int, int]]) -> Iterator[str]:
    try:
        groups = brokers.group_offsets()
    except Failure as error:  # we may write to the topic and still not see who reads it
        yield f"readers: unknown, {error}"
        return
    for group, committed in groups.items():
        behind = sum(max(0, end - max(first, committed.get(p, first))) for p, (first, end) in enumerate(bounds))
        yield f"reader {group}: {behind} records behind"


def _kept(facts: TopicFacts) -> str:
    retention_ms, retention_bytes = (int(facts.settings[name]) for name in ("retention.ms", "retention.bytes"))
    kept = "for good" if retention_ms == KEEP_FOREVER else f"{retention_ms / SECOND_MS / 86_400:.3g} days"
    return kept if retention_bytes == KEEP_FOREVER else f"{kept}, at most {retention_bytes / MIB:.0f} MiB a partition"


def _describe_folder(settings: CollectorSettings) -> Iterator[str]:
    folder = Path(settings.log_directory)
    try:
        extents = list(_extents(folder))
        log_bytes = sum(bytes_of(folder / segment_file_name(extent.number)) for extent in extents)
        file_system = os.statvfs(folder)
    except (sqlite3.Error, OSError) as error:
        raise Failure(f"log {folder}: {error}") from error
    filled = [extent for extent in extents if extent.record_count]
    yield f"log: {len(extents)} segments, {sum(e.record_count for e in extents)} records, {log_bytes / MIB:.1f} MiB"
    spare_bytes = file_system.f_bavail * file_system.f_frsize - settings.reserve_bytes
    lasts = ""
    if filled:
        age_seconds = time.time() - filled[-1].last_received_ms / SECOND_MS
        yield f"last record: {age_seconds:.0f} s ago"
        span_seconds = (filled[-1].last_received_ms - filled[0].first_received_ms) / SECOND_MS
        if span_seconds >= RATE_SECONDS_MIN and spare_bytes > 0:
            lasts = f", enough for {spare_bytes / log_bytes * span_seconds / 3600:.1f} hours at this rate"
    yield f"disk: {max(0, spare_bytes) / MIB:.0f} MiB left above the reserve{lasts}"
    for file in sorted(folder.glob(f"*{READER_SUFFIX}")):
        yield _reader_line(file, extents)
    yield from _running_lines(settings, _identity(folder))


def _identity(folder: Path) -> str:
    """The log's identity; empty for a folder without a segment that has one."""
    for number in reversed(list(segment_numbers(folder))):
        with contextlib.closing(open_to_read(folder, number)) as connection:
            if identity := identity_in(connection):
                return identity
    return ""


def _running_lines(settings: CollectorSettings, identity: str) -> Iterator[str]:
    """Counters of the collector that listens where the settings say, since it started, if it serves this log."""
    where = f"{settings.listen_address}:{settings.listen_port}"
    connection = http.client.HTTPConnection(settings.listen_address, settings.listen_port, timeout=ANSWER_SECONDS_MAX)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        yield f"collector: none answers on {where}: {error}"
        return
    if f'egpu_collector_log_info{{identity="{identity}"}}' not in page:
        yield f"collector: what answers on {where} is not the collector of this log"
        return
    yield f"collector: on {where}, since its start"
    for line in page.splitlines():
        name, _, value = line.rpartition(" ")
        metric, _, label = name.partition("{")
        if metric in _FIGURES:
            yield f"  {_FIGURES[metric]}{' {' * bool(label)}{label}: {float(value):.0f}"
