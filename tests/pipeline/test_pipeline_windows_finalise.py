"""Committed hours of series windows to final tables: late samples, a log that is away, kills; a folder is the log."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_log import Sample, append
from pipeline_windows import partition, series_windows, write_part

from egpu_runtime.contract.configuration import load
from egpu_runtime.contract.process import Failure
from pipeline.columns import schema
from pipeline.contract.tables import LATE_SAMPLES
from pipeline.settings import PipelineSettings
from pipeline.source_sqlite import SqliteLog
from pipeline.tables import Warehouse
from pipeline.window_files import WindowFiles
from pipeline.window_work import WindowWork

sys.path.append(str(Path(__file__).parents[1] / "conformance"))
from conformance_rows import differences, read_rows

RECEIVED_MS = START_MS + 10 * HOUR_MS
INTERVAL = ("--sample-interval-seconds", "150")


def work_on(folder: Path, log: type[SqliteLog] = SqliteLog, **given: object) -> WindowWork:
    """One round in this process."""
    held = Warehouse(folder / "windows")
    held.hold()
    try:
        settings = load(PipelineSettings, file_text="", overrides=given)
        work = WindowWork(log(folder / "log"), held, settings=settings, clock=time.monotonic)
        work.attach(WindowFiles(folder / "windows"))
        work.make()
        work.write_state()
    finally:
        held.close()
    return work


def facts(folder: Path, hour: int, warehouse: str = "windows") -> dict[str, object]:
    path = folder / warehouse / "container_usage_5m" / partition(START_MS + hour * HOUR_MS) / "_manifest.json"
    found: dict[str, object] = json.loads(path.read_text())["hour"]
    return found


def version(folder: Path, hour: int) -> object:
    return facts(folder, hour)["version"]


def write_late(folder: Path, samples: Iterable[tuple[int, int]], name: str = "part-l-0-0") -> None:
    """(row of the record in segment 1, hour) of late samples, as the job writes them."""
    rows = [
        {"segment": 1, "row": row, "window_start_ms": START_MS + hour * HOUR_MS, "received_ms": RECEIVED_MS}
        | {"sample_count": 1, "decision": "pending"}
        for row, hour in samples
    ]
    late = folder / "windows" / LATE_SAMPLES.name
    late.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema(LATE_SAMPLES)), late / name)


def steady(seed: int, hours: int = 3) -> list[Sample]:
    """A fleet of which no label changes in mid-window."""
    return [({**labels, "priority": "0"}, time, value) for labels, time, value in fleet(seed, hours=hours)]


def set_up(folder: Path, samples: list[Sample], late: frozenset[int] = frozenset()) -> None:
    """The log holds all samples, one record each; the job saw those that are not late, by number, in time."""
    on_time = [sample for number, sample in enumerate(samples) if number not in late]
    behind = [samples[number] for number in sorted(late)]
    append(folder / "log", [on_time, *([sample] for sample in behind)], received_ms=RECEIVED_MS)
    write_part(folder / "windows", series_windows(on_time))
    if behind:
        write_late(folder, [(2 + n, (time - START_MS) // HOUR_MS) for n, (_, time, _) in enumerate(behind)])


def test_the_tables_are_those_of_the_embedded_rollup(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    set_up(tmp_path, steady(1))
    run_log(tmp_path)
    work = work_on(tmp_path)
    assert (work.summary.hours, work.summary.hours_made_again, work.waiting) == (3, 0, "")
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []
    assert not any(facts(tmp_path, hour)["waits_for_log"] for hour in range(3))


def test_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    set_up(tmp_path, steady(1))
    work_on(tmp_path)
    work = work_on(tmp_path)
    assert (work.summary.hours, work.summary.hours_made_again) == (0, 0)
    assert version(tmp_path, 0) == 1


def test_what_is_not_committed_is_not_read(tmp_path: Path) -> None:
    set_up(tmp_path, steady(1))
    folder = tmp_path / "windows/series_windows_5m" / partition(START_MS + 2 * HOUR_MS)
    (folder / "_SUCCESS").unlink()
    (folder.parent.parent / partition(START_MS) / ".part-hidden.inprogress").write_bytes(b"not whole")
    assert work_on(tmp_path).hours == {START_MS, START_MS + HOUR_MS}


def test_more_files_make_an_hour_and_the_next_again(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = steady(2)
    append(tmp_path / "log", [samples], received_ms=RECEIVED_MS)
    run_log(tmp_path)
    rows = series_windows(samples)
    write_part(tmp_path / "windows", [row for row in rows if row["window_start_ms"] != START_MS])
    work_on(tmp_path)
    write_part(tmp_path / "windows", [row for row in rows if row["window_start_ms"] == START_MS], "part-b-0-0")
    work = work_on(tmp_path)
    assert (work.summary.hours, work.summary.hours_made_again) == (0, 2)
    assert [version(tmp_path, hour) for hour in range(3)] == [2, 2, 1]
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []


@pytest.mark.parametrize("seed", range(3))
def test_late_samples_come_from_the_log(seed: int, run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = steady(seed)
    set_up(tmp_path, samples, frozenset({seed, 40 + seed, len(samples) // 3 - 5}))
    run_log(tmp_path)
    work = work_on(tmp_path)
    assert work.waiting == ""
    assert work.summary.samples.late == 3
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []
    assert [path.name for path in (tmp_path / "windows/late_samples").iterdir()] == ["part-0.parquet"]
    assert work_on(tmp_path).summary.hours_made_again == 0


def test_a_counter_that_came_late_in_the_last_window_changes_the_next_hour(run_log, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    labels = {"__name__": "egpu_container_gpu_busy_seconds_total", "node": "n", "gpu_uuid": "g", "namespace": "s"}
    labels |= {"pod": "p", "container": "c"}
    samples = [(labels, START_MS + minute * 60_000, float(minute**2)) for minute in range(50, 70)]
    set_up(tmp_path, samples, frozenset({9}))
    run_log(tmp_path)
    work_on(tmp_path)
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []
    rises = [row["gpu_busy_seconds"] for row in rows_of(tmp_path, "windows")["container_usage_5m"]]
    assert rises[2] == 64**2 - 59**2


def test_an_hour_of_late_samples_alone_is_made_once_a_later_one_is_committed(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = steady(3)
    middle = frozenset(n for n, (_, time, _) in enumerate(samples) if (time - START_MS) // HOUR_MS == 1)
    set_up(tmp_path, samples, middle)
    run_log(tmp_path)
    last = tmp_path / "windows/series_windows_5m" / partition(START_MS + 2 * HOUR_MS) / "_SUCCESS"
    last.unlink()
    assert work_on(tmp_path).hours == {START_MS}
    last.touch()
    assert work_on(tmp_path).hours == {START_MS + hour * HOUR_MS for hour in range(3)}
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []


def test_what_does_not_add_up_comes_from_the_log(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = fleet(4, hours=2, step_ms=40_000)
    set_up(tmp_path, samples)
    run_log(tmp_path)
    work_on(tmp_path)
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []
    assert version(tmp_path, 0) == 2
    assert work_on(tmp_path).summary.hours_made_again == 0


@pytest.mark.parametrize("damage", [b"", b"PAR1 half a file"])
def test_damaged_files_are_named_and_the_log_stands_in(damage: bytes, run_log, tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    set_up(tmp_path, steady(1))
    run_log(tmp_path)
    part = tmp_path / "windows/series_windows_5m" / partition(START_MS) / "part-a-0-0"
    part.write_bytes(damage)
    work_on(tmp_path)
    assert f"cannot read {part}" in caplog.text
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []


def test_old_series_windows_are_removed_once_their_hour_is_made(tmp_path: Path) -> None:
    set_up(tmp_path, steady(1, hours=4))
    (tmp_path / "windows/series_windows_5m" / partition(START_MS) / ".part-a-0-0.crc").touch()
    work_on(tmp_path, late_accept_seconds=3600)
    left = sorted(path.parent.name for path in (tmp_path / "windows/series_windows_5m").rglob("part-*"))
    assert left == ["hour=00", "hour=01"]
    assert not (tmp_path / "windows/series_windows_5m/dt=2026-01-01").exists()
    assert work_on(tmp_path, late_accept_seconds=3600).summary.hours_made_again == 0


def test_a_log_that_lost_records_changes_nothing(rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = steady(5)
    set_up(tmp_path, samples)
    work_on(tmp_path)
    before = rows_of(tmp_path, "windows")
    write_late(tmp_path, [(2, 0)])
    (tmp_path / "log").rename(tmp_path / "gone")
    append(tmp_path / "log", [samples[-3:]], received_ms=RECEIVED_MS, segment=7)
    work = work_on(tmp_path)
    assert (work.waiting, work.summary.samples.too_late) == ("", 1)
    assert rows_of(tmp_path, "windows") == before


def finalise(command, folder: Path, *more: object) -> subprocess.CompletedProcess[str]:  # type: ignore[no-untyped-def]
    words = ("--source", "windows", "--warehouse", folder / "windows", "--log", folder / "log")
    done: subprocess.CompletedProcess[str] = command("finalise", *words, *more)
    return done


class Away(SqliteLog):
    """A log of which nobody knows anything."""

    def found_identity(self) -> str:
        raise Failure("nobody answers")


def test_without_a_log_hours_wait_and_are_made_when_it_is_back(run_log, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    set_up(tmp_path, fleet(4, hours=2, step_ms=40_000), frozenset({3}))
    run_log(tmp_path)
    said = "hours that have to be made from the log: 2, from 2026-01-01 22:00 UTC on"
    for _ in range(2):
        work = work_on(tmp_path, log=Away)
        assert work.waiting == f"{said}: nobody answers"
        assert facts(tmp_path, 0)["waits_for_log"] is True
        assert version(tmp_path, 0) == 1
    assert read_rows(tmp_path / "windows")["workload_profile_1d"]
    assert work_on(tmp_path).waiting == ""
    assert facts(tmp_path, 0)["waits_for_log"] is False
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []


def test_a_broker_that_is_away_is_one_line_after_the_tables_are_made(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    set_up(tmp_path, steady(1, hours=1), frozenset({3}))
    nowhere = ("--kafka-bootstrap-servers", "127.0.0.1:1", "--kafka-silence-seconds-max", "0.3")
    words = ("--source", "windows", "--warehouse", tmp_path / "windows", *INTERVAL)
    done = command("finalise", *words, *nowhere)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done
    assert "made from the log: 1, from 2026-01-01 22:00 UTC on: Kafka at 127.0.0.1:1 " in done.stderr
    assert version(tmp_path, 0) == 1


def test_a_run_reads_a_log_and_not_windows(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = command("run", "--source", "windows", "--warehouse", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "finalise --source windows" in done.stderr
    done = command("finalise", "--log", tmp_path, "--hive", "hive://127.0.0.1:1/d", "--warehouse", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_hive_away_is_one_line_after_the_tables_are_made(command, rows_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    set_up(tmp_path, steady(1, hours=1))
    done = finalise(command, tmp_path, "--hive", "hive://127.0.0.1:1/d", *INTERVAL)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done
    assert done.stderr.startswith("error: tables are made and not all registered with Hive: ")
    assert rows_of(tmp_path, "windows")["container_usage_5m"]


KILLED = Path(__file__).with_name("pipeline_killed.py")


@pytest.mark.end_to_end
@pytest.mark.parametrize(("when", "first"), [("before", 1), ("after", 2)])
def test_a_kill_at_any_step_is_repaired(when: str, first: int, run_log, command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = steady(6, hours=2)
    expected = tmp_path / "expected"
    expected.mkdir()
    append(expected / "log", [samples], received_ms=RECEIVED_MS)
    run_log(expected)
    words = ("finalise", "--source", "windows")
    for steps in range(first, 1000, 2):
        folder = tmp_path / f"{when}-{steps}"
        folder.mkdir()
        set_up(folder, samples, frozenset({5}))
        of_folder = ("--warehouse", folder / "windows", "--log", folder / "log")
        killed = subprocess.run([sys.executable, KILLED, str(steps), when, *words, *map(str, of_folder)], check=False)
        done = command(*words, *of_folder)
        assert done.returncode == 0, done
        assert differences(read_rows(expected / "warehouse"), read_rows(folder / "windows")) == [], steps
        if killed.returncode == 0:
            break
    assert steps > 10


def test_another_interval_than_the_setting_is_said(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    set_up(tmp_path, steady(1))
    assert "samples come every 150 s but sample_interval_seconds is 15" in finalise(command, tmp_path).stderr
    assert facts(tmp_path, 1)["interval_ms"] == 150_000


def test_told_to_stop_it_ends_between_hours_and_goes_on_later(tmp_path: Path) -> None:
    set_up(tmp_path, steady(1))
    answers = iter([False, True])
    held = Warehouse(tmp_path / "windows")
    held.hold()
    settings = load(PipelineSettings, file_text="", overrides={})
    work = WindowWork(SqliteLog(tmp_path / "log"), held, settings=settings, clock=time.monotonic)
    work.attach(WindowFiles(tmp_path / "windows"), lambda: next(answers))
    work.make()
    held.close()
    assert work.hours == {START_MS}
    assert work_on(tmp_path).summary.hours == 2


@pytest.mark.parametrize("old_files", ["stay", "are gone"])
def test_a_job_begun_anew_that_writes_less_takes_nothing_away(old_files: str, run_log, tmp_path: Path, caplog) -> None:  # type: ignore[no-untyped-def]
    samples = steady(1)
    set_up(tmp_path, samples)
    run_log(tmp_path)
    work_on(tmp_path)
    if old_files == "are gone":
        (tmp_path / "windows/series_windows_5m" / partition(START_MS) / "part-a-0-0").unlink()
    seen = [(labels, time, value) for labels, time, value in samples if START_MS + 450_000 <= time < START_MS + HOUR_MS]
    write_part(tmp_path / "windows", series_windows(seen), "part-b-0-0")
    (tmp_path / "log").rename(tmp_path / "gone")
    append(tmp_path / "log", [samples[-3:]], received_ms=RECEIVED_MS, segment=7)
    assert work_on(tmp_path).waiting == ""
    assert "stays as its series windows give it" in caplog.text
    assert differences(read_rows(tmp_path / "warehouse"), read_rows(tmp_path / "windows")) == []
    caplog.clear()
    assert work_on(tmp_path).summary.hours_made_again == 0
    assert caplog.text == ""


def test_it_goes_on_until_told_to_stop(tmp_path: Path) -> None:
    set_up(tmp_path, steady(1, hours=2))
    last = tmp_path / "windows/series_windows_5m" / partition(START_MS + HOUR_MS) / "_SUCCESS"
    last.unlink()
    words = ("finalise", "--source", "windows", "--warehouse", tmp_path / "windows", "--log", tmp_path / "log")
    command = [sys.executable, "-m", "pipeline", *map(str, words), "--finalise-every-seconds", "0.2", *INTERVAL]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "made the hour 2026-01-01 22:00 UTC" in running.stderr.readline()
        last.touch()
        assert "made the hour 2026-01-01 23:00 UTC" in running.stderr.readline()
        running.terminate()
        output, _ = running.communicate(timeout=30)
    assert (running.returncode, output.startswith("hours 2 ")) == (0, True)
