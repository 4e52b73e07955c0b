"""What the work needs of a log, whichever it is, and records decoded into batches."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from collector.contract.record import Position, Record
from collector.contract.samples import CorruptRecord, SampleDecoder, Samples
from egpu_runtime.contract.process import Failure
from pipeline.frontier import Frontier
from pipeline.hours import Batch

READER_NAME: Final = "pipeline"
"""The name under which we leave our position with the log, for its own lag."""

T = TypeVar("T", np.int32, np.int64, np.float64)


class LogGap(Exception):  # noqa: N818 - reads as the sentence "raise LogGap(what, ...)"
    """Records were removed before they were read. ``resume`` is the place after the gap."""

    def __init__(self, what: str, resume: Frontier) -> None:
        super().__init__(what)
        self.resume = resume


class ReadingStopped(Exception):  # noqa: N818 - reads as the sentence "raise ReadingStopped"
    """Told to stop while the log could not be read."""


class Log(Protocol):
    """A log for reading. Every method raises Failure where a person can act.

    ``identity`` is the log's that records are read of, empty while it is not known; another log is refused.
    """

    identity: str

    @property
    def start(self) -> Frontier:
        """The place before the first record of any log of this kind."""

    @property
    def name(self) -> str:
        """How a person knows the log."""

    def found_identity(self) -> str:
        """The identity of the log as it is now, empty when it has none."""

    def end_place(self) -> Frontier:
        """The last place of the log."""

    def lost(self) -> Frontier:
        """Covers the records that retention has removed."""

    def may_have_lost(self, received_ms: int) -> bool:
        """Whether retention may have removed a record that was received at or after a time (ms)."""

    def read(self, after: Frontier, sample_count_max: int) -> tuple[list[Record], Frontier]:
        """Some records after a place, and the place reached; no records at the log's end. Raises LogGap.

        Records of a partitioned log come by receive time, as far as they are there.
        """

    def read_between(self, times_ms: range, upto: Frontier, *, sample_count_max: int) -> Iterator[list[Record]]:
        """Records up to a place that may hold samples with times in ``times_ms``, some at a time, in the order of
        :meth:`read`."""

    def records_after(self, place: Frontier) -> int:
        """Records that a reader at a place has not read."""

    def lag_ms(self, place: Frontier) -> int:
        """Receive time of the last record less that of the last one read, ms; 0 when either is not known."""

    def note_position(self, place: Frontier) -> None:
        """Leave an informative copy of our place with the log; where that is not allowed it goes without."""

    def close(self) -> None:
        """Let go of the log."""


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """A batch with the series that are new in it; ``generation`` counts fresh starts of the series cache.

    ``reached`` is the place reached in the log; ``corrupt`` names records that could not be decoded, and why.
    """

    batch: Batch
    generation: int
    new_labels: tuple[tuple[tuple[str, str], ...], ...]
    corrupt: tuple[tuple[Position, str], ...]
    reached: Frontier


@dataclass(slots=True)
class _Pending:
    """A batch being put together."""

    generation: int
    records: list[Record] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)
    labels: list[tuple[tuple[str, str], ...]] = field(default_factory=list)
    corrupt: list[tuple[Position, str]] = field(default_factory=list)

    def pack(self, reached: Frontier) -> DecodedBatch:
        batch = Batch(
            tuple(record.position for record in self.records),
            np.array([record.received_ms for record in self.records], np.int64),
            np.array([len(samples.series) for samples in self.samples], np.int64),
            _join([samples.series for samples in self.samples], np.int32),
            _join([samples.timestamp_ms for samples in self.samples], np.int64),
            _join([samples.value for samples in self.samples], np.float64),
        )
        return DecodedBatch(batch, self.generation, tuple(self.labels), tuple(self.corrupt), reached)

    def places(self) -> Iterator[Position]:
        yield from (record.position for record in self.records)
        yield from (position for position, _ in self.corrupt)


def _join(arrays: list[NDArray[T]], kind: type[T]) -> NDArray[T]:
    return np.concatenate(arrays) if arrays else np.empty(0, kind)


class RecordDecoder:
    """Turns records into batches with one series cache. One per thread."""

    def __init__(self, series_count_max: int) -> None:
        self._decoder = SampleDecoder(series_count_max=series_count_max)
        self._known = 0

    def decode(self, records: Iterable[Record], after: Frontier, reached: Frontier) -> Iterator[DecodedBatch]:
        """One batch, or several where the series cache starts afresh in between; the records lead from one place in
        the log to another."""
        pending = _Pending(self._decoder.generation)
        for record in records:
            samples = why = None
            try:
                samples = self._decode(record)
            except CorruptRecord as error:
                why = str(error)
            if self._decoder.generation != pending.generation:
                # What was decoded before has its labels already; ids start again with this record.
                after = after.advanced(pending.places())
                yield pending.pack(after)
                pending = _Pending(self._decoder.generation)
                self._known = 0
            pending.labels.extend(self._new_labels())
            if samples is not None:
                pending.records.append(record)
                pending.samples.append(samples)
            elif why is not None:
                pending.corrupt.append((record.position, why))
        yield pending.pack(reached)

    def _decode(self, record: Record) -> Samples:
        return self._decoder.decode(record.block) if record.compressed else self._decoder.decode_body(record.block)

    def _new_labels(self) -> list[tuple[tuple[str, str], ...]]:
        count = self._decoder.series_count
        labels = [self._decoder.labels(series) for series in range(self._known, count)]
        self._known = count
        return labels


def resume_after(after: Frontier, bounds: Mapping[int, tuple[int, int]], name: str) -> Frontier:
    """Where to read on in a log of partitions with these least and next offsets: the place itself with every partition
    in it. Raises LogGap when records after it are gone, Failure when the log does not go as far."""
    place = after.advanced(Position(partition, 0) for partition in bounds)
    beyond = [each for each in place.places if each.row > bounds.get(each.segment, (0, 0))[1]]
    if beyond:
        read = ", ".join(map(place.name, beyond))
        raise Failure(f"topic {name} has become another log: it ends before {read}, which was read: start again")
    resume = place.advanced(Position(partition, low) for partition, (low, _) in bounds.items())
    gaps = [
        f"partition {new.segment} offsets {old.row} to {new.row - 1}"
        for old, new in zip(place.places, resume.places, strict=True)
        if old != new
    ]
    # A reader that begins takes what there is.
    if gaps and after.places:
        raise LogGap(", ".join(gaps), resume)
    return resume
