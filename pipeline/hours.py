"""Batches of the log to the hours they belong to: which samples count, which are late, what is still open."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.contract.record import Position
from egpu_runtime.contract.units import HOUR_MS, MINUTE_MS, STALE_MARKER_BITS
from pipeline.frontier import Frontier
from pipeline.normalise import SeriesTable
from pipeline.rollup import Flags, Floats, HourSamples, Ints, Numbers

FUTURE_MS_MAX: Final = 10 * MINUTE_MS
"""A sample may be this far ahead of the receiver's clock, ms; Prometheus refuses more (tsdb head append)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records of the log, decoded: per record its position, receive time (ms) and sample count, in log order;
    per sample the sender's series id, time (ms UTC) and value."""

    positions: tuple[Position, ...]
    received_ms: Ints
    counts: Ints
    series: Numbers
    timestamp_ms: Ints
    value: Floats

    def record(self, index: int) -> "Batch":
        """One record of the batch as a batch."""
        end = int(self.counts[: index + 1].sum())
        cut = slice(end - int(self.counts[index]), end)
        one = slice(index, index + 1)
        return Batch(
            self.positions[one],
            self.received_ms[one],
            self.counts[one],
            self.series[cut],
            self.timestamp_ms[cut],
            self.value[cut],
        )


@dataclass(slots=True)
class SampleCounts:
    """What became of samples, by count; ``distinct`` = (series, time) pairs that went into finalised hours."""

    read: int = 0
    unknown: int = 0
    stale: int = 0
    invalid: int = 0
    future: int = 0
    late: int = 0
    too_late: int = 0
    distinct: int = 0

    def add(self, other: "SampleCounts") -> None:
        """Add another count to this one."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def since(self, before: "SampleCounts") -> "SampleCounts":
        """What was counted after an earlier state of this count."""
        return SampleCounts(*(getattr(self, each.name) - getattr(before, each.name) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class LateRecord:
    """Samples of one record that came after their hour was closed (``hour_ms`` = its start) or too late for it."""

    position: Position
    hour_ms: int
    received_ms: int
    sample_count: int
    too_late: bool


@dataclass(slots=True)
class Bucket:
    """One open hour: its samples so far, and where in the log it begins: ``firsts`` = its first record in each
    segment (or partition) of the log, ``first_received_ms`` = when the first of all was received."""

    first_received_ms: int
    firsts: dict[int, Position] = field(default_factory=dict)
    chunks: list[HourSamples] = field(default_factory=list)
    sample_count: int = 0
    inside_count: int = 0
    late_count: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    """Valid samples of a batch in terms of our series."""

    series: Numbers
    timestamp_ms: Ints
    value: Floats


def keep_valid(batch: Batch, table: SeriesTable, counts: SampleCounts) -> _Kept:
    """The samples of series we know that are numbers, scaled to our units.

    Stale markers, NaN and infinities are no values (Prometheus model/value); what is dropped is counted.
    """
    readings = table.readings
    ours = readings.first[batch.series]
    known = ours >= 0
    # NaN compares false, so does infinity with the default bound; times before 1970 have no folder.
    good = known & (np.abs(batch.value) < readings.valid_max[batch.series]) & (batch.timestamp_ms >= 0)
    counts.read += len(ours)
    if good.all():
        series, time, value = batch.series, batch.timestamp_ms, batch.value
    else:
        stale = int((known & (batch.value.view(np.int64) == STALE_MARKER_BITS)).sum())
        counts.unknown += len(ours) - int(known.sum())
        counts.stale += stale
        counts.invalid += int(known.sum()) - int(good.sum()) - stale
        series, time, value = batch.series[good], batch.timestamp_ms[good], batch.value[good]
        ours = ours[good]
    value = value * readings.scale[series]
    if table.has_second:
        second = readings.second[series]
        both = second >= 0
        ours, time, value = (
            np.concatenate([ours, second[both]]),
            np.concatenate([time, time[both]]),
            np.concatenate([value, value[both]]),
        )
    return _Kept(ours, time, value)


class OpenHours:
    """Hours being filled from the log, in log order.

    ``finalised`` maps the start of a finalised hour (ms) to the place up to which it includes the log; the owner may
    add to it.
    Hours that end at or before ``closed_until_ms`` are closed: samples for them are late unless already included.
    ``only`` restricts to some hours, as when they are made again from the log; then nothing is late.
    """

    def __init__(
        self,
        *,
        window_ms: int,
        late_accept_ms: int,
        finalised: Mapping[int, Frontier],
        only: frozenset[int] | None = None,
    ) -> None:
        self._window_ms = window_ms
        self._late_accept_ms = late_accept_ms
        self._finalised = finalised
        self._only = only
        self.closed_until_ms = -(1 << 62)
        self.newest_ms = -(1 << 62)
        self.buckets: dict[int, Bucket] = {}
        self.late: list[LateRecord] = []
        self.counts = SampleCounts()

    def restrict(self, only: frozenset[int]) -> None:
        """Take samples of fewer hours from now on."""
        self._only = only

    @property
    def sample_count(self) -> int:
        """Samples held."""
        return sum(bucket.sample_count for bucket in self.buckets.values())

    def take(self, batch: Batch, table: SeriesTable) -> None:
        """Put the samples of a batch into their hours."""
        if len(batch.timestamp_ms) == 0:
            return
        if len(batch.positions) > 1 and not self._is_plain(batch, table):
            for index in range(len(batch.positions)):
                self.take(batch.record(index), table)
            return
        kept = keep_valid(batch, table, self.counts)
        kept = self._drop_future(kept, int(batch.received_ms[0]))
        if len(kept.timestamp_ms) == 0:
            return
        self.newest_ms = max(self.newest_ms, int(kept.timestamp_ms.max()))
        self._take_inside(batch, kept)
        self._take_before(batch, kept, table)

    def _is_plain(self, batch: Batch, table: SeriesTable) -> bool:
        """Every sample of the batch goes to an open hour that was begun before, so records need not be told apart."""
        oldest = int(batch.timestamp_ms.min()) // HOUR_MS * HOUR_MS
        newest = int(batch.timestamp_ms.max())
        if newest > int(batch.received_ms.min()) + FUTURE_MS_MAX:
            return False
        received_ms = int(batch.received_ms.max())
        segments = {position.segment for position in batch.positions}
        reach_ms = newest + (self._window_ms if table.counter.any() else 0)
        for hour_ms in range(oldest, reach_ms + 1, HOUR_MS):
            bucket = self.buckets.get(hour_ms)
            if bucket is None or received_ms - bucket.first_received_ms > self._late_accept_ms:
                return False
            if not segments <= bucket.firsts.keys() or batch.received_ms.min() < bucket.first_received_ms:
                return False
        return True

    def _drop_future(self, kept: _Kept, received_ms: int) -> _Kept:
        future: Flags = kept.timestamp_ms > received_ms + FUTURE_MS_MAX
        if not future.any():
            return kept
        self.counts.future += int(future.sum())
        return _Kept(kept.series[~future], kept.timestamp_ms[~future], kept.value[~future])

    def _take_inside(self, batch: Batch, kept: _Kept) -> None:
        hour = kept.timestamp_ms // HOUR_MS
        first, last = int(hour.min()), int(hour.max())
        if first == last:
            self._offer(batch, first * HOUR_MS, kept, inside=True)
            return
        for each in np.unique(hour).tolist():
            self._offer(batch, each * HOUR_MS, _select(kept, hour == each), inside=True)

    def _take_before(self, batch: Batch, kept: _Kept, table: SeriesTable) -> None:
        """Counters also need the last window before an hour, to know the rise to the hour's first sample."""
        counter = table.counter
        if not counter.any():
            return
        reaches = (kept.timestamp_ms + self._window_ms) // HOUR_MS
        before = counter[kept.series] & (reaches > kept.timestamp_ms // HOUR_MS)
        for each in np.unique(reaches[before]).tolist():
            self._offer(batch, each * HOUR_MS, _select(kept, before & (reaches == each)), inside=False)

    def _offer(self, batch: Batch, hour_ms: int, samples: _Kept, *, inside: bool) -> None:
        if self._only is not None:
            if hour_ms not in self._only:
                return
        elif hour_ms + HOUR_MS <= self.closed_until_ms:
            self._note_late(batch, hour_ms, len(samples.series))
            return
        position, received_ms = batch.positions[0], int(batch.received_ms[0])
        bucket = self.buckets.get(hour_ms)
        if bucket is None:
            bucket = self.buckets[hour_ms] = Bucket(received_ms)
        # Records of different partitions come nearly by receive time.
        bucket.first_received_ms = min(bucket.first_received_ms, received_ms)
        if int(batch.received_ms[-1]) - bucket.first_received_ms > self._late_accept_ms:
            self.counts.too_late += len(samples.series)
            bucket.late_count += len(samples.series)
            self.late.append(LateRecord(position, hour_ms, received_ms, len(samples.series), too_late=True))
            return
        bucket.firsts.setdefault(position.segment, position)
        time = (samples.timestamp_ms - (hour_ms - self._window_ms)).astype(np.int32)
        bucket.chunks.append(HourSamples(samples.series, time, samples.value))
        bucket.sample_count += len(time)
        bucket.inside_count += len(time) if inside else 0

    def _note_late(self, batch: Batch, hour_ms: int, sample_count: int) -> None:
        position = batch.positions[0]
        included = self._finalised.get(hour_ms)
        if included is not None and included.covers(position):
            return
        self.counts.late += sample_count
        self.late.append(
            LateRecord(position, hour_ms, int(batch.received_ms[0]), sample_count, too_late=False),
        )

    def renumber(self, old: SeriesTable, new: SeriesTable) -> None:
        """Carry the open samples over to a new series table."""
        number: NDArray[np.int32] = np.full(len(old.series), -1, np.int32)
        for bucket in self.buckets.values():
            for index, chunk in enumerate(bucket.chunks):
                for each in np.unique(chunk.series).tolist():
                    if number[each] < 0:
                        number[each] = new.number(old.series[each])
                bucket.chunks[index] = HourSamples(number[chunk.series], chunk.time, chunk.value)


def _select(kept: _Kept, chosen: Flags) -> _Kept:
    return _Kept(kept.series[chosen], kept.timestamp_ms[chosen], kept.value[chosen])
