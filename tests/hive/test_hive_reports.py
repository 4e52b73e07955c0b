"""Reports through HiveServer2 say what they say on the folder; the same through JDBC; failures are one line."""

import json
import re
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hive_process import Command

from egpu_runtime.contract.process import Failure
from pipeline.contract.ddl import SCHEMA_PROPERTY
from pipeline.contract.hive import HiveLimits
from pipeline.contract.tables import CONTAINER_USAGE
from pipeline.reports import REPORTS, Answer, Subject, parse_time, report_sql
from pipeline.warehouse_duckdb import report
from pipeline.warehouse_hive import HiveServer

pytestmark = pytest.mark.end_to_end

ENGINES_FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "engines"
ENGINES = (sys.executable, str(ENGINES_FOLDER / "engines.py"))
JDBC = Path(__file__).with_name("JdbcReport.java")


def assert_one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert done.stderr.startswith("error: "), done
    for words in said:
        assert words in done.stderr


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Equal rows; means within 1e-9, as sums are made in any order, and so is the order of rows that tie in them."""
    assert len(found) == len(expected) > 0

    def key(row: dict[str, Any]) -> str:
        return json.dumps({name: value for name, value in row.items() if not isinstance(value, float)}, sort_keys=True)

    for ours, theirs in zip(sorted(found, key=key), sorted(expected, key=key), strict=True):
        assert list(ours) == list(theirs)
        assert ours == {
            name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            for name, value in theirs.items()
        }


def test_a_report_is_that_of_the_folder(
    command: Command, database: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock is in Tokyo: times are BIGINT, so that nothing moves."""
    with HiveServer(database) as server:
        for subject in get_args(Subject):
            for since, until in ((None, None), ("2026-01-01T23:30", "2026-01-02T01:00")):
                sql = report_sql(subject, since=since and parse_time(since, ""), until=until and parse_time(until, ""))
                assert_same(named(server.report(sql)), named(report(folder, sql)))
    asked = ("pipeline", "report", "cards", "--format", "json", "--since", "2026-01-02", "--warehouse")
    expected = command(*asked, folder)
    monkeypatch.setenv("EGPU_WAREHOUSE", database)
    found = command(*asked[:-1])
    assert (found.returncode, found.stderr) == (0, ""), found
    assert_same(json.loads(found.stdout), json.loads(expected.stdout))


def named(answer: Answer) -> list[dict[str, Any]]:
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def test_a_view_by_day_adds_up_to_the_report(database: str) -> None:
    with HiveServer(database) as server:
        days = server.rows("SELECT dt, sum(memory_used_gib_max) FROM report_cards GROUP BY dt ORDER BY dt")
        one_day = server.report(report_sql("cards", since=parse_time("2026-01-02", ""), until=None))
        assert [day for day, _ in days] == ["2026-01-01", "2026-01-02"]
        place = one_day.columns.index("memory_used_gib_max")
        assert days[1][1] == pytest.approx(sum(float(str(row[place] or 0)) for row in one_day.rows))


def partitions_read(server: HiveServer, select: str) -> set[str]:
    """Partitions that a SELECT opens, as Hive says itself."""
    ((text, *_),) = server.rows(f"EXPLAIN DEPENDENCY {select}")
    return {each["partitionName"].split("@", 2)[2] for each in json.loads(text)["input_partitions"]}


@pytest.mark.parametrize("subject", get_args(Subject))
def test_only_the_days_asked_for_are_opened(database: str, subject: Subject) -> None:
    hours = {f"dt=2026-01-02/hour=0{hour}" for hour in range(3)}
    with HiveServer(database) as server:
        select = report_sql(subject, since=parse_time("2026-01-02", ""), until=None)
        assert partitions_read(server, select) == hours
        assert partitions_read(server, f"SELECT * FROM {REPORTS[subject].view} WHERE dt = '2026-01-02'") == hours
        assert len(partitions_read(server, report_sql(subject, since=None, until=None))) == 5


def test_a_large_read_comes_in_pieces(database: str) -> None:
    with HiveServer(database) as server:
        select = f"SELECT window_start_ms, gpu_uuid FROM {CONTAINER_USAGE.name}"
        sizes = [len(rows) for _, rows in server.batches(select, rows_max=50)]
        assert max(sizes) == 50
        assert [(sum(sizes),)] == server.rows(f"SELECT count(*) FROM {CONTAINER_USAGE.name}")


@pytest.fixture(scope="session")
def jdbc(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[list[str]]]:
    """``jdbc(url, select)``: rows as a Java client of Hive's own driver sees them."""
    jars = [str(driver(tmp_path_factory.mktemp("hive-jdbc")))]
    done = subprocess.run([*ENGINES, "install", "--only", "hive"], capture_output=True, text=True, check=True)
    jars.append(f"{done.stdout.split()[1]}/lib/*")

    def rows(url: str, select: str) -> list[list[str]]:
        user, password, place = re.fullmatch(r"hive://(.*):(.*)@([^?]*)\?.*", url).groups()  # type: ignore[union-attr]
        words = ["java", "-cp", ":".join(jars), str(JDBC), f"jdbc:hive2://{place}", user, password, select]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return [line.split("\t") for line in done.stdout.splitlines()]

    return rows


def driver(folder: Path) -> Path:
    """Hive's JDBC driver of the server's version, by Maven; what it needs lies beside the server."""
    with ENGINES_FOLDER.joinpath("versions.toml").open("rb") as file:
        versions = tomllib.load(file)
    plugin = f"org.apache.maven.plugins:maven-dependency-plugin:{versions['plugins']['maven-dependency-plugin']}:copy"
    artifact = f"-Dartifact=org.apache.hive:hive-jdbc:{versions['hive']['hive.version']}"
    words = ["mvn", "-B", "-q", plugin, artifact, f"-DoutputDirectory={folder}"]
    subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, timeout=300, check=True)
    (jar,) = folder.glob("*.jar")
    return jar


def test_jdbc_sees_the_same_rows(database: str, jdbc: Callable[[str, str], list[list[str]]]) -> None:
    select = "SELECT * FROM report_workloads WHERE dt = '2026-01-02' ORDER BY workload, namespace"
    with HiveServer(database) as server:
        expected = server.report(select)
    found = jdbc(database, select)
    assert found[0] == list(expected.columns)
    assert len(found) == 1 + len(expected.rows) > 1
    for ours, theirs in zip(expected.rows, found[1:], strict=True):
        for value, text in zip(ours, theirs, strict=True):
            assert text == "NULL" if value is None else type(value)(text) == value  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("://egpu:", "://nobody:"), ("refused the login of nobody",)),
        (lambda url: re.sub(r":[^:@]*@", ":wrong@", url), ("refused the login of egpu",)),
        (lambda url: re.sub(r"//.*@|\?.*", lambda found: "//" if found[0][0] == "/" else "", url), ("auth=NOSASL",)),
        (lambda url: url.replace("/reports?", "/nowhere?"), ("Database does not exist: nowhere",)),
        (lambda url: url.replace("/reports?", "/default?"), ("no table gpu_usage_5m in it", "egpu-pipeline tables")),
        (lambda url: re.sub(r"@[^/]*/", "@127.0.0.1:1/", url), ("no server listens there",)),
        (lambda url: re.sub(r"@[^/]*/", "@no-such-host.invalid:1/", url), ("host no-such-host.invalid is not known",)),
        (lambda url: url.replace("/reports?", ":x/reports?"), ("is no address of a HiveServer2",)),
    ],
)
def test_a_wrong_address_is_one_line(
    command: Command, database: str, change: Callable[[str], str], said: tuple[str, ...]
) -> None:
    for process in (("pipeline", "report", "cards"), ("advisor", "scan")):
        done = command(*process, "--warehouse", change(database))
        sentences = [
            words.replace("gpu_usage_5m", "workload_profile_1d") if process[0] == "advisor" else words for words in said
        ]
        assert_one_line(done, *sentences)
        assert "wrong" not in done.stderr


@pytest.fixture
def broken(
    hive_url: Callable[[str], str], folder: Path, command: Command, tmp_path: Path
) -> Iterator[tuple[str, Path]]:
    """(URL, folder) of tables of its own, to be damaged."""
    copy = shutil.copytree(folder, tmp_path / "warehouse")
    url = hive_url("broken")
    assert command("pipeline", "tables", "--hive", url, "--warehouse", copy).returncode == 0
    yield url, copy
    with HiveServer(url) as server:
        server.execute("DROP DATABASE broken CASCADE")


def test_damage_is_one_line(command: Command, broken: tuple[str, Path]) -> None:
    url, folder = broken
    report = ("pipeline", "report", "workloads", "--warehouse", url, "--format", "csv")
    path = folder / "container_usage_5m/dt=2026-01-02/hour=01/part-0.parquet"
    whole = path.read_bytes()
    for size, said in ((len(whole) // 2, "is not a Parquet file"), (6, "length is too low: 6")):
        path.write_bytes(whole[:size])
        assert_one_line(command(*report), str(path), said)
    # The end is whole and the rows are not.
    path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert_one_line(command(*report), "can not read class org.apache.parquet")
    path.write_bytes(whole)
    assert command(*report).returncode == 0
    # A folder that is registered and was removed; making the tables again takes note of it.
    shutil.rmtree(path.parent)
    assert_one_line(command(*report), f"Input path does not exist: file:{path.parent}")
    assert command("pipeline", "tables", "--hive", url, "--warehouse", folder).returncode == 0
    assert command(*report).returncode == 0
    with HiveServer(url) as server:
        server.execute(f"ALTER TABLE container_usage_5m SET TBLPROPERTIES ('{SCHEMA_PROPERTY}' = '99')")
    assert_one_line(command(*report), "container_usage_5m has schema version 99, newer than")
    assert_one_line(command("advisor", "scan", "--warehouse", url), "container_usage_5m has schema version 99")
    with HiveServer(url) as server:
        server.execute(f"ALTER TABLE container_usage_5m SET TBLPROPERTIES ('{SCHEMA_PROPERTY}' = '2')")
        server.execute("ALTER TABLE container_usage_5m DROP PARTITION (dt > '')")
    assert_one_line(command(*report), "no finalised hour in its tables yet")
    with HiveServer(url) as server:
        server.execute("DROP TABLE gpu_usage_5m")
    assert_one_line(command("pipeline", "report", "cards", "--warehouse", url), "no table gpu_usage_5m")


def test_tables_over_another_folder_are_refused(command: Command, broken: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = broken
    (tmp_path / "other").mkdir()
    done = command("pipeline", "tables", "--hive", url, "--warehouse", tmp_path / "other")
    assert_one_line(done, f"container_usage_5m lies in file:{folder}", f"not in file://{tmp_path}/other/")
    done = command("pipeline", "tables", "--hive", url, "--warehouse", tmp_path / "none")
    assert_one_line(done, f"no warehouse folder {tmp_path / 'none'}")


class Way:
    """A way to the server that can be cut: what a server that dies in mid-read looks like to its client."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._to = port
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._to))
        self._ends = [client, server]
        other = {client: server, server: client}
        with client, server, selectors.DefaultSelector() as ready:
            for end in other:
                ready.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                    if not data:
                        return
                    other[key.fileobj].sendall(data)  # type: ignore[index]

    def cut(self) -> None:
        """Both ends see the connection closed."""
        self._listener.close()
        self._ends[1].shutdown(socket.SHUT_RDWR)
        self._thread.join()


def test_a_server_that_dies_in_mid_read_is_one_line(database: str) -> None:
    port = int(re.search(r":(\d+)/", database)[1])  # type: ignore[index]
    way = Way(port)
    with HiveServer(database.replace(f":{port}/", f":{way.port}/")) as server:
        batches = server.batches(f"SELECT window_start_ms FROM {CONTAINER_USAGE.name}", rows_max=10)
        assert len(next(batches)[1]) == 10
        way.cut()
        with pytest.raises(Failure, match=r"^hive://127\.0\.0\.1:\d+/reports: the connection was lost"):
            list(batches)
        with pytest.raises(Failure, match="the connection was lost"):
            server.rows("SHOW TABLES")


def test_a_query_that_takes_too_long_is_cancelled(database: str) -> None:
    limits = HiveLimits(query_seconds=0.01)
    with HiveServer(database, limits) as server, pytest.raises(Failure, match=r"took more than 0\.01 s"):
        server.rows(f"SELECT count(*) FROM {CONTAINER_USAGE.name} a CROSS JOIN {CONTAINER_USAGE.name} b")
