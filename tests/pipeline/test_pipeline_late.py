"""Late samples are merged under a new version, or counted when too late; lost and corrupt records are named."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pipeline_fleet import HOUR_MS
from pipeline_log import Sample, append

from collector.contract.record import LOG_SCHEMA_VERSION, segment_file_name
from egpu_runtime.contract.process import Failure
from pipeline.contract.tables import WAREHOUSE_SCHEMA_VERSION

START_MS = 1_767_225_600_000
DAY_MS = 24 * HOUR_MS
RECEIVED_MS = START_MS + 5 * HOUR_MS


def memory(time_ms: int, value: float) -> Sample:
    labels = {"__name__": "egpu_container_memory_used_bytes", "node": "n", "gpu_uuid": "g", "namespace": "s"}
    return {**labels, "pod": "p", "container": "c"}, time_ms, value


def manifest(folder: Path, hour: str = "00") -> dict[str, dict[str, int]]:
    path = folder / "warehouse/container_usage_5m/dt=2026-01-01" / f"hour={hour}/_manifest.json"
    facts: dict[str, dict[str, int]] = json.loads(path.read_text())
    return facts


def decisions(folder: Path) -> list[tuple[int, str]]:
    path = folder / "warehouse/late_samples/part-0.parquet"
    return [(row["sample_count"], row["decision"]) for row in pq.ParquetFile(path).read().to_pylist()]


def write_two_hours(folder: Path) -> None:
    append(folder / "log", [[memory(START_MS, 1.0)], [memory(START_MS + 2 * HOUR_MS, 2.0)]], received_ms=RECEIVED_MS)


@pytest.mark.usefixtures("any_log")
def test_late_samples_are_merged_under_a_new_version(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_two_hours(tmp_path)
    run_log(tmp_path)
    assert manifest(tmp_path)["hour"]["version"] == 1
    append(tmp_path / "log", [[memory(START_MS + 60_000, 9.0)]], received_ms=RECEIVED_MS + DAY_MS)
    summary = run_log(tmp_path)
    assert (summary.samples.late, summary.hours, summary.hours_made_again) == (1, 0, 1)
    assert manifest(tmp_path)["hour"]["version"] == 2
    assert manifest(tmp_path, "02")["hour"]["version"] == 1
    assert decisions(tmp_path) == [(1, "merged")]
    row = rows_of(tmp_path)["container_usage_5m"][0]
    assert (row["memory_used_bytes_max"], row["sample_count"]) == (9.0, 2)
    profile = rows_of(tmp_path)["workload_profile_1d"][0]
    assert profile["hourly_memory_used_bytes_max"][:3] == [9.0, None, 2.0]


@pytest.mark.usefixtures("any_log")
def test_an_hour_that_had_no_sample_is_made_from_late_ones(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_two_hours(tmp_path)
    run_log(tmp_path)
    append(tmp_path / "log", [[memory(START_MS + HOUR_MS, 5.0)]], received_ms=RECEIVED_MS + 1)
    run_log(tmp_path)
    assert [row["memory_used_bytes_max"] for row in rows_of(tmp_path)["container_usage_5m"]] == [1.0, 5.0, 2.0]


@pytest.mark.usefixtures("any_log")
@pytest.mark.parametrize("in_one_run", [True, False])
def test_too_late_is_counted_and_changes_nothing(run_log, rows_of, tmp_path: Path, in_one_run: bool) -> None:  # type: ignore[no-untyped-def]
    """Judged by receive times alone, so it does not matter when the pipeline ran."""
    write_two_hours(tmp_path)
    if not in_one_run:
        run_log(tmp_path)
    append(tmp_path / "log", [[memory(START_MS + 60_000, 9.0)]], received_ms=RECEIVED_MS + DAY_MS + 1)
    summary = run_log(tmp_path)
    assert summary.samples.too_late == 1
    assert decisions(tmp_path) == [(1, "too_late")]
    assert rows_of(tmp_path)["container_usage_5m"][0]["memory_used_bytes_max"] == 1.0
    assert run_log(tmp_path).samples.too_late == 0


def test_late_is_not_merged_once_the_log_lost_part_of_the_hour(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_two_hours(tmp_path)
    append(tmp_path / "log", [[memory(START_MS + 2 * HOUR_MS, 2.0)]], received_ms=RECEIVED_MS, segment=2)
    run_log(tmp_path)
    (tmp_path / "log" / segment_file_name(1)).unlink()
    append(tmp_path / "log", [[memory(START_MS + 60_000, 9.0)]], received_ms=RECEIVED_MS, segment=2)
    run_log(tmp_path)
    assert decisions(tmp_path) == [(1, "too_late")]
    assert rows_of(tmp_path)["container_usage_5m"][0]["memory_used_bytes_max"] == 1.0


def test_lost_records_are_an_error_that_names_them(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for segment in (1, 2, 3, 4):
        sample = memory(START_MS + segment * HOUR_MS, float(segment))
        append(tmp_path / "log", [[sample]], received_ms=RECEIVED_MS, segment=segment)
        if segment == 1:
            run_log(tmp_path)
    for segment in (1, 2, 3):
        (tmp_path / "log" / segment_file_name(segment)).unlink()
    with pytest.raises(Failure, match="the log lost segment 1 after row 1 up to segment 3 to retention"):
        run_log(tmp_path)
    run_log(tmp_path, accept_gap=True)
    assert [row["memory_used_bytes_max"] for row in rows_of(tmp_path)["container_usage_5m"]] == [1.0, 4.0]
    assert "segment 1 after row 1" in (tmp_path / "warehouse/state/checkpoint.json").read_text()


def test_a_corrupt_record_is_counted_named_and_passed_over(command, run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_two_hours(tmp_path)
    with closing(sqlite3.connect(tmp_path / "log" / segment_file_name(1))) as connection, connection:
        connection.execute("INSERT INTO record SELECT 3, received_ms, body_hash, 1, 0, 0, x'FFFF' FROM record LIMIT 1")
    assert run_log(tmp_path).corrupt == 1
    assert run_log(tmp_path).corrupt == 0
    shown = command("doctor", "--log", tmp_path / "log", "--warehouse", tmp_path / "warehouse").stdout
    assert "corrupt records" in shown
    assert "1 (segment 1 row 3: " in shown


def test_newer_schemas_are_refused(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_two_hours(tmp_path)
    run_log(tmp_path)
    checkpoint = tmp_path / "warehouse/state/checkpoint.json"
    known = f'"schema_version":{WAREHOUSE_SCHEMA_VERSION}'
    checkpoint.write_text(checkpoint.read_text().replace(known, '"schema_version":99'))
    with pytest.raises(Failure, match="warehouse schema 99, newer than"):
        run_log(tmp_path)
    with closing(sqlite3.connect(tmp_path / "log" / segment_file_name(1))) as connection:
        connection.execute(f"PRAGMA user_version={LOG_SCHEMA_VERSION + 1}")
    with pytest.raises(Failure, match=r"log segment 0{11}1\.segment\.sqlite has schema"):
        run_log(tmp_path, "other")


def test_windows_of_another_length_are_refused(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_two_hours(tmp_path)
    run_log(tmp_path)
    with pytest.raises(Failure, match="windows of 300 s, not 60 s"):
        run_log(tmp_path, window_seconds=60)
    with pytest.raises(Failure, match="does not divide an hour"):
        run_log(tmp_path, "other", window_seconds=7)


@pytest.mark.usefixtures("any_log")
def test_old_tables_are_removed(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = [memory(START_MS + day * DAY_MS, float(day)) for day in range(4)]
    append(tmp_path / "log", [samples], received_ms=START_MS + 4 * DAY_MS)
    run_log(tmp_path, table_retention_days=1)
    assert [row["memory_used_bytes_max"] for row in rows_of(tmp_path)["container_usage_5m"]] == [2.0, 3.0]
    append(tmp_path / "log", [[memory(START_MS + 1, 7.0)]], received_ms=START_MS + 4 * DAY_MS)
    run_log(tmp_path, table_retention_days=1)
    assert len(rows_of(tmp_path)["container_usage_5m"]) == 2
    assert decisions(tmp_path) == [(1, "too_late")]


@pytest.mark.usefixtures("any_log")
def test_an_hour_without_a_container_or_card_is_an_hour(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    owner = {"__name__": "kube_pod_owner", "namespace": "s", "pod": "p", "owner_kind": "Job", "owner_name": "j"}
    append(tmp_path / "log", [[(owner, START_MS, 1.0), ({"__name__": "up"}, START_MS, 1.0)]], received_ms=RECEIVED_MS)
    summary = run_log(tmp_path)
    assert (summary.hours, summary.rows, summary.samples.unknown) == (1, 0, 1)
    assert rows_of(tmp_path) == {"container_usage_5m": [], "gpu_usage_5m": [], "workload_profile_1d": []}


@pytest.mark.usefixtures("any_log")
def test_an_empty_log_is_no_error(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "log").mkdir()
    assert run_log(tmp_path).hours == 0
    append(tmp_path / "log", [[]], received_ms=RECEIVED_MS)
    assert run_log(tmp_path).records == 1


@pytest.mark.usefixtures("any_log")
def test_impossible_times_are_dropped_and_counted(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    times = (-1, -(1 << 60), 1 << 60, RECEIVED_MS + 600_001, RECEIVED_MS + 600_000, START_MS)
    append(tmp_path / "log", [[memory(time, 1.0) for time in times]], received_ms=RECEIVED_MS)
    counts = run_log(tmp_path).samples
    assert (counts.read, counts.invalid, counts.future, counts.distinct) == (6, 2, 2, 2)
    assert len(rows_of(tmp_path)["container_usage_5m"]) == 2
