"""The real process: following and ending, one writer, one line for what a person can mend, reports, doctor."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline_fleet import HOUR_MS
from pipeline_log import Sample, append
from waiting import wait_for

START_MS = 1_767_225_600_000
GIB = 1 << 30
FAST = ("--poll-seconds", "0.05", "--merge-seconds", "1", "--checkpoint-seconds", "0", "--lateness-seconds", "0")


def use(pod: str, time_ms: int, *, used: float | None, card: str = "g", tenant: str = "t") -> list[Sample]:
    labels = {"node": "n", "gpu_uuid": card, "gpu_model": "A100", "tenant": tenant, "namespace": "s", "pod": pod}
    labels |= {"workload_kind": "Deployment", "workload": pod, "container": "c", "priority": "0", "pod_uid": pod}
    found: list[Sample] = [({"__name__": "egpu_container_memory_quota_bytes", **labels}, time_ms, 10.0 * GIB)]
    if used is not None:
        found.append(({"__name__": "egpu_container_memory_used_bytes", **labels}, time_ms, used * GIB))
        found.append(({"__name__": "egpu_container_core_used_ratio", **labels}, time_ms, used / 10))
    return found


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str | Path, ...]:
    samples = [
        *use("busy", START_MS, used=8.0),
        *use("busy", START_MS + HOUR_MS, used=6.0),
        *use("idle", START_MS, used=1.0, card="g2", tenant="other"),
        *use("dark", START_MS, used=None, card="g3"),
        ({"__name__": "egpu_gpu_memory_total_bytes", "node": "n", "gpu_uuid": "g2"}, START_MS, 80.0 * GIB),
    ]
    append(tmp_path / "log", [samples], received_ms=START_MS + HOUR_MS)
    return "--log", tmp_path / "log", "--warehouse", tmp_path / "warehouse"


@pytest.fixture
def following(folders: tuple[str | Path, ...]) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "pipeline", "run", "--follow", *map(str, folders), *FAST]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_follow_closes_hours_merges_late_and_commits_on_sigterm(  # type: ignore[no-untyped-def]
    following, rows_of, tmp_path: Path
) -> None:
    first = tmp_path / "warehouse/container_usage_5m/dt=2026-01-01/hour=00/_manifest.json"
    wait_for(first.exists)
    late = use("busy", START_MS + 600_000, used=9.0)
    append(tmp_path / "log", [late], received_ms=START_MS + HOUR_MS)
    wait_for(lambda: json.loads(first.read_text())["hour"]["version"] == 2)
    following.send_signal(signal.SIGTERM)
    output, said = following.communicate(timeout=10)
    assert following.returncode == 0
    assert output.startswith("hours 1 (made again 1)")
    assert said.count("reading the log") == 1
    assert said.count("closed the hour 2026-01-01 00:00 UTC: 8 samples") == said.count("closed the hour") == 1
    assert len(rows_of(tmp_path)["container_usage_5m"]) == 4
    assert not (first.parents[1] / "hour=01").exists()
    checkpoint = json.loads((tmp_path / "warehouse/state/checkpoint.json").read_text())
    assert checkpoint["position"]["places"] == [{"segment": 1, "row": 0}]


def test_a_source_that_stops_does_not_hide_its_last_hour(folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = [sys.executable, "-m", "pipeline", "run", "--follow", *map(str, folders), *FAST]
    process = subprocess.Popen([*words, "--idle-close-seconds", "1"], stdout=subprocess.PIPE, text=True)
    manifest = tmp_path / "warehouse/container_usage_5m/dt=2026-01-01/hour=01/_manifest.json"
    try:
        wait_for(manifest.exists)
        assert json.loads(manifest.read_text())["hour"]["forced"] is True
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0


def test_finalise_merges_what_a_stopped_run_left(folders, command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = [sys.executable, "-m", "pipeline", "run", "--follow", *map(str, folders), *FAST, "--merge-seconds", "900"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    manifest = tmp_path / "warehouse/container_usage_5m/dt=2026-01-01/hour=00/_manifest.json"
    try:
        wait_for(manifest.exists)
        append(tmp_path / "log", [use("busy", START_MS + 600_000, used=9.0)], received_ms=START_MS + HOUR_MS)
        wait_for((tmp_path / "warehouse/late_samples/part-0.parquet").exists)
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert json.loads(manifest.read_text())["hour"]["version"] == 1
    done = command("finalise", *folders)
    assert done.stdout.startswith("hours 0 (made again 1)"), done
    assert json.loads(manifest.read_text())["hour"]["version"] == 2


@pytest.mark.usefixtures("following")
def test_a_second_writer_is_refused(folders, command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wait_for((tmp_path / "warehouse/state/checkpoint.json").exists)
    second = command("run", *folders)
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == f"error: another egpu-pipeline is writing the warehouse {tmp_path / 'warehouse'}\n"
    assert command("doctor", *folders).returncode == 0


@pytest.mark.usefixtures("folders")
def test_wrong_folders_are_one_line(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (("run", "--log", tmp_path / "none", "--warehouse", tmp_path / "w"), "no log folder"),
        (("run", "--log", tmp_path / "log", "--warehouse", tmp_path / "file"), "cannot write the warehouse"),
        (("report", "cards", "--warehouse", tmp_path / "none"), "no warehouse folder"),
        (("report", "cards", "--warehouse", tmp_path), "no finalised hour"),
        (("report", "cards", "--warehouse", tmp_path, "--since", "soon"), "--since 'soon' is no date"),
        (("doctor", "--log", tmp_path / "log", "--warehouse", tmp_path / "none"), "no warehouse folder"),
    ):
        done = command(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
        assert done.stderr.startswith("error: "), done.stderr
        assert said in done.stderr


def test_a_summary_says_what_became_of_every_sample(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders, "--summary-file", tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["records"] == 1
    assert (summary["samples_read"], summary["samples_distinct"], summary["hours"]) == (11, 11, 2)


def test_reports_put_the_idle_first(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders, "--sample-interval-seconds", "300")
    warehouse = ("--warehouse", tmp_path / "warehouse")
    workloads = json.loads(command("report", "workloads", *warehouse, "--format", "json").stdout)
    assert [row["workload"] for row in workloads] == ["idle", "busy", "dark"]
    busy, dark = workloads[1], workloads[2]
    assert (busy["memory_quota_gib"], busy["memory_used_gib_max"], busy["memory_used_gib_mean"]) == (10, 8, 7)
    assert (busy["memory_used_percent"], busy["core_used_percent_mean"], busy["observed_percent"]) == (80, 70, 100)
    assert (dark["memory_used_percent"], dark["observed_percent"]) == (None, 0)
    later = command("report", "tenants", *warehouse, "--format", "csv", "--since", "2026-01-01T01:00").stdout
    assert [row["tenant"] for row in csv.DictReader(later.splitlines())] == ["t"]
    tenants = json.loads(command("report", "tenants", *warehouse, "--format", "json").stdout)
    assert [(row["tenant"], row["memory_used_percent"]) for row in tenants] == [("other", 10), ("t", 70)]
    cards = json.loads(command("report", "cards", *warehouse, "--format", "json").stdout)
    on_g2 = next(row for row in cards if row["gpu_uuid"] == "g2")
    assert (on_g2["memory_total_gib"], on_g2["memory_allocated_gib"], on_g2["container_count_max"]) == (80, 10, 1)


def test_the_select_can_be_read_and_the_table_seen(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders)
    warehouse = ("--warehouse", tmp_path / "warehouse")
    sql = command("report", "cards", *warehouse, "--show-sql", "--until", "2026-02-01").stdout
    assert sql.startswith("SELECT cluster, node, gpu_uuid")
    assert "dt <= '2026-02-01' AND window_start_ms < 1769904000000" in sql
    shown = command("report", "workloads", *warehouse).stdout
    assert "s/idle" in shown
    assert "10 %" in shown


@pytest.mark.parametrize("subject", ["cards", "workloads", "tenants"])
def test_a_table_fits_the_width(command, folders, monkeypatch, subject: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders)
    known = "/ node uuid namespace workload tenant cards pods total given used max memory quota busy mean p95 core"
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        shown = command("report", subject, "--warehouse", tmp_path / "warehouse").stdout
        lines = shown.splitlines()
        assert lines == [line.rstrip() for line in lines]
        assert max(map(len, lines)) <= width
        rule = next(index for index, line in enumerate(lines) if "──" in line)
        words = {word for line in lines[1:rule] for word in line.split()}
        assert words <= {*known.split(), "observed", "GiB"}
        assert ("gpu model A100" in shown) == (subject != "tenants")


@pytest.mark.parametrize("subject", ["cards", "workloads", "tenants"])
def test_the_select_has_no_words_of_one_engine_alone(command, subject: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sql = command("report", subject, "--warehouse", tmp_path, "--show-sql").stdout
    assert sql.count("GROUP BY") >= 1
    for word in ("GROUP BY ALL", "::", "DISTINCT (", "FILTER ("):
        assert word not in sql


def test_a_wrong_interval_is_said(command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    samples = [use("busy", START_MS + second * 1000, used=1.0) for second in range(0, 3600, 60)]
    append(tmp_path / "log", samples, received_ms=START_MS + HOUR_MS)
    for setting, wrong in (("15", True), ("60", False)):
        folders = ("--log", tmp_path / "log", "--warehouse", tmp_path / setting)
        done = command("run", *folders, "--sample-interval-seconds", setting)
        line = "samples come every 60 s but sample_interval_seconds is 15"
        assert (line in done.stderr, done.returncode) == (wrong, 0), done
        assert (line in " ".join(command("doctor", *folders).stdout.split())) == wrong


def test_another_interval_is_said_once(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    said = [command("run", *folders, "--sample-interval-seconds", value).stderr for value in ("15", "15", "30", "30")]
    assert ["keep their observed_ratio" in each for each in said] == [False, False, True, False]
    assert "sample_interval_seconds is 30, it was 15" in said[2]
    checkpoint = json.loads((tmp_path / "warehouse/state/checkpoint.json").read_text())
    assert (checkpoint["window_seconds"], checkpoint["sample_interval_seconds"]) == (300, 30)
    refused = command("run", *folders, "--window-seconds", "600")
    assert (refused.returncode, "or another warehouse" in refused.stderr) == (1, True)


def test_doctor_shows_one_screen(command, folders, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    command("run", *folders)
    append(tmp_path / "log", [use("busy", START_MS + 2 * HOUR_MS, used=1.0)], received_ms=START_MS + 2 * HOUR_MS)
    lines = dict(
        line.split("  ", 1) for line in command("doctor", *folders).stdout.replace("   ", "  ").splitlines() if line
    )
    assert lines["lag"].strip() == "1 records not read, 1.0 h"
    assert lines["last closed hour"].strip() == "2026-01-01 01:00 UTC (2 hours)"
    assert "egpu-pipeline status" in command("doctor", *folders, "--source", "windows").stdout
    assert lines["unattributed"].strip() == "0.0 % of the last day's rows"
    assert "GiB left, enough for" in lines["disk"]
