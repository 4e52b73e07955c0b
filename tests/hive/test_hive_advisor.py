"""The advisor through HiveServer2: the plan of the folder, only the days it needs, and its tables written by Hive."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from advisor_tables import MONDAY_MS, Made, daily, profile_rows, usage_rows, write
from hive_process import Command

from advisor.history import History, Selection
from advisor.warehouse_hive import HiveTables
from egpu_runtime.contract.units import DAY_MS, HOUR_MS
from pipeline.contract.advice_tables import RECOMMENDATIONS, SAVINGS
from pipeline.contract.ddl import duckdb_ddl
from pipeline.contract.dialect import Dialect
from pipeline.contract.hive import HiveLimits
from pipeline.contract.tables import CONTAINER_USAGE, WORKLOAD_PROFILE, Table
from pipeline.warehouse_hive import HiveServer

pytestmark = pytest.mark.end_to_end

DAYS = 21
USED_DAYS = 3
"""Days with windows of use, at the end; the folders of more take Hive minutes."""

LIGHT = daily(DAYS, low=0.1, high=0.3, hours=range(8, 20))
ODD = "night'\\d"
"""A name that every quoting has to carry."""


def fleet() -> list[Made]:
    gaps = daily(DAYS, low=8, high=50, hours=range(8, 20))
    gaps[30:40] = np.nan
    return [
        Made("day", gaps, LIGHT),
        Made(ODD, daily(DAYS, low=8, high=50, hours=range(21, 24)), LIGHT),
        Made("off", daily(DAYS, low=8, high=50, hours=range(8, 20)), LIGHT, facts={"advice": "off"}),
        Made("vllm", np.full(DAYS * 24, 76.0), LIGHT, facts={"namespace": "llm", "memory_quota_bytes": None}),
    ]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hive-advisor") / "warehouse"
    write(folder, WORKLOAD_PROFILE, (row for made in fleet() for row in profile_rows(made)))
    first_ms = MONDAY_MS + (DAYS - USED_DAYS) * DAY_MS
    rows = [row for made in fleet() for row in usage_rows(made, per_hour=2) if row["window_start_ms"] >= first_ms]
    unknown = rows[-1] | {"gpu_uuid": "GPU-unknown", "pod": "?", "attribution": "two containers"}
    write(folder, CONTAINER_USAGE, [*rows, unknown])
    return folder


@pytest.fixture(scope="module")
def url(hive_url: Callable[[str], str], warehouse: Path, command: Command) -> str:
    address = hive_url("advice")
    done = command("pipeline", "tables", "--hive", address, "--warehouse", warehouse)
    assert done.returncode == 0, done
    return address


def test_the_plan_is_that_of_the_folder(command: Command, url: str, warehouse: Path) -> None:
    for chosen in ((), ("--namespace", "ns", "--workload", r"^night'\\d$")):
        asked = ("advisor", "scan", "--format", "json", *chosen, "--warehouse")
        found, expected = command(*asked, url), command(*asked, warehouse)
        assert (found.returncode, found.stderr) == (0, ""), found
        assert found.stdout == expected.stdout
        plan = json.loads(found.stdout)
        assert {each["workload"]["name"] for each in plan["resizes"]} == ({ODD} if chosen else {"day", ODD})
        assert plan["slices_backtest"]["resolution_seconds"] == 1800
        (cards,) = plan["cards"]
        assert cards["before"] == 5  # the card of the unknown container among them
    found, expected = (command("advisor", "explain", "day", "--warehouse", place) for place in (url, warehouse))
    assert (found.returncode, found.stdout) == (0, expected.stdout), found


class Listening:
    """Tables that remember what they were asked."""

    def __init__(self, tables: HiveTables) -> None:
        self._tables = tables
        self.asked: list[str] = []

    @property
    def dialect(self) -> Dialect:
        return self._tables.dialect

    def days(self, table: Table) -> list[str]:
        return list(self._tables.days(table))

    def batches(self, query: str, rows_max: int) -> Iterator[object]:
        self.asked.append(query)
        return self._tables.batches(query, rows_max)


def test_only_the_days_of_the_history_are_opened(url: str) -> None:
    tables = HiveTables(url, HiveLimits())
    listening = Listening(tables)
    history = History(listening, Selection(("ns",)))  # type: ignore[arg-type]
    fleet_read, _ = history.read_fleet(days_max=3)
    history.read_later(fleet_read, fleet_read.start_ms + fleet_read.hours * HOUR_MS - DAY_MS)
    tables.close()
    last_days = {"2026-01-23", "2026-01-24", "2026-01-25"}
    with HiveServer(url) as server:
        for query in listening.asked:
            ((text, *_),) = server.rows(f"EXPLAIN DEPENDENCY {query}")
            opened = [each["partitionName"].split("dt=")[1] for each in json.loads(text)["input_partitions"]]
            assert opened, query
            assert {name[:10] for name in opened} <= last_days, query
            if CONTAINER_USAGE.name in query:
                assert {name[:10] for name in opened} == {"2026-01-25"}, query
    assert any(CONTAINER_USAGE.name in query and "collect_list" in query for query in listening.asked)


def test_hive_keeps_a_plan_once_and_the_folder_reads_it(command: Command, url: str, warehouse: Path) -> None:
    scan = ("advisor", "scan", "--origin-count", "0", "--format", "json", "--record", "--warehouse")
    kept = []
    for place in (url, url, warehouse):
        done = command(*scan, place)
        assert (done.returncode, done.stderr) == (0, ""), done
        with HiveServer(url) as server, duckdb.connect() as connection:
            for table in (RECOMMENDATIONS, SAVINGS):
                names = ", ".join((*table.column_names(), *table.partitions))
                order = "workload, finding" if table is RECOMMENDATIONS else "gpu_model"
                connection.execute(duckdb_ddl(table, str(warehouse)))
                select = f"SELECT {names} FROM {table.name} ORDER BY {order}"
                by_hive, by_folder = server.rows(select), connection.execute(select).fetchall()
                assert by_hive == by_folder
                kept.append(by_hive)
    assert kept[0::2][1:] == kept[0::2][:-1]
    assert kept[1::2][1:] == kept[1::2][:-1]
    assert {row[3] for row in kept[0]} == {"day", ODD, "off", "vllm"}
    assert len(kept[1]) == 1


def test_a_table_that_is_not_there_is_said_before_the_work(command: Command, url: str) -> None:
    with HiveServer(url) as server:
        server.execute(f"ALTER TABLE {SAVINGS.name} RENAME TO put_away")
    try:
        done = command("advisor", "scan", "--warehouse", url, "--record")
    finally:
        with HiveServer(url) as server:
            server.execute(f"ALTER TABLE put_away RENAME TO {SAVINGS.name}")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no table savings in it; egpu-pipeline tables makes it" in done.stderr
