"""Places in a log: up to where each part of it was read, when the log is one sequence and when it has partitions."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from collector.contract.record import START, Position


@dataclass(frozen=True, slots=True)
class Frontier:
    """Up to which record a log was read: everything at or before ``places`` is covered.

    A log of segments (SQLite) has one place, which covers all earlier segments. In a ``partitioned`` log (Kafka) a
    position's segment is the partition and its row the offset plus 1, so that row 0 is before the first record; there
    is one place a partition, in ascending order, and partitions say nothing about each other.
    """

    places: tuple[Position, ...] = (START,)
    partitioned: bool = False

    def covers(self, position: Position) -> bool:
        """Whether a record was read."""
        return position <= self.place_of(position)

    def beyond(self, other: "Frontier") -> tuple[Position, ...]:
        """Our places that another frontier does not cover, empty when it has all that we have."""
        return tuple(place for place in self.places if not other.covers(place))

    def place_of(self, position: Position) -> Position:
        """Our place in the part of the log that a record is in."""
        if not self.partitioned:
            return self.places[0]
        rows = (place.row for place in self.places if place.segment == position.segment)
        return Position(position.segment, next(rows, 0))

    def advanced(self, positions: Iterable[Position]) -> "Frontier":
        """The frontier after some records were read as well."""
        if not self.partitioned:
            return replace(self, places=(max([self.places[0], *positions]),))
        rows = {place.segment: place.row for place in self.places}
        for position in positions:
            rows[position.segment] = max(rows.get(position.segment, 0), position.row)
        return replace(self, places=_sorted(rows))

    def before(self, positions: Iterable[Position]) -> "Frontier":
        """The frontier moved back so far that none of some records is covered."""
        rows = [Position(position.segment, position.row - 1) for position in positions]
        if not self.partitioned:
            return replace(self, places=(min([self.places[0], *rows]),))
        least = {place.segment: place.row for place in self.places}
        for position in rows:
            least[position.segment] = min(least.get(position.segment, 0), position.row)
        return replace(self, places=_sorted(least))

    def begun_by(self, positions: Iterable[Position]) -> "Frontier":
        """Where a set of records begins in this log: the first of all, or the first of each partition."""
        ordered = sorted(positions)
        if not self.partitioned:
            return replace(self, places=tuple(ordered[:1]) or (START,))
        rows = {position.segment: position.row for position in reversed(ordered)}
        return replace(self, places=_sorted(rows))

    def name(self, position: Position) -> str:
        """How a person finds a record again."""
        if self.partitioned and position.row == 0:
            return f"the start of partition {position.segment}"
        if self.partitioned:
            return f"partition {position.segment} offset {position.row - 1}"
        return f"segment {position.segment} row {position.row}"

    def __str__(self) -> str:
        return ", ".join(map(self.name, self.places)) or "the start"


def _sorted(rows: dict[int, int]) -> tuple[Position, ...]:
    return tuple(Position(partition, rows[partition]) for partition in sorted(rows))


START_OF_SEGMENTS: Final = Frontier()
"""Before the first record of a log of segments."""

START_OF_PARTITIONS: Final = Frontier((), partitioned=True)
"""Nothing of a partitioned log was read, and its partitions are not known yet."""
