"""What a person can mend is one line and exit 1, and the tables stay whole; what was dropped can be seen afterwards."""

import json
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from children import Child
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_log import STALE, Sample, append

from collector.contract.record import segment_file_name
from pipeline.contract.tables import WAREHOUSE_SCHEMA_VERSION

RECEIVED_MS = START_MS + 10 * HOUR_MS
DAY = "container_usage_5m/dt=2026-01-01"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str | Path, ...]:
    samples = fleet(7, hours=3)
    batches = [samples[i : i + 40] for i in range(0, len(samples), 40)]
    append(tmp_path / "log", batches, received_ms=RECEIVED_MS, identity="a" * 32)
    return "--log", tmp_path / "log", "--warehouse", tmp_path / "warehouse"


def assert_one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("error: "), done
    for words in said:
        assert words in done.stderr


def any_file(folder: Path, table: str) -> Path:
    return sorted((folder / "warehouse" / table).rglob("part-0.parquet"))[0]


def test_reports_refuse_what_a_newer_program_wrote(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders)
    checkpoint = tmp_path / "warehouse/state/checkpoint.json"
    text = checkpoint.read_text()
    checkpoint.write_text(text.replace(f'"schema_version":{WAREHOUSE_SCHEMA_VERSION}', '"schema_version":99'))
    report = ("report", "workloads", *folders[2:])
    assert_one_line(command(*report), "warehouse schema 99, newer than")
    checkpoint.write_text(text)
    path = any_file(tmp_path, "container_usage_5m")
    known = b'"schema_version":%d' % WAREHOUSE_SCHEMA_VERSION
    path.write_bytes(path.read_bytes().replace(known, b'"schema_version":9'))
    assert_one_line(command(*report), "warehouse schema 9, newer than", path.name)


def test_a_truncated_table_is_named(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders)
    path = any_file(tmp_path, "container_usage_5m")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert_one_line(command("report", "workloads", *folders[2:]), f"cannot read {path}")
    # The end is whole and the rows are not: only reading them shows it.
    path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert_one_line(command("report", "workloads", *folders[2:]), "cannot read")


def test_broken_late_notes_are_named(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "warehouse/late_samples/part-0.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 no longer")
    assert_one_line(command("run", *folders), f"cannot read {path}")


@pytest.mark.parametrize("damage", ["header", "pages"])
def test_a_corrupt_segment_is_named(command, folders, tmp_path: Path, damage: str) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders)
    path = tmp_path / "log" / segment_file_name(1)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(0 if damage == "header" else 4096)
        file.write(b"\xff" * (size - 4096 if damage == "pages" else 100))
    for subject in ("doctor", "run"):
        assert_one_line(command(subject, *folders), f"cannot read log segment {path.name}")


def test_a_file_in_place_of_a_table(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse/container_usage_5m").write_text("")
    assert_one_line(command("run", *folders), f"cannot write {tmp_path / 'warehouse' / DAY}")


def test_a_full_disk_leaves_whole_tables_and_the_next_run_goes_on(  # type: ignore[no-untyped-def]
    command, rows_of, run_log, folders, tmp_path: Path
) -> None:
    """A bound on the size of files stands in for the disk: the same writes fail, with another number."""
    words = [sys.executable, "-m", "pipeline", "run", *map(str, folders), "--lateness-seconds", "0"]
    run_log(tmp_path, "undisturbed", lateness_seconds=0)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "undisturbed").rglob("part-0.parquet"))
    with closing(sqlite3.connect(tmp_path / "log" / segment_file_name(1))) as writer:
        # As the collector has it: the log's shared memory is there and need not be written.
        writer.execute("SELECT count(*) FROM record").fetchone()
        for bound in (100, sizes[len(sizes) // 2]):
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=lambda bound=bound: resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound)),
            )
            assert_one_line(done, "cannot write ", "File too large")
            assert not list((tmp_path / "warehouse").rglob(".writing"))
            rows_of(tmp_path)
    assert command(*words[3:]).returncode == 0
    assert rows_of(tmp_path) == rows_of(tmp_path, "undisturbed")


def test_a_summary_that_cannot_be_written_is_said_before_the_work(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for path in (tmp_path / "none/summary.json", tmp_path):
        for subject in ("run", "finalise"):
            done = command(subject, *folders, "--summary-file", path)
            assert_one_line(done, f"cannot write --summary-file {path}")
    assert not (tmp_path / "warehouse").exists()


def test_times_beyond_the_calendar_are_refused(command, folders) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders)
    done = command("report", "workloads", *folders[2:], "--since", "0001-01-01T00:00+05:00")
    assert_one_line(done, "--since '0001-01-01T00:00+05:00' is no date or time")
    since = command("report", "workloads", *folders[2:], "--since", "0999-01-01", "--format", "json")
    assert len(json.loads(since.stdout)) > 0


def test_every_command_prints_its_settings(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "settings.toml").write_text("window_seconds = 60\n")
    for subject in (("run",), ("finalise",), ("doctor",), ("report", "cards"), ("report", "tenants")):
        done = command(*subject, "--config", tmp_path / "settings.toml", "--print-settings")
        assert done.returncode == 0, done
        assert "window_seconds = 60\n" in done.stdout


def test_a_run_that_is_stopped_says_so(folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples: list[Sample] = [({"__name__": "up", "n": str(number)}, START_MS, 1.0) for number in range(3_000)]
    append(tmp_path / "log", [samples] * 60, received_ms=RECEIVED_MS, segment=2, identity="a" * 32)
    summary = tmp_path / "summary.json"
    words = [sys.executable, "-m", "pipeline", "run", *map(str, folders), "--summary-file", str(summary)]
    with Child([*words, "--batch-samples-max", "1"], stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 20
        while not (tmp_path / "warehouse/state/lock").exists() and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        assert output.endswith(" s (stopped early)\n")
        assert json.loads(summary.read_text())["stopped_early"] is True


def test_doctor_shows_what_was_dropped_over_all_runs(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    labels = {"__name__": "egpu_container_memory_used_bytes", "node": "n", "gpu_uuid": "g", "namespace": "s"}
    labels |= {"pod": "p", "container": "c"}
    end_ms = START_MS + 2 * HOUR_MS
    batch: list[Sample] = [
        ({"__name__": "up"}, end_ms, 1.0),
        (labels, end_ms, STALE),
        (labels, end_ms, float("inf")),
        (labels, RECEIVED_MS + HOUR_MS, 1.0),
        (labels, START_MS, 1.0),
    ]
    command("run", *folders)
    before = json.loads((tmp_path / "warehouse/state/checkpoint.json").read_text())["samples"]
    append(tmp_path / "log", [batch], received_ms=RECEIVED_MS, identity="a" * 32)
    for _ in range(3):
        command("run", *folders)
    after = json.loads((tmp_path / "warehouse/state/checkpoint.json").read_text())["samples"]
    new = {name: after[name] - before[name] for name in after}
    assert new.pop("read") >= 5
    assert new == {
        "unknown": 1,
        "stale": 1,
        "invalid": 1,
        "future": 1,
        "late": 1,
        "too_late": 0,
        "distinct": 0,
    }
    shown = " ".join(command("doctor", *folders).stdout.split())
    dropped = f"{after['unknown']} of unknown series, {after['invalid']} invalid, {after['stale']} stale markers"
    assert dropped in shown
    assert f"{after['future']} in the future" in shown
    assert "came late" in shown
