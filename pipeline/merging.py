"""Records of several partitions in one order: by receive time, as one log would hold them."""

import heapq
from collections import deque
from collections.abc import Iterable, Mapping

from collector.contract.record import Record


class Merge:
    """Holds records of partitions until it is known which was received first.

    ``partitions`` are those that are read. A partition with no record here and no end reached is waited for: the next
    record may be its. ``ends`` = last row of each partition that is read, None to read on at the log's end.
    Order decides only which hours are closed first and what memory that takes; rows do not depend on it.
    """

    def __init__(self, partitions: Iterable[int], ends: Mapping[int, int] | None = None) -> None:
        self._ends = ends
        self._held: dict[int, deque[Record]] = {partition: deque() for partition in partitions}
        self._bytes = dict.fromkeys(self._held, 0)
        self._heads: list[tuple[int, int]] = []
        self._awaited = set(self._held)
        self._ended: set[int] = set()

    def put(self, record: Record) -> None:
        """Take in the next record of its partition; one after the end says that the end is reached."""
        partition, row = record.position.segment, record.position.row
        if self._ends is not None and row > self._ends[partition]:
            self.end(partition)
            return
        held = self._held[partition]
        if not held:
            heapq.heappush(self._heads, (record.received_ms, partition))
        held.append(record)
        self._bytes[partition] += len(record.block)
        self._awaited.discard(partition)
        self._ended.discard(partition)

    def end(self, partition: int) -> None:
        """A partition has no more records, for now or up to its end."""
        self._awaited.discard(partition)
        self._ended.add(partition)

    @property
    def is_at_end(self) -> bool:
        """Nothing is held and nothing is waited for."""
        return not self._heads and not self._awaited

    def take(self, sample_count_max: int) -> list[Record]:
        """Records in order until they hold so many samples or one that is not here may be next."""
        taken: list[Record] = []
        samples = 0
        while self._heads and not self._awaited and samples < sample_count_max:
            record = self._pop()
            taken.append(record)
            samples += record.sample_count
        return taken

    def _pop(self) -> Record:
        _, partition = heapq.heappop(self._heads)
        held = self._held[partition]
        record = held.popleft()
        self._bytes[partition] -= len(record.block)
        if held:
            heapq.heappush(self._heads, (held[0].received_ms, partition))
        elif partition not in self._ended and not self._is_last(record):
            self._awaited.add(partition)
        return record

    def _is_last(self, record: Record) -> bool:
        return self._ends is not None and record.position.row >= self._ends[record.position.segment]

    def fuller_than(self, bytes_max: int) -> set[int]:
        """Partitions that hold more bytes than their share of a bound."""
        share = bytes_max // len(self._held)
        return {partition for partition, held in self._bytes.items() if held > share}
