"""Places in a log, of one sequence and of partitions; records of partitions in one order."""

import random

import pytest

from collector.contract.record import Position, Record
from pipeline.frontier import START_OF_PARTITIONS, START_OF_SEGMENTS, Frontier
from pipeline.merging import Merge
from pipeline.reading import LogGap, resume_after


def partitions(*rows: int) -> Frontier:
    return START_OF_PARTITIONS.advanced(Position(partition, row) for partition, row in enumerate(rows))


def at(segment: int, row: int) -> Frontier:
    return Frontier((Position(segment, row),))


def test_a_segment_covers_all_before_it_and_a_partition_itself_alone() -> None:
    segments, topic = at(2, 5), partitions(3, 0, 5)
    covered = [Position(1, 99), Position(2, 5), Position(2, 6), Position(3, 1), Position(0, 3), Position(0, 4)]
    assert [segments.covers(position) for position in covered] == [True, True, False, False, True, True]
    assert [topic.covers(position) for position in covered] == [False, True, False, False, True, False]


def test_going_on_is_free_of_order() -> None:
    records = [Position(partition, row) for partition in range(3) for row in range(1, 5)]
    chance = random.Random(1)
    for _ in range(20):
        chance.shuffle(records)
        assert START_OF_PARTITIONS.advanced(records) == partitions(4, 4, 4)
        assert START_OF_SEGMENTS.advanced(records) == at(2, 4)


def test_before_records_none_of_them_is_covered() -> None:
    firsts = [Position(1, 7), Position(2, 3)]
    assert at(3, 1).before(firsts) == at(1, 6)
    assert at(1, 2).before(firsts) == at(1, 2)
    assert partitions(9, 9, 1).before(firsts) == partitions(9, 6, 1)


def test_where_records_begin() -> None:
    firsts = [Position(2, 3), Position(1, 7), Position(1, 9)]
    assert START_OF_SEGMENTS.begun_by(firsts) == at(1, 7)
    assert START_OF_PARTITIONS.begun_by(firsts).places == (Position(1, 7), Position(2, 3))


def test_what_another_frontier_does_not_cover() -> None:
    assert partitions(3, 4).beyond(partitions(3, 5, 1)) == ()
    assert partitions(3, 6).beyond(partitions(3, 5)) == (Position(1, 6),)
    assert at(1, 9).beyond(at(2, 0)) == ()


def test_a_person_finds_the_place_again() -> None:
    assert str(partitions(3, 0)) == "partition 0 offset 2, the start of partition 1"
    assert str(at(4, 7)) == "segment 4 row 7"
    assert str(START_OF_PARTITIONS) == "the start"


def test_a_reader_that_begins_takes_what_there_is_and_one_that_goes_on_misses_it() -> None:
    bounds = {0: (5, 9), 1: (0, 4)}
    assert resume_after(START_OF_PARTITIONS, bounds, "t") == partitions(5, 0)
    with pytest.raises(LogGap, match=r"partition 0 offsets 2 to 4$") as gap:
        resume_after(partitions(2, 3), bounds, "t")
    assert gap.value.resume == partitions(5, 3)
    # A partition that was empty so far and has lost its first records since.
    with pytest.raises(LogGap, match=r"partition 0 offsets 0 to 4$"):
        resume_after(partitions(0, 3), bounds, "t")


def record(partition: int, row: int, received_ms: int, size: int = 1) -> Record:
    return Record(Position(partition, row), received_ms, 1, 0, 0, b"x" * size, compressed=False)


def times(records: list[Record]) -> list[int]:
    return [record.received_ms for record in records]


def test_the_next_record_is_waited_for() -> None:
    merge = Merge([0, 1])
    merge.put(record(0, 1, 10))
    merge.put(record(0, 2, 30))
    assert merge.take(9) == []
    merge.put(record(1, 1, 20))
    assert times(merge.take(9)) == [10, 20]
    assert not merge.is_at_end
    merge.end(1)
    assert times(merge.take(9)) == [30]
    assert not merge.is_at_end
    merge.end(0)
    assert merge.is_at_end


def test_an_end_that_is_told_ahead_of_its_records_turn_is_kept() -> None:
    merge = Merge([0, 1])
    merge.put(record(0, 1, 10))
    merge.end(0)
    merge.put(record(1, 1, 5))
    merge.end(1)
    assert times(merge.take(9)) == [5, 10]
    assert merge.is_at_end
    merge.put(record(1, 2, 40))
    assert times(merge.take(9)) == [40]


def test_records_after_the_end_are_left() -> None:
    merge = Merge([0, 1], {0: 1, 1: 2})
    for row in (1, 2):
        merge.put(record(0, row, row))
    merge.put(record(1, 1, 1))
    # Offset 2 of partition 1 is none of ours, as where a transaction was ended.
    merge.put(record(1, 3, 3))
    assert times(merge.take(9)) == [1, 1]
    assert merge.is_at_end


def test_the_order_is_that_of_receive_times_whatever_comes_first() -> None:
    chance = random.Random(3)
    for _ in range(50):
        rest = {
            partition: [record(partition, row, row * 10 + partition) for row in range(1, 30)] for partition in (0, 1, 2)
        }
        merge = Merge(rest, dict.fromkeys(rest, 29))
        taken: list[int] = []
        while not merge.is_at_end:
            some = rest[chance.choice([each for each in rest if rest[each]] or [0])]
            for _ in range(min(chance.randint(1, 9), len(some))):
                merge.put(some.pop(0))
            taken += times(merge.take(chance.randint(1, 9)))
        assert taken == sorted(taken)
        assert len(taken) == 87


def test_the_partition_that_is_ahead_is_the_full_one() -> None:
    merge = Merge([0, 1])
    merge.put(record(0, 1, 1, size=60))
    assert merge.fuller_than(100) == {0}
    assert merge.fuller_than(200) == set()
    merge.put(record(1, 1, 2))
    merge.take(1)
    assert merge.fuller_than(100) == set()
