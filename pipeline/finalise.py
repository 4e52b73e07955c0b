"""What is known of finalised hours and of the place in the log, and which hours have to be made again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from collector.contract.record import Position
from egpu_runtime.contract.units import DAY_MS, HOUR_MS, floor_ms
from pipeline.contract.tables import WAREHOUSE_SCHEMA_VERSION
from pipeline.frontier import START_OF_SEGMENTS, Frontier
from pipeline.hours import Bucket, LateRecord, SampleCounts

Decision = Literal["pending", "merged", "too_late"]

CORRUPT_NAMED_MAX: Final = 20
"""Positions of corrupt records that are kept by name, count; the rest is only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HourFacts:
    """Of one finalised hour: its version (1 = first), the records it was made from (where they begin and up to where
    the log was read, receive time of the first, ms, 0 = not known), distinct samples, samples refused as too late,
    whether it was closed early, and how far apart samples of memory use came (ms, 0 = not regularly).

    ``parts`` = digest of the files of series windows it stands for, empty where it was made of a log alone.
    ``waits_for_log`` = it was made from them though it should be from the log, which was not at hand."""

    hour_ms: int
    version: int
    first: Frontier
    included: Frontier
    first_received_ms: int
    sample_count: int
    too_late_count: int = 0
    late_count: int = 0
    forced: bool = False
    window_ms: int = 0
    interval_ms: int = 0
    parts: str = ""
    waits_for_log: bool = False
    schema_version: int = WAREHOUSE_SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """Manifest of one table's file of an hour: the hour's facts, rows and their window starts (ms, None = no row)."""

    hour: HourFacts
    row_count: int
    window_min_ms: int | None
    window_max_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFacts:
    """Manifest of one day's profile: versions of the hours (starts, ms) it was made from."""

    day_ms: int
    hour_versions: Mapping[int, int]
    row_count: int
    schema_version: int = WAREHOUSE_SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Up to which record all samples belong to finalised hours or are noted as late, and what was met on the way.

    ``log_identity`` = the log that positions are of, empty while it is not known; hours that end at or before
    ``fixed_until_ms`` were made from a log before it. ``samples`` = what became of the samples up to ``counted``,
    over all runs; operational: a batch that a kill or a restart cut in two may be counted twice. ``window_seconds`` and
    ``sample_interval_seconds`` = the settings hours were last made with, 0 = not known.
    """

    position: Frontier = START_OF_SEGMENTS
    log_identity: str = ""
    fixed_until_ms: int = 0
    samples: SampleCounts = field(default_factory=SampleCounts)
    counted: Frontier = START_OF_SEGMENTS
    closed_until_ms: int = 0
    corrupt_count: int = 0
    corrupt_last: Frontier = START_OF_SEGMENTS
    corrupt_named: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    window_seconds: int = 0
    sample_interval_seconds: float = 0.0
    schema_version: int = WAREHOUSE_SCHEMA_VERSION

    def with_corrupt(self, position: Position, why: str) -> "Checkpoint":
        """Count a corrupt record once, however often it is read."""
        if self.corrupt_last.covers(position):
            return self
        named = (*self.corrupt_named, f"{self.corrupt_last.name(position)}: {why}")
        return replace(
            self,
            corrupt_count=self.corrupt_count + 1,
            corrupt_last=self.corrupt_last.advanced([position]),
            corrupt_named=named[-CORRUPT_NAMED_MAX:],
        )

    def begun_at(self, start: Frontier) -> "Checkpoint":
        """At the start of a log; frontiers of its kind from here on."""
        return replace(self, position=start, counted=start, corrupt_last=start)

    def of_another_log(self, found: "LogFound", *, gap: str, fixed_until_ms: int) -> "Checkpoint":
        """Go on at the start of another log; hours made so far stay as they are, for no log holds all of them."""
        return replace(
            self.begun_at(found.start),
            log_identity=found.identity,
            fixed_until_ms=max(fixed_until_ms, self.fixed_until_ms),
            gaps=(*self.gaps, gap),
        )


@dataclass(frozen=True, slots=True)
class LogFound:
    """A log as it is now: its identity (empty = not given), its start, and the place of its last record."""

    identity: str
    start: Frontier
    end: Frontier


def begun(checkpoint: Checkpoint, hours: Mapping[int, HourFacts], start: Frontier) -> Checkpoint:
    """A checkpoint that was never written, at the start of the log; hours a kill left before it are of the same kind
    of log."""
    new = not checkpoint.log_identity and not checkpoint.position.beyond(START_OF_SEGMENTS)
    same = all(facts.included.partitioned == start.partitioned for facts in hours.values())
    return checkpoint.begun_at(start) if new and same else checkpoint


def reached_in_log(checkpoint: Checkpoint, hours: Mapping[int, HourFacts]) -> Frontier:
    """Up to where the checkpoint or an hour made from the same log includes it."""
    included = included_in_hours(checkpoint, hours).values()
    return checkpoint.position.advanced(place for frontier in included for place in frontier.places)


def included_in_hours(checkpoint: Checkpoint, hours: Mapping[int, HourFacts]) -> dict[int, Frontier]:
    """Hours (starts, ms) made from the checkpoint's log, with the place up to which each includes it."""
    return {hour_ms: facts.included for hour_ms, facts in hours.items() if hour_ms >= checkpoint.fixed_until_ms}


def other_log(checkpoint: Checkpoint, reached: Frontier, found: LogFound) -> str | None:
    """Why a log is not the one that was read so far, None when it may be. A checkpoint without an identity is of
    whatever log goes at least as far as it does: it may be older than identities are."""
    if checkpoint.log_identity and found.identity != checkpoint.log_identity:
        return f"its identity is {found.identity or 'not given'}, not {checkpoint.log_identity}"
    if reached.partitioned != found.end.partitioned:
        return f"it is read up to {found.end}, and {reached} was read"
    if beyond := reached.beyond(found.end):
        ends = ", ".join(found.end.name(found.end.place_of(place)) for place in beyond)
        return f"it ends at {ends} and {', '.join(map(reached.name, beyond))} was read"
    return None


@dataclass(frozen=True, slots=True)
class LateNote:
    """A row of late_samples."""

    position: Position
    hour_ms: int
    received_ms: int
    sample_count: int
    decision: Decision


@dataclass(slots=True)
class LateBook:
    """Late records by (position, hour); the same record read twice is noted once. ``changed`` = not yet written."""

    notes: dict[tuple[Position, int], LateNote] = field(default_factory=dict)
    changed: bool = False

    def note(self, records: Iterable[LateRecord]) -> int:
        """Take in late records; returns how many samples of them are new."""
        new = 0
        for record in records:
            key = (record.position, record.hour_ms)
            if key in self.notes:
                continue
            decision: Decision = "too_late" if record.too_late else "pending"
            self.notes[key] = LateNote(
                record.position, record.hour_ms, record.received_ms, record.sample_count, decision
            )
            new += record.sample_count
            self.changed = True
        return new

    def decide(self, key: tuple[Position, int], decision: Decision) -> None:
        """Write down what became of a note."""
        self.changed = True
        self.notes[key] = replace(self.notes[key], decision=decision)

    def pending(self) -> list[LateNote]:
        """Notes not yet decided, by hour and position."""
        notes = (note for note in self.notes.values() if note.decision == "pending")
        return sorted(notes, key=lambda note: (note.hour_ms, note.position))

    def count(self, decision: Decision, hour_ms: int | None = None) -> int:
        """Samples with a decision, of one hour or of all."""
        return sum(
            note.sample_count
            for note in self.notes.values()
            if note.decision == decision and hour_ms in (None, note.hour_ms)
        )

    def forget(self, received_before_ms: int) -> None:
        """Drop decided notes received before a time; they are operational and must not grow without end."""
        kept = {
            key: note
            for key, note in self.notes.items()
            if note.decision == "pending" or note.received_ms >= received_before_ms
        }
        self.changed = self.changed or len(kept) < len(self.notes)
        self.notes = kept


@dataclass(frozen=True, slots=True)
class LateRules:
    """What the log no longer holds, how late is accepted (ms), the oldest hour that may change (ms)."""

    lost: Frontier
    late_accept_ms: int
    hour_oldest_ms: int


def hours_to_make_again(late: LateBook, hours: Mapping[int, HourFacts], rules: LateRules) -> list[int]:
    """Decide every pending note and return the hours (starts, ms) that have to be made again from the log.

    A note is merged already if its hour includes its position; too late if it was received more than
    ``late_accept_ms`` after the hour's first record, or the log no longer holds all of the hour.
    """
    again: set[int] = set()
    for note in late.pending():
        key = (note.position, note.hour_ms)
        facts = hours.get(note.hour_ms)
        if note.hour_ms < rules.hour_oldest_ms:
            late.decide(key, "too_late")
        elif facts is not None and facts.included.covers(note.position):
            late.decide(key, "merged")
        elif facts is not None and _is_too_late(note, facts, rules):
            late.decide(key, "too_late")
        else:
            again.add(note.hour_ms)
    return sorted(again)


def closed_and_held(torn: Iterable[int], hours: Mapping[int, HourFacts], rules: LateRules) -> list[int]:
    """Torn hours (starts, ms) that can be made again: kept, and all of their records still in the log."""
    return [
        hour_ms
        for hour_ms in torn
        if hour_ms >= rules.hour_oldest_ms and (hour_ms not in hours or is_held(hours[hour_ms], rules.lost))
    ]


def is_held(facts: HourFacts, lost: Frontier) -> bool:
    """Whether all records of an hour are still in the log."""
    return not any(lost.covers(first) for first in facts.first.places)


def _is_too_late(note: LateNote, facts: HourFacts, rules: LateRules) -> bool:
    too_old = note.received_ms - facts.first_received_ms > rules.late_accept_ms
    return (too_old and facts.first_received_ms > 0) or not is_held(facts, rules.lost)


def restart_position(buckets: Iterable[Bucket], read: Frontier) -> Frontier:
    """The place to read on from after a restart: before the first record that an open hour needs."""
    return read.before(first for bucket in buckets for first in bucket.firsts.values())


def day_of(hour_ms: int) -> int:
    """Start of the day (ms UTC) that holds an hour."""
    return floor_ms(hour_ms, DAY_MS)


def stale_days(hours: Mapping[int, HourFacts], days: Mapping[int, DayFacts]) -> list[int]:
    """Days (starts, ms) whose profile was not made from the hours as they are now, oldest first."""
    wanted: dict[int, dict[int, int]] = {}
    for hour_ms, facts in hours.items():
        wanted.setdefault(day_of(hour_ms), {})[hour_ms] = facts.version
    return sorted(day for day, versions in wanted.items() if day not in days or days[day].hour_versions != versions)


def oldest_kept(hours: Iterable[int], retention_days: int) -> int:
    """Start (ms) of the oldest hour that is kept; everything is kept when ``retention_days`` is 0."""
    newest = max(hours, default=0)
    return day_of(newest + HOUR_MS) - retention_days * DAY_MS if retention_days and newest else -(1 << 62)
