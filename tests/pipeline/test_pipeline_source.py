"""The log's reader: bounded reads, segments that come, are broken, or vanish."""

from pathlib import Path

import pytest
from pipeline_log import append

from collector.contract.record import START, Position, segment_file_name
from egpu_runtime.contract.process import Failure
from pipeline.frontier import Frontier
from pipeline.reading import LogGap
from pipeline.source_sqlite import SqliteLog

SAMPLE = ({"__name__": "up"}, 1_000, 1.0)


def at(segment: int, row: int) -> Frontier:
    return Frontier((Position(segment, row),))


def positions(log: SqliteLog, after: Position, bound: int = 1 << 30) -> tuple[list[Position], Position]:
    records, reached = log.read(Frontier((after,)), bound)
    return [record.position for record in records], reached.places[0]


@pytest.fixture
def log(tmp_path: Path) -> SqliteLog:
    append(tmp_path, [[SAMPLE], [SAMPLE, SAMPLE], [SAMPLE]], received_ms=5)
    append(tmp_path, [[SAMPLE]], received_ms=7, segment=2)
    return SqliteLog(tmp_path)


def test_reads_are_bounded_by_samples_and_end_with_their_segment(log: SqliteLog) -> None:
    assert positions(log, START, 3) == ([Position(1, 1), Position(1, 2)], Position(1, 2))
    assert positions(log, Position(1, 2)) == ([Position(1, 3)], Position(1, 3))
    assert positions(log, Position(1, 3)) == ([Position(2, 1)], Position(2, 1))
    assert positions(log, Position(2, 1)) == ([], Position(2, 1))


def test_the_end_and_the_lag(log: SqliteLog) -> None:
    assert log.end_place() == at(2, 1)
    assert [log.records_after(place) for place in (log.start, at(1, 2), at(2, 1))] == [4, 2, 0]
    assert [log.lag_ms(place) for place in (at(1, 2), at(2, 1))] == [2, 0]


def test_records_by_sample_time_up_to_a_position(log: SqliteLog) -> None:
    between = log.read_between(range(1_000, 1_001), at(1, 2), sample_count_max=1)
    assert [[record.position.row for record in some] for some in between] == [[1], [2]]
    assert list(log.read_between(range(1_001, 2_000), at(2, 1), sample_count_max=1)) == []


def test_a_position_after_a_whole_segment_needs_the_next_one(log: SqliteLog, tmp_path: Path) -> None:
    append(tmp_path, [[SAMPLE]], received_ms=7, segment=4)
    with pytest.raises(LogGap, match="segments 3 to 3") as gap:
        positions(log, Position(2, 1))
    assert gap.value.resume == at(4, 0)
    assert positions(log, Position(4, 0)) == ([Position(4, 1)], Position(4, 1))


def test_a_broken_segment_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / segment_file_name(1)).write_bytes(b"no database" * 100)
    with pytest.raises(Failure, match=r"cannot read log segment 0{11}1\.segment\.sqlite: file is not a database"):
        positions(SqliteLog(tmp_path), START)


def test_a_segment_without_its_table_yet_is_empty(tmp_path: Path) -> None:
    (tmp_path / segment_file_name(1)).write_bytes(b"")
    assert positions(SqliteLog(tmp_path), START) == ([], Position(1, 0))
    assert SqliteLog(tmp_path).end_place() == at(1, 0)
