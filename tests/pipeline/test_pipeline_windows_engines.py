"""Finalising series windows with a real topic behind them and a real HiveServer2 that is told of every hour."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engines_running import running
from pipeline_fleet import HOUR_MS, START_MS, fleet
from pipeline_log import Sample
from pipeline_topic import delete_before, make_topic, produce, settings_of
from pipeline_windows import partition, series_windows, write_part

from pipeline.columns import schema
from pipeline.contract.tables import LATE_SAMPLES
from pipeline.warehouse_hive import HiveServer

sys.path.append(str(Path(__file__).parents[1] / "conformance"))
from conformance_rows import differences, read_rows

pytestmark = pytest.mark.end_to_end

RECEIVED_MS = START_MS + 5 * HOUR_MS


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Any]]:
    with running(only=("kafka", "hive")) as state:
        yield state


@pytest.fixture
def database(engines: dict[str, Any]) -> str:
    """Address of a database of its own."""
    url = engines["hive"]["url"].rpartition("/")[0]
    name = f"windows_{uuid4().hex[:8]}"
    with HiveServer(f"{url}/default") as server:
        server.execute(f"CREATE DATABASE {name}")
    return f"{url}/{name}"


def steady(hours: int) -> list[Sample]:
    return [({**labels, "priority": "0"}, time, value) for labels, time, value in fleet(7, hours=hours)]


def finalise(command, folder: Path, database: str, *more: object) -> subprocess.CompletedProcess[str]:  # type: ignore[no-untyped-def]
    given = settings_of(folder)
    topic = ("--kafka-bootstrap-servers", given["kafka_bootstrap_servers"], "--kafka-topic", given["kafka_topic"])
    words = ("--source", "windows", "--warehouse", folder / "windows", "--hive", database, *topic)
    done: subprocess.CompletedProcess[str] = command("finalise", *words, "--kafka-silence-seconds-max", 15, *more)
    return done


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines of stderr but the warning that the made-up fleet is scraped more seldom than the default says."""
    return [line for line in done.stderr.splitlines() if "samples come every 150 s" not in line]


def registered(server: HiveServer, table: str) -> list[str]:
    return [str(name) for (name,) in server.rows(f"SHOW PARTITIONS {table}")]


def counted(server: HiveServer, table: str) -> int:
    return int(server.rows(f"SELECT count(*) FROM {table}")[0][0])


def test_late_samples_come_from_the_topic_and_hive_sees_every_hour(
    command, run_log, engines: dict[str, Any], database: str, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    samples = steady(3)
    late = {10, 400, len(samples) // 3 - 4}
    make_topic(tmp_path, engines["kafka"]["bootstrap"])
    on_time = [sample for number, sample in enumerate(samples) if number not in late]
    produce(tmp_path, [on_time, [samples[number] for number in sorted(late)]], received_ms=RECEIVED_MS)
    write_part(tmp_path / "windows", series_windows(on_time))
    folder = tmp_path / "windows" / LATE_SAMPLES.name
    folder.mkdir()
    rows = [
        {"segment": segment, "row": row, "window_start_ms": START_MS, "received_ms": RECEIVED_MS, "sample_count": 1}
        | {"decision": "pending"}
        for segment in range(3)
        for row in (1, 2)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema(LATE_SAMPLES)), folder / "part-x-0-0")
    assert command("tables", "--hive", database, "--warehouse", tmp_path / "windows").returncode == 0

    done = finalise(command, tmp_path, database)
    assert (done.returncode, said(done)) == (0, []), done
    run_log(tmp_path)
    expected = read_rows(tmp_path / "warehouse")
    assert differences(expected, read_rows(tmp_path / "windows")) == []
    hours = [partition(START_MS + hour * HOUR_MS) for hour in range(3)]
    with HiveServer(database) as server:
        assert registered(server, "container_usage_5m") == registered(server, "gpu_usage_5m") == hours
        assert registered(server, "workload_profile_1d") == [hours[0][:13], hours[2][:13]]
        assert [counted(server, name) for name in expected] == [len(expected[name]) for name in expected]

    assert finalise(command, tmp_path, database).returncode == 0
    done = finalise(command, tmp_path, database, "--table-retention-days", 0, "--late-accept-seconds", 0)
    assert done.returncode == 0, done
    with HiveServer(database) as server:
        assert registered(server, "container_usage_5m") == hours
    left = sorted(path.parent.name for path in (tmp_path / "windows/series_windows_5m").rglob("part-*"))
    assert left == ["hour=00"]


def test_what_the_topic_lost_stays_as_the_windows_give_it(
    command, engines: dict[str, Any], database: str, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    samples = steady(2)
    make_topic(tmp_path, engines["kafka"]["bootstrap"], partitions=1)
    produce(tmp_path, [samples[start : start + 50] for start in range(0, len(samples), 50)], received_ms=RECEIVED_MS)
    delete_before(tmp_path, 0, 3)
    rows = series_windows(samples)
    # The same window again, cut short: its rows cannot be added up.
    write_part(tmp_path / "windows", [*rows, *series_windows(samples[:30])])
    assert command("tables", "--hive", database, "--warehouse", tmp_path / "windows").returncode == 0
    done = finalise(command, tmp_path, database)
    assert done.returncode == 0, done
    assert "stays as its series windows give it: the log does not hold it any more" in done.stderr
    assert finalise(command, tmp_path, database).stderr == ""
    assert read_rows(tmp_path / "windows")["container_usage_5m"]


def test_a_database_without_tables_is_one_line_after_the_tables_are_made(
    command, engines: dict[str, Any], database: str, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    make_topic(tmp_path, engines["kafka"]["bootstrap"])
    write_part(tmp_path / "windows", series_windows(steady(1)))
    done = finalise(command, tmp_path, database)
    (line,) = said(done)
    assert done.returncode == 1
    assert line.startswith("error: tables are made and not all registered with Hive: ")
    assert read_rows(tmp_path / "windows")["container_usage_5m"]
