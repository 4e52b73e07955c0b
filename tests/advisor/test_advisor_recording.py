"""Plans and changes that are kept in tables: once a plan, readable by any tool."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from advisor_tables import Made, daily, write_fleet
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.history import stretches
from pipeline.contract.advice_tables import ADVICE_TABLES, ALLOCATION_CHANGES, RECOMMENDATIONS, SAVINGS
from pipeline.contract.ddl import duckdb_ddl
from pipeline.contract.tables import Table

DAYS = 28
LIGHT = daily(DAYS, low=0.1, high=0.3, hours=range(8, 20))
GIB = float(1 << 30)

MANIFEST = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: day
  namespace: ns
spec:
  template:
    spec:
      containers:
        - name: main
          image: day
          resources:
            limits:
              egpu.io/gpu: 1
              egpu.io/gpu-memory: 81920
"""


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    fleet = [
        Made("day", daily(DAYS, low=8, high=50, hours=range(8, 20)), LIGHT),
        Made("off", daily(DAYS, low=8, high=50, hours=range(8, 20)), LIGHT, facts={"advice": "off"}),
        Made("vllm", np.full(DAYS * 24, 76.0), LIGHT),
    ]
    return write_fleet(tmp_path / "tables", fleet)


def advisor(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "advisor", *map(str, words), "--origin-count", "0"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rows_of(folder: Path, table: Table) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.execute(duckdb_ddl(table, str(folder)))
        cursor = connection.execute(f"SELECT * FROM {table.name} ORDER BY ALL")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_a_scan_is_kept_once(tables: Path) -> None:
    for _ in range(2):
        done = advisor("scan", "--warehouse", tables, "--format", "json", "--record")
        assert (done.returncode, done.stderr) == (0, "")
    plan = json.loads(done.stdout)
    kept = rows_of(tables, RECOMMENDATIONS)
    assert {row["plan_id"] for row in kept} == {plan["plan_id"]}
    assert {row["dt"] for row in kept} == {"2026-02-01"}
    assert [(row["workload"], row["finding"], row["decision"]) for row in kept] == [
        ("day", "idle_quota", "advised"),
        ("off", "idle_quota", "refused"),
        ("vllm", "idle_quota", "refused"),
    ]
    (resize,) = plan["resizes"]
    assert kept[0]["memory_quota_bytes_before"] == 80 * GIB
    assert kept[0]["memory_quota_bytes_after"] == resize["after"]["memory_mib"] * GIB / 1024
    assert kept[0]["core_quota_ratio_after"] == resize["after"]["core_percent"] / 100
    assert (kept[0]["reason"], kept[0]["confidence"]) == (resize["reason"], resize["confidence"])
    (saving,) = rows_of(tables, SAVINGS)
    (cards,) = plan["cards"]
    assert [saving[f"cards_{when}"] for when in ("before", "after", "bound")] == [
        cards[when] for when in ("before", "after", "bound")
    ]
    assert saving["memory_bytes_freed"] == 80 * GIB - kept[0]["memory_quota_bytes_after"]
    assert saving["backtest"].endswith("judged on the next 8.4 d")


def test_nothing_is_kept_unless_asked_for(tables: Path) -> None:
    done = advisor("scan", "--warehouse", tables)
    assert (done.returncode, done.stderr) == (0, "")
    assert not [table.name for table in ADVICE_TABLES if (tables / table.name).exists()]


def test_another_plan_stands_beside_the_first(tables: Path) -> None:
    advisor("scan", "--warehouse", tables, "--record")
    advisor("scan", "--warehouse", tables, "--record", "--workload", "^day$")
    assert len({row["plan_id"] for row in rows_of(tables, SAVINGS)}) == 2


def test_what_was_applied_is_kept(tables: Path, tmp_path: Path) -> None:
    repository = tmp_path / "manifests"
    repository.mkdir()
    (repository / "day.yaml").write_text(MANIFEST)
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@t"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "start"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    apply = ("apply", "--warehouse", tables, "--manifests", repository, "--record")
    assert advisor(*apply).returncode == 0
    assert not (tables / ALLOCATION_CHANGES.name).exists()
    for outcome in ("committed", "already applied"):
        assert advisor(*apply, "--no-dry-run").returncode == 0
        (kept,) = rows_of(tables, ALLOCATION_CHANGES)
        assert (kept["workload"], kept["outcome"], kept["dialect"]) == ("day", outcome, "egpu")
        assert kept["branch"] == f"egpu/plan-{kept['plan_id']}"
    assert kept["memory_quota_bytes_after"] == 51_712 * GIB / 1024


def test_a_table_that_cannot_be_written_is_one_line(tables: Path) -> None:
    (tables / RECOMMENDATIONS.name).write_text("")
    done = advisor("scan", "--warehouse", tables, "--record")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "cannot write" in done.stderr


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 200_000), st.lists(st.dates(), min_size=1, max_size=9, unique=True))
def test_stretches_name_every_hour_once(workload_count: int, dates: list[Any]) -> None:
    days = sorted(map(str, dates))
    wanted = [(day, f"{hour:02d}") for day in days for hour in range(24)]
    found = []
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE hours (dt TEXT, hour TEXT)")
        connection.executemany("INSERT INTO hours VALUES (?, ?)", wanted)
        for condition in stretches(days, workload_count=workload_count):
            some = connection.execute(f"SELECT dt, hour FROM hours WHERE {condition} ORDER BY dt, hour").fetchall()
            assert len(some) * workload_count * 12 <= max(4_000_000, workload_count * 12)
            found += some
    assert found == wanted
