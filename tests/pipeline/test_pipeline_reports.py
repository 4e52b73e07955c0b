"""What the reports say of hand-made rows, their views, the address of a HiveServer2 and what it says when it fails."""

import socket
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from egpu_runtime.contract.process import Failure
from pipeline.columns import schema
from pipeline.contract.advice_tables import ADVICE_TABLES
from pipeline.contract.ddl import duckdb_ddl
from pipeline.contract.dialect import DUCKDB, HIVE
from pipeline.contract.hive import HiveAddress, parse_address, sentence
from pipeline.contract.tables import ATTRIBUTED, CONTAINER_USAGE, DATA_FILE, GPU_USAGE, TABLES, Table
from pipeline.reports import REPORTS, Subject, report_sql, view_ddl
from pipeline.warehouse_duckdb import report
from pipeline.warehouse_hive import HiveServer

MONDAY_MS = 1_767_571_200_000
"""2026-01-05 00:00 UTC."""

HOUR_MS = 3_600_000
GIB = float(1 << 30)


def write(folder: Path, table: Table, rows: list[dict[str, Any]]) -> None:
    """Rows into the hours they belong to; columns that a row lacks are NULL."""
    by_hour: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        time = datetime.fromtimestamp(row["window_start_ms"] / 1000, UTC)
        by_hour.setdefault(f"dt={time:%Y-%m-%d}/hour={time:%H}", []).append(row)
    for place, some in by_hour.items():
        path = folder / table.name / place
        path.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(some, schema(table)), path / DATA_FILE)


def usage(
    workload: str, hour: int, *, used: float | None = None, core: float | None = None, **more: Any
) -> dict[str, Any]:
    """One window of a container with half a card; ``used`` in GiB."""
    return {
        "cluster": "c",
        "namespace": "s",
        "pod": workload,
        "container": "main",
        "gpu_model": "A100",
        "workload_kind": "Deployment",
        "workload": workload,
        "tenant": "",
        "gpu_uuid": f"g-{workload}",
        "window_start_ms": MONDAY_MS + hour * HOUR_MS,
        "attribution": ATTRIBUTED,
        "memory_quota_bytes": 40 * GIB,
        "core_quota_ratio": 0.5,
        "memory_used_bytes_max": None if used is None else used * GIB,
        "memory_used_bytes_mean": None if used is None else used * GIB,
        "core_used_ratio_max": core,
        "core_used_ratio_mean": core,
        "core_used_ratio_p95": core,
        "observed_ratio": 0.0 if used is None else 1.0,
        **more,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        usage("idle", 0, used=4.0, core=0.0),
        usage("idle", 30, used=4.0, core=0.0),
        usage("half", 0, used=30.0, core=0.5, tenant="t"),
        usage("half", 30, used=30.0, core=0.0, tenant="t"),
        usage("dark", 0),
    ]
    write(tmp_path, CONTAINER_USAGE, rows)
    card = {"cluster": "c", "node": "n", "gpu_uuid": "g", "gpu_model": "A100", "window_start_ms": MONDAY_MS}
    write(tmp_path, GPU_USAGE, [card | {"memory_total_bytes": 80 * GIB, "observed_ratio": 0.0}])
    return tmp_path


def rows_of(folder: Path, subject: Subject) -> list[dict[str, Any]]:
    answer = report(folder, report_sql(subject, since=None, until=None))
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def test_idle_names_who_computes_nothing_and_never_the_unobserved(folder: Path) -> None:
    found = rows_of(folder, "idle")
    assert [(row["workload"], row["tenant"]) for row in found] == [("idle", "s"), ("half", "t")]
    assert [(row["idle_percent"], row["memory_idle_gib_mean"]) for row in found] == [(100, 36), (50, 10)]
    assert [row["core_idle_cards_mean"] for row in found] == [0.5, 0.25]


def test_hours_are_those_of_the_week_in_utc(folder: Path) -> None:
    found = [row for row in rows_of(folder, "hours") if row["tenant"] == "s"]
    assert [(row["day_of_week"], row["hour_of_day"]) for row in found] == [(0, 0), (1, 6)]
    # At the first hour "dark" holds quota and was not seen: its quota is not compared with anything.
    assert [row["memory_quota_gib_mean"] for row in found] == [80, 40]
    assert [row["memory_used_percent"] for row in found] == [10, 10]


def test_views_keep_the_days_apart(folder: Path) -> None:
    with duckdb.connect() as connection:
        for table in (CONTAINER_USAGE, GPU_USAGE):
            connection.execute(duckdb_ddl(table, str(folder)))
        for each in REPORTS.values():
            connection.execute(view_ddl(each))
        found = connection.execute("SELECT dt, workload, idle_percent FROM report_idle ORDER BY ALL").fetchall()
        assert found == [
            ("2026-01-05", "half", 0),
            ("2026-01-05", "idle", 100),
            ("2026-01-06", "half", 100),
            ("2026-01-06", "idle", 100),
        ]
        for each in REPORTS.values():
            names = [row[0] for row in connection.execute(f"DESCRIBE {each.view}").fetchall()]
            assert names[0] == "dt"
            assert len(names) == len(set(names))


@pytest.mark.parametrize("subject", REPORTS)
def test_no_number_is_made_a_decimal(subject: Subject) -> None:
    """A literal such as 1.0 is DECIMAL in Hive and would make a DECIMAL of what it is multiplied with."""
    select = REPORTS[subject].select
    words = select.replace("(", " ").replace(")", " ").replace(",", " ").split()
    assert not [word for word in words if word.replace(".", "", 1).isdigit() and "." in word]


@pytest.mark.parametrize("text", ["plain", "it's", "a\\b", "^a.*\\.b$", "two\nlines", "tab\t'\\'", "ü;--", ""])
def test_a_literal_is_the_text_again(text: str) -> None:
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT {DUCKDB.literal(text)}").fetchall() == [(text,)]
    # What Hive reads: a backslash and the letter after it (BaseSemanticAnalyzer.unescapeSQLString).
    inner = HIVE.literal(text)[1:-1]
    read = inner.replace("\\\\", "\0").replace("\\'", "'").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")
    assert read == text


def test_every_table_has_columns_that_both_engines_know() -> None:
    for table in (*TABLES, *ADVICE_TABLES):
        with duckdb.connect() as connection:
            types = ", ".join(f'"{name}" VARCHAR' for name in (*table.column_names(), *table.partitions))
            connection.execute(f"CREATE TABLE {table.name} ({types})")
        assert len(set(table.column_names()) | set(table.partitions)) == len(table.columns) + len(table.partitions)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("hive://h", HiveAddress("h", 10000, "default", "anonymous", None, "NOSASL")),
        ("hive://h:1/d", HiveAddress("h", 1, "d", "anonymous", None, "NOSASL")),
        ("hive://me@h:1/d", HiveAddress("h", 1, "d", "me", None, "NONE")),
        ("hive://me@h:1/d?auth=NOSASL", HiveAddress("h", 1, "d", "me", None, "NOSASL")),
        ("hive://me:p%40ss%C3%BC@h:1/", HiveAddress("h", 1, "default", "me", "p@ssü", "LDAP")),
        ("hive://[::1]:1/d", HiveAddress("::1", 1, "d", "anonymous", None, "NOSASL")),
    ],
)
def test_an_address_is_read(url: str, address: HiveAddress) -> None:
    assert parse_address(url) == address
    assert "p@ss" not in str(address)


@pytest.mark.parametrize(
    "url",
    [
        "hive://",
        "hive://h:70000/d",
        "hive://h/d?auth=KERBEROS",
        "hive://me:b@h:1/d/e",
        "hive://me@h/d?auth=LDAP",
        "http://h",
    ],
)
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Failure) as refused:
        parse_address(url)
    assert "hive://" in str(refused.value) or "go together" in str(refused.value)
    assert ":b" not in str(refused.value)


JAVA = "\n\tat org.apache.hadoop.hive.ql.exec.tez.TezProcessor.run(TezProcessor.java:276)\n"
MESSAGES: Mapping[str, str] = {
    "Error while compiling statement: FAILED: SemanticException [Error 10001]: Line 1:14 Table not found 'none'": (
        "Table not found 'none'"
    ),
    "Error while compiling statement: FAILED: SemanticException [Error 10072]: Database does not exist: none": (
        "Database does not exist: none"
    ),
    "Error while compiling statement: FAILED: ParseException line 1:7 cannot recognize input near 'a'": (
        "line 1:7 cannot recognize input near 'a'"
    ),
    f"Vertex failed, diagnostics=[java.io.IOException: java.lang.RuntimeException: file:/w/part-0.parquet is not a "
    f"Parquet file. Expected magic number at tail, but found [1, 2]{JAVA}Caused by: java.io.IOException: x{JAVA}": (
        "file:/w/part-0.parquet is not a Parquet file"
    ),
    f"FAILED: Execution Error{JAVA}Caused by: a.b.OneException: c.d.TwoException: too many rows{JAVA}\t... 16 more": (
        "too many rows"
    ),
    f"java.lang.RuntimeException: {'long ' * 100}": f"{'long ' * 59}lo...",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_server_becomes_a_sentence(message: str) -> None:
    assert sentence(message) == MESSAGES[message]


def answering(answer: Callable[[socket.socket], None]) -> int:
    """Port of a server for one connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as client:
            answer(client)

    threading.Thread(target=serve).start()
    return int(listener.getsockname()[1])


@pytest.mark.parametrize("login", ["", "me@", "me:secret@"])
def test_a_server_of_another_kind_is_one_sentence(login: str) -> None:
    port = answering(lambda client: client.close())
    with pytest.raises(
        Failure, match=rf"^hive://127\.0\.0\.1:{port}/d: no session was opened: the connection was lost"
    ):
        HiveServer(f"hive://{login}127.0.0.1:{port}/d")
