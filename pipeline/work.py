"""The work on one warehouse: batches in, hours closed, late samples merged, the place in the log kept beside."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import pyarrow as pa

from egpu_runtime.contract.process import Failure
from egpu_runtime.contract.units import HOUR_MS, SECOND_MS
from pipeline.contract.tables import CONTAINER_USAGE, GPU_USAGE
from pipeline.finalise import (
    DayFacts,
    HourFacts,
    LateBook,
    LateRules,
    LogFound,
    begun,
    closed_and_held,
    day_of,
    hours_to_make_again,
    included_in_hours,
    is_held,
    oldest_kept,
    other_log,
    reached_in_log,
    restart_position,
    stale_days,
)
from pipeline.frontier import Frontier
from pipeline.hours import Bucket, OpenHours, SampleCounts
from pipeline.interval import regular_gap_ms
from pipeline.normalise import SeriesTable
from pipeline.profile import READ_COLUMNS, day_profile
from pipeline.reading import DecodedBatch, Log, LogGap, RecordDecoder
from pipeline.rollup import concatenate
from pipeline.rows import HourRules, HourTables, hour_tables
from pipeline.settings import PipelineSettings
from pipeline.tables import Warehouse
from pipeline.watermark import closed_until, due

_LOG: Final = logging.getLogger("egpu-pipeline")


@dataclass(slots=True)
class Summary:
    """What a run did, by count; ``seconds`` of wall clock; ``stopped_early`` = told to stop before the log's end."""

    records: int = 0
    corrupt: int = 0
    hours: int = 0
    hours_made_again: int = 0
    days: int = 0
    rows: int = 0
    seconds: float = 0.0
    stopped_early: bool = False
    samples: SampleCounts = field(default_factory=SampleCounts)


@dataclass(frozen=True, slots=True)
class HourMaking:
    """Which hour (start, ms) is made, as which version, from all records up to a place, and whether early."""

    hour_ms: int
    version: int
    included: Frontier
    forced: bool


class _Reader:
    """One pass over the log into open hours, with the series table that belongs to the decoder's cache."""

    def __init__(self, open_hours: OpenHours, cluster_default: str) -> None:
        self.open_hours = open_hours
        self._cluster_default = cluster_default
        self._generation = 0
        self.table = SeriesTable(cluster_default=cluster_default)

    def take(self, decoded: DecodedBatch) -> None:
        """Put a batch into its hours."""
        if decoded.generation != self._generation:
            old, self.table = self.table, SeriesTable(cluster_default=self._cluster_default)
            self.open_hours.renumber(old, self.table)
            self._generation = decoded.generation
        for labels in decoded.new_labels:
            self.table.add(labels)
        self.open_hours.take(decoded.batch, self.table)


class Work:
    """One process's work on one warehouse. ``clock`` = seconds that only grow; ``parts`` = as in HourFacts, by hour."""

    def __init__(
        self, log: Log, warehouse: Warehouse, *, settings: PipelineSettings, clock: Callable[[], float]
    ) -> None:
        if HOUR_MS % (settings.window_seconds * SECOND_MS):
            raise Failure(f"window_seconds {settings.window_seconds} does not divide an hour")
        self._log = log
        self._warehouse = warehouse
        self.settings = settings
        self._clock = clock
        self.summary = Summary()
        self.closed: list[HourFacts] = []
        self.parts: dict[int, str] = {}
        self._window_ms = settings.window_seconds * SECOND_MS
        self.checkpoint = warehouse.read_checkpoint()
        self._late = warehouse.read_late()
        found = warehouse.hours()
        self._hours = found.finalised
        self._torn = found.torn
        self._days = warehouse.days()
        self._check_window()
        self._recognise()
        self._included = included_in_hours(self.checkpoint, self._hours)
        self._counted = replace(self.checkpoint.samples)
        self._open = self._new_open_hours(None)
        ends = (hour_ms + HOUR_MS for hour_ms in self._hours)
        self._open.closed_until_ms = max([self.checkpoint.closed_until_ms, *ends])
        self._reader = _Reader(self._open, settings.cluster_default)
        self._read = self.checkpoint.position
        self._written_at = self._merged_at = self._heard_at = clock()
        self._rested_at_position = self._read

    def _check_window(self) -> None:
        for facts in self._hours.values():
            if facts.window_ms != self._window_ms:
                raise Failure(
                    f"the warehouse was made with windows of {facts.window_ms // SECOND_MS} s, not "
                    f"{self.settings.window_seconds} s: use window_seconds {facts.window_ms // SECOND_MS} or another "
                    "warehouse"
                )
        made_s, now_s = self.checkpoint.sample_interval_seconds, self.settings.sample_interval_seconds
        if self._hours and made_s not in (0.0, now_s):
            _LOG.warning(
                "sample_interval_seconds is %g, it was %g: hours already made keep their observed_ratio; "
                "to make them again, run into a new warehouse",
                now_s,
                made_s,
            )

    def _recognise(self) -> None:
        """Go on in the log the tables were made from; in another one only where a person accepts the gap."""
        found = LogFound(self._log.found_identity(), self._log.start, self._log.end_place())
        self.checkpoint = begun(self.checkpoint, self._hours, found.start)
        why = other_log(self.checkpoint, reached_in_log(self.checkpoint, self._hours), found)
        self._log.identity = found.identity
        if why is None:
            return
        if not self.settings.accept_gap:
            raise Failure(
                f"this is not the log this warehouse was made from ({why}): use that log, a new warehouse, or "
                "--accept-gap to keep the hours made so far as they are and go on with this log from its start"
            )
        _LOG.warning("going on with another log: %s", why)
        gap = f"another log begun: {why}"
        fixed_until_ms = max((hour_ms + HOUR_MS for hour_ms in self._hours), default=0)
        self.checkpoint = self.checkpoint.of_another_log(found, gap=gap, fixed_until_ms=fixed_until_ms)
        # Notes name records of the log that is gone.
        self._late = LateBook(changed=True)
        self._warehouse.write_state(self.checkpoint, self._late)

    def _new_open_hours(self, only: frozenset[int] | None) -> OpenHours:
        return OpenHours(
            window_ms=self._window_ms,
            late_accept_ms=self.settings.late_accept_seconds * SECOND_MS,
            finalised=self._included,
            only=only,
        )

    @property
    def log(self) -> Log:
        """The log that is read."""
        return self._log

    @property
    def position(self) -> Frontier:
        """The place reached in the log."""
        return self._read

    @property
    def open_counts(self) -> SampleCounts:
        """What became of the samples read so far."""
        return self._open.counts

    def take(self, decoded: DecodedBatch) -> None:
        """Take in a batch and close the hours that are over."""
        for position, why in decoded.corrupt:
            if not self.checkpoint.corrupt_last.covers(position):
                self.summary.corrupt += 1
            self.checkpoint = self.checkpoint.with_corrupt(position, why)
        before = replace(self._open.counts)
        self._reader.take(decoded)
        if decoded.reached.beyond(self.checkpoint.counted):
            self._counted.add(self._open.counts.since(before))
        self._read = decoded.reached
        self.summary.records += len(decoded.batch.positions)
        self._note_late()
        self._close_due()
        while self._open.sample_count > self.settings.open_samples_max and self._open.buckets:
            self._close_early(min(self._open.buckets))

    def _note_late(self) -> None:
        self._late.note(self._open.late)
        self._open.late.clear()

    def _close_due(self) -> None:
        over_ms = closed_until(self._open.newest_ms, self.settings.lateness_seconds * SECOND_MS)
        if over_ms <= self._open.closed_until_ms:
            return
        for hour_ms in due(self._open.buckets, over_ms):
            self._close(hour_ms, forced=False)
        self._open.closed_until_ms = over_ms

    def _close_early(self, hour_ms: int) -> None:
        self._close(hour_ms, forced=True)
        self._open.closed_until_ms = max(self._open.closed_until_ms, hour_ms + HOUR_MS)

    def close_all(self) -> None:
        """Close every hour that has samples, though more may come; what comes later is merged."""
        for hour_ms in sorted(hour for hour, bucket in self._open.buckets.items() if bucket.inside_count):
            self._close_early(hour_ms)

    def _close(self, hour_ms: int, *, forced: bool) -> None:
        """Make the rows of an open hour. An hour with only samples before its start has none."""
        bucket = self._open.buckets.pop(hour_ms)
        if not bucket.inside_count:
            return
        version = self._torn.get(hour_ms, 0) + 1
        self._finalise(bucket, self._reader.table, HourMaking(hour_ms, version, self._read, forced))
        self.closed.append(self._hours[hour_ms])
        self.summary.hours += 1
        if self._read_state_is_due():
            self.write_state()

    def _finalise(self, bucket: Bucket, table: SeriesTable, making: HourMaking) -> None:
        hour_ms = making.hour_ms
        rules = HourRules(hour_ms, self._window_ms, self.settings.sample_interval_seconds)
        samples = concatenate(bucket.chunks)
        tables = hour_tables(samples, table.series, rules)
        facts = HourFacts(
            hour_ms=hour_ms,
            version=making.version,
            first=making.included.begun_by(bucket.firsts.values()),
            included=making.included,
            first_received_ms=bucket.first_received_ms,
            sample_count=tables.sample_count,
            too_late_count=bucket.late_count,
            late_count=self._late.count("pending", hour_ms),
            forced=making.forced,
            window_ms=self._window_ms,
            interval_ms=regular_gap_ms(samples, table.series),
            parts=self.parts.get(hour_ms, ""),
        )
        self._keep(facts, tables)

    def _keep(self, facts: HourFacts, tables: HourTables) -> None:
        """Write an hour, and the profiles of the days before it that do not match."""
        hour_ms = facts.hour_ms
        self._warehouse.write_hour(facts, {CONTAINER_USAGE.name: tables.container, GPU_USAGE.name: tables.card})
        before = self._hours.get(hour_ms)
        self.summary.samples.distinct += tables.sample_count - (before.sample_count if before else 0)
        self.summary.rows += tables.container.num_rows + tables.card.num_rows
        self._hours[hour_ms] = facts
        self._included[hour_ms] = facts.included
        self._torn.pop(hour_ms, None)
        self._make_days(before_ms=day_of(hour_ms))

    def _make_days(self, before_ms: int) -> None:
        """Profiles of days before a time (ms) that do not match their hours."""
        for day_ms in stale_days(self._hours, self._days):
            if day_ms < before_ms:
                self._make_day(day_ms)

    def _make_day(self, day_ms: int) -> None:
        hours = sorted(hour_ms for hour_ms in self._hours if day_of(hour_ms) == day_ms)
        containers, cards = (
            pa.concat_tables([self._warehouse.read_hour(table, hour_ms, READ_COLUMNS[table.name]) for hour_ms in hours])
            for table in (CONTAINER_USAGE, GPU_USAGE)
        )
        rows = day_profile(containers, cards, day_ms=day_ms, window_ms=self._window_ms)
        versions = {hour_ms: self._hours[hour_ms].version for hour_ms in hours}
        facts = DayFacts(day_ms=day_ms, hour_versions=versions, row_count=rows.num_rows)
        self._warehouse.write_day(facts, rows)
        self._days[day_ms] = facts
        self.summary.days += 1
        self.summary.rows += rows.num_rows

    def merge_late(self) -> None:
        """Make the hours again for which samples came late, from the log, and every profile that does not match."""
        self._merged_at = self._clock()
        rules = LateRules(
            self._log.lost(),
            self.settings.late_accept_seconds * SECOND_MS,
            max(oldest_kept(self._hours, self.settings.table_retention_days), self.checkpoint.fixed_until_ms),
        )
        before = self._late.count("too_late")
        upto = self._read.advanced(note.position for note in self._late.pending())
        again = hours_to_make_again(self._late, self._hours, rules)
        closed = (hour_ms for hour_ms in self._torn if hour_ms + HOUR_MS <= self._open.closed_until_ms)
        again = sorted({*again, *closed_and_held(closed, self._hours, rules)})
        while again:
            again = self._make_again(again, upto)
        too_late = self._late.count("too_late") - before
        self.summary.samples.too_late += too_late
        self._counted.too_late += too_late
        self.make_profiles()

    def _make_again(self, hours: list[int], upto: Frontier) -> list[int]:
        """One pass over the log for as many hours as memory allows, oldest first; returns those left."""
        wanted = hours
        passing = self._new_open_hours(frozenset(wanted))
        reader = _Reader(passing, self.settings.cluster_default)
        decoder = RecordDecoder(self.settings.series_count_max)
        times_ms = range(wanted[0] - self._window_ms, wanted[-1] + HOUR_MS)
        for records in self._log.read_between(times_ms, upto, sample_count_max=self.settings.batch_samples_max):
            for decoded in decoder.decode(records, upto, upto):
                reader.take(decoded)
            while passing.sample_count > self.settings.open_samples_max and len(wanted) > 1:
                passing.buckets.pop(wanted[-1], None)
                wanted = wanted[:-1]
                passing.restrict(frozenset(wanted))
        lost = self._log.lost()
        for hour_ms in wanted:
            # Retention may have taken records away during the pass; then the hour stays as it was.
            if hour_ms not in self._hours or is_held(self._hours[hour_ms], lost):
                self._finish_again(hour_ms, passing.buckets.get(hour_ms), reader.table, upto=upto)
        return hours[len(wanted) :]

    def _finish_again(self, hour_ms: int, bucket: Bucket | None, table: SeriesTable, *, upto: Frontier) -> None:
        version = max(self._torn.get(hour_ms, 0), self._hours[hour_ms].version if hour_ms in self._hours else 0) + 1
        if bucket is not None and bucket.inside_count:
            self._finalise(bucket, table, HourMaking(hour_ms, version, upto, forced=False))
            self.summary.hours_made_again += 1
        for note in self._late.pending():
            if note.hour_ms == hour_ms:
                facts = self._hours.get(hour_ms)
                limit = self.settings.late_accept_seconds * SECOND_MS
                late = facts is not None and note.received_ms - facts.first_received_ms > limit
                self._late.decide((note.position, hour_ms), "too_late" if late else "merged")

    def make_profiles(self) -> None:
        """Every profile that does not match its hours."""
        self._make_days(before_ms=1 << 62)

    def _read_state_is_due(self) -> bool:
        return self._clock() - self._written_at >= self.settings.checkpoint_seconds

    def write_state(self) -> None:
        """Late notes, then the checkpoint, then the informative copy in the log folder."""
        newest = max((note.received_ms for note in self._late.notes.values()), default=0)
        self._late.forget(newest - self.settings.late_accept_seconds * SECOND_MS)
        self.checkpoint = replace(
            self.checkpoint,
            position=restart_position(self._open.buckets.values(), self._read),
            closed_until_ms=max(self._open.closed_until_ms, 0),
            log_identity=self._log.identity,
            samples=replace(self._counted),
            counted=self.checkpoint.counted.advanced(self._read.places),
            window_seconds=self.settings.window_seconds,
            sample_interval_seconds=self.settings.sample_interval_seconds,
        )
        self._warehouse.write_state(self.checkpoint, self._late)
        self._log.note_position(self._read)
        self._written_at = self._clock()

    def retire(self) -> None:
        """Remove tables older than the retention."""
        oldest = oldest_kept(self._hours, self.settings.table_retention_days)
        if oldest < 0:
            return
        self._warehouse.remove_before(oldest)
        for hour_ms in [hour_ms for hour_ms in self._hours if hour_ms < oldest]:
            del self._hours[hour_ms]
            self._included.pop(hour_ms, None)
        self._days = {day_ms: facts for day_ms, facts in self._days.items() if day_ms >= oldest}

    def accept_gap(self, gap: LogGap) -> None:
        """Go on after records that were lost, and keep their names."""
        self._read = gap.resume
        self.checkpoint = replace(self.checkpoint, position=gap.resume, gaps=(*self.checkpoint.gaps, str(gap)))

    def rest(self) -> None:
        """The log's end is reached for now: with --follow, merge now and then, and close the hours of a dead source."""
        now = self._clock()
        if self._read != self._rested_at_position:
            self._rested_at_position, self._heard_at = self._read, now
        if now - self._heard_at >= self.settings.idle_close_seconds and self._open.buckets:
            self.close_all()
            self.merge_late()
        if now - self._merged_at >= self.settings.merge_seconds:
            self.merge_late()
            self.retire()
        self.make_profiles()
        if self._read_state_is_due():
            self.write_state()
